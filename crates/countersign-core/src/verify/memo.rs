//! What was verified before. Files of one pack share heads, certificate chains and batch seals;
//! each of these is verified once for each spelling that it has, and by the same code as in one
//! file.
//!
//! Only what is equal to the last byte is remembered as equal: a head by its whole text, a chain by
//! its PEM, a batch by key, size, root and signature. The memory is bounded; when it is full it
//! begins anew.

use std::collections::{HashMap, HashSet};
use std::hash::Hash as StdHash;
use std::sync::Arc;

use super::{Finding, Report, Run, TrustedHead};
use crate::cert::{Certificate, TrustAnchor, VerifiedChain, verify_chain};
use crate::codes::{Code, Fault};
use crate::encoding::Micros;
use crate::evidence::Evidence;
use crate::hash::{BatchRoot, RecordRoot};
use crate::note::SignedCheckpoint;
use crate::seal::Seal;
use crate::trust::{Trust, read_chain};

/// Heads and chains that are remembered: a note has at most 64 KiB, so that is 16 MiB at most.
const TEXTS_MAX: usize = 256;
/// Seals that are remembered, 136 bytes each.
const SEALS_MAX: usize = 8_192;

/// Verifies many evidence files under one trust file, and remembers what they share.
pub struct Verifier<'t> {
    trust: Option<&'t Trust>,
    memo: Memo<'t>,
}

impl<'t> Verifier<'t> {
    /// `trust` is all that is believed; without it nothing is VALID.
    pub fn new(trust: Option<&'t Trust>) -> Self {
        Self { trust, memo: Memo::default() }
    }

    /// Verifies an evidence file.
    pub fn verify_file(&mut self, bytes: &[u8]) -> Report {
        match Evidence::parse(bytes) {
            Ok(evidence) => self.verify(&evidence),
            Err(fault) => self.refuse(fault),
        }
    }

    /// The report of a file that does not parse.
    pub(crate) fn refuse(&mut self, fault: Fault) -> Report {
        let mut run = Run::new(self.trust, &mut self.memo);
        if fault.code == Code::VersionUnknown {
            run.doubt(1, fault);
            run.finish(Ok(()))
        } else {
            run.finish(Err(Finding { step: 1, fault }))
        }
    }

    /// Verifies parsed evidence with what it rests on.
    pub fn verify(&mut self, evidence: &Evidence) -> Report {
        let mut run = Run::new(self.trust, &mut self.memo);
        let outcome = run.steps(evidence, true);
        run.finish(outcome)
    }
}

/// Whose certificates a chain is of: each is judged under roots of its own.
#[derive(Clone, Copy)]
pub(super) enum Holder {
    Gate,
    Person,
}

/// What was verified before.
#[derive(Default)]
pub(super) struct Memo<'t> {
    heads: HashMap<String, HeadSeen<'t>>,
    gate_chains: HashMap<Vec<String>, ChainSeen>,
    person_chains: HashMap<Vec<String>, ChainSeen>,
    seals: HashSet<([u8; 32], u32, BatchRoot, [u8; 64])>,
}

impl<'t> Memo<'t> {
    /// VER-3, its signature once a batch.
    pub(super) fn seal(&mut self, seal: &Seal, root: &RecordRoot) -> Result<(), Fault> {
        let batch = seal.batch_root(root)?;
        let known = (seal.key, seal.size, batch, seal.signature);
        if !self.seals.contains(&known) {
            seal.verify_batch(&batch)?;
            if self.seals.len() >= SEALS_MAX {
                self.seals.clear();
            }
            self.seals.insert(known);
        }
        Ok(())
    }

    /// What a head's lines come to.
    pub(super) fn head(
        &mut self,
        checkpoint: &SignedCheckpoint,
        trust: &'t Trust,
    ) -> &mut HeadSeen<'t> {
        remembered(&mut self.heads, checkpoint.as_str(), || HeadSeen::of(checkpoint, trust))
    }

    /// A chain, as far as it was looked at.
    pub(super) fn chain(&mut self, holder: Holder, pems: &[String]) -> &mut ChainSeen {
        let chains = match holder {
            Holder::Gate => &mut self.gate_chains,
            Holder::Person => &mut self.person_chains,
        };
        remembered(chains, pems, || ChainSeen { read: read_chain(pems), valid: None })
    }
}

fn remembered<'m, Q, K, V>(
    map: &'m mut HashMap<K, V>,
    key: &Q,
    make: impl FnOnce() -> V,
) -> &'m mut V
where
    Q: ToOwned<Owned = K> + StdHash + Eq + ?Sized,
    K: std::borrow::Borrow<Q> + StdHash + Eq,
{
    if !map.contains_key(key) {
        if map.len() >= TEXTS_MAX {
            map.clear();
        }
        map.insert(key.to_owned(), make());
    }
    map.get_mut(key).unwrap_or_else(|| unreachable!("bad math in memo: it was put there"))
}

/// What the lines of a head come to.
pub(super) struct HeadSeen<'t> {
    /// VER-6.
    pub(super) log: Result<TrustedHead<'t>, Fault>,
    /// VER-7: the witnesses that count, where they are enough.
    pub(super) witnesses: Result<Option<Vec<String>>, Fault>,
    /// VER-9, by the time from which a key is revoked.
    revoked: Vec<(Micros, Result<Option<Code>, Fault>)>,
}

impl<'t> HeadSeen<'t> {
    fn of(checkpoint: &SignedCheckpoint, trust: &'t Trust) -> Self {
        let log = TrustedHead::check(checkpoint, trust);
        let witnesses = match &trust.witnesses {
            Some(policy) if log.is_ok() => policy
                .evaluate(checkpoint, &trust.own_keys(), None)
                .map(|met| met.map(|met| met.witnesses)),
            _ => Ok(None),
        };
        Self { log, witnesses, revoked: Vec::new() }
    }

    /// The doubt that a revoked key among these leaves on this head.
    pub(super) fn revoked(
        &mut self,
        keys: &[Vec<u8>],
        checkpoint: &SignedCheckpoint,
        trust: &Trust,
    ) -> Result<Option<Code>, Fault> {
        let Some(from) = keys.iter().filter_map(|key| trust.revoked_from(key)).min() else {
            return Ok(None);
        };
        if let Some((_, known)) = self.revoked.iter().find(|(at, _)| *at == from) {
            return *known;
        }
        let found = trust.revocation_doubt(keys, checkpoint);
        self.revoked.push((from, found));
        found
    }
}

/// A chain: read, and between which seconds it is known to be valid.
pub(super) struct ChainSeen {
    read: Result<Vec<Certificate>, Fault>,
    valid: Option<(u64, u64, Arc<VerifiedChain>)>,
}

impl ChainSeen {
    /// Its certificates, where each is one.
    pub(super) fn certificates(&self) -> Result<&[Certificate], Fault> {
        self.read.as_deref().map_err(|fault| *fault)
    }

    /// CERT-1 to CERT-9 at a time. Only the dates depend on it, and the times at which they all fit
    /// have no gap: what is valid at two times is valid in between.
    pub(super) fn verify(
        &mut self,
        roots: &[TrustAnchor],
        at: Micros,
    ) -> Result<Arc<VerifiedChain>, Fault> {
        let second = at.seconds();
        if let Some((from, to, chain)) = &self.valid
            && (*from..=*to).contains(&second)
        {
            return Ok(Arc::clone(chain));
        }
        let certificates = self.certificates()?;
        let chain = Arc::new(verify_chain(certificates, roots, at.0).map_err(Fault::from)?);
        // As a rule the leaf ends first, and then its last second ends the span.
        let last = Micros(chain.not_after_us());
        let to = verify_chain(certificates, roots, last.0).map_or(second, |_| last.seconds());
        self.valid = Some((second, to, Arc::clone(&chain)));
        Ok(chain)
    }
}
