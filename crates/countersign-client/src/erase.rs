//! Asking that payloads be erased.

use countersign_core::cert::Certificate;
use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, lp};
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::trust::Trust;
use countersign_proto::convert::{ErasureAsked, EvidenceQuery, RecordRef};
use countersign_proto::v1;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::client::{Client, EvidenceItem, HeadWanted, own_trust};
use crate::error::ClientError;

/// What is to be erased, why, and who asks for it.
#[derive(Debug)]
pub struct ErasureOrder<'a> {
    /// The indexes, as an erasure record spells them: `7,9-12`.
    pub entries: &'a str,
    /// Why; [`erasure_reason`] writes its last line.
    pub reason: &'a str,
    /// The certificate chain of the tenant-admin who asks, leaf first.
    pub chain: &'a [Certificate],
    /// The key of its leaf.
    pub key: &'a SigningKey,
}

/// An erasure that is on record.
#[derive(Clone, Debug)]
pub struct Erased {
    /// Where its record stands.
    pub index: LeafIndex,
    /// How many records it erased, as the ledger says.
    pub erased: u64,
    /// The evidence of it, verified.
    pub evidence: EvidenceItem,
}

/// A reason with the line that every erasure ends with: records logged before `floor` are free to be
/// erased.
pub fn erasure_reason(reason: &str, floor: Micros) -> String {
    format!("{}\nretention floor: {}", reason.trim_end(), floor.format())
}

impl Client {
    /// Has payloads erased, by the signature of one of the tenant's admins. The evidence that comes
    /// back proves that it is on record who asked for what, and why. That the bytes are gone is the
    /// ledger's word. To ask for the same again is harmless.
    ///
    /// # Errors
    ///
    /// The ledger's refusal; an answer that does not prove this very erasure.
    pub async fn erase(
        &self,
        order: &ErasureOrder<'_>,
        trust: Option<&Trust>,
    ) -> Result<Erased, ClientError> {
        self.inner.tracker.floor()?;
        // KIND-15.
        let mut signed = b"countersign/v1 erasure\n".to_vec();
        for (name, part) in
            [("origin", self.origin()), ("entries", order.entries), ("reason", order.reason)]
        {
            let part = lp(part).ok_or(Code::RequestMalformed.at_field(name));
            signed.extend(part.map_err(ClientError::Record)?);
        }
        let asked = ErasureAsked {
            entries: order.entries.to_owned(),
            reason: order.reason.to_owned(),
            chain: order.chain.to_vec(),
            signature: order.key.sign(&signed).to_bytes(),
        };
        let mut grpc = self.grpc();
        let request = self.request(v1::EraseRequest::from(asked));
        let response = self.call(grpc.erase(request)).await?;
        let index = LeafIndex(response.index);
        let own = own_trust(&self.inner.keys);
        let file = v1::EvidenceFile { index: response.index, json: response.evidence_json };
        let (evidence, head) = self.evidence_item(
            file,
            &EvidenceQuery::Record(RecordRef::Index(index)),
            HeadWanted::AtLeast(TreeSize(0)),
            trust.unwrap_or(&own),
        )?;
        self.take_old_head(&head).await?;
        let facts = &evidence.report.facts;
        let said = |name: &str| facts.view.as_ref().and_then(|view| view.str(name));
        if facts.entry.is_none_or(|entry| entry.kind != Kind::Erasure)
            || said("entries") != Some(order.entries)
            || said("reason") != Some(order.reason)
        {
            return Err(ClientError::Answer(Code::AnswerMismatch.at_field("evidence_json")));
        }
        Ok(Erased { index, erased: response.erased, evidence })
    }
}
