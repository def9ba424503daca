//! Words that the report on a pack is made of.

use super::report::Counts;
use crate::encoding::Micros;

/// A time as text, or that it lies past the last year that has one.
pub fn time_text(at: Micros) -> String {
    let text = at.format();
    if Micros::parse(&text) == Some(at) { text } else { "a time after the year 9999".to_owned() }
}

/// "3 intents, 5 verdicts (1 approve, 3 refuse, 1 supervise), …": what there is none of is left
/// out, but for verdicts.
pub(super) fn kinds(counts: &Counts) -> String {
    let verdicts = format!(
        "{} ({} approve, {} refuse, {} supervise)",
        some(counts.verdicts, "verdict", "verdicts"),
        counts.approve,
        counts.refuse,
        counts.supervise
    );
    let rest = [
        (counts.intents, "intent", "intents"),
        (counts.shadow, "verdict in shadow mode", "verdicts in shadow mode"),
        (counts.approvals, "answer by a person", "answers by people"),
        (counts.outcomes, "outcome", "outcomes"),
        (counts.policies, "policy", "policies"),
        (counts.grants, "grant", "grants"),
        (counts.notices, "notice", "notices"),
    ];
    let rest = rest.into_iter().filter(|(count, ..)| *count > 0);
    std::iter::once(verdicts)
        .chain(rest.map(|(count, one, many)| some(count, one, many)))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn some(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Indexes, runs of them as `9-12`, cut after `most` parts.
pub(super) fn indexes(all: &[u64], most: usize) -> String {
    if all.is_empty() {
        return "none".to_owned();
    }
    let mut runs = all.chunk_by(|a, b| a + 1 == *b);
    let mut parts: Vec<String> = runs
        .by_ref()
        .take(most)
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            [only] => only.to_string(),
            [] => String::new(),
        })
        .collect();
    let left: usize = runs.map(<[u64]>::len).sum();
    if left > 0 {
        parts.push(format!("and {left} more (all in the JSON report)"));
    }
    parts.join(", ")
}
