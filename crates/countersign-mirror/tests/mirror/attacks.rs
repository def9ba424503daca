//! Everything that a ledger with its keys in hand can try, and what it comes to.

use countersign_core::alarm::Proves;
use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_core::hash::RootHash;
use countersign_core::kinds::Kind;
use countersign_core::stream::StreamId;
use countersign_mirror::compare::{Copy, compare};
use countersign_mirror::follow::{FollowError, Follower, Head, Round};
use countersign_mirror::tree::TreeError;
use countersign_testkit::malicious::{History, Ledger};

use crate::stage::{Stage, followed, memory, trust};

fn grown(size: u64) -> History {
    let mut history = History::default();
    history.grow(size);
    history
}

/// FOL-2: an entry is another, under a head of the same size and under a larger one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewritten_entry_is_an_alarm() {
    for (more, proves) in [(0, Proves::Fork), (7, Proves::Rewrite), (600, Proves::Rewrite)] {
        for size in [1, 2, 300, 512] {
            let stage = Stage::new();
            let mut history = grown(size);
            let mut follower = stage.holding(&history).await;
            history.rewrite(size / 2);
            history.grow(more);
            stage.ledger.show(&history, 2);
            let error = follower.round().await.unwrap_err();
            let report = stage.assert_stopped(error, Code::HeadFork, true).await.unwrap();
            assert_eq!(report.proves, Some(proves));
            stage.assert_holds(&grown(size)).await;
            assert_eq!(follower.head().unwrap().size().0, size, "it did not move");
        }
    }
}

/// FOL-2, FOL-7: another history that is larger, or smaller than what is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_is_an_alarm_whichever_way_it_comes() {
    for (at, size) in [(0, 400), (100, 400), (299, 301), (100, 200), (299, 300), (3, 4)] {
        let stage = Stage::new();
        let history = grown(300);
        let mut follower = stage.holding(&history).await;
        let mut fork = history.forked(at, 1);
        fork.grow(size - at);
        stage.ledger.show(&fork, 2);
        let error = follower.round().await.unwrap_err();
        stage.assert_stopped(error, Code::HeadFork, true).await.unwrap();
        stage.assert_holds(&history).await;
    }
}

/// FOL-7: a smaller head of the same history, signed later, is nobody's old copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_is_this_mirrors_own_finding() {
    let stage = Stage::new();
    let history = grown(300);
    let mut follower = stage.holding(&history).await;
    stage.ledger.show(&grown(200), 2);
    let error = follower.round().await.unwrap_err();
    assert!(error.to_string().contains("own observation"), "{error}");
    assert_eq!(stage.assert_stopped(error, Code::HeadRollback, false).await, None);
    stage.assert_holds(&history).await;
}

/// FOL-7: an old copy is waited out, for some looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_is_looked_at_a_few_times() {
    let stage = Stage::new();
    let mut history = grown(200);
    let mut follower = stage.holding(&history).await;
    let old = history.clone();
    history.grow(100);
    stage.ledger.show(&history, 2);
    follower.round().await.unwrap();
    for second in [0, 1] {
        for _ in 0..4 {
            stage.ledger.show(&old, second);
            assert_eq!(follower.round().await.unwrap(), Round::Behind);
        }
        stage.ledger.show(&history, 2);
        assert_eq!(follower.round().await.unwrap(), Round::Unchanged);
    }
    stage.ledger.show(&old, 1);
    for _ in 0..4 {
        assert_eq!(follower.round().await.unwrap(), Round::Behind);
    }
    let error = follower.round().await.unwrap_err();
    stage.assert_stopped(error, Code::HeadRollback, false).await;
}

/// A signed root that its tiles don't have: nothing is proved, and nothing is moved to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_its_tiles_do_not_have_is_not_moved_to() {
    let stage = Stage::new();
    let mut history = grown(300);
    let mut follower = stage.holding(&history).await;
    history.grow(10);
    stage.ledger.show(&history, 2);
    let (keys, second) = (stage.ledger.keys(), Ledger::second(3));
    for head in [
        keys.sign(310, &RootHash([7; 32]), second),
        keys.sign(311, &history.root(310), second),
        keys.sign(309, &history.root(310), second),
        keys.sign(u64::MAX, &history.root(310), second),
    ] {
        stage.ledger.show_head(&head);
        let error = follower.round().await.unwrap_err();
        assert!(matches!(error, FollowError::Tree(_)) && error.is_passing(), "{error}");
        assert_eq!(follower.head().unwrap().size().0, 300);
    }
    stage.ledger.show(&history, 4);
    follower.round().await.unwrap();
    stage.assert_holds(&history).await;
}

/// ENT-4, FOL-5: the head is held, since it proves what it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_dated_back_is_an_alarm() {
    for behind in [0, 500] {
        let stage = Stage::new();
        let mut history = grown(300);
        let mut follower = stage.holding(&history).await;
        let stream = StreamId([1; 16]);
        let time = Micros(history.time().0 - 1);
        history.add(stream, history.next_seq(stream), time);
        history.grow(behind);
        stage.ledger.show(&history, 2);
        let error = follower.round().await.unwrap_err();
        let report = stage.assert_stopped(error, Code::LogTimes, true).await.unwrap();
        assert_eq!(report.proves, Some(Proves::Order));
        stage.assert_holds(&history).await;
        assert_eq!(follower.head().unwrap().size().0, 301 + behind);
    }
}

/// STR-3, FOL-5: near and far, skipped and repeated, in a stream that is known and in one that is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_skipped_or_repeated_is_an_alarm() {
    let known = StreamId([1; 16]);
    for (stream, step, between, proves) in [
        (known, 2, 0, Proves::Gap),
        (known, 1_000, 0, Proves::Stream),
        (known, 0, 0, Proves::Stream),
        (known, -1, 40, Proves::Stream),
        (StreamId([9; 16]), 1, 0, Proves::Gap),
        (StreamId([9; 16]), 1, 40, Proves::Gap),
    ] {
        let stage = Stage::new();
        let mut history = grown(700);
        let mut follower = stage.holding(&history).await;
        history.grow(between);
        let next = history.next_seq(stream);
        // The step from the last number; a stream that is new has none, and begins at it.
        let seq = if next == 0 { 1 } else { (next - 1).checked_add_signed(step).unwrap() };
        history.add(stream, seq, Micros(history.time().0 + 1));
        stage.ledger.show(&history, 2);
        let error = follower.round().await.unwrap_err();
        let report = stage.assert_stopped(error, Code::LogNumbers, true).await.unwrap();
        assert_eq!(report.proves, Some(proves), "{stream:?} {step} {between}");
        stage.assert_holds(&history).await;
    }
}

/// A skipped number whose neighbours are too far apart for one file: said, and no alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_too_wide_for_one_file_is_said() {
    let stage = Stage::new();
    let far = StreamId([9; 16]);
    let mut history = History::default();
    history.add(far, 0, history.time());
    history.grow(70_000);
    let mut follower = stage.holding(&history).await;
    history.add(far, 2, history.time());
    stage.ledger.show(&history, 2);
    let error = follower.round().await.unwrap_err();
    assert!(error.to_string().contains("the mirror as a whole"), "{error}");
    stage.assert_stopped(error, Code::LogNumbers, false).await;
    assert_eq!(follower.head().unwrap().size().0, 70_002, "which the mirror holds");
}

/// NOTE-10: more entries, and less time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_runs_backwards_is_found() {
    let stage = Stage::new();
    let mut history = grown(300);
    let mut follower = stage.holding(&history).await;
    history.grow(10);
    stage.ledger.show(&history, 0);
    let error = follower.round().await.unwrap_err();
    stage.assert_stopped(error, Code::HeadTime, false).await;
    stage.assert_holds(&history).await;
}

/// ENT-2, NOTE-10: what makes `verify mirror` INVALID stops a mirror too, though no alarm shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_genesis_and_an_entry_ahead_of_the_clock_stop_it() {
    let stage = Stage::new();
    let mut history = grown(300);
    let mut follower = stage.holding(&history).await;
    let stream = StreamId([1; 16]);
    history.add_kind(Kind::Genesis, stream, history.next_seq(stream), history.time());
    stage.ledger.show(&history, 2);
    let error = follower.round().await.unwrap_err();
    stage.assert_stopped(error, Code::GenesisPlace, false).await;

    let stage = Stage::new();
    let mut history = grown(300);
    let mut follower = stage.holding(&history).await;
    let ahead = Micros(history.time().0 + 3_600 * 1_000_000);
    history.add(stream, history.next_seq(stream), ahead);
    stage.ledger.show(&history, 2);
    let error = follower.round().await.unwrap_err();
    stage.assert_stopped(error, Code::ClockBeforeEntry, false).await;
}

/// An entry that this program does not know is kept, counted and not judged (ENT-2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_entry_is_kept_and_counted() {
    let stage = Stage::new();
    let mut history = grown(300);
    history.push([9; 66]);
    history.grow(10);
    let follower = stage.holding(&history).await;
    stage.assert_holds(&history).await;
    assert_eq!(follower.status.unread.load(std::sync::atomic::Ordering::Relaxed), 1);
}

/// FOL-9: somebody's receipt is of another history, or of none that is ever published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_branch_is_found_by_the_receipt_it_gave() {
    for (at, length, proves) in
        [(100, 50, Proves::Rewrite), (299, 1, Proves::Fork), (0, 3, Proves::Rewrite)]
    {
        let stage = Stage::new();
        let history = grown(300);
        let mut follower = stage.holding(&history).await;
        let mut branch = history.forked(at, 1);
        branch.grow(length);
        let keys = stage.ledger.keys();
        let receipt = keys.receipt(&branch, at, Ledger::second(1)).unwrap();
        let log = followed(&stage.ledger);
        let given = Head::believe(receipt.checkpoint.as_str(), &log.origin, &log.trust).unwrap();
        follower.claims.add(given);
        let error = follower.round().await.unwrap_err();
        let report = stage.assert_stopped(error, Code::PrivateBranch, true).await.unwrap();
        assert_eq!(report.proves, Some(proves));
    }
}

/// FOL-9: a receipt may be ahead of what is published, for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_that_is_ahead_is_waited_for() {
    let stage = Stage::new();
    let mut history = grown(300);
    let mut follower = stage.holding(&history).await;
    let log = followed(&stage.ledger);
    let claim = |history: &History, second| {
        let head = stage.ledger.keys().head(history, history.size(), Ledger::second(second));
        Head::believe(head.as_str(), &log.origin, &log.trust).unwrap()
    };
    let published = history.clone();
    history.grow(20);
    follower.claims.add(claim(&history, 2));
    stage.ledger.show(&published, 60);
    assert_eq!(follower.round().await.unwrap(), Round::Unchanged);
    assert_eq!(follower.claims.len(), 1, "still waited for");
    history.grow(5);
    stage.ledger.show(&history, 70);
    follower.round().await.unwrap();
    assert!(follower.claims.is_empty(), "it is joined");
    // One that the published heads never reach: signed at 71, and a minute later still nothing.
    let published = history.clone();
    history.grow(1);
    follower.claims.add(claim(&history, 71));
    stage.ledger.show(&published, 131);
    assert_eq!(follower.round().await.unwrap(), Round::Unchanged);
    stage.ledger.show(&published, 132);
    let error = follower.round().await.unwrap_err();
    stage.assert_stopped(error, Code::PrivateBranch, false).await;
}

/// FOL-10: each mirror saw one history, and both are right; together they prove it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_view_is_found_by_comparing() {
    for (at, size, healed) in
        [(100, 300, false), (100, 250, false), (0, 1_000, false), (100, 290, true)]
    {
        let stage = Stage::new();
        let history = grown(300);
        let one = stage.holding(&history).await;
        let mut fork = history.forked(at, 1);
        fork.grow(size - at);
        let log = followed(&stage.ledger);
        stage.ledger.show(&fork, 1);
        let place = memory();
        let mut other = Follower::open(log.clone(), stage.source.clone(), &place).await.unwrap();
        other.round().await.unwrap();
        if healed {
            // Whoever writes the one mirror takes the fork's head for the true history's.
            let heads = other.place().clone();
            let note = stage.folder().read("checkpoint", 1 << 16).await.unwrap().unwrap();
            for name in stage.folder().names("tile", 1_000).await.unwrap() {
                let name = format!("tile/{name}");
                let bytes = stage.folder().read(&name, 1 << 20).await.unwrap().unwrap();
                heads.put(&name, &bytes).await.unwrap();
            }
            heads.put("checkpoint", &note).await.unwrap();
        }
        let copies = [
            Copy::mirror(&log, one.place().clone()).await.unwrap(),
            Copy::mirror(&log, other.place().clone()).await.unwrap(),
        ];
        for [a, b] in [[0, 1], [1, 0]] {
            let found = compare(&copies[a], &copies[b]).await.unwrap().finding.unwrap();
            assert_eq!(found.code, Code::SplitView);
            let bytes = found.alarm.unwrap().to_bytes();
            let report = countersign_core::alarm::verify_alarm(&bytes, Some(&trust(&stage.ledger)));
            assert_eq!(report.fault, None);
        }
    }
}

/// A copy that is not whole says nothing about either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_accuses_nobody() {
    let stage = Stage::new();
    let history = grown(300);
    let one = stage.holding(&history).await;
    let log = followed(&stage.ledger);
    let small = Copy::mirror(&log, one.place().clone()).await.unwrap();
    let place = memory();
    let mut larger = history.clone();
    larger.grow(500);
    stage.ledger.show(&larger, 2);
    let mut other = Follower::open(log.clone(), stage.source.clone(), &place).await.unwrap();
    other.round().await.unwrap();
    other.place().put("tile/0/001", &[0; 8_192]).await.unwrap();
    let copy = Copy::mirror(&log, other.place().clone()).await.unwrap();
    let error = compare(&small, &copy).await.unwrap_err();
    assert!(matches!(error, FollowError::Tree(TreeError::Altered { .. })), "{error}");
}
