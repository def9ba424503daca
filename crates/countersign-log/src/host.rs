//! What the log asks of the machine it runs on: the time and random bytes. Every time that the log
//! records or signs comes from here.

use countersign_core::encoding::Micros;

/// The machine, as the log sees it. Tests hand in one whose time stands still.
pub trait Host: Send + Sync + 'static {
    /// The time, microseconds since the epoch, UTC. It may step back; the log's own times don't.
    fn now(&self) -> Micros;

    /// 32 bytes from the machine's random source, for the salts of the ledger's own records.
    fn random(&self) -> [u8; 32];
}
