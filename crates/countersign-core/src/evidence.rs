//! Evidence files: what a tenant owns (spec/evidence.md).

use serde_json::{Value, json};

use crate::codes::{Code, Fault};
use crate::encoding::{b64, from_b64, from_b64_array};
use crate::entry::ENTRY_BYTES;
use crate::json::{self, Object};
use crate::receipt::{Receipt, unknown_version};
use crate::record::{DisclosedRecord, FIELDS_MAX, Field};
use crate::seal::Seal;

/// Bytes that an evidence file may have (EVID-1).
pub const EVIDENCE_BYTES_MAX: usize = 1024 * 1024;
/// Evidence objects that one file may rest on: a parent and its approvals (EVID-6).
pub const SUPPORTING_MAX: usize = 64;
/// Certificates in one chain (CERT-2).
pub const CHAIN_MAX: usize = 8;

const VERSION: &str = "evidence/v1";

/// An evidence file, parsed and not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The record, each field shown or withheld.
    pub record: DisclosedRecord,
    /// The gate's seal, or the ledger's on its own records.
    pub seal: Seal,
    /// The 66 bytes of the log entry, not yet read.
    pub entry: Vec<u8>,
    /// The receipt's text, verbatim, and what it says.
    pub receipt: Receipt,
    /// The gate's certificate chain as strict PEM, leaf first.
    pub gate_chain: Vec<String>,
    /// People's chains: exactly one where a person signs the kind, none elsewhere.
    pub people_chains: Vec<Vec<String>>,
    /// Evidence that this one rests on, each without supporting evidence of its own.
    pub supporting: Vec<Evidence>,
}

impl Evidence {
    /// Parses an evidence file (EVID-1 to EVID-6).
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.len() > EVIDENCE_BYTES_MAX {
            return Err(Code::EvidenceOversized.into());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Code::JsonMalformed)?;
        let value = json::parse(text)?;
        Self::from_json(&value, true)
    }

    fn from_json(value: &Value, may_have_supporting: bool) -> Result<Self, Fault> {
        let version = value.get("countersign").and_then(Value::as_str).unwrap_or_default();
        if version != VERSION {
            return Err(unknown_version(version, "evidence/v", Code::EvidenceMalformed));
        }
        let names =
            ["countersign", "record", "seal", "entry", "receipt", "certificates", "supporting"];
        let object = Object::exact(value, &names)?;
        let entry = object.str("entry")?;
        let entry = if entry.len() > 4 * ENTRY_BYTES {
            return Err(Code::EntryLength.into());
        } else {
            from_b64(entry).ok_or(Code::Base64.at_field("entry"))?
        };
        let certificates = Object::exact(object.get("certificates"), &["gate", "people"])?;
        let people = certificates.array("people")?;
        if people.len() > 1 {
            return Err(Code::PeopleChains.into());
        }
        let supporting = object.array("supporting")?;
        if supporting.len() > SUPPORTING_MAX || (!may_have_supporting && !supporting.is_empty()) {
            return Err(Code::SupportingNested.into());
        }
        Ok(Self {
            record: record_from_json(object.get("record"))?,
            seal: Seal::from_json(object.get("seal")).map_err(|f| f.in_field("seal"))?,
            entry,
            receipt: Receipt::parse(object.str("receipt")?)?,
            gate_chain: chain_from_json(certificates.get("gate"))?,
            people_chains: people.iter().map(chain_from_json).collect::<Result<_, _>>()?,
            supporting: supporting
                .iter()
                .map(|inner| Self::from_json(inner, false))
                .collect::<Result<_, _>>()?,
        })
    }

    fn to_json(&self) -> Value {
        let field = |field: &Field| match field {
            Field::Shown(bytes) => json!({ "bytes": bytes }),
            Field::Withheld(leaf) => json!({ "leaf": b64(leaf) }),
        };
        let fields: Vec<Value> = self.record.fields.iter().map(field).collect();
        json!({
            "countersign": VERSION,
            "record": { "field_count": fields.len(), "fields": fields },
            "seal": self.seal.to_json(),
            "entry": b64(&self.entry),
            "receipt": self.receipt.to_string(),
            "certificates": { "gate": self.gate_chain, "people": self.people_chains },
            "supporting": self.supporting.iter().map(Self::to_json).collect::<Vec<_>>(),
        })
    }

    /// The file's bytes: JSON, indented by one space, with a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
        // Writing a JSON value to memory can't fail.
        let _ = serde::Serialize::serialize(&self.to_json(), &mut serializer);
        out.push(b'\n');
        out
    }
}

fn record_from_json(value: &Value) -> Result<DisclosedRecord, Fault> {
    let object = Object::exact(value, &["field_count", "fields"])?;
    let fields = object.array("fields")?;
    if fields.len() > FIELDS_MAX || object.u64("field_count")? != fields.len() as u64 {
        return Err(Code::FieldCount.into());
    }
    let field = |value: &Value| {
        if value.get("bytes").is_some() {
            let object = Object::exact(value, &["bytes"])?;
            return Ok(Field::Shown(object.str("bytes")?.to_owned()));
        }
        let object = Object::exact(value, &["leaf"])?;
        let leaf = from_b64_array(object.str("leaf")?).ok_or(Code::Base64.at_field("leaf"))?;
        Ok::<_, Fault>(Field::Withheld(leaf))
    };
    let record = DisclosedRecord { fields: fields.iter().map(field).collect::<Result<_, _>>()? };
    record.check_caps()?;
    Ok(record)
}

fn chain_from_json(value: &Value) -> Result<Vec<String>, Fault> {
    let items = value.as_array().ok_or(Code::JsonShape.at_field("certificates"))?;
    if items.len() > CHAIN_MAX {
        return Err(Code::PeopleChains.into());
    }
    let pem = |item: &Value| {
        item.as_str().map(str::to_owned).ok_or(Code::JsonShape.at_field("certificates"))
    };
    items.iter().map(pem).collect()
}
