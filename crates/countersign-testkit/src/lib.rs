//! Development only: what tests of the log and of its stores are made of.
//!
//! - [`memory::MemoryStore`]: the `Store` port in memory, whose faults are arguments.
//! - [`host::ManualHost`]: a machine whose time stands still and whose random bytes repeat.
//! - [`contract::run`]: the port's contract as one suite, for every implementer.
//! - [`checker::check_whole_log`]: reads a whole log again and names what is wrong with it.
//! - [`folder::files_below`]: what lies in a folder, to compare with another.
//! - [`liar::Liar`]: takes over an honest log and lies about it, with every signature in place.
//! - [`malicious::Ledger`]: serves tiles over HTTP, and lies under its own signature.
//! - [`scribe::Scribe`]: makes valid commits of any number, signed and with full tiles.
//!
//! What is absent: the machine's clock and random source. A seed makes every run again.

pub mod checker;
pub mod contract;
pub mod faults;
pub mod folder;
pub mod host;
pub mod liar;
pub mod malicious;
pub mod memory;
pub mod rng;
pub mod scribe;
