//! The tenant's own storage: a folder, or a bucket that speaks S3.
//!
//! Both are one [`ObjectStore`]. A folder is locked by the process that has it; its files are put in
//! place whole, by a rename out of `.new/`, and [`Place::barrier`] makes them durable together,
//! which costs less than a sync a file and is all that the order of writes asks for (FOL-4). A
//! bucket is durable by itself; what may be written by one process only is written under the
//! condition that nobody else did meanwhile.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_core::encoding::escaped;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use tokio_stream::StreamExt as _;

use crate::source::{Fetch, FetchError};

/// The folder of files that are being written.
const UNFINISHED: &str = ".new";

/// What storage could not do. Its texts are safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Another process has the folder, or wrote the object meanwhile.
    #[error("{0} is being written by another process. Let that one finish, or stop it.")]
    Taken(String),
    /// A file is larger than any of its kind.
    #[error("{0} is larger than it can be: it is not what was written there.")]
    Oversized(String),
    /// The disk or the bucket failed.
    #[error("{place}: {why}. Check the path or bucket, its permissions and its space.")]
    Failed {
        /// The file or object.
        place: String,
        /// What was met.
        why: String,
    },
    /// A place that can't be.
    #[error("{0} is no place to write to. Name a folder, or a bucket such as s3://bucket/mirror.")]
    Unknown(String),
}

/// What an object was when it was last read or written here.
#[derive(Clone, Debug, Default)]
pub struct Version(Option<UpdateVersion>);

#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    // Locked while it is open.
    handle: File,
    unsynced: Mutex<BTreeSet<PathBuf>>,
    // Held while files are synced: who finds nothing to sync waits for who took it.
    syncing: tokio::sync::Mutex<()>,
    next: AtomicU64,
}

impl Folder {
    // Every change is a plain insertion or removal, so a poisoned lock still guards a whole set.
    fn unsynced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Inner {
    objects: Arc<dyn ObjectStore>,
    folder: Option<Folder>,
    shown: String,
}

/// A place below which files are read and written by name; clones are the same place.
#[derive(Clone, Debug)]
pub struct Place {
    inner: Arc<Inner>,
    base: String,
}

impl Place {
    /// What a text names: an `s3://` URL, whose credentials and endpoint come from the `AWS_*`
    /// variables, or else a folder.
    pub fn named(text: &str) -> Result<Self, StorageError> {
        match text.split_once("://") {
            Some(("s3", _)) => Self::bucket(text),
            Some(_) => Err(StorageError::Unknown(escaped(text))),
            None => Self::folder(FsPath::new(text)),
        }
    }

    /// Makes or opens a folder that one process at a time has.
    pub fn folder(dir: &FsPath) -> Result<Self, StorageError> {
        let shown = escaped(&dir.display().to_string());
        let failed = |error: io::Error| failed(&shown, &error);
        fs::create_dir_all(dir).map_err(failed)?;
        let dir = dir.canonicalize().map_err(failed)?;
        let handle = File::open(&dir).map_err(failed)?;
        handle.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => failed(error),
            TryLockError::WouldBlock => StorageError::Taken(shown.clone()),
        })?;
        // What an interrupted process left there has no name yet, so it is nobody's.
        match fs::remove_dir_all(dir.join(UNFINISHED)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let objects = LocalFileSystem::new_with_prefix(&dir)
            .map_err(|error| StorageError::Failed { place: shown.clone(), why: said(&error) })?;
        let folder = Folder {
            dir,
            handle,
            unsynced: Mutex::default(),
            syncing: tokio::sync::Mutex::default(),
            next: AtomicU64::new(0),
        };
        let objects: Arc<dyn ObjectStore> = Arc::new(objects);
        let inner = Inner { objects, folder: Some(folder), shown };
        Ok(Self { inner: Arc::new(inner), base: String::new() })
    }

    /// A folder to read from, whoever writes it.
    pub fn folder_read_only(dir: &FsPath) -> Result<Self, StorageError> {
        let shown = escaped(&dir.display().to_string());
        let objects = LocalFileSystem::new_with_prefix(dir)
            .map_err(|error| StorageError::Failed { place: shown.clone(), why: said(&error) })?;
        Ok(Self::of(Arc::new(objects), shown))
    }

    /// A bucket, or what is below a prefix of it.
    pub fn bucket(url: &str) -> Result<Self, StorageError> {
        let unknown = || StorageError::Unknown(escaped(url));
        let rest = url.strip_prefix("s3://").ok_or_else(unknown)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        if bucket.is_empty() || Path::parse(prefix).is_err() {
            return Err(unknown());
        }
        let objects = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .build()
            .map_err(|error| StorageError::Failed { place: escaped(url), why: said(&error) })?;
        let place = Self::of(Arc::new(objects), escaped(&format!("s3://{bucket}")));
        Ok(if prefix.is_empty() { place } else { place.below(prefix) })
    }

    /// Any object store; `shown` is what it is called in errors.
    pub fn of(objects: Arc<dyn ObjectStore>, shown: String) -> Self {
        Self { inner: Arc::new(Inner { objects, folder: None, shown }), base: String::new() }
    }

    /// The place below this name, which is one of ours.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        let base =
            if self.base.is_empty() { name.to_owned() } else { format!("{}/{name}", self.base) };
        Self { inner: Arc::clone(&self.inner), base }
    }

    /// Where a file is, as it may be printed.
    pub fn shown(&self, name: &str) -> String {
        let path = self.path(name);
        format!("{}/{path}", self.inner.shown.trim_end_matches('/'))
    }

    fn path(&self, name: &str) -> Path {
        if self.base.is_empty() {
            Path::from(name)
        } else {
            Path::from(format!("{}/{name}", self.base))
        }
    }

    fn error(&self, name: &str, error: &Error) -> StorageError {
        let place = self.shown(name);
        match error {
            Error::Precondition { .. } | Error::AlreadyExists { .. } => StorageError::Taken(place),
            other => StorageError::Failed { place, why: said(other) },
        }
    }

    /// The bytes of a file of at most `max`; none where there is no such file.
    pub async fn read(&self, name: &str, max: usize) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.read_version(name, max).await?.map(|(bytes, _)| bytes))
    }

    /// The same, with what [`Place::replace`] wants to know.
    pub async fn read_version(
        &self,
        name: &str,
        max: usize,
    ) -> Result<Option<(Vec<u8>, Version)>, StorageError> {
        let found = match self.inner.objects.get(&self.path(name)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| self.error(name, &error))?,
        };
        if found.meta.size > max as u64 {
            return Err(StorageError::Oversized(self.shown(name)));
        }
        let version =
            UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(|error| self.error(name, &error))?;
        Ok(Some((bytes.to_vec(), Version(Some(version)))))
    }

    /// Puts a file in place, whole; in a folder it is durable by the next [`Place::barrier`].
    pub async fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.put_as(name, bytes, PutMode::Overwrite).await.map(drop)
    }

    /// The same where the file is as `version` says, which is then what was written.
    pub async fn replace(
        &self,
        name: &str,
        bytes: &[u8],
        version: &mut Version,
    ) -> Result<(), StorageError> {
        // The lock on a folder is the condition there.
        let mode = match (&self.inner.folder, version.0.take()) {
            (Some(_), _) => PutMode::Overwrite,
            (None, Some(known)) => PutMode::Update(known),
            (None, None) => PutMode::Create,
        };
        version.0 = self.put_as(name, bytes, mode).await?;
        Ok(())
    }

    /// Puts a file in place where there is none; says whether there was none.
    pub async fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, StorageError> {
        if self.inner.folder.is_some() {
            let there = self.inner.objects.head(&self.path(name)).await;
            match there {
                Ok(_) => return Ok(false),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.error(name, &error)),
            }
            self.put(name, bytes).await?;
            return Ok(true);
        }
        match self.put_as(name, bytes, PutMode::Create).await {
            Ok(_) => Ok(true),
            Err(StorageError::Taken(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn put_as(
        &self,
        name: &str,
        bytes: &[u8],
        mode: PutMode,
    ) -> Result<Option<UpdateVersion>, StorageError> {
        let (path, payload) = (self.path(name), PutPayload::from(bytes.to_vec()));
        let objects = &self.inner.objects;
        let error = |error: Error| self.error(name, &error);
        let Some(folder) = &self.inner.folder else {
            let options = PutOptions::from(mode);
            let put = objects.put_opts(&path, payload, options).await.map_err(error)?;
            return Ok(Some(UpdateVersion { e_tag: put.e_tag, version: put.version }));
        };
        // What a kill leaves half done is below `.new/`, and nowhere else.
        let number = folder.next.fetch_add(1, Ordering::Relaxed);
        let unfinished = Path::from(format!("{UNFINISHED}/{number}"));
        objects.put(&unfinished, payload).await.map_err(error)?;
        objects.rename(&unfinished, &path).await.map_err(error)?;
        folder.unsynced().insert(folder.dir.join(path.as_ref()));
        Ok(None)
    }

    /// Makes everything that was put so far durable.
    pub async fn barrier(&self) -> Result<(), StorageError> {
        let Some(folder) = &self.inner.folder else { return Ok(()) };
        let _syncing = folder.syncing.lock().await;
        let paths = std::mem::take(&mut *folder.unsynced());
        let inner = Arc::clone(&self.inner);
        let synced = tokio::task::spawn_blocking(move || {
            let Some(folder) = &inner.folder else { return Ok(()) };
            let synced = sync(folder, &paths);
            if synced.is_err() {
                // Not done: whoever comes next must not find nothing to do.
                folder.unsynced().extend(paths);
            }
            synced
        });
        let synced = synced.await.unwrap_or_else(|_| Err(io::Error::other("syncing ended")));
        synced.map_err(|error| failed(&self.inner.shown, &error))
    }

    /// Removes a file, if it is there.
    pub async fn remove(&self, name: &str) -> Result<(), StorageError> {
        match self.inner.objects.delete(&self.path(name)).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(self.error(name, &error)),
        }
        if let Some(folder) = &self.inner.folder {
            let path = folder.dir.join(self.path(name).as_ref());
            folder.unsynced().remove(&path);
            // A folder of partial tiles that is empty now is none of the layout; any other stays.
            if let Some(parent) = path.parent().filter(|it| it.extension().is_some()) {
                let _ = fs::remove_dir(parent);
            }
        }
        Ok(())
    }

    /// The names below a folder, at most `max` of them, in order.
    pub async fn names(&self, below: &str, max: usize) -> Result<Vec<String>, StorageError> {
        let prefix = self.path(below);
        let mut found = self.inner.objects.list(Some(&prefix));
        let mut names = Vec::new();
        while let Some(object) = found.next().await {
            let object = match object {
                Err(Error::NotFound { .. }) => continue,
                object => object.map_err(|error| self.error(below, &error))?,
            };
            let name = object.location.as_ref().strip_prefix(prefix.as_ref());
            if let Some(name) = name.and_then(|name| name.strip_prefix('/')) {
                names.push(name.to_owned());
            }
            if names.len() > max {
                return Err(StorageError::Oversized(self.shown(below)));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Names of what is directly below, in order, folders only.
    pub async fn folders(&self) -> Result<Vec<String>, StorageError> {
        let prefix = (!self.base.is_empty()).then(|| Path::from(self.base.as_str()));
        let found = self.inner.objects.list_with_delimiter(prefix.as_ref()).await;
        let found = found.map_err(|error| self.error("", &error))?;
        let mut names: Vec<String> = found
            .common_prefixes
            .iter()
            .filter_map(|path| path.filename())
            .map(str::to_owned)
            .collect();
        names.sort();
        Ok(names)
    }

    /// Makes a folder that only its owner may look into; a bucket's rights are its own.
    pub fn private(&self, name: &str) -> Result<(), StorageError> {
        let Some(folder) = &self.inner.folder else { return Ok(()) };
        let path = folder.dir.join(self.path(name).as_ref());
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| failed(&self.shown(name), &error))
    }
}

impl Fetch for Place {
    async fn fetch(&self, name: &str, max: usize) -> Result<Vec<u8>, FetchError> {
        let place = || self.shown(name);
        match self.read(name, max).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => {
                Err(FetchError { place: place(), why: "it is not there".to_owned(), absent: true })
            }
            Err(error) => Err(FetchError { place: place(), why: error.to_string(), absent: false }),
        }
    }
}

/// Syncs files, and every folder above them: a new folder's own name lies in the one above it.
fn sync(folder: &Folder, paths: &BTreeSet<PathBuf>) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for path in paths {
        match File::open(path).and_then(|file| file.sync_all()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            // It was removed since.
            _ => {}
        }
        let above = path.ancestors().skip(1).take_while(|above| above.starts_with(&folder.dir));
        folders.extend(above);
    }
    for path in folders {
        match File::open(path).and_then(|folder| folder.sync_all()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    folder.handle.sync_all()
}

fn failed(place: &str, error: &io::Error) -> StorageError {
    StorageError::Failed { place: place.to_owned(), why: escaped(&error.to_string()) }
}

/// An error with its causes, on one line.
fn said(error: &Error) -> String {
    escaped(&error.to_string().replace('\n', " "))
}
