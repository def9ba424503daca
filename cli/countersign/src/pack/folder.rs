//! The folder that a pack is written to, until it has been verified and gets its name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use countersign_core::encoding::hex;
use countersign_core::hash::{Hash, Sha256Parts, TreeSize, sha256};
use countersign_core::pack::{Contents, Listing, PackFile};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::files::{
    SMALL_FILE_BYTES_MAX, make_folder, read_text, replace, replace_unsynced, shown, sync_folder,
};

/// What an interrupted pack is gone on with; it is no file of the pack.
const RESUME_FILE: &str = "resume.json";
/// The folders of a pack.
const FOLDERS: [&str; 5] = ["certificates", "consistency", "evidence", "heads", "policies"];
/// Files that are made durable at a time: a disk that is asked for many writes them together.
const SYNCS: usize = 16;

/// A pack that is being written.
pub(super) struct Folder {
    path: PathBuf,
    files: Listing,
    /// The head of an earlier try of the same question.
    head: Option<TreeSize>,
    /// Whether the folder was made by this call.
    made: bool,
}

impl Folder {
    /// Opens `OUT.partial`. What an earlier try of the same question left is kept, as far as it is
    /// evidence; everything else in it is made again.
    pub(super) fn open(out: &Path, question: &str) -> Result<Self, Failure> {
        let mut name = out.as_os_str().to_owned();
        name.push(".partial");
        let path = PathBuf::from(name);
        let mut folder = Self { path, files: Listing::default(), head: None, made: false };
        folder.made = !folder.path.exists();
        if !folder.made {
            folder.head = Some(folder.read_resume(question)?);
            folder.clear()?;
        }
        for name in FOLDERS {
            make_folder(&folder.path.join(name))?;
        }
        Ok(folder)
    }

    fn read_resume(&self, question: &str) -> Result<TreeSize, Failure> {
        let file = self.path.join(RESUME_FILE);
        let text = read_text(&file, SMALL_FILE_BYTES_MAX)?;
        let resume: Value = serde_json::from_str(&text).unwrap_or_default();
        let same = resume.get("question").and_then(Value::as_str) == Some(question);
        let size = resume.get("head").and_then(Value::as_u64).filter(|_| same);
        size.map(TreeSize).ok_or_else(|| {
            let path = shown(&self.path);
            Failure::usage(format!(
                "{path} is left of another question. Ask that one again to finish it, or take the \
                 folder away."
            ))
        })
    }

    /// Takes away all that is not evidence of the earlier try.
    fn clear(&self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::file(&self.path, &error);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if [RESUME_FILE, "evidence"].contains(&name) {
                continue;
            }
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|error| Failure::file(&path, &error))?;
        }
        Ok(())
    }

    /// Notes what the folder is for, so that an interrupted pack can be gone on with.
    pub(super) fn remember(&self, question: &str, head: TreeSize) -> Result<(), Failure> {
        let text = json!({ "question": question, "head": head.0 }).to_string();
        replace(&self.path.join(RESUME_FILE), text.as_bytes())
    }

    /// The head of the earlier try.
    pub(super) fn head(&self) -> Option<TreeSize> {
        self.head
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The files so far, with their digests.
    pub(super) fn files(&self) -> &Listing {
        &self.files
    }

    /// An evidence file of the earlier try, where there is one.
    pub(super) fn leftover(&self, index: u64) -> Option<PathBuf> {
        self.head?;
        let path = self.path.join(PackFile::Evidence(index).to_string());
        path.is_file().then_some(path)
    }

    /// Writes a file and lists it. It is made durable at the end, with all others.
    pub(super) fn put(&mut self, file: PackFile, bytes: &[u8]) -> Result<(), Failure> {
        replace_unsynced(&self.path.join(file.to_string()), bytes)?;
        self.listed(file, sha256(bytes));
        Ok(())
    }

    /// Lists a file that was written in parts.
    pub(super) fn listed(&mut self, file: PackFile, digest: Hash) {
        self.files.insert(file, digest);
    }

    /// Begins a file that is written in parts.
    pub(super) fn begin(&self, name: &str) -> Result<PartWriter, Failure> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).map_err(|error| Failure::file(&path, &error))?;
        Ok(PartWriter { path, writer: BufWriter::new(file), hasher: Sha256Parts::default() })
    }

    /// What becomes of the folder when the pack can't be made: one that holds no evidence yet is taken
    /// away, if this call made it; of another it is said that it stays.
    pub(super) fn left(&self, failure: Failure) -> Failure {
        let any = |mut entries: fs::ReadDir| entries.next().is_some();
        let evidence = fs::read_dir(self.path.join("evidence")).is_ok_and(any);
        if self.made && !evidence && fs::remove_dir_all(&self.path).is_ok() {
            return failure;
        }
        let message = format!(
            "{}\nWhat there is of the pack stays in {}. The same command goes on with it; to begin \
             anew, take the folder away.",
            failure.message,
            shown(&self.path)
        );
        Failure { message, ..failure }
    }

    /// Writes the manifest, takes away what is not listed, makes everything durable, and gives the
    /// folder its name. Returns the manifest's SHA-256 in hex.
    pub(super) fn finish(&self, contents: &Contents, out: &Path) -> Result<String, Failure> {
        let failed = |path: &Path, error: &io::Error| Failure::file(path, error);
        for name in FOLDERS {
            self.settle(contents, name)?;
            // A folder that nothing is in is no part of a pack.
            let folder = self.path.join(name);
            if fs::remove_dir(&folder).is_err() {
                sync_folder(&folder)?;
            }
        }
        let resume = self.path.join(RESUME_FILE);
        fs::remove_file(&resume).map_err(|error| failed(&resume, &error))?;
        let mut writer = self.begin("manifest.json")?;
        contents.write(&mut writer).map_err(|error| failed(&writer.path, &error))?;
        let digest = writer.finish()?;
        sync_folder(&self.path)?;
        // A folder that came to be there meanwhile is not replaced, unless it is empty.
        fs::rename(&self.path, out).map_err(|error| failed(out, &error))?;
        let above = out.parent().filter(|above| !above.as_os_str().is_empty());
        sync_folder(above.unwrap_or(Path::new(".")))?;
        Ok(hex(&digest))
    }

    /// Takes away the files of one folder that are not listed, and makes the others durable.
    fn settle(&self, contents: &Contents, name: &str) -> Result<(), Failure> {
        let folder = self.path.join(name);
        let failed = |path: &Path, error: &io::Error| Failure::file(path, error);
        let entries = fs::read_dir(&folder).map_err(|error| failed(&folder, &error))?;
        let entries = Mutex::new(entries);
        let next = || entries.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<(), Failure> {
            while let Some(entry) = next() {
                let path = entry.map_err(|error| failed(&folder, &error))?.path();
                let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
                let settled = if contents.lists(&format!("{name}/{file}")) {
                    File::open(&path).and_then(|file| file.sync_all())
                } else {
                    fs::remove_file(&path)
                };
                settled.map_err(|error| failed(&path, &error))?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..SYNCS).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }
}

/// A file that is written in parts, and hashed on the way.
pub(super) struct PartWriter {
    path: PathBuf,
    writer: BufWriter<File>,
    hasher: Sha256Parts,
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl PartWriter {
    /// Adds a part.
    pub(super) fn add(&mut self, part: &[u8]) -> Result<(), Failure> {
        self.write_all(part).map_err(|error| Failure::file(&self.path, &error))
    }

    /// The file's digest, once it is durable.
    pub(super) fn finish(mut self) -> Result<Hash, Failure> {
        let synced = self.writer.flush().and_then(|()| self.writer.get_ref().sync_all());
        synced.map_err(|error| Failure::file(&self.path, &error))?;
        Ok(self.hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(files: Listing) -> Contents {
        use countersign_core::pack::Asked;
        Contents {
            origin: "ledger.acme.example/prod".to_owned(),
            asked: Asked {
                tenant: "acme".to_owned(),
                query: countersign_core::query::Query::default(),
            },
            head: TreeSize(8),
            claims: None,
            files,
        }
    }

    /// A pack that was interrupted keeps its head and the evidence that it had; everything else is
    /// made again. The folder of another question is left alone.
    #[test]
    fn an_interrupted_pack_is_gone_on_with_under_its_own_head() {
        let temporary = tempfile::tempdir().unwrap();
        let out = temporary.path().join("pack");
        let mut folder = Folder::open(&out, "one").unwrap();
        assert_eq!(folder.head(), None);
        folder.remember("one", TreeSize(8)).unwrap();
        folder.put(PackFile::Evidence(3), b"evidence").unwrap();
        folder.put(PackFile::Head(8), b"note").unwrap();
        drop(folder);

        assert!(Folder::open(&out, "another").is_err());
        let mut again = Folder::open(&out, "one").unwrap();
        assert_eq!(again.head(), Some(TreeSize(8)));
        assert!(again.leftover(3).is_some() && again.leftover(4).is_none());
        assert!(!again.path().join("heads/00000000000000000008.note").exists());
        assert!(again.files().is_empty());

        // What is not listed is taken away before the folder gets its name.
        again.put(PackFile::Evidence(4), b"evidence").unwrap();
        again.put(PackFile::Readme, b"readme").unwrap();
        let digest = again.finish(&contents(again.files().clone()), &out).unwrap();
        let written = std::fs::read(out.join("manifest.json")).unwrap();
        assert_eq!(digest, hex(&sha256(&written)));
        assert!(!again.path().exists());
        assert!(out.join("evidence/00000000000000000004.evidence").exists());
        assert!(!out.join("evidence/00000000000000000003.evidence").exists());
        assert!(!out.join("resume.json").exists() && !out.join("policies").exists());
    }

    /// What a pack that failed leaves is named; where that is nothing, nothing is left.
    #[test]
    fn a_pack_that_failed_says_what_it_leaves() {
        let temporary = tempfile::tempdir().unwrap();
        let out = temporary.path().join("pack");
        let fails = |folder: &Folder| folder.left(Failure::io("gone.")).message;
        let folder = Folder::open(&out, "one").unwrap();
        folder.remember("one", TreeSize(8)).unwrap();
        assert_eq!(fails(&folder), "gone.");
        assert!(!folder.path().exists());

        let mut folder = Folder::open(&out, "one").unwrap();
        folder.remember("one", TreeSize(8)).unwrap();
        folder.put(PackFile::Evidence(3), b"evidence").unwrap();
        let said = fails(&folder);
        assert!(said.starts_with("gone.\n") && said.contains("pack.partial"), "{said}");
        // What an earlier call made stays, whatever is in it.
        fs::remove_file(folder.path().join(PackFile::Evidence(3).to_string())).unwrap();
        let again = Folder::open(&out, "one").unwrap();
        assert!(fails(&again).contains("pack.partial") && again.path().exists());
    }

    #[test]
    fn a_file_in_parts_is_hashed_as_it_is_written() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(&temporary.path().join("pack"), "one").unwrap();
        let mut writer = folder.begin("entries.bin").unwrap();
        writer.add(&[1; 66]).unwrap();
        writer.add(&vec![2; 20_000]).unwrap();
        let digest = writer.finish().unwrap();
        let written = std::fs::read(folder.path().join("entries.bin")).unwrap();
        assert_eq!((digest, written.len()), (sha256(&written), 20_066));
    }
}
