//! Mirrors: a whole log in a folder of plain files, recomputed from its entries (spec/mirror.md).
//!
//! [`Start`] finds the head to verify up to; [`Plan`] verifies one bundle of 256 entries with the
//! heads that lie in it, on any thread; [`MirrorCheck`] joins what the bundles came to, in their
//! order, into one tree and one set of streams, and ends in a [`MirrorReport`]. Nothing here reads
//! a file. What is kept of an entry is a hash; what grows is one number a stream and one a head.

mod bundle;
mod check;
mod head;
mod path;
mod report;
mod state;

pub use crate::pack::{Given, Place, Weight};
pub use bundle::{BundleFacts, BundleFiles};
pub use check::{MirrorCheck, STREAMS_MAX};
pub use head::{HeadFacts, Plan, Start};
pub use path::{MirrorFile, log_folder};
pub use report::{FINDINGS_MAX, MirrorCounts, MirrorFinding, MirrorReport};
pub use state::{MirrorState, STATE_BYTES_MAX};
