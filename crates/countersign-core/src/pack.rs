//! Packs: evidence in a folder, with what proves that nothing of it is missing (spec/pack.md,
//! PACK-1).
//!
//! [`Contents`] says what is in the folder and what is claimed of it; [`PackCheck`] verifies it. It
//! reads nothing itself: it names the file that it wants next, is handed that file's bytes, and
//! ends in a [`PackReport`]. Of each record it keeps some two hundred bytes ([`Listing`], and what the
//! lifecycle asks of it) and never the record.

mod check;
mod erasures;
mod heads;
mod listing;
mod manifest;
mod openings;
mod path;
mod range;
mod records;
mod report;
mod shelf;
mod streams;
mod words;

pub use check::{Given, PackCheck, Want};
pub use listing::Listing;
pub use manifest::{
    Asked, Claims, Contents, GateKey, KEYS_MAX, MANIFEST_BYTES_MAX, Manifest, PACK_FILES_MAX,
};
pub use path::PackFile;
pub use report::{Complete, Counts, FINDINGS_MAX, Gap, PackFinding, PackReport, Place, Weight};
pub use streams::Span;
pub use words::time_text;
