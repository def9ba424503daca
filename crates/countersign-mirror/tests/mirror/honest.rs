//! An honest log, followed.

use countersign_core::codes::Code;
use countersign_core::hash::TreeSize;
use countersign_core::note::NOTE_BYTES_MAX;
use countersign_mirror::compare::{Copy, compare};
use countersign_mirror::follow::{CHECKPOINT, FollowError, Follower, Round};
use countersign_mirror::storage::{Place, StorageError};
use countersign_mirror::tree::TreeError;
use countersign_testkit::malicious::{History, Ledger};

use crate::stage::{ORIGIN, Stage, assert_holds, followed};

/// MIRR-1, FOL-1 to FOL-4: every size around what a tile holds, with restarts in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_growing_log_is_followed_head_by_head() {
    let stage = Stage::new();
    let mut history = History::default();
    let mut follower = stage.holding(&history).await;
    let sizes = [1, 2, 255, 256, 257, 511, 512, 700, 65_535, 65_536, 65_537, 66_000];
    for (second, size) in (2..).zip(sizes) {
        history.grow(size - history.size());
        let head = stage.ledger.show(&history, second);
        if second % 3 == 0 {
            follower = stage.open().await.unwrap();
        }
        let from = follower.head().unwrap().size();
        let moved = follower.round().await.unwrap();
        assert_eq!(moved, Round::Moved { from, to: TreeSize(size) });
        stage.assert_holds(&history).await;
        let note = stage.folder().read(CHECKPOINT, NOTE_BYTES_MAX).await.unwrap().unwrap();
        assert_eq!(note, head.as_str().as_bytes());
        assert_eq!(follower.round().await.unwrap(), Round::Unchanged);
    }
    let heads = stage.folder().names("heads", 100).await.unwrap();
    assert_eq!(heads.len(), sizes.len() + 1, "every head, the empty one included");
    assert_eq!(heads[4], "00000000000000000256.note");
    assert_eq!(stage.folder().names("state", 100).await.unwrap().len(), 1);
    // The same head at a later time is the newest word on it.
    let head = stage.ledger.show(&history, 100);
    assert_eq!(follower.round().await.unwrap(), Round::Unchanged);
    let name = "heads/00000000000000066000.note";
    for name in [CHECKPOINT, name] {
        let note = stage.folder().read(name, NOTE_BYTES_MAX).await.unwrap().unwrap();
        assert_eq!(note, head.as_str().as_bytes());
    }
    stage.ledger.show(&history, 99);
    assert_eq!(follower.round().await.unwrap(), Round::Unchanged, "an old copy is no news");
    assert_eq!(follower.head().unwrap().seconds(), Some(Ledger::second(100)));
}

/// FOL-3: a source that gives other bytes gives nothing; one that gives none is asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_hash_to_the_head_is_not_kept() {
    let stage = Stage::new();
    let mut history = History::default();
    history.grow(300);
    let mut follower = stage.holding(&history).await;
    history.grow(700);
    stage.ledger.show(&history, 2);
    // In the order in which they are read: what passed in one round is there in the next.
    for name in ["tile/1/000.p/3", "tile/entries/001", "tile/0/002", "tile/entries/003.p/232"] {
        let mut bytes = history.file(name).unwrap();
        let middle = bytes.len() / 2 + 10;
        bytes[middle] ^= 1;
        stage.ledger.alter(name, bytes);
        let error = follower.round().await.unwrap_err();
        assert!(matches!(error, FollowError::Tree(TreeError::Altered { .. })), "{error}");
        assert_eq!(follower.head().unwrap().size().0, 300);
        assert_eq!(stage.folder().read(name, 1 << 20).await.unwrap(), None, "{name}");
        stage.ledger.mend();
    }
    // Longer than any file of its kind.
    stage.ledger.alter("tile/entries/003.p/232", vec![0; 232 * 68 + 1]);
    assert!(matches!(follower.round().await.unwrap_err(), FollowError::Tree(TreeError::Fetch(_))));
    stage.ledger.alter("tile/entries/003.p/232", Vec::new());
    assert!(follower.round().await.is_err());
    stage.ledger.mend();
    follower.round().await.unwrap();
    stage.assert_holds(&history).await;
    // A file of the mirror that was damaged is mended when it is needed.
    let whole = history.file("tile/0/003.p/232").unwrap();
    stage.folder().put("tile/0/003.p/232", &[0; 7_424]).await.unwrap();
    history.grow(1);
    stage.ledger.show(&history, 3);
    follower.round().await.unwrap();
    assert_eq!(history.file("tile/0/003.p/233").unwrap()[..whole.len()], whole);
    stage.assert_holds(&history).await;
}

/// FOL-1: only the log's own word, by its clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_somebody_else_is_not_believed() {
    let stage = Stage::new();
    let mut history = History::default();
    history.grow(10);
    let mut follower = stage.holding(&history).await;
    let other = Ledger::new("ledger.acme.example/other");
    history.grow(1);
    for (note, code) in [
        (other.keys().head(&history, 11, 5).as_str().to_owned(), Code::OriginUnknown),
        ("no note\n".to_owned(), Code::NoteMalformed),
        // Signed, and without its clock's line.
        {
            let head = stage.ledger.keys().head(&history, 11, 5);
            let lines: Vec<&str> = head.as_str().lines().collect();
            (format!("{}\n", lines[..5].join("\n")), Code::ClockAbsent)
        },
        {
            let head = stage.ledger.keys().head(&history, 11, 5);
            (head.as_str().replacen("\n11\n", "\n12\n", 1), Code::LogSignature)
        },
    ] {
        stage.ledger.alter(CHECKPOINT, note.into_bytes());
        let error = follower.round().await.unwrap_err();
        assert!(matches!(&error, FollowError::Head(fault) if fault.code == code), "{error}");
        assert!(error.is_passing());
    }
    stage.ledger.alter(CHECKPOINT, b"\xff".to_vec());
    assert!(follower.round().await.is_err());
    stage.ledger.mend();
    stage.ledger.show(&history, 2);
    follower.round().await.unwrap();
    assert_eq!(follower.head().unwrap().size().0, 11);
}

/// What is held is the ground of everything: without it, or with another's, nothing is followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_head_that_can_not_be_believed_ends_the_following() {
    let stage = Stage::new();
    let mut history = History::default();
    history.grow(600);
    drop(stage.holding(&history).await);
    let folder = stage.folder();
    let note = folder.read(CHECKPOINT, NOTE_BYTES_MAX).await.unwrap().unwrap();
    folder.put(CHECKPOINT, b"nothing\n").await.unwrap();
    let error = stage.open().await.unwrap_err();
    assert!(matches!(error, FollowError::Held { .. }) && !error.is_passing(), "{error}");
    assert_eq!(error.code(), Code::MirrorHeld);
    folder.put(CHECKPOINT, &note).await.unwrap();
    // The state can be made again from the entries.
    let file = "state/00000000000000000600.json";
    let whole = folder.read(file, 1 << 20).await.unwrap();
    folder.put(file, b"{").await.unwrap();
    stage.open().await.unwrap();
    assert_eq!(folder.read(file, 1 << 20).await.unwrap(), whole);
}

/// A ledger that fails is asked again, and nothing is moved meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_fails_is_asked_again() {
    let stage = Stage::new();
    let mut history = History::default();
    history.grow(5);
    let mut follower = stage.holding(&history).await;
    stage.ledger.break_down(true);
    let before = stage.ledger.requests();
    let error = follower.round().await.unwrap_err();
    assert!(matches!(error, FollowError::Fetch(_)) && error.is_passing(), "{error}");
    assert_eq!(stage.ledger.requests() - before, 5, "with growing waits in between");
    stage.ledger.break_down(false);
    assert_eq!(follower.round().await.unwrap(), Round::Unchanged);
}

/// One process has a folder; two mirrors of one log agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_a_mirror_as_a_bucket_is() {
    let stage = Stage::new();
    let mut history = History::default();
    history.grow(900);
    let in_memory = stage.holding(&history).await;
    let dir = tempfile::tempdir().unwrap();
    // A leftover of a killed process.
    std::fs::create_dir_all(dir.path().join("m/.new")).unwrap();
    std::fs::write(dir.path().join("m/.new/3"), "half").unwrap();
    let place = Place::folder(&dir.path().join("m")).unwrap();
    assert!(matches!(Place::folder(&dir.path().join("m")), Err(StorageError::Taken(_))));
    let log = followed(&stage.ledger);
    let mut follower = Follower::open(log.clone(), stage.source.clone(), &place).await.unwrap();
    follower.round().await.unwrap();
    history.grow(50);
    stage.ledger.show(&history, 2);
    follower.round().await.unwrap();
    assert_holds(&place.below(&log.folder()), &history).await;
    assert_eq!(std::fs::read_dir(dir.path().join("m/.new")).unwrap().count(), 0);
    let one = Copy::mirror(&log, in_memory.place().clone()).await.unwrap();
    let other = Copy::mirror(&log, place.below(&log.folder())).await.unwrap();
    let compared = compare(&one, &other).await.unwrap();
    assert_eq!(compared.sizes, [TreeSize(900), TreeSize(950)]);
    assert_eq!((compared.heads, compared.finding), (4, None));
    let tiles = Copy::newest(&log, stage.source.clone()).await.unwrap();
    assert_eq!(compare(&tiles, &one).await.unwrap().finding, None);
    assert_eq!(follower.origin(), ORIGIN);
}
