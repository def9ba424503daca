//! The files that a manifest lists, kept small: a pack may have a million, nearly all of them
//! evidence.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::PackFile;
use crate::hash::Hash;

/// Files with the SHA-256 of their bytes; 40 bytes for each evidence file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Ascending by index.
    evidence: Vec<(u64, Hash)>,
    others: BTreeMap<PackFile, Hash>,
}

impl Listing {
    /// Lists a file. Evidence in ascending order costs least.
    pub fn insert(&mut self, file: PackFile, digest: Hash) {
        let PackFile::Evidence(index) = file else {
            self.others.insert(file, digest);
            return;
        };
        if self.evidence.last().is_none_or(|(last, _)| *last < index) {
            self.evidence.push((index, digest));
            return;
        }
        match self.evidence.binary_search_by_key(&index, |(known, _)| *known) {
            Ok(at) => {
                if let Some((_, known)) = self.evidence.get_mut(at) {
                    *known = digest;
                }
            }
            Err(at) => self.evidence.insert(at, (index, digest)),
        }
    }

    /// The digest of a file that is listed.
    pub fn get(&self, file: &PackFile) -> Option<&Hash> {
        let PackFile::Evidence(index) = file else { return self.others.get(file) };
        let at = self.evidence.binary_search_by_key(index, |(known, _)| *known).ok()?;
        self.evidence.get(at).map(|(_, digest)| digest)
    }

    /// Whether a file is listed.
    pub fn contains(&self, file: &PackFile) -> bool {
        self.get(file).is_some()
    }

    /// Files that are listed.
    pub fn len(&self) -> usize {
        self.evidence.len() + self.others.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every file that is no evidence, ascending.
    pub fn others(&self) -> impl Iterator<Item = PackFile> {
        self.others.keys().copied()
    }

    /// The first evidence of this index or a later one.
    pub fn evidence_from(&self, index: u64) -> Option<u64> {
        let at = self.evidence.partition_point(|(known, _)| *known < index);
        self.evidence.get(at).map(|(index, _)| *index)
    }

    /// Files with their digests, ascending by the bytes of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (PackFile, &Hash)> {
        let evidence = self.evidence.iter().map(|(index, hash)| (PackFile::Evidence(*index), hash));
        let others = |range: (Bound<PackFile>, Bound<PackFile>)| {
            self.others.range(range).map(|(file, digest)| (*file, digest))
        };
        // No evidence is among the others, so that any of it parts them.
        let between = PackFile::Evidence(0);
        others((Bound::Unbounded, Bound::Excluded(between)))
            .chain(evidence)
            .chain(others((Bound::Excluded(between), Bound::Unbounded)))
    }
}

impl FromIterator<(PackFile, Hash)> for Listing {
    fn from_iter<T: IntoIterator<Item = (PackFile, Hash)>>(files: T) -> Self {
        let mut listing = Self::default();
        for (file, digest) in files {
            listing.insert(file, digest);
        }
        listing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the order in which files come, they are those that a map has.
    #[test]
    fn a_listing_says_what_a_map_says() {
        let files = [
            PackFile::Evidence(7),
            PackFile::Readme,
            PackFile::Evidence(9),
            PackFile::Evidence(3),
            PackFile::Head(9),
            PackFile::Evidence(7),
        ];
        let (mut listing, mut map) = (Listing::default(), BTreeMap::new());
        for (n, file) in (0_u8..).zip(files) {
            listing.insert(file, [n; 32]);
            map.insert(file, [n; 32]);
        }
        assert!(listing.iter().eq(map.iter().map(|(file, digest)| (*file, digest))));
        assert_eq!(map.clone().into_iter().collect::<Listing>(), listing);
        assert_eq!((listing.len(), listing.is_empty()), (map.len(), false));
        for file in [PackFile::Report, PackFile::Evidence(8)].into_iter().chain(files) {
            assert_eq!(listing.get(&file), map.get(&file), "{file}");
        }
        let from = [0, 3, 4, 7, 9, 10].map(|index| listing.evidence_from(index));
        assert_eq!(from, [Some(3), Some(3), Some(7), Some(7), Some(9), None]);
        assert_eq!(listing.others().collect::<Vec<_>>(), [PackFile::Readme, PackFile::Head(9)]);
    }
}
