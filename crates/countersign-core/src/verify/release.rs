//! Step 11, a record among others: parents, approvals and the release of a supervised action
//! (spec/kinds.md, LIFE-2 to LIFE-7).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Report, Run, Step, Verdict};
use crate::codes::{Code, Fault};
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
pub(super) fn supporting(run: &mut Run<'_>, evidence: &Evidence, top: bool) -> Step {
    for inner in &evidence.supporting {
        let mut other = Run::new(run.trust);
        let outcome = other.steps(inner, false);
        let report = other.finish(outcome);
        let decisive = report.decisive();
        let result = report.result;
        run.supporting.push(report);
        if let Some(finding) = decisive {
            match result {
                // The supporting record's own fault is named, so that nothing masks it.
                Verdict::Invalid => return Err(finding.fault.into()),
                _ => run.doubt(11, finding.fault),
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
        return Ok(());
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
        released(&child, parent, &supports)?
    };
    for fault in doubts {
        run.doubt(11, fault);
    }
    Ok(())
}

/// Checks a verdict against its parent, and an approve against its approvals. Returns the doubts.
fn released(
    child: &Support<'_>,
    parent: RecordRoot,
    supports: &[Support<'_>],
) -> Result<Vec<Fault>, Fault> {
    let Some(parent) = supports.iter().find(|support| support.root == parent) else {
        return Ok(vec![Code::SupportingAbsent.at_field("parent")]);
    };
    if parent.view.kind() != Kind::Verdict {
        return Err(Code::ParentOutcome.into());
    }
    let outcomes = (parent.view.str("outcome"), child.view.str("outcome"));
    match outcomes {
        (Some("supervise"), Some("approve" | "refuse")) | (Some("approve"), Some("refuse")) => {}
        (Some(_), Some(_)) => return Err(Code::ParentOutcome.into()),
        _ => return Ok(vec![Code::ApprovalsWithheld.at_field("outcome")]),
    }
    same_action(parent, child, &["tenant", "gate", "mode", "action_id", "action_digest"])?;
    if parent.report.facts.index >= child.report.facts.index {
        return Err(Code::ParentOrder.into());
    }
    if outcomes != (Some("supervise"), Some("approve")) {
        return Ok(Vec::new());
    }
    // No approve after a logged deny, whether the verdict lists it or not.
    let denied = supports.iter().any(|s| {
        s.view.kind() == Kind::Approval
            && s.view.str("decision") == Some("deny")
            && s.view.str("verdict") == Some(parent.root.hex().as_str())
            && s.report.facts.index < child.report.facts.index
    });
    if denied {
        return Err(Code::ApprovalDenied.into());
    }
    let requires = parent.view.get("requires").filter(|value| !value.is_null());
    let listed = child.view.get("approvals").and_then(Value::as_array);
    let (Some(requires), Some(listed)) = (requires, listed) else {
        return Ok(vec![Code::ApprovalsWithheld.into()]);
    };
    let mut approvals = Vec::new();
    for root in listed {
        let root = root.as_str().and_then(from_hex_array).map(RecordRoot);
        match supports.iter().find(|support| Some(support.root) == root) {
            Some(approval) => approvals.push(approval),
            None => return Ok(vec![Code::SupportingAbsent.at_field("approvals")]),
        }
    }
    check_approvals(parent, child, requires, &approvals)
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

fn check_approvals(
    parent: &Support<'_>,
    child: &Support<'_>,
    requires: &Value,
    approvals: &[&Support<'_>],
) -> Result<Vec<Fault>, Fault> {
    let mut doubts = Vec::new();
    let expires = requires.get("expires_at").and_then(Value::as_str).and_then(Micros::parse);
    let in_time = |at: Micros, limit: Option<Micros>| limit.is_none_or(|limit| at <= limit);
    let (mut people, mut keys) = (BTreeSet::new(), BTreeSet::new());
    let mut roles = BTreeSet::new();
    for approval in approvals {
        let view = approval.view;
        if view.kind() != Kind::Approval {
            return Err(Code::ApprovalOtherVerdict.into());
        }
        if view.str("verdict").is_some_and(|verdict| verdict != parent.root.hex()) {
            return Err(Code::ApprovalOtherVerdict.into());
        }
        if view.str("decision") == Some("deny") {
            return Err(Code::ApprovalDenied.into());
        }
        same_action(parent, approval, &["tenant", "gate", "action_id", "action_digest"])?;
        let index = approval.report.facts.index;
        if parent.report.facts.index >= index || index >= child.report.facts.index {
            return Err(Code::ParentOrder.into());
        }
        let not_after = view.str("not_after").and_then(Micros::parse);
        let limits = [not_after, expires];
        let ends_in_time = |at| limits.iter().all(|limit| in_time(at, *limit));
        if !ends_in_time(approval.logged_at) || !ends_in_time(child.logged_at) {
            return Err(Code::ApprovalExpired.into());
        }
        match &approval.report.facts.person {
            Some((id, key)) => {
                if !people.insert(id.clone()) || !keys.insert(*key) {
                    return Err(Code::ApprovalSamePerson.into());
                }
            }
            None => doubts.push(Code::PersonUnchecked.into()),
        }
        let named = view.get("approver").and_then(|approver| approver.get("roles"));
        let named = named.and_then(Value::as_array).into_iter().flatten();
        roles.extend(named.filter_map(Value::as_str).map(str::to_owned));
    }
    let needed = requires.get("approvals").and_then(Value::as_u64).unwrap_or(u64::MAX);
    // A supervised action is released by people, so an approve rests on one of them at least.
    if (approvals.len() as u64) < needed.max(1) {
        return Err(Code::ApprovalsTooFew.into());
    }
    let wanted = requires.get("roles").and_then(Value::as_array).into_iter().flatten();
    let missing = wanted.filter_map(Value::as_str).any(|role| !roles.contains(role));
    let withheld = approvals.iter().any(|approval| approval.view.is_withheld("approver"));
    match (missing, withheld) {
        (true, false) => Err(Code::ApprovalRoles.into()),
        (true, true) => {
            doubts.push(Code::ApprovalsWithheld.at_field("approver"));
            Ok(doubts)
        }
        _ => Ok(doubts),
    }
}
