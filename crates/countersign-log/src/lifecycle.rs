//! Whether a record may join those that the log holds of its action (spec/kinds.md, LIFE-1 to
//! LIFE-13). A pure function of what is logged. What of this can be asked of one evidence file, the
//! verifier asks again of what the file shows (`countersign_core::verify`).

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_core::cert::Certificate;
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, from_hex_array};
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::record::{FullRecord, View};
use serde_json::Value;

/// Records that one action may have (LIFE-12). A lifecycle needs a handful; the rest bounds what looking
/// into it may cost.
pub(crate) const ACTION_RECORDS_MAX: usize = 256;

/// What the lifecycle asks of a record of an action.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) root: RecordRoot,
    pub(crate) logged_at: Micros,
    /// The key of the person who signed the record.
    pub(crate) person_key: Option<[u8; 32]>,
    pub(crate) view: Arc<View>,
}

impl Fact {
    /// What is asked of a record that carries the chain of `people`.
    pub(crate) fn new(
        root: RecordRoot,
        logged_at: Micros,
        record: &FullRecord,
        people: &[Certificate],
    ) -> Self {
        let key = people.first().map(Certificate::public_key_bytes);
        let person_key = key.and_then(|key| key.try_into().ok());
        Self { root, logged_at, person_key, view: record.shared_view() }
    }

    fn is(&self, kind: Kind) -> bool {
        self.view.kind() == kind
    }

    fn outcome(&self) -> &str {
        self.view.str("outcome").unwrap_or_default()
    }

    /// The root that a field names.
    fn root_in(&self, name: &str) -> Option<RecordRoot> {
        self.view.str(name).and_then(from_hex_array).map(RecordRoot)
    }

    fn permit(&self) -> Option<&str> {
        self.view.get("permit")?.get("id")?.as_str()
    }

    fn expires(&self) -> Option<Micros> {
        time(self.view.get("requires").and_then(|requires| requires.get("expires_at")))
    }

    fn not_after(&self) -> Option<Micros> {
        time(self.view.get("not_after"))
    }
}

fn time(value: Option<&Value>) -> Option<Micros> {
    value.and_then(Value::as_str).and_then(Micros::parse)
}

/// The UUID of the action that a record is about; `None` where it is about none.
pub(crate) fn action_of(view: &View) -> Option<[u8; 16]> {
    view.str("action_id").and_then(uuid_bytes)
}

/// The bytes of a UUID in its one spelling.
pub(crate) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    if !countersign_core::kinds::is_uuid_v7(text) {
        return None;
    }
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    from_hex_array(&digits)
}

/// Whether a record that is about no action may be logged (LIFE-13): it can't answer a verdict, use a permit
/// or correct an outcome, all of which are found by their action.
pub(crate) fn check_without_action(view: &View) -> Result<(), Fault> {
    let names = |name: &str| view.get(name).is_some_and(|value| !value.is_null());
    if view.kind() != Kind::Outcome {
        Ok(())
    } else if names("verdict") {
        Err(Code::VerdictUnknown.at_field("action_id"))
    } else if names("permit") {
        Err(Code::PermitUnknown.at_field("action_id"))
    } else if names("supersedes") {
        Err(Code::SupersedesUnknown.at_field("action_id"))
    } else {
        Ok(())
    }
}

/// Whether `new`, which is about to be logged, may follow `logged`, the records that the log holds
/// of the same tenant's action, in index order.
pub(crate) fn check(new: &Fact, logged: &[Fact]) -> Result<(), Fault> {
    if logged.len() >= ACTION_RECORDS_MAX {
        return Err(Code::ActionFull.into());
    }
    match new.view.kind() {
        Kind::Verdict => verdict(new, logged),
        Kind::Approval => approval(new, logged),
        Kind::Outcome => outcome(new, logged),
        _ => Ok(()),
    }
}

fn find(logged: &[Fact], kind: Kind, root: RecordRoot) -> Option<&Fact> {
    logged.iter().find(|fact| fact.is(kind) && fact.root == root)
}

/// LIFE-3: what must be equal in parent, approvals and child; the tenant and the action are by how
/// the facts were found.
fn same(one: &Fact, other: &Fact, names: &[&'static str]) -> Result<(), Fault> {
    let differs = |name: &&&'static str| one.view.get(name) != other.view.get(name);
    match names.iter().find(differs) {
        Some(name) => Err(Code::ParentMismatch.at_field(name)),
        None => Ok(()),
    }
}

fn verdict(new: &Fact, logged: &[Fact]) -> Result<(), Fault> {
    let Some(parent) = new.root_in("parent") else {
        // LIFE-1: one verdict with no parent for each (tenant, action_id, mode).
        let first = |fact: &Fact| {
            fact.is(Kind::Verdict)
                && fact.root_in("parent").is_none()
                && fact.view.get("mode") == new.view.get("mode")
        };
        return if logged.iter().any(first) { Err(Code::DuplicateVerdict.into()) } else { Ok(()) };
    };
    let parent = find(logged, Kind::Verdict, parent).ok_or(Code::ParentUnknown)?;
    same(parent, new, &["gate", "mode", "action_digest"])?;
    // LIFE-11: a verdict is resolved once.
    let answers =
        |fact: &Fact| fact.is(Kind::Verdict) && fact.root_in("parent") == Some(parent.root);
    if logged.iter().any(answers) {
        return Err(Code::ParentAnswered.into());
    }
    match (parent.outcome(), new.outcome()) {
        ("supervise", "approve") => release(new, parent, logged),
        ("supervise", "refuse") => Ok(()),
        ("approve", "refuse") => void(new, parent, logged),
        _ => Err(Code::ParentOutcome.into()),
    }
}

/// LIFE-4 to LIFE-7: an approve of a supervised action rests on its approvals.
fn release(new: &Fact, parent: &Fact, logged: &[Fact]) -> Result<(), Fault> {
    let denied = |fact: &Fact| {
        fact.is(Kind::Approval)
            && fact.root_in("verdict") == Some(parent.root)
            && fact.view.str("decision") == Some("deny")
    };
    if logged.iter().any(denied) {
        return Err(Code::ActionDenied.into());
    }
    if parent.expires().is_some_and(|limit| new.logged_at > limit) {
        return Err(Code::ApprovalExpired.into());
    }
    let listed = new.view.get("approvals").and_then(Value::as_array);
    let (mut people, mut keys, mut roles) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for root in listed.into_iter().flatten() {
        let root = root.as_str().and_then(from_hex_array).map(RecordRoot);
        let approval = root.and_then(|root| find(logged, Kind::Approval, root));
        let approval = approval.ok_or(Code::ApprovalUnknown)?;
        if approval.root_in("verdict") != Some(parent.root) {
            return Err(Code::ApprovalOtherVerdict.into());
        }
        // A listed deny was found above; LIFE-6 for the approval itself was checked when it came.
        if approval.not_after().is_none_or(|limit| new.logged_at > limit) {
            return Err(Code::ApprovalExpired.into());
        }
        let approver = approval.view.get("approver");
        let id = approver.and_then(|a| a.get("id")).and_then(Value::as_str);
        if !people.insert(id) || !keys.insert(approval.person_key) {
            return Err(Code::ApprovalSamePerson.into());
        }
        let named = approver.and_then(|a| a.get("roles")).and_then(Value::as_array);
        roles.extend(named.into_iter().flatten().filter_map(Value::as_str));
    }
    let requires = parent.view.get("requires");
    let needed = requires.and_then(|r| r.get("approvals")).and_then(Value::as_u64);
    // A supervise that doesn't say what it requires is released by nobody: no verifier could say
    // that it was enough.
    if (people.len() as u64) < needed.unwrap_or(u64::MAX) {
        return Err(Code::ApprovalsTooFew.into());
    }
    let wanted = requires.and_then(|r| r.get("roles")).and_then(Value::as_array);
    let wanted = wanted.into_iter().flatten().filter_map(Value::as_str).collect::<BTreeSet<_>>();
    if wanted.is_subset(&roles) { Ok(()) } else { Err(Code::ApprovalRoles.into()) }
}

/// LIFE-8: an approve is voided while its permit is neither used nor expired.
fn void(new: &Fact, parent: &Fact, logged: &[Fact]) -> Result<(), Fault> {
    let permit = parent.view.get("permit").filter(|permit| !permit.is_null());
    let expires = time(permit.and_then(|permit| permit.get("not_after")));
    let used = |fact: &Fact| {
        fact.is(Kind::Outcome)
            && parent.permit().is_some()
            && fact.view.str("permit") == parent.permit()
    };
    if expires.is_some_and(|limit| new.logged_at > limit) || logged.iter().any(used) {
        return Err(Code::VoidTooLate.into());
    }
    Ok(())
}

/// LIFE-6 and LIFE-10: an approval answers a supervise that is in the log, in time.
fn approval(new: &Fact, logged: &[Fact]) -> Result<(), Fault> {
    let verdict = new.root_in("verdict").and_then(|root| find(logged, Kind::Verdict, root));
    let verdict = verdict.ok_or(Code::VerdictUnknown)?;
    if verdict.outcome() != "supervise" {
        return Err(Code::ApprovalOtherVerdict.into());
    }
    same(verdict, new, &["gate", "action_digest"])?;
    let limits = [new.not_after(), verdict.expires()];
    if limits.into_iter().flatten().any(|limit| new.logged_at > limit) {
        return Err(Code::ApprovalExpired.into());
    }
    Ok(())
}

/// LIFE-9 and LIFE-13: one outcome a permit, unless it supersedes the newest.
fn outcome(new: &Fact, logged: &[Fact]) -> Result<(), Fault> {
    let outcomes = || logged.iter().filter(|fact| fact.is(Kind::Outcome));
    let corrects = new.root_in("supersedes");
    if let Some(root) = corrects {
        let taken = outcomes().any(|fact| fact.root_in("supersedes") == Some(root));
        let earlier = find(logged, Kind::Outcome, root).filter(|_| !taken);
        let earlier = earlier.ok_or(Code::SupersedesUnknown)?;
        if ["verdict", "permit"].iter().any(|n| earlier.view.get(n) != new.view.get(n)) {
            return Err(Code::SupersedesUnknown.into());
        }
    }
    let permit = new.view.str("permit");
    let Some(verdict) = new.root_in("verdict") else {
        // An orphan: an effect that no verdict covers, and so no permit either.
        return if permit.is_none() { Ok(()) } else { Err(Code::PermitUnknown.into()) };
    };
    let verdict = find(logged, Kind::Verdict, verdict).ok_or(Code::VerdictUnknown)?;
    // An outcome of a verdict that released a permit names it: else there were two for one.
    if permit != verdict.permit() {
        return Err(Code::PermitUnknown.into());
    }
    if new.view.get("action_digest").is_some_and(|digest| !digest.is_null()) {
        same(verdict, new, &["action_digest"])?;
    }
    let same_permit = |fact: &Fact| {
        fact.root_in("verdict") == Some(verdict.root) && fact.view.str("permit") == permit
    };
    if corrects.is_none() && outcomes().any(same_permit) {
        return Err(Code::PermitUsed.into());
    }
    Ok(())
}
