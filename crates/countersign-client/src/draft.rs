//! What a gate says of an action, before it has a place in a stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_core::action;
use countersign_core::cert::Certificate;
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, hex};
use countersign_core::json::{self, quoted};
use countersign_core::kinds::{Kind, Shape};
use countersign_core::record::{FullRecord, View};
use countersign_proto::convert::SubmittedRecord;
use serde_json::value::RawValue;

/// What the gate fills in for every kind.
const COMMON: [&str; 8] =
    ["gate", "prev", "recorded_at", "seq", "software", "stream", "tenant", "type"];
/// What it fills in for verdicts and intents besides.
const ACTION: [&str; 2] = ["action_digest", "nonce"];

/// Why what was given is no draft.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// A member that the kind does not have, or that the gate fills in itself.
    #[error(
        "member {0} is not one that is given here: a record has the closed list of names of \
         spec/kinds.md, and the gate fills in its place in the stream, action_digest and nonce"
    )]
    UnknownMember(String),
    /// Not JSON, a member missing, or a value of the wrong shape or size.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A record without its place in a stream and without its salts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    kind: Kind,
    values: Vec<String>,
    people: Vec<Certificate>,
}

/// What a record is given by the machine: when it was made, and an action's nonce. A verdict that
/// resolves or voids another has that one's nonce, and so its action digest (LIFE-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The record's `recorded_at`.
    pub recorded_at: Micros,
    /// The `nonce` of a verdict or an intent; other kinds have none.
    pub nonce: [u8; 16],
}

/// What a record says of its place and its maker.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) gate: &'a str,
    pub(crate) software: &'a str,
    pub(crate) recorded_at: &'a str,
    pub(crate) nonce: &'a [u8; 16],
}

impl Draft {
    /// Reads one JSON object with the members of the kind that the gate does not fill in itself.
    /// Members left out are null, where the kind allows it.
    ///
    /// Every value is kept as it was written. All of the record but its place is checked here.
    pub(crate) fn parse(
        kind: Kind,
        text: &str,
        people: Vec<Certificate>,
        place: &Place<'_>,
    ) -> Result<Self, DraftError> {
        // Strict first: the second parser, which keeps texts as they are, takes duplicate keys.
        if !json::parse(text)?.is_object() {
            return Err(Fault::from(Code::JsonShape).into());
        }
        let mut members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).map_err(|_| Fault::from(Code::JsonMalformed))?;
        let mut draft = Self { kind, values: Vec::new(), people };
        for field in kind.fields() {
            let given = if draft.fills_in(field.name) { None } else { members.remove(field.name) };
            let value = match (given, field.shape) {
                (Some(raw), _) => raw.get().to_owned(),
                (None, Shape::OrNull(_) | Shape::Any) => "null".to_owned(),
                (None, _) if draft.fills_in(field.name) => "null".to_owned(),
                (None, _) => return Err(Code::MemberMissing.at_field(field.name).into()),
            };
            draft.values.push(value);
        }
        if let Some((name, _)) = members.pop_first() {
            return Err(DraftError::UnknownMember(name));
        }
        draft.fill_in(place)?;
        Ok(draft)
    }

    /// The draft of a record that has a place already, to be given another one. It keeps its
    /// values, and among them when it was recorded.
    pub fn of(submitted: &SubmittedRecord) -> Self {
        let SubmittedRecord { record, people } = submitted;
        Self { kind: record.kind(), values: record.values().to_vec(), people: people.clone() }
    }

    /// The draft of values that were kept: [`Draft::values`] of one, in the order of the kind's
    /// names. They are checked like new ones.
    pub fn kept(kind: Kind, values: Vec<String>, people: Vec<Certificate>) -> Result<Self, Fault> {
        let draft = Self { kind, values, people };
        draft.trial()?;
        Ok(draft)
    }

    /// Its values as JSON texts, in the order of the kind's names; null where only its place in a
    /// stream will tell.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Its values, parsed, as the record will have them but for its place and its predecessor.
    pub fn view(&self) -> Result<Arc<View>, Fault> {
        Ok(self.trial()?.shared_view())
    }

    fn fills_in(&self, name: &str) -> bool {
        COMMON.contains(&name) || (self.is_of_action() && ACTION.contains(&name))
    }

    fn is_of_action(&self) -> bool {
        matches!(self.kind, Kind::Verdict | Kind::Intent)
    }

    fn fill_in(&mut self, place: &Place<'_>) -> Result<(), Fault> {
        self.set("type", quoted(self.kind.as_str()));
        self.set("tenant", quoted(place.tenant));
        self.set("gate", quoted(place.gate));
        self.set("software", quoted(place.software));
        self.set("recorded_at", quoted(place.recorded_at));
        if self.is_of_action() {
            self.set("nonce", quoted(&hex(place.nonce)));
            self.set("action_digest", quoted(&hex(&[0; 32])));
        }
        let trial = self.trial()?;
        if self.is_of_action() {
            let digest = action::digest(trial.view())?.ok_or(Code::ActionDigest)?;
            self.set("action_digest", quoted(&hex(&digest)));
        }
        Ok(())
    }

    /// Placed for trial: every check of it but that of its place is the record's own.
    fn trial(&self) -> Result<FullRecord, Fault> {
        self.placed(&hex(&[0; 16]), u64::from(u32::MAX), &hex(&[0; 32]), [0; 32])
    }

    fn set(&mut self, name: &str, value: String) {
        let at = self.kind.fields().iter().position(|field| field.name == name);
        if let Some(slot) = at.and_then(|at| self.values.get_mut(at)) {
            *slot = value;
        }
    }

    /// The record at its place: stream and prev in hex, salts from `seed`.
    pub(crate) fn placed(
        &self,
        stream: &str,
        seq: u64,
        prev: &str,
        seed: [u8; 32],
    ) -> Result<FullRecord, Fault> {
        let mut draft = self.clone();
        draft.set("stream", quoted(stream));
        draft.set("seq", seq.to_string());
        draft.set("prev", quoted(prev));
        FullRecord::parse(draft.kind, seed, draft.values)
    }

    /// What kind of record it becomes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The chain of the person who signed it, leaf first; empty where nobody did.
    pub fn people(&self) -> &[Certificate] {
        &self.people
    }

    /// The JSON text of a value; `None` where the kind has no such name.
    pub fn value(&self, name: &str) -> Option<&str> {
        let at = self.kind.fields().iter().position(|field| field.name == name)?;
        self.values.get(at).map(String::as_str)
    }

    /// Bytes that it takes in a batch, about.
    pub(crate) fn bytes(&self) -> usize {
        let framing = 64 + 8 * self.values.len();
        let people: usize = self.people.iter().map(|each| each.der().len()).sum();
        self.values.iter().map(String::len).sum::<usize>() + people + framing
    }
}
