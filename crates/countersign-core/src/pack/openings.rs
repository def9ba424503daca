//! Where streams begin: each where the ledger opened it, with number 0, and what came before the range
//! found room there (PACK-23, PACK-31).

use std::collections::{BTreeSet, HashMap};

use super::report::{Findings, Place};
use crate::codes::Code;
use crate::encoding::from_hex_array;
use crate::record::View;
use crate::stream::StreamId;

/// What a range shows of a stream.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// The index of its first entry.
    pub(super) first: u64,
    /// The number of that one.
    pub(super) first_seq: u64,
    /// The number of its newest one.
    pub(super) last_seq: u64,
}

/// What the pack's evidence shows of the ledger's records about streams.
#[derive(Default)]
pub(super) struct Opened {
    /// Where each stream was opened.
    pub(super) streams: HashMap<StreamId, u64>,
    /// Records that withhold which stream they open, or whose.
    pub(super) untold: Vec<u64>,
}

impl Opened {
    /// Takes one such record, in ascending order of indexes.
    pub(super) fn take(&mut self, index: u64, view: &View) {
        let stream = view.str("subject_stream").and_then(from_hex_array).map(StreamId);
        let whose = ["event", "gate_key", "subject_gate", "subject_tenant"];
        let Some(stream) = stream.filter(|_| whose.iter().all(|name| view.get(name).is_some()))
        else {
            self.untold.push(index);
            return;
        };
        if view.str("event") == Some("open") {
            self.streams.entry(stream).or_insert(index);
        }
    }
}

/// All that is known of where the streams of a range begin.
pub(super) struct Beginnings<'a> {
    /// The first index of the range.
    pub(super) from: u64,
    pub(super) seen: &'a HashMap<StreamId, Seen>,
    /// Records about streams in the range that the pack doesn't show, ascending.
    pub(super) unshown: &'a [u64],
    /// Where streams were opened, before the range or in it.
    pub(super) shown: &'a HashMap<StreamId, u64>,
    /// What claimed streams begin with.
    pub(super) prefixes: &'a BTreeSet<[u8; 12]>,
}

impl Beginnings<'_> {
    /// Names what begins where it can't, and what nobody shows whose it is; gives how many streams
    /// these are.
    pub(super) fn judge(&self, findings: &mut Findings) -> u64 {
        let mut streams: Vec<(StreamId, Seen)> =
            self.seen.iter().map(|(stream, seen)| (*stream, *seen)).collect();
        streams.sort_unstable_by_key(|(_, seen)| seen.first);
        let own = streams.iter().find(|(stream, _)| *stream == StreamId::LEDGER).copied();
        streams.retain(|(stream, _)| *stream != StreamId::LEDGER);
        if self.from > 0 {
            self.room(&streams, own, findings);
        }
        // Openings that are not shown, and are taken to be those of streams that begin here.
        let mut used = 0;
        let mut unshown = 0;
        for (stream, seen) in &streams {
            let place = Place::entry(seen.first, *stream, seen.first_seq);
            if let Some(opened) = self.shown.get(stream) {
                self.shown(*opened, seen, place, findings);
                continue;
            }
            let claimed =
                stream.0.first_chunk().is_some_and(|prefix| self.prefixes.contains(prefix));
            unshown += u64::from(!claimed);
            let before = self.unshown.partition_point(|at| *at < seen.first);
            // One that began before the range has no opening in it, and neither, for all that is
            // known, has one that finds none.
            if (self.from == 0 || seen.first_seq == 0) && used < before {
                used += 1;
            } else if self.from == 0 {
                findings.fault(Code::PackStreamUnopened.at_index(seen.first), place);
            } else if !claimed {
                findings.warn(Code::PackStreamUnshown.at_index(seen.first), place);
            }
        }
        for index in self.unshown {
            let place = Place { index: Some(*index), ..Place::default() };
            findings.warn(Code::PackStreamUnshown.at_index(*index), place);
        }
        unshown
    }

    /// A stream whose opening is shown.
    fn shown(&self, opened: u64, seen: &Seen, place: Place, findings: &mut Findings) {
        if seen.first < opened {
            findings.fault(Code::PackStreamUnopened.at_index(seen.first), place);
            return;
        }
        // From 0 on every first number was looked at already.
        if self.from > 0 && seen.first_seq > self.after(opened) {
            findings.fault(Code::PackSeqGap.at_index(seen.first), place);
        }
    }

    /// Places between the opening of a stream and the range, where it may have used numbers.
    fn after(&self, opened: u64) -> u64 {
        self.from.saturating_sub(opened.saturating_add(1))
    }

    /// Whether all numbers that stand before the range find a place there: each is an entry, each
    /// stream that has some was opened by one of the ledger's own, and the first of those is the
    /// genesis.
    fn room(
        &self,
        streams: &[(StreamId, Seen)],
        own: Option<(StreamId, Seen)>,
        findings: &mut Findings,
    ) {
        let gap = |(stream, seen): &(StreamId, Seen), code: Code, findings: &mut Findings| {
            let place = Place::entry(seen.first, *stream, seen.first_seq);
            findings.fault(code.at_index(seen.first), place);
        };
        // One that its own opening leaves no room for is named there.
        let fits = |(stream, seen): &&(StreamId, Seen)| {
            let opened = self.shown.get(stream);
            seen.first_seq > 0 && opened.is_none_or(|at| seen.first_seq <= self.after(*at))
        };
        let begun: Vec<&(StreamId, Seen)> = streams.iter().filter(fits).collect();
        let shown = self.shown.values().filter(|at| **at < self.from).count();
        let others = begun.iter().filter(|(stream, _)| !self.shown.contains_key(stream)).count();
        let least = 1 + shown as u64 + others as u64;
        let ledgers = own.map_or(least, |(_, seen)| seen.first_seq);
        // The last of those that the ledger has no room to have opened.
        let unopened = begun.iter().rfind(|(stream, _)| !self.shown.contains_key(stream));
        if let Some(last) = unopened.filter(|_| ledgers < least) {
            gap(last, Code::PackStreamUnopened, findings);
            return;
        }
        if let Some(own) = own.filter(|(_, seen)| seen.first_seq > self.from) {
            gap(&own, Code::PackSeqGap, findings);
            return;
        }
        let mut left = self.from.saturating_sub(ledgers);
        for stream in begun {
            match left.checked_sub(stream.1.first_seq) {
                Some(less) => left = less,
                None => gap(stream, Code::PackSeqGap, findings),
            }
        }
    }
}
