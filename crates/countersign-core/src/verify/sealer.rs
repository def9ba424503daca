//! Steps 8 and 9: who sealed, by whose word, and whether a key that was relied on is revoked
//! (VER-8, VER-9).

use std::sync::Arc;

use super::memo::Holder;
use super::{Run, Step, Stop};
use crate::cert::{Role, VerifiedChain};
use crate::codes::Code;
use crate::encoding::Micros;
use crate::entry::Entry;
use crate::evidence::Evidence;
use crate::stream::StreamId;

impl Run<'_, '_> {
    /// VER-8.
    pub(super) fn sealer(&mut self, evidence: &Evidence) -> Step {
        let entry = self.read_entry()?;
        let own = entry.stream == StreamId::LEDGER;
        if own != evidence.gate_chain.is_empty() {
            return Err(Code::CertChain.into());
        }
        if own { self.ledger_sealer(evidence) } else { self.gate_sealer(evidence, &entry) }
    }

    fn ledger_sealer(&mut self, evidence: &Evidence) -> Step {
        let view = self.view()?;
        if ["tenant", "gate"].iter().any(|name| view.str(name).is_some_and(|t| !t.is_empty())) {
            return Err(Code::RecordForeign.into());
        }
        let Some(trust) = self.trust else {
            return Ok(());
        };
        // The ledger's stream outlives its keys and the log's: any of the origin's serves.
        let origin = &evidence.receipt.checkpoint.origin;
        let mut ledgers = trust.logs_of(origin).flat_map(|log| &log.ledgers).peekable();
        if ledgers.peek().is_none() {
            self.doubt(8, Code::LedgerKeysAbsent);
            return Ok(());
        }
        if ledgers.any(|vkey| vkey.key == evidence.seal.key) {
            Ok(())
        } else {
            Err(Code::LedgerKeyUnknown.into())
        }
    }

    fn gate_sealer(&mut self, evidence: &Evidence, entry: &Entry) -> Step {
        let chain = self.memo.chain(Holder::Gate, &evidence.gate_chain);
        chain.certificates()?;
        let Some(trust) = self.trust else {
            return Ok(());
        };
        let Some(gates) = &trust.gates else {
            self.doubt(8, Code::GatesAbsent);
            return Ok(());
        };
        let verified = chain.verify(&gates.roots, entry.logged_at)?;
        let identity = verified.identity();
        if verified.leaf_key() != evidence.seal.key
            || identity.trust_domain() != gates.trust_domain
            || identity.role() != Role::Gate
        {
            return Err(Code::SealerUntrusted.into());
        }
        let view = self.view()?;
        let says = |name, value: &str| view.str(name).is_none_or(|shown| shown == value);
        if !says("tenant", identity.tenant()) || !says("gate", identity.name()) {
            return Err(Code::SealerUntrusted.into());
        }
        if !gates.tenants.iter().any(|tenant| tenant == identity.tenant()) {
            return Err(Code::TenantUntrusted.into());
        }
        let origin = &evidence.receipt.checkpoint.origin;
        if !entry.stream.is_derived(origin, identity.tenant(), identity.name(), &evidence.seal.key)
        {
            return Err(Code::StreamDerivation.into());
        }
        self.rely_on(&verified);
        Ok(())
    }

    pub(super) fn rely_on(&mut self, chain: &VerifiedChain) {
        self.keys.extend(chain.keys().iter().cloned());
    }

    /// A person's chain, verified at the time of logging; `None` where trust names no people.
    pub(super) fn person_chain(
        &mut self,
        evidence: &Evidence,
        at: Micros,
    ) -> Result<Option<Arc<VerifiedChain>>, Stop> {
        let [pems] = evidence.people_chains.as_slice() else {
            return Err(Code::PeopleChains.into());
        };
        let chain = self.memo.chain(Holder::Person, pems);
        chain.certificates()?;
        let Some(trust) = self.trust else {
            return Ok(None);
        };
        let Some(roots) = &trust.people else {
            self.doubt(11, Code::PeopleAbsent);
            return Ok(None);
        };
        Ok(Some(chain.verify(roots, at)?))
    }

    /// VER-9.
    pub(super) fn revocation(&mut self, evidence: &Evidence) -> Step {
        let Some(trust) = self.trust else {
            return Ok(());
        };
        let checkpoint = &evidence.receipt.checkpoint;
        if let Some(doubt) =
            self.memo.head(checkpoint, trust).revoked(&self.keys, checkpoint, trust)?
        {
            self.doubt(9, doubt);
        }
        Ok(())
    }
}
