//! The eleven kinds of record: their closed name lists and the shape of every value
//! (spec/kinds.md). One table says both, so that they can't drift apart.

use serde_json::Value;

use crate::codes::{Code, Fault};
use crate::encoding::{Micros, from_b64_array, from_hex_array, is_name, is_origin};
use crate::json::{Object, as_u53};
use crate::record::View;

/// What a record is about; its number stands in the log entry (ENT-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The log's first record: its origin and keys.
    Genesis = 0,
    /// A stream was opened.
    Stream = 1,
    /// A policy version became active.
    Policy = 2,
    /// Authority scoped to a task.
    Grant = 3,
    /// An attempt, before it is judged.
    Intent = 4,
    /// What the gate decided.
    Verdict = 5,
    /// A person's answer to a supervised verdict.
    Approval = 6,
    /// What became of an action.
    Outcome = 7,
    /// A key was added, rotated or revoked.
    Key = 8,
    /// Payloads were erased.
    Erasure = 9,
    /// A heartbeat, a refused equivocation, a silence.
    Notice = 10,
}

/// What a field's value must look like.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Any JSON.
    Any,
    /// Any string.
    Text,
    /// A tenant's or gate's name, or `""` in the ledger's own records.
    NameOrEmpty,
    /// A log's origin.
    Origin,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// Hex of so many bytes.
    Hex(usize),
    /// Base64 of an Ed25519 signature.
    Signature,
    /// RFC 3339 with six decimals.
    Time,
    /// A UUID of version 7, lower case.
    UuidV7,
    /// A whole number of at most 2^53 - 1.
    Whole,
    /// true or false.
    Bool,
    /// An object with exactly these members.
    Object(&'static [FieldSpec]),
    /// An array whose items have this shape.
    List(&'static Shape),
    /// This shape, or null.
    OrNull(&'static Shape),
    /// Text of ascending index ranges such as `7,9-12`.
    Ranges,
    /// The JSON text of a grant's terms.
    Terms,
}

/// One field of a kind, or one member of an object.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Its name.
    pub name: &'static str,
    /// Its value's shape.
    pub shape: Shape,
}

const fn f(name: &'static str, shape: Shape) -> FieldSpec {
    FieldSpec { name, shape }
}

use Shape::{
    Any, Bool, Hex, List, NameOrEmpty, Object as Obj, OneOf, OrNull, Origin, Ranges, Signature,
    Terms, Text, Time, UuidV7, Whole,
};

const TEXT_OR_NULL: Shape = OrNull(&Text);
const HEX32_OR_NULL: Shape = OrNull(&Hex(32));
const TIME_OR_NULL: Shape = OrNull(&Time);

const ACTOR: Shape = OrNull(&Obj(&[
    f("kind", OneOf(&["agent", "human", "service"])),
    f("id", Text),
    f("class", TEXT_OR_NULL),
    f("session", TEXT_OR_NULL),
    f("model", TEXT_OR_NULL),
    f("on_behalf_of", TEXT_OR_NULL),
]));
const RESOURCE: Shape = OrNull(&Obj(&[
    f("type", TEXT_OR_NULL),
    f("id", TEXT_OR_NULL),
    f("environment", TEXT_OR_NULL),
    f("domain", TEXT_OR_NULL),
]));
const TASK: Shape = OrNull(&Obj(&[
    f("ticket", TEXT_OR_NULL),
    f("grant", TEXT_OR_NULL),
    f("scope_digest", TEXT_OR_NULL),
    f("justification", TEXT_OR_NULL),
]));
const POLICY: Shape =
    OrNull(&Obj(&[f("id", Text), f("version", Text), f("digest", Hex(32)), f("engine", Text)]));
const REASON: Shape = Obj(&[f("code", Text), f("policy", TEXT_OR_NULL), f("text", TEXT_OR_NULL)]);
const REQUIRES: Shape =
    OrNull(&Obj(&[f("approvals", Whole), f("roles", List(&Text)), f("expires_at", TIME_OR_NULL)]));
const PERMIT: Shape =
    OrNull(&Obj(&[f("id", Text), f("audience", TEXT_OR_NULL), f("not_after", TIME_OR_NULL)]));
const PERSON: Shape = Obj(&[f("id", Text), f("certificate", Hex(32))]);
const APPROVER: Shape = Obj(&[f("id", Text), f("roles", List(&Text)), f("certificate", Hex(32))]);

const ACTION_CLASSES: Shape = OrNull(&OneOf(&[
    "read",
    "create",
    "modify",
    "delete",
    "send",
    "file",
    "approve",
    "move_money",
    "permissions",
    "execute",
]));

const GENESIS: &[FieldSpec] = &[
    f("clock_key", Hex(32)),
    f("created_at", Time),
    f("format", Whole),
    f("gate", NameOrEmpty),
    f("ledger_key", Hex(32)),
    f("log_key", Hex(32)),
    f("origin", Origin),
    f("prev", Hex(32)),
    f("recorded_at", Time),
    f("seq", Whole),
    f("software", Text),
    f("stream", Hex(16)),
    f("tenant", NameOrEmpty),
    f("type", OneOf(&["genesis"])),
];
const STREAM: &[FieldSpec] = &[
    f("certificate", Hex(32)),
    f("event", Text),
    f("gate", NameOrEmpty),
    f("gate_key", Hex(32)),
    f("prev", Hex(32)),
    f("recorded_at", Time),
    f("seq", Whole),
    f("software", Text),
    f("stream", Hex(16)),
    f("subject_gate", NameOrEmpty),
    f("subject_stream", Hex(16)),
    f("subject_tenant", NameOrEmpty),
    f("tenant", NameOrEmpty),
    f("type", OneOf(&["stream"])),
];
const POLICY_RECORD: &[FieldSpec] = &[
    f("activated_at", Time),
    f("digest", Hex(32)),
    f("engine", Text),
    f("gate", NameOrEmpty),
    f("length", Whole),
    f("owner", PERSON),
    f("policy_id", Text),
    f("prev", Hex(32)),
    f("recorded_at", Time),
    f("seq", Whole),
    f("signature", Signature),
    f("software", Text),
    f("stream", Hex(16)),
    f("tenant", NameOrEmpty),
    f("type", OneOf(&["policy"])),
    f("version", Text),
];
const GRANT: &[FieldSpec] = &[
    f("gate", NameOrEmpty),
    f("grant_id", Text),
    f("owner", PERSON),
    f("prev", Hex(32)),
    f("recorded_at", Time),
    f("seq", Whole),
    f("signature", Signature),
    f("software", Text),
    f("stream", Hex(16)),
    f("tenant", NameOrEmpty),
    f("terms", Terms),
    f("type", OneOf(&["grant"])),
];
const INTENT: &[FieldSpec] = &[
    f("action", Text),
    f("action_class", ACTION_CLASSES),
    f("action_digest", Hex(32)),
    f("action_id", UuidV7),
    f("actor", ACTOR),
    f("consent", Any),
    f("context", Any),
    f("destructive", OrNull(&Bool)),
    f("entities", Any),
    f("gate", NameOrEmpty),
    f("nonce", OrNull(&Hex(16))),
    f("parameters", Any),
    f("prev", Hex(32)),
    f("recorded_at", Time),
    f("resource", RESOURCE),
    f("seq", Whole),
    f("software", Text),
    f("stream", Hex(16)),
    f("task", TASK),
    f("tenant", NameOrEmpty),
    f("type", OneOf(&["intent"])),
    f("urgency", TEXT_OR_NULL),
];
const VERDICT: &[FieldSpec] = &[
    f("action", Text),
    f("action_class", ACTION_CLASSES),
    f("action_digest", Hex(32)),
    f("action_id", UuidV7),
    f("actor", ACTOR),
    f("approvals", OrNull(&List(&Hex(32)))),
    f("consent", Any),
    f("context", Any),
    f("destructive", OrNull(&Bool)),
    f("entities", Any),
    f("errors", OrNull(&List(&Any))),
    f("evaluated_at", TIME_OR_NULL),
    f("gate", NameOrEmpty),
    f("loss_class", TEXT_OR_NULL),
    f("mode", OneOf(&["enforce", "shadow"])),
    f("nonce", OrNull(&Hex(16))),
    f("outcome", OneOf(&["approve", "refuse", "supervise"])),
    f("parameters", Any),
    f("parent", HEX32_OR_NULL),
    f("permit", PERMIT),
    f("policy", POLICY),
    f("prev", Hex(32)),
    f("reasons", OrNull(&List(&REASON))),
    f("recorded_at", Time),
    f("requires", REQUIRES),
    f("resource", RESOURCE),
    f("seq", Whole),
    f("software", Text),
    f("stream", Hex(16)),
    f("task", TASK),
    f("tenant", NameOrEmpty),
    f("type", OneOf(&["verdict"])),
    f("urgency", TEXT_OR_NULL),
];
const APPROVAL: &[FieldSpec] = &[
    f("action_digest", Hex(32)),
    f("action_id", UuidV7),
    f("approver", APPROVER),
    f("decision", OneOf(&["grant", "deny"])),
    f("displayed_digest", Hex(32)),
    f("gate", NameOrEmpty),
    f("justification", Text),
    f("nonce", Hex(16)),
    f("not_after", Time),
    f("prev", Hex(32)),
    f("recorded_at", Time),
    f("seq", Whole),
    f("signature", Signature),
    f("software", Text),
    f("stream", Hex(16)),
    f("tenant", NameOrEmpty),
    f("type", OneOf(&["approval"])),
    f("verdict", Hex(32)),
];
const OUTCOME: &[FieldSpec] = &[
    f("action_digest", HEX32_OR_NULL),
    f("action_id", OrNull(&UuidV7)),
    f("attested_by", OneOf(&["gate", "executor", "system_of_record"])),
    f("detail", Any),
    f("effect_digest", HEX32_OR_NULL),
    f("gate", NameOrEmpty),
    f("match", OneOf(&["match", "mismatch", "indeterminate", "orphan"])),
    f("observed_at", Time),
    f("permit", TEXT_OR_NULL),
    f("prev", Hex(32)),
    f("recorded_at", Time),
    f("result", OneOf(&["executed", "failed", "not_executed", "unknown", "reverted"])),
    f("seq", Whole),
    f("software", Text),
    f("stream", Hex(16)),
    f("supersedes", HEX32_OR_NULL),
    f("tenant", NameOrEmpty),
    f("type", OneOf(&["outcome"])),
    f("verdict", HEX32_OR_NULL),
];
const KEY: &[FieldSpec] = &[
    f("event", Text),
    f("from", TIME_OR_NULL),
    f("gate", NameOrEmpty),
    f("key", Text),
    f("prev", Hex(32)),
    f("reason", TEXT_OR_NULL),
    f("recorded_at", Time),
    f("seq", Whole),
    f("software", Text),
    f("stream", Hex(16)),
    f("subject", TEXT_OR_NULL),
    f("tenant", NameOrEmpty),
    f("type", OneOf(&["key"])),
];
const ERASURE: &[FieldSpec] = &[
    f("entries", Ranges),
    f("gate", NameOrEmpty),
    f("prev", Hex(32)),
    f("reason", Text),
    f("recorded_at", Time),
    f("requested_by", PERSON),
    f("seq", Whole),
    f("signature", Signature),
    f("software", Text),
    f("stream", Hex(16)),
    f("tenant", NameOrEmpty),
    f("type", OneOf(&["erasure"])),
];
const NOTICE: &[FieldSpec] = &[
    f("about", OneOf(&["heartbeat", "mode", "break_glass", "equivocation", "silence", "restart"])),
    f("detail", Any),
    f("gate", NameOrEmpty),
    f("prev", Hex(32)),
    f("recorded_at", Time),
    f("seq", Whole),
    f("software", Text),
    f("stream", Hex(16)),
    f("tenant", NameOrEmpty),
    f("type", OneOf(&["notice"])),
];
/// The members of a grant's terms (KIND-9).
pub const TERMS: &[&str] =
    &["grantee", "allowed", "forbidden", "ticket", "session", "not_before", "expires_at", "limits"];

impl Kind {
    /// Every kind, by number.
    pub const ALL: [Self; 11] = [
        Self::Genesis,
        Self::Stream,
        Self::Policy,
        Self::Grant,
        Self::Intent,
        Self::Verdict,
        Self::Approval,
        Self::Outcome,
        Self::Key,
        Self::Erasure,
        Self::Notice,
    ];

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The kind that a record's `type` names.
    pub fn from_type(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind's number in a log entry.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// What a record's `type` says.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Genesis => "genesis",
            Self::Stream => "stream",
            Self::Policy => "policy",
            Self::Grant => "grant",
            Self::Intent => "intent",
            Self::Verdict => "verdict",
            Self::Approval => "approval",
            Self::Outcome => "outcome",
            Self::Key => "key",
            Self::Erasure => "erasure",
            Self::Notice => "notice",
        }
    }

    /// The closed list of fields, in ascending byte order of their names (KIND-1).
    pub fn fields(self) -> &'static [FieldSpec] {
        match self {
            Self::Genesis => GENESIS,
            Self::Stream => STREAM,
            Self::Policy => POLICY_RECORD,
            Self::Grant => GRANT,
            Self::Intent => INTENT,
            Self::Verdict => VERDICT,
            Self::Approval => APPROVAL,
            Self::Outcome => OUTCOME,
            Self::Key => KEY,
            Self::Erasure => ERASURE,
            Self::Notice => NOTICE,
        }
    }

    /// Whether the ledger's own stream may hold it (STR-6).
    pub fn in_ledger_stream(self) -> bool {
        matches!(self, Self::Genesis | Self::Stream | Self::Key | Self::Erasure | Self::Notice)
    }

    /// Whether a gate's stream may hold it (STR-6).
    pub fn in_gate_stream(self) -> bool {
        matches!(self.number(), 2..=7 | 10)
    }

    /// Whether a person signs it, so that exactly one chain stands in `people` (EVID-5).
    pub fn signed_by_person(self) -> bool {
        matches!(self, Self::Approval | Self::Policy | Self::Grant | Self::Erasure)
    }

    /// The names that are never withheld (REC-8).
    pub fn never_withheld(self, name: &str) -> bool {
        let common =
            ["type", "tenant", "gate", "stream", "seq", "prev", "recorded_at"].contains(&name);
        common
            || match self {
                Self::Verdict => {
                    ["action_id", "action_digest", "outcome", "mode", "parent"].contains(&name)
                }
                Self::Approval => {
                    ["action_id", "action_digest", "verdict", "decision", "not_after"]
                        .contains(&name)
                }
                Self::Outcome => {
                    ["action_id", "verdict", "permit", "result", "supersedes"].contains(&name)
                }
                _ => false,
            }
    }
}

/// Checks the shape of every value that is shown, and what one record alone can contradict.
pub fn check(view: &View) -> Result<(), Fault> {
    for (field, value) in view.shown() {
        check_shape(&field.shape, value).map_err(|fault| fault.in_field(field.name))?;
    }
    check_sense(view)
}

fn check_shape(shape: &Shape, value: &Value) -> Result<(), Fault> {
    let text = value.as_str();
    let fits = match shape {
        Any => true,
        Text => text.is_some(),
        NameOrEmpty => text.is_some_and(|t| t.is_empty() || is_name(t)),
        Origin => text.is_some_and(is_origin),
        OneOf(allowed) => text.is_some_and(|t| allowed.contains(&t)),
        Hex(16) => text.is_some_and(|t| from_hex_array::<16>(t).is_some()),
        Hex(_) => text.is_some_and(|t| from_hex_array::<32>(t).is_some()),
        Signature => text.is_some_and(|t| from_b64_array::<64>(t).is_some()),
        Time => text.is_some_and(|t| Micros::parse(t).is_some()),
        UuidV7 => text.is_some_and(is_uuid_v7),
        Whole => as_u53(value).is_some(),
        Bool => value.is_boolean(),
        Ranges => text.is_some_and(|t| parse_ranges(t).is_some()),
        OrNull(inner) => return if value.is_null() { Ok(()) } else { check_shape(inner, value) },
        List(inner) => {
            let items = value.as_array().ok_or(Code::ValueShape)?;
            return items.iter().try_for_each(|item| check_shape(inner, item));
        }
        Obj(members) => {
            let map = value.as_object().ok_or(Code::ValueShape)?;
            if map.len() != members.len() {
                return Err(Code::ValueShape.into());
            }
            return members.iter().try_for_each(|member| {
                let inner = map.get(member.name).ok_or(Code::ValueShape)?;
                check_shape(&member.shape, inner)
            });
        }
        Terms => {
            let terms = crate::json::parse(text.ok_or(Code::ValueShape)?)?;
            return Object::exact(&terms, TERMS).map(drop);
        }
    };
    if fits { Ok(()) } else { Err(Code::ValueShape.into()) }
}

/// What the values of one record must not say of each other.
fn check_sense(view: &View) -> Result<(), Fault> {
    let shown_null = |name: &str| view.get(name).map(Value::is_null);
    match view.kind() {
        Kind::Verdict => {
            let outcome = view.str("outcome");
            if shown_null("permit") == Some(false) {
                if view.str("mode") == Some("shadow") {
                    return Err(Code::PermitInShadow.at_field("permit"));
                }
                if matches!(outcome, Some(o) if o != "approve") {
                    return Err(Code::PermitMisplaced.at_field("permit"));
                }
            }
            if shown_null("requires") == Some(false)
                && matches!(outcome, Some(o) if o != "supervise")
            {
                return Err(Code::RequiresMisplaced.at_field("requires"));
            }
            let approvals = view.get("approvals").and_then(Value::as_array);
            if let Some(approvals) = approvals
                && !approvals.is_empty()
                && shown_null("parent") == Some(true)
            {
                return Err(Code::ApprovalsWithoutParent.at_field("approvals"));
            }
            if outcome == Some("supervise") && shown_null("parent") == Some(false) {
                return Err(Code::ParentOutcome.at_field("parent"));
            }
            check_reasons(view)
        }
        Kind::Outcome => {
            let orphan = view.str("match").map(|m| m == "orphan");
            match (orphan, shown_null("verdict")) {
                (Some(orphan), Some(null)) if orphan != null => {
                    Err(Code::OutcomeOrphan.at_field("verdict"))
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Reasons are sorted by policy, so that one decision has one spelling (KIND-4).
fn check_reasons(view: &View) -> Result<(), Fault> {
    let Some(reasons) = view.get("reasons").and_then(Value::as_array) else { return Ok(()) };
    let policy = |reason: &Value| {
        reason.get("policy").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    if reasons.is_sorted_by_key(policy) {
        Ok(())
    } else {
        Err(Code::ReasonsUnsorted.at_field("reasons"))
    }
}

/// A UUID of version 7 in its one lower-case spelling (RFC 9562 section 5.7).
pub fn is_uuid_v7(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            14 => *b == b'7',
            19 => matches!(b, b'8' | b'9' | b'a' | b'b'),
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// The ranges of an erasure: ascending, apart from each other, each written in one way (KIND-12).
pub fn parse_ranges(text: &str) -> Option<Vec<(u64, u64)>> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for part in text.split(',') {
        let (from, to) = match part.split_once('-') {
            Some((from, to)) => {
                let (from, to) = (index(from)?, index(to)?);
                if from >= to {
                    return None;
                }
                (from, to)
            }
            None => (index(part)?, index(part)?),
        };
        // Neighbours would be one range: 7,8 is written 7-8.
        if ranges.last().is_some_and(|&(_, last)| from <= last.saturating_add(1)) {
            return None;
        }
        ranges.push((from, to));
    }
    Some(ranges)
}

fn index(text: &str) -> Option<u64> {
    crate::encoding::from_decimal(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_ascending_byte_order_and_few_enough() {
        for kind in Kind::ALL {
            let names: Vec<&str> = kind.fields().iter().map(|field| field.name).collect();
            assert!(names.is_sorted_by(|a, b| a < b), "{kind:?}");
            assert!(names.len() <= crate::record::FIELDS_MAX);
            assert_eq!(Kind::from_number(kind.number()), Some(kind));
            assert_eq!(Kind::from_type(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::Verdict.fields().len(), 33);
    }

    #[test]
    fn ranges_have_one_spelling() {
        assert_eq!(parse_ranges("7,9-12"), Some(vec![(7, 7), (9, 12)]));
        for text in ["", "7,", "9-7", "7-7", "7,8", "9,7", "07", "7,7", "7-9,9-10", "a", "-7"] {
            assert_eq!(parse_ranges(text), None, "{text}");
        }
    }

    #[test]
    fn a_uuid_is_of_version_seven_and_lower_case() {
        assert!(is_uuid_v7("019ab000-0000-7000-8000-000000000002"));
        for text in [
            "019ab000-0000-4000-8000-000000000002",
            "019AB000-0000-7000-8000-000000000002",
            "019ab000-0000-7000-c000-000000000002",
            "019ab000000070008000000000000002",
            "",
        ] {
            assert!(!is_uuid_v7(text), "{text}");
        }
    }
}
