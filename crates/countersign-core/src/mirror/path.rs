//! The files that a mirror has a place for (MIRR-1, MIRR-2).

use std::fmt;

use crate::encoding::{hex, is_name};
use crate::hash::sha256;
use crate::tiles::TilePath;

/// The folder of a log in a mirror: the hex SHA-256 of its origin.
pub fn log_folder(origin: &str) -> String {
    hex(&sha256(origin.as_bytes()))
}

/// A file below a log's folder in a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorFile {
    /// `checkpoint`: the newest head.
    Checkpoint,
    /// A tile or a bundle.
    Tile(TilePath),
    /// `heads/<20 digits of the size>.note`.
    Head(u64),
    /// `alarms/<name>.alarm`.
    Alarm(String),
    /// `evidence/<20 digits of the index>.evidence`.
    Evidence(u64),
    /// `state/<20 digits>.json`: the follower's own notes, which prove nothing.
    State(u64),
    /// `state/evidence.json`: how far the follower came with the tenant's evidence.
    EvidenceState,
    /// `stopped`: says that the log is followed no more.
    Stopped,
}

impl MirrorFile {
    /// The file at a path below the log's folder; `None` where a mirror has no place for it.
    pub fn parse(path: &str) -> Option<Self> {
        match path {
            "checkpoint" => return Some(Self::Checkpoint),
            "stopped" => return Some(Self::Stopped),
            "state/evidence.json" => return Some(Self::EvidenceState),
            _ => {}
        }
        let (folder, name) = path.split_once('/')?;
        match folder {
            "tile" => TilePath::parse(path).map(Self::Tile),
            "heads" => name.strip_suffix(".note").and_then(twenty).map(Self::Head),
            "evidence" => name.strip_suffix(".evidence").and_then(twenty).map(Self::Evidence),
            "state" => name.strip_suffix(".json").and_then(twenty).map(Self::State),
            "alarms" => {
                let name = name.strip_suffix(".alarm").filter(|name| is_name(name))?;
                Some(Self::Alarm(name.to_owned()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for MirrorFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Tile(path) => path.fmt(f),
            Self::Head(size) => write!(f, "heads/{size:020}.note"),
            Self::Alarm(name) => write!(f, "alarms/{name}.alarm"),
            Self::Evidence(index) => write!(f, "evidence/{index:020}.evidence"),
            Self::State(size) => write!(f, "state/{size:020}.json"),
            Self::EvidenceState => f.write_str("state/evidence.json"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Twenty digits, with leading zeros, that fit `u64`.
fn twenty(text: &str) -> Option<u64> {
    let digits = text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MIRR-1 and MIRR-2.
    #[test]
    fn a_file_has_one_path() {
        for path in [
            "checkpoint",
            "stopped",
            "tile/0/x001/234.p/7",
            "tile/entries/000",
            "heads/00000000000000000008.note",
            "heads/18446744073709551615.note",
            "alarms/fork-0123456789abcdef.alarm",
            "evidence/00000000000000000042.evidence",
            "state/00000000000000000042.json",
            "state/evidence.json",
        ] {
            assert_eq!(MirrorFile::parse(path).expect(path).to_string(), path);
        }
        for path in [
            "",
            "checkpoint/",
            "tile/0/x000",
            "heads/8.note",
            "heads/18446744073709551616.note",
            "heads/+0000000000000000008.note",
            "heads/00000000000000000008.note.new",
            "alarms/.alarm",
            "alarms/a/b.alarm",
            "evidence/42.evidence",
            "state/other.json",
            "other/x",
        ] {
            assert_eq!(MirrorFile::parse(path), None, "{path}");
        }
    }
}
