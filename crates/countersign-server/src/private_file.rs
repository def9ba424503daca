//! Files that are nobody's but their owner's: keys and secrets.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// The permission bits of group and others.
const OTHERS: u32 = 0o077;

/// Why such a file can't be used. Nothing of its content is in it.
#[derive(Debug)]
pub(crate) enum PrivateFileError {
    /// It can't be opened or read.
    Unreadable(io::Error),
    /// It is a folder, a device, a socket.
    NotAFile,
    /// Others than its owner may read or write it; these are its permission bits.
    Permissive(u32),
    /// It has more bytes than asked for.
    TooLarge,
}

/// The content of a regular file of at most `bytes_max` that only its owner may touch.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let unreadable = PrivateFileError::Unreadable;
    let file = File::open(path).map_err(unreadable)?;
    // Of the file that is open, so that no other can be put in its place in between.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotAFile);
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(PrivateFileError::Permissive(mode));
    }
    if metadata.len() > bytes_max as u64 {
        return Err(PrivateFileError::TooLarge);
    }
    // Room for all of it at once: a vector that grows leaves copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max));
    file.take(bytes_max as u64).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
