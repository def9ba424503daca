//! Faults as arguments: which writes of a [`MemoryStore`](crate::memory::MemoryStore) fail, and how.

use std::collections::BTreeMap;

use crate::rng::SplitMix64;

/// A call that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Write {
    /// `Store::acquire`
    Acquire,
    /// `Store::commit`
    Commit,
    /// `Store::publish`
    Publish,
    /// `Store::put_blob`
    PutBlob,
    /// `Store::scrub`, where it has something to do.
    Scrub,
}

/// How a write fails. A write that its own arguments doom never gets so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// `Unknown`, and yet everything was written. The lease is lost.
    Persisted,
    /// `Unknown`, and nothing was written. The lease is lost.
    Lost,
    /// `Rejected`: nothing was written, and the lease may be used again.
    Rejected,
    /// `Fenced`: another writer took over just before.
    Fenced,
}

impl Injected {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Persisted, Self::Lost, Self::Rejected, Self::Fenced];
}

/// Which writes fail. Each write asks once; the nth is counted from 0.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    any: BTreeMap<u64, Injected>,
    of: BTreeMap<(Write, u64), Injected>,
    random: Option<(SplitMix64, u32)>,
    writes: u64,
    writes_of: BTreeMap<Write, u64>,
    fired: u64,
}

impl Faults {
    /// No write fails.
    pub fn none() -> Self {
        Self::default()
    }

    /// Of 1,000 writes so many fail, at places and in ways that the seed gives.
    pub fn seeded(seed: u64, per_1000: u32) -> Self {
        Self { random: Some((SplitMix64::new(seed), per_1000)), ..Self::default() }
    }

    /// The first writes go as the script says, all later ones well.
    pub fn script(script: impl IntoIterator<Item = Option<Injected>>) -> Self {
        let any = (0..).zip(script).filter_map(|(n, fault)| fault.map(|fault| (n, fault)));
        Self { any: any.collect(), ..Self::default() }
    }

    /// The nth write of any kind fails.
    pub fn nth(n: u64, fault: Injected) -> Self {
        Self { any: BTreeMap::from([(n, fault)]), ..Self::default() }
    }

    /// And the nth write of this kind fails as well.
    #[must_use]
    pub fn and_on(mut self, write: Write, n: u64, fault: Injected) -> Self {
        self.of.insert((write, n), fault);
        self
    }

    /// Writes that asked so far.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Faults that were given out so far.
    pub fn fired(&self) -> u64 {
        self.fired
    }

    /// What becomes of the next write.
    pub(crate) fn next(&mut self, write: Write) -> Option<Injected> {
        let of = self.writes_of.entry(write).or_default();
        let planned = self.of.get(&(write, *of)).or_else(|| self.any.get(&self.writes)).copied();
        *of += 1;
        self.writes += 1;
        let random = self.random.as_mut().and_then(|(rng, per_1000)| {
            // Both numbers are drawn each time, so that the rate doesn't shift what follows.
            let (dice, way) = (rng.below(1_000), rng.next_u64().to_be_bytes()[0]);
            let way = Injected::ALL.into_iter().cycle().nth(usize::from(way % 4));
            way.filter(|_| dice < u64::from(*per_1000))
        });
        let fault = planned.or(random);
        self.fired += u64::from(fault.is_some());
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_a_script_is_followed() {
        let run = |mut faults: Faults| -> Vec<Option<Injected>> {
            (0..2_000).map(|_| faults.next(Write::Commit)).collect()
        };
        assert_eq!(run(Faults::seeded(7, 100)), run(Faults::seeded(7, 100)));
        assert_ne!(run(Faults::seeded(7, 100)), run(Faults::seeded(8, 100)));
        let hit = run(Faults::seeded(7, 100)).into_iter().flatten().collect::<Vec<_>>();
        assert!((100..300).contains(&hit.len()), "{}", hit.len());
        assert!(Injected::ALL.iter().all(|way| hit.contains(way)));
        assert!(run(Faults::seeded(7, 0)).iter().all(Option::is_none));
        assert!(run(Faults::seeded(7, 1_000)).iter().all(Option::is_some));

        let script = [None, Some(Injected::Lost)];
        let mut faults = Faults::script(script).and_on(Write::Publish, 1, Injected::Fenced);
        assert_eq!(faults.next(Write::Acquire), None);
        assert_eq!(faults.next(Write::Publish), Some(Injected::Lost));
        assert_eq!(faults.next(Write::Commit), None);
        assert_eq!(faults.next(Write::Publish), Some(Injected::Fenced));
        assert_eq!((faults.writes(), faults.fired()), (4, 2));
        assert_eq!(Faults::nth(0, Injected::Lost).next(Write::PutBlob), Some(Injected::Lost));
    }
}
