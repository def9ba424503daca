//! `pack`: reads a folder that anybody may have made, and hands it to the core's check. Nothing in
//! it is followed out of it, waited for, or read past its cap.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use countersign_core::encoding::escaped;
use countersign_core::pack::{
    Contents, FINDINGS_MAX, Given, MANIFEST_BYTES_MAX, PackCheck, PackFile, PackReport, Want,
};
use countersign_core::trust::Trust;

use crate::folder::{Entry, Found, described, listing, open, read, unread};
use crate::progress::Progress;
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
    let contents = match Contents::parse(&bytes) {
        Ok(contents) => contents,
        Err(fault) => return Ok(PackReport::refused(fault)),
    };
    drop(bytes);
    let mut check = PackCheck::new(contents, trust);
    walk(dir, &mut check)?;
    let mut entries = Entries::default();
    let mut progress = Progress::new("files");
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
    for (name, kind) in listing(dir, FINDINGS_MAX + 16)? {
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
