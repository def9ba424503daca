//! A policy's conditions as a syntax tree, in Cedar's JSON form: what they name, what they look into,
//! and which of them a request must meet before the policy can matter to it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::datum::{NAMESPACE, Uid};

/// What a policy's conditions are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Entities that they name.
    pub(crate) named: BTreeSet<Uid>,
    /// Those of them whose attributes or ancestors they look at.
    pub(crate) read: BTreeSet<Uid>,
    /// Conditions that must hold for the policy to matter, each of which can't fail.
    pub(crate) guards: Vec<Guard>,
}

/// A condition that a request must meet for a policy to matter to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Guard {
    Verb(String),
    Env(String),
    Domain(String),
}

/// An entity that stands in a policy's text.
pub(crate) fn literal(node: &Value) -> Option<Uid> {
    let entity = node.get("Value")?.get("__entity")?;
    let type_name = entity.get("type")?.as_str()?;
    let short = type_name.strip_prefix(NAMESPACE)?.strip_prefix("::")?;
    Some(Uid::new(short, entity.get("id")?.as_str()?))
}

/// A walk over a condition's syntax tree, without recursion.
#[derive(Default)]
pub(crate) struct Walk {
    pub(crate) named: BTreeSet<Uid>,
    pub(crate) read: BTreeSet<Uid>,
    /// `context.approvals` stands there.
    pub(crate) approvals: bool,
    /// The context stands there by itself.
    pub(crate) bare_context: bool,
}

impl Walk {
    /// `reads` says whether an entity that stands right there is looked into, not only compared.
    pub(crate) fn run(&mut self, body: &Value, reads: bool) {
        let mut open = vec![(body, reads)];
        while let Some((node, reads)) = open.pop() {
            if let Some(uid) = literal(node) {
                if reads {
                    self.read.insert(uid.clone());
                }
                self.named.insert(uid);
                continue;
            }
            match node {
                Value::Object(map) => {
                    for (operator, inner) in map {
                        self.operator(operator, inner, &mut open);
                    }
                }
                Value::Array(items) => open.extend(items.iter().map(|item| (item, reads))),
                _ => {}
            }
        }
    }

    fn operator<'v>(
        &mut self,
        operator: &str,
        inner: &'v Value,
        open: &mut Vec<(&'v Value, bool)>,
    ) {
        let side = |name: &str| inner.get(name);
        match operator {
            "Var" => self.bare_context |= inner == "context",
            "." | "has" => {
                let on_context =
                    side("left").is_some_and(|left| left == &json!({ "Var": "context" }));
                if on_context {
                    let attribute = side("attr");
                    let first = attribute.and_then(Value::as_array).and_then(|path| path.first());
                    self.approvals |= first.or(attribute).is_some_and(|name| name == "approvals");
                } else {
                    open.extend(side("left").map(|left| (left, true)));
                }
            }
            // What is compared by name needs no attributes and no ancestors.
            "==" | "!=" | "contains" | "containsAll" | "containsAny" => {
                open.extend(side("left").map(|left| (left, false)));
                open.extend(side("right").map(|right| (right, false)));
            }
            "in" => {
                open.extend(side("left").map(|left| (left, true)));
                open.extend(side("right").map(|right| (right, false)));
            }
            "is" => {
                open.extend(side("left").map(|left| (left, true)));
                open.extend(side("in").map(|right| (right, false)));
            }
            // Nothing looks into the members of a set.
            "Set" => open.push((inner, false)),
            // The keys of a record are names, and no operators.
            "Record" => open.extend(members(inner).map(|value| (value, true))),
            _ => open.push((inner, true)),
        }
    }
}

fn members(record: &Value) -> impl Iterator<Item = &Value> {
    record.as_object().into_iter().flat_map(serde_json::Map::values)
}

/// The guards at the beginning of a first `when` (see [`Guard`]): conjuncts are evaluated from the
/// left, and up to the first that could fail each one can only be true or false. So where one of them
/// is false the policy neither holds nor fails.
pub(crate) fn guards(condition: &Value) -> Vec<Guard> {
    let mut found = Vec::new();
    if condition.get("kind") != Some(&json!("when")) {
        return found;
    }
    let mut open: Vec<&Value> = condition.get("body").into_iter().collect();
    while let Some(node) = open.pop() {
        if let Some(and) = node.get("&&") {
            // The right side waits until the left one is done.
            open.extend(and.get("right"));
            open.extend(and.get("left"));
        } else if let Some(guard) = guard(node) {
            found.push(guard);
        } else if !is_flag(node) {
            break;
        }
    }
    found
}

/// `context.verb == "…"`, `resource.env == Gate::Env::"…"` or `resource.domain == Gate::Domain::"…"`:
/// none of them can fail, since every context has a verb and every resource the other two (POL-3).
fn guard(node: &Value) -> Option<Guard> {
    let equal = node.get("==")?;
    let (left, right) = (equal.get("left")?, equal.get("right")?);
    let of = |variable: &str, name: &str| {
        *left == json!({ ".": { "left": { "Var": variable }, "attr": name } })
    };
    if of("context", "verb") {
        return Some(Guard::Verb(right.get("Value")?.as_str()?.to_owned()));
    }
    let uid = literal(right)?;
    match uid.type_name.as_str() {
        "Env" if of("resource", "env") => Some(Guard::Env(uid.id)),
        "Domain" if of("resource", "domain") => Some(Guard::Domain(uid.id)),
        _ => None,
    }
}

/// A flag that every context has, or its opposite: it can't fail either.
fn is_flag(node: &Value) -> bool {
    let plain = node.get("!").and_then(|not| not.get("arg")).unwrap_or(node);
    ["destructive", "irreversible", "emergency", "change_freeze"]
        .iter()
        .any(|name| *plain == json!({ ".": { "left": { "Var": "context" }, "attr": name } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(condition: &str) -> Tree {
        let scope = "principal, action, resource is Gate::System";
        let text = format!("@id(\"a\") permit ({scope}) {condition};");
        crate::lint::lint(&cedar_policy::Policy::parse(None, text).expect("policy"), "1")
            .expect("lint")
            .tree
    }

    #[test]
    fn guards_end_at_what_could_fail() {
        let guards = |condition: &str| tree(condition).guards;
        let verb = Guard::Verb("x".to_owned());
        let env = Guard::Env("prod".to_owned());
        assert_eq!(guards("when { context.verb == \"x\" }"), std::slice::from_ref(&verb));
        assert_eq!(
            guards(
                "when { !context.emergency && context.verb == \"x\" && resource.env == Gate::Env::\"prod\" \
                 && context.count > 1 && resource.domain == Gate::Domain::\"web\" }"
            ),
            [verb, env]
        );
        assert_eq!(guards("when { context.count + 1 > 2 && context.verb == \"x\" }"), []);
        assert_eq!(guards("when { context.verb == \"x\" || true }"), []);
        assert_eq!(guards("unless { context.verb == \"x\" }"), []);
        assert_eq!(guards("when { context.verb != \"x\" }"), []);
    }

    #[test]
    fn entities_are_named_and_those_that_are_looked_into_are_read() {
        let both = |condition: &str| {
            let tree = tree(condition);
            let show =
                |set: &BTreeSet<Uid>| set.iter().map(|uid| uid.id.clone()).collect::<String>();
            (show(&tree.named), show(&tree.read))
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(both("when { principal in Gate::Role::\"a\" }"), pair("a", ""));
        assert_eq!(
            both("when { principal in [Gate::Role::\"a\", Gate::Role::\"b\"] }"),
            pair("ab", "")
        );
        assert_eq!(both("when { resource == Gate::System::\"a\" }"), pair("a", ""));
        assert_eq!(both("when { Gate::Human::\"a\" in Gate::Role::\"b\" }"), pair("ab", "a"));
        assert_eq!(both("when { Gate::System::\"a\".owner == principal }"), pair("a", "a"));
        assert_eq!(
            both(
                "when { (if context.destructive then Gate::System::\"a\" else resource).owner == principal }"
            ),
            pair("a", "a")
        );
    }
}
