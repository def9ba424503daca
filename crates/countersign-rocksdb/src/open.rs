//! Opening a data directory: the one place where database and anchor are held against each other.
//!
//! What is on disk after each step, and so after a crash at any point:
//!
//! 1. The directory and its lock. Nothing else: the next open begins again.
//! 2. An empty database. It has no version, so the next open goes on here.
//! 3. The anchor, which names no head. The next open finds both, and goes on here.
//! 4. The version. From now on a missing anchor is a fault.
//!
//! An existing database is first opened so that nothing in it changes: RocksDB deletes files that
//! its list doesn't name, and a damaged list must not cost the files that a repair would need.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::escaped;
use countersign_core::note::SignedCheckpoint;
use countersign_log::store::{StoreError, StoredHead};
use rocksdb::{ErrorKind, WriteBatch, WriteOptions};

use crate::anchor::{Anchor, AnchorError};
use crate::database::{Database, Look};
use crate::keys::{FORMAT_VERSION, Family, VERSION_KEY};
use crate::settings::Options;

/// Why a data directory can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open, or database and anchor contradict themselves or each other;
    /// the code says which, and what to do.
    #[error("{path}: {fault}")]
    Refused {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
    /// It was written by a build that knows another format.
    #[error(
        "{path} has format version {found} and this build reads version {FORMAT_VERSION}; \
         open it with the build that wrote it"
    )]
    Version {
        /// The data directory.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// The file system refused.
    #[error("can't open or make {path}: {source}; mend the disk or the permissions")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// RocksDB refused.
    #[error("RocksDB can't open {path}: {detail}; restore the newest backup if the disk is sound")]
    Database {
        /// The database's directory.
        path: PathBuf,
        /// RocksDB's words, printable.
        detail: String,
        /// Whether RocksDB found damage, and not merely failed.
        damaged: bool,
    },
}

impl OpenError {
    /// The code of the registry that names this.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { fault, .. } => fault.code,
            Self::Database { damaged: true, .. } => Code::StoreCorrupt,
            Self::Version { .. } | Self::Io { .. } | Self::Database { .. } => Code::StoreFailed,
        }
    }
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Refused { fault, .. } => Self::Corrupt(fault),
            OpenError::Database { damaged: true, .. } => {
                Self::Corrupt(Fault::from(Code::StoreCorrupt))
            }
            other => Self::Read(escaped(&other.to_string())),
        }
    }
}

/// What an open data directory consists of.
pub(crate) struct Opened {
    // Declared before the lock, and so closed before it is given back.
    pub(crate) db: Database,
    pub(crate) anchor: Anchor,
    pub(crate) lock: File,
}

/// What a data directory is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To be written to and read from.
    Serve,
    /// To have its derived rows made again.
    Reindex,
}

/// Opens a data directory, or makes it.
pub(crate) fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    open_for(dir, options, Purpose::Serve)
}

/// Opens a data directory whose derived rows are to be made again. There must be a log in it.
pub(crate) fn open_to_reindex(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    if !exists(&dir.join("db").join("CURRENT"))? {
        return Err(OpenError::Refused { path: dir.to_owned(), fault: Code::LogAbsent.into() });
    }
    open_for(dir, options, Purpose::Reindex)
}

fn open_for(dir: &Path, options: &Options, purpose: Purpose) -> Result<Opened, OpenError> {
    let lock = make_and_lock(dir)?;
    let refused = |fault: Fault| OpenError::Refused { path: dir.to_owned(), fault };
    let anchor_path = dir.join("anchor");
    let anchor = Anchor::open(&anchor_path).map_err(|error| match error {
        AnchorError::Corrupt => refused(Code::AnchorCorrupt.into()),
        AnchorError::Version(found) => OpenError::Version { path: dir.to_owned(), found },
        AnchorError::Io(source) => OpenError::Io { path: anchor_path.clone(), source },
    })?;
    let db_path = dir.join("db");
    let anchored = anchor.as_ref().is_some_and(|anchor| anchor.size() > 0);
    if exists(&db_path.join("CURRENT"))? {
        match Database::look(&db_path, options).map_err(|error| database(&db_path, &error))? {
            Look::Whole(view) => {
                check_tables(&db_path, &view)?;
                check(dir, &view, anchor.as_ref())?;
                check_rows(dir, &view, purpose)?;
            }
            Look::LackingDerived(_) if purpose == Purpose::Serve && anchored => {
                return Err(refused(Code::ReindexNeeded.into()));
            }
            Look::LackingDerived(view) if purpose == Purpose::Reindex => {
                check(dir, &view, anchor.as_ref())?;
            }
            // A database without families was never committed to, and this anchor says otherwise.
            Look::Lacking if anchored => return Err(refused(Code::AnchorAhead.into())),
            Look::Lacking | Look::LackingDerived(_) => {}
            Look::Endless => {
                return Err(OpenError::Database {
                    path: db_path,
                    detail: "the list of files (MANIFEST) can't be read to its end".to_owned(),
                    damaged: true,
                });
            }
        }
    } else if anchored {
        return Err(refused(Code::AnchorAhead.into()));
    } else if has_remains(&db_path)? {
        return Err(refused(Code::StoreCorrupt.at_field("CURRENT")));
    }

    let db = match purpose {
        Purpose::Serve => Database::open(&db_path, options, !anchored),
        Purpose::Reindex => Database::open_lacking(&db_path, options),
    };
    let db = db.map_err(|error| database(&db_path, &error))?;
    check(dir, &db, anchor.as_ref())?;
    let anchor = if let Some(anchor) = anchor {
        anchor
    } else {
        sync_dir(dir)?;
        Anchor::create(&anchor_path)
            .map_err(|source| OpenError::Io { path: anchor_path, source })?
    };
    if db.version().map_err(|error| read(dir, error))?.is_none() {
        write_version(&db).map_err(|error| database(&db_path, &error))?;
    }
    tracing::info!(dir = %dir.display(), anchored = anchor.size(), "data directory opened");
    Ok(Opened { db, anchor, lock })
}

/// Checks that the derived rows are not half made.
fn check_rows(dir: &Path, db: &Database, purpose: Purpose) -> Result<(), OpenError> {
    let unfinished = db.is_reindexing().map_err(|error| read(dir, error))?;
    if unfinished && purpose == Purpose::Serve {
        let fault = Code::ReindexNeeded.into();
        return Err(OpenError::Refused { path: dir.to_owned(), fault });
    }
    Ok(())
}

/// Checks that every table is there, in its length.
fn check_tables(db_path: &Path, db: &Database) -> Result<(), OpenError> {
    match db.damaged_table(db_path).map_err(|error| database(db_path, &error))? {
        None => Ok(()),
        Some(table) => Err(OpenError::Database {
            path: db_path.to_owned(),
            detail: format!("the table {} is missing or was cut", escaped(&table)),
            damaged: true,
        }),
    }
}

/// Holds a database against the anchor beside it.
fn check(dir: &Path, db: &Database, anchor: Option<&Anchor>) -> Result<(), OpenError> {
    match db.version().map_err(|error| read(dir, error))? {
        Some(FORMAT_VERSION) => {}
        Some(found) => return Err(OpenError::Version { path: dir.to_owned(), found }),
        None if anchor.is_none_or(|anchor| anchor.size() == 0) => {
            // Its making was interrupted before anything could be committed.
            return match db.whole_head().map_err(|error| read(dir, error))? {
                None => Ok(()),
                Some(_) => Err(OpenError::Refused {
                    path: dir.to_owned(),
                    fault: Code::StoreCorrupt.at_field("version"),
                }),
            };
        }
        None => {}
    }
    check_history(db, anchor).map(drop).map_err(|error| read(dir, error))
}

/// Checks that the database continues what its anchor names, and gives its newest head.
pub(crate) fn check_history(
    db: &Database,
    anchor: Option<&Anchor>,
) -> Result<Option<StoredHead>, StoreError> {
    let refuse = |code: Code| Err(StoreError::Corrupt(Fault::from(code)));
    // A version is only ever written after the anchor.
    let Some(anchor) = anchor else { return refuse(Code::AnchorMissing) };
    let newest = db.whole_head()?;
    let newest_parsed = newest.as_ref().map(parse_own).transpose()?;
    let Some(anchored) = anchor.head() else { return Ok(newest) };
    let Some(parsed) = newest_parsed.filter(|head| head.size >= anchored.size) else {
        return refuse(Code::AnchorAhead);
    };
    let Some(same_size) = db.head(anchored.size.0)? else { return refuse(Code::AnchorDiffers) };
    if parse_own(&same_size)?.body() != anchored.body() || parsed.origin != anchored.origin {
        return refuse(Code::AnchorDiffers);
    }
    Ok(newest)
}

/// Parses a head that this store wrote, which was checked when it was written.
pub(crate) fn parse_own(head: &StoredHead) -> Result<SignedCheckpoint, StoreError> {
    SignedCheckpoint::parse(&head.note)
        .ok()
        .filter(|checkpoint| checkpoint.size == head.size)
        .ok_or_else(|| StoreError::Corrupt(Code::StoreCorrupt.at_field("head")))
}

fn make_and_lock(dir: &Path) -> Result<File, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    if !exists(dir)? {
        // What people wrote stands in here: nobody else's eyes.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
    }
    // A folder that was there before, a mount point perhaps, is closed to others as well.
    let mode = std::fs::metadata(dir).map_err(io(dir))?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(dir = %dir.display(), "others could read this folder: closing it to them");
        std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(io(dir))?;
    }
    let path = dir.join("lock");
    let lock =
        File::options().write(true).create(true).truncate(false).open(&path).map_err(io(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(locked(dir)),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

fn write_version(db: &Database) -> Result<(), rocksdb::Error> {
    let mut batch = WriteBatch::default();
    batch.put_cf(db.family(Family::Meta), VERSION_KEY, FORMAT_VERSION.to_be_bytes());
    let mut options = WriteOptions::default();
    options.set_sync(true);
    db.raw().write_opt(batch, &options)
}

/// Whether there are tables or write-ahead logs, which a database without a CURRENT can't have
/// unless it lost it. RocksDB would make a new database over them.
fn has_remains(db_path: &Path) -> Result<bool, OpenError> {
    if !exists(db_path)? {
        return Ok(false);
    }
    let io = |source| OpenError::Io { path: db_path.to_owned(), source };
    for file in std::fs::read_dir(db_path).map_err(io)? {
        let path = file.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "sst" || extension == "log") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

fn locked(dir: &Path) -> OpenError {
    OpenError::Refused { path: dir.to_owned(), fault: Code::StoreLocked.into() }
}

/// RocksDB has a lock of its own, which a process that knows nothing of ours may hold.
fn database(db_path: &Path, error: &rocksdb::Error) -> OpenError {
    let detail = error.to_string();
    if error.kind() == ErrorKind::IOError && detail.contains("/LOCK") {
        return locked(db_path);
    }
    OpenError::Database {
        path: db_path.to_owned(),
        detail: escaped(&detail),
        damaged: error.kind() == ErrorKind::Corruption,
    }
}

fn read(dir: &Path, error: StoreError) -> OpenError {
    match error {
        StoreError::Corrupt(fault) => OpenError::Refused { path: dir.to_owned(), fault },
        other => {
            OpenError::Database { path: dir.to_owned(), detail: other.to_string(), damaged: false }
        }
    }
}
