//! Where exported files go: plain files under the paths of the page, readable by who serves them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::files::{read_capped, shown};

/// The file that says that everything under it is there.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// A folder that one process at a time exports into.
pub(super) struct Folder {
    dir: PathBuf,
    // Locked as long as it is open.
    handle: File,
    written: BTreeSet<PathBuf>,
}

impl Folder {
    /// Makes or opens the folder.
    pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
        let failure = |error: io::Error| Failure::file(dir, &error);
        fs::create_dir_all(dir).map_err(failure)?;
        let handle = File::open(dir).map_err(failure)?;
        handle.try_lock().map_err(|error| match error {
            fs::TryLockError::Error(error) => failure(error),
            fs::TryLockError::WouldBlock => Failure::io(format!(
                "{} is being exported into by another process. Let that one finish.",
                shown(dir)
            )),
        })?;
        Ok(Self { dir: dir.to_owned(), handle, written: BTreeSet::new() })
    }

    /// The path of a file.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// How many files were written.
    pub(super) fn written(&self) -> usize {
        self.written.len()
    }

    /// Puts a file in place at once, and durable only by [`Folder::finish`].
    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.path(name);
        let failure = |error: io::Error| Failure::file(&path, &error);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failure)?;
        }
        // No path of a tile ends like this, so that no reader takes a part for the whole; what an
        // interrupted export leaves is overwritten by the next.
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&temporary, &path));
        written.map_err(failure)?;
        self.written.insert(path);
        Ok(())
    }

    /// Makes everything durable, and then puts the checkpoint there: whoever finds it finds all that
    /// it covers, whatever moment the machine stops at (TILE-9).
    pub(super) fn finish(mut self, checkpoint: &str) -> Result<(), Failure> {
        self.sync()?;
        self.put(CHECKPOINT, checkpoint.as_bytes())?;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let mut folders = BTreeSet::new();
        for path in std::mem::take(&mut self.written) {
            sync(&path)?;
            // A new folder's own name lies in the one above it.
            let above = path.ancestors().skip(1).take_while(|above| above.starts_with(&self.dir));
            folders.extend(above.map(Path::to_owned));
        }
        folders.iter().try_for_each(|folder| sync(folder))?;
        self.handle.sync_all().map_err(|error| Failure::file(&self.dir, &error))
    }
}

fn sync(path: &Path) -> Result<(), Failure> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| Failure::file(path, &error))
}

/// The bytes of a file of at most `max`; none where there is no such file.
pub(super) fn read(path: &Path, max: usize) -> Result<Option<Vec<u8>>, Failure> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file(path, &error)),
        Ok(_) => read_capped(path, max).map(Some),
    }
}
