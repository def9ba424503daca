//! What was erased is in none of the database's files: payloads of random bytes, which no compression
//! hides, are looked for before and after.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use countersign_core::hash::LeafIndex;
use countersign_log::store::Store as _;

use support::Data;

/// Bytes of a payload: larger than what a table keeps of a key.
const PAYLOAD_BYTES: usize = 700;

/// Extensions of the files that hold these bytes.
fn kinds_of_files_with(data: &Data, needle: &[u8]) -> Vec<String> {
    let mut kinds = Vec::new();
    for file in std::fs::read_dir(data.db()).unwrap().map(Result::unwrap) {
        let Ok(bytes) = std::fs::read(file.path()) else { continue };
        // A stretch that neither begins nor ends with the payload.
        if bytes.windows(64).any(|window| window == &needle[300..364]) {
            let kind = file.path().extension().map(|kind| kind.to_string_lossy().into_owned());
            kinds.push(kind.unwrap_or_default());
        }
    }
    kinds.sort();
    kinds
}

#[tokio::test]
async fn erased_payloads_are_in_no_file() {
    let mut data = Data::new();
    data.scribe.payload_bytes = PAYLOAD_BYTES;
    let mut erased = Vec::new();
    {
        let store = data.open().unwrap();
        let (mut lease, _) = store.acquire().await.unwrap();
        for _ in 0..3 {
            let (expected, commit) = (data.scribe.size(), data.scribe.commit(300));
            erased.extend([&commit.payloads[7], &commit.payloads[130]].map(Clone::clone));
            store.commit(&mut lease, expected, commit).await.unwrap();
        }
        for payload in &erased {
            assert_eq!(kinds_of_files_with(&data, payload), ["log"]);
        }
    }
    // A new process has flushed it into tables.
    let store = data.open().unwrap();
    for payload in &erased {
        assert_eq!(kinds_of_files_with(&data, payload), ["sst"]);
    }
    let (mut lease, _) = store.acquire().await.unwrap();
    let indexes = [7, 130, 307, 430, 607, 730];
    let (expected, commit) = (data.scribe.size(), data.scribe.erasing(&indexes));
    store.commit(&mut lease, expected, commit.clone()).await.unwrap();
    // Read as erased, and still in the files: that is why there is a scrub.
    assert_eq!(store.payload(LeafIndex(7)).await, Ok(Some(commit.erased[0].payload.clone())));
    assert_eq!(kinds_of_files_with(&data, &erased[0]), ["sst"]);
    drop(store);

    // A process that was killed before it is followed by one that does it.
    let store = data.open().unwrap();
    store.scrub().await.unwrap();
    for (payload, erased) in erased.iter().zip(&commit.erased) {
        assert_eq!(kinds_of_files_with(&data, payload), [""; 0]);
        assert_eq!(store.payload(erased.index).await, Ok(Some(erased.payload.clone())));
    }
    assert!(
        !kinds_of_files_with(&data, &store.payload(LeafIndex(8)).await.unwrap().unwrap())
            .is_empty()
    );
    assert_eq!(data.whole_of(&store).await.0, 901);
    drop(store);
    assert_eq!(data.whole().await.0, 901);
}

#[tokio::test]
async fn commits_go_on_while_one_scrubs() {
    let mut data = Data::new();
    data.scribe.payload_bytes = PAYLOAD_BYTES;
    let store = data.open().unwrap();
    let (mut lease, _) = store.acquire().await.unwrap();
    for _ in 0..4 {
        let (expected, commit) = (data.scribe.size(), data.scribe.commit(200));
        let lost = commit.payloads[3].clone();
        store.commit(&mut lease, expected, commit).await.unwrap();
        let (index, expected) = (expected.0 + 3, data.scribe.size());
        let commit = data.scribe.erasing(&[index]);
        store.commit(&mut lease, expected, commit).await.unwrap();
        let (expected, next) = (data.scribe.size(), data.scribe.commit(50));
        let (scrubbed, committed) =
            tokio::join!(store.scrub(), store.commit(&mut lease, expected, next));
        scrubbed.unwrap();
        committed.unwrap();
        assert_eq!(kinds_of_files_with(&data, &lost), [""; 0]);
    }
    data.whole_of(&store).await;
}
