//! What a record says, in words for people.

use countersign_core::kinds::Kind;
use countersign_core::query::Row;
use countersign_core::record::View;
use serde_json::Value;

/// What a row says by itself: a verdict's outcome, an answer, a result, or what happened.
pub(crate) fn says(row: &Row) -> String {
    let said = match row.kind {
        Kind::Intent => "asked".to_owned(),
        Kind::Verdict if row.mode == "shadow" => {
            format!("{}, in shadow mode: it bound nobody", row.outcome)
        }
        Kind::Verdict => row.outcome.clone(),
        Kind::Approval => match row.decision.as_str() {
            "grant" => "granted by a person".to_owned(),
            "deny" => "denied by a person".to_owned(),
            other => other.to_owned(),
        },
        Kind::Outcome => format!("reported: {}", row.result),
        Kind::Policy => format!("rules in force: {} {}", row.policy_id, row.policy_version),
        Kind::Grant => format!("authority granted: {}", row.grant),
        Kind::Notice => notice(&row.about).to_owned(),
        Kind::Stream => format!("stream of gate {} {}", row.gate, row.about),
        Kind::Key => format!("key: {}", row.about),
        Kind::Erasure => format!("contents of {} erased", row.about),
        Kind::Genesis => "the log begins".to_owned(),
    };
    if row.erased { format!("{said} (erased)").trim_start().to_owned() } else { said }
}

fn notice(about: &str) -> &str {
    match about {
        "heartbeat" => "the gate runs",
        "restart" => "the gate started",
        "mode" => "a halt was set or lifted, or the mode switched",
        "break_glass" => "an emergency was opened or closed",
        "equivocation" => "a gate sealed two records for one place",
        "silence" => "verdicts that are in no log",
        other => other,
    }
}

/// Whether a row of this kind says more in its record than in itself.
pub(crate) fn says_more(row: &Row) -> bool {
    row.kind == Kind::Notice && ["mode", "break_glass", "silence"].contains(&row.about.as_str())
}

/// A notice in full, from its record: what was switched, by whom and why. `None` where the record
/// does not show it, or is of another make.
pub(crate) fn notice_in_full(view: &View) -> Option<String> {
    if view.kind() != Kind::Notice {
        return None;
    }
    let detail = view.get("detail")?;
    let text = |name: &str| detail.get(name).and_then(Value::as_str);
    let what = match (view.str("about")?, text("event")) {
        ("mode", Some("halt")) => format!("halted {}", scope(detail)?),
        ("mode", Some("resume")) => format!("resumed {}", scope(detail)?),
        ("mode", Some("mode")) => format!("mode {}", text("what")?),
        ("break_glass", Some("opened")) => format!("emergency opened until {}", text("until")?),
        ("break_glass", Some("closed")) => "emergency closed".to_owned(),
        ("silence", Some("outbox_full")) => format!(
            "{} requests refused without a record, from {} to {}",
            detail.get("refused")?,
            text("from")?,
            text("to")?
        ),
        ("silence", Some("rejected")) => {
            format!("a verdict of action {} is in no log: {}", text("action_id")?, text("code")?)
        }
        _ => return None,
    };
    let by = detail.get("by").and_then(|by| by.get("id")?.as_str());
    let by = by.map_or_else(String::new, |by| format!(" by {by}"));
    let why = text("reason").filter(|why| !why.trim().is_empty());
    Some(format!("{what}{by}{}", why.map_or_else(String::new, |why| format!(": {why}"))))
}

fn scope(detail: &Value) -> Option<String> {
    let what = detail.get("what")?;
    let member = |name: &str| what.get(name).and_then(Value::as_str);
    member("actor")
        .map(|actor| format!("actor {actor}"))
        .or_else(|| member("session").map(|session| format!("session {session}")))
        .or_else(|| what.get("tenant").map(|_| "the whole tenant".to_owned()))
}
