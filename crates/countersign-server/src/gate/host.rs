//! What the gate asks of the machine: the time, random bytes, and in tests leave to go on.

use countersign_core::encoding::Micros;

use crate::identity;

/// A point on a record's way to the log at which everything before it is durable. A test lets the
/// gate end at one of them, as a power cut would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// It waits in the outbox, and has no place in the stream.
    Enqueued,
    /// It has its place, and was not sent.
    Placed,
    /// The ledger has answered, and nothing of the answer is kept.
    Answered,
    /// What it led to is kept, and nobody has heard of it.
    Closed,
}

impl Step {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Enqueued, Self::Placed, Self::Answered, Self::Closed];
}

/// The gate is to end here and now, as if it had been killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed;

/// The machine, as the gate sees it. Tests hand in one with a clock of their own.
pub trait GateHost: Send + Sync + 'static {
    /// The time. It may step back; then the gate refuses.
    fn now(&self) -> Micros;

    /// Random bytes for nonces and permits.
    fn random(&self) -> [u8; 16];

    /// Told at each step; only a test's host says anything but to go on.
    fn reached(&self, step: Step) -> Result<(), Killed> {
        let _ = step;
        Ok(())
    }
}

/// The real machine.
#[derive(Debug)]
pub struct Machine;

impl GateHost for Machine {
    fn now(&self) -> Micros {
        identity::now()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        // It was tried at the start, and Linux's source does not fail once it has answered. If it
        // does, a nonce that can be guessed would be worse than no process.
        match getrandom::fill(&mut bytes) {
            Ok(()) => bytes,
            Err(error) => panic!("the machine's random source failed: {error}"),
        }
    }
}
