//! Where events go: standard output, or a file that is added to.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::files::shown;

/// Bytes that one event may have: an evidence file in base64 with what goes around it.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// An open target.
pub(super) struct Target {
    path: PathBuf,
    writer: Box<dyn Write>,
    file: Option<File>,
    next_index: Option<u64>,
}

impl Target {
    /// Opens it (XCH-3). In a file that is there, the last whole line says how far it goes, by `index_of`;
    /// what an interrupted export left unfinished behind it is cut off.
    pub(super) fn open(path: &Path, index_of: fn(&str) -> Option<u64>) -> Result<Self, Failure> {
        if path == Path::new("-") {
            let writer = Box::new(BufWriter::new(std::io::stdout()));
            return Ok(Self { path: path.to_owned(), writer, file: None, next_index: None });
        }
        let failed = |error: std::io::Error| Failure::file(path, &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(failed)?;
        let (end, last) = last_line(&mut file).map_err(failed)?;
        let next_index = match last {
            None if end == 0 => None,
            last => {
                let index = last.as_deref().and_then(index_of);
                let index = index.ok_or_else(|| {
                    Failure::usage(format!(
                        "{} does not end with an event of this format, so nothing is added to it. \
                         Name another file.",
                        shown(path)
                    ))
                })?;
                Some(index.saturating_add(1))
            }
        };
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(failed)?;
        let writer = Box::new(BufWriter::new(file.try_clone().map_err(failed)?));
        Ok(Self { path: path.to_owned(), writer, file: Some(file), next_index })
    }

    /// Where the file goes on; `None` where it has no event yet.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.next_index
    }

    pub(super) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn line(&mut self, line: &str) -> Result<(), Failure> {
        let written = self.writer.write_all(line.as_bytes());
        let written = written.and_then(|()| self.writer.write_all(b"\n"));
        written.map_err(|error| Failure::file(&self.path, &error))
    }

    /// Makes what was written durable.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let flushed = self.writer.flush();
        let synced = flushed.and_then(|()| self.file.as_ref().map_or(Ok(()), File::sync_all));
        synced.map_err(|error| Failure::file(&self.path, &error))
    }
}

/// Where the last whole line ends, and that line; a part of a line behind it is not looked at.
fn last_line(file: &mut File) -> std::io::Result<(u64, Option<String>)> {
    let length = file.seek(SeekFrom::End(0))?;
    let from = length.saturating_sub(2 * LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    std::io::Read::by_ref(file).take(2 * LINE_BYTES_MAX).read_to_end(&mut tail)?;
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
        // No whole line: one that was begun is cut off where nothing stands before it.
        let whole = from == 0;
        return Ok(if whole && is_begun(&tail) { (0, None) } else { (length, None) });
    };
    let head = tail.get(..end).unwrap_or_default();
    let start = head.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = head.get(start..).unwrap_or_default();
    let line = String::from_utf8(line.to_vec()).ok();
    Ok((from + end as u64 + 1, line))
}

/// Whether these bytes may be the beginning of an event of ours, and no file of somebody else's.
fn is_begun(bytes: &[u8]) -> bool {
    bytes.is_empty() || [b"{\"".as_slice(), b"CEF:0|"].iter().any(|mark| bytes.starts_with(mark))
}
