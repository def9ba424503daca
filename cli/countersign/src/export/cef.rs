//! CEF lines (ArcSight Common Event Format, version 0), with the evidence in base64 as a field of
//! our own, `countersignEvidence` (XCH-2, XCH-4).

use countersign_core::encoding::{b64, escaped, from_decimal};
use countersign_core::kinds::Kind;

use super::Event;
use crate::query::row::{event_code, word};

pub(super) fn line(event: &Event<'_>) -> String {
    let row = event.row;
    let name = format!("{} {}", row.kind.as_str(), word(row));
    let head = [
        "CEF:0".to_owned(),
        "Countersign".to_owned(),
        "Countersign".to_owned(),
        env!("CARGO_PKG_VERSION").to_owned(),
        header(&event_code(row)),
        header(&name),
        severity(event).to_string(),
    ];
    let who = if row.approver.is_empty() { &row.actor } else { &row.approver };
    let fields = [
        // The index comes first, so that the last line of a file says where to go on.
        ("externalId", row.index.0.to_string()),
        ("rt", (row.logged_at.0 / 1_000).to_string()),
        ("cat", row.kind.as_str().to_owned()),
        ("dvchost", row.gate.clone()),
        ("suser", who.clone()),
        ("act", word(row)),
        ("request", row.action.clone()),
        ("reason", row.reasons.join(",")),
        ("msg", row.justification.clone()),
    ];
    let policy = format!("{} {}", row.policy_id, row.policy_version);
    // Fields of ours: a name, what it holds, a label that says what that is.
    let labelled = [
        ("cs1", row.session.as_str(), "session"),
        ("cs2", row.ticket.as_str(), "ticket"),
        ("cs3", row.resource.as_str(), "resource"),
        ("cs4", policy.trim(), "policy"),
        ("cs5", row.action_id.as_str(), "action"),
        ("cs6", event.origin, "log"),
    ];
    let labelled = labelled.into_iter().filter(|(_, value, _)| !value.is_empty()).flat_map(
        |(name, value, label)| {
            [(name.to_owned(), value.to_owned()), (format!("{name}Label"), label.to_owned())]
        },
    );
    let evidence = ("countersignEvidence".to_owned(), b64(event.evidence.as_bytes()));
    let fields: Vec<String> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value))
        .chain(labelled)
        .chain([evidence])
        .map(|(name, value)| format!("{name}={}", extension(&value)))
        .collect();
    format!("{}|{}", head.join("|"), fields.join(" "))
}

/// The log index of a line.
pub(super) fn index_of(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("CEF:0|")?;
    let (_, rest) = rest.split_once("|externalId=")?;
    from_decimal(rest.split(' ').next()?)
}

fn severity(event: &Event<'_>) -> u8 {
    let row = event.row;
    match (row.kind, row.outcome.as_str(), row.mode.as_str()) {
        (Kind::Verdict, "refuse", "enforce") => 6,
        (Kind::Verdict, "supervise", "enforce") => 4,
        _ => 2,
    }
}

/// In the head, `\` and `|` are escaped, and a line is a line.
fn header(text: &str) -> String {
    text.chars().map(|c| if c == '|' { "\\|".to_owned() } else { plain(c) }).collect()
}

/// In the extension, `\` and `=` are escaped, and line ends are written as `\n` and `\r`.
fn extension(text: &str) -> String {
    let spelt = |c| match c {
        '=' => "\\=".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        c => plain(c),
    };
    text.chars().map(spelt).collect()
}

/// A backslash escaped; what a terminal or a line-based reader could take for the end of a line, and
/// other invisible characters, spelt out.
fn plain(c: char) -> String {
    escaped(c.encode_utf8(&mut [0; 4])).replace('\\', "\\\\")
}
