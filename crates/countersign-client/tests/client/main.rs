//! A client against a ledger in memory that speaks the real protocol over loopback: an honest one,
//! one that lies, and one that fails.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the stage is shared by tests that each use a part of it, and a test that cannot set \
              it up should stop there"
)]

mod gates;
mod honest;
mod ledger;
mod lies;
mod stage;
