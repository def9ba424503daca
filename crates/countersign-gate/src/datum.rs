//! Values that the engine is given: made once, turned into the engine's own values and into the JSON
//! that the record keeps (POL-10), so that the two can't differ.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{EntityUid, RestrictedExpression};
use countersign_core::json::quoted;
use serde_json::Value;

use crate::amount::Amount;
use crate::schema::Types;

/// The namespace of every name in a gate's schema (POL-3).
pub(crate) const NAMESPACE: &str = "Gate";

/// An entity's name: its type without the namespace, and its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Uid {
    pub(crate) type_name: String,
    pub(crate) id: String,
}

impl Uid {
    pub(crate) fn new(type_name: &str, id: &str) -> Self {
        Self { type_name: type_name.to_owned(), id: id.to_owned() }
    }

    /// The name as Cedar has it; none where the schema has no such type.
    pub(crate) fn to_cedar(&self, types: &Types) -> Option<EntityUid> {
        types.uid(&self.type_name, &self.id)
    }

    fn write_json(&self, out: &mut String) {
        out.push_str("{\"id\":");
        push_quoted(&self.id, out);
        out.push_str(",\"type\":\"");
        out.push_str(NAMESPACE);
        out.push_str("::");
        // Types are identifiers: they need no escaping.
        out.push_str(&self.type_name);
        out.push_str("\"}");
    }
}

/// As policies write it.
impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{NAMESPACE}::{}::{}", self.type_name, quoted(&self.id))
    }
}

/// A value of Cedar's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Datum {
    Bool(bool),
    Long(i64),
    Text(String),
    /// A value that a function of Cedar's makes from a text: decimal, datetime, duration, ip.
    Made(&'static str, String),
    Entity(Uid),
    Set(BTreeSet<Datum>),
    Record(BTreeMap<String, Datum>),
}

/// Functions of Cedar's that make values.
const MAKERS: [&str; 4] = ["datetime", "decimal", "duration", "ip"];

impl Datum {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn texts<'t>(texts: impl IntoIterator<Item = &'t String>) -> Self {
        Self::Set(texts.into_iter().map(|text| Self::text(text)).collect())
    }

    pub(crate) fn decimal(amount: Amount) -> Self {
        Self::Made("decimal", amount.to_string())
    }

    pub(crate) fn entity(type_name: &str, id: &str) -> Self {
        Self::Entity(Uid::new(type_name, id))
    }

    pub(crate) fn record(members: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        Self::Record(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Reads Cedar's JSON as a directory's attributes have it: entities and made values in their
    /// explicit forms (`__entity`, `__extn`). None where it is something else.
    // Recursion is bounded: values come from the strict parser, at most 16 containers deep.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => Self::Long(n.as_i64()?),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => {
                Self::Set(items.iter().map(Self::from_json).collect::<Option<_>>()?)
            }
            Value::Object(members) => {
                let only = |name| members.get(name).filter(|_| members.len() == 1);
                if let Some(entity) = only("__entity") {
                    return Self::entity_of(entity);
                }
                if let Some(made) = only("__extn") {
                    let name = made.get("fn")?.as_str()?;
                    let maker = MAKERS.into_iter().find(|maker| *maker == name)?;
                    return Some(Self::Made(maker, made.get("arg")?.as_str()?.to_owned()));
                }
                let read = |(name, inner): (&String, &Value)| {
                    // Cedar keeps names of this form to itself.
                    let plain = !name.starts_with("__");
                    plain.then_some(())?;
                    Some((name.clone(), Self::from_json(inner)?))
                };
                Self::Record(members.iter().map(read).collect::<Option<_>>()?)
            }
        })
    }

    fn entity_of(value: &Value) -> Option<Self> {
        let full = value.get("type")?.as_str()?;
        let short = full.strip_prefix(NAMESPACE)?.strip_prefix("::")?;
        Some(Self::entity(short, value.get("id")?.as_str()?))
    }

    /// The engine's own value; none where the schema lacks the type of an entity.
    pub(crate) fn to_cedar(&self, types: &Types) -> Option<RestrictedExpression> {
        Some(match self {
            Self::Bool(b) => RestrictedExpression::new_bool(*b),
            Self::Long(n) => RestrictedExpression::new_long(*n),
            Self::Text(text) => RestrictedExpression::new_string(text.clone()),
            Self::Made(maker, text) => types.made(maker, text),
            Self::Entity(uid) => RestrictedExpression::new_entity_uid(uid.to_cedar(types)?),
            Self::Set(items) => {
                let items: Option<Vec<_>> = items.iter().map(|item| item.to_cedar(types)).collect();
                RestrictedExpression::new_set(items?)
            }
            Self::Record(members) => {
                let rows = members.iter().map(|(name, v)| Some((name.clone(), v.to_cedar(types)?)));
                RestrictedExpression::new_record(rows.collect::<Option<Vec<_>>>()?).ok()?
            }
        })
    }

    /// Every entity that it names.
    pub(crate) fn entities(&self, found: &mut Vec<Uid>) {
        match self {
            Self::Entity(uid) => found.push(uid.clone()),
            Self::Set(items) => items.iter().for_each(|item| item.entities(found)),
            Self::Record(members) => members.values().for_each(|item| item.entities(found)),
            Self::Bool(_) | Self::Long(_) | Self::Text(_) | Self::Made(..) => {}
        }
    }

    /// Cedar's JSON, members sorted, nothing between the parts.
    pub(crate) fn write_json(&self, out: &mut String) {
        match self {
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Long(n) => out.push_str(&n.to_string()),
            Self::Text(text) => out.push_str(&quoted(text)),
            Self::Made(maker, text) => {
                out.push_str("{\"__extn\":{\"arg\":");
                push_quoted(text, out);
                out.push_str(",\"fn\":\"");
                out.push_str(maker);
                out.push_str("\"}}");
            }
            Self::Entity(uid) => {
                out.push_str("{\"__entity\":");
                uid.write_json(out);
                out.push('}');
            }
            Self::Set(items) => {
                write_list(out, ('[', ']'), items, Self::write_json);
            }
            Self::Record(members) => write_members(members, out),
        }
    }
}

/// The members of a record as Cedar's JSON.
pub(crate) fn write_members(members: &BTreeMap<String, Datum>, out: &mut String) {
    write_list(out, ('{', '}'), members, |(name, value), out| {
        push_quoted(name, out);
        out.push(':');
        value.write_json(out);
    });
}

/// Entities with their attributes and parents, as Cedar's JSON.
pub(crate) fn write_entities(entities: &BTreeMap<Uid, Node>, out: &mut String) {
    write_list(out, ('[', ']'), entities, |(uid, node), out| {
        out.push_str("{\"attrs\":");
        write_members(&node.attributes, out);
        out.push_str(",\"parents\":");
        write_list(out, ('[', ']'), &node.parents, Uid::write_json);
        out.push_str(",\"uid\":");
        uid.write_json(out);
        out.push('}');
    });
}

/// An entity, without its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) attributes: BTreeMap<String, Datum>,
    pub(crate) parents: BTreeSet<Uid>,
}

/// A text as JSON writes it; most need no escapes.
fn push_quoted(text: &str, out: &mut String) {
    if text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&quoted(text));
    }
}

fn write_list<T>(
    out: &mut String,
    (open, close): (char, char),
    items: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut String),
) {
    out.push(open);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}
