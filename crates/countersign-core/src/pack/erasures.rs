//! Erasures that explain why a record shows less (PACK-29).

use crate::encoding::Micros;
use crate::kinds::parse_ranges;
use crate::record::View;

/// What the last line of an erasure's reason begins with.
const FLOOR: &str = "retention floor: ";

/// An erasure that the tenant's own person signed.
struct Erasure {
    /// Its own place in the log: it can't have erased what came later.
    index: u64,
    ranges: Vec<(u64, u64)>,
    /// What was logged then or later was not to be erased.
    floor: Micros,
}

impl Erasure {
    /// Whether its ranges, which ascend, hold this index.
    fn names(&self, index: u64) -> bool {
        let at = self.ranges.partition_point(|(_, to)| *to < index);
        self.ranges.get(at).is_some_and(|(from, _)| *from <= index)
    }
}

/// The erasures that were read so far.
#[derive(Default)]
pub(super) struct Erasures(Vec<Erasure>);

impl Erasures {
    /// Takes one that verified. One that names no floor erases nothing: the ledger takes none such.
    pub(super) fn take(&mut self, index: u64, view: &View) {
        let ranges = view.str("entries").and_then(parse_ranges);
        let floor = view.str("reason").and_then(floor_of);
        if let (Some(ranges), Some(floor)) = (ranges, floor) {
            self.0.push(Erasure { index, ranges, floor });
        }
    }

    /// Whether the record at this index, logged then, was erased by one of them.
    pub(super) fn explain(&self, index: u64, logged_at: Micros) -> bool {
        self.0.iter().any(|erasure| {
            index < erasure.index && logged_at < erasure.floor && erasure.names(index)
        })
    }
}

/// The floor in the last line of the reason, which the person's signature covers.
fn floor_of(reason: &str) -> Option<Micros> {
    reason.rsplit_once('\n')?.1.strip_prefix(FLOOR).and_then(Micros::parse)
}
