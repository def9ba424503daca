//! What others wrote, on what this project wrote, and the other way round (spec/foreign.md): tools of
//! the C2SP world read a ledger's checkpoint, tiles and bundles, the verifier and the mirror read
//! other people's logs, and witnesses and logs of both sides cosign for each other.
//!
//! The tools are programs of their own, in the folders beside this file: `go` (golang.org/x/mod),
//! `python` (aics-tlog and aics-witness), `rust` (signed_note, tlog_tiles and sigsum), and curl.
//! A test whose tool can't be had here prints one line, "not run: …", and passes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

mod ours;
mod process;
mod read;
mod sigsum;
mod theirs;
mod tools;
mod witness;
