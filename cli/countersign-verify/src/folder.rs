//! Folders that anybody may have made: nothing in them is followed out of them, waited for, or read
//! past its cap.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use countersign_core::encoding::escaped;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A plain file.
    Plain,
    /// A folder.
    Folder,
    /// A link, a pipe, a device, a socket.
    Other,
}

/// What lies in a folder itself, by name; what is beyond `most` is cut off.
pub(crate) fn listing(dir: &Path, most: usize) -> Result<Vec<(String, Entry)>, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| unread(dir, "", &error))?;
    let mut found = entries
        .take(most)
        .map(|entry| entry.and_then(|entry| described(&entry)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unread(dir, "", &error))?;
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// An entry's name, and what it is.
pub(crate) fn described(entry: &std::fs::DirEntry) -> std::io::Result<(String, Entry)> {
    // The entry's own type: links are not followed.
    let kind = entry.file_type()?;
    let kind = if kind.is_file() {
        Entry::Plain
    } else if kind.is_dir() {
        Entry::Folder
    } else {
        Entry::Other
    };
    Ok((entry.file_name().to_string_lossy().into_owned(), kind))
}

/// Why something in a folder could not be used, for people.
pub(crate) fn unread(dir: &Path, name: &str, error: &std::io::Error) -> String {
    let path = escaped(&dir.join(name).display().to_string());
    format!("{path} can't be read: {error}. Check the path and its permissions.")
}

/// What there was under a name.
pub(crate) enum Found {
    /// The bytes of a plain file.
    Bytes(Vec<u8>),
    /// Nothing.
    Absent,
    /// Something that is no plain file.
    NotAFile,
}

/// Opens a plain file; a link is none.
pub(crate) fn open(dir: &Path, name: &str) -> Result<Result<File, Found>, String> {
    let path = dir.join(name);
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(Err(Found::Absent)),
        std::io::ErrorKind::NotADirectory => Ok(Err(Found::NotAFile)),
        _ => Err(unread(dir, name, &error)),
    };
    // Looked at before it is opened: opening a pipe would wait for somebody to write.
    match std::fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(Err(Found::NotAFile)),
        Err(error) => return failed(error),
    }
    File::open(&path).map(Ok).or_else(failed)
}

/// Reads a file of at most `cap` bytes, and one more, so that the check sees what is too large.
pub(crate) fn read(dir: &Path, name: &str, cap: usize) -> Result<Found, String> {
    let file = match open(dir, name)? {
        Ok(file) => file,
        Err(found) => return Ok(found),
    };
    let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(|error| unread(dir, name, &error))?;
    Ok(Found::Bytes(bytes))
}
