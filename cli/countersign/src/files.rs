//! Reading files with a cap and writing them for their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::escaped;
use countersign_core::trust::{TRUST_BYTES_MAX, Trust};

use crate::exit::Failure;

/// Bytes that a small file of ours may have: a key, a certificate chain, a vkey, an identity.
pub(crate) const SMALL_FILE_BYTES_MAX: usize = 256 * 1024;

/// A path as it may be printed.
pub(crate) fn shown(path: &Path) -> String {
    escaped(&path.display().to_string())
}

/// Reads a text file of at most `max` bytes.
pub(crate) fn read_text(path: &Path, max: usize) -> Result<String, Failure> {
    let bytes = read_capped(path, max)?;
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{} is no text.", shown(path))))
}

/// Reads a file of at most `max` bytes.
pub(crate) fn read_capped(path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|error| Failure::file(path, &error))?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| Failure::file(path, &error))?;
    if bytes.len() > max {
        let name = shown(path);
        return Err(Failure::usage(format!(
            "{name} is larger than {max} bytes. Name the right file."
        )));
    }
    Ok(bytes)
}

/// Makes a folder, and those above it, for its owner alone.
pub(crate) fn make_folder(path: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Failure::file(path, &error))
}

/// Writes a new file for its owner alone, synced. What exists is not overwritten.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(
        |mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        },
    );
    written.map_err(|error| Failure::file(path, &error))
}

/// Puts a file in place at once: whoever reads it sees the old one or all of the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    put(path, bytes, true)
}

/// The same without waiting for the disk: for what can be made again.
pub(crate) fn replace_unsynced(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    put(path, bytes, false)
}

fn put(path: &Path, bytes: &[u8], sync: bool) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = Path::new(&name);
    let written = (|| -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(temporary)?;
        file.write_all(bytes)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(temporary, path)
    })();
    written.map_err(|error| Failure::file(path, &error))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Failure> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Failure::file(path, &error))
}

/// Reads a trust file and the roots it names, relative to itself.
pub(crate) fn read_trust(path: &Path) -> Result<Trust, Failure> {
    let text = read_text(path, TRUST_BYTES_MAX)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut unread = None;
    let trust = Trust::parse(&text, |name| {
        read_text(&folder.join(name), TRUST_BYTES_MAX).map_err(|failure| {
            unread = Some(failure);
            Fault::from(Code::TrustMalformed)
        })
    });
    match unread {
        Some(failure) => Err(failure),
        None => trust.map_err(|fault| Failure::content(path, fault)),
    }
}
