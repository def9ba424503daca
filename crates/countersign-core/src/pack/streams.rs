//! Streams as their evidence shows them: each record names the one before it, and a gate that
//! promised to be heard was heard (PACK-25, PACK-28).

use std::collections::{BTreeMap, HashMap};

use super::report::{FINDINGS_MAX, Findings, Gap, Place};
use crate::codes::Code;
use crate::encoding::{Micros, from_hex_array};
use crate::entry::Entry;
use crate::hash::RecordRoot;
use crate::kinds::Kind;
use crate::record::View;
use crate::stream::StreamId;

/// The longest interval that bounds a silence, a day: no gate of ours promises a longer one.
const INTERVAL_S_MAX: u64 = 86_400;
/// Microseconds that a record may come after its interval, whatever the interval.
const GRACE_US: u64 = 5_000_000;

/// The newest record of a stream.
struct Newest {
    index: u64,
    seq: u64,
    root: RecordRoot,
    logged_at: Micros,
    /// How long the stream last promised not to be silent.
    promise: Promise,
}

/// How long a stream promises not to be silent.
#[derive(Clone, Copy, Default)]
enum Promise {
    /// Nobody said.
    #[default]
    None,
    /// Not for longer than so many seconds.
    Seconds(u64),
    /// A notice may say, and what would tell is withheld.
    Withheld,
}

/// A record that stands in a stream.
pub(super) struct Standing<'a> {
    pub(super) index: u64,
    pub(super) entry: &'a Entry,
    pub(super) root: RecordRoot,
    pub(super) view: &'a View,
    /// Whether its number and time were checked in the log's own entries.
    pub(super) by_entries: bool,
    /// Whether it is one of those that a complete pack claims.
    pub(super) claimed: bool,
}

/// A claimed stream in the range, so that this pack can be joined to the one before and the one
/// behind: where it goes on from, and what it ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The stream.
    pub stream: StreamId,
    /// Its records in the range.
    pub records: u64,
    /// The index of the first.
    pub first: u64,
    /// The number of the first in its stream.
    pub first_seq: u64,
    /// The root of the record before that one, as it names it; zeros where it is the stream's first.
    pub prev: RecordRoot,
    /// The index of the last.
    pub last: u64,
    /// The number of the last in its stream.
    pub last_seq: u64,
    /// The root of the last.
    pub last_root: RecordRoot,
    /// Seconds that the stream promised, when it last did, not to be silent for longer than; `None`
    /// where no promise bounds how long it may be.
    pub interval_s: Option<u64>,
    /// Whether the record before the first is in the pack, or there is none.
    joined: bool,
}

/// The streams that evidence was read of.
#[derive(Default)]
pub(super) struct Streams {
    /// The first index of the range; `None` where nothing is claimed.
    from: Option<u64>,
    newest: HashMap<StreamId, Newest>,
    claimed: BTreeMap<StreamId, Span>,
    last_time: Micros,
    pub(super) gaps: Vec<Gap>,
}

impl Streams {
    pub(super) fn new(from: Option<u64>) -> Self {
        Self { from, ..Self::default() }
    }

    /// Reads the next record, in ascending order of indexes.
    pub(super) fn take(&mut self, record: &Standing<'_>, findings: &mut Findings) {
        let Standing { index, entry, root, view, .. } = *record;
        let place = Place::entry(index, entry.stream, entry.seq);
        if !record.by_entries && entry.logged_at < self.last_time {
            findings.fault(Code::PackTimeOrder.at_index(index), place.clone());
        }
        self.last_time = self.last_time.max(entry.logged_at);
        let before = self.newest.get(&entry.stream);
        if let Some(before) = before {
            follows(before, record, self.from, place, findings);
            if record.claimed
                && let Some(gap) = silence(entry.stream, before, entry.logged_at)
                && self.gaps.len() < FINDINGS_MAX
            {
                self.gaps.push(gap);
            }
        }
        if record.claimed {
            let span = self.claimed.entry(entry.stream).or_insert_with(|| begin(record, before));
            span.records += 1;
            (span.last, span.last_seq, span.last_root) = (index, entry.seq, root);
        }
        let promise = promised(view);
        if record.claimed && matches!(promise, Some(Promise::Withheld)) {
            let place = Place::entry(index, entry.stream, entry.seq);
            findings.warn(Code::GatePromiseWithheld.at_index(index), place);
        }
        let promise = promise.or(before.map(|before| before.promise)).unwrap_or_default();
        let newest = Newest { index, seq: entry.seq, root, logged_at: entry.logged_at, promise };
        self.newest.insert(entry.stream, newest);
    }

    /// Names the claimed streams that are silent at `now`, and those that the range cuts off from
    /// what came before; gives them all.
    pub(super) fn end(&mut self, now: Micros, findings: &mut Findings) -> Vec<Span> {
        let mut spans: Vec<Span> = std::mem::take(&mut self.claimed).into_values().collect();
        for span in &mut spans {
            // PACK-25. From 0 on the entries show that nothing came before.
            if !span.joined && self.from.is_some_and(|from| from > 0) {
                let place = Place::entry(span.first, span.stream, span.first_seq);
                findings.doubt(Code::PackBeginningUnshown.at_index(span.first), place);
            }
            let Some(newest) = self.newest.get(&span.stream) else { continue };
            if let Promise::Seconds(interval_s) = newest.promise {
                span.interval_s = Some(interval_s);
            }
            if silence(span.stream, newest, now).is_some() {
                let place = Place::entry(newest.index, span.stream, newest.seq);
                findings.warn(Code::GateSilent.at_index(newest.index), place);
            }
        }
        spans
    }
}

/// The first record of a claimed stream in the range, and the newest before it that the pack shows.
fn begin(record: &Standing<'_>, before: Option<&Newest>) -> Span {
    let Standing { index, entry, root, view, .. } = *record;
    let prev = view.str("prev").and_then(from_hex_array).map_or(RecordRoot([0; 32]), RecordRoot);
    let follows = before.is_some_and(|before| before.seq.checked_add(1) == Some(entry.seq));
    Span {
        stream: entry.stream,
        records: 0,
        first: index,
        first_seq: entry.seq,
        prev,
        last: index,
        last_seq: entry.seq,
        last_root: root,
        interval_s: None,
        joined: entry.seq == 0 || follows,
    }
}

/// What of a record's place the records before it in its stream contradict. Within a range the
/// entries say more than these, but for what stands in front of it.
fn follows(
    before: &Newest,
    record: &Standing<'_>,
    from: Option<u64>,
    place: Place,
    findings: &mut Findings,
) {
    let Standing { index, entry, .. } = *record;
    let begins = from.filter(|from| before.index < *from && index >= *from);
    if !record.by_entries || begins.is_some() {
        let steps = entry.seq.checked_sub(before.seq);
        // All numbers between the two stand between them, or in front of the range.
        let places = begins.unwrap_or(index).saturating_sub(before.index);
        let code = match steps {
            None | Some(0) => Some(Code::PackSeqRepeated),
            // There are more numbers between the two than places in the log.
            Some(steps) if steps > places => Some(Code::PackSeqGap),
            Some(_) => None,
        };
        if let Some(code) = code {
            findings.fault(code.at_index(index), place);
            return;
        }
    }
    let prev = record.view.str("prev").and_then(from_hex_array).map(RecordRoot);
    let next = before.seq.checked_add(1) == Some(entry.seq);
    if next && prev.is_some_and(|prev| prev != before.root) {
        findings.fault(Code::PackPrev.at_index(index), place);
    }
}

/// The silence after a record, where it is longer than the stream promised. A gate writes when its
/// interval is over, and the ledger logs it then: a tenth of the interval, and at least five
/// seconds, is no silence.
fn silence(stream: StreamId, newest: &Newest, until: Micros) -> Option<Gap> {
    let Promise::Seconds(interval_s) = newest.promise else { return None };
    let interval = interval_s.saturating_mul(1_000_000);
    let allowed = interval.saturating_add(GRACE_US.max(interval / 10));
    let silent = until.0.saturating_sub(newest.logged_at.0);
    (silent > allowed).then_some(Gap {
        stream,
        after: newest.index,
        from: newest.logged_at,
        to: until,
        interval_s,
    })
}

/// What a notice promises: `interval_s` of a heartbeat or a restart (PACK-28). One that withholds
/// whether it does is no reason to believe the promise before it.
fn promised(view: &View) -> Option<Promise> {
    let about = view.str("about");
    if view.kind() != Kind::Notice || !matches!(about, None | Some("heartbeat" | "restart")) {
        return None;
    }
    let Some(detail) = view.get("detail") else { return Some(Promise::Withheld) };
    let interval_s = detail.get("interval_s")?.as_u64()?;
    if about.is_none() {
        return Some(Promise::Withheld);
    }
    match interval_s {
        0 => None,
        1..=INTERVAL_S_MAX => Some(Promise::Seconds(interval_s)),
        // Whoever promises to be heard once in a hundred years promises nothing.
        _ => Some(Promise::None),
    }
}
