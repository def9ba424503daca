//! Reading the input, a line at a time, each with a cap.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use countersign_core::hash::{Hash, sha256};
use countersign_core::json;
use countersign_core::kinds::is_uuid_v7;
use serde_json::Value;

use crate::exit::Failure;

/// Bytes that a line may have: a record's 60 KiB, and room for spaces between its members.
const LINE_BYTES_MAX: usize = 128 * 1024;

/// One line.
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    /// SHA-256 of its bytes: of the first ones where it is too long.
    pub(super) digest: Hash,
    /// Its text, or why it has none.
    pub(super) text: Result<String, String>,
    /// The action that it is about, where that can be read.
    pub(super) action_id: Option<String>,
}

/// The lines of a file.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    bytes: u64,
    bytes_read: u64,
    number: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::file(path, &error))?;
        let metadata = file.metadata().map_err(|error| Failure::file(path, &error))?;
        let reader = BufReader::new(file);
        Ok(Self { path: path.to_owned(), reader, bytes: metadata.len(), bytes_read: 0, number: 0 })
    }

    /// Whether there is no line at all.
    pub(super) fn is_empty(&mut self) -> Result<bool, Failure> {
        let ahead = self.reader.fill_buf().map_err(|error| Failure::file(&self.path, &error))?;
        Ok(ahead.is_empty())
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that were read.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Line>, Failure> {
        let mut bytes = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = (&mut self.reader).take(limit).read_until(b'\n', &mut bytes);
        let mut length = read.map_err(|error| Failure::file(&self.path, &error))? as u64;
        if length == 0 {
            return Ok(None);
        }
        self.number += 1;
        let whole = bytes.pop_if(|last| *last == b'\n').is_some();
        let too_long = !whole && bytes.len() > LINE_BYTES_MAX;
        if too_long {
            length += self.skip()?;
        }
        self.bytes_read += length;
        let digest = sha256(&bytes);
        let text = if too_long {
            Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"))
        } else {
            String::from_utf8(bytes).map_err(|_| "the line is no UTF-8 text".to_owned())
        };
        let action_id = text.as_deref().ok().and_then(action_id);
        Ok(Some(Line { number: self.number, digest, text, action_id }))
    }

    /// Passes over the rest of a line, without keeping it.
    fn skip(&mut self) -> Result<u64, Failure> {
        let skipped = self.reader.skip_until(b'\n');
        skipped.map(|count| count as u64).map_err(|error| Failure::file(&self.path, &error))
    }
}

/// Why a line is not one JSON object, and where; `None` where it is one.
pub(super) fn no_object(text: &str) -> Option<String> {
    if text.trim_ascii().is_empty() {
        return Some("the line is empty, and each line is one JSON object".to_owned());
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_object() => None,
        Ok(_) => Some("the line is JSON, but not one JSON object".to_owned()),
        Err(error) => {
            // The parser counts lines of its own, of which there is only this one.
            let said = error.to_string();
            let said = said.split(" at line ").next().unwrap_or_default();
            Some(format!("the line is not one JSON object: {said} at column {}", error.column()))
        }
    }
}

fn action_id(text: &str) -> Option<String> {
    let value = json::parse(text).ok()?;
    let id = value.get("action_id")?.as_str()?;
    is_uuid_v7(id).then(|| id.to_owned())
}
