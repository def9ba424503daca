//! What one may ask of a log, and how an answer's line looks: one vocabulary for the ledger's
//! indexes, for packs and for people.
//!
//! Everything here is a pure function of a record's shown values. A [`Row`] that came over a wire is
//! the sender's word: what proves it is the evidence of the index that it names.

mod row;

use std::borrow::Cow;

use serde_json::Value;

use crate::codes::{Code, Fault};
use crate::encoding::{Micros, from_hex_array};
use crate::entry::Entry;
use crate::json;
use crate::kinds::{Kind, is_uuid_v7};
use crate::record::View;

pub use self::row::Row;

/// Filters that one query may have.
pub const FILTERS_MAX: usize = 32;
/// Bytes that the value of a filter may have.
pub const VALUE_BYTES_MAX: usize = 1_024;

/// What a record can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Field {
    /// The record's `type`.
    Kind = 1,
    /// The action's id, a UUIDv7.
    ActionId = 2,
    /// The action's verb.
    Action = 3,
    /// `actor.id`; of a grant, its terms' `grantee`.
    Actor = 4,
    /// `actor.session`; of a grant, its terms' `session`.
    Session = 5,
    /// `task.ticket`; of a grant, its terms' `ticket`.
    Ticket = 6,
    /// `task.grant`; of a grant, its `grant_id`.
    Grant = 7,
    /// `resource.id`.
    Resource = 8,
    /// `resource.environment`.
    Environment = 9,
    /// A verdict's `outcome`.
    Outcome = 10,
    /// The `code` of any of a verdict's reasons.
    Reason = 11,
    /// `policy.version`; of a policy, its `version`.
    Policy = 12,
    /// `policy.digest`; of a policy, its `digest`.
    PolicyDigest = 13,
    /// The gate's name; of the record of a stream, `subject_gate`.
    Gate = 14,
    /// The id of the person who signed: `approver.id`, `owner.id`, `requested_by.id`.
    Approver = 15,
    /// A verdict's `mode`.
    Mode = 16,
}

impl Field {
    /// Every field, by number.
    pub const ALL: [Self; 16] = [
        Self::Kind,
        Self::ActionId,
        Self::Action,
        Self::Actor,
        Self::Session,
        Self::Ticket,
        Self::Grant,
        Self::Resource,
        Self::Environment,
        Self::Outcome,
        Self::Reason,
        Self::Policy,
        Self::PolicyDigest,
        Self::Gate,
        Self::Approver,
        Self::Mode,
    ];

    /// Its one spelling: on the wire, in manifests, and as the name of a command's option.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::ActionId => "action_id",
            Self::Action => "action",
            Self::Actor => "actor",
            Self::Session => "session",
            Self::Ticket => "ticket",
            Self::Grant => "grant",
            Self::Resource => "resource",
            Self::Environment => "environment",
            Self::Outcome => "outcome",
            Self::Reason => "reason",
            Self::Policy => "policy",
            Self::PolicyDigest => "policy_digest",
            Self::Gate => "gate",
            Self::Approver => "approver",
            Self::Mode => "mode",
        }
    }

    /// The field with this spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.as_str() == text)
    }

    /// Its number in the ledger's index, from 1 to 16.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The record's field that its values come from; `None` where this kind has none, and for
    /// [`Field::Kind`], which the entry tells as well.
    pub fn source(self, kind: Kind) -> Option<&'static str> {
        let attempt = matches!(kind, Kind::Intent | Kind::Verdict);
        let verdict = kind == Kind::Verdict;
        match self {
            Self::Kind => None,
            Self::ActionId => {
                (attempt || matches!(kind, Kind::Approval | Kind::Outcome)).then_some("action_id")
            }
            Self::Action => attempt.then_some("action"),
            Self::Actor | Self::Session | Self::Ticket if kind == Kind::Grant => Some("terms"),
            Self::Actor | Self::Session => attempt.then_some("actor"),
            Self::Grant if kind == Kind::Grant => Some("grant_id"),
            Self::Ticket | Self::Grant => attempt.then_some("task"),
            Self::Resource | Self::Environment => attempt.then_some("resource"),
            Self::Outcome => verdict.then_some("outcome"),
            Self::Reason => verdict.then_some("reasons"),
            Self::Policy if kind == Kind::Policy => Some("version"),
            Self::PolicyDigest if kind == Kind::Policy => Some("digest"),
            Self::Policy | Self::PolicyDigest => verdict.then_some("policy"),
            Self::Gate if kind == Kind::Stream => Some("subject_gate"),
            Self::Gate => Some("gate"),
            Self::Approver => match kind {
                Kind::Approval => Some("approver"),
                Kind::Policy | Kind::Grant => Some("owner"),
                Kind::Erasure => Some("requested_by"),
                _ => None,
            },
            Self::Mode => verdict.then_some("mode"),
        }
    }

    /// Whether a record of this kind can still be asked for it once the record is erased: whether
    /// its values come from fields that are never withheld (REC-8).
    pub fn survives_erasure(self, kind: Kind) -> bool {
        self.source(kind).is_none_or(|name| kind.never_withheld(name))
    }

    /// The member of an object that its values come from.
    fn member(self, kind: Kind) -> Option<&'static str> {
        match self {
            Self::Actor if kind == Kind::Grant => Some("grantee"),
            Self::Actor | Self::Resource | Self::Approver => Some("id"),
            Self::Session => Some("session"),
            Self::Ticket => Some("ticket"),
            Self::Grant if kind != Kind::Grant => Some("grant"),
            Self::Environment => Some("environment"),
            Self::Policy if kind != Kind::Policy => Some("version"),
            Self::PolicyDigest if kind != Kind::Policy => Some("digest"),
            _ => None,
        }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The values that a record has for a field, as far as it shows them; empty where it has none.
/// Only a verdict's reasons can be several, and they come once each, in their order.
pub fn values_of(field: Field, view: &View) -> Vec<Cow<'_, str>> {
    let kind = view.kind();
    if field == Field::Kind {
        return vec![Cow::Borrowed(kind.as_str())];
    }
    let Some(value) = field.source(kind).and_then(|name| view.get(name)) else {
        return Vec::new();
    };
    if field == Field::Reason {
        let codes =
            value.as_array().into_iter().flatten().filter_map(|reason| text(reason, "code"));
        let mut values: Vec<Cow<'_, str>> = Vec::new();
        for code in codes {
            if !values.iter().any(|known| known == code) {
                values.push(Cow::Borrowed(code));
            }
        }
        return values;
    }
    let found = match (field.member(kind), value) {
        // A grant's terms are a JSON text inside a JSON string (KIND-9).
        (Some(member), Value::String(terms)) => {
            json::parse(terms).ok().and_then(|terms| Some(Cow::Owned(text(&terms, member)?.into())))
        }
        (Some(member), value) => text(value, member).map(Cow::Borrowed),
        (None, value) => value.as_str().map(Cow::Borrowed),
    };
    // The ledger's own records name no gate.
    found.into_iter().filter(|value| !value.is_empty()).collect()
}

fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member)?.as_str()
}

/// A field and the value that it must have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Filter {
    field: Field,
    value: String,
}

impl Filter {
    /// Asks for records with this value in this field.
    ///
    /// # Errors
    ///
    /// `QUERY_MALFORMED` with the field: an empty value, one of more than 1,024 bytes, and one that
    /// no record can have: a `kind`, `outcome` or `mode` that doesn't exist, an `action_id` that is
    /// no UUIDv7, a `policy_digest` that is not 64 digits of hex.
    pub fn new(field: Field, value: &str) -> Result<Self, Fault> {
        let possible = match field {
            Field::Kind => Kind::from_type(value).is_some(),
            Field::Outcome => ["approve", "refuse", "supervise"].contains(&value),
            Field::Mode => ["enforce", "shadow"].contains(&value),
            Field::ActionId => is_uuid_v7(value),
            Field::PolicyDigest => from_hex_array::<32>(value).is_some(),
            _ => !value.is_empty() && value.len() <= VALUE_BYTES_MAX,
        };
        if possible {
            Ok(Self { field, value: value.to_owned() })
        } else {
            Err(Code::QueryMalformed.at_field(field.as_str()))
        }
    }

    /// The field.
    pub fn field(&self) -> Field {
        self.field
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// What is asked of a record's shown values, and what they answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is one of those that are asked for.
    Yes,
    /// It is not.
    No,
    /// What would tell is withheld or erased.
    Withheld,
}

/// Which records are asked for. Several filters of one field: any of them. Different fields: all
/// of them. None: every record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    filters: Vec<Filter>,
    from: Option<Micros>,
    to: Option<Micros>,
}

impl Query {
    /// A query for records logged at `from` or later and before `to`. Filters are sorted, and one
    /// that stands twice counts once, so that one question has one form.
    ///
    /// # Errors
    ///
    /// `QUERY_MALFORMED`: more than 32 filters, or a window that nothing fits into (`from` is not
    /// before `to`).
    pub fn new(
        mut filters: Vec<Filter>,
        from: Option<Micros>,
        to: Option<Micros>,
    ) -> Result<Self, Fault> {
        if filters.len() > FILTERS_MAX {
            return Err(Code::QueryMalformed.at_field("filters"));
        }
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            return Err(Code::QueryMalformed.at_field("to"));
        }
        filters.sort_unstable();
        filters.dedup();
        Ok(Self { filters, from, to })
    }

    /// The filters, by field and then by value, each once.
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// The first time that counts.
    pub fn from(&self) -> Option<Micros> {
        self.from
    }

    /// The first time that counts no more.
    pub fn to(&self) -> Option<Micros> {
        self.to
    }

    /// The filters of each field that is asked for, field by field.
    pub fn by_field(&self) -> impl Iterator<Item = &[Filter]> {
        self.filters.chunk_by(|a, b| a.field == b.field)
    }

    /// What a record answers, as far as it is shown.
    pub fn ask(&self, entry: &Entry, view: &View) -> Answer {
        let in_window = self.from.is_none_or(|from| entry.logged_at >= from)
            && self.to.is_none_or(|to| entry.logged_at < to);
        if !in_window {
            return Answer::No;
        }
        let mut answer = Answer::Yes;
        for filters in self.by_field() {
            let Some(field) = filters.first().map(Filter::field) else { continue };
            if field.source(view.kind()).is_some_and(|name| view.is_withheld(name)) {
                answer = Answer::Withheld;
                continue;
            }
            let values = values_of(field, view);
            if !filters.iter().any(|filter| values.iter().any(|value| *value == filter.value)) {
                return Answer::No;
            }
        }
        answer
    }

    /// Whether a record is, for all that it shows, one of those that are asked for.
    pub fn matches(&self, entry: &Entry, view: &View) -> bool {
        self.ask(entry, view) == Answer::Yes
    }
}

#[cfg(test)]
mod tests;
