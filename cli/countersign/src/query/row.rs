//! One record as a line: JSON for programs, a table for people.

use comfy_table::{ContentArrangement, Table, presets};
use countersign_core::encoding::escaped;
use countersign_core::kinds::Kind;
use countersign_core::query::Row;
use serde_json::{Value, json};

/// A row's members, all present; what it doesn't have is an empty text.
pub(crate) fn row_json(row: &Row) -> Value {
    json!({
        "index": row.index.0,
        "kind": row.kind.as_str(),
        "logged_at": row.logged_at.format(),
        "stream": row.stream.hex(),
        "seq": row.seq,
        "root": row.root.hex(),
        "erased": row.erased,
        "gate": row.gate,
        "recorded_at": row.recorded_at,
        "action_id": row.action_id,
        "action": row.action,
        "action_class": row.action_class,
        "actor": row.actor,
        "actor_kind": row.actor_kind,
        "on_behalf_of": row.on_behalf_of,
        "session": row.session,
        "ticket": row.ticket,
        "grant": row.grant,
        "justification": row.justification,
        "resource_type": row.resource_type,
        "resource": row.resource,
        "environment": row.environment,
        "outcome": row.outcome,
        "mode": row.mode,
        "reasons": row.reasons,
        "policy_id": row.policy_id,
        "policy_version": row.policy_version,
        "policy_digest": row.policy_digest,
        "parent": row.parent,
        "verdict": row.verdict,
        "approver": row.approver,
        "decision": row.decision,
        "result": row.result,
        "about": row.about,
    })
}

/// What a record says in one word: the outcome, the decision, the result.
pub(crate) fn word(row: &Row) -> String {
    let said = match row.kind {
        Kind::Verdict if row.mode == "shadow" => format!("{} (shadow)", row.outcome),
        Kind::Verdict => row.outcome.clone(),
        Kind::Approval => row.decision.clone(),
        Kind::Outcome => row.result.clone(),
        Kind::Policy => format!("{} {}", row.policy_id, row.policy_version),
        Kind::Grant => row.grant.clone(),
        _ => row.about.clone(),
    };
    if row.erased { format!("{said} (erased)").trim_start().to_owned() } else { said }
}

/// The table that people read; each line begins with its index. Everything is escaped.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["INDEX", "LOGGED", "KIND", "SAYS", "WHO", "ACTION", "ON", "WHY", "CODES"]);
    for row in rows {
        let who = if row.approver.is_empty() { &row.actor } else { &row.approver };
        let place = match (row.resource.as_str(), row.environment.as_str()) {
            (resource, "") => resource.to_owned(),
            (resource, environment) => format!("{resource} ({environment})"),
        };
        let cells = [
            row.index.0.to_string(),
            row.logged_at.format(),
            row.kind.as_str().to_owned(),
            word(row),
            who.clone(),
            row.action.clone(),
            place,
            row.ticket.clone(),
            row.reasons.join(","),
        ];
        table.add_row(cells.map(|cell| escaped(&cell)));
    }
    table.trim_fmt()
}
