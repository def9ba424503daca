//! The contract of `countersign_log::store::Store` as one suite, for every implementer.
//!
//! Each sentence of the port's docs that can be tried without breaking the implementer's disk is
//! tried here; what needs a fault (`Unknown`, torn writes, a poisoned process) is tried by each
//! implementer's own tests, since only it knows how to bring the fault about. A broken sentence is a
//! panic that quotes it.

use std::collections::BTreeSet;

use countersign_core::hash::{Hash, LeafIndex, TreeSize};
use countersign_core::stream::StreamId;
use countersign_log::store::{Commit, Store, StoreError, StoredHead, Term};

use crate::memory::MemoryStore;
use crate::rng::SplitMix64;
use crate::scribe::{ACTIONS, LISTS, POLICIES, STREAMS, Scribe, TENANTS};

/// A place where one log is kept, on which stores are opened one after another, as processes would.
pub trait Place {
    /// The implementer.
    type Store: Store;
    /// Opens the place as a new process would. The store opened before is gone by then.
    fn open(&self) -> Self::Store;
}

/// A place in memory.
#[derive(Debug, Default)]
pub struct MemoryPlace(MemoryStore);

impl Place for MemoryPlace {
    type Store = MemoryStore;

    fn open(&self) -> MemoryStore {
        self.0.reopen()
    }
}

const ORIGIN: &str = "contract.example/log";

/// Runs the whole suite. `make` gives a place with nothing in it, a new one each time.
pub async fn run<P: Place>(make: impl Fn() -> P) {
    an_empty_store_has_nothing(&make()).await;
    acquire_fences_older_leases(&make()).await;
    acquire_gives_what_was_committed_and_not_published(&make()).await;
    a_commit_is_whole_and_durable(&make()).await;
    a_rejected_commit_changes_nothing(&make()).await;
    publish_never_goes_backwards(&make()).await;
    a_head_may_be_published_again(&make()).await;
    reads_keep_to_their_ranges(&make()).await;
    indexes_keep_tenants_apart(&make()).await;
    what_is_erased_is_gone(&make()).await;
    every_head_is_kept(&make()).await;
    blobs_are_kept_by_digest(&make()).await;
    for seed in 0..4 {
        it_agrees_with_a_model(&make(), seed).await;
    }
}

/// Everything that can be read, in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Contents {
    entries: Vec<[u8; 66]>,
    payloads: Vec<Option<Vec<u8>>>,
    batches: Vec<Option<Vec<u8>>>,
    tiles: Vec<Option<Vec<u8>>>,
    heads: Vec<StoredHead>,
    streams: Vec<(StreamId, Vec<u8>)>,
    by_stream: Vec<Option<LeafIndex>>,
    by_action: Vec<Vec<LeafIndex>>,
    lists: Vec<Vec<LeafIndex>>,
    by_policy: Vec<Option<LeafIndex>>,
}

async fn contents<S: Store>(store: &S) -> Contents {
    let entries = store.entries(LeafIndex(0), u64::MAX).await.expect("entries");
    // A little further than the log goes, to see what shouldn't be there.
    let beyond = entries.len() as u64 + 300;
    let (mut payloads, mut batches, mut by_stream) = (Vec::new(), Vec::new(), Vec::new());
    for index in (0..beyond).map(LeafIndex) {
        payloads.push(store.payload(index).await.expect("payload"));
        batches.push(store.batch(index).await.expect("batch"));
        for stream in 0..STREAMS {
            by_stream.push(store.by_stream(Scribe::stream(stream), index.0).await.expect("row"));
        }
    }
    let mut tiles = Vec::new();
    for (level, index) in (0..3).flat_map(|level| (0..=beyond / 256).map(move |i| (level, i))) {
        tiles.push(store.tile(level, index).await.expect("tile"));
    }
    let (mut heads, mut size) = (Vec::new(), 0);
    while let Some(head) = store.head_at_least(TreeSize(size)).await.expect("head") {
        size = head.size.0 + 1;
        heads.push(head);
    }
    let mut streams = store.streams().await.expect("streams");
    streams.sort();
    let (mut by_action, mut lists, mut by_policy) = (Vec::new(), Vec::new(), Vec::new());
    for tenant in TENANTS {
        for action in 0..ACTIONS {
            let rows = store.by_action(tenant, Scribe::action(action), usize::MAX).await;
            by_action.push(rows.expect("by action"));
        }
        for term in every_list() {
            let rows = store.listed(tenant, term, 0..u64::MAX, usize::MAX, false).await;
            lists.push(rows.expect("listed"));
        }
        for policy in 0..POLICIES {
            let row = store.by_policy(tenant, Scribe::policy(policy)).await;
            by_policy.push(row.expect("by policy"));
        }
    }
    Contents {
        entries,
        payloads,
        batches,
        tiles,
        heads,
        streams,
        by_stream,
        by_action,
        lists,
        by_policy,
    }
}

/// The lists that a scribe writes, and one that it doesn't.
fn every_list() -> impl Iterator<Item = Term> {
    (0..=LISTS).map(Scribe::list).chain([Term::ALL, Term::ERASED])
}

async fn acquire<S: Store>(store: &S) -> (S::Lease, Option<StoredHead>) {
    store.acquire().await.expect("acquire takes the log over")
}

/// Commits so many entries and gives the head over them.
async fn commit<S: Store>(
    store: &S,
    lease: &mut S::Lease,
    scribe: &mut Scribe,
    count: usize,
) -> StoredHead {
    let expected = scribe.size();
    let commit = scribe.commit(count);
    let head = commit.head.clone();
    store.commit(lease, expected, commit).await.expect("a good commit is taken");
    head
}

fn is_rejected(result: Result<(), StoreError>, why: &str) {
    match result {
        Err(StoreError::Rejected(_)) => {}
        other => panic!("{why}: {other:?}"),
    }
}

async fn an_empty_store_has_nothing<P: Place>(place: &P) {
    for _ in 0..2 {
        let store = place.open();
        let (_, head) = acquire(&store).await;
        assert_eq!(head, None, "acquire gives none where the log is empty");
        let found = contents(&store).await;
        assert!(found.entries.is_empty() && found.heads.is_empty() && found.streams.is_empty());
        assert!(found.payloads.iter().chain(&found.batches).all(Option::is_none));
        assert_eq!(store.blob([1; 32]).await, Ok(None));
    }
}

async fn acquire_fences_older_leases<P: Place>(place: &P) {
    let store = place.open();
    let mut scribe = Scribe::new(ORIGIN, 1);
    let (mut old, _) = acquire(&store).await;
    let head = commit(&store, &mut old, &mut scribe, 2).await;
    let (mut new, found) = acquire(&store).await;
    assert_eq!(found.as_ref(), Some(&head), "acquire gives the newest committed head");
    let before = contents(&store).await;
    let (expected, next) = (scribe.size(), scribe.commit(1));
    let fenced = store.commit(&mut old, expected, next.clone()).await;
    assert_eq!(fenced, Err(StoreError::Fenced), "acquire fences every older lease");
    let fenced = store.publish(&mut old, &head).await;
    assert_eq!(fenced, Err(StoreError::Fenced), "acquire fences every older lease");
    assert!(contents(&store).await == before, "a fenced writer changes nothing");
    store.commit(&mut new, expected, next).await.expect("the new lease writes");
}

async fn acquire_gives_what_was_committed_and_not_published<P: Place>(place: &P) {
    let mut scribe = Scribe::new(ORIGIN, 2);
    let (first, second) = {
        let store = place.open();
        let (mut lease, _) = acquire(&store).await;
        let first = commit(&store, &mut lease, &mut scribe, 3).await;
        store.publish(&mut lease, &first).await.expect("publish");
        (first, commit(&store, &mut lease, &mut scribe, 4).await)
    };
    assert_ne!(first, second);
    let store = place.open();
    let (mut lease, found) = acquire(&store).await;
    assert_eq!(found.as_ref(), Some(&second), "acquire gives the newest committed head");
    store.publish(&mut lease, &second).await.expect("what was committed can be published");
    let third = commit(&store, &mut lease, &mut scribe, 1).await;
    assert_eq!(acquire(&store).await.1, Some(third));
}

async fn a_commit_is_whole_and_durable<P: Place>(place: &P) {
    let model = MemoryStore::default();
    let (mut model_lease, _) = acquire(&model).await;
    let mut scribe = Scribe::new(ORIGIN, 3);
    for count in [1, 300, 2] {
        let (expected, next) = (scribe.size(), scribe.commit(count));
        model.commit(&mut model_lease, expected, next.clone()).await.expect("the model takes it");
        {
            let store = place.open();
            let (mut lease, _) = acquire(&store).await;
            store.commit(&mut lease, expected, next).await.expect("a good commit is taken");
            let same = contents(&store).await == contents(&model).await;
            assert!(same, "reads see every commit that returned Ok, whole");
        }
        let store = place.open();
        let same = contents(&store).await == contents(&model).await;
        assert!(same, "a commit is durable when it returns Ok");
    }
}

async fn a_rejected_commit_changes_nothing<P: Place>(place: &P) {
    let store = place.open();
    let mut scribe = Scribe::new(ORIGIN, 4);
    let (mut lease, _) = acquire(&store).await;
    commit(&store, &mut lease, &mut scribe, 5).await;
    let before = contents(&store).await;
    let good = scribe.clone().commit(3);
    let change = |change: &dyn Fn(&mut Commit)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad
    };
    let mut longer = scribe.clone();
    longer.commit(3);
    longer.commit(1);
    let bad: [(&str, u64, Commit); 11] = [
        ("a smaller size is expected", 4, good.clone()),
        ("a larger size is expected", 6, good.clone()),
        ("a new log is expected", 0, Scribe::new(ORIGIN, 4).commit(3)),
        ("nothing is written", 5, scribe.clone().commit(0)),
        ("a payload is missing", 5, change(&|bad| drop(bad.payloads.pop()))),
        ("a payload too much", 5, change(&|bad| bad.payloads.push(Vec::new()))),
        ("the head is of another size", 5, change(&|bad| bad.head = longer.head())),
        ("the note is of another size", 5, change(&|bad| bad.head.note = longer.head().note)),
        ("the note is no checkpoint", 5, change(&|bad| bad.head.note.clear())),
        ("the head is of another log", 5, {
            change(&|bad| {
                let mut other = Scribe::new("other.example/log", 4);
                other.commit(8);
                bad.head = other.head();
            })
        }),
        ("a tile is not full", 5, {
            let mut filling = scribe.clone();
            let mut bad = filling.commit(300);
            bad.tiles.iter_mut().for_each(|tile| tile.hashes.truncate(8_160));
            bad
        }),
    ];
    for (why, expected, bad) in bad {
        is_rejected(store.commit(&mut lease, TreeSize(expected), bad).await, why);
        assert!(contents(&store).await == before, "after Rejected nothing changed: {why}");
    }
    let lease_works = store.commit(&mut lease, TreeSize(5), good).await;
    lease_works.expect("after Rejected the lease may be used again");
}

async fn publish_never_goes_backwards<P: Place>(place: &P) {
    let mut scribe = Scribe::new(ORIGIN, 5);
    let (small, large);
    {
        let store = place.open();
        let (mut lease, _) = acquire(&store).await;
        small = commit(&store, &mut lease, &mut scribe, 2).await;
        let mut fork = scribe.clone();
        fork.diverge(99);
        large = commit(&store, &mut lease, &mut scribe, 2).await;
        fork.commit(2);
        is_rejected(
            store.publish(&mut lease, &fork.head()).await,
            "a head that was never committed, of a size that was",
        );
        let mut ahead = scribe.clone();
        ahead.commit(1);
        is_rejected(store.publish(&mut lease, &ahead.head()).await, "a head not yet committed");
        let between = StoredHead { size: TreeSize(3), note: large.note.clone() };
        is_rejected(store.publish(&mut lease, &between).await, "a note of another size");
        store.publish(&mut lease, &small).await.expect("a committed head is published");
        store.publish(&mut lease, &large).await.expect("a larger one follows");
        is_rejected(store.publish(&mut lease, &small).await, "publish never goes backwards");
    }
    let store = place.open();
    let (mut lease, _) = acquire(&store).await;
    let backwards = store.publish(&mut lease, &small).await;
    is_rejected(backwards, "publish never goes backwards, nor does a new process");
    store.publish(&mut lease, &large).await.expect("the same head again");
}

async fn a_head_may_be_published_again<P: Place>(place: &P) {
    let mut scribe = Scribe::new(ORIGIN, 6);
    let head;
    {
        let store = place.open();
        let (mut lease, _) = acquire(&store).await;
        head = commit(&store, &mut lease, &mut scribe, 2).await;
        store.publish(&mut lease, &head).await.expect("publish");
        for seconds in 1..6 {
            let again = scribe.cosigned(&head, seconds);
            store.publish(&mut lease, &again).await.expect("the same head with a cosignature more");
        }
    }
    let store = place.open();
    let (mut lease, found) = acquire(&store).await;
    assert_eq!(found, Some(head), "what was committed is not replaced by what is published");
    commit(&store, &mut lease, &mut scribe, 1).await;
}

async fn reads_keep_to_their_ranges<P: Place>(place: &P) {
    let store = place.open();
    let mut scribe = Scribe::new(ORIGIN, 7);
    let (mut lease, _) = acquire(&store).await;
    let expected = scribe.size();
    let written = scribe.commit(1_500);
    store.commit(&mut lease, expected, written.clone()).await.expect("a good commit is taken");
    let ranges =
        [(0, 0), (0, 1), (0, 1_500), (0, 1_501), (700, 300), (1_499, 1), (1_499, 9), (1_500, 1)];
    for (from, count) in ranges.into_iter().chain([(3, u64::MAX), (u64::MAX, 1), (u64::MAX, 9)]) {
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        let take = usize::try_from(count).unwrap_or(usize::MAX);
        let expected: Vec<_> = written.entries.iter().skip(skip).take(take).copied().collect();
        let found = store.entries(LeafIndex(from), count).await.expect("entries");
        assert!(found == expected, "entries [{from}, {from} + {count}), fewer where the log ends");
    }
    assert_eq!(store.payload(LeafIndex(1_500)).await, Ok(None));
    assert_eq!(store.batch(LeafIndex(1)).await, Ok(None), "no batch is stored under this index");
    assert_eq!(store.tile(0, 5).await, Ok(None), "a tile that isn't full is not there");
    assert_eq!(store.tile(0, u64::MAX).await, Ok(None));
    assert_eq!(store.by_stream(Scribe::stream(9), 0).await, Ok(None));
    assert_eq!(store.head_at_least(TreeSize(1_501)).await, Ok(None));
    assert_eq!(store.head_at_least(TreeSize(u64::MAX)).await, Ok(None));
}

async fn indexes_keep_tenants_apart<P: Place>(place: &P) {
    let (store, model) = (place.open(), MemoryStore::default());
    let mut scribe = Scribe::new(ORIGIN, 8);
    let (mut lease, mut model_lease) = (acquire(&store).await.0, acquire(&model).await.0);
    for _ in 0..8 {
        let (expected, next) = (scribe.size(), scribe.commit(20));
        store.commit(&mut lease, expected, next.clone()).await.expect("taken");
        model.commit(&mut model_lease, expected, next).await.expect("taken");
    }
    for tenant in TENANTS.into_iter().chain(["", "a", "acm", "acmee", "zzz"]) {
        for limit in [0, 1, 7, usize::MAX] {
            for action in 0..=ACTIONS {
                let id = Scribe::action(action);
                let found = store.by_action(tenant, id, limit).await.expect("by action");
                let ascending = found.is_sorted_by(|a, b| a < b) && found.len() <= limit;
                assert!(ascending, "an action's records, ascending, at most limit of them");
                assert_eq!(Ok(found), model.by_action(tenant, id, limit).await, "{tenant}");
            }
            for term in every_list() {
                for range in [0..u64::MAX, 0..0, 0..1, 19..21, 33..90, 159..160, 160..170] {
                    for newest_first in [false, true] {
                        let found =
                            store.listed(tenant, term, range.clone(), limit, newest_first).await;
                        let expected =
                            model.listed(tenant, term, range.clone(), limit, newest_first).await;
                        assert_eq!(found, expected, "{tenant} {term:?} {range:?} {newest_first}");
                    }
                }
            }
        }
        for policy in 0..=POLICIES {
            let digest = Scribe::policy(policy);
            let found = store.by_policy(tenant, digest).await;
            assert_eq!(found, model.by_policy(tenant, digest).await, "the first of {tenant}'s");
        }
    }
}

async fn what_is_erased_is_gone<P: Place>(place: &P) {
    let model = MemoryStore::default();
    let mut model_lease = acquire(&model).await.0;
    let mut scribe = Scribe::new(ORIGIN, 10);
    let commits = [scribe.commit(1_200), scribe.commit(50), scribe.erasing(&[5, 9, 1_201])];
    let commits = commits.into_iter().chain([scribe.commit(3), scribe.erasing(&[0, 7, 8, 1_249])]);
    for (act, commit) in commits.enumerate() {
        let expected = TreeSize(commit.head.size.0 - commit.entries.len() as u64);
        model.commit(&mut model_lease, expected, commit.clone()).await.expect("taken");
        {
            let store = place.open();
            let mut lease = acquire(&store).await.0;
            store.commit(&mut lease, expected, commit.clone()).await.expect("taken");
            let same = contents(&store).await == contents(&model).await;
            assert!(same, "what a commit erases is gone with the commit, act {act}");
            if act == 4 {
                store.scrub().await.expect("scrub");
                store.scrub().await.expect("scrub, with nothing to do");
            }
        }
        let store = place.open();
        store.scrub().await.expect("scrub what an earlier process erased");
        let same = contents(&store).await == contents(&model).await;
        assert!(same, "a scrub changes nothing that can be read, act {act}");
        for erased in &commit.erased {
            let payload = store.payload(erased.index).await;
            assert_eq!(payload, Ok(Some(erased.payload.clone())), "its new payload");
        }
    }
    let store = place.open();
    let mut lease = acquire(&store).await.0;
    let before = contents(&store).await;
    let (expected, mut ahead) = (scribe.size(), scribe.erasing(&[3]));
    ahead.erased.iter_mut().for_each(|erased| erased.index = LeafIndex(expected.0));
    is_rejected(store.commit(&mut lease, expected, ahead).await, "what isn't there yet");
    assert!(contents(&store).await == before, "after Rejected nothing changed");
}

async fn every_head_is_kept<P: Place>(place: &P) {
    let mut scribe = Scribe::new(ORIGIN, 9);
    let mut heads = Vec::new();
    {
        let store = place.open();
        let (mut lease, _) = acquire(&store).await;
        for count in [1, 1, 7, 300, 2] {
            heads.push(commit(&store, &mut lease, &mut scribe, count).await);
            let newest = heads.last().expect("one was pushed");
            store.publish(&mut lease, newest).await.expect("publish");
        }
    }
    let store = place.open();
    for size in 0..=312 {
        let expected = heads.iter().find(|head| head.size.0 >= size).cloned();
        let found = store.head_at_least(TreeSize(size)).await;
        assert_eq!(found, Ok(expected), "the smallest stored head of at least size {size}");
    }
}

async fn blobs_are_kept_by_digest<P: Place>(place: &P) {
    let digest = |n: u8| -> Hash { [n; 32] };
    let large = vec![7; 4 * 1024 * 1024];
    {
        let store = place.open();
        assert_eq!(store.put_blob(digest(1), b"one".to_vec()).await, Ok(true), "it was new");
        assert_eq!(store.put_blob(digest(1), b"one".to_vec()).await, Ok(false), "it was not");
        assert_eq!(store.put_blob(digest(2), large.clone()).await, Ok(true));
        assert_eq!(store.put_blob(digest(3), Vec::new()).await, Ok(true));
    }
    let store = place.open();
    assert_eq!(store.put_blob(digest(2), large.clone()).await, Ok(false), "it was durable");
    assert_eq!(store.blob(digest(1)).await, Ok(Some(b"one".to_vec())));
    assert_eq!(store.blob(digest(2)).await, Ok(Some(large)));
    assert_eq!(store.blob(digest(3)).await, Ok(Some(Vec::new())), "an empty blob is a blob");
    assert_eq!(store.blob(digest(4)).await, Ok(None));
    assert_eq!(acquire(&store).await.1, None, "a blob is no entry");
}

/// Acts at random, with reopening, and compares everything with the store in memory.
async fn it_agrees_with_a_model<P: Place>(place: &P, seed: u64) {
    let mut rng = SplitMix64::new(seed);
    let model = MemoryStore::default();
    let mut scribe = Scribe::new(ORIGIN, seed);
    for act in 0..6 {
        let store = place.open();
        let (mut lease, found) = acquire(&store).await;
        let (mut model_lease, expected) = acquire(&model).await;
        assert_eq!(found, expected, "seed {seed}, act {act}");
        for _ in 0..rng.below(6) {
            let count = 1 + usize::from(rng.next_u64().to_be_bytes()[0] % 60);
            let expected = scribe.size();
            // Now and then something older goes.
            let next = match rng.below(4) {
                0 if expected.0 > 0 => {
                    let erased = BTreeSet::from([rng.below(expected.0), rng.below(expected.0)]);
                    scribe.erasing(&Vec::from_iter(erased))
                }
                _ => scribe.commit(count),
            };
            let head = next.head.clone();
            store.commit(&mut lease, expected, next.clone()).await.expect("taken");
            model.commit(&mut model_lease, expected, next).await.expect("taken");
            if rng.below(2) == 0 {
                store.publish(&mut lease, &head).await.expect("published");
            }
        }
        let same = contents(&store).await == contents(&model).await;
        assert!(same, "seed {seed}, act {act}: the store differs from the model");
    }
}
