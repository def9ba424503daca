//! FOL-4: a mirror that is cut off anywhere goes on, and ends with the same bytes as one that never
//! was.

use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;

use countersign_mirror::follow::{Follower, Round};
use countersign_mirror::storage::Place;
use countersign_testkit::folder::files_below;
use countersign_testkit::malicious::{History, Ledger};

use crate::stage::{Direct, ORIGIN, assert_holds, followed};

fn bytes_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = files_below(dir).unwrap();
    found.retain(|path, _| !path.starts_with(".new"));
    found
}

/// The folder, once the blocking writes of whoever had it before have ended.
async fn free(dir: &Path) -> Place {
    loop {
        match Place::folder(dir) {
            Ok(place) => return place,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// A process that lives for so many polls of its future; gives what its round came to, if it got
/// there.
async fn live(ledger: &Ledger, place: &Place, polls: usize) -> Option<Round> {
    let mut left = polls;
    let mut life = pin!(async {
        let source = Direct(ledger.clone());
        let mut follower = Follower::open(followed(ledger), source, place).await.unwrap();
        follower.round().await.unwrap()
    });
    let ended = poll_fn(|context| {
        let polled = life.as_mut().poll(context);
        left -= 1;
        match polled {
            Poll::Ready(round) => Poll::Ready(Some(round)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    ended.await
}

/// Follows until the shown head is held. Gives how many processes it took.
async fn follow_in_lives(ledger: &Ledger, dir: &Path, polls: usize) -> usize {
    let mut lives = 1;
    // Each life gets further than the last, or one too short would never end.
    while live(ledger, &free(dir).await, polls + lives / 4).await.is_none() {
        lives += 1;
    }
    lives
}

/// A head that was begun and never reached, because the log went on, leaves no file behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_was_never_reached_leaves_nothing() {
    let ledger = Ledger::new(ORIGIN);
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::default();
    let mut cut_off = 0;
    for second in 0..60 {
        let polls = 4 + usize::try_from(second).unwrap();
        history.grow(37);
        ledger.show(&history, 2 * second);
        cut_off += usize::from(live(&ledger, &free(dir.path()).await, polls).await.is_none());
        history.grow(23);
        ledger.show(&history, 2 * second + 1);
        let place = free(dir.path()).await;
        assert!(live(&ledger, &place, usize::MAX).await.is_some());
        assert_holds(&place.below(&followed(&ledger).folder()), &history).await;
    }
    assert!(cut_off > 10, "{cut_off}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_a_mirror_cut_off_anywhere_ends_like_one_that_never_was() {
    let ledger = Ledger::new(ORIGIN);
    let dirs = tempfile::tempdir().unwrap();
    let (whole, cut) = (dirs.path().join("whole"), dirs.path().join("cut"));
    let step = if std::env::var_os("COUNTERSIGN_SOAK").is_some() { 1 } else { 7 };
    let mut lives = 0;
    for polls in (1..40).step_by(step) {
        let _ = std::fs::remove_dir_all(&whole);
        let _ = std::fs::remove_dir_all(&cut);
        let mut history = History::default();
        for (second, more) in [3, 400, 70].into_iter().enumerate() {
            history.grow(more);
            ledger.show(&history, second as u64);
            assert_eq!(follow_in_lives(&ledger, &whole, 1_000_000).await, 1);
            lives += follow_in_lives(&ledger, &cut, polls).await;
            assert_eq!(bytes_below(&cut), bytes_below(&whole), "{polls} polls, {more} more");
        }
    }
    assert!(lives > 50, "it was hardly ever cut off: {lives}");
}
