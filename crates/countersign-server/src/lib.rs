//! The thin edge of a ledger: identity, limits, gRPC and HTTP services, metrics, process life.
//!
//! From the wire inwards: [`listener`] (sockets, TLS, who calls) → [`limits`] (what h2 and tonic
//! may be made to hold) → [`admission`] (may this role call this, is there room) → a handler, which
//! asks [`authz`] for the records it is about to touch, and the log for the rest ([`service`]).
//! [`config`] is checked before any port is bound; [`run`] is the life of the process, [`serve`] the
//! part of it in which calls are taken; [`drain`] ends it.
//!
//! Absent on purpose: proof arithmetic and file formats (`countersign-core`), the order and
//! durability of entries (`countersign-log`), any word about a tenant that does not come from the
//! caller's certificate.

#![allow(
    clippy::disallowed_methods,
    reason = "this room is the edge: here, and only here, time is read and handed inwards"
)]

pub mod admission;
pub mod authz;
pub mod config;
pub mod drain;
pub mod gate;
pub mod http;
pub mod identity;
pub mod keys;
pub mod limits;
pub mod listener;
mod log_metrics;
pub mod metrics;
mod private_file;
pub mod reindex;
pub mod run;
pub mod serve;
pub mod service;
pub mod tiles;
pub mod tls;
pub mod witnesses;
