//! The gate service: intent in, one of three outcomes out, and no answer without evidence.
//!
//! From the wire inwards: [`rpc`] → [`core`] (who asks again, and what is answered) → `judge` (what
//! is known, and the decision of `countersign-gate`) → the outbox in `state` → `recorder` (the
//! stream, and its proof that each verdict ends in one way) → `closing` (what a record's being in
//! the log leads to). `supervise` and `ticker` bring supervised actions to their end; `admin` and
//! `outcome` record what else is asked. [`run`] is the life of the process.
//!
//! Invariants: no permit leaves before its approve is proven to be in the log and kept; what is in
//! the log and let something go on, and was not heard, is voided; everything that waits in memory
//! has a bound, by admission or by the outbox; whatever fails, the answer is refuse.

mod admin;
pub mod authzen;
mod closing;
pub mod config;
pub mod core;
pub mod host;
mod judge;
mod live;
mod metrics;
mod outcome;
mod people;
mod recorder;
mod rows;
pub mod rpc;
pub mod run;
mod shared;
mod state;
mod supervise;
mod tables;
mod ticker;
mod ticket;
pub mod webhook;

pub use self::core::GateCore;
pub use self::rows::Signal;
pub use self::run::{Gate, GateParts, GateReady, GateRunError, run_gate, run_gate_until};
pub use self::state::StateError;
