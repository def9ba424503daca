//! The gate's own state in one redb file, with one writer.
//!
//! All writes go through [`State::write`]: a thread of its own takes whatever waits, runs it in one
//! transaction and commits that with one sync, so that many callers share one. A write is durable
//! when its future is ready, and nobody hears of it before. Reads see what is committed.
//!
//! A failed commit is for ever (what is on disk is not known any more): the state is poisoned, and
//! the gate refuses everything until a new process has opened the file again.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, ReadTransaction, ReadableDatabase as _, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::tables;

/// Writes that one commit takes at most.
const GROUP_MAX: usize = 256;
/// Bytes of the page cache.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Why the state can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file can't be opened.
    #[error("the gate's state {path} can't be opened: {source}; check [gate] state_dir")]
    Open {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// The folder can't be made.
    #[error("the gate's folder {path} can't be made: {source}; check [gate] state_dir")]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// redb failed.
    #[error("the gate's state failed: {0}; mend the disk and start the gate again")]
    Database(Box<redb::Error>),
    /// A row is not what this version writes.
    #[error("a row of the gate's state can't be read: {0}; restore the file from a backup")]
    Row(#[from] serde_json::Error),
    /// A refusal that can't be put into a record at all: a defect.
    #[error("a refusal can't be put into a record; report this as a defect")]
    Draft,
    /// An earlier write failed.
    #[error("an earlier write of the gate's state failed; mend the disk and start the gate again")]
    Poisoned,
}

macro_rules! from_redb {
    ($($error:ty),*) => { $(
        impl From<$error> for StateError {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )* };
}
from_redb!(
    redb::Error,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

/// A write that waits: it runs in the transaction, and tells its caller once that is durable.
type Job = Box<dyn FnOnce(&WriteTransaction) -> Result<Done, StateError> + Send>;
type Done = Box<dyn FnOnce() + Send>;

/// The gate's state; clones share it.
#[derive(Clone)]
pub(crate) struct State {
    database: Arc<Database>,
    jobs: mpsc::UnboundedSender<Job>,
    poisoned: Arc<AtomicBool>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

impl State {
    /// Opens the state in `dir`, or begins it. A second process on it is refused by redb's lock.
    pub(crate) fn open(dir: &Path) -> Result<Self, StateError> {
        // It holds seeds and permits in the clear, which are nobody's but the gate's.
        std::fs::create_dir_all(dir)
            .and_then(|()| std::fs::set_permissions(dir, Permissions::from_mode(0o700)))
            .map_err(|source| StateError::Folder { path: dir.to_owned(), source })?;
        let path = dir.join("state.redb");
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create(&path).map_err(|error| StateError::Open {
            path: path.clone(),
            source: Box::new(error.into()),
        })?;
        tables::create(&database)?;
        let database = Arc::new(database);
        // Bounded by what waits for them: each job has a caller, and callers are admitted.
        let (jobs, queue) = mpsc::unbounded_channel();
        let poisoned = Arc::new(AtomicBool::new(false));
        let (for_thread, flag) = (Arc::clone(&database), Arc::clone(&poisoned));
        std::thread::Builder::new()
            .name("gate-state".to_owned())
            .spawn(move || write_all(&for_thread, queue, &flag))
            .map_err(|source| StateError::Folder { path: dir.to_owned(), source })?;
        Ok(Self { database, jobs, poisoned })
    }

    /// Whether a write has failed.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Takes no more writes: the end of the process, or of what a test lets stand for one.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    /// Reads what is committed.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        read(&self.database.begin_read()?)
    }

    /// Writes, durably when this is ready. `write` runs alone, in the order of the calls.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let value = write(transaction)?;
            Ok(Box::new(move || {
                // Fails only when the caller is gone.
                let _ = tell.send(value);
            }))
        });
        self.jobs.send(job).map_err(|_| StateError::Poisoned)?;
        told.await.map_err(|_| StateError::Poisoned)
    }
}

fn write_all(database: &Database, mut queue: mpsc::UnboundedReceiver<Job>, poisoned: &AtomicBool) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while let Some(first) = queue.blocking_recv() {
        group.push(first);
        while group.len() < GROUP_MAX
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        if poisoned.load(Ordering::Acquire) {
            // Dropping a job tells its caller.
            group.clear();
            continue;
        }
        match write_group(database, &mut group) {
            Ok(done) => done.into_iter().for_each(|tell| tell()),
            Err(error) => {
                tracing::error!(%error, "the gate's state failed: it takes nothing any more");
                poisoned.store(true, Ordering::Release);
                group.clear();
            }
        }
    }
}

/// Runs a group in one transaction. Where one of them fails, none is kept: what failed is the disk
/// or a row, which is nobody's request.
fn write_group(database: &Database, group: &mut Vec<Job>) -> Result<Vec<Done>, StateError> {
    let transaction = database.begin_write()?;
    let mut done = Vec::with_capacity(group.len());
    for job in group.drain(..) {
        done.push(job(&transaction)?);
    }
    transaction.commit()?;
    Ok(done)
}
