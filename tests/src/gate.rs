//! A gate's side: records, seals, its stream.

use countersign_core::action;
use countersign_core::encoding::hex;
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_core::seal::SealedBatch;
use countersign_core::stream::StreamId;
use countersign_proto::convert::{
    StreamOpened, StreamOpening, Submission, SubmittedRecord, batch_to_wire,
};
use countersign_proto::v1;
use countersign_server::identity;
use ed25519_dalek::SigningKey;
use serde_json::{Map, Value, json};
use tonic::Status;

use crate::calls::Client;
use crate::pki::Holder;
use crate::random::Random;
use crate::stage::ORIGIN;

/// The values of a record by name; what is left out is null.
pub type Fields = Map<String, Value>;

/// Builds a record; panics where its values are not as its kind demands.
pub fn record(kind: Kind, fields: &Fields, random: &mut Random) -> FullRecord {
    let value = |name: &str| fields.get(name).unwrap_or(&Value::Null).to_string();
    let values = kind.fields().iter().map(|field| value(field.name)).collect();
    FullRecord::parse(kind, random.bytes(), values).unwrap()
}

/// A stream as its gate sees it.
#[derive(Clone)]
pub struct Lane {
    /// The tenant.
    pub tenant: String,
    /// The gate's name.
    pub gate: String,
    /// The stream's name.
    pub stream: StreamId,
    /// The seq of the next record.
    pub next_seq: u64,
    /// The root of the record before it.
    pub prev: RecordRoot,
    key: SigningKey,
}

/// What `OpenStream` is asked.
pub fn opening(gate: &Holder, instance: u32) -> v1::OpenStreamRequest {
    let seal_key = gate.key.verifying_key().to_bytes();
    StreamOpening { seal_key, instance, chain: gate.chain.clone() }.into()
}

impl Lane {
    /// Opens a stream, or finds where it stands.
    pub async fn open(client: &mut Client, gate: &Holder, instance: u32) -> Result<Self, Status> {
        let opened = client.open_stream(opening(gate, instance)).await?.into_inner();
        let opened = StreamOpened::try_from(opened).unwrap();
        let identity = gate.chain[0].identity().unwrap();
        let (tenant, name) = (identity.tenant().to_owned(), identity.name().to_owned());
        let key = gate.key.clone();
        let seal_key = key.verifying_key().to_bytes();
        // STR-2: a gate refuses a name that it can't derive.
        let derived = StreamId::derive(ORIGIN, &tenant, &name, &seal_key, instance).unwrap();
        assert_eq!((opened.stream, opened.origin.as_str()), (derived, ORIGIN));
        let (next_seq, prev) = (opened.next_seq, opened.prev);
        Ok(Self { tenant, gate: name, stream: derived, next_seq, prev, key })
    }

    /// What every record at the next place has in common.
    pub fn common(&self, kind: Kind) -> Fields {
        let common = json!({
            "gate": self.gate,
            "prev": self.prev.hex(),
            "recorded_at": identity::now().format(),
            "seq": self.next_seq,
            "software": "countersign-tests",
            "stream": self.stream.hex(),
            "tenant": self.tenant,
            "type": kind.as_str(),
        });
        common.as_object().unwrap().clone()
    }

    /// A refusal of an action of its own at the next place.
    pub fn verdict(&self, random: &mut Random) -> Fields {
        let mut fields = self.common(Kind::Verdict);
        let more = json!({
            "action": "elasticbeanstalk:TerminateEnvironment",
            "action_class": "delete",
            "action_digest": hex(&[0; 32]),
            "action_id": random.uuid_v7(),
            "actor": {
                "kind": "agent", "id": "infra-agent-7", "class": null, "session": "s-1",
                "model": null, "on_behalf_of": "dana@acme.example",
            },
            "destructive": true,
            "mode": "enforce",
            "nonce": hex(&random.bytes::<16>()),
            "outcome": "refuse",
            "parameters": {"EnvironmentName": "cost-explorer"},
            "reasons": [{"code": "PROD_DELETE", "policy": "p-1", "text": "not in production"}],
            "resource": {
                "type": "environment", "id": "cost-explorer", "environment": "prod", "domain": null,
            },
        });
        fields.extend(more.as_object().unwrap().clone());
        sign_action(Kind::Verdict, &mut fields);
        fields
    }

    /// The record of some fields, at the next place; the one after it continues it.
    pub fn take(&mut self, kind: Kind, fields: &Fields, random: &mut Random) -> SubmittedRecord {
        let record = record(kind, fields, random);
        self.next_seq += 1;
        self.prev = record.root();
        SubmittedRecord { record, people: Vec::new() }
    }

    /// Seals records whose last was taken last.
    pub fn seal(&self, records: Vec<SubmittedRecord>) -> Submission {
        let roots = records.iter().map(|record| record.record.root()).collect();
        Submission {
            stream: self.stream,
            first_seq: self.next_seq - records.len() as u64,
            sealed: SealedBatch::seal(&self.key, roots).unwrap(),
            records,
        }
    }

    /// The next `count` verdicts, sealed.
    pub fn batch(&mut self, count: usize, random: &mut Random) -> Submission {
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            let fields = self.verdict(random);
            records.push(self.take(Kind::Verdict, &fields, random));
        }
        self.seal(records)
    }

    /// One record at the next place, sealed; this lane stays where it is.
    pub fn single(&self, kind: Kind, fields: &Fields, random: &mut Random) -> Submission {
        let mut after = self.clone();
        let record = after.take(kind, fields, random);
        after.seal(vec![record])
    }
}

/// Sets `action_digest` to what the other fields give (DIG-1).
pub fn sign_action(kind: Kind, fields: &mut Fields) {
    let draft = record(kind, fields, &mut Random::new(0));
    let digest = action::digest(draft.view()).unwrap().unwrap();
    fields.insert("action_digest".to_owned(), Value::from(hex(&digest)));
}

/// The request that submits it.
pub fn request(submission: &Submission, call_id: u64) -> v1::SubmitRequest {
    v1::SubmitRequest { batch: Some(wire(submission)), call_id }
}

/// It as a message.
pub fn wire(submission: &Submission) -> v1::Batch {
    let Submission { stream, first_seq, sealed, records } = submission;
    batch_to_wire(*stream, *first_seq, sealed, records)
}
