//! The append state machine: queue, sequence, commit, sign, publish, recover.
//!
//! What is absent: the database, the network, the ambient clock. Storage is the port
//! [`store::Store`], time and randomness the port [`host::Host`]. The sequencer uses tokio's timers
//! to wait (for company, for the next periodic head, for room in the queue), never for a time that
//! is recorded: each of those comes from the host. Start reading at
//! [`ledger::Ledger`], then `sequencer`, the commit path.

pub mod api;
mod derive;
mod edge;
mod erase;
mod evidence;
mod group;
pub mod host;
pub mod ledger;
mod lifecycle;
mod own;
mod people;
mod policies;
mod query;
mod rows;
mod sequencer;
mod shared;
mod signer;
mod state;
pub mod store;
mod texts;
mod tiles;
mod work;
