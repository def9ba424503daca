//! A machine whose time stands still.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_core::encoding::Micros;
use countersign_log::host::Host;

use crate::rng::SplitMix64;

/// A host whose time is set by hand, and whose random bytes come from a seed.
#[derive(Debug)]
pub struct ManualHost {
    now_us: AtomicU64,
    rng: Mutex<SplitMix64>,
}

impl ManualHost {
    /// A host at this time, with the random bytes of this seed.
    pub fn new(now: Micros, seed: u64) -> Self {
        Self { now_us: AtomicU64::new(now.0), rng: Mutex::new(SplitMix64::new(seed)) }
    }

    /// Sets the time, which may step back.
    pub fn set(&self, now: Micros) {
        self.now_us.store(now.0, Ordering::SeqCst);
    }

    /// Lets so many microseconds pass.
    pub fn advance_us(&self, by_us: u64) {
        self.now_us.fetch_add(by_us, Ordering::SeqCst);
    }
}

impl Host for ManualHost {
    fn now(&self) -> Micros {
        Micros(self.now_us.load(Ordering::SeqCst))
    }

    fn random(&self) -> [u8; 32] {
        self.rng.lock().expect("no thread panics while it draws").bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_by_hand_and_bytes_repeat() {
        let (a, b) = (ManualHost::new(Micros(5), 1), ManualHost::new(Micros(5), 1));
        a.advance_us(2);
        assert_eq!(a.now(), Micros(7));
        a.set(Micros(3));
        assert_eq!(a.now(), Micros(3));
        let first = a.random();
        assert_eq!(first, b.random());
        assert_ne!(first, a.random());
    }
}
