//! Step 11, a record among others: parents, approvals and the release of a supervised action
//! (spec/kinds.md, LIFE-2 to LIFE-7).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Report, Run, Step, Verdict};
use crate::codes::{Code, Culprit, Fault};
use crate::encoding::{Micros, from_hex_array};
use crate::evidence::Evidence;
use crate::hash::RecordRoot;
use crate::kinds::Kind;
use crate::record::View;

/// A supporting report whose record could be read.
struct Support<'r> {
    report: &'r Report,
    view: &'r View,
    root: RecordRoot,
    logged_at: Micros,
}

impl<'r> Support<'r> {
    fn of(report: &'r Report) -> Option<Self> {
        let view = report.facts.view.as_ref()?;
        let logged_at = report.facts.entry?.logged_at;
        Some(Self { report, view, root: report.facts.root?, logged_at })
    }
}

/// Verifies everything in `supporting` and what the record asks of it.
pub(super) fn supporting(run: &mut Run<'_, '_>, evidence: &Evidence, top: bool) -> Step {
    for inner in &evidence.supporting {
        let mut other = Run::new(run.trust, run.memo);
        let outcome = other.steps(inner, false);
        let report = other.finish(outcome);
        let decisive = report.decisive();
        let (result, index) = (report.result, report.facts.index);
        run.supporting.push(report);
        if let Some(finding) = decisive {
            match result {
                // The supporting record's own fault is named, so that nothing masks it.
                Verdict::Invalid => return Err(finding.fault.into()),
                _ => doubt_once(run, of_record(finding.fault, index)),
            }
        }
    }
    let roots: Vec<RecordRoot> = run.supporting.iter().filter_map(|r| r.facts.root).collect();
    let distinct: BTreeSet<&RecordRoot> = roots.iter().chain(run.facts.root.iter()).collect();
    if distinct.len() != roots.len() + 1 {
        return Err(Code::SupportingDuplicate.into());
    }
    let view = run.view()?;
    let parent = view.str("parent").and_then(from_hex_array).map(RecordRoot);
    let (Kind::Verdict, Some(parent), true) = (view.kind(), parent, top) else {
        return Ok(related(view, &run.supporting)?);
    };
    let doubts = {
        let supports: Vec<Support<'_>> = run.supporting.iter().filter_map(Support::of).collect();
        let child = Support {
            report: &Report {
                result: Verdict::Valid,
                fault: None,
                doubts: Vec::new(),
                steps: Vec::new(),
                not_checked: Vec::new(),
                facts: run.facts.clone(),
                supporting: Vec::new(),
            },
            view,
            root: run.root()?,
            logged_at: run.read_entry()?.logged_at,
        };
        let doubts = released(&child, parent, &supports)?;
        related(view, &run.supporting)?;
        doubts
    };
    for fault in doubts {
        doubt_once(run, fault);
    }
    Ok(())
}

/// Doubts a fault that is not among the doubts yet. What the trust file lacks, it lacks for every
/// record, and is said once.
fn doubt_once(run: &mut Run<'_, '_>, fault: Fault) {
    let of_trust = matches!(fault.code, Code::NoTrust | Code::PeopleAbsent);
    let said = |other: &Fault| if of_trust { other.code == fault.code } else { *other == fault };
    if !run.doubts.iter().any(|finding| said(&finding.fault)) {
        run.doubt(11, fault);
    }
}

/// A supporting record's fault, with the index of that record where it names nothing else.
fn of_record(fault: Fault, index: u64) -> Fault {
    match fault.culprit {
        Culprit::Whole => fault.code.at_index(index),
        _ => fault,
    }
}

/// Why nobody knows whether the person signed: what the approval's own report says of it.
fn person_doubt(approval: &Report) -> Fault {
    let causes = [Code::PersonUnchecked, Code::PeopleAbsent, Code::NoTrust];
    let mut doubts = approval.doubts.iter().map(|finding| finding.fault);
    let cause = doubts.find(|fault| causes.contains(&fault.code));
    of_record(cause.unwrap_or(Code::PersonUnchecked.into()), approval.facts.index)
}

/// EVID-6: each of them is a record that this one rests on, and of its tenant.
fn related(view: &View, supporting: &[Report]) -> Result<(), Fault> {
    for other in supporting {
        let facts = &other.facts;
        // What can't be read, or names nothing that it should, has its doubt already.
        let (Some(root), Some(inner)) = (facts.root, &facts.view) else { continue };
        if !rests_on(view, &root.hex(), inner) {
            return Err(Code::SupportingUnrelated.at_index(facts.index));
        }
        if let (Some(one), Some(other)) = (view.str("tenant"), inner.str("tenant"))
            && one != other
        {
            return Err(Code::ParentMismatch.at_field("tenant"));
        }
    }
    Ok(())
}

/// Whether a record names another one's root, or that one is an approval or denial of its parent.
fn rests_on(view: &View, root: &str, other: &View) -> bool {
    let names: &[&str] = match view.kind() {
        Kind::Verdict => &["parent", "approvals"],
        Kind::Approval => &["verdict"],
        Kind::Outcome => &["verdict", "supersedes"],
        _ => &[],
    };
    let says = |name: &&str| match view.get(name) {
        // Withheld approvals are known by the parent that they answer; the rest is never withheld.
        None => *name != "approvals",
        Some(Value::Array(roots)) => roots.iter().any(|said| said.as_str() == Some(root)),
        Some(said) => said.as_str() == Some(root),
    };
    let answers = view.kind() == Kind::Verdict
        && other.kind() == Kind::Approval
        && view.str("parent").is_some_and(|parent| other.str("verdict") == Some(parent));
    answers || names.iter().any(says)
}

/// Checks a verdict against its parent, and an approve against its approvals. Returns the doubts:
/// what is absent or withheld stops nothing, and all that is there is judged.
fn released(
    child: &Support<'_>,
    parent_root: RecordRoot,
    supports: &[Support<'_>],
) -> Result<Vec<Fault>, Fault> {
    let mut doubts = Vec::new();
    let parent = supports.iter().find(|support| support.root == parent_root);
    match parent {
        Some(parent) => answers(child, parent, &mut doubts)?,
        None => doubts.push(Code::SupportingAbsent.at_field("parent")),
    }
    // An approve with a parent can only be that of a supervise, whether it is shown or not.
    if child.view.str("outcome") != Some("approve") {
        return Ok(doubts);
    }
    // No approve after a logged deny, whether the verdict lists it or not.
    let denied = supports.iter().any(|s| {
        s.view.kind() == Kind::Approval
            && s.view.str("decision") == Some("deny")
            && s.view.str("verdict") == Some(parent_root.hex().as_str())
            && s.report.facts.index < child.report.facts.index
    });
    if denied {
        return Err(Code::ApprovalDenied.into());
    }
    let listed = child.view.get("approvals");
    if listed.is_none() {
        doubts.push(Code::ApprovalsWithheld.at_field("approvals"));
    }
    let listed = listed.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut approvals = Vec::new();
    for root in listed {
        let root = root.as_str().and_then(from_hex_array).map(RecordRoot);
        match supports.iter().find(|support| Some(support.root) == root) {
            Some(approval) => approvals.push(approval),
            None => doubts.push(Code::SupportingAbsent.at_field("approvals")),
        }
    }
    let requires = parent.and_then(|parent| parent.view.get("requires"));
    let requires = requires.filter(|value| !value.is_null());
    if parent.is_some() && requires.is_none() {
        doubts.push(Code::ApprovalsWithheld.at_field("requires"));
    }
    let released = Release { child, parent, parent_root, requires };
    released.approvals(&approvals, &mut doubts)?;
    if let Some(requires) = requires
        && !child.view.is_withheld("approvals")
    {
        enough(requires, listed.len(), &approvals, &mut doubts)?;
    }
    Ok(doubts)
}

/// A verdict against the parent that it resolves or voids (LIFE-2 to LIFE-4, LIFE-8).
fn answers(
    child: &Support<'_>,
    parent: &Support<'_>,
    doubts: &mut Vec<Fault>,
) -> Result<(), Fault> {
    if parent.view.kind() != Kind::Verdict {
        return Err(Code::ParentOutcome.into());
    }
    same_action(parent, child, &["tenant", "gate", "mode", "action_id", "action_digest"])?;
    if parent.report.facts.index >= child.report.facts.index {
        return Err(Code::ParentOrder.into());
    }
    match (parent.view.str("outcome"), child.view.str("outcome")) {
        (Some("supervise"), Some("approve" | "refuse")) => Ok(()),
        (Some("approve"), Some("refuse")) => {
            let permit = parent.view.get("permit").and_then(|permit| permit.get("not_after"));
            let not_after = permit.and_then(Value::as_str).and_then(Micros::parse);
            if not_after.is_some_and(|limit| child.logged_at > limit) {
                return Err(Code::VoidTooLate.into());
            }
            Ok(())
        }
        (Some(_), Some(_)) => Err(Code::ParentOutcome.into()),
        _ => {
            doubts.push(Code::ApprovalsWithheld.at_field("outcome"));
            Ok(())
        }
    }
}

fn same_action(
    one: &Support<'_>,
    other: &Support<'_>,
    names: &[&'static str],
) -> Result<(), Fault> {
    if one.report.facts.origin != other.report.facts.origin {
        return Err(Code::ParentMismatch.at_field("origin"));
    }
    for name in names {
        // A withheld value has its doubt from step 2 already.
        if let (Some(a), Some(b)) = (one.view.get(name), other.view.get(name))
            && a != b
        {
            return Err(Code::ParentMismatch.at_field(name));
        }
    }
    Ok(())
}

/// An approve, the supervised verdict that it releases, and what that requires, where shown.
struct Release<'r> {
    child: &'r Support<'r>,
    parent: Option<&'r Support<'r>>,
    parent_root: RecordRoot,
    requires: Option<&'r Value>,
}

impl Release<'_> {
    /// Judges each approval that is there (LIFE-3 to LIFE-7).
    fn approvals(&self, approvals: &[&Support<'_>], doubts: &mut Vec<Fault>) -> Result<(), Fault> {
        let (mut people, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for approval in approvals {
            self.approval(approval)?;
            match &approval.report.facts.person {
                Some((id, key)) => {
                    if !people.insert(id.clone()) || !keys.insert(*key) {
                        return Err(Code::ApprovalSamePerson.into());
                    }
                }
                None => doubts.push(person_doubt(approval.report)),
            }
        }
        Ok(())
    }

    fn approval(&self, approval: &Support<'_>) -> Result<(), Fault> {
        let view = approval.view;
        if view.kind() != Kind::Approval {
            return Err(Code::ApprovalOtherVerdict.into());
        }
        if view.str("verdict").is_some_and(|verdict| verdict != self.parent_root.hex()) {
            return Err(Code::ApprovalOtherVerdict.into());
        }
        if view.str("decision") == Some("deny") {
            return Err(Code::ApprovalDenied.into());
        }
        same_action(self.child, approval, &["tenant", "gate", "action_id", "action_digest"])?;
        let index = approval.report.facts.index;
        let after = self.parent.is_none_or(|parent| parent.report.facts.index < index);
        if !after || index >= self.child.report.facts.index {
            return Err(Code::ParentOrder.into());
        }
        let expires = self.requires.and_then(|requires| requires.get("expires_at"));
        let expires = expires.and_then(Value::as_str).and_then(Micros::parse);
        let not_after = view.str("not_after").and_then(Micros::parse);
        let late = |at| [not_after, expires].into_iter().flatten().any(|limit| at > limit);
        if late(approval.logged_at) || late(self.child.logged_at) {
            return Err(Code::ApprovalExpired.into());
        }
        Ok(())
    }
}

/// Number and roles as the supervised verdict requires (LIFE-7).
fn enough(
    requires: &Value,
    listed: usize,
    approvals: &[&Support<'_>],
    doubts: &mut Vec<Fault>,
) -> Result<(), Fault> {
    let needed = requires.get("approvals").and_then(Value::as_u64).unwrap_or(u64::MAX);
    if (listed as u64) < needed {
        return Err(Code::ApprovalsTooFew.into());
    }
    let mut roles = BTreeSet::new();
    for approval in approvals {
        let named = approval.view.get("approver").and_then(|approver| approver.get("roles"));
        let named = named.and_then(Value::as_array).into_iter().flatten();
        roles.extend(named.filter_map(Value::as_str));
    }
    let wanted = requires.get("roles").and_then(Value::as_array).into_iter().flatten();
    let missing = wanted.filter_map(Value::as_str).any(|role| !roles.contains(role));
    let withheld = approvals.iter().any(|approval| approval.view.is_withheld("approver"));
    if missing && (withheld || approvals.len() < listed) {
        doubts.push(Code::ApprovalsWithheld.at_field("approver"));
    } else if missing {
        return Err(Code::ApprovalRoles.into());
    }
    Ok(())
}
