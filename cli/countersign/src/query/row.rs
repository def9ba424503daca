//! One record as a line: JSON for programs, a table for people.

use std::collections::BTreeMap;

use comfy_table::{ContentArrangement, Table, presets};
use countersign_core::encoding::escaped;
use countersign_core::json::spelt_out;
use countersign_core::kinds::Kind;
use countersign_core::query::Row;
use serde_json::{Value, json};

use super::words::says;

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

/// What came out of it, as one of a bounded list of words: the kind, and what its record's closed
/// lists say. It names no policy, grant or index, so that a receiver can count by it.
pub(crate) fn event_code(row: &Row) -> String {
    let said = match row.kind {
        Kind::Verdict => row.outcome.as_str(),
        Kind::Approval => row.decision.as_str(),
        Kind::Outcome => row.result.as_str(),
        Kind::Notice | Kind::Stream | Kind::Key => row.about.as_str(),
        Kind::Intent | Kind::Policy | Kind::Grant | Kind::Erasure | Kind::Genesis => "",
    };
    let shadow = if row.kind == Kind::Verdict && row.mode == "shadow" { ".shadow" } else { "" };
    let kind = row.kind.as_str();
    // A key's event may be any text: one that is no word is not a code.
    let is_word = said.len() <= 32 && said.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if said.is_empty() || !is_word {
        format!("{kind}{shadow}")
    } else {
        format!("{kind}.{said}{shadow}")
    }
}

/// The row as one line of JSON, with nothing in it that could pass for a line's end.
pub(crate) fn jsonl(row: &Row) -> String {
    spelt_out(&row_json(row).to_string())
}

/// Who acted: the person who signed, or else the actor.
fn who(row: &Row) -> &str {
    if row.approver.is_empty() { &row.actor } else { &row.approver }
}

fn place(row: &Row) -> String {
    match (row.resource.as_str(), row.environment.as_str()) {
        (resource, "") => resource.to_owned(),
        (resource, environment) => format!("{resource} ({environment})"),
    }
}

/// A row's cells for people, in the order of the table's columns; `more` is what its record says
/// beyond the row. Everything is escaped.
fn cells(row: &Row, more: Option<&str>) -> [String; 10] {
    [
        row.index.0.to_string(),
        row.logged_at.format(),
        row.kind.as_str().to_owned(),
        more.map_or_else(|| says(row), str::to_owned),
        who(row).to_owned(),
        row.action.clone(),
        place(row),
        row.ticket.clone(),
        row.reasons.join(","),
        row.action_id.clone(),
    ]
    .map(|cell| escaped(&cell))
}

/// The table that people read; each line begins with its index. `more` says by index what records
/// say beyond their rows.
pub(crate) fn table(rows: &[Row], more: &BTreeMap<u64, String>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "INDEX",
        "LOGGED",
        "KIND",
        "SAYS",
        "WHO",
        "ACTION",
        "ON",
        "WHY",
        "CODES",
        "ACTION ID",
    ]);
    for row in rows {
        table.add_row(cells(row, more.get(&row.index.0).map(String::as_str)));
    }
    table.trim_fmt()
}

/// One row for people who watch: what a table would have, without what is empty.
pub(crate) fn line(row: &Row, more: Option<&str>) -> String {
    let cells = cells(row, more);
    let shown: Vec<&str> =
        cells.iter().map(String::as_str).filter(|cell| !cell.is_empty()).collect();
    shown.join("  ")
}

#[cfg(test)]
mod tests {
    use countersign_core::encoding::Micros;
    use countersign_core::hash::{LeafIndex, RecordRoot};
    use countersign_core::stream::StreamId;

    use super::*;

    fn row(kind: Kind, text: &str) -> Row {
        Row {
            index: LeafIndex(7),
            kind,
            logged_at: Micros(1_795_435_201_500_000),
            stream: StreamId([1; 16]),
            seq: 3,
            root: RecordRoot([2; 32]),
            erased: false,
            gate: "prod-1".to_owned(),
            recorded_at: String::new(),
            action_id: text.to_owned(),
            action: text.to_owned(),
            action_class: String::new(),
            actor: text.to_owned(),
            actor_kind: String::new(),
            on_behalf_of: String::new(),
            session: String::new(),
            ticket: String::new(),
            grant: text.to_owned(),
            justification: String::new(),
            resource_type: String::new(),
            resource: text.to_owned(),
            environment: String::new(),
            outcome: "refuse".to_owned(),
            mode: "enforce".to_owned(),
            reasons: Vec::new(),
            policy_id: text.to_owned(),
            policy_version: "3".to_owned(),
            policy_digest: String::new(),
            parent: String::new(),
            verdict: String::new(),
            approver: String::new(),
            decision: "grant".to_owned(),
            result: "executed".to_owned(),
            about: "mode".to_owned(),
        }
    }

    /// Every kind says what happened, and a notice what its record says where that is known.
    #[test]
    fn a_table_speaks_in_words_and_escapes_them() {
        let hostile = "a\u{202e}\u{2028}\nb";
        let rows = Kind::ALL.map(|kind| row(kind, hostile));
        let more = BTreeMap::from([(7, format!("halted {hostile}"))]);
        for (more, words) in [(&BTreeMap::new(), "a halt was set or lifted"), (&more, "halted a")] {
            let table = table(&rows, more);
            assert_eq!(table.lines().count(), 1 + rows.len(), "{table}");
            assert!(table.contains(words) && table.contains("ACTION ID"), "{table}");
            assert!(!table.contains(['\u{202e}', '\u{2028}']), "{table}");
        }
        let says = |kind: Kind| line(&row(kind, "x"), None);
        for (kind, words) in [
            (Kind::Grant, "authority granted: x"),
            (Kind::Policy, "rules in force: x 3"),
            (Kind::Approval, "granted by a person"),
            (Kind::Outcome, "reported: executed"),
        ] {
            assert!(says(kind).contains(words), "{}", says(kind));
        }
        for kind in Kind::ALL {
            let line = jsonl(&row(kind, hostile));
            assert_eq!(escaped(&line), line);
        }
    }
}
