//! Where the last cosigned heads are kept.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use countersign_core::encoding::hex;
use countersign_core::hash::sha256;

use super::HEAD_BYTES_MAX;

/// Durable storage of one note a log.
///
/// The contract: after `replace` returned `Ok`, `read` gives that note, after the process and the
/// machine were killed at any later moment too; after an error it gives that note or the one before,
/// and never a part of one. No two calls of one origin run at once.
pub trait Heads: Send + Sync + 'static {
    /// The note of this log, as far as it was ever stored.
    fn read(&self, origin: &str) -> io::Result<Option<Vec<u8>>>;

    /// Stores a note in place of the one before.
    fn replace(&self, origin: &str, note: &str) -> io::Result<()>;
}

/// One file a log in a folder that one process at a time has: written beside, synced, renamed, and
/// the folder synced (WITN-5).
#[derive(Debug)]
pub struct HeadFolder {
    dir: PathBuf,
    // Locked while it is open.
    handle: File,
}

impl HeadFolder {
    /// Opens the folder, made where it is missing.
    ///
    /// # Errors
    ///
    /// `ResourceBusy` where another process has it: two would each cosign a history of their own.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let handle = File::open(dir)?;
        handle.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::new(
                ErrorKind::ResourceBusy,
                "another witness has this folder; stop that one first",
            ),
        })?;
        // The folder's own name has to survive as well.
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(Self { dir: dir.to_owned(), handle })
    }

    /// An origin may hold anything, so the file is named by its hash, as monitors ask for it.
    fn path(&self, origin: &str) -> PathBuf {
        self.dir.join(format!("{}.note", hex(&sha256(origin.as_bytes()))))
    }
}

impl Heads for HeadFolder {
    fn read(&self, origin: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(origin)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(HEAD_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "the file is too large for a head"));
        }
        Ok(Some(bytes))
    }

    fn replace(&self, origin: &str, note: &str) -> io::Result<()> {
        let path = self.path(origin);
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        self.handle.sync_all()
    }
}
