//! The static read path: C2SP tlog-tiles (spec/tiles.md).
//!
//! A log's tree is cut into tiles of 256 hashes, its entries into bundles of 256, and every one has
//! one path, so that a folder of plain files is a log that anyone can read. This module knows the
//! paths, reads the bytes, and checks them: the tiles that are not full give the tree's root, and
//! each full tile is proved by one hash of the tile above. It fetches nothing.

use std::fmt;

use crate::encoding::from_decimal;
use crate::hash::{Hash, RootHash, TreeSize};
use crate::merkle::{LogTree, NodeId, ProofPlan, leaf_hash, root_of};

/// Levels of the tree that one tile spans.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// The largest level that a path may name.
pub const TILE_LEVEL_MAX: u8 = 63;
/// Bytes of the longest path: a bundle's, whose index has 20 digits and which is partial.
pub const TILE_PATH_BYTES_MAX: usize = 54;

/// What is wrong with a tile or a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileError {
    /// Not as many hashes or entries as its path says, or something behind them.
    #[error("a tile or bundle is not of the width that its path says; fetch it again")]
    Width,
    /// Tiles that are not those of the tree's size.
    #[error("the partial tiles are not those of this tree size; fetch them again")]
    Shape,
    /// The tiles give another root than the head, or than the tile above.
    #[error("the tiles do not hash to the signed root: the log or a copy of it was altered")]
    Root,
    /// An entry does not hash to its place in its tile.
    #[error("an entry does not hash to its tile: the log or a copy of it was altered")]
    Entry,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TileKind {
    /// Hashes of this level: 0 for leaf hashes, above it roots of full tiles.
    Hashes(u8),
    /// Log entries.
    Entries,
}

impl TileKind {
    /// The tile level whose places these are.
    fn level(self) -> u8 {
        match self {
            Self::Hashes(level) => level,
            Self::Entries => 0,
        }
    }
}

/// The path of a tile or of an entry bundle, as C2SP tlog-tiles spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl TilePath {
    /// A path; `None` where the level is above 63, or the width not 1 to 256.
    pub fn new(kind: TileKind, index: u64, width: u16) -> Option<Self> {
        let fits = kind.level() <= TILE_LEVEL_MAX && (1..=TILE_WIDTH).contains(&width);
        fits.then_some(Self { kind, index, width })
    }

    /// Reads `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`; only the one spelling that
    /// writing it gives is a path (TILE-2).
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > TILE_PATH_BYTES_MAX {
            return None;
        }
        let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(u8::try_from(from_decimal(level)?).ok()?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => {
                let width = u16::try_from(from_decimal(width)?).ok()?;
                // A full tile has no suffix.
                (index, Some(width).filter(|width| *width < TILE_WIDTH)?)
            }
            None => (rest, TILE_WIDTH),
        };
        let mut number = 0_u64;
        for part in index.split('/') {
            let digits = part.strip_prefix('x').unwrap_or(part);
            if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let group = digits.bytes().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
            number = number.checked_mul(1_000)?.checked_add(group)?;
        }
        let path = Self::new(kind, number, width)?;
        // Where each `x` stands, and that no group of zeros leads, is seen in what it is written as.
        (path.to_string() == text).then_some(path)
    }

    /// What it leads to.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// The tile's place in its level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Hashes or entries in it, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether a tree of this size has it: as full as it is there, or less.
    pub fn exists_at(&self, size: TreeSize) -> bool {
        self.width <= tile_width(self.kind, self.index, size)
    }

    /// The tile that holds a node of the tree, as it is at this size; `None` where the tree has no
    /// such node.
    pub fn holding(node: NodeId, size: TreeSize) -> Option<Self> {
        let (level, height) = (node.level / TILE_HEIGHT, node.level % TILE_HEIGHT);
        let kind = TileKind::Hashes(level);
        let index = node.index >> (TILE_HEIGHT - height);
        let path = Self::new(kind, index, tile_width(kind, index, size))?;
        let end = node.index.checked_add(1)?.checked_shl(u32::from(height))?;
        (end <= size.0.checked_shr(u32::from(level * TILE_HEIGHT))?).then_some(path)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        // Powers of 1,000 up to the largest that a u64 needs.
        for power in (1..=6_u32).rev() {
            let above = self.index / 1_000_u64.pow(power);
            if above > 0 {
                write!(f, "x{:03}/", above % 1_000)?;
            }
        }
        write!(f, "{:03}", self.index % 1_000)?;
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// How many hashes of this tile level a tree has; 0 where it does not reach the level.
fn hashes_at(level: u8, size: TreeSize) -> u64 {
    let shift = u32::from(level).saturating_mul(u32::from(TILE_HEIGHT));
    size.0.checked_shr(shift).unwrap_or(0)
}

/// How wide a tile or bundle is in a tree of this size: 0 where it has none.
pub fn tile_width(kind: TileKind, index: u64, size: TreeSize) -> u16 {
    let start = index.checked_mul(u64::from(TILE_WIDTH));
    let left = start.and_then(|start| hashes_at(kind.level(), size).checked_sub(start));
    u16::try_from(left.unwrap_or(0)).unwrap_or(TILE_WIDTH).min(TILE_WIDTH)
}

/// The tiles of a tree that are not full, lowest level first: what its root is made of.
///
/// A level whose hashes fill its tiles exactly has none.
pub fn partial_tiles(size: TreeSize) -> Vec<TilePath> {
    let level = |level: u8| {
        let hashes = hashes_at(level, size);
        let width = u16::try_from(hashes % u64::from(TILE_WIDTH)).unwrap_or(0);
        TilePath::new(TileKind::Hashes(level), hashes / u64::from(TILE_WIDTH), width)
    };
    (0..TILE_HEIGHT).filter_map(level).collect()
}

/// Reads a tile of hashes of this width.
pub fn parse_hashes(bytes: &[u8], width: u16) -> Result<Vec<Hash>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if rest.is_empty() && hashes.len() == usize::from(width) {
        Ok(hashes.to_vec())
    } else {
        Err(TileError::Width)
    }
}

/// Writes a bundle: each entry after its length as u16 (TILE-5); `None` where one is longer than
/// that can say.
pub fn encode_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Some(bytes)
}

/// Reads a bundle of this width.
pub fn parse_bundle(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, TileError> {
    let mut entries = Vec::with_capacity(usize::from(width.min(TILE_WIDTH)));
    let mut rest = bytes;
    for _ in 0..width {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(TileError::Width)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) = after.split_at_checked(length).ok_or(TileError::Width)?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(entries) } else { Err(TileError::Width) }
}

/// Checks that these entries are those of a tile of leaf hashes, one for one (TILE-5).
pub fn verify_bundle(entries: &[&[u8]], leaves: &[Hash]) -> Result<(), TileError> {
    let equal = entries.len() == leaves.len()
        && entries.iter().zip(leaves).all(|(entry, leaf)| leaf_hash(entry).0 == *leaf);
    if equal { Ok(()) } else { Err(TileError::Entry) }
}

/// Checks a full tile by the hash that the tile above holds of it.
pub fn verify_full_tile(hashes: &[Hash], above: &Hash) -> Result<(), TileError> {
    if hashes.len() != usize::from(TILE_WIDTH) {
        return Err(TileError::Width);
    }
    if root_of::<LogTree>(hashes).as_ref() == Some(above) { Ok(()) } else { Err(TileError::Root) }
}

/// A node of the tree, from the hashes of the tile that [`TilePath::holding`] names. `None` where
/// the tile is not wide enough.
pub fn node_of_tile(node: NodeId, hashes: &[Hash]) -> Option<Hash> {
    let height = node.level % TILE_HEIGHT;
    let place = node.index & ((1 << (TILE_HEIGHT - height)) - 1);
    let (from, width) = (usize::try_from(place << height).ok()?, 1_usize << height);
    root_of::<LogTree>(hashes.get(from..from.checked_add(width)?)?)
}

/// The partial tiles of a tree whose root they were found to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedEdge {
    size: TreeSize,
    tiles: Vec<(TilePath, Vec<Hash>)>,
}

impl VerifiedEdge {
    /// Holds the tiles of [`partial_tiles`], in that order, against the tree's root.
    pub fn verify(
        size: TreeSize,
        root: &RootHash,
        tiles: Vec<Vec<Hash>>,
    ) -> Result<Self, TileError> {
        let paths = partial_tiles(size);
        let widths = paths.iter().map(|path| usize::from(path.width));
        if !widths.eq(tiles.iter().map(Vec::len)) {
            return Err(TileError::Shape);
        }
        let edge = Self { size, tiles: paths.into_iter().zip(tiles).collect() };
        // Every complete subtree that makes up the root lies in a tile that is not full.
        let plan = ProofPlan::root(size);
        let peaks: Option<Vec<Hash>> = plan.nodes().iter().map(|node| edge.node(*node)).collect();
        let found = plan.finish(&peaks.ok_or(TileError::Shape)?);
        if found == [root.0] { Ok(edge) } else { Err(TileError::Root) }
    }

    /// The tree's size.
    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// The hashes of a partial tile of this tree, exactly as wide as it is here.
    pub fn tile(&self, path: &TilePath) -> Option<&[Hash]> {
        let known = self.tiles.iter().find(|(known, _)| known == path);
        known.map(|(_, hashes)| hashes.as_slice())
    }

    /// A node that lies in a partial tile.
    pub fn node(&self, node: NodeId) -> Option<Hash> {
        node_of_tile(node, self.tile(&TilePath::holding(node, self.size)?)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(kind: TileKind, index: u64, width: u16) -> String {
        TilePath::new(kind, index, width).unwrap().to_string()
    }

    /// TILE-2: the examples of the C2SP page, and the ends of the range.
    #[test]
    fn paths_are_spelled_as_the_page_says() {
        use TileKind::{Entries, Hashes};
        assert_eq!(path(Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(Entries, 273, 112), "tile/entries/273.p/112");
        assert_eq!(path(Hashes(63), 0, 1), "tile/63/000.p/1");
        assert_eq!(path(Entries, 1_000, 256), "tile/entries/x001/000");
        let longest = path(Entries, u64::MAX, 255);
        assert_eq!(longest, "tile/entries/x018/x446/x744/x073/x709/x551/615.p/255");
        assert!(longest.len() <= TILE_PATH_BYTES_MAX);
        assert!(TilePath::parse(&longest).is_some());
    }

    #[test]
    fn another_spelling_is_no_path() {
        for text in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/00/000",
            "tile/+0/000",
            "tile/64/000",
            "tile/256/000",
            "tile/-1/000",
            "tile/data/000",
            "tile/0/x000",
            "tile/0/x000/000",
            "tile/0/x000/x001/000",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/0/X001/000",
            "tile/0/x01/000",
            "tile/0/000/",
            "tile/0//000",
            "/tile/0/000",
            "tile/0/000.p",
            "tile/0/000.p/",
            "tile/0/000.p/0",
            "tile/0/000.p/01",
            "tile/0/000.p/256",
            "tile/0/000.p/65537",
            "tile/0/000.p/1/",
            "tile/0/000.p/1.p/1",
            "tile/0/00\u{0661}",
            "tile/0/%30%30%30",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
            "tile/0/x001/x001/x001/x001/x001/x001/x001/x001/x001/x001/x001/000",
        ] {
            assert_eq!(TilePath::parse(text), None, "{text:?}");
        }
    }

    /// The example of the C2SP page: 70,000 entries.
    #[test]
    fn a_tree_of_70_000_has_the_tiles_that_the_page_says() {
        let size = TreeSize(70_000);
        let partial: Vec<String> = partial_tiles(size).iter().map(ToString::to_string).collect();
        assert_eq!(partial, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
        assert_eq!(tile_width(TileKind::Entries, 272, size), 256);
        assert_eq!(tile_width(TileKind::Entries, 273, size), 112);
        assert_eq!(tile_width(TileKind::Entries, 274, size), 0);
        assert_eq!(tile_width(TileKind::Hashes(3), 0, size), 0);
        assert_eq!(tile_width(TileKind::Hashes(63), u64::MAX, TreeSize(u64::MAX)), 0);
        let partial: Vec<String> =
            partial_tiles(TreeSize(256)).iter().map(ToString::to_string).collect();
        assert_eq!(partial, ["tile/1/000.p/1"], "an empty tile is none");
        let asked = TilePath::new(TileKind::Entries, 273, 111).unwrap();
        assert!(asked.exists_at(size) && !asked.exists_at(TreeSize(69_998)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(index: u64, level in 0_u8..64, width in 1_u16..=256) {
            for kind in [TileKind::Hashes(level), TileKind::Entries] {
                let path = TilePath::new(kind, index, width).unwrap();
                prop_assert_eq!(TilePath::parse(&path.to_string()), Some(path));
            }
        }

        #[test]
        fn hostile_texts_do_not_panic(text in "(tile/)?[0-9a-z/.x]{0,60}") {
            if let Some(path) = TilePath::parse(&text) {
                prop_assert_eq!(path.to_string(), text);
            }
        }

        #[test]
        fn bundles_come_back(entries in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..90), 1..20,
        )) {
            let slices = || entries.iter().map(Vec::as_slice);
            let bytes = encode_bundle(slices()).unwrap();
            let width = u16::try_from(entries.len()).unwrap();
            let read = parse_bundle(&bytes, width).unwrap();
            prop_assert!(read.iter().copied().eq(slices()));
            prop_assert_eq!(parse_bundle(&bytes, width + 1), Err(TileError::Width));
            prop_assert_eq!(parse_bundle(&bytes, width - 1), Err(TileError::Width));
            prop_assert_eq!(parse_bundle(&bytes[..bytes.len() - 1], width), Err(TileError::Width));
        }
    }

    #[test]
    fn an_entry_that_a_u16_can_not_measure_makes_no_bundle() {
        assert!(encode_bundle([vec![0; 65_535].as_slice()]).is_some());
        assert!(encode_bundle([vec![0; 65_536].as_slice()]).is_none());
    }

    #[test]
    fn nodes_outside_the_tree_are_in_no_tile() {
        let holding =
            |level, index, size| TilePath::holding(NodeId { level, index }, TreeSize(size));
        assert_eq!(holding(0, 5, 5), None);
        assert_eq!(holding(1, 2, 5), None);
        assert!(holding(1, 1, 5).is_some());
        assert_eq!(holding(8, 1, 511), None);
        assert_eq!(holding(63, u64::MAX, u64::MAX), None);
        assert_eq!(holding(255, 0, u64::MAX), None);
    }
}
