//! A pack's heads: each signed by the trusted log, and all of them one history (PACK-10 to
//! PACK-13).

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Findings, Place};
use super::{Contents, PackFile};
use crate::codes::{Code, Fault};
use crate::hash::{RootHash, TreeSize};
use crate::merkle::verify_consistency;
use crate::note::SignedCheckpoint;
use crate::receipt::ConsistencyProof;
use crate::trust::Trust;
use crate::verify::TrustedHead;

/// What is kept of a head.
struct Known {
    root: RootHash,
    /// The latest second at which a trusted clock cosigned it.
    clock_seconds: Option<u64>,
}

/// The heads that were read so far.
pub(super) struct Heads {
    /// The sizes on which everything rests: the pack's head and the end of its range.
    decisive: BTreeSet<u64>,
    head: u64,
    origin: String,
    known: BTreeMap<u64, Known>,
    /// Proven: the first is a prefix of the second. By the second, largest last.
    joins: BTreeSet<(u64, u64)>,
    /// Names of the witnesses on the pack's head.
    pub(super) witnesses: Vec<String>,
    /// What the trust file asks for nothing of.
    pub(super) not_checked: Vec<&'static str>,
}

impl Heads {
    pub(super) fn new(manifest: &Contents) -> Self {
        let to = manifest.claims.as_ref().map(|claims| claims.to.0);
        Self {
            decisive: to.into_iter().chain([manifest.head.0]).collect(),
            head: manifest.head.0,
            origin: manifest.origin.clone(),
            known: BTreeMap::new(),
            joins: BTreeSet::new(),
            witnesses: Vec::new(),
            not_checked: Vec::new(),
        }
    }

    /// The root of the head of this size.
    pub(super) fn root(&self, size: u64) -> Option<RootHash> {
        self.known.get(&size).map(|known| known.root)
    }

    /// When the head of this size was cosigned by the log's clock.
    pub(super) fn clock_seconds(&self, size: u64) -> Option<u64> {
        self.known.get(&size)?.clock_seconds
    }

    /// Reads the note of one head.
    pub(super) fn take(
        &mut self,
        size: u64,
        bytes: &[u8],
        trust: Option<&Trust>,
        findings: &mut Findings,
    ) {
        let place = Place::file(PackFile::Head(size));
        if let Err(fault) = self.read(size, bytes, trust, findings) {
            findings.fault(fault, place);
        }
    }

    fn read(
        &mut self,
        size: u64,
        bytes: &[u8],
        trust: Option<&Trust>,
        findings: &mut Findings,
    ) -> Result<(), Fault> {
        let text = std::str::from_utf8(bytes).map_err(|_| Code::NoteMalformed)?;
        let checkpoint = SignedCheckpoint::parse(text)?;
        if checkpoint.size.0 != size || checkpoint.origin != self.origin || size == 0 {
            return Err(Code::PackHeadName.at_index(size));
        }
        let mut clock_seconds = None;
        let decisive = self.decisive.contains(&size);
        if let Some(trust) = trust {
            // VER-6, of every head: whoever signed it, no line of a known key fails.
            let head = TrustedHead::check(&checkpoint, trust)?;
            clock_seconds = head.clock_seconds;
            let doubts = self.lines(&checkpoint, &head, trust)?;
            for doubt in doubts.into_iter().filter(|_| decisive) {
                findings.doubt(doubt, Place::file(PackFile::Head(size)));
            }
        } else if decisive {
            findings.doubt(Code::NoTrust, Place::file(PackFile::Head(size)));
        }
        self.known.insert(size, Known { root: checkpoint.root, clock_seconds });
        Ok(())
    }

    /// Clock, witnesses and revoked keys (VER-6, VER-7, VER-9): the doubts that they leave.
    fn lines(
        &mut self,
        checkpoint: &SignedCheckpoint,
        head: &TrustedHead<'_>,
        trust: &Trust,
    ) -> Result<Vec<Code>, Fault> {
        let newest = checkpoint.size.0 == self.head;
        let mut doubts = Vec::new();
        match (head.clocks_known, head.clock_seconds) {
            (true, None) => doubts.push(Code::ClockAbsent),
            (false, _) if newest => self.not_checked.push("clock"),
            _ => {}
        }
        match &trust.witnesses {
            Some(policy) => {
                if !policy.accepts_log(&head.log.vkey) {
                    return Err(Code::LogNotInPolicy.into());
                }
                if policy.is_none() && newest {
                    self.not_checked.push("witnesses");
                }
                match policy.evaluate(checkpoint, &trust.own_keys(), None)? {
                    Some(met) if newest => self.witnesses = met.witnesses,
                    Some(_) => {}
                    None => doubts.push(Code::WitnessQuorum),
                }
            }
            None if newest => self.not_checked.push("witnesses"),
            None => {}
        }
        doubts.extend(head.doubt(checkpoint, trust)?);
        Ok(doubts)
    }

    /// Reads one consistency proof; its heads were read before.
    pub(super) fn join(&mut self, old: u64, new: u64, bytes: &[u8]) -> Result<(), Fault> {
        let text = std::str::from_utf8(bytes).map_err(|_| Code::ConsistencyMalformed)?;
        let proof = ConsistencyProof::parse(text)?;
        if (proof.old_size.0, proof.new_size.0) != (old, new) {
            return Err(Code::PackProofName.into());
        }
        let root = |size| self.root(size).ok_or(Code::PackHeadMissing.at_index(size));
        let (old_root, new_root) = (root(old)?, root(new)?);
        verify_consistency(TreeSize(old), TreeSize(new), &old_root, &new_root, &proof.hashes)?;
        self.joins.insert((new, old));
        Ok(())
    }

    /// Names every head that no chain of proofs leads from to the pack's head.
    pub(super) fn unjoined(&self, findings: &mut Findings) {
        let mut joined = BTreeSet::from([self.head]);
        // From the largest down: what joins a head to one that is joined comes after that one.
        for (new, old) in self.joins.iter().rev() {
            if joined.contains(new) {
                joined.insert(*old);
            }
        }
        for size in self.known.keys().filter(|size| !joined.contains(size)) {
            let place = Place::file(PackFile::Head(*size));
            findings.fault(Code::PackHeadUnjoined.at_index(*size), place);
        }
    }

    /// Whether a receipt leads to one of these heads: the same log, size and root.
    pub(super) fn has(&self, checkpoint: &SignedCheckpoint) -> bool {
        checkpoint.origin == self.origin && self.root(checkpoint.size.0) == Some(checkpoint.root)
    }
}
