//! The ledger's own records: genesis, stream, notice, erasure. They stand in stream zero, each under a seal
//! of its own by the ledger's key (STR-5).

use countersign_core::codes::Fault;
use countersign_core::encoding::{Micros, b64, hex};
use countersign_core::hash::RecordRoot;
use countersign_core::json::quoted;
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_core::seal::SealedBatch;
use countersign_core::stream::StreamId;
use serde_json::json;

use crate::api::LogKeys;

/// What the `software` field of the ledger's own records says.
const SOFTWARE: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

/// What a record of the ledger says besides what all records say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Saying {
    /// The log begins.
    Genesis,
    /// A stream was opened, or its key has a new certificate.
    Stream {
        event: &'static str,
        tenant: String,
        gate: String,
        gate_key: [u8; 32],
        stream: StreamId,
        certificate: [u8; 32],
    },
    /// A gate sealed two records for one number: the second was refused.
    Equivocation { stream: StreamId, seq: u64, refused: RecordRoot },
    /// Payloads were erased, because a person asked for it.
    Erasure {
        entries: String,
        reason: String,
        /// The last segment of the URI in the person's certificate.
        person: String,
        /// SHA-256 of that certificate.
        certificate: [u8; 32],
        signature: [u8; 64],
    },
}

impl Saying {
    fn kind(&self) -> Kind {
        match self {
            Self::Genesis => Kind::Genesis,
            Self::Stream { .. } => Kind::Stream,
            Self::Equivocation { .. } => Kind::Notice,
            Self::Erasure { .. } => Kind::Erasure,
        }
    }

    /// The value of a field that is this kind's own.
    fn value(&self, name: &str, keys: &LogKeys, now: Micros) -> String {
        let key = |key: &ed25519_dalek::SigningKey| quoted(&hex(key.verifying_key().as_bytes()));
        match self {
            Self::Genesis => match name {
                "clock_key" => key(&keys.clock),
                "ledger_key" => key(&keys.ledger),
                "log_key" => key(&keys.log),
                "created_at" => quoted(&now.format()),
                "format" => "1".to_owned(),
                _ => quoted(&keys.origin),
            },
            Self::Stream { event, tenant, gate, gate_key, stream, certificate } => match name {
                "certificate" => quoted(&hex(certificate)),
                "gate_key" => quoted(&hex(gate_key)),
                "subject_gate" => quoted(gate),
                "subject_stream" => quoted(&stream.hex()),
                "subject_tenant" => quoted(tenant),
                _ => quoted(event),
            },
            Self::Equivocation { .. } if name == "about" => quoted("equivocation"),
            Self::Equivocation { stream, seq, refused } => json!({
                "refused": refused.hex(),
                "seq": seq,
                "stream": stream.hex(),
            })
            .to_string(),
            Self::Erasure { entries, reason, person, certificate, signature } => match name {
                "entries" => quoted(entries),
                "reason" => quoted(reason),
                "requested_by" => {
                    json!({ "id": person, "certificate": hex(certificate) }).to_string()
                }
                _ => quoted(&b64(signature)),
            },
        }
    }

    /// Builds the record at this place of the ledger's stream.
    pub(crate) fn record(
        &self,
        keys: &LogKeys,
        seed: [u8; 32],
        seq: u64,
        prev: RecordRoot,
        now: Micros,
    ) -> Result<FullRecord, Fault> {
        let kind = self.kind();
        let value = |name: &str| match name {
            "tenant" | "gate" => quoted(""),
            "stream" => quoted(&StreamId::LEDGER.hex()),
            "seq" => seq.to_string(),
            "prev" => quoted(&prev.hex()),
            "recorded_at" => quoted(&now.format()),
            "software" => quoted(SOFTWARE),
            "type" => quoted(kind.as_str()),
            name => self.value(name, keys, now),
        };
        let values = kind.fields().iter().map(|field| value(field.name)).collect();
        FullRecord::parse(kind, seed, values)
    }

    /// Builds and seals the record at this place of the ledger's stream.
    pub(crate) fn seal(
        &self,
        keys: &LogKeys,
        seed: [u8; 32],
        seq: u64,
        prev: RecordRoot,
        now: Micros,
    ) -> Result<(FullRecord, SealedBatch), Fault> {
        let record = self.record(keys, seed, seq, prev, now)?;
        let sealed = SealedBatch::seal(&keys.ledger, vec![record.build_root()?])?;
        Ok((record, sealed))
    }
}
