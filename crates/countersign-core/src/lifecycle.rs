//! Which record may follow which (spec/kinds.md, LIFE-1 to LIFE-13): one implementation for the
//! ledger, which has every record in full, and for packs, which have what is shown of some.
//!
//! A record that breaks a rule is a fault. What is withheld or lies outside of what is at hand is a
//! doubt: it stops nothing, and all that is there is judged.

mod fact;

use std::collections::BTreeSet;

use crate::codes::{Code, Fault};
use crate::encoding::from_hex_array;
use crate::hash::RecordRoot;
use crate::kinds::Kind;
use crate::record::View;

pub use fact::Fact;
use fact::{ApprovalFact, Decision, Outcome, OutcomeFact, Said, VerdictFact, What};

/// Records that one action may have (LIFE-12). A lifecycle needs a handful; the rest bounds what
/// looking into it may cost.
pub const ACTION_RECORDS_MAX: usize = 256;

/// The records of one tenant's action that come before a new one, in index order.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// What the rules ask of each; an intent binds nobody and may be left out.
    pub facts: &'a [Fact],
    /// How many records the action has, intents among them.
    pub records: usize,
    /// Whether these are all that the log holds: then a record that is named and not here is
    /// nowhere.
    pub whole: bool,
}

impl<'a> History<'a> {
    /// All that the log holds of the action.
    pub fn whole(facts: &'a [Fact]) -> Self {
        Self { facts, records: facts.len(), whole: true }
    }
}

/// What a record makes of an action besides joining it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It voids an approve: "approved, then voided" (LIFE-8).
    Voids,
    /// An outcome of an approve that was voided before (LIFE-8).
    Diverges,
}

/// The UUID of the action that a record is about; `None` where it is about none.
pub fn action_of(view: &View) -> Option<[u8; 16]> {
    view.str("action_id").and_then(uuid_bytes)
}

/// The bytes of a UUID in its one spelling.
pub fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    if !crate::kinds::is_uuid_v7(text) {
        return None;
    }
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    from_hex_array(&digits)
}

/// Whether a record that is about no action may be logged (LIFE-13): it can't answer a verdict, use
/// a permit or correct an outcome, all of which are found by their action.
pub fn check_without_action(view: &View) -> Result<(), Fault> {
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

/// Whether `new` may follow what is logged of its action; gives the doubts, each once.
pub fn check(new: &Fact, history: &History<'_>) -> Result<Vec<Fault>, Fault> {
    if history.records >= ACTION_RECORDS_MAX {
        return Err(Code::ActionFull.into());
    }
    let mut judge = Judge { new, history, doubts: Vec::new() };
    match &new.what {
        What::Verdict(said) => judge.verdict(said)?,
        What::Approval(said) => judge.approval(said)?,
        What::Outcome(said) => judge.outcome(said)?,
        What::Other => {}
    }
    Ok(judge.doubts)
}

/// What `new`, which broke no rule, makes of the action.
pub fn turn(new: &Fact, facts: &[Fact]) -> Option<Turn> {
    let verdict = |root: RecordRoot| {
        facts.iter().filter(move |fact| fact.root == root).find_map(Fact::verdict)
    };
    match &new.what {
        What::Verdict(said) if said.outcome == Said::Is(Outcome::Refuse) => {
            let parent = verdict(said.parent.shown().copied().flatten()?)?;
            (parent.outcome == Said::Is(Outcome::Approve)).then_some(Turn::Voids)
        }
        What::Outcome(said) => {
            let root = said.verdict.shown().copied().flatten()?;
            let approved = verdict(root)?.outcome == Said::Is(Outcome::Approve);
            let answers = |fact: &VerdictFact| fact.parent == Said::Is(Some(root));
            let voided = approved && facts.iter().filter_map(Fact::verdict).any(answers);
            voided.then_some(Turn::Diverges)
        }
        _ => None,
    }
}

struct Judge<'a> {
    new: &'a Fact,
    history: &'a History<'a>,
    doubts: Vec<Fault>,
}

impl<'a> Judge<'a> {
    fn doubt(&mut self, fault: Fault) {
        if !self.doubts.contains(&fault) {
            self.doubts.push(fault);
        }
    }

    /// What is said, or a doubt that it is withheld.
    fn shown<T>(&mut self, said: &'a Said<T>, name: &'static str) -> Option<&'a T> {
        if said.shown().is_none() {
            self.doubt(Code::LifecycleWithheld.at_field(name));
        }
        said.shown()
    }

    /// A record that is named: not at hand, it is nowhere, or outside of what is at hand.
    fn named<T>(
        &mut self,
        found: Option<T>,
        otherwise: Code,
        name: &'static str,
    ) -> Result<Option<T>, Fault> {
        match found {
            None if self.history.whole => Err(otherwise.into()),
            None => {
                self.doubt(Code::LifecycleOutside.at_field(name));
                Ok(None)
            }
            found => Ok(found),
        }
    }

    fn verdicts(&self) -> impl Iterator<Item = (&'a Fact, &'a VerdictFact)> + use<'a> {
        self.history.facts.iter().filter_map(|fact| Some((fact, fact.verdict()?)))
    }

    fn approvals(&self) -> impl Iterator<Item = (&'a Fact, &'a ApprovalFact)> + use<'a> {
        self.history.facts.iter().filter_map(|fact| match &fact.what {
            What::Approval(said) => Some((fact, &**said)),
            _ => None,
        })
    }

    fn outcomes(&self) -> impl Iterator<Item = (&'a Fact, &'a OutcomeFact)> + use<'a> {
        self.history.facts.iter().filter_map(|fact| match &fact.what {
            What::Outcome(said) => Some((fact, &**said)),
            _ => None,
        })
    }

    /// LIFE-3: what must be equal; the tenant and the action are by how the facts were found.
    fn same<T: PartialEq>(
        &mut self,
        one: &'a Said<T>,
        other: &'a Said<T>,
        name: &'static str,
    ) -> Result<(), Fault> {
        match (self.shown(one, name), self.shown(other, name)) {
            (Some(one), Some(other)) if one != other => Err(Code::ParentMismatch.at_field(name)),
            _ => Ok(()),
        }
    }

    fn verdict(&mut self, said: &'a VerdictFact) -> Result<(), Fault> {
        let Some(parent) = self.shown(&said.parent, "parent") else { return Ok(()) };
        let Some(parent) = *parent else { return self.first(said) };
        let found = self.verdicts().find(|(fact, _)| fact.root == parent);
        // LIFE-11: a verdict is resolved once, and that shows without the parent too.
        let answered = self.verdicts().any(|(_, other)| other.parent == Said::Is(Some(parent)));
        let found = match self.named(found, Code::ParentUnknown, "parent")? {
            Some((fact, verdict)) => {
                self.same(&fact.gate, &self.new.gate, "gate")?;
                self.same(&verdict.mode, &said.mode, "mode")?;
                self.same(&fact.action_digest, &self.new.action_digest, "action_digest")?;
                Some(verdict)
            }
            None => None,
        };
        if answered {
            return Err(Code::ParentAnswered.into());
        }
        let Some(verdict) = found else { return Ok(()) };
        let outcomes = (
            self.shown(&verdict.outcome, "outcome").copied(),
            self.shown(&said.outcome, "outcome").copied(),
        );
        match outcomes {
            (Some(Outcome::Supervise), Some(Outcome::Approve)) => {
                self.release(said, parent, verdict)
            }
            (Some(Outcome::Supervise), Some(Outcome::Refuse)) | (None, _) | (_, None) => Ok(()),
            (Some(Outcome::Approve), Some(Outcome::Refuse)) => self.void(verdict),
            _ => Err(Code::ParentOutcome.into()),
        }
    }

    /// LIFE-1: one verdict with no parent for each (tenant, action, mode).
    fn first(&mut self, said: &'a VerdictFact) -> Result<(), Fault> {
        let Some(mode) = self.shown(&said.mode, "mode") else { return Ok(()) };
        for (_, other) in self.verdicts() {
            let other_mode = self.shown(&other.mode, "mode");
            let is_first = self.shown(&other.parent, "parent").is_some_and(Option::is_none);
            if is_first && other_mode == Some(mode) {
                return Err(Code::DuplicateVerdict.into());
            }
        }
        Ok(())
    }

    /// LIFE-4 to LIFE-7: an approve of a supervised action rests on its approvals.
    fn release(
        &mut self,
        said: &'a VerdictFact,
        parent_root: RecordRoot,
        parent: &'a VerdictFact,
    ) -> Result<(), Fault> {
        let denied = |said: &ApprovalFact| {
            said.verdict == Said::Is(parent_root) && said.decision == Said::Is(Decision::Deny)
        };
        if self.approvals().any(|(_, approval)| denied(approval)) {
            return Err(Code::ActionDenied.into());
        }
        let requires = self.shown(&parent.requires, "requires");
        let expires = requires.and_then(|requires| requires.as_ref()?.expires_at);
        if expires.is_some_and(|limit| self.new.logged_at > limit) {
            return Err(Code::ApprovalExpired.into());
        }
        let Some(listed) = self.shown(&said.approvals, "approvals") else { return Ok(()) };
        let (mut people, mut keys, mut roles) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut all_shown = true;
        for root in listed {
            let found = self.approvals().find(|(fact, _)| fact.root == *root);
            let Some((fact, approval)) = self.named(found, Code::ApprovalUnknown, "approvals")?
            else {
                all_shown = false;
                continue;
            };
            self.counts(parent_root, approval)?;
            let approver = self.shown(&approval.approver, "approver");
            // Whose key signed is known only where the signature was verified.
            let key = self.shown(&fact.person_key, "signature");
            all_shown &= approver.is_some();
            let again = approver.is_some_and(|approver| !people.insert(&approver.id))
                || key.is_some_and(|key| !keys.insert(key));
            if again {
                return Err(Code::ApprovalSamePerson.into());
            }
            roles.extend(approver.into_iter().flat_map(|approver| &approver.roles));
        }
        let Some(requires) = requires else { return Ok(()) };
        // A supervise that doesn't say what it requires is released by nobody: no verifier could
        // say that it was enough.
        let needed = requires.as_ref().map_or(u64::MAX, |requires| requires.approvals);
        if (listed.len() as u64) < needed {
            return Err(Code::ApprovalsTooFew.into());
        }
        let wanted = requires.iter().flat_map(|requires| &requires.roles);
        if all_shown && wanted.into_iter().any(|role| !roles.contains(role)) {
            return Err(Code::ApprovalRoles.into());
        }
        Ok(())
    }

    /// LIFE-5 and LIFE-6: what an approval that is listed must be. A listed deny was found before;
    /// whether the approval itself came in time was asked when it came.
    fn counts(&mut self, parent: RecordRoot, approval: &'a ApprovalFact) -> Result<(), Fault> {
        if self.shown(&approval.verdict, "verdict").is_some_and(|verdict| *verdict != parent) {
            return Err(Code::ApprovalOtherVerdict.into());
        }
        let not_after = self.shown(&approval.not_after, "not_after");
        if not_after.is_some_and(|limit| self.new.logged_at > *limit) {
            return Err(Code::ApprovalExpired.into());
        }
        Ok(())
    }

    /// LIFE-8: an approve is voided while its permit is neither used nor expired.
    fn void(&mut self, parent: &'a VerdictFact) -> Result<(), Fault> {
        let Some(permit) = self.shown(&parent.permit, "permit") else { return Ok(()) };
        let Some(permit) = permit else { return Ok(()) };
        let late = permit.not_after.is_some_and(|limit| self.new.logged_at > limit);
        let uses = |said: &OutcomeFact| {
            said.permit.shown().is_some_and(|id| id.as_ref() == Some(&permit.id))
        };
        if late || self.outcomes().any(|(_, outcome)| uses(outcome)) {
            return Err(Code::VoidTooLate.into());
        }
        Ok(())
    }

    /// LIFE-6 and LIFE-10: an approval answers a supervise that is in the log, in time.
    fn approval(&mut self, said: &'a ApprovalFact) -> Result<(), Fault> {
        let Some(root) = self.shown(&said.verdict, "verdict") else { return Ok(()) };
        let found = self.verdicts().find(|(fact, _)| fact.root == *root);
        let Some((fact, verdict)) = self.named(found, Code::VerdictUnknown, "verdict")? else {
            return Ok(());
        };
        let outcome = self.shown(&verdict.outcome, "outcome");
        if outcome.is_some_and(|outcome| *outcome != Outcome::Supervise) {
            return Err(Code::ApprovalOtherVerdict.into());
        }
        self.same(&fact.gate, &self.new.gate, "gate")?;
        self.same(&fact.action_digest, &self.new.action_digest, "action_digest")?;
        let requires = self.shown(&verdict.requires, "requires");
        let expires = requires.and_then(|requires| requires.as_ref()?.expires_at);
        let limits = [self.shown(&said.not_after, "not_after").copied(), expires];
        if limits.into_iter().flatten().any(|limit| self.new.logged_at > limit) {
            return Err(Code::ApprovalExpired.into());
        }
        Ok(())
    }

    /// LIFE-9 and LIFE-13: one outcome a permit, unless it supersedes the newest.
    fn outcome(&mut self, said: &'a OutcomeFact) -> Result<(), Fault> {
        let corrects = self.shown(&said.supersedes, "supersedes").copied().flatten();
        if let Some(root) = corrects {
            self.supersedes(said, root)?;
        }
        let permit = self.shown(&said.permit, "permit");
        let Some(verdict) = self.shown(&said.verdict, "verdict") else { return Ok(()) };
        let Some(root) = *verdict else {
            // An orphan: an effect that no verdict covers, and so no permit either.
            let none = permit.is_none_or(Option::is_none);
            return if none { Ok(()) } else { Err(Code::PermitUnknown.into()) };
        };
        let found = self.verdicts().find(|(fact, _)| fact.root == root);
        if let Some((fact, verdict)) = self.named(found, Code::VerdictUnknown, "verdict")? {
            // An outcome of a verdict that released a permit names it: else there were two for one.
            let released = self.shown(&verdict.permit, "permit");
            let released = released.map(|permit| permit.as_ref().map(|permit| &permit.id));
            if let (Some(released), Some(permit)) = (released, permit)
                && released != permit.as_ref()
            {
                return Err(Code::PermitUnknown.into());
            }
            let digest = self.shown(&self.new.action_digest, "action_digest");
            if digest.is_some_and(Option::is_some) {
                self.same(&fact.action_digest, &self.new.action_digest, "action_digest")?;
            }
        }
        let again = |other: &OutcomeFact| {
            other.verdict == said.verdict && permit.is_some() && other.permit == said.permit
        };
        if corrects.is_none() && self.outcomes().any(|(_, other)| again(other)) {
            return Err(Code::PermitUsed.into());
        }
        Ok(())
    }

    /// An outcome corrects the newest one of its verdict and permit.
    fn supersedes(&mut self, said: &'a OutcomeFact, root: RecordRoot) -> Result<(), Fault> {
        let unknown = Code::SupersedesUnknown;
        if self.outcomes().any(|(_, other)| other.supersedes == Said::Is(Some(root))) {
            return Err(unknown.into());
        }
        let found = self.outcomes().find(|(fact, _)| fact.root == root);
        let Some((_, earlier)) = self.named(found, unknown, "supersedes")? else { return Ok(()) };
        let verdicts = (earlier.verdict.shown(), said.verdict.shown());
        let permits = (earlier.permit.shown(), said.permit.shown());
        let verdicts_differ = matches!(verdicts, (Some(one), Some(other)) if one != other);
        let permits_differ = matches!(permits, (Some(one), Some(other)) if one != other);
        if verdicts_differ || permits_differ { Err(unknown.into()) } else { Ok(()) }
    }
}
