//! Heads in evidence, receipts and notes that were given out: the log signed each, and so each must
//! be of the history that is followed (FOL-9).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use countersign_core::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use countersign_core::receipt::Receipt;
use countersign_mirror::follow::{Claims, Followed, Head};

use crate::files::{read_capped, shown};

/// Files that are looked at in one folder.
const FILES_MAX: usize = 1_000_000;

/// A folder of such files, each read once.
pub(super) struct Receipts {
    folder: PathBuf,
    claims: Claims,
    log: Followed,
    known: BTreeSet<PathBuf>,
}

impl Receipts {
    pub(super) fn new(folder: PathBuf, claims: Claims, log: Followed) -> Self {
        Self { folder, claims, log, known: BTreeSet::new() }
    }

    /// Takes in what is new. A file that can't be read or believed is named, and no more.
    pub(super) fn look(&mut self) {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!("the receipts in {} can't be read: {error}", shown(&self.folder));
                return;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if self.known.len() >= FILES_MAX || !is_ours(&path) || self.known.contains(&path) {
                continue;
            }
            match self.head_in(&path) {
                Ok(head) => self.claims.add(head),
                Err(why) => tracing::warn!("{} shows no head of this log: {why}", shown(&path)),
            }
            self.known.insert(path);
        }
    }

    fn head_in(&self, path: &Path) -> Result<Head, String> {
        let bytes = read_capped(path, EVIDENCE_BYTES_MAX).map_err(|failure| failure.message)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| "it is no text".to_owned())?;
        let note = match ending(path) {
            "evidence" => Evidence::parse(&bytes).map(|evidence| evidence.receipt.checkpoint),
            "receipt" => Receipt::parse(text).map(|receipt| receipt.checkpoint),
            _ => countersign_core::note::SignedCheckpoint::parse(text),
        };
        let note = note.map_err(|fault| fault.to_string())?;
        Head::believe(note.as_str(), &self.log.origin, &self.log.trust)
            .map_err(|fault| fault.to_string())
    }
}

fn ending(path: &Path) -> &str {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

fn is_ours(path: &Path) -> bool {
    matches!(ending(path), "evidence" | "receipt" | "note")
}
