//! What the tests of this crate share: a data directory that a scribe writes to.

// Each test crate uses a part of this, and a panic is how they fail.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use countersign_core::codes::Code;
use countersign_core::hash::TreeSize;
use countersign_log::store::{Store as _, StoredHead};
use countersign_rocksdb::{OpenError, Options, RocksStore};
use countersign_testkit::checker::check_whole_log;
use countersign_testkit::scribe::Scribe;
use tempfile::TempDir;

pub const ORIGIN: &str = "rocks.example/log";

/// A directory and who writes to it.
pub struct Data {
    pub temp: TempDir,
    pub scribe: Scribe,
    pub options: Options,
}

impl Data {
    pub fn new() -> Self {
        let (temp, scribe) = (TempDir::new().unwrap(), Scribe::new(ORIGIN, 1));
        Self { temp, scribe, options: Options::default() }
    }

    /// Commits of so many entries each, the first `published` of them published.
    pub async fn with_commits(commits: &[usize], published: usize) -> Self {
        let mut data = Self::new();
        data.write(commits, published).await;
        data
    }

    pub fn dir(&self) -> PathBuf {
        self.temp.path().join("data")
    }

    pub fn anchor(&self) -> PathBuf {
        self.dir().join("anchor")
    }

    pub fn db(&self) -> PathBuf {
        self.dir().join("db")
    }

    pub fn open(&self) -> Result<RocksStore, OpenError> {
        RocksStore::open(&self.dir(), &self.options)
    }

    /// Opens, acquires, commits, publishes and closes; gives the heads.
    pub async fn write(&mut self, commits: &[usize], published: usize) -> Vec<StoredHead> {
        let store = self.open().unwrap();
        let (mut lease, _) = store.acquire().await.unwrap();
        let mut heads = Vec::new();
        for (n, count) in commits.iter().enumerate() {
            let (expected, commit) = (self.scribe.size(), self.scribe.commit(*count));
            heads.push(commit.head.clone());
            store.commit(&mut lease, expected, commit).await.unwrap();
            if n < published {
                store.publish(&mut lease, &heads[n]).await.unwrap();
            }
        }
        heads
    }

    /// The code with which it is refused.
    pub fn refusal(&self) -> Code {
        match self.open() {
            Ok(_) => panic!("it was opened"),
            Err(error) => {
                // Every refusal is a sentence that names the place.
                assert!(error.to_string().contains("data"), "{error}");
                error.code()
            }
        }
    }

    /// Opens it, reads everything again and gives its size.
    pub async fn whole(&self) -> TreeSize {
        let store = self.open().unwrap();
        self.whole_of(&store).await
    }

    pub async fn whole_of(&self, store: &RocksStore) -> TreeSize {
        let whole = check_whole_log(store, ORIGIN, self.scribe.vkey()).await.unwrap();
        let (_, head) = store.acquire().await.unwrap();
        assert_eq!(whole.head, head);
        whole.size
    }

    /// Files of the database with this extension, by name.
    pub fn files_of_kind(&self, kind: &str) -> Vec<PathBuf> {
        self.files(|path| path.extension().is_some_and(|extension| extension == kind))
    }

    /// Lists of files of the database, by name.
    pub fn manifests(&self) -> Vec<PathBuf> {
        self.files(|path| path.file_name().unwrap().to_str().unwrap().starts_with("MANIFEST"))
    }

    fn files(&self, is: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.db()).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| is(path)).collect();
        files.sort();
        files
    }

    /// Keeps everything that stands in the directory, to be put back later.
    pub fn keep(&self) -> Kept {
        let kept = Kept(TempDir::new().unwrap());
        copy(&self.dir(), kept.0.path());
        kept
    }

    /// Puts back what was kept.
    pub fn restore(&self, kept: &Kept) {
        std::fs::remove_dir_all(self.dir()).unwrap();
        copy(kept.0.path(), &self.dir());
    }
}

pub struct Kept(TempDir);

impl Kept {
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &to);
        } else {
            std::fs::copy(file.path(), to).unwrap();
        }
    }
}

pub fn flip(path: &Path, bit: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).unwrap();
}
