//! OCSF 1.3 events (schema.ocsf.io), one JSON object a line (XCH-2).
//!
//! What is about an action is an API Activity (6003), what changes who may do what an Entity
//! Management (3004), a notice of the service itself an Application Lifecycle (6002). `raw_data` is
//! the evidence file, letter by letter; `unmapped` the record's line as `countersign query` has it.

use countersign_core::encoding::hex;
use countersign_core::hash::sha256;
use countersign_core::json::spelt_out;
use countersign_core::kinds::Kind;
use serde_json::{Value, json};

use super::Event;
use crate::query::row::{event_code, row_json, word};

const SCHEMA: &str = "1.3.0";
const API_ACTIVITY: u64 = 6003;
const ENTITY_MANAGEMENT: u64 = 3004;
const APPLICATION_LIFECYCLE: u64 = 6002;
const OTHER: u64 = 99;

pub(super) fn line(event: &Event<'_>) -> String {
    let row = event.row;
    let (class, activity) = class_of(event);
    let (status, action, disposition, severity) = outcome_ids(event);
    let mut object = json!({
        "activity_id": activity,
        "category_uid": class / 1000,
        "class_uid": class,
        "type_uid": class * 100 + activity,
        "severity_id": severity,
        "status_id": status,
        "status": word(row),
        "action_id": action,
        "disposition_id": disposition,
        // OCSF counts milliseconds; the exact time is in unmapped and raw_data.
        "time": row.logged_at.0 / 1_000,
        "message": message(event),
        "metadata": {
            "version": SCHEMA,
            "profiles": ["security_control"],
            "product": {
                "name": "Countersign",
                "vendor_name": "Countersign",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "uid": format!("{}#{}", event.origin, row.index.0),
            "log_name": event.origin,
            "sequence": row.index.0,
            "original_time": row.recorded_at,
            "correlation_uid": row.action_id,
            "event_code": event_code(row),
        },
        "raw_data": event.evidence,
        "raw_data_hash": { "algorithm_id": 3, "algorithm": "SHA-256",
            "value": hex(&sha256(event.evidence.as_bytes())) },
    });
    let special = match class {
        API_ACTIVITY => api(event),
        ENTITY_MANAGEMENT => json!({
            "entity": { "type": row.kind.as_str(), "name": word(row), "uid": row.root.hex() },
            "actor": actor(event),
        }),
        _ => json!({ "app": { "name": row.gate, "vendor_name": "Countersign" } }),
    };
    if let (Some(object), Value::Object(special)) = (object.as_object_mut(), special) {
        object.extend(special);
    }
    let mut object = without_empty(object);
    if let Some(object) = object.as_object_mut() {
        // As a query has it, all members present. What this exporter found is for searching (XCH-5).
        let unmapped = json!({ "countersign": row_json(row), "verified": event.result.as_str() });
        object.insert("unmapped".to_owned(), unmapped);
    }
    spelt_out(&object.to_string())
}

/// A value without its members that hold nothing: OCSF has no empty texts, objects or arrays.
fn without_empty(value: Value) -> Value {
    let holds = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    match value {
        Value::Array(all) => all.into_iter().map(without_empty).filter(holds).collect(),
        Value::Object(all) => {
            let members = all.into_iter().map(|(name, value)| (name, without_empty(value)));
            Value::Object(members.filter(|(_, value)| holds(value)).collect())
        }
        value => value,
    }
}

/// The log index of a line.
pub(super) fn index_of(line: &str) -> Option<u64> {
    let value: Value = serde_json::from_str(line).ok()?;
    value.pointer("/unmapped/countersign/index")?.as_u64()
}

fn class_of(event: &Event<'_>) -> (u64, u64) {
    let row = event.row;
    match row.kind {
        Kind::Intent | Kind::Verdict | Kind::Approval | Kind::Outcome => {
            let activity = match row.action_class.as_str() {
                "create" => 1,
                "read" => 2,
                "modify" | "permissions" => 3,
                "delete" => 4,
                _ => OTHER,
            };
            (API_ACTIVITY, activity)
        }
        Kind::Policy => (ENTITY_MANAGEMENT, 3),
        Kind::Erasure => (ENTITY_MANAGEMENT, 4),
        Kind::Grant | Kind::Stream | Kind::Key | Kind::Genesis => (ENTITY_MANAGEMENT, 1),
        Kind::Notice => (APPLICATION_LIFECYCLE, OTHER),
    }
}

/// `status_id`, `action_id`, `disposition_id` and `severity_id`.
fn outcome_ids(event: &Event<'_>) -> (u64, u64, u64, u64) {
    let row = event.row;
    match (row.kind, row.outcome.as_str(), row.mode.as_str()) {
        // It was looked at, and nothing was let through or held up.
        (Kind::Verdict, _, "shadow") => (OTHER, 3, OTHER, 1),
        (Kind::Verdict, "approve", _) => (1, 1, 1, 1),
        (Kind::Verdict, "refuse", _) => (2, 2, 2, 3),
        (Kind::Verdict, ..) => (OTHER, OTHER, OTHER, 2),
        (Kind::Approval, ..) if row.decision == "deny" => (2, 2, 2, 2),
        (Kind::Outcome, ..) if row.result == "failed" => (2, OTHER, OTHER, 2),
        _ => (1, OTHER, OTHER, 1),
    }
}

fn message(event: &Event<'_>) -> String {
    let row = event.row;
    let on = if row.resource.is_empty() { String::new() } else { format!(" on {}", row.resource) };
    let what = [row.kind.as_str(), &word(row), &row.action].join(" ");
    format!("{}{on}", what.trim())
}

fn actor(event: &Event<'_>) -> Value {
    let row = event.row;
    let who = if row.approver.is_empty() { &row.actor } else { &row.approver };
    // Persons, and programs as what OCSF calls a service or system account.
    let human = !row.approver.is_empty() || row.actor_kind == "human";
    let account = (!who.is_empty()).then_some(if human { 1 } else { 3 });
    json!({
        "user": { "uid": who, "name": who, "type_id": account },
        "session": { "uid": row.session },
        "app_name": row.gate,
    })
}

fn api(event: &Event<'_>) -> Value {
    let row = event.row;
    let labels = match row.environment.as_str() {
        "" => Vec::new(),
        environment => vec![format!("environment={environment}")],
    };
    json!({
        "actor": actor(event),
        "api": {
            "operation": if row.action.is_empty() { row.kind.as_str() } else { &row.action },
            "service": { "name": row.gate },
            "request": { "uid": row.action_id },
        },
        "src_endpoint": { "svc_name": row.gate },
        "resources": [{
            "uid": row.resource,
            "name": row.resource,
            "type": row.resource_type,
            "labels": labels,
        }],
        "policy": {
            "name": row.policy_id,
            "uid": row.policy_digest,
            "version": row.policy_version,
        },
        "status_detail": row.reasons.join(","),
    })
}
