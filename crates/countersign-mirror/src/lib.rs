//! The tenant's side of a log: who holds it to what it once signed.
//!
//! [`witness`] cosigns the heads of logs that continue what it saw before, and never two histories
//! of one log (spec/tiles.md, WITN-1 to WITN-9).
//!
//! Absent on purpose: the ledger's inside, its store, its private keys; the clock, which is an
//! argument.

pub mod witness;
