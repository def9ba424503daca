//! What lies in a folder, to compare with another.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Every file below a folder with its bytes, by its path from there. Errors: those of reading, and of
/// a folder that changes meanwhile.
pub fn files_below(dir: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(at) = waiting.pop() {
        for entry in std::fs::read_dir(at)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let bytes = std::fs::read(&path)?;
                let below = path.strip_prefix(dir).map_err(io::Error::other)?;
                found.insert(below.to_owned(), bytes);
            }
        }
    }
    Ok(found)
}
