//! The log's [`Store`](countersign_log::store::Store) port on RocksDB.
//!
//! A data directory holds:
//!
//! ```text
//! lock     taken by the one process that has the directory open
//! db/      the database; how its keys are drawn stands in `keys.rs`
//! anchor   the last published head, outside the database; drawn in `anchor.rs`
//! ```
//!
//! What holds whenever [`RocksStore::open`] gives a store: the database has the head that the
//! anchor names, its newest head covers exactly the entries it has, and nobody else writes to it.
//! A database that contradicts its anchor is refused before anything in it is changed.
//!
//! What is absent: hashing decisions, signatures, the network. What is stored comes back as it was
//! stored; whoever reads it checks it.

mod anchor;
mod database;
mod keys;
mod lists;
mod open;
mod reindex;
mod scrub;
mod settings;
mod store;
mod writer;

pub use anchor::NOTE_BYTES_MAX;
pub use keys::FORMAT_VERSION;
pub use open::OpenError;
pub use reindex::{ReindexError, reindex};
pub use settings::Options;
pub use store::RocksStore;
pub use writer::{COMMIT_BYTES_MAX, Lease};
