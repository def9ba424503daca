//! Which policies can matter to a request, so that a large set decides as fast as a small one.
//!
//! A policy is left out only where Cedar would find it not satisfied without looking past what can't
//! fail: its scope excludes the request's action or types, or a guard at the beginning of its `when`
//! is false (see [`Guard`]). So it could neither determine the answer nor err, and what is left gives
//! the same answer as the whole set. The tests compare the two.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use cedar_policy::{
    ActionConstraint, Entity, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint,
};

use crate::datum::{NAMESPACE, Uid};
use crate::lint::{Linted, Supervision};
use crate::policy::{Effect, Rule, RuleOutcome};
use crate::schema::{Action, GateSchema};
use crate::tree::Guard;

/// Slices that are kept. There are only so many combinations of what a set distinguishes; past this,
/// slices are made anew each time.
const SLICES_MAX: usize = 16_384;

/// One policy of the set.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) rule: Rule,
    pub(crate) supervision: Option<Supervision>,
    policy: Policy,
    guards: Vec<Guard>,
    named: BTreeSet<Uid>,
    read: BTreeSet<Uid>,
}

/// What the policies of one combination of types and action have in common.
#[derive(Debug)]
pub(crate) struct Base {
    rows: Vec<usize>,
    /// Entities that they name, which must be in the directory.
    pub(crate) named: BTreeSet<Uid>,
    /// Those whose attributes or ancestors they look at.
    pub(crate) read: BTreeSet<Uid>,
    verbs: BTreeSet<String>,
    /// Actions whose groups conditions look at, with those groups.
    pub(crate) actions: Vec<Entity>,
}

/// The policies that can matter to a request.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    pub(crate) all: PolicySet,
    /// The same without the supervises (step 6).
    pub(crate) authority: PolicySet,
}

/// What guards look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Circumstances {
    /// None where the context has no verb.
    pub(crate) verb: Option<String>,
    pub(crate) env: String,
    pub(crate) domain: String,
}

type Key = (usize, Circumstances);

/// The index of a policy set.
#[derive(Debug)]
pub(crate) struct Index {
    rows: BTreeMap<String, Row>,
    order: Vec<String>,
    bases: Vec<Base>,
    places: HashMap<String, HashMap<(String, String), usize>>,
    slices: RwLock<HashMap<Key, Arc<Slice>>>,
}

impl Index {
    pub(crate) fn build(
        schema: &GateSchema,
        policies: impl Iterator<Item = (Linted, Policy)>,
    ) -> Self {
        let rows: BTreeMap<String, Row> = policies
            .map(|(linted, policy)| (linted.rule.id.clone(), row(linted, policy)))
            .collect();
        let list: Vec<&Row> = rows.values().collect();
        let mut bases = Vec::new();
        let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut places = HashMap::new();
        for (id, action) in &schema.actions {
            // Most policies name groups, so most verbs share their rows.
            let acting: Vec<usize> = matching(&list, |row| on_action(&row.policy, action));
            let mut by_types = HashMap::new();
            for (principal, resource) in &action.applies {
                let fits = |i: &usize| {
                    list.get(*i).is_some_and(|row| {
                        on_principal(&row.policy, principal, schema)
                            && on_resource(&row.policy, resource, schema)
                    })
                };
                let chosen: Vec<usize> = acting.iter().copied().filter(fits).collect();
                let place = *known.entry(chosen).or_insert_with_key(|chosen| {
                    bases.push(base(chosen, &list, schema));
                    bases.len() - 1
                });
                by_types.insert((principal.clone(), resource.clone()), place);
            }
            places.insert(id.clone(), by_types);
        }
        let order = rows.keys().cloned().collect();
        Self { rows, order, bases, places, slices: RwLock::default() }
    }

    pub(crate) fn row(&self, id: &str) -> Option<&Row> {
        self.rows.get(id)
    }

    /// Permits of an action between types between which no supervise can hold it.
    pub(crate) fn unheld(&self, action: &str) -> BTreeSet<String> {
        let places = self.places.get(action).into_iter().flat_map(HashMap::values);
        let bases = places.filter_map(|place| self.bases.get(*place));
        let rows = |base: &Base| -> Vec<&Rule> {
            let ids = base.rows.iter().filter_map(|i| self.order.get(*i));
            ids.filter_map(|id| Some(&self.rows.get(id)?.rule)).collect()
        };
        let held =
            |rows: &Vec<&Rule>| rows.iter().any(|r| r.outcome == Some(RuleOutcome::Supervise));
        let open = bases.map(rows).filter(|rows| !held(rows)).flatten();
        open.filter(|rule| rule.effect == Effect::Permit).map(|rule| rule.id.clone()).collect()
    }

    /// The policies of an action between two types; none where the schema doesn't apply it to them.
    pub(crate) fn base(
        &self,
        action: &str,
        principal: &str,
        resource: &str,
    ) -> Option<(usize, &Base)> {
        // The key's texts are copied: a map of maps by `&str` would need a type of its own.
        let types = (principal.to_owned(), resource.to_owned());
        let place = *self.places.get(action)?.get(&types)?;
        Some((place, self.bases.get(place)?))
    }

    /// The policies that can matter under these circumstances.
    pub(crate) fn slice(&self, place: usize, mut given: Circumstances) -> Arc<Slice> {
        let Some(base) = self.bases.get(place) else { return Arc::default() };
        // A verb that no guard names is like any other such verb.
        given.verb = given.verb.filter(|verb| base.verbs.contains(verb));
        let key = (place, given);
        // A panic while the lock was held can't leave the map half written: entries are whole.
        let known = self.slices.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(slice) = known {
            return slice;
        }
        let slice = Arc::new(self.make(base, &key.1));
        let mut slices = self.slices.write().unwrap_or_else(PoisonError::into_inner);
        if slices.len() < SLICES_MAX {
            slices.insert(key, Arc::clone(&slice));
        }
        slice
    }

    fn make(&self, base: &Base, given: &Circumstances) -> Slice {
        let rows = base.rows.iter().filter_map(|i| self.rows.get(self.order.get(*i)?));
        let rows: Vec<&Row> =
            rows.filter(|row| row.guards.iter().all(|g| holds(g, given))).collect();
        let set = |rows: &mut dyn Iterator<Item = &&Row>| {
            // Ids are unique (POL-1), so that adding can't fail.
            PolicySet::from_policies(rows.map(|row| row.policy.clone())).unwrap_or_default()
        };
        let releases = |row: &&&Row| row.rule.outcome != Some(RuleOutcome::Supervise);
        Slice { all: set(&mut rows.iter()), authority: set(&mut rows.iter().filter(releases)) }
    }
}

fn holds(guard: &Guard, given: &Circumstances) -> bool {
    match guard {
        Guard::Verb(verb) => given.verb.as_ref() == Some(verb),
        Guard::Env(env) => *env == given.env,
        Guard::Domain(domain) => *domain == given.domain,
    }
}

fn row(linted: Linted, policy: Policy) -> Row {
    let Linted { rule, supervision, tree } = linted;
    let mut named = tree.named;
    // What a permit's scope names and the directory lacks only fails to give authority; anywhere else
    // a missing name could let something pass.
    if rule.effect == Effect::Forbid {
        let scope = [principal_named(&policy), resource_named(&policy)];
        named.extend(scope.into_iter().flatten().filter_map(|uid| short(&uid)));
    }
    Row { rule, supervision, policy, guards: tree.guards, named, read: tree.read }
}

fn base(chosen: &[usize], list: &[&Row], schema: &GateSchema) -> Base {
    let rows = || chosen.iter().filter_map(|i| list.get(*i));
    // Enumerations and actions are the schema's, and checked with it.
    let of_directory =
        |uid: &&Uid| uid.type_name != "Action" && !schema.types.enums.contains(&uid.type_name);
    let verbs = rows().flat_map(|row| &row.guards).filter_map(|guard| match guard {
        Guard::Verb(verb) => Some(verb.clone()),
        _ => None,
    });
    Base {
        rows: chosen.to_vec(),
        named: rows().flat_map(|row| &row.named).filter(of_directory).cloned().collect(),
        read: rows().flat_map(|row| &row.read).filter(of_directory).cloned().collect(),
        verbs: verbs.collect(),
        actions: read_actions(rows().flat_map(|row| &row.read), schema),
    }
}

fn matching(list: &[&Row], fits: impl Fn(&Row) -> bool) -> Vec<usize> {
    list.iter().enumerate().filter_map(|(i, row)| fits(row).then_some(i)).collect()
}

fn on_action(policy: &Policy, action: &Action) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid == action.uid,
        ActionConstraint::In(uids) => uids.iter().any(|uid| action.closure.contains(uid)),
    }
}

fn on_principal(policy: &Policy, type_name: &str, schema: &GateSchema) -> bool {
    match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(name) | PrincipalConstraint::IsIn(name, _) => {
            schema.types.name(type_name) == Some(&name)
        }
        PrincipalConstraint::Eq(uid) => schema.types.name(type_name) == Some(uid.type_name()),
        PrincipalConstraint::In(uid) => can_be_in(type_name, uid.type_name(), schema),
    }
}

fn on_resource(policy: &Policy, type_name: &str, schema: &GateSchema) -> bool {
    match policy.resource_constraint() {
        ResourceConstraint::Any => true,
        ResourceConstraint::Is(name) | ResourceConstraint::IsIn(name, _) => {
            schema.types.name(type_name) == Some(&name)
        }
        ResourceConstraint::Eq(uid) => schema.types.name(type_name) == Some(uid.type_name()),
        ResourceConstraint::In(uid) => can_be_in(type_name, uid.type_name(), schema),
    }
}

/// Entities are checked against the schema, so that only these types have these ancestors.
fn can_be_in(type_name: &str, ancestor: &EntityTypeName, schema: &GateSchema) -> bool {
    let Some(name) = schema.types.name(type_name) else { return false };
    let mut ancestors = schema.schema.ancestors(name).into_iter().flatten();
    name == ancestor || ancestors.any(|each| each == ancestor)
}

fn principal_named(policy: &Policy) -> Option<EntityUid> {
    match policy.principal_constraint() {
        PrincipalConstraint::In(uid)
        | PrincipalConstraint::Eq(uid)
        | PrincipalConstraint::IsIn(_, uid) => Some(uid),
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
    }
}

fn resource_named(policy: &Policy) -> Option<EntityUid> {
    match policy.resource_constraint() {
        ResourceConstraint::In(uid)
        | ResourceConstraint::Eq(uid)
        | ResourceConstraint::IsIn(_, uid) => Some(uid),
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
    }
}

fn short(uid: &EntityUid) -> Option<Uid> {
    let name = uid.type_name();
    (name.namespace() == NAMESPACE).then(|| Uid::new(name.basename(), uid.id().unescaped()))
}

/// The actions among these entities, each with what it is in.
fn read_actions<'r>(read: impl Iterator<Item = &'r Uid>, schema: &GateSchema) -> Vec<Entity> {
    let actions = read.filter(|uid| uid.type_name == "Action");
    let closures = actions.filter_map(|uid| schema.actions.get(&uid.id)).flat_map(|a| &a.closure);
    let uids: BTreeSet<&EntityUid> = closures.collect();
    uids.into_iter().filter_map(|uid| schema.action_entity(uid).cloned()).collect()
}
