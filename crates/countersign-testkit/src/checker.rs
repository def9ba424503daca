//! Reads a whole log again through the port and names what is wrong with it.
//!
//! What is absent: batches, whose bytes belong to the log. Of a payload [`check_whole_log`] only asks
//! whether it is there; [`check_policies`] reads those of policies and verdicts. The port lists
//! neither tenants nor actions, so that their rows are checked by [`check_tenants`] for the tenants
//! that the caller names.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, from_hex_array};
use countersign_core::entry::Entry;
use countersign_core::hash::{Hash, LeafIndex, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::merkle::{CompactRange, LogTree, leaf_hash, root_of};
use countersign_core::note::{SignedCheckpoint, VerifierKey};
use countersign_core::stream::StreamId;
use countersign_log::store::{Store, StoreError, StoredHead, Term, read_payload};

/// Entries that are read at once.
const CHUNK: u64 = 1_000;

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// The store failed to read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The newest head is larger than the entries there are.
    #[error("the newest head covers {head} entries, and there are {entries}")]
    EntriesMissing {
        /// Size of the newest head.
        head: u64,
        /// Entries found.
        entries: u64,
    },
    /// There are entries that no head covers.
    #[error("an entry at {0} lies beyond the newest head")]
    EntryBeyond(u64),
    /// An entry can't be read.
    #[error("the entry at {index}: {fault}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// An entry is older than the one before it.
    #[error("the entry at {0} is older than the one before it")]
    TimeWentBack(u64),
    /// A stream has a gap, or one place twice.
    #[error("the entry at {index} is seq {found} of its stream, where {expected} comes next")]
    StreamBroken {
        /// The entry's index.
        index: u64,
        /// The seq that comes next.
        expected: u64,
        /// The seq found.
        found: u64,
    },
    /// A stream that has entries, and no state.
    #[error("the stream {0:?} has entries and no state")]
    StreamStateMissing(StreamId),
    /// An entry has no payload.
    #[error("the entry at {0} has no payload")]
    PayloadMissing(u64),
    /// The index by stream says something else than the entry.
    #[error("seq {seq} of {stream:?} stands at {expected:?}, and the index says {found:?}")]
    StreamRow {
        /// The stream.
        stream: StreamId,
        /// The place in it.
        seq: u64,
        /// The index of the entry, if there is one.
        expected: Option<u64>,
        /// The index that the row names.
        found: Option<u64>,
    },
    /// A tile is missing, or is not what the entries give.
    #[error("the tile {index} of level {level} is not what the entries give")]
    Tile {
        /// Its level.
        level: u8,
        /// Its place in the level.
        index: u64,
    },
    /// A tile is stored that can't be full yet.
    #[error("the tile {index} of level {level} is stored and can't be full yet")]
    TileEarly {
        /// Its level.
        level: u8,
        /// Its place in the level.
        index: u64,
    },
    /// A stored head is no checkpoint of its size and this origin, or its signature is wrong.
    #[error("the head of size {size}: {fault}")]
    Head {
        /// Its size.
        size: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A stored head has another root than its entries.
    #[error("the head of size {0} has another root than its entries")]
    HeadRoot(u64),
    /// A payload can't be read as a record of its entry's kind.
    #[error("the payload at {0} is no record of its entry's kind")]
    Payload(u64),
    /// A verdict is under a policy that the log does not hold before it (LIFE-14).
    #[error("the verdict at {0} is under a policy that its tenant has not logged before it")]
    PolicyUnknown(u64),
    /// The index by policy names another record than the first of this version.
    #[error("the policy at {index} is the first of its version, and the index says {found:?}")]
    PolicyRow {
        /// The first record's index.
        index: u64,
        /// The index that the row names.
        found: Option<u64>,
    },
    /// A row of a tenant names an entry that isn't there, comes too early, or is another tenant's.
    #[error("the row of tenant {tenant} that names entry {index} is wrong")]
    TenantRow {
        /// The tenant.
        tenant: String,
        /// The entry that the row names.
        index: u64,
    },
}

/// A log that was found to be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Entries in it.
    pub size: TreeSize,
    /// Heads in it.
    pub heads: u64,
    /// Full tiles in it.
    pub tiles: u64,
    /// Its newest head; none where it is empty.
    pub head: Option<StoredHead>,
}

struct Walk<'a, S> {
    store: &'a S,
    origin: &'a str,
    vkey: &'a VerifierKey,
    tree: CompactRange,
    levels: Vec<(Vec<Hash>, u64)>,
    seqs: BTreeMap<StreamId, u64>,
    time: Micros,
    next_head: Option<StoredHead>,
    last_head: Option<StoredHead>,
    heads: u64,
}

/// Reads a whole log again and checks everything that can be checked without a payload: entries,
/// times, streams, the index by stream, payloads' presence, tiles, every head's root and signature.
pub async fn check_whole_log<S: Store>(
    store: &S,
    origin: &str,
    vkey: &VerifierKey,
) -> Result<Whole, Wrong> {
    let mut walk = Walk {
        store,
        origin,
        vkey,
        tree: CompactRange::new(),
        levels: Vec::new(),
        seqs: BTreeMap::new(),
        time: Micros(0),
        next_head: store.head_at_least(TreeSize(0)).await?,
        last_head: None,
        heads: 0,
    };
    // A head over nothing is allowed to be stored.
    walk.heads_here().await?;
    loop {
        let from = walk.tree.size().0;
        let entries = store.entries(LeafIndex(from), CHUNK).await?;
        if entries.is_empty() {
            break;
        }
        for entry in &entries {
            walk.entry(entry).await?;
        }
    }
    walk.end().await
}

impl<S: Store> Walk<'_, S> {
    async fn entry(&mut self, bytes: &[u8; 66]) -> Result<(), Wrong> {
        let index = self.tree.size().0;
        if self.next_head.is_none() {
            return Err(Wrong::EntryBeyond(index));
        }
        let entry = Entry::from_bytes(bytes).map_err(|fault| Wrong::Entry { index, fault })?;
        if entry.logged_at < self.time {
            return Err(Wrong::TimeWentBack(index));
        }
        self.time = entry.logged_at;
        let next = self.seqs.entry(entry.stream).or_default();
        if entry.seq != *next {
            return Err(Wrong::StreamBroken { index, expected: *next, found: entry.seq });
        }
        *next += 1;
        self.row(entry.stream, entry.seq, Some(index)).await?;
        if self.store.payload(LeafIndex(index)).await?.is_none() {
            return Err(Wrong::PayloadMissing(index));
        }
        let leaf = leaf_hash(bytes);
        self.tree.append(&leaf);
        self.tiles(leaf.0).await?;
        self.heads_here().await
    }

    async fn row(&self, stream: StreamId, seq: u64, expected: Option<u64>) -> Result<(), Wrong> {
        let found = self.store.by_stream(stream, seq).await?.map(|index| index.0);
        if found == expected {
            Ok(())
        } else {
            Err(Wrong::StreamRow { stream, seq, expected, found })
        }
    }

    /// Adds a leaf to the tiles and compares those that it fills.
    async fn tiles(&mut self, leaf: Hash) -> Result<(), Wrong> {
        let mut hash = leaf;
        for level in 0..=u8::MAX {
            if self.levels.len() <= usize::from(level) {
                self.levels.push((Vec::new(), 0));
            }
            let Some((hashes, full)) = self.levels.get_mut(usize::from(level)) else { break };
            hashes.push(hash);
            if hashes.len() < 256 {
                break;
            }
            let index = *full;
            *full += 1;
            if self.store.tile(level, index).await?.is_none_or(|tile| tile != hashes.concat()) {
                return Err(Wrong::Tile { level, index });
            }
            hash = root_of::<LogTree>(hashes).unwrap_or_default();
            hashes.clear();
        }
        Ok(())
    }

    /// Checks the head over exactly the entries so far, if one is stored.
    async fn heads_here(&mut self) -> Result<(), Wrong> {
        let size = self.tree.size();
        let Some(head) = self.next_head.take_if(|head| head.size == size) else { return Ok(()) };
        let wrong = |fault: Fault| Wrong::Head { size: size.0, fault };
        let note = SignedCheckpoint::parse(&head.note).map_err(wrong)?;
        if note.origin != self.origin {
            return Err(wrong(Code::OriginMalformed.into()));
        }
        if note.size != size {
            return Err(wrong(Code::SizeUnknown.into()));
        }
        note.verify_log(self.vkey).map_err(wrong)?;
        if note.root != self.tree.root() {
            return Err(Wrong::HeadRoot(size.0));
        }
        self.last_head = Some(head);
        self.heads += 1;
        self.next_head = self.store.head_at_least(TreeSize(size.0 + 1)).await?;
        Ok(())
    }

    /// Checks that nothing is missing and nothing too much at the end.
    async fn end(self) -> Result<Whole, Wrong> {
        let entries = self.tree.size().0;
        if let Some(head) = self.next_head {
            return Err(Wrong::EntriesMissing { head: head.size.0, entries });
        }
        for (level, (_, full)) in (0..=u8::MAX).zip(&self.levels) {
            if self.store.tile(level, *full).await?.is_some() {
                return Err(Wrong::TileEarly { level, index: *full });
            }
        }
        let states: BTreeSet<StreamId> =
            self.store.streams().await?.into_iter().map(|(stream, _)| stream).collect();
        for (stream, next) in &self.seqs {
            let found = self.store.by_stream(*stream, *next).await?.map(|index| index.0);
            if found.is_some() {
                let (stream, seq) = (*stream, *next);
                return Err(Wrong::StreamRow { stream, seq, expected: None, found });
            }
            // Of its own stream the ledger needs no state.
            if *stream != StreamId::LEDGER && !states.contains(stream) {
                return Err(Wrong::StreamStateMissing(*stream));
            }
        }
        let tiles = self.levels.iter().map(|(_, full)| full).sum();
        let size = self.tree.size();
        Ok(Whole { size, heads: self.heads, tiles, head: self.last_head })
    }
}

/// Checks LIFE-14 over the whole log, from the records themselves: every verdict is under a policy
/// that its tenant logged before it, or is a refuse under none. Then holds the index by policy
/// against what was read. Gives how many policy versions and how many verdicts there are.
pub async fn check_policies<S: Store>(store: &S) -> Result<(u64, u64), Wrong> {
    let mut first: BTreeMap<(String, String), LeafIndex> = BTreeMap::new();
    let mut verdicts = 0;
    for at in 0.. {
        let index = LeafIndex(at);
        let entries = store.entries(index, 1).await?;
        let Some(entry) = entries.first() else { break };
        let entry = Entry::from_bytes(entry).map_err(|fault| Wrong::Entry { index: at, fault })?;
        if !matches!(entry.kind, Kind::Policy | Kind::Verdict) {
            continue;
        }
        let payload = store.payload(index).await?.ok_or(Wrong::PayloadMissing(at))?;
        let record = read_payload(entry.kind, &payload).ok_or(Wrong::Payload(at))?;
        let view = record.view();
        let tenant = view.str("tenant").unwrap_or_default().to_owned();
        if entry.kind == Kind::Policy {
            let digest = view.str("digest").unwrap_or_default().to_owned();
            first.entry((tenant, digest)).or_insert(index);
            continue;
        }
        verdicts += 1;
        let named = view.get("policy").and_then(|policy| policy.get("digest"));
        let held = match named.and_then(|digest| digest.as_str()) {
            Some(digest) => first.contains_key(&(tenant, digest.to_owned())),
            None => view.str("outcome") == Some("refuse"),
        };
        if !held {
            return Err(Wrong::PolicyUnknown(at));
        }
    }
    for ((tenant, digest), index) in &first {
        let digest = from_hex_array(digest).ok_or(Wrong::Payload(index.0))?;
        let found = store.by_policy(tenant, digest).await?;
        if found != Some(*index) {
            let (index, found) = (index.0, found.map(|found| found.0));
            return Err(Wrong::PolicyRow { index, found });
        }
    }
    Ok((first.len() as u64, verdicts))
}

/// Checks the rows of these tenants: each names an entry, none names another tenant's, and they
/// come by time and place. Gives how many there are.
pub async fn check_tenants<S: Store>(store: &S, tenants: &[&str]) -> Result<u64, Wrong> {
    let mut seen = BTreeSet::new();
    for tenant in tenants {
        let mut last = (Micros(0), None);
        let all = store.listed(tenant, Term::ALL, 0..u64::MAX, usize::MAX, false).await?;
        for index in all {
            let wrong = Wrong::TenantRow { tenant: (*tenant).to_owned(), index: index.0 };
            let entries = store.entries(index, 1).await?;
            let Some(entry) = entries.first() else { return Err(wrong) };
            let entry =
                Entry::from_bytes(entry).map_err(|fault| Wrong::Entry { index: index.0, fault })?;
            let place = (entry.logged_at, Some(index));
            if place <= last || !seen.insert(index) {
                return Err(wrong);
            }
            last = place;
        }
    }
    Ok(seen.len() as u64)
}
