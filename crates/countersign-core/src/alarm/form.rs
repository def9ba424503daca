//! The file: JSON in one spelling (ALRM-2 to ALRM-4).

use serde::Serialize;
use serde_json::Value;

use super::{
    ALARM_BYTES_MAX, Alarm, Claim, ProvenEntry, ProvenRun, Proves, RUN_ENTRIES_MAX, malformed,
};
use crate::codes::{Code, Fault};
use crate::encoding::{b64, from_b64, from_b64_array};
use crate::entry::ENTRY_BYTES;
use crate::hash::{Hash, LeafIndex};
use crate::json::{self, Object};
use crate::note::SignedCheckpoint;
use crate::receipt::{PROOF_HASHES_MAX, unknown_version};

const VERSION: &str = "alarm/v1";

#[derive(Serialize)]
struct Raw<'a> {
    countersign: &'a str,
    proves: &'a str,
    heads: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peaks: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<RawEntry>>,
}

#[derive(Serialize)]
struct RawEntry {
    index: u64,
    bytes: String,
    path: Vec<String>,
}

impl Alarm {
    /// The alarm's one spelling: members in the order of ALRM-3, indented by one space, with a final
    /// newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut raw = Raw {
            countersign: VERSION,
            proves: self.proves().as_str(),
            heads: self.heads().iter().map(SignedCheckpoint::as_str).collect(),
            seed: None,
            from: None,
            peaks: None,
            run: None,
            hashes: None,
            entries: None,
        };
        match &self.claim {
            Claim::Fork { .. } => {}
            Claim::Rewrite { seed, hashes, .. } => {
                raw.seed = Some(b64(seed));
                raw.hashes = Some(texts(hashes));
            }
            Claim::Order { entries, .. } | Claim::Stream { entries, .. } => {
                let entry = |entry: &ProvenEntry| RawEntry {
                    index: entry.index.0,
                    bytes: b64(&entry.bytes),
                    path: texts(&entry.path),
                };
                raw.entries = Some(entries.iter().map(entry).collect());
            }
            Claim::Gap { run, .. } => {
                raw.from = Some(run.from.0);
                raw.peaks = Some(texts(&run.peaks));
                raw.run = Some(b64(run.entries.as_flattened()));
                raw.hashes = Some(texts(&run.hashes));
            }
        }
        let mut out = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
        // Writing to memory can't fail.
        let _ = raw.serialize(&mut serializer);
        out.push(b'\n');
        out
    }

    /// Reads an alarm's file. What it claims is not looked at: see [`super::verify_alarm`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.len() > ALARM_BYTES_MAX {
            return Err(Code::AlarmOversized.into());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Code::JsonMalformed)?;
        let value = json::parse(text)?;
        let version = value.get("countersign").and_then(Value::as_str).unwrap_or_default();
        if version != VERSION {
            return Err(unknown_version(version, "alarm/v", Code::AlarmMalformed));
        }
        let proves = value.get("proves").and_then(Value::as_str).unwrap_or_default();
        let proves = Proves::ALL.into_iter().find(|known| known.as_str() == proves);
        let claim = claim(&value, proves.ok_or(malformed("proves"))?)?;
        let alarm = Self { claim };
        if alarm.to_bytes() == bytes { Ok(alarm) } else { Err(malformed("spelling")) }
    }
}

fn claim(value: &Value, proves: Proves) -> Result<Claim, Fault> {
    Ok(match proves {
        Proves::Fork => {
            let object = Object::exact(value, &["countersign", "proves", "heads"])?;
            Claim::Fork { heads: Box::new(heads(&object)?) }
        }
        Proves::Rewrite => {
            let names = ["countersign", "proves", "heads", "seed", "hashes"];
            let object = Object::exact(value, &names)?;
            let seed = from_b64_array(object.str("seed")?).ok_or(Code::Base64.at_field("seed"))?;
            let hashes = hashes(object.array("hashes")?, "hashes")?;
            Claim::Rewrite { heads: Box::new(heads(&object)?), seed, hashes }
        }
        Proves::Order | Proves::Stream => {
            let names = ["countersign", "proves", "heads", "entries"];
            let object = Object::exact(value, &names)?;
            let [head] = heads(&object)?;
            let [one, other] = object.array("entries")? else { return Err(malformed("entries")) };
            let (head, entries) = (Box::new(head), [proven_entry(one)?, proven_entry(other)?]);
            if proves == Proves::Order {
                Claim::Order { head, entries }
            } else {
                Claim::Stream { head, entries }
            }
        }
        Proves::Gap => {
            let names = ["countersign", "proves", "heads", "from", "peaks", "run", "hashes"];
            let object = Object::exact(value, &names)?;
            let [head] = heads(&object)?;
            let run = ProvenRun {
                from: LeafIndex(object.u64("from")?),
                peaks: hashes(object.array("peaks")?, "peaks")?,
                entries: run_entries(object.str("run")?)?,
                hashes: hashes(object.array("hashes")?, "hashes")?,
            };
            Claim::Gap { head: Box::new(head), run }
        }
    })
}

fn texts(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| b64(hash)).collect()
}

fn heads<const N: usize>(object: &Object<'_>) -> Result<[SignedCheckpoint; N], Fault> {
    let notes = object.array("heads")?;
    if notes.len() != N {
        return Err(malformed("heads"));
    }
    let note = |note: &Value| {
        SignedCheckpoint::parse(note.as_str().ok_or(Code::JsonShape.at_field("heads"))?)
    };
    let heads = notes.iter().map(note).collect::<Result<Vec<_>, Fault>>()?;
    heads.try_into().map_err(|_| malformed("heads"))
}

fn hashes(values: &[Value], member: &'static str) -> Result<Vec<Hash>, Fault> {
    if values.len() > PROOF_HASHES_MAX {
        return Err(Code::ProofLength.at_field(member));
    }
    let hash = |value: &Value| {
        value.as_str().and_then(from_b64_array).ok_or(Code::Base64.at_field(member))
    };
    values.iter().map(hash).collect()
}

fn proven_entry(value: &Value) -> Result<ProvenEntry, Fault> {
    let object = Object::exact(value, &["index", "bytes", "path"])?;
    Ok(ProvenEntry {
        index: LeafIndex(object.u64("index")?),
        bytes: from_b64(object.str("bytes")?).ok_or(Code::Base64.at_field("bytes"))?,
        path: hashes(object.array("path")?, "path")?,
    })
}

fn run_entries(text: &str) -> Result<Vec<[u8; ENTRY_BYTES]>, Fault> {
    let bytes = from_b64(text).ok_or(Code::Base64.at_field("run"))?;
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    let fits = rest.is_empty() && (1..=RUN_ENTRIES_MAX).contains(&entries.len());
    if fits { Ok(entries.to_vec()) } else { Err(malformed("run")) }
}
