//! What a run leaves for the next one: how far it came, and what the entries behind that depend on
//! (MIRR-15, MIRR-16).
//!
//! It belongs to whoever verifies, like the trust file, and is believed like it. Its checksum finds
//! damage, and its peaks lead to the next head's root or the run fails; but who can write it can
//! hide what an earlier run should have found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::head::Plan;
use super::report::MirrorCounts;
use crate::codes::{Code, Fault};
use crate::encoding::{Micros, from_hex_array, hex};
use crate::hash::{Hash, TreeSize, sha256};
use crate::stream::StreamId;
use crate::tiles::TILE_WIDTH;
use crate::trust::Trust;

/// Bytes that a state may have: room for as many streams as are followed.
pub const STATE_BYTES_MAX: usize = 128 * 1024 * 1024;

const VERSION: &str = "mirror-state/v1";

/// The state of a verification after some full bundles in which nothing was amiss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorState {
    pub(super) origin: String,
    /// SHA-256 of the keys that the heads were verified with.
    pub(super) keys: Hash,
    pub(super) bundles: u64,
    /// Files in `heads/` of at most so many entries.
    pub(super) heads: u64,
    /// The hashes of the tiles that are not full yet, from level 1 up.
    pub(super) levels: Vec<Vec<Hash>>,
    pub(super) times: Option<(Micros, Micros)>,
    /// The last number of every stream.
    pub(super) streams: BTreeMap<StreamId, u64>,
    pub(super) counts: MirrorCounts,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    countersign: String,
    origin: String,
    keys: String,
    bundles: u64,
    heads: u64,
    levels: Vec<String>,
    times: Option<(u64, u64)>,
    counts: [u64; 4],
    streams: Vec<(String, u64)>,
}

impl MirrorState {
    /// The entries that it covers.
    pub fn size(&self) -> TreeSize {
        TreeSize(self.bundles.saturating_mul(u64::from(TILE_WIDTH)))
    }

    /// The log that it is of.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether it was made for this log, under the same keys.
    pub(super) fn is_of(&self, plan: &Plan<'_>) -> bool {
        let keys = plan.trust.map(|trust| keys_digest(trust, &plan.origin));
        self.origin == plan.origin && keys == Some(self.keys)
    }

    /// One line: JSON, a tab, the hex SHA-256 of the JSON, a newline.
    pub fn to_line(&self) -> String {
        let counts = &self.counts;
        let raw = Raw {
            countersign: VERSION.to_owned(),
            origin: self.origin.clone(),
            keys: hex(&self.keys),
            bundles: self.bundles,
            heads: self.heads,
            levels: self.levels.iter().map(|level| hex(level.as_flattened())).collect(),
            times: self.times.map(|(first, last)| (first.0, last.0)),
            counts: [counts.entries, counts.bundles, counts.tiles, counts.heads],
            streams: self.streams.iter().map(|(stream, seq)| (stream.hex(), *seq)).collect(),
        };
        // Texts, numbers and lists always have a JSON form.
        let json = serde_json::to_string(&raw).unwrap_or_default();
        let digest = hex(&sha256(json.as_bytes()));
        format!("{json}\t{digest}\n")
    }

    /// Reads one line, without its newline.
    pub fn parse(line: &str) -> Result<Self, Fault> {
        let wrong = || Fault::from(Code::MirrorState);
        let (json, digest) = line.split_once('\t').ok_or_else(wrong)?;
        if from_hex_array(digest) != Some(sha256(json.as_bytes())) {
            return Err(wrong());
        }
        let raw: Raw = serde_json::from_str(json).map_err(|_| wrong())?;
        if raw.countersign != VERSION {
            return Err(wrong());
        }
        let streams = raw.streams.iter().map(|(stream, seq)| {
            Ok::<_, Fault>((StreamId::from_hex(stream).ok_or_else(wrong)?, *seq))
        });
        let [entries, bundles, tiles, heads] = raw.counts;
        let state = Self {
            origin: raw.origin,
            keys: from_hex_array(&raw.keys).ok_or_else(wrong)?,
            bundles: raw.bundles,
            heads: raw.heads,
            levels: raw
                .levels
                .iter()
                .map(|level| hashes(level))
                .collect::<Option<_>>()
                .ok_or_else(wrong)?,
            times: raw.times.map(|(first, last)| (Micros(first), Micros(last))),
            streams: streams.collect::<Result<_, _>>()?,
            counts: MirrorCounts { entries, bundles, tiles, heads, ..MirrorCounts::default() },
        };
        if state.is_shaped() { Ok(state) } else { Err(wrong()) }
    }

    /// Whether each level has as many hashes as so many bundles leave there.
    fn is_shaped(&self) -> bool {
        let width = u64::from(TILE_WIDTH);
        let mut above = self.bundles;
        let fits = self.levels.iter().all(|level| {
            let fits = level.len() as u64 == above % width;
            above /= width;
            fits
        });
        fits && above == 0 && self.bundles <= u64::MAX / width
    }
}

fn hashes(text: &str) -> Option<Vec<Hash>> {
    if !text.is_ascii() {
        return None;
    }
    let parts = text.as_bytes().chunks(64);
    parts.map(|part| from_hex_array(std::str::from_utf8(part).ok()?)).collect()
}

/// Names the keys of a log that a trust file knows: other keys, another verification.
pub(super) fn keys_digest(trust: &Trust, origin: &str) -> Hash {
    let keys = trust.logs_of(origin).flat_map(|log| std::iter::once(&log.vkey).chain(&log.clocks));
    let mut lines: Vec<String> = keys.map(|vkey| format!("{vkey}\n")).collect();
    lines.sort_unstable();
    sha256(lines.concat().as_bytes())
}
