//! One record as a line of an answer.

use std::borrow::Cow;

use super::{Field, text, values_of};
use crate::encoding::Micros;
use crate::entry::Entry;
use crate::hash::{LeafIndex, RecordRoot};
use crate::kinds::Kind;
use crate::record::View;
use crate::stream::StreamId;

/// One record as a line of an answer shows it. What a record doesn't have, or doesn't show any more,
/// is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place in the log: what its proof is asked for by.
    pub index: LeafIndex,
    /// Its kind.
    pub kind: Kind,
    /// When the ledger logged it.
    pub logged_at: Micros,
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub seq: u64,
    /// Its record root.
    pub root: RecordRoot,
    /// Its payload was erased: what is empty here may have had a value.
    pub erased: bool,
    /// The gate; of the record of a stream, the gate that the stream is of.
    pub gate: String,
    /// When the gate recorded it, as it stands in the record.
    pub recorded_at: String,
    /// The action's id.
    pub action_id: String,
    /// The action's verb.
    pub action: String,
    /// The action's class.
    pub action_class: String,
    /// `actor.id`, or the `grantee` of a grant's terms.
    pub actor: String,
    /// `actor.kind`.
    pub actor_kind: String,
    /// `actor.on_behalf_of`.
    pub on_behalf_of: String,
    /// `actor.session`, or that of a grant's terms.
    pub session: String,
    /// `task.ticket`, or that of a grant's terms.
    pub ticket: String,
    /// `task.grant`, or a grant's own id.
    pub grant: String,
    /// `task.justification`; an approval's `justification`; an erasure's `reason`.
    pub justification: String,
    /// `resource.type`.
    pub resource_type: String,
    /// `resource.id`.
    pub resource: String,
    /// `resource.environment`.
    pub environment: String,
    /// A verdict's outcome.
    pub outcome: String,
    /// A verdict's mode.
    pub mode: String,
    /// The codes of a verdict's reasons.
    pub reasons: Vec<String>,
    /// `policy.id`, or a policy's own `policy_id`.
    pub policy_id: String,
    /// `policy.version`, or a policy's own.
    pub policy_version: String,
    /// `policy.digest`, or a policy's own.
    pub policy_digest: String,
    /// The root of the verdict that this one resolves or voids.
    pub parent: String,
    /// The root of the verdict that an approval or an outcome is about.
    pub verdict: String,
    /// The person who signed.
    pub approver: String,
    /// An approval's decision.
    pub decision: String,
    /// An outcome's result.
    pub result: String,
    /// What a notice is about; the event of a stream or a key; the entries of an erasure.
    pub about: String,
}

impl Row {
    /// The line of a record.
    pub fn of(
        entry: &Entry,
        index: LeafIndex,
        root: RecordRoot,
        view: &View,
        erased: bool,
    ) -> Self {
        let kind = view.kind();
        let first = |field: Field| {
            let found = values_of(field, view).into_iter().next();
            found.map(Cow::into_owned).unwrap_or_default()
        };
        let plain = |name: &str| view.str(name).unwrap_or_default().to_owned();
        let member = |name: &str, member: &str| {
            view.get(name).and_then(|value| text(value, member)).unwrap_or_default().to_owned()
        };
        let reasons = values_of(Field::Reason, view).into_iter().map(Cow::into_owned).collect();
        Self {
            index,
            kind,
            logged_at: entry.logged_at,
            stream: entry.stream,
            seq: entry.seq,
            root,
            erased,
            gate: first(Field::Gate),
            recorded_at: plain("recorded_at"),
            action_id: first(Field::ActionId),
            action: first(Field::Action),
            action_class: plain("action_class"),
            actor: first(Field::Actor),
            actor_kind: member("actor", "kind"),
            on_behalf_of: member("actor", "on_behalf_of"),
            session: first(Field::Session),
            ticket: first(Field::Ticket),
            grant: first(Field::Grant),
            justification: match kind {
                Kind::Approval => plain("justification"),
                Kind::Erasure => plain("reason"),
                _ => member("task", "justification"),
            },
            resource_type: member("resource", "type"),
            resource: first(Field::Resource),
            environment: first(Field::Environment),
            outcome: first(Field::Outcome),
            mode: first(Field::Mode),
            reasons,
            policy_id: match kind {
                Kind::Policy => plain("policy_id"),
                _ => member("policy", "id"),
            },
            policy_version: first(Field::Policy),
            policy_digest: first(Field::PolicyDigest),
            parent: plain("parent"),
            verdict: plain("verdict"),
            approver: first(Field::Approver),
            decision: plain("decision"),
            result: plain("result"),
            about: match kind {
                Kind::Stream | Kind::Key => plain("event"),
                Kind::Erasure => plain("entries"),
                _ => plain("about"),
            },
        }
    }
}
