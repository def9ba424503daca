//! Streams as their evidence shows them: each record names the one before it, and a gate that
//! promised to be heard was heard (PACK-25, PACK-28).

use std::collections::{BTreeSet, HashMap};

use super::report::{FINDINGS_MAX, Findings, Gap, Place};
use crate::codes::Code;
use crate::encoding::{Micros, from_hex_array};
use crate::entry::Entry;
use crate::hash::RecordRoot;
use crate::kinds::Kind;
use crate::record::View;
use crate::stream::StreamId;

/// An interval that nobody can mean: a hundred years of seconds.
const INTERVAL_S_MAX: u64 = 100 * 366 * 86_400;
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

/// The streams that evidence was read of.
#[derive(Default)]
pub(super) struct Streams {
    newest: HashMap<StreamId, Newest>,
    claimed: BTreeSet<StreamId>,
    last_time: Micros,
    pub(super) gaps: Vec<Gap>,
}

impl Streams {
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
            follows(before, record, place, findings);
            if record.claimed
                && let Some(gap) = silence(entry.stream, before, entry.logged_at)
                && self.gaps.len() < FINDINGS_MAX
            {
                self.gaps.push(gap);
            }
        }
        if record.claimed {
            self.claimed.insert(entry.stream);
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

    /// Names the claimed streams that are silent at `now`; gives the number of claimed streams, and
    /// of those that promise nothing.
    pub(super) fn end(&self, now: Micros, findings: &mut Findings) -> (u64, u64) {
        let mut unbounded = 0;
        for stream in &self.claimed {
            let Some(newest) = self.newest.get(stream) else { continue };
            unbounded += u64::from(!matches!(newest.promise, Promise::Seconds(_)));
            if silence(*stream, newest, now).is_some() {
                let place = Place::entry(newest.index, *stream, newest.seq);
                findings.warn(Code::GateSilent.at_index(newest.index), place);
            }
        }
        (self.claimed.len() as u64, unbounded)
    }
}

/// What of a record's place the records before it in its stream contradict.
fn follows(before: &Newest, record: &Standing<'_>, place: Place, findings: &mut Findings) {
    let Standing { index, entry, .. } = *record;
    if !record.by_entries {
        let steps = entry.seq.checked_sub(before.seq);
        let code = match steps {
            None | Some(0) => Some(Code::PackSeqRepeated),
            // There are more numbers between the two than places in the log.
            Some(steps) if steps > index.saturating_sub(before.index) => Some(Code::PackSeqGap),
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
    (1..=INTERVAL_S_MAX).contains(&interval_s).then_some(Promise::Seconds(interval_s))
}
