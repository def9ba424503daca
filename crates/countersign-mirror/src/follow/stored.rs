//! What a mirror holds when it starts, and what an interrupted one left (FOL-4): disk bytes are
//! input.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use countersign_core::codes::Code;
use countersign_core::encoding::from_decimal;
use countersign_core::hash::TreeSize;
use countersign_core::note::NOTE_BYTES_MAX;
use countersign_core::tiles::{TILE_WIDTH, TileKind, TilePath, partial_tiles};

use super::seen::{STATE_BYTES_MAX, Seen};
use super::{CHECKPOINT, FollowError, Follower, HEADS, Head, Held, Stopped};
use crate::source::Fetch;
use crate::storage::Version;
use crate::tree::{Files, Tree};

/// The folder of what a follower remembers.
const STATE: &str = "state";
/// States of heads that may be there at once; more than two are leftovers of crashes.
const STATES_MAX: usize = 10_000;

impl<F: Fetch> Follower<F> {
    /// Reads what is held, as after a start: disk bytes are input.
    pub(super) async fn load(&mut self) -> Result<(), FollowError> {
        if let Some(stopped) = Stopped::read(&self.place).await? {
            self.status.stopped.store(true, Ordering::Relaxed);
            return Err(FollowError::Stopped(stopped));
        }
        self.look = true;
        let found = self.place.read_version(CHECKPOINT, NOTE_BYTES_MAX).await?;
        let (mut head, version) = match found {
            Some((bytes, version)) => (Some(self.believe_held(CHECKPOINT, bytes)?), version),
            None => (None, Version::default()),
        };
        self.checkpoint = version;
        let states = self.states().await?;
        // Step 4 without step 5: that head was joined, and everything of it is there.
        if let Some(next) = self.moved_to(head.as_ref(), &states).await? {
            let note = next.checkpoint().as_str().as_bytes();
            self.place.replace(CHECKPOINT, note, &mut self.checkpoint).await?;
            self.place.barrier().await?;
            head = Some(next);
        }
        let size = head.as_ref().map_or(TreeSize(0), Head::size);
        for state in states.into_iter().filter(|state| *state != size) {
            self.sweep(state, size).await?;
        }
        self.held = match head {
            Some(head) => Some(Held { seen: self.seen(&head).await?, head }),
            None => None,
        };
        self.tell();
        Ok(())
    }

    fn believe_held(&self, name: &str, bytes: Vec<u8>) -> Result<Head, FollowError> {
        let note = String::from_utf8(bytes).map_err(|_| Code::NoteMalformed.into());
        let head = note.and_then(|note| Head::believe(&note, &self.log.origin, &self.log.trust));
        head.map_err(|fault| {
            tracing::error!(%fault, "the held head can't be believed");
            FollowError::Held { place: self.place.shown(name), fault: Code::MirrorHeld.into() }
        })
    }

    /// The sizes of which states are there.
    async fn states(&self) -> Result<BTreeSet<TreeSize>, FollowError> {
        let names = self.place.names(STATE, STATES_MAX).await?;
        let size = |name: &String| {
            let digits = name.strip_suffix(".json").filter(|digits| digits.len() == 20)?;
            let digits = digits.trim_start_matches('0');
            from_decimal(if digits.is_empty() { "0" } else { digits }).map(TreeSize)
        };
        Ok(names.iter().filter_map(size).collect())
    }

    /// The largest head beyond the held one whose note was written.
    async fn moved_to(
        &self,
        held: Option<&Head>,
        states: &BTreeSet<TreeSize>,
    ) -> Result<Option<Head>, FollowError> {
        let least = held.map_or(TreeSize(0), Head::size);
        for size in states.iter().rev().take_while(|size| **size > least) {
            let name = head_name(*size);
            if let Some(bytes) = self.place.read(&name, NOTE_BYTES_MAX).await? {
                return self.believe_held(&name, bytes).map(Some);
            }
        }
        Ok(None)
    }

    /// What was read of the entries below a head: as it was stored, or by reading them again.
    async fn seen(&self, head: &Head) -> Result<Seen, FollowError> {
        let stored = self.place.read(&state_name(head.size()), STATE_BYTES_MAX).await?;
        if let Some(seen) = stored.and_then(|bytes| Seen::parse(&bytes, head.size())) {
            return Ok(seen);
        }
        let mut seen = Seen::default();
        let files = Files::read_only(self.place.clone());
        let mut tree = Tree::open(files, head.size(), head.root()).await?;
        tree.copy(TreeSize(0), |first, entries| {
            // What it breaks was told when it came.
            let _ = seen.take(first, entries);
        })
        .await?;
        self.place.put(&state_name(head.size()), &seen.to_bytes()).await?;
        Ok(seen)
    }

    /// Removes the partial tiles of a size that one of another size does not have, then its state.
    pub(super) async fn sweep(&self, size: TreeSize, held: TreeSize) -> Result<(), FollowError> {
        let stay: BTreeSet<TilePath> = partial_files(held).into_iter().collect();
        for path in partial_files(size).into_iter().filter(|path| !stay.contains(path)) {
            self.place.remove(&path.to_string()).await?;
        }
        Ok(self.place.remove(&state_name(size)).await?)
    }
}

/// `heads/<20-digit size>.note`.
pub(super) fn head_name(size: TreeSize) -> String {
    format!("{HEADS}/{:020}.note", size.0)
}

pub(super) fn state_name(size: TreeSize) -> String {
    format!("{STATE}/{:020}.json", size.0)
}

/// The files of a tree that are not full: the tiles, and the bundle beside the lowest.
fn partial_files(size: TreeSize) -> Vec<TilePath> {
    let mut files = partial_tiles(size);
    let width = u64::from(TILE_WIDTH);
    let rest = u16::try_from(size.0 % width).unwrap_or(0);
    files.extend(TilePath::new(TileKind::Entries, size.0 / width, rest));
    files
}
