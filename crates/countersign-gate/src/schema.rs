//! A tenant's schema: the base vocabulary in it, and what its actions say (POL-3, POL-7, POL-8).
//!
//! Cedar keeps the annotations of actions in a schema's JSON form, so that is what is read here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::{LazyLock, PoisonError, RwLock};

use cedar_policy::{
    Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema, SchemaFragment,
};
use serde_json::{Map, Value, json};

use crate::datum::NAMESPACE;
use crate::intent::Class;
use crate::lint::PolicyFault;
use crate::reading::Reading;

/// The vocabulary that every schema contains.
pub(crate) const BASE: &str = include_str!("../schema/base.cedarschema");
/// The action that asks whether a person may decide.
pub(crate) const APPROVE_INTENT: &str = "approve_intent";
/// The action that every class is in.
const GOVERNED: &str = "governed";
/// Who may act.
const PRINCIPALS: [&str; 3] = ["Agent", "Human", "Service"];
/// What every resource has.
const RESOURCE_ATTRIBUTES: [(&str, &str); 3] =
    [("domain", "Domain"), ("env", "Env"), ("owner", "Human")];

/// The names of entity types and actions, parsed once: parsing one costs more than deciding with it.
#[derive(Debug)]
pub(crate) struct Types {
    by_name: HashMap<String, EntityTypeName>,
    action: EntityTypeName,
    /// The types that are enumerations.
    pub(crate) enums: BTreeSet<String>,
    made: RwLock<HashMap<(&'static str, String), RestrictedExpression>>,
}

/// Made values that are kept: the time's second, and the amounts of the grants in use.
const MADE_MAX: usize = 1024;

impl Types {
    pub(crate) fn uid(&self, type_name: &str, id: &str) -> Option<EntityUid> {
        let name = self.by_name.get(type_name)?.clone();
        Some(EntityUid::from_type_name_and_id(name, EntityId::new(id)))
    }

    pub(crate) fn name(&self, type_name: &str) -> Option<&EntityTypeName> {
        self.by_name.get(type_name)
    }

    /// A value that a function of Cedar's makes from a text. Cedar parses the function's name again
    /// each time, which costs more than the rest of a context, so that newest values are kept.
    pub(crate) fn made(&self, maker: &'static str, text: &str) -> RestrictedExpression {
        let key = (maker, text.to_owned());
        // Entries are whole, so that a panic while the lock was held leaves nothing half done.
        let known = self.made.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let value = match maker {
                "datetime" => RestrictedExpression::new_datetime(text),
                "decimal" => RestrictedExpression::new_decimal(text),
                "duration" => RestrictedExpression::new_duration(text),
                _ => RestrictedExpression::new_ip(text),
            };
            let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
            if made.len() >= MADE_MAX {
                made.clear();
            }
            made.insert(key, value.clone());
            value
        })
    }

    pub(crate) fn action(&self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.action.clone(), EntityId::new(id))
    }
}

/// One action of the schema.
#[derive(Debug)]
pub(crate) struct Action {
    pub(crate) id: String,
    pub(crate) uid: EntityUid,
    /// The class that it is in, or is; none for `approve_intent` and for groups.
    pub(crate) class: Option<Class>,
    pub(crate) reading: Reading,
    /// It and what it is in.
    pub(crate) closure: Vec<EntityUid>,
    /// Types of principal and resource that it applies to.
    pub(crate) applies: BTreeSet<(String, String)>,
}

/// A schema that contains the base.
#[derive(Debug)]
pub(crate) struct GateSchema {
    pub(crate) schema: Schema,
    /// The same entity types without actions: checking entities against the whole schema copies
    /// every action of it into every request.
    pub(crate) entities: Schema,
    pub(crate) types: Types,
    pub(crate) actions: HashMap<String, Action>,
    /// The names of all actions in lower case, and what stands before the colon of each.
    lower: BTreeSet<String>,
    services: BTreeMap<String, BTreeSet<String>>,
    action_entities: HashMap<EntityUid, Entity>,
    /// Its JSON form.
    namespace: Value,
}

/// Actions up to which a schema is not reduced.
const ACTIONS_FEW: usize = 64;

fn fault(rule: &'static str, what: impl Into<String>) -> PolicyFault {
    PolicyFault { rule, policy: None, what: what.into() }
}

impl GateSchema {
    /// Reads and checks a schema; every fault at once.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<PolicyFault>> {
        let unreadable = |error: String| vec![fault("POL-3", format!("the schema: {error}"))];
        let (fragment, warnings) =
            SchemaFragment::from_cedarschema_str(text).map_err(|e| unreadable(e.to_string()))?;
        let mut faults: Vec<PolicyFault> =
            warnings.map(|warning| fault("POL-4", format!("the schema: {warning}"))).collect();
        let whole = fragment.to_json_value().map_err(|e| unreadable(e.to_string()))?;
        let namespace = whole.get(NAMESPACE).cloned().unwrap_or(Value::Null);
        faults.extend(check_base(&whole, &namespace));
        let actions = read_actions(&namespace, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let schema = Schema::from_json_value(whole).map_err(|e| unreadable(e.to_string()))?;
        let mut bare = namespace.clone();
        if let Some(map) = bare.as_object_mut() {
            map.insert("actions".to_owned(), json!({}));
        }
        let entities = Schema::from_json_value(json!({ NAMESPACE: bare }))
            .map_err(|e| unreadable(e.to_string()))?;
        let types = types(&namespace).ok_or_else(|| unreadable("a type's name".to_owned()))?;
        let action_entities = schema.action_entities().map_err(|e| unreadable(e.to_string()))?;
        let action_entities = action_entities.into_iter().map(|e| (e.uid(), e)).collect();
        let actions: HashMap<String, Action> = actions
            .into_iter()
            .map(|(id, declared)| {
                let closure = declared.closure.iter().map(|id| types.action(id)).collect();
                let Declared { class, reading, applies, .. } = declared;
                let uid = types.action(&id);
                (id.clone(), Action { id, uid, class, reading, closure, applies })
            })
            .collect();
        let lower = actions.keys().map(|id: &String| id.to_lowercase()).collect();
        let mut services: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (service, _) in actions.keys().filter_map(|id| id.split_once(':')) {
            services.entry(service.to_lowercase()).or_default().insert(service.to_owned());
        }
        Ok(Self { schema, entities, types, actions, lower, services, action_entities, namespace })
    }

    /// The schema for policies that name no more actions than these: of actions that are in the same
    /// groups and apply to the same types, and that no policy names, one stands for all. Cedar checks
    /// each policy against each action, so that thousands of verbs would take minutes.
    pub(crate) fn reduced(&self, named: &BTreeSet<String>) -> Option<Schema> {
        if self.actions.len() <= ACTIONS_FEW {
            return None;
        }
        let mut kinds = BTreeSet::new();
        let mut kept = Map::new();
        let sorted: BTreeMap<&String, &Action> = self.actions.iter().collect();
        for (id, action) in sorted {
            let groups: BTreeSet<&EntityUid> =
                action.closure.iter().filter(|uid| **uid != action.uid).collect();
            let by_name =
                named.contains(id) || action.applies.is_empty() || Class::from_text(id).is_some();
            if by_name || kinds.insert((groups, &action.applies)) {
                let declared = self.namespace.get("actions").and_then(|actions| actions.get(id))?;
                kept.insert(id.clone(), declared.clone());
            }
        }
        let mut namespace = self.namespace.clone();
        namespace.as_object_mut()?.insert("actions".to_owned(), Value::Object(kept));
        Schema::from_json_value(json!({ NAMESPACE: namespace })).ok()
    }

    /// Whether a verb is an action's, or may pass for one: in another case of its letters, with what
    /// stands before the colon of actions in another case, or with a character outside ASCII, which
    /// may stand for any other. Policies compare verbs to the letter, and what carries them out may
    /// not (POL-8).
    pub(crate) fn is_declared(&self, verb: &str) -> bool {
        let known = |service: &str| {
            let spelled = self.services.get(&service.to_lowercase());
            spelled.is_none_or(|spelled| spelled.contains(service))
        };
        self.actions.contains_key(verb)
            || !verb.is_ascii()
            || self.lower.contains(&verb.to_lowercase())
            || verb.split_once(':').is_some_and(|(service, _)| !known(service))
    }

    /// The action's entity, with what it is in.
    pub(crate) fn action_entity(&self, uid: &EntityUid) -> Option<&Entity> {
        self.action_entities.get(uid)
    }
}

fn types(namespace: &Value) -> Option<Types> {
    let declared = members(namespace, "entityTypes");
    let mut by_name = HashMap::new();
    let mut enums = BTreeSet::new();
    for (name, declaration) in declared {
        by_name.insert(name.clone(), EntityTypeName::from_str(&full(name)).ok()?);
        if declaration.get("enum").is_some() {
            enums.insert(name.clone());
        }
    }
    let action = EntityTypeName::from_str(&full("Action")).ok()?;
    Some(Types { by_name, action, enums, made: RwLock::default() })
}

fn full(name: &str) -> String {
    format!("{NAMESPACE}::{name}")
}

fn members<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    value.get(name).and_then(Value::as_object).into_iter().flatten()
}

/// A declaration without what is no part of its meaning: annotations, and the namespace before the
/// names of types.
// Recursion is bounded by the cap on the schema's nesting that Cedar's parser sets.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(name, _)| *name != "annotations");
            Value::Object(kept.map(|(name, inner)| (name.clone(), plain(inner))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        Value::String(text) => Value::String(short(text).to_owned()),
        other => other.clone(),
    }
}

fn short(name: &str) -> &str {
    name.strip_prefix(NAMESPACE).and_then(|rest| rest.strip_prefix("::")).unwrap_or(name)
}

/// POL-3: the base is there, unchanged, and what it needs is declared.
fn check_base(whole: &Value, namespace: &Value) -> Vec<PolicyFault> {
    let mut faults = Vec::new();
    for (name, _) in whole.as_object().into_iter().flatten() {
        if name != NAMESPACE {
            let what = "declare everything in the one namespace Gate";
            faults.push(fault("POL-3", format!("namespace {name:?}: {what}")));
        }
    }
    for part in ["commonTypes", "entityTypes"] {
        for (name, declaration) in members(base(), part) {
            let found = namespace.get(part).and_then(|map| map.get(name)).map(plain);
            if found.as_ref() != Some(&plain(declaration)) {
                let what = "declare it as base.cedarschema does";
                faults.push(fault("POL-3", format!("{name} is missing or changed: {what}")));
            }
        }
    }
    for name in ["Env", "Domain"] {
        let found = namespace.get("entityTypes").and_then(|map| map.get(name));
        if found.and_then(|declaration| declaration.get("enum")).is_none() {
            faults.push(fault("POL-3", format!("declare entity {name} enum [..]")));
        }
    }
    faults
}

/// The base's declarations in JSON. It is part of the program and parses; a test says so.
fn base() -> &'static Value {
    static DECLARED: LazyLock<Value> = LazyLock::new(|| {
        let fragment = SchemaFragment::from_cedarschema_str(BASE).ok();
        let whole = fragment.and_then(|(fragment, _)| fragment.to_json_value().ok());
        whole.and_then(|whole| whole.get(NAMESPACE).cloned()).unwrap_or(Value::Null)
    });
    &DECLARED
}

/// An action as it is declared.
struct Declared {
    class: Option<Class>,
    reading: Reading,
    closure: BTreeSet<String>,
    applies: BTreeSet<(String, String)>,
}

fn read_actions(namespace: &Value, faults: &mut Vec<PolicyFault>) -> BTreeMap<String, Declared> {
    let declared: BTreeMap<&String, &Value> = members(namespace, "actions").collect();
    let parents = |id: &str| -> BTreeSet<String> {
        let listed = declared.iter().find(|(name, _)| **name == id).map(|(_, value)| *value);
        let listed = listed.and_then(|value| value.get("memberOf")).and_then(Value::as_array);
        let ids = listed.into_iter().flatten().filter_map(|parent| parent.get("id")?.as_str());
        ids.map(str::to_owned).collect()
    };
    let parents: BTreeMap<&str, BTreeSet<String>> =
        declared.keys().map(|id| (id.as_str(), parents(id))).collect();
    for class in Class::ALL.map(Class::as_str) {
        if parents.get(class) != Some(&BTreeSet::from([GOVERNED.to_owned()])) {
            faults.push(fault("POL-3", format!("declare action {class} in [governed]")));
        }
    }
    if parents.get(GOVERNED) != Some(&BTreeSet::new()) {
        faults.push(fault("POL-3", "declare action governed, in nothing"));
    }
    let mut actions = BTreeMap::new();
    let mut used = BTreeSet::new();
    for (id, value) in &declared {
        let closure = closure(id, &parents);
        let applies = applies(value);
        let action = Checked { id, value, closure: &closure, applies: &applies };
        let class = action.check(namespace, faults);
        let reading = action.reading(faults);
        used.extend(applies.iter().map(|(_, resource)| resource.clone()));
        actions.insert((*id).clone(), Declared { class, reading, closure, applies });
    }
    used.remove("Intent");
    if used.is_empty() {
        faults.push(fault("POL-3", "declare a resource type and what a verb or class applies to"));
    }
    for name in &used {
        faults.extend(check_resource(name, namespace));
    }
    if !actions.contains_key(APPROVE_INTENT) {
        let what = "declare action approve_intent appliesTo { principal: Human, resource: Intent, context: {} }";
        faults.push(fault("POL-3", what));
    }
    actions
}

/// An action and everything that it is in.
fn closure(id: &str, parents: &BTreeMap<&str, BTreeSet<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![id.to_owned()];
    while let Some(next) = open.pop() {
        open.extend(parents.get(next.as_str()).into_iter().flatten().cloned());
        if !found.insert(next) {
            // Seen already; Cedar refuses circles, and here they end.
            continue;
        }
        open.retain(|each| !found.contains(each));
    }
    found
}

fn applies(value: &Value) -> BTreeSet<(String, String)> {
    let list = |name: &str| -> Vec<String> {
        let found = value.get("appliesTo").and_then(|to| to.get(name)).and_then(Value::as_array);
        let found = found.into_iter().flatten().filter_map(Value::as_str);
        found.map(|name| short(name).to_owned()).collect()
    };
    let (principals, resources) = (list("principalTypes"), list("resourceTypes"));
    let pairs =
        principals.iter().flat_map(|p| resources.iter().map(move |r| (p.clone(), r.clone())));
    pairs.collect()
}

/// An action under the check of POL-3 and POL-7.
struct Checked<'a> {
    id: &'a str,
    value: &'a Value,
    closure: &'a BTreeSet<String>,
    applies: &'a BTreeSet<(String, String)>,
}

impl Checked<'_> {
    /// Its class, where everything about it is as POL-3 has it.
    fn check(&self, namespace: &Value, faults: &mut Vec<PolicyFault>) -> Option<Class> {
        let mut say =
            |what: String| faults.push(fault("POL-3", format!("action {:?}: {what}", self.id)));
        let classes: Vec<Class> =
            Class::ALL.into_iter().filter(|class| self.closure.contains(class.as_str())).collect();
        let context = self.value.get("appliesTo").and_then(|to| to.get("context"));
        if self.id == APPROVE_INTENT {
            let human = BTreeSet::from([("Human".to_owned(), "Intent".to_owned())]);
            if *self.applies != human || !is_empty_record(context) || self.closure.len() != 1 {
                say("it applies to principal Human, resource Intent, context {}, in nothing".into());
            }
            return None;
        }
        if self.applies.is_empty() {
            return classes.first().copied();
        }
        if self.id == GOVERNED {
            say("let verbs and classes apply to something, not governed itself".into());
        }
        let [class] = classes.as_slice() else {
            let names = Class::ALL.map(Class::as_str).join(", ");
            say(format!("put it in exactly one class: {names}"));
            return None;
        };
        if context.map(plain) != Some(json!({ "type": "Context" })) {
            say("write context: Context".into());
        }
        for (principal, resource) in self.applies {
            if !PRINCIPALS.contains(&principal.as_str()) {
                say(format!("principal {principal}: only Agent, Human and Service act"));
            }
            let own = members(base(), "entityTypes").any(|(name, _)| name == resource);
            if own || !members(namespace, "entityTypes").any(|(name, _)| name == resource) {
                say(format!("resource {resource}: declare a resource type of your own"));
            }
        }
        Some(*class)
    }

    fn reading(&self, faults: &mut Vec<PolicyFault>) -> Reading {
        let annotations = members(self.value, "annotations")
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        Reading::parse(&annotations).unwrap_or_else(|found| {
            let say = |what| fault("POL-7", format!("action {:?}: {what}", self.id));
            faults.extend(found.into_iter().map(say));
            Reading::default()
        })
    }
}

fn is_empty_record(context: Option<&Value>) -> bool {
    let empty = Map::new();
    context.is_none_or(|context| {
        context.get("type") == Some(&json!("Record"))
            && context.get("attributes").and_then(Value::as_object).unwrap_or(&empty).is_empty()
    })
}

/// POL-3: what every resource type has, so that the gate can fill it in.
fn check_resource(name: &str, namespace: &Value) -> Option<PolicyFault> {
    let declared = namespace.get("entityTypes").and_then(|types| types.get(name)).map(plain)?;
    let shape = declared.get("shape").and_then(|shape| shape.get("attributes"));
    let attribute = |name: &str| shape.and_then(|shape| shape.get(name));
    let named = |(name, wanted): &(&str, &str)| {
        attribute(name) == Some(&json!({ "type": "EntityOrCommon", "name": wanted }))
    };
    let text = json!({ "type": "EntityOrCommon", "name": "String" });
    let labels = attribute("labels") == Some(&json!({ "type": "Set", "element": text }));
    if RESOURCE_ATTRIBUTES.iter().all(named) && labels {
        return None;
    }
    let what = "give it the attributes env: Env, domain: Domain, owner: Human, labels: Set<String>";
    Some(fault("POL-3", format!("resource type {name}: {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_parses_and_has_what_is_looked_for() {
        let base = base();
        for name in ["Role", "AgentClass", "Human", "Agent", "Service", "Intent"] {
            assert!(members(base, "entityTypes").any(|(found, _)| found == name), "{name}");
        }
        for name in ["Approvals", "Task", "Grant", "Context"] {
            assert!(members(base, "commonTypes").any(|(found, _)| found == name), "{name}");
        }
        for class in Class::ALL {
            assert!(members(base, "actions").any(|(found, _)| found == class.as_str()));
        }
    }
}
