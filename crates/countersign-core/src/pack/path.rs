//! The files that a pack has a place for (PACK-2).

use std::cmp::Ordering;

use crate::cert::MAX_PEM;
use crate::encoding::{from_decimal, from_hex_array, hex};
use crate::evidence::EVIDENCE_BYTES_MAX;
use crate::hash::Hash;
use crate::note::NOTE_BYTES_MAX;
use crate::receipt::CONSISTENCY_BYTES_MAX;

/// Bytes of a policy's two texts and their lengths (KIND-8).
const POLICY_BYTES_MAX: usize = 4 * 1024 * 1024 + 8;
/// Bytes of a compact range: a tree has at most 64 peaks.
const PEAKS_BYTES_MAX: usize = 64 * 32;
const README_BYTES_MAX: usize = 64 * 1024;
/// A report of many records; it is hashed and not read.
const REPORT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A file of a pack, apart from its manifest. They are ordered by the bytes of their paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackFile {
    /// `README.txt`.
    Readme,
    /// `certificates/<hex SHA-256 of the DER>.pem`.
    Certificate(Hash),
    /// `consistency/<old size>-<new size>.proof`.
    Consistency(u64, u64),
    /// `entries.bin`.
    Entries,
    /// `evidence/<20 digits of the index>.evidence`.
    Evidence(u64),
    /// `heads/<20 digits of the size>.note`.
    Head(u64),
    /// `peaks.bin`.
    Peaks,
    /// `policies/<hex digest>`.
    Policy(Hash),
    /// `report.html`.
    Report,
}

impl PackFile {
    /// The file at a path within the pack; `None` where a pack has no place for it.
    pub fn parse(path: &str) -> Option<Self> {
        match path {
            "README.txt" => return Some(Self::Readme),
            "entries.bin" => return Some(Self::Entries),
            "peaks.bin" => return Some(Self::Peaks),
            "report.html" => return Some(Self::Report),
            _ => {}
        }
        let (folder, name) = path.split_once('/')?;
        match folder {
            "certificates" => {
                name.strip_suffix(".pem").and_then(from_hex_array).map(Self::Certificate)
            }
            "consistency" => {
                let (old, new) = name.strip_suffix(".proof")?.split_once('-')?;
                Some(Self::Consistency(from_decimal(old)?, from_decimal(new)?))
            }
            "evidence" => name.strip_suffix(".evidence").and_then(twenty).map(Self::Evidence),
            "heads" => name.strip_suffix(".note").and_then(twenty).map(Self::Head),
            "policies" => from_hex_array(name).map(Self::Policy),
            _ => None,
        }
    }

    /// The bytes that it may have.
    pub fn cap(self) -> usize {
        match self {
            Self::Readme => README_BYTES_MAX,
            Self::Certificate(_) => MAX_PEM,
            Self::Consistency(..) => CONSISTENCY_BYTES_MAX,
            // It is read in parts.
            Self::Entries => usize::MAX,
            Self::Evidence(_) => EVIDENCE_BYTES_MAX,
            Self::Head(_) => NOTE_BYTES_MAX,
            Self::Peaks => PEAKS_BYTES_MAX,
            Self::Policy(_) => POLICY_BYTES_MAX,
            Self::Report => REPORT_BYTES_MAX,
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Readme => 0,
            Self::Certificate(_) => 1,
            Self::Consistency(..) => 2,
            Self::Entries => 3,
            Self::Evidence(_) => 4,
            Self::Head(_) => 5,
            Self::Peaks => 6,
            Self::Policy(_) => 7,
            Self::Report => 8,
        }
    }
}

impl std::fmt::Display for PackFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Readme => f.write_str("README.txt"),
            Self::Certificate(digest) => write!(f, "certificates/{}.pem", hex(digest)),
            Self::Consistency(old, new) => write!(f, "consistency/{old}-{new}.proof"),
            Self::Entries => f.write_str("entries.bin"),
            Self::Evidence(index) => write!(f, "evidence/{index:020}.evidence"),
            Self::Head(size) => write!(f, "heads/{size:020}.note"),
            Self::Peaks => f.write_str("peaks.bin"),
            Self::Policy(digest) => write!(f, "policies/{}", hex(digest)),
            Self::Report => f.write_str("report.html"),
        }
    }
}

impl Ord for PackFile {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            // Numbers of fixed width and hex have the order of their values; these have not.
            (Self::Consistency(..), Self::Consistency(..)) => {
                self.to_string().cmp(&other.to_string())
            }
            (Self::Evidence(one), Self::Evidence(other)) | (Self::Head(one), Self::Head(other)) => {
                one.cmp(other)
            }
            (Self::Certificate(one), Self::Certificate(other))
            | (Self::Policy(one), Self::Policy(other)) => one.cmp(other),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PackFile {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Exactly twenty digits that fit `u64`.
fn twenty(text: &str) -> Option<u64> {
    let digits = text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling_and_files_are_ordered_by_it() {
        let mut files = vec![
            PackFile::Report,
            PackFile::Policy([7; 32]),
            PackFile::Peaks,
            PackFile::Head(8),
            PackFile::Evidence(10),
            PackFile::Evidence(9),
            PackFile::Entries,
            PackFile::Consistency(9, 10),
            PackFile::Consistency(10, 11),
            PackFile::Consistency(9, 9),
            PackFile::Certificate([1; 32]),
            PackFile::Readme,
        ];
        files.sort_unstable();
        let paths: Vec<String> = files.iter().map(PackFile::to_string).collect();
        assert!(paths.is_sorted_by(|a, b| a < b), "{paths:?}");
        for (file, path) in files.iter().zip(&paths) {
            assert_eq!(PackFile::parse(path), Some(*file));
        }
    }

    #[test]
    fn a_path_that_no_pack_has_is_none() {
        for path in [
            "",
            "readme.txt",
            "manifest.json",
            "../README.txt",
            "evidence/1.evidence",
            "evidence/00000000000000000001",
            "evidence/+0000000000000000001.evidence",
            "evidence/99999999999999999999.evidence",
            "evidence//00000000000000000001.evidence",
            "heads/00000000000000000001.NOTE",
            "consistency/03-8.proof",
            "consistency/3.proof",
            "policies/AA",
            "certificates/00.pem",
            "x/README.txt",
        ] {
            assert_eq!(PackFile::parse(path), None, "{path}");
        }
    }
}
