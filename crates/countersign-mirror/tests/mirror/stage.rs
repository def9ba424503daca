//! A malicious ledger, a mirror of it, and what the mirror must have.

use std::sync::Arc;

use countersign_core::alarm::{AlarmReport, verify_alarm};
use countersign_core::codes::Code;
use countersign_core::hash::TreeSize;
use countersign_core::tiles::{TILE_WIDTH, TileKind, TilePath, partial_tiles};
use countersign_core::trust::Trust;
use countersign_core::verify::Verdict;
use countersign_mirror::follow::{ALARMS, FollowError, Followed, Follower, STOPPED};
use countersign_mirror::source::{Fetch, FetchError, HttpSource};
use countersign_mirror::storage::Place;
use countersign_testkit::malicious::{History, Ledger};
use object_store::memory::InMemory;

pub(crate) const ORIGIN: &str = "ledger.acme.example/prod";

pub(crate) fn trust(ledger: &Ledger) -> Trust {
    Trust::parse(&ledger.keys().trust(), |_| Err(Code::TrustMalformed.into())).unwrap()
}

pub(crate) fn followed(ledger: &Ledger) -> Followed {
    Followed { origin: ORIGIN.to_owned(), trust: Arc::new(trust(ledger)), branch_grace_s: 60 }
}

pub(crate) fn memory() -> Place {
    Place::of(Arc::new(InMemory::new()), "memory".to_owned())
}

/// A ledger on a port, and a mirror of it in memory.
pub(crate) struct Stage {
    pub(crate) ledger: Ledger,
    pub(crate) source: HttpSource,
    pub(crate) place: Place,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let ledger = Ledger::new(ORIGIN);
        let source = HttpSource::new(&format!("http://{}", ledger.serve().unwrap())).unwrap();
        Self { ledger, source, place: memory() }
    }

    pub(crate) async fn open(&self) -> Result<Follower<HttpSource>, FollowError> {
        Follower::open(followed(&self.ledger), self.source.clone(), &self.place).await
    }

    /// A mirror that holds this history.
    pub(crate) async fn holding(&self, history: &History) -> Follower<HttpSource> {
        self.ledger.show(history, 1);
        let mut follower = self.open().await.unwrap();
        follower.round().await.unwrap();
        assert_eq!(follower.head().unwrap().size().0, history.size());
        follower
    }

    /// The folder of the log.
    pub(crate) fn folder(&self) -> Place {
        self.place.below(&followed(&self.ledger).folder())
    }

    /// The error is a finding of this code, no later run follows, and the alarm, which is there if
    /// `proven`, verifies in other hands.
    pub(crate) async fn assert_stopped(
        &self,
        error: FollowError,
        code: Code,
        proven: bool,
    ) -> Option<AlarmReport> {
        let FollowError::Stopped(stopped) = &error else { panic!("{error}") };
        assert_eq!((stopped.code, stopped.alarm.is_some()), (code, proven), "{error}");
        let again = self.open().await.unwrap_err();
        assert_eq!(again.to_string(), error.to_string(), "a restart says the same");
        assert!(self.folder().read(STOPPED, 1 << 20).await.unwrap().is_some());
        let names = self.folder().names(ALARMS, 10).await.unwrap();
        let Some(name) = &stopped.alarm else {
            assert_eq!(names, [""; 0]);
            return None;
        };
        assert_eq!(&names, std::slice::from_ref(name));
        let bytes = self.folder().read(&format!("{ALARMS}/{name}"), 1 << 23).await.unwrap();
        let report = verify_alarm(&bytes.unwrap(), Some(&trust(&self.ledger)));
        assert_eq!((report.result, report.fault), (Verdict::Valid, None));
        Some(report)
    }

    /// Everything that a tree of this size has, and nothing else of tiles, as the log serves it.
    pub(crate) async fn assert_holds(&self, history: &History) {
        assert_holds(&self.folder(), history).await;
    }
}

/// See [`Stage::assert_holds`].
pub(crate) async fn assert_holds(folder: &Place, history: &History) {
    let expected = files(history.size());
    let mut names: Vec<String> = expected.iter().map(ToString::to_string).collect();
    names.sort();
    let found = folder.names("tile", 1_000_000).await.unwrap();
    let found: Vec<String> = found.iter().map(|name| format!("tile/{name}")).collect();
    assert_eq!(found, names);
    for name in names {
        let bytes = folder.read(&name, 1 << 20).await.unwrap();
        assert_eq!(bytes, history.file(&name), "{name}");
    }
}

/// The tiles and bundles of a tree.
fn files(size: u64) -> Vec<TilePath> {
    let mut all = partial_tiles(TreeSize(size));
    let width = u64::from(TILE_WIDTH);
    let mut count = size;
    for level in 0.. {
        count /= width;
        if count == 0 {
            break;
        }
        let full =
            (0..count).map(|index| TilePath::new(TileKind::Hashes(level), index, TILE_WIDTH));
        all.extend(full.flatten());
    }
    let bundles = (0..size / width).map(|at| TilePath::new(TileKind::Entries, at, TILE_WIDTH));
    all.extend(bundles.flatten());
    let rest = u16::try_from(size % width).unwrap();
    all.extend(TilePath::new(TileKind::Entries, size / width, rest));
    all
}

/// The ledger's files without a wire, for what is done very often. Each call lets others go first.
#[derive(Clone, Debug)]
pub(crate) struct Direct(pub(crate) Ledger);

impl Fetch for Direct {
    async fn fetch(&self, name: &str, max: usize) -> Result<Vec<u8>, FetchError> {
        tokio::task::yield_now().await;
        let absent = || FetchError { place: name.to_owned(), why: "none".to_owned(), absent: true };
        self.0.file(name).filter(|bytes| bytes.len() <= max).ok_or_else(absent)
    }
}
