//! A gRPC client that believes only proofs: what it returns has been verified against the log's
//! public key, and what it could not verify is an error with a code.
//!
//! - [`Client`] makes the calls. A stream's name is derived here and compared; an acceptance is
//!   checked down to its inclusion in a head that the log signed; the newest head is checked to
//!   continue the last one that this client remembers, on disk where a path is given.
//! - [`SubmitSender`] and [`SubmitReceiver`] keep many batches in flight on one connection.
//! - [`Gate`] builds records, seals them, and submits them until their fate is known. It begins
//!   with [`Gate::register_policy`], since the ledger takes no verdict under an unknown policy.
//! - [`GateClient`] calls a gate service, and gives back what the evidence in its answers proves.
//! - [`Client::query`] and [`Client::watch_records`] list a tenant's records. A row is the ledger's
//!   word; [`Client::evidence`] of its index proves it.
//! - [`reconcile`] says which effects and approvals of a set of records don't fit each other.
//!
//! What is absent: a way to turn verification off; any trust in what the ledger says of a stream's
//! next sequence number (a wrong one only leads to a refusal); decisions about actions.
//!
//! **What is checked when.** Signatures, roots, entries and inclusion are checked for every answer.
//! That heads continue each other costs calls of its own, so those are made once after connecting,
//! then at most every [`ClientConfig::head_check_interval`], and by [`Client::settle`], which
//! everyone calls who is about to end. Each time, the newest head is proven to continue the
//! remembered one and up to eight of the heads seen in between: all of them while they are few,
//! otherwise a random choice. Between two checks a head is held to be right if it is not smaller
//! than the newest one known when its call was made, and equal sizes have equal roots. A head that
//! may be an old one (a repeat's, a receipt's) is proven to be a prefix at once.

#![allow(
    clippy::disallowed_methods,
    reason = "the client is an edge: time and randomness are read here and handed inwards"
)]

mod answer;
mod client;
mod config;
mod draft;
mod entries;
mod erase;
mod error;
mod gate;
mod gate_service;
mod heads;
mod memory;
mod policy;
mod prove;
mod query;
mod reach;
pub mod reconcile;
mod stream;
mod tracker;

/// The README's first integration compiles, or the tests fail.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

pub use answer::{BatchOutcome, LoggedRecord, PreparedBatch, RecordOutcome};
pub use client::{Client, EvidenceItem, HeadWatch, OpenedStream};
pub use config::{ClientConfig, TlsIdentity};
// What records are asked for by.
pub use countersign_proto::convert::{EvidenceQuery, RecordRef};
pub use draft::{Draft, DraftError, Stamp};
pub use entries::EntryReader;
pub use erase::{Erased, ErasureOrder, erasure_reason};
pub use error::{ClientError, HeadConflict, MemoryFault};
pub use gate::{Gate, GateIdentity, Retry};
pub use gate_service::{
    Action, Answered, Authorised, EffectReport, GateCallError, GateClient, Judged, Permit, Reason,
    Reported, Requires, Scope, State, Switch, Switched,
};
pub use heads::VerifiedHead;
pub use policy::{PolicyOwner, PolicyTexts, PolicyVersion};
pub use query::{Cursor, Page, Paging, RecordWatch, WatchedRecord};
pub use stream::{SubmitReceiver, SubmitSender};
