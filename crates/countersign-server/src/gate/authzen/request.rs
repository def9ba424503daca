//! An AuthZEN request as an intent (AZN-4 to AZN-6).
//!
//! Nothing that the gate could be asked to judge is dropped: each member of `properties` and of
//! `context` goes into the intent under its own name, and one that an intent has no place for is
//! the gate's to refuse, on record (`INPUT_INVALID`). Only members that AuthZEN itself has no place
//! for are passed over, as it demands of a receiver, and the answer names them.

use std::fmt;

use countersign_core::encoding::escaped;
use serde_json::{Map, Value};

/// Members that the answer names as passed over, and characters of each.
const IGNORED_MAX: usize = 16;
const IGNORED_CHARS_MAX: usize = 64;

/// Members of an intent that have their own place in a request, and so none in its `context`.
const PLACED: [&str; 6] = ["verb", "class", "destructive", "actor", "resource", "parameters"];

/// Why a request is no request: the caller's fault, told in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed(String);

impl Malformed {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The four entities of one evaluation, each from the evaluation itself or from the defaults of
/// its batch, never mixed from both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entities<'a> {
    subject: Option<&'a Value>,
    action: Option<&'a Value>,
    resource: Option<&'a Value>,
    context: Option<&'a Value>,
}

/// What is asked of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The intent's JSON text.
    pub(super) intent: String,
    /// For whom the permit is; empty for the caller.
    pub(super) audience: String,
    /// Paths of the members that were passed over.
    pub(super) ignored: Vec<String>,
}

impl<'a> Entities<'a> {
    /// Those of `own`, and where it has none those of `defaults`.
    pub(super) fn of(
        own: &'a Map<String, Value>,
        defaults: Option<&'a Map<String, Value>>,
    ) -> Self {
        let find = |name| own.get(name).or_else(|| defaults.and_then(|map| map.get(name)));
        Self {
            subject: find("subject"),
            action: find("action"),
            resource: find("resource"),
            context: find("context"),
        }
    }

    /// The intent that they make.
    pub(super) fn ask(self) -> Result<Asked, Malformed> {
        let mut ignored = Vec::new();
        let subject = Entity::read("subject", self.subject, &["type", "id"], &mut ignored)?;
        let action = Entity::read("action", self.action, &["name"], &mut ignored)?;
        let resource = Entity::read("resource", self.resource, &["type", "id"], &mut ignored)?;

        let mut intent = Map::new();
        intent.insert("verb".to_owned(), Value::from(action.text("name")));
        act(action.properties, &mut intent)?;
        let kind = match subject.text("type") {
            // The usual name for a person among enforcement points.
            "user" => "human",
            other => other,
        };
        let actor = [("kind", kind), ("id", subject.text("id"))];
        intent.insert("actor".to_owned(), carried("subject", actor, subject.properties)?);
        let target = [("type", resource.text("type")), ("id", resource.text("id"))];
        intent.insert("resource".to_owned(), carried("resource", target, resource.properties)?);
        let audience = surround(self.context, &mut intent)?;
        Ok(Asked { intent: Value::Object(intent).to_string(), audience, ignored })
    }
}

/// Notes the members of `map` that are none of `known` as passed over.
pub(super) fn note_unknown(
    at: &str,
    map: &Map<String, Value>,
    known: &[&str],
    ignored: &mut Vec<String>,
) {
    for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
        if ignored.len() < IGNORED_MAX {
            ignored.push(format!("{at}{name}").chars().take(IGNORED_CHARS_MAX).collect());
        }
    }
}

/// A subject, action or resource whose needed members are texts.
struct Entity<'a> {
    map: &'a Map<String, Value>,
    properties: Option<&'a Map<String, Value>>,
}

impl<'a> Entity<'a> {
    fn read(
        name: &str,
        value: Option<&'a Value>,
        needed: &[&str],
        ignored: &mut Vec<String>,
    ) -> Result<Self, Malformed> {
        let value = value.ok_or_else(|| Malformed::new(format!("{name} is missing")))?;
        let map = object(name, value)?;
        for member in needed {
            if !map.get(*member).is_some_and(Value::is_string) {
                return Err(Malformed::new(format!("{name}.{member} must be a string")));
            }
        }
        let properties = match map.get("properties") {
            Some(value) => Some(object(&format!("{name}.properties"), value)?),
            None => None,
        };
        let mut known = needed.to_vec();
        known.push("properties");
        note_unknown(&format!("{name}."), map, &known, ignored);
        Ok(Self { map, properties })
    }

    /// A member that [`Entity::read`] found to be a text.
    fn text(&self, member: &str) -> &'a str {
        self.map.get(member).and_then(Value::as_str).unwrap_or_default()
    }
}

fn object<'a>(name: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Malformed> {
    value.as_object().ok_or_else(|| Malformed::new(format!("{name} must be an object")))
}

/// An actor or a resource: what names it, and every property beside that (AZN-5).
fn carried(
    of: &str,
    named: [(&str, &str); 2],
    properties: Option<&Map<String, Value>>,
) -> Result<Value, Malformed> {
    let mut carried: Map<String, Value> =
        named.iter().map(|(name, text)| ((*name).to_owned(), Value::from(*text))).collect();
    for (name, value) in properties.into_iter().flatten() {
        if carried.insert(name.clone(), value.clone()).is_some() {
            let name = escaped(name);
            return Err(Malformed::new(format!(
                "{of}.properties.{name} would replace what {of} itself says; leave it out"
            )));
        }
    }
    Ok(Value::Object(carried))
}

/// `class` and `destructive` say what kind of action it is; every other property is one of its
/// parameters, whether inside `parameters` or beside it (AZN-5).
fn act(
    properties: Option<&Map<String, Value>>,
    intent: &mut Map<String, Value>,
) -> Result<(), Malformed> {
    let mut parameters = Map::new();
    for (name, value) in properties.into_iter().flatten() {
        match name.as_str() {
            "class" | "destructive" => {
                intent.insert(name.clone(), value.clone());
            }
            "parameters" => {
                let inside = object("action.properties.parameters", value)?;
                for (name, value) in inside {
                    add_parameter(&mut parameters, name, value)?;
                }
            }
            _ => add_parameter(&mut parameters, name, value)?,
        }
    }
    intent.insert("parameters".to_owned(), Value::Object(parameters));
    Ok(())
}

fn add_parameter(
    parameters: &mut Map<String, Value>,
    name: &str,
    value: &Value,
) -> Result<(), Malformed> {
    if parameters.insert(name.to_owned(), value.clone()).is_some() {
        let name = escaped(name);
        return Err(Malformed::new(format!(
            "the parameter {name} stands in action.properties and in its parameters; give it once"
        )));
    }
    Ok(())
}

/// The context: `audience` is for the permit, `justification` for the task, and every other member
/// the intent's own (AZN-5). Gives the audience.
fn surround(context: Option<&Value>, intent: &mut Map<String, Value>) -> Result<String, Malformed> {
    let Some(context) = context else { return Ok(String::new()) };
    let context = object("context", context)?;
    let mut audience = String::new();
    for (name, value) in context {
        match name.as_str() {
            "audience" => {
                let text = value.as_str();
                text.ok_or_else(|| Malformed::new("context.audience must be a string"))?
                    .clone_into(&mut audience);
            }
            "justification" => {}
            placed if PLACED.contains(&placed) => {
                return Err(Malformed::new(format!(
                    "context.{placed} is said by subject, action and resource; leave it out"
                )));
            }
            _ => {
                intent.insert(name.clone(), value.clone());
            }
        }
    }
    if let Some(justification) = context.get("justification") {
        let task = intent.entry("task").or_insert_with(|| Value::Object(Map::new()));
        let task =
            task.as_object_mut().ok_or_else(|| Malformed::new("context.task must be an object"))?;
        if task.insert("justification".to_owned(), justification.clone()).is_some() {
            return Err(Malformed::new(
                "justification stands in context and in its task; give it once",
            ));
        }
    }
    Ok(audience)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(request: &Value) -> Result<Asked, Malformed> {
        Entities::of(request.as_object().unwrap(), None).ask()
    }

    fn intent(request: &Value) -> Value {
        serde_json::from_str(&ask(request).unwrap().intent).unwrap()
    }

    fn with(change: impl FnOnce(&mut Value)) -> Value {
        let mut request = json!({
            "subject": {"type": "agent", "id": "infra-assistant-7"},
            "action": {"name": "infra:Scale"},
            "resource": {"type": "System", "id": "web"},
        });
        change(&mut request);
        request
    }

    #[test]
    fn azn_4_the_worked_example_is_the_intent_of_the_policy_page() {
        let request = json!({
            "subject": {
                "type": "agent", "id": "infra-assistant-7",
                "properties": {"session": "s-118", "on_behalf_of": "alice"}
            },
            "action": {
                "name": "elasticbeanstalk:TerminateEnvironment",
                "properties": {
                    "class": "delete", "destructive": true, "environment-name": "cost-explorer"
                }
            },
            "resource": {
                "type": "System", "id": "cost-explorer", "properties": {"environment": "prod"}
            },
            "context": {
                "task": {"ticket": "OPS-4412"},
                "justification": "recreate the environment",
                "urgency": null,
                "action_id": "0193ad5e-7c00-7000-8000-000000000001"
            }
        });
        assert_eq!(
            intent(&request),
            json!({
                "verb": "elasticbeanstalk:TerminateEnvironment",
                "class": "delete",
                "destructive": true,
                "actor": {
                    "kind": "agent", "id": "infra-assistant-7",
                    "session": "s-118", "on_behalf_of": "alice"
                },
                "resource": {"type": "System", "id": "cost-explorer", "environment": "prod"},
                "parameters": {"environment-name": "cost-explorer"},
                "task": {"ticket": "OPS-4412", "justification": "recreate the environment"},
                "urgency": null,
                "action_id": "0193ad5e-7c00-7000-8000-000000000001"
            })
        );
        assert!(ask(&request).unwrap().ignored.is_empty());
    }

    #[test]
    fn azn_5_what_an_intent_has_no_place_for_is_carried_to_the_gate_to_refuse() {
        let request = with(|request| {
            request["subject"]["properties"] = json!({"sesion": "s-1"});
            request["resource"]["properties"] = json!({"owner": "bob"});
            request["context"] = json!({"time": "2026-11-23T12:00:00Z"});
        });
        let intent = intent(&request);
        assert_eq!(intent["actor"]["sesion"], "s-1");
        assert_eq!(intent["resource"]["owner"], "bob");
        assert_eq!(intent["time"], "2026-11-23T12:00:00Z");
    }

    #[test]
    fn azn_5_properties_of_an_action_are_its_parameters() {
        let request = with(|request| {
            request["action"]["properties"] = json!({"soft": true, "parameters": {"class": "x"}});
        });
        assert_eq!(intent(&request)["parameters"], json!({"soft": true, "class": "x"}));
        assert_eq!(intent(&with(|_| {}))["parameters"], json!({}));
    }

    #[test]
    fn azn_5_nothing_said_twice_and_nothing_replaced() {
        let cases: [fn(&mut Value); 9] = [
            |r| r["subject"]["properties"] = json!({"id": "somebody-else"}),
            |r| r["subject"]["properties"] = json!({"kind": "human"}),
            |r| r["resource"]["properties"] = json!({"type": "Repository"}),
            |r| r["action"]["properties"] = json!({"n": 1, "parameters": {"n": 2}}),
            |r| r["context"] = json!({"verb": "infra:Read"}),
            |r| r["context"] = json!({"actor": {"kind": "human", "id": "alice"}}),
            |r| r["context"] = json!({"parameters": {}}),
            |r| {
                r["context"] = json!({"task": {"justification": "a"}, "justification": "b"});
            },
            |r| r["context"] = json!({"task": "OPS-1", "justification": "b"}),
        ];
        for change in cases {
            let request = with(change);
            assert!(ask(&request).is_err(), "{request}");
        }
    }

    #[test]
    fn azn_4_what_the_standard_needs_is_needed() {
        let cases: [fn(&mut Value); 12] = [
            |r| drop(r.as_object_mut().unwrap().remove("subject")),
            |r| drop(r.as_object_mut().unwrap().remove("action")),
            |r| drop(r.as_object_mut().unwrap().remove("resource")),
            |r| drop(r["subject"].as_object_mut().unwrap().remove("type")),
            |r| drop(r["subject"].as_object_mut().unwrap().remove("id")),
            |r| drop(r["resource"].as_object_mut().unwrap().remove("id")),
            |r| r["subject"] = json!("alice"),
            |r| r["subject"] = json!(null),
            |r| r["action"]["name"] = json!(123),
            |r| r["action"]["properties"] = json!([]),
            |r| r["context"] = json!("now"),
            |r| r["context"] = json!({"audience": 7}),
        ];
        for change in cases {
            let request = with(change);
            assert!(ask(&request).is_err(), "{request}");
        }
    }

    #[test]
    fn azn_6_members_unknown_to_the_standard_are_passed_over_and_named() {
        let request = with(|request| {
            request["subject"]["session"] = json!("s-1");
            request["action"]["futureField"] = json!({"nested": true});
        });
        let asked = ask(&request).unwrap();
        assert_eq!(asked.ignored, ["subject.session", "action.futureField"]);
        assert!(!asked.intent.contains("s-1"));
        let many = with(|request| {
            for n in 0..100 {
                request["resource"][format!("{n:0>500}")] = json!(n);
            }
        });
        let ignored = ask(&many).unwrap().ignored;
        assert_eq!(ignored.len(), IGNORED_MAX);
        assert!(ignored.iter().all(|name| name.len() == IGNORED_CHARS_MAX));
    }

    #[test]
    fn a_user_is_a_human_and_the_audience_is_not_the_intents() {
        let request = with(|request| {
            request["subject"]["type"] = json!("user");
            request["context"] = json!({"audience": "deployer"});
        });
        assert_eq!(intent(&request)["actor"]["kind"], "human");
        assert_eq!(intent(&request).get("audience"), None);
        assert_eq!(ask(&request).unwrap().audience, "deployer");
    }

    #[test]
    fn azn_9_a_default_serves_where_an_evaluation_says_nothing_and_never_in_part() {
        let defaults = with(|request| request["resource"]["properties"] = json!({"domain": "x"}));
        let own = json!({"resource": {"id": "db"}});
        let entities = Entities::of(own.as_object().unwrap(), defaults.as_object());
        assert!(entities.ask().is_err(), "half a resource is none");
        let own = json!({"resource": {"type": "System", "id": "db"}});
        let entities = Entities::of(own.as_object().unwrap(), defaults.as_object());
        let intent: Value = serde_json::from_str(&entities.ask().unwrap().intent).unwrap();
        assert_eq!(intent["resource"], json!({"type": "System", "id": "db"}));
        assert_eq!(intent["actor"]["id"], "infra-assistant-7");
    }
}
