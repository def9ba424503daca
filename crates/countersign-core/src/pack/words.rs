//! Words that the report on a pack is made of.

use super::report::Counts;
use super::{Asked, Span};
use crate::encoding::Micros;
use crate::json::quoted;

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

/// The question: whose records, and what they must be.
pub(super) fn filters(asked: &Asked) -> String {
    // A value that is no plain word can't be taken for what stands around it.
    let value = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._:/@-".contains(c);
        if text.chars().all(plain) { text.to_owned() } else { quoted(text) }
    };
    let query = &asked.query;
    let mut parts: Vec<String> = query
        .filters()
        .iter()
        .map(|filter| format!("{} {}", filter.field(), value(filter.value())))
        .collect();
    parts.extend(query.from().map(|from| format!("logged from {} on", time_text(from))));
    parts.extend(query.to().map(|to| format!("logged before {}", time_text(to))));
    if parts.is_empty() {
        return format!("all records of {}", asked.tenant);
    }
    format!("records of {}: {}", asked.tenant, parts.join("; "))
}

impl Span {
    /// A sentence for whoever joins this pack to the one before or behind it.
    pub fn sentence(&self) -> String {
        let before = match self.first_seq {
            0 => "it is the stream's first".to_owned(),
            _ => format!("the one before it has root {}", self.prev.hex()),
        };
        let promise = self.interval_s.map_or_else(
            || "no promise bounds how long it may be silent".to_owned(),
            |interval_s| {
                let seconds = some(interval_s, "second", "seconds");
                format!("it promises not to be silent for longer than {seconds}")
            },
        );
        format!(
            "Stream {}: {}. The first is seq {} at index {}: {before}. The last is seq {} at index \
             {}, with root {}; {promise}.",
            self.stream.hex(),
            some(self.records, "record", "records"),
            self.first_seq,
            self.first,
            self.last_seq,
            self.last,
            self.last_root.hex()
        )
    }
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
        parts.push(format!("and {left} more"));
    }
    parts.join(", ")
}
