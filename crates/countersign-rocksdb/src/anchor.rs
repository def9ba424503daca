//! The anchor: the last published head, in a file outside the database.
//!
//! Two slots of 8,192 bytes are overwritten in turn, so that a torn write leaves the other one:
//!
//! ```text
//!     0     8  "csanchor"
//!     8     4  u32 format version, 2
//!    12     8  u64 generation; even ones stand in slot 0, odd ones in slot 1
//!    20     8  u64 size of the head; 0 before the first
//!    28     4  u32 length of the note; 0 before the first
//!    32  8128  the signed note, then zeros
//!  8160    32  SHA-256 of the 8,160 bytes before
//! ```
//!
//! The file is made whole under another name and then renamed; from then on its length never
//! changes, and one `fdatasync` makes a new head durable.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use countersign_core::hash::sha256;
use countersign_core::note::SignedCheckpoint;
use countersign_log::store::StoredHead;

use crate::keys::FORMAT_VERSION;

/// Bytes that a note may have so that it fits into a slot: room for some thirty signature lines.
pub const NOTE_BYTES_MAX: usize = NOTE_END - NOTE_AT;

const SLOT_BYTES: usize = 8_192;
const MAGIC: &[u8; 8] = b"csanchor";
const NOTE_AT: usize = 32;
const NOTE_END: usize = SLOT_BYTES - 32;

const _: () = assert!(NOTE_BYTES_MAX == 8_128);
const _: () = assert!(MAGIC.len() + 4 + 8 + 8 + 4 == NOTE_AT);

/// The open anchor and what it says.
#[derive(Debug)]
pub(crate) struct Anchor {
    file: File,
    generation: u64,
    head: Option<Anchored>,
}

/// The head that an anchor names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchored(SignedCheckpoint);

impl Anchored {
    /// Parses a head's note; none where it is not a checkpoint of that size, or doesn't fit.
    pub(crate) fn of(head: &StoredHead) -> Option<Self> {
        if head.note.len() > NOTE_BYTES_MAX {
            return None;
        }
        let checkpoint = SignedCheckpoint::parse(&head.note).ok()?;
        // An empty tree is never anchored: size 0 says that there is no head yet.
        (checkpoint.size == head.size && head.size.0 > 0).then_some(Self(checkpoint))
    }

    pub(crate) fn checkpoint(&self) -> &SignedCheckpoint {
        &self.0
    }
}

/// Why an anchor can't be read.
#[derive(Debug)]
pub(crate) enum AnchorError {
    /// No slot is whole, or they contradict each other.
    Corrupt,
    /// A whole slot is of another format.
    Version(u32),
    /// The file can't be read.
    Io(io::Error),
}

impl From<io::Error> for AnchorError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Slot {
    generation: u64,
    head: Option<Anchored>,
}

impl Anchor {
    /// Opens and reads the anchor; none where there is no file.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, AnchorError> {
        let file = match File::options().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        // One byte more than belongs there tells a file that is too long.
        (&file).take(2 * SLOT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > 2 * SLOT_BYTES {
            return Err(AnchorError::Corrupt);
        }
        let (first, second) = bytes.split_at(bytes.len().min(SLOT_BYTES));
        let slots = (parse_slot(first, 0)?, parse_slot(second, 1)?);
        let newest = match slots {
            (None, None) => return Err(AnchorError::Corrupt),
            (Some(only), None) | (None, Some(only)) => only,
            (Some(a), Some(b)) => {
                let (older, newer) = if a.generation < b.generation { (a, b) } else { (b, a) };
                // Heads never go backwards, and each write follows the one before it.
                if older.size() > newer.size() || older.generation + 1 != newer.generation {
                    return Err(AnchorError::Corrupt);
                }
                newer
            }
        };
        Ok(Some(Self { file, generation: newest.generation, head: newest.head }))
    }

    /// Makes the anchor of a new database, which says that there is no head yet.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let unfinished = path.with_extension("new");
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&unfinished)?;
        file.write_all_at(&slot(0, None), 0)?;
        file.write_all_at(&[0; SLOT_BYTES], SLOT_BYTES as u64)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(Self { file, generation: 0, head: None })
    }

    /// The head that it names, or none before the first.
    pub(crate) fn head(&self) -> Option<&SignedCheckpoint> {
        self.head.as_ref().map(Anchored::checkpoint)
    }

    /// The size that it names; 0 before the first head.
    pub(crate) fn size(&self) -> u64 {
        self.head().map_or(0, |head| head.size.0)
    }

    /// Names this head, durably. After an error nobody knows which head it names.
    pub(crate) fn advance(&mut self, head: Anchored) -> io::Result<()> {
        let generation = self.generation + 1;
        let at = (generation & 1) * SLOT_BYTES as u64;
        self.file.write_all_at(&slot(generation, Some(&head)), at)?;
        self.file.sync_data()?;
        self.generation = generation;
        self.head = Some(head);
        Ok(())
    }

    /// Lets every later write fail as a lost disk would.
    #[cfg(test)]
    pub(crate) fn break_file(&mut self, path: &Path) {
        self.file = File::open(path).unwrap();
    }
}

impl Slot {
    fn size(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.0.size.0)
    }
}

fn slot(generation: u64, head: Option<&Anchored>) -> [u8; SLOT_BYTES] {
    let note = head.map_or("", |head| head.0.as_str());
    let size = head.map_or(0, |head| head.0.size.0);
    // An `Anchored` holds no longer note than fits, so the cast is exact.
    let length = u32::try_from(note.len()).unwrap_or(u32::MAX);
    let mut body = Vec::with_capacity(SLOT_BYTES);
    body.extend_from_slice(MAGIC);
    body.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
    body.extend_from_slice(&generation.to_be_bytes());
    body.extend_from_slice(&size.to_be_bytes());
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(note.as_bytes());
    body.resize(NOTE_END, 0);
    let checksum = sha256(&body);
    body.extend_from_slice(&checksum);
    body.try_into().unwrap_or_else(|_| unreachable!("bad math in anchor: a slot's length"))
}

/// Reads a slot; none where it was never written, torn or damaged.
fn parse_slot(bytes: &[u8], place: u64) -> Result<Option<Slot>, AnchorError> {
    let Some((body, checksum)) = bytes.split_last_chunk::<32>() else { return Ok(None) };
    if bytes.len() != SLOT_BYTES || sha256(body) != *checksum {
        return Ok(None);
    }
    let Some((magic, rest)) = body.split_first_chunk::<8>() else { return Ok(None) };
    let Some((version, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    if magic != MAGIC {
        return Ok(None);
    }
    let version = u32::from_be_bytes(*version);
    if version != FORMAT_VERSION {
        return Err(AnchorError::Version(version));
    }
    let Some((generation, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
    let Some((size, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
    let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let generation = u64::from_be_bytes(*generation);
    let size = u64::from_be_bytes(*size);
    let note = usize::try_from(u32::from_be_bytes(*length)).ok().and_then(|n| rest.get(..n));
    let Some(note) = note.and_then(|note| std::str::from_utf8(note).ok()) else { return Ok(None) };
    if generation & 1 != place || generation == u64::MAX {
        return Ok(None);
    }
    if size == 0 && note.is_empty() {
        return Ok(Some(Slot { generation, head: None }));
    }
    let size = countersign_core::hash::TreeSize(size);
    let head = Anchored::of(&StoredHead { size, note: note.to_owned() });
    Ok(head.map(|head| Slot { generation, head: Some(head) }))
}
