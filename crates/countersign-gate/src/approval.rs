//! What people are shown, and when their answer counts (APR-1, APR-2, APR-5).

use std::collections::BTreeMap;

use cedar_policy::Context as CedarContext;
use countersign_core::action::canonical;
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, b64, from_b64_array, from_hex_array, hex};
use countersign_core::hash::{Context, Hash, RecordRoot};
use countersign_core::json::{self, Object, quoted};
use countersign_core::kinds::{Kind, is_uuid_v7};
use countersign_core::record::View;
use serde_json::{Value, json};

use crate::datum::{Datum, Node, Uid};
use crate::decide::{Facts, Outcome, governed, principal_type};
use crate::directory::Directory;
use crate::evaluate::{Question, evaluate, request, with_actions};
use crate::index::Circumstances;
use crate::intent::{Actor, ActorKind, Class, Intent};
use crate::policy::Policy;
use crate::reason::{GateCode, Reason};
use crate::schema::APPROVE_INTENT;
use crate::world::{World, missing, own};

/// Bytes of an approval's JSON text.
const BYTES_MAX: usize = 16 * 1024;
/// Bytes of a justification.
const JUSTIFICATION_MAX: usize = 4096;

/// What a person answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Grant,
    /// No.
    Deny,
}

impl Answer {
    /// As records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Deny => "deny",
        }
    }
}

/// The members of an approval record that its person made and signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The action.
    pub action_id: String,
    /// Its digest.
    pub action_digest: Hash,
    /// The supervise verdict.
    pub verdict: RecordRoot,
    /// Yes or no.
    pub decision: Answer,
    /// Of the text that the person was shown.
    pub displayed_digest: Hash,
    /// Why.
    pub justification: String,
    /// The person's, new for each approval.
    pub nonce: [u8; 16],
    /// Until when it counts.
    pub not_after: Micros,
    /// The person's signature (KIND-15).
    pub signature: [u8; 64],
    /// Who says it is them.
    pub person: String,
    /// SHA-256 of their certificate.
    pub certificate: Hash,
}

const MEMBERS: [&str; 10] = [
    "action_id",
    "action_digest",
    "verdict",
    "decision",
    "displayed_digest",
    "justification",
    "nonce",
    "not_after",
    "signature",
    "approver",
];

impl Approval {
    /// Reads the JSON text that `ApproveRequest.approval` carries: exactly the members that a person
    /// makes, `approver` being {id, certificate}.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > BYTES_MAX {
            return Err(Code::FieldOversized.into());
        }
        let value = json::parse(text)?;
        let members = Object::exact(&value, &MEMBERS)?;
        let shape = |name| Code::ValueShape.at_field(name);
        let hash = |name| from_hex_array::<32>(members.str(name)?).ok_or(shape(name));
        let approver = Object::exact(members.get("approver"), &["id", "certificate"])
            .map_err(|fault| fault.in_field("approver"))?;
        let action_id = members.str("action_id")?;
        let justification = members.str("justification")?;
        if !is_uuid_v7(action_id) {
            return Err(shape("action_id"));
        }
        if quoted(justification).len() > JUSTIFICATION_MAX {
            return Err(Code::FieldOversized.at_field("justification"));
        }
        Ok(Self {
            action_id: action_id.to_owned(),
            action_digest: hash("action_digest")?,
            verdict: RecordRoot(hash("verdict")?),
            decision: match members.str("decision")? {
                "grant" => Answer::Grant,
                "deny" => Answer::Deny,
                _ => return Err(shape("decision")),
            },
            displayed_digest: hash("displayed_digest")?,
            justification: justification.to_owned(),
            nonce: from_hex_array(members.str("nonce")?).ok_or(shape("nonce"))?,
            not_after: Micros::parse(members.str("not_after")?).ok_or(shape("not_after"))?,
            signature: from_b64_array(members.str("signature")?).ok_or(shape("signature"))?,
            person: approver.str("id")?.to_owned(),
            certificate: from_hex_array(approver.str("certificate")?).ok_or(shape("approver"))?,
        })
    }

    /// The members of the approval record that the gate does not fill in itself, with the roles that
    /// the directory gives the person: those are the gate's word (KIND-18).
    pub fn record_json<'r>(&self, roles: impl IntoIterator<Item = &'r String>) -> String {
        let roles: Vec<&String> = roles.into_iter().collect();
        json!({
            "action_id": self.action_id,
            "action_digest": hex(&self.action_digest),
            "verdict": self.verdict.hex(),
            "decision": self.decision.as_str(),
            "displayed_digest": hex(&self.displayed_digest),
            "justification": self.justification,
            "nonce": hex(&self.nonce),
            "not_after": self.not_after.format(),
            "signature": b64(&self.signature),
            "approver": { "id": self.person, "roles": roles, "certificate": hex(&self.certificate) },
        })
        .to_string()
    }
}

/// Who gave an answer that counts: a person, their key, and the nonce of what they signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The person's id, by their certificate.
    pub person: String,
    /// Their public key.
    pub key: [u8; 32],
    /// The nonce.
    pub nonce: [u8; 16],
}

/// The supervised action that an approval must be for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The supervise verdict, all of it shown.
    pub supervise: &'a View,
    /// Its root.
    pub root: RecordRoot,
    /// Answers to it that count already.
    pub earlier: &'a [Counted],
}

/// The text that a person is shown of a full supervise verdict (APR-5). It is printable ASCII and
/// line feeds, so that a terminal can show it as it is.
pub fn display(supervise: &View, root: RecordRoot) -> String {
    let value = |name: &str| supervise.get(name).unwrap_or(&Value::Null);
    let of = |name: &str, member: &str| value(name).get(member).unwrap_or(&Value::Null).clone();
    let parts = |name: &str, members: &[&str]| {
        let parts: Vec<String> = members.iter().map(|member| part(&of(name, member))).collect();
        if value(name).is_null() { "-".to_owned() } else { parts.join(" ") }
    };
    let parameters = match value("parameters") {
        Value::Null => "-".to_owned(),
        // The record was made of canonical parameters, or it has no action digest.
        other => ascii(&canonical(other).unwrap_or_default()),
    };
    let held: Vec<String> =
        value("reasons").as_array().into_iter().flatten().map(held_by).collect();
    let roles = of("requires", "roles");
    let roles: Vec<String> = roles.as_array().into_iter().flatten().map(part).collect();
    let requires = format!("{} {}", whole(&of("requires", "approvals")), or_dash(&roles.join(",")));
    let rows = [
        ("action", line(value("action"))),
        ("class", line(value("action_class"))),
        ("destructive", line(value("destructive"))),
        ("resource", parts("resource", &["type", "id", "environment", "domain"])),
        ("parameters", parameters),
        ("actor", parts("actor", &["kind", "id"])),
        ("session", line(&of("actor", "session"))),
        ("on behalf of", line(&of("actor", "on_behalf_of"))),
        ("ticket", line(&of("task", "ticket"))),
        ("justification", line(&of("task", "justification"))),
        ("urgency", line(value("urgency"))),
        ("consequences", line(value("loss_class"))),
        ("policy", parts("policy", &["id", "version", "digest"])),
        ("held by", or_dash(&held.join("; "))),
        ("requires", requires),
        ("expires", line(&of("requires", "expires_at"))),
        ("action id", line(value("action_id"))),
        ("action digest", line(value("action_digest"))),
        ("verdict", root.hex()),
    ];
    let mut out = "Countersign approval request 1\n".to_owned();
    for (name, value) in rows {
        out.push_str(name);
        out.push_str(": ");
        out.push_str(&value);
        out.push('\n');
    }
    out
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn whole(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string())
}

fn held_by(reason: &Value) -> String {
    let of = |name: &str| part(reason.get(name).unwrap_or(&Value::Null));
    format!("{} {}", of("code"), of("policy"))
}

/// A value that has its line to itself.
fn line(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => {
            let quoted = quoted(text);
            ascii(quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"')).unwrap_or_default())
        }
        other => ascii(&other.to_string()),
    }
}

/// A value that shares its line: what parts it from its neighbours can't stand in it.
fn part(value: &Value) -> String {
    let mut out = String::new();
    for c in line(value).chars() {
        match c {
            ' ' => out.push_str("\\u0020"),
            ',' => out.push_str("\\u002c"),
            ';' => out.push_str("\\u003b"),
            other => out.push(other),
        }
    }
    or_dash(&out)
}

/// Everything outside printable ASCII as `\uXXXX`, by UTF-16 units as JSON has it.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ' '..='~') {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str("\\u");
                out.push_str(&hex(&unit.to_be_bytes()));
            }
        }
    }
    out
}

/// Whether an answer counts (APR-2), once its signature and chain are verified and say that it is
/// `person`'s with `key`. A deny needs the same as a grant.
pub fn check_approval(
    policy: &Policy,
    intent: &Intent,
    asked: &Asked<'_>,
    approval: &Approval,
    person: &str,
    key: &[u8; 32],
    facts: &Facts<'_>,
) -> Result<(), GateCode> {
    let view = asked.supervise;
    let waits = view.kind() == Kind::Verdict
        && view.str("outcome") == Some(Outcome::Supervise.as_str())
        && view.str("mode") == Some("enforce");
    let requires = view.get("requires").filter(|_| waits).ok_or(GateCode::NotSupervised)?;
    let same = approval.verdict == asked.root
        && view.str("action_id") == Some(approval.action_id.as_str())
        && view.str("action_digest") == Some(hex(&approval.action_digest).as_str());
    if !same {
        return Err(GateCode::ApprovalOtherVerdict);
    }
    // An expiry that can't be read has passed.
    let expires_at = requires.get("expires_at").and_then(Value::as_str).and_then(Micros::parse);
    if expires_at.is_none_or(|expires_at| facts.now > expires_at) {
        return Err(GateCode::SupervisionExpired);
    }
    if facts.now > approval.not_after {
        return Err(GateCode::ApprovalExpired);
    }
    // APR-1: what was signed is what this gate would have shown.
    let shown = Context::Displayed.hash(&[display(view, asked.root).as_bytes()]);
    if approval.displayed_digest != shown {
        return Err(GateCode::ApprovalDisplay);
    }
    if asked.earlier.iter().any(|earlier| earlier.nonce == approval.nonce) {
        return Err(GateCode::ApprovalReplayed);
    }
    if asked.earlier.iter().any(|earlier| earlier.person == person || earlier.key == *key) {
        return Err(GateCode::ApprovalSamePerson);
    }
    let eligible = approval.person == person
        && may_decide(policy, intent, &approval.action_id, person, facts).is_ok_and(|may| may);
    if eligible { Ok(()) } else { Err(GateCode::ApprovalNotEligible) }
}

/// Asks the policy whether the person may decide: `approve_intent` on the action's `Gate::Intent`.
fn may_decide(
    policy: &Policy,
    intent: &Intent,
    action_id: &str,
    person: &str,
    facts: &Facts<'_>,
) -> Result<bool, Reason> {
    let unfit = || Reason::gate(GateCode::InputInvalid);
    let action = policy.schema.actions.get(APPROVE_INTENT).ok_or_else(unfit)?;
    let (place, base) = policy.index.base(APPROVE_INTENT, "Human", "Intent").ok_or_else(unfit)?;
    let (person, subject) = (Uid::new("Human", person), Uid::new("Intent", action_id));
    let (node, given) = subject_of(policy, intent, facts.directory)?;
    let mut world = World::new(&policy.schema, facts.directory);
    let mut people = Vec::new();
    node.attributes.values().for_each(|value| value.entities(&mut people));
    world.add(subject.clone(), node)?;
    for uid in people.into_iter().chain([person.clone()]) {
        world.load(uid)?;
    }
    world.require(base)?;
    let uid = |uid: &Uid| uid.to_cedar(&policy.schema.types).ok_or_else(unfit);
    let names = (uid(&person)?, action, uid(&subject)?);
    let request = request(policy, names, CedarContext::empty())?;
    let entities = with_actions(policy, action, base, world.entities()?)?;
    let question = Question { place, request, entities: &entities, given };
    Ok(evaluate(policy, question).outcome == Outcome::Approve)
}

/// The action as a `Gate::Intent`: what policies know of it when they judge who may decide it.
fn subject_of(
    policy: &Policy,
    intent: &Intent,
    directory: &Directory,
) -> Result<(Node, Circumstances), Reason> {
    let unfit = || Reason::gate(GateCode::InputInvalid);
    let (action, class) = governed(policy, intent.verb(), intent.class())?;
    let (actor, named) = intent.actor().zip(intent.resource()).ok_or_else(unfit)?;
    let thing = directory.resource(&named.type_name, &named.id);
    let thing = thing.ok_or_else(|| missing(&Uid::new(&named.type_name, &named.id)))?;
    let destructive =
        intent.destructive().unwrap_or(class != Class::Read) || action.reading.destructive;
    let mut attributes: BTreeMap<String, Datum> = own([
        ("verb", Datum::text(intent.verb())),
        ("class", Datum::text(class.as_str())),
        ("destructive", Datum::Bool(destructive)),
        ("requester", Datum::text(&actor.id)),
        ("requester_owner", Datum::entity("Human", owner(actor, directory)?)),
        ("resource_owner", Datum::entity("Human", &thing.owner)),
        ("env", Datum::entity("Env", &thing.environment)),
        ("domain", Datum::entity("Domain", &thing.domain)),
    ]);
    if let Some(person) = &actor.on_behalf_of {
        attributes.insert("on_behalf_of".to_owned(), Datum::entity("Human", person));
    }
    let given =
        Circumstances { verb: None, env: thing.environment.clone(), domain: thing.domain.clone() };
    Ok((Node { attributes, ..Node::default() }, given))
}

/// Who answers for the actor: its owner, and a person for themselves.
fn owner<'a>(actor: &'a Actor, directory: &'a Directory) -> Result<&'a str, Reason> {
    let machine = match actor.kind {
        ActorKind::Human => return Ok(&actor.id),
        ActorKind::Agent => directory.agent(&actor.id),
        ActorKind::Service => directory.service(&actor.id),
    };
    let owner = machine.map(|machine| machine.owner.as_str());
    owner.ok_or_else(|| missing(&Uid::new(principal_type(actor.kind), &actor.id)))
}
