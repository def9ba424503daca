//! What the agent of the example asks the gate for.

use serde_json::{Value, json};

use crate::exit::Failure;

/// The grant that the agent works under.
pub(super) const GRANT: &str = "demo-grant";

/// The example's lines as intents: who, what, on which system, why. What the external gate of the
/// example made of them is left out.
pub(super) fn from_example(example: &str) -> Result<String, Failure> {
    let mut text = String::new();
    for line in example.lines() {
        text.push_str(&intent(&parsed(line)?).to_string());
        text.push('\n');
    }
    Ok(text)
}

/// One of them again, so many times, each as an action of its own.
pub(super) fn refusal_again(example: &str, line: usize, times: usize) -> Result<String, Failure> {
    let line = example.lines().nth(line - 1).unwrap_or_default();
    let mut again = intent(&parsed(line)?);
    let mut text = String::new();
    for _ in 0..times {
        if let Some(id) = again.get_mut("action_id") {
            *id = Value::String(uuid::Uuid::now_v7().to_string());
        }
        text.push_str(&again.to_string());
        text.push('\n');
    }
    Ok(text)
}

fn parsed(line: &str) -> Result<Value, Failure> {
    serde_json::from_str(line)
        .map_err(|error| Failure::internal(format!("the example is wrong: {error}")))
}

/// The systems of the example are known to the pack's directory by their environment, and the
/// billing system by its name.
fn intent(verdict: &Value) -> Value {
    let of = |object: &str, name: &str| verdict.pointer(&format!("/{object}/{name}")).cloned();
    let text = |object, name| of(object, name).and_then(|v| v.as_str().map(str::to_owned));
    let environment = text("resource", "environment").unwrap_or_default();
    let name = text("resource", "id").unwrap_or_default();
    let billing = environment == "prod" && name == "cost-explorer";
    let id = if billing { name } else { format!("{environment}/{name}") };
    json!({
        "action_id": verdict.get("action_id"),
        "verb": verdict.get("action"),
        "class": verdict.get("action_class"),
        "destructive": verdict.get("destructive"),
        "actor": {
            "kind": "agent",
            "id": of("actor", "id"),
            "session": of("actor", "session"),
            "model": of("actor", "model"),
        },
        "resource": {"type": "System", "id": id},
        "parameters": verdict.get("parameters"),
        "task": {
            "ticket": of("task", "ticket"),
            "grant": GRANT,
            "justification": of("task", "justification"),
        },
        "urgency": verdict.get("urgency"),
    })
}
