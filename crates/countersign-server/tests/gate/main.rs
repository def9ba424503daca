//! The gate service before a real ledger: RocksDB, TLS, real certificates, and a wire between the
//! two that can be cut or made to lose answers.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that meets the unexpected should stop where it stands; it asks the machine \
              for the time, as an edge does"
)]

mod between;
mod crash;
mod emergencies;
mod evaluate;
mod grants;
mod ledger;
mod outages;
mod outcomes;
mod permits;
mod pki;
mod policy;
mod rpc;
mod stage;
mod supervise;
mod wire;
