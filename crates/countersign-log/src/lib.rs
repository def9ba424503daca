//! The append state machine: queue, sequence, commit, sign, publish, recover.
//!
//! What is absent: the database, the network, the ambient clock. Storage is the port
//! [`store::Store`], time and randomness the port [`host::Host`]. Start reading at
//! [`ledger::Ledger`], then `sequencer`, the commit path.

pub mod api;
mod edge;
mod evidence;
mod group;
pub mod host;
pub mod ledger;
mod lifecycle;
mod own;
mod people;
mod rows;
mod sequencer;
mod shared;
mod signer;
mod state;
pub mod store;
mod work;
