//! `pack`: reads a folder that anybody may have made, and hands it to the core's check. Nothing in
//! it is followed out of it, waited for, or read past its cap.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use countersign_core::encoding::escaped;
use countersign_core::pack::{
    FINDINGS_MAX, Given, MANIFEST_BYTES_MAX, Manifest, PackCheck, PackFile, PackReport, Want,
};
use countersign_core::trust::Trust;

use crate::{Exit, Output, pack_report};

const MANIFEST: &str = "manifest.json";
/// The folders that a pack has files in.
const FOLDERS: [&str; 5] = ["certificates", "consistency", "evidence", "heads", "policies"];

/// Verifies the pack in this folder and prints what it comes to.
pub(crate) fn run(dir: &Path, trust: Option<&Trust>, output: Output) -> Exit {
    match verify(dir, trust) {
        Ok(report) => {
            match output {
                Output::Human => pack_report::print_human(dir, &report),
                Output::Json => pack_report::print_json(dir, &report),
            }
            Exit::of(report.result)
        }
        Err(problem) => {
            eprintln!("countersign-verify: {problem}");
            pack_report::print_unread(dir, output);
            Exit::Io
        }
    }
}

fn verify(dir: &Path, trust: Option<&Trust>) -> Result<PackReport, String> {
    let bytes = match read(dir, MANIFEST, MANIFEST_BYTES_MAX)? {
        Found::Bytes(bytes) => bytes,
        Found::Absent | Found::NotAFile => {
            return Err(no_pack(dir));
        }
    };
    let manifest = match Manifest::parse(&bytes) {
        Ok(manifest) => manifest,
        Err(fault) => return Ok(PackReport::refused(fault)),
    };
    drop(bytes);
    let mut check = PackCheck::new(manifest, trust);
    walk(dir, &mut check)?;
    let mut entries = Entries::default();
    let mut progress = Progress::new();
    while let Some(want) = check.want() {
        let found = match want {
            Want::File(file) => read(dir, &file.to_string(), file.cap())?,
            Want::Entries(count) => {
                if let Some(length) = entries.begin(dir)? {
                    check.entries_length(length);
                    continue;
                }
                entries.next(dir, count)?
            }
        };
        check.give(match &found {
            Found::Bytes(bytes) => Given::Bytes(bytes),
            Found::Absent => Given::Absent,
            Found::NotAFile => Given::NotAFile,
        });
        progress.show(check.progress());
    }
    progress.end();
    Ok(check.finish())
}

/// Why there is no pack at this path.
fn no_pack(dir: &Path) -> String {
    let path = escaped(&dir.display().to_string());
    let what = match std::fs::metadata(dir) {
        Ok(found) if !found.is_dir() => "is no folder",
        Ok(_) => "holds no manifest.json, and so is no pack",
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "does not exist",
        Err(_) => "can't be read",
    };
    format!("{path} {what}. Name the folder of a pack.")
}

/// Names what is in the folder and is not listed, or is no plain file. Enough of them is enough.
fn walk(dir: &Path, check: &mut PackCheck<'_>) -> Result<(), String> {
    let mut strays = 0;
    let mut stray = |check: &mut PackCheck<'_>, path: &str, plain| {
        check.stray(path, plain);
        strays += 1;
        strays < FINDINGS_MAX
    };
    for (name, kind) in listing(dir)? {
        let folder = FOLDERS.contains(&name.as_str());
        let known = match kind {
            Entry::Folder => folder,
            Entry::Plain => name == MANIFEST || check.manifest().lists(&name),
            Entry::Other => false,
        };
        if !known && !stray(check, &name, kind == Entry::Plain) {
            return Ok(());
        }
        if !(folder && kind == Entry::Folder) {
            continue;
        }
        let inner =
            std::fs::read_dir(dir.join(&name)).map_err(|error| unread(dir, &name, &error))?;
        // One by one: there may be a million.
        for entry in inner {
            let (inner, kind) =
                entry.and_then(|entry| described(&entry)).map_err(|e| unread(dir, &name, &e))?;
            let path = format!("{name}/{inner}");
            let known = kind == Entry::Plain && check.manifest().lists(&path);
            if !known && !stray(check, &path, kind == Entry::Plain) {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Plain,
    Folder,
    /// A link, a pipe, a device, a socket.
    Other,
}

/// What lies in the pack's folder itself, by name; more than a pack may have there is cut off.
fn listing(dir: &Path) -> Result<Vec<(String, Entry)>, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| unread(dir, "", &error))?;
    let mut found = entries
        .take(FINDINGS_MAX + 16)
        .map(|entry| entry.and_then(|entry| described(&entry)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unread(dir, "", &error))?;
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

fn described(entry: &std::fs::DirEntry) -> std::io::Result<(String, Entry)> {
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

fn unread(dir: &Path, name: &str, error: &std::io::Error) -> String {
    let path = escaped(&dir.join(name).display().to_string());
    format!("{path} can't be read: {error}. Check the path and its permissions.")
}

enum Found {
    Bytes(Vec<u8>),
    Absent,
    NotAFile,
}

/// Opens a plain file; a link is none.
fn open(dir: &Path, name: &str) -> Result<Result<File, Found>, String> {
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
fn read(dir: &Path, name: &str, cap: usize) -> Result<Found, String> {
    let file = match open(dir, name)? {
        Ok(file) => file,
        Err(found) => return Ok(found),
    };
    let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(|error| unread(dir, name, &error))?;
    Ok(Found::Bytes(bytes))
}

/// `entries.bin`, part by part.
#[derive(Default)]
struct Entries(Option<File>);

impl Entries {
    /// Opens the file, where this was not done before, and says how long it is.
    fn begin(&mut self, dir: &Path) -> Result<Option<u64>, String> {
        let name = PackFile::Entries.to_string();
        if self.0.is_some() {
            return Ok(None);
        }
        let Ok(file) = open(dir, &name)? else { return Ok(None) };
        let length = file.metadata().map_err(|error| unread(dir, &name, &error))?.len();
        self.0 = Some(file);
        Ok(Some(length))
    }

    fn next(&mut self, dir: &Path, count: usize) -> Result<Found, String> {
        let name = PackFile::Entries.to_string();
        let file = match &mut self.0 {
            Some(file) => file,
            closed => match open(dir, &name)? {
                Ok(file) => closed.insert(file),
                Err(found) => return Ok(found),
            },
        };
        let mut bytes = Vec::new();
        let limit = u64::try_from(count).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut bytes).map_err(|error| unread(dir, &name, &error))?;
        Ok(Found::Bytes(bytes))
    }
}

/// A counted line on standard error, where somebody watches it.
struct Progress {
    watched: bool,
    shown: u64,
}

impl Progress {
    fn new() -> Self {
        Self { watched: std::io::stderr().is_terminal(), shown: 0 }
    }

    /// At most two hundred times, whatever there is to do.
    fn show(&mut self, (done, of): (u64, u64)) {
        let step = (of / 200).max(1);
        if self.watched && (done >= self.shown.saturating_add(step)) {
            self.shown = done;
            let mut bar = String::new();
            let filled = done * 30 / of.max(1);
            for at in 0..30 {
                bar.push(if at < filled { '=' } else { ' ' });
            }
            // Nobody misses a line that a closed terminal does not show.
            let _ = write!(std::io::stderr(), "\rverifying [{bar}] {done} of {of} files");
        }
    }

    fn end(&self) {
        if self.watched && self.shown > 0 {
            let _ = writeln!(std::io::stderr());
        }
    }
}
