//! What the rules of the lifecycle ask of a record, and no more: a pack keeps one of these for each
//! record that it is asked about.

use serde_json::Value;

use crate::encoding::{Micros, from_hex_array};
use crate::hash::RecordRoot;
use crate::kinds::Kind;
use crate::record::View;

/// A value that is shown, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said<T> {
    Is(T),
    Withheld,
}

impl<T> Said<T> {
    pub(super) fn shown(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Withheld => None,
        }
    }
}

/// What the lifecycle asks of a record of an action.
#[derive(Clone, Debug)]
pub struct Fact {
    pub(super) root: RecordRoot,
    pub(super) logged_at: Micros,
    pub(super) gate: Said<Box<str>>,
    pub(super) action_digest: Said<Option<[u8; 32]>>,
    /// The key of the person who signed the record.
    pub(super) person_key: Said<[u8; 32]>,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Verdict(Box<VerdictFact>),
    Approval(Box<ApprovalFact>),
    Outcome(Box<OutcomeFact>),
    /// A record that binds nobody.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Approve,
    Refuse,
    Supervise,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Grant,
    Deny,
}

#[derive(Clone, Debug)]
pub(super) struct VerdictFact {
    pub(super) outcome: Said<Outcome>,
    /// Whether it is in shadow mode.
    pub(super) mode: Said<bool>,
    pub(super) parent: Said<Option<RecordRoot>>,
    pub(super) approvals: Said<Vec<RecordRoot>>,
    pub(super) requires: Said<Option<Requires>>,
    pub(super) permit: Said<Option<Permit>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requires {
    pub(super) approvals: u64,
    pub(super) roles: Vec<String>,
    pub(super) expires_at: Option<Micros>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permit {
    pub(super) id: String,
    pub(super) not_after: Option<Micros>,
}

#[derive(Clone, Debug)]
pub(super) struct ApprovalFact {
    pub(super) verdict: Said<RecordRoot>,
    pub(super) decision: Said<Decision>,
    pub(super) not_after: Said<Micros>,
    pub(super) approver: Said<Approver>,
}

#[derive(Clone, Debug)]
pub(super) struct Approver {
    pub(super) id: String,
    pub(super) roles: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct OutcomeFact {
    pub(super) verdict: Said<Option<RecordRoot>>,
    pub(super) permit: Said<Option<String>>,
    pub(super) supersedes: Said<Option<RecordRoot>>,
}

impl Fact {
    /// What is asked of a record with these values. `person_key` is the key of whoever signed it,
    /// where that is known.
    pub fn of(
        root: RecordRoot,
        logged_at: Micros,
        view: &View,
        person_key: Option<[u8; 32]>,
    ) -> Self {
        let what = match view.kind() {
            Kind::Verdict => What::Verdict(Box::new(VerdictFact::of(view))),
            Kind::Approval => What::Approval(Box::new(ApprovalFact::of(view))),
            Kind::Outcome => What::Outcome(Box::new(OutcomeFact {
                verdict: said(view, "verdict", root_in),
                permit: said(view, "permit", text),
                supersedes: said(view, "supersedes", root_in),
            })),
            _ => What::Other,
        };
        Self {
            root,
            logged_at,
            gate: said(view, "gate", |value| value.as_str().unwrap_or_default().into()),
            action_digest: said(view, "action_digest", hex32),
            person_key: person_key.map_or(Said::Withheld, Said::Is),
            what,
        }
    }

    /// The record's root.
    pub fn root(&self) -> RecordRoot {
        self.root
    }

    /// Whether the record is one that a lifecycle asks about.
    pub fn binds(&self) -> bool {
        !matches!(self.what, What::Other)
    }

    pub(super) fn verdict(&self) -> Option<&VerdictFact> {
        match &self.what {
            What::Verdict(said) => Some(said),
            _ => None,
        }
    }
}

impl VerdictFact {
    fn of(view: &View) -> Self {
        let roots = |value: &Value| {
            value.as_array().into_iter().flatten().filter_map(root_in).collect::<Vec<_>>()
        };
        Self {
            outcome: said(view, "outcome", |value| match value.as_str() {
                Some("approve") => Outcome::Approve,
                Some("supervise") => Outcome::Supervise,
                // The shape of the value was checked: there is no fourth.
                _ => Outcome::Refuse,
            }),
            mode: said(view, "mode", |value| value.as_str() == Some("shadow")),
            parent: said(view, "parent", root_in),
            approvals: said(view, "approvals", roots),
            requires: said(view, "requires", |value| {
                Some(Requires {
                    approvals: value.get("approvals")?.as_u64()?,
                    roles: texts(value.get("roles")),
                    expires_at: time(value.get("expires_at")),
                })
            }),
            permit: said(view, "permit", |value| {
                Some(Permit {
                    id: text(value.get("id")?)?,
                    not_after: time(value.get("not_after")),
                })
            }),
        }
    }
}

impl ApprovalFact {
    fn of(view: &View) -> Self {
        let grant = |value: &Value| match value.as_str() {
            Some("grant") => Decision::Grant,
            _ => Decision::Deny,
        };
        Self {
            verdict: said(view, "verdict", |value| root_in(value).unwrap_or(RecordRoot([0; 32]))),
            decision: said(view, "decision", grant),
            not_after: said(view, "not_after", |value| time(Some(value)).unwrap_or_default()),
            approver: said(view, "approver", |value| Approver {
                id: value.get("id").and_then(text).unwrap_or_default(),
                roles: texts(value.get("roles")),
            }),
        }
    }
}

fn said<T>(view: &View, name: &str, read: impl FnOnce(&Value) -> T) -> Said<T> {
    view.get(name).map_or(Said::Withheld, |value| Said::Is(read(value)))
}

fn hex32(value: &Value) -> Option<[u8; 32]> {
    value.as_str().and_then(from_hex_array)
}

fn root_in(value: &Value) -> Option<RecordRoot> {
    hex32(value).map(RecordRoot)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(text).collect()
}

fn time(value: Option<&Value>) -> Option<Micros> {
    value.and_then(Value::as_str).and_then(Micros::parse)
}
