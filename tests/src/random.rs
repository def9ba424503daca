//! Random numbers that a printed seed repeats.

use std::time::{SystemTime, UNIX_EPOCH};

use countersign_testkit::rng::SplitMix64;

/// The testkit's generator, with what these tests draw from it.
#[derive(Debug, Clone)]
pub struct Random(SplitMix64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// From `COUNTERSIGN_SEED`, or else from the clock; prints which, so that a failure can be had
    /// again.
    pub fn announced(test: &str) -> Self {
        let seed = std::env::var("COUNTERSIGN_SEED").ok().map(|text| {
            text.parse().unwrap_or_else(|_| panic!("COUNTERSIGN_SEED is no number: {text}"))
        });
        let seed = seed.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap()
        });
        println!("{test}: COUNTERSIGN_SEED={seed}");
        Self::new(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// So many random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.0.bytes()
    }

    /// A UUID of version 7 (its time is random too, which nothing here minds).
    pub fn uuid_v7(&mut self) -> String {
        let (a, b) = (self.number(), self.number());
        format!(
            "{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }
}
