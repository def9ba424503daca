//! The entities that one decision rests on, taken from the directory (DIR-1, step 3 of Deciding).
//!
//! Only what the request and the policies reach is loaded, and all of that: in Cedar a forbid that
//! looks at an entity which isn't there errs and is skipped, or quietly finds that it is in nothing.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Entities, Entity};

use crate::datum::{Datum, Node, Uid};
use crate::directory::Directory;
use crate::index::Base;
use crate::reader::cut;
use crate::reason::{GateCode, Reason};
use crate::schema::GateSchema;

/// Entities that one decision may rest on.
const ENTITIES_MAX: usize = 128;

/// Entities that were loaded.
pub(crate) struct World<'a> {
    schema: &'a GateSchema,
    directory: &'a Directory,
    pub(crate) nodes: BTreeMap<Uid, Node>,
}

pub(crate) fn missing(uid: &Uid) -> Reason {
    Reason::because(GateCode::EntityMissing, format!("{uid} is not in the directory"))
}

impl<'a> World<'a> {
    pub(crate) fn new(schema: &'a GateSchema, directory: &'a Directory) -> Self {
        Self { schema, directory, nodes: BTreeMap::new() }
    }

    /// Loads an entity and whatever its attributes lead to.
    pub(crate) fn load(&mut self, uid: Uid) -> Result<(), Reason> {
        let mut open = vec![uid];
        while let Some(uid) = open.pop() {
            if self.nodes.contains_key(&uid) {
                continue;
            }
            let Some(node) = self.node(&uid)? else { continue };
            node.attributes.values().for_each(|value| value.entities(&mut open));
            open.extend(node.parents.iter().cloned());
            self.add(uid, node)?;
        }
        Ok(())
    }

    /// Puts an entity in that no directory holds.
    pub(crate) fn add(&mut self, uid: Uid, node: Node) -> Result<(), Reason> {
        if self.nodes.len() >= ENTITIES_MAX {
            let what = format!("the decision rests on more than {ENTITIES_MAX} entities");
            return Err(Reason::because(GateCode::InputInvalid, what));
        }
        self.nodes.insert(uid, node);
        Ok(())
    }

    /// Loads what the policies look into, and finds whatever else they name.
    pub(crate) fn require(&mut self, base: &Base) -> Result<(), Reason> {
        for uid in &base.read {
            self.load(uid.clone())?;
        }
        base.named
            .iter()
            .try_for_each(|uid| if self.knows(uid) { Ok(()) } else { Err(missing(uid)) })
    }

    fn knows(&self, uid: &Uid) -> bool {
        let id = uid.id.as_str();
        match uid.type_name.as_str() {
            "Human" => self.directory.roles(id).is_some(),
            "Agent" => self.directory.agent(id).is_some(),
            "Service" => self.directory.service(id).is_some(),
            "Role" => self.directory.has_role(id),
            "AgentClass" => self.directory.has_class(id),
            "Intent" => self.nodes.contains_key(uid),
            other => self.directory.resource(other, id).is_some(),
        }
    }

    /// What the directory says of an entity. Nothing for enumerations, which the schema holds, and for
    /// roles and classes: they have no attributes, and what is in them says so itself.
    fn node(&self, uid: &Uid) -> Result<Option<Node>, Reason> {
        let id = uid.id.as_str();
        let machine = |found: Option<&crate::directory::Machine>| {
            found.map(|machine| Node {
                attributes: own([("owner", Datum::entity("Human", &machine.owner))]),
                parents: BTreeSet::from([Uid::new("AgentClass", &machine.class)]),
            })
        };
        let found = match uid.type_name.as_str() {
            "Role" | "AgentClass" if self.knows(uid) => return Ok(None),
            name if self.schema.types.enums.contains(name) => return Ok(None),
            "Human" => self.directory.roles(id).map(|roles| Node {
                attributes: BTreeMap::new(),
                parents: roles.iter().map(|role| Uid::new("Role", role)).collect(),
            }),
            "Agent" => machine(self.directory.agent(id)),
            "Service" => machine(self.directory.service(id)),
            "Role" | "AgentClass" | "Intent" => None,
            name => self.directory.resource(name, id).map(|thing| {
                let mut attributes = thing.attributes.clone();
                attributes.extend(own([
                    ("env", Datum::entity("Env", &thing.environment)),
                    ("domain", Datum::entity("Domain", &thing.domain)),
                    ("owner", Datum::entity("Human", &thing.owner)),
                    ("labels", Datum::texts(&thing.labels)),
                ]));
                Node { attributes, parents: BTreeSet::new() }
            }),
        };
        found.map(Some).ok_or_else(|| missing(uid))
    }

    /// The entities as the engine takes them, each checked against the schema.
    pub(crate) fn entities(&self) -> Result<Entities, Reason> {
        let made: Option<Vec<Entity>> = self.nodes.iter().map(|row| self.entity(row)).collect();
        let unfit = |what: String| Reason::because(GateCode::InputInvalid, cut(&what, 512));
        let made =
            made.ok_or_else(|| unfit("a type of the directory is not in the schema".into()))?;
        let checked = Entities::from_entities(made.iter().cloned(), Some(&self.schema.entities));
        checked.map_err(|error| {
            // The engine takes entities in any order: the first in ours is named, so that the same
            // inputs give the same text.
            let alone = |entity: &Entity| {
                Entities::from_entities([entity.clone()], Some(&self.schema.entities)).err()
            };
            unfit(made.iter().find_map(alone).unwrap_or(error).to_string())
        })
    }

    fn entity(&self, (uid, node): (&Uid, &Node)) -> Option<Entity> {
        let types = &self.schema.types;
        let attributes = node.attributes.iter().map(|(n, v)| Some((n.clone(), v.to_cedar(types)?)));
        let parents = node.parents.iter().map(|parent| parent.to_cedar(types));
        let (attributes, parents) =
            (attributes.collect::<Option<_>>()?, parents.collect::<Option<_>>()?);
        Entity::new(uid.to_cedar(types)?, attributes, parents).ok()
    }
}

/// Attributes that the gate fills in.
pub(crate) fn own<const N: usize>(rows: [(&str, Datum); N]) -> BTreeMap<String, Datum> {
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
