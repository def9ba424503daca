//! The last head that this client saw, kept in a file so that a rollback or a fork shows even after
//! a restart.
//!
//! The file is the signed note itself, verified again when it is read. It is replaced by a rename
//! after a sync, so that a crash leaves the old head or the new one. Processes that share it take a
//! lock beside it and never replace a head by a smaller one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_core::codes::{Code, Fault};
use countersign_core::note::NOTE_BYTES_MAX;

use crate::error::{ClientError, HeadConflict, MemoryFault};
use crate::heads::{Keyring, VerifiedHead};

/// The file of the remembered head.
#[derive(Clone, Debug)]
pub(crate) struct HeadMemory {
    path: PathBuf,
}

impl HeadMemory {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn fault(&self, source: impl Into<MemoryFault>) -> ClientError {
        ClientError::Memory { path: self.path.clone(), source: source.into() }
    }

    /// The head in the file; `None` where there is no file yet.
    pub(crate) fn read(&self, keys: &Keyring) -> Result<Option<Arc<VerifiedHead>>, ClientError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.fault(error)),
        };
        let mut bytes = Vec::new();
        let limit = NOTE_BYTES_MAX as u64 + 1;
        file.take(limit).read_to_end(&mut bytes).map_err(|error| self.fault(error))?;
        let text =
            String::from_utf8(bytes).map_err(|_| self.fault(Fault::from(Code::NoteMalformed)))?;
        keys.verify(&text).map(Some).map_err(|fault| self.fault(fault))
    }

    /// Keeps a head, unless the file holds a larger one already.
    pub(crate) fn keep(&self, head: &VerifiedHead, keys: &Keyring) -> Result<(), ClientError> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.beside("lock"))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| self.fault(error))?;
        if self.read(keys)?.is_some_and(|kept| kept.size() > head.size()) {
            return Ok(());
        }
        self.replace(head.checkpoint().as_str()).map_err(|error| self.fault(error))?;
        drop(lock);
        Ok(())
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let temporary = self.beside("new");
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Keeps both heads of a conflict as `<file>.kept` and `<file>.shown`. The error carries them
    /// as well, so that failing here loses nothing.
    pub(crate) fn keep_conflict(&self, conflict: &HeadConflict) -> io::Result<()> {
        fs::write(self.beside("kept"), conflict.kept.as_str())?;
        fs::write(self.beside("shown"), conflict.shown.as_str())
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        PathBuf::from(name)
    }
}
