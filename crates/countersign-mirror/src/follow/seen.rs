//! What a follower remembers of the entries it has read: enough to see that times never decrease
//! (ENT-4) and that every stream counts 0, 1, 2 … (STR-3, FOL-5).

use std::collections::BTreeMap;

use countersign_core::encoding::{Micros, from_hex_array};
use countersign_core::entry::Entry;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::stream::StreamId;
use serde::{Deserialize, Serialize};

/// Bytes of a stored state: room for a million streams.
pub(super) const STATE_BYTES_MAX: usize = 64 * 1024 * 1024;
const VERSION: &str = "mirror-state/v1";

/// What an entry broke, with the places that show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// The second is dated before the first.
    Times(LeafIndex, LeafIndex),
    /// A genesis record elsewhere than at the beginning, or another record there.
    Genesis(LeafIndex),
    /// The second does not have the number after the first's; without a first, not 0.
    Numbers(Option<LeafIndex>, LeafIndex),
}

/// What was read so far: all entries below `size`, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    size: u64,
    time: Micros,
    streams: BTreeMap<StreamId, (u64, u64)>,
    unread: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    countersign: String,
    size: u64,
    time_us: u64,
    unread: u64,
    // By the stream's name in hex: the last number, and where it stands.
    streams: BTreeMap<String, (u64, u64)>,
}

impl Seen {
    /// How many entries were read.
    pub fn size(&self) -> TreeSize {
        TreeSize(self.size)
    }

    /// When the last entry was logged: none is later, as long as no breach was found.
    pub fn time(&self) -> Micros {
        self.time
    }

    /// Entries of a version or kind that this program does not know. They are kept and not judged.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// Takes in a bundle's entries from this index on; what was read already is passed over. Gives
    /// the first breach.
    pub fn take(&mut self, first: u64, entries: &[Vec<u8>]) -> Option<Breach> {
        let mut breach = None;
        for (index, bytes) in (first..).zip(entries) {
            if index < self.size {
                continue;
            }
            breach = breach.or(self.take_one(index, bytes));
            self.size = index + 1;
        }
        breach
    }

    fn take_one(&mut self, index: u64, bytes: &[u8]) -> Option<Breach> {
        let Ok(entry) = Entry::from_bytes(bytes) else {
            self.unread += 1;
            return None;
        };
        let before = self.streams.insert(entry.stream, (entry.seq, index));
        let expected = before.map_or(Some(0), |(seq, _)| seq.checked_add(1));
        if (index == 0) != (entry.kind == Kind::Genesis) {
            return Some(Breach::Genesis(LeafIndex(index)));
        }
        let earlier = entry.logged_at < self.time;
        self.time = entry.logged_at;
        if earlier {
            // The entry in front may be one that can't be read; then another shows it.
            return Some(Breach::Times(LeafIndex(index.saturating_sub(1)), LeafIndex(index)));
        }
        let wrong = expected != Some(entry.seq);
        wrong.then(|| Breach::Numbers(before.map(|(_, at)| LeafIndex(at)), LeafIndex(index)))
    }

    /// The text that is stored.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let streams = self.streams.iter().map(|(stream, last)| (stream.hex(), *last)).collect();
        let stored = Stored {
            countersign: VERSION.to_owned(),
            size: self.size,
            time_us: self.time.0,
            unread: self.unread,
            streams,
        };
        // Writing to memory can't fail.
        let mut bytes = serde_json::to_vec(&stored).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads it; none where it is not what was stored for this size.
    pub(super) fn parse(bytes: &[u8], size: TreeSize) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        if stored.countersign != VERSION || stored.size != size.0 {
            return None;
        }
        let stream =
            |(name, last): (String, (u64, u64))| Some((StreamId(from_hex_array(&name)?), last));
        let streams = stored.streams.into_iter().map(stream).collect::<Option<_>>()?;
        Some(Self { size: size.0, time: Micros(stored.time_us), streams, unread: stored.unread })
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::hash::Sealed;

    use super::*;

    fn entry(stream: u8, seq: u64, time: u64) -> Vec<u8> {
        of_kind(Kind::Verdict, stream, seq, time)
    }

    fn of_kind(kind: Kind, stream: u8, seq: u64, time: u64) -> Vec<u8> {
        let sealed = Sealed([7; 32]);
        let (stream, logged_at) = (StreamId([stream; 16]), Micros(time));
        Entry { kind, logged_at, stream, seq, sealed }.to_bytes().to_vec()
    }

    #[test]
    fn streams_count_and_times_do_not_decrease() {
        let mut seen = Seen::default();
        let genesis = of_kind(Kind::Genesis, 1, 0, 5);
        assert_eq!(Seen::default().take(0, &[entry(1, 0, 5)]), Some(Breach::Genesis(LeafIndex(0))));
        let good = [genesis, entry(2, 0, 5), entry(1, 1, 6), entry(2, 1, 9)];
        assert_eq!(seen.take(0, &good), None);
        assert_eq!(seen.take(0, &good), None, "what was read is passed over");
        assert_eq!(Seen::parse(&seen.to_bytes(), TreeSize(4)), Some(seen.clone()));
        assert_eq!(Seen::parse(&seen.to_bytes(), TreeSize(5)), None);
        assert_eq!(Seen::parse(b"{}\n", TreeSize(4)), None);
        let at = |index| Some(LeafIndex(index));
        for (next, found) in [
            (entry(1, 3, 9), Breach::Numbers(at(2), LeafIndex(4))),
            (entry(1, 1, 9), Breach::Numbers(at(2), LeafIndex(4))),
            (entry(3, 1, 9), Breach::Numbers(None, LeafIndex(4))),
            (entry(1, 2, 8), Breach::Times(LeafIndex(3), LeafIndex(4))),
            (of_kind(Kind::Genesis, 1, 2, 9), Breach::Genesis(LeafIndex(4))),
        ] {
            assert_eq!(seen.clone().take(4, &[next]), Some(found));
        }
        let unknown = [vec![9; 66], entry(1, 2, 9)];
        assert_eq!((seen.take(4, &unknown), seen.unread()), (None, 1));
    }
}
