//! The tenant's side of a log: who holds it to what it once signed.
//!
//! - [`follow`] keeps a copy of a log in the tenant's own storage ([`storage`]), each head of it
//!   joined to the one before, and stops with an alarm when the log contradicts itself
//!   (spec/follow.md).
//! - [`tree`] proves a log's files ([`source`]) from the signed head down (spec/tiles.md).
//! - [`compare`] holds two mirrors of one log against each other.
//! - [`witness`] cosigns the heads of logs that continue what it saw before, and never two histories
//!   of one log (spec/tiles.md, WITN-1 to WITN-9).
//!
//! Absent on purpose: the ledger's inside, its store, its private keys; the clock, which is an
//! argument.

pub mod compare;
pub mod follow;
pub mod source;
pub mod storage;
pub mod tree;
pub mod witness;
