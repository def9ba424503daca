//! The real `countersign mirror`: behind a real ledger, killed without warning, into a bucket.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

mod bucket;
mod kill;
mod process;
mod real;
