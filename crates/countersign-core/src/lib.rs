//! Bytes, hashes, proofs, keys and the one verification procedure: the crate to audit.
//!
//! What is absent: file and network access, clocks, random numbers, async, logging. Whoever calls
//! hands in bytes, keys and a time, and gets back values that could only be made by passing a
//! check. Formats are those of `spec/`; rule ids such as REC-4 name the sentences there.

pub mod action;
pub mod alarm;
pub mod cert;
pub mod codes;
pub mod disclose;
pub mod encoding;
pub mod entry;
pub mod evidence;
pub mod hash;
pub mod json;
pub mod kinds;
pub mod lifecycle;
pub mod merkle;
pub mod mirror;
pub mod note;
pub mod pack;
pub mod query;
pub mod quorum;
pub mod receipt;
pub mod record;
pub mod seal;
pub mod stream;
pub mod tiles;
pub mod trust;
pub mod verify;
