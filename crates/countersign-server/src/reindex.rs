//! The derived indexes of a ledger made again, while it does not run.

use std::path::Path;

use countersign_rocksdb::Options;
pub use countersign_rocksdb::ReindexError;

/// Makes every derived index of the log in `data_dir` again from the log itself, and returns how many
/// records there are. No ledger may have the folder open. `progress` is told how many records are
/// done, of how many.
///
/// # Errors
///
/// The folder can't be opened, or what the indexes derive from is damaged; what was done so far is
/// done again by the next call.
pub fn reindex(data_dir: &Path, progress: impl FnMut(u64, u64)) -> Result<u64, ReindexError> {
    countersign_rocksdb::reindex(data_dir, &Options::default(), progress)
}
