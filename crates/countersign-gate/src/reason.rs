//! Why: the codes that the gate itself gives, and the reasons of a decision.

use serde_json::{Value, json};

countersign_core::registry! {
    /// Why a gate refuses of its own accord, without a policy that says so. Codes are stable.
    pub enum GateCode;

    // What was asked.
    Halted "HALTED" "A kill switch covers this actor, its session or the tenant." "Whoever set it lifts it with countersign resume, once the cause is known.";
    InputInvalid "INPUT_INVALID" "The intent is not of the form that spec/policy.md gives it, or does not fit the policy's schema." "Mend what the reason's text names and ask again.";
    ActionUnknown "ACTION_UNKNOWN" "The policy's schema applies neither the verb nor its class to this actor and resource." "Declare the verb in the schema, or ask with one that is declared.";
    ActionRepeated "ACTION_REPEATED" "This action_id was used for another intent or by another caller." "Use a new action_id for each action.";
    EntityMissing "ENTITY_MISSING" "An actor, person, resource, class or role that the decision rests on is not in the tenant's directory." "Add what the reason's text names to the directory.";

    // What decides.
    PolicyMissing "POLICY_MISSING" "No policy version is active." "Activate one with countersign policy activate.";
    PolicyInvalid "POLICY_INVALID" "The policy version has faults." "Mend every fault that countersign policy lint names.";
    PolicyChanged "POLICY_CHANGED" "Another policy came into force before the approve was in the log." "Ask again with a new action_id: the new policy decides.";
    PolicyError "POLICY_ERROR" "A policy failed while it was evaluated, so nothing can be said to be allowed." "Mend the policy that is named; the verdict's errors say what failed.";
    NoAuthority "NO_AUTHORITY" "No policy permits this." "Have the policy's owner permit it, or don't do it: people can release authority, not make it.";
    DirectoryMissing "DIRECTORY_MISSING" "The tenant's directory can't be read." "Mend the file that the gate's log names.";

    // Grants.
    GrantUnknown "GRANT_UNKNOWN" "The gate holds no grant of this name." "Issue it before the session starts, or name another.";
    GrantOtherActor "GRANT_OTHER_ACTOR" "The grant is another actor's." "Ask for a grant of your own.";
    GrantOtherSession "GRANT_OTHER_SESSION" "The grant is for another session." "Use it in the session that it was issued for.";
    GrantOtherTicket "GRANT_OTHER_TICKET" "The grant is for another ticket." "Name the grant's ticket in the task.";
    GrantNotYet "GRANT_NOT_YET" "The grant has not begun." "Wait until its not_before.";
    GrantExpired "GRANT_EXPIRED" "The grant has expired." "Ask for a new one.";
    GrantForbids "GRANT_FORBIDS" "The grant forbids this action, this resource, one of its targets or its amount." "Stay within the grant.";
    GrantNotAllowed "GRANT_NOT_ALLOWED" "The grant does not allow this action or this resource." "Stay within the grant, or ask for one that allows it.";
    GrantLimit "GRANT_LIMIT" "The action would pass a limit of the grant." "Ask for a new grant.";
    GrantLate "GRANT_LATE" "The session that the grant is for has asked for something already." "Issue grants before their session starts.";
    GrantExists "GRANT_EXISTS" "A grant of this name exists; grants never change." "Issue one of another name.";
    GrantMalformed "GRANT_MALFORMED" "The grant's name or terms are not of the form that spec/policy.md gives them." "Mend what the message names.";

    // Evidence and time.
    EvidenceUnavailable "EVIDENCE_UNAVAILABLE" "The verdict could not be proved to be in the log in time." "Ask again with the same action_id once the ledger answers.";
    OutboxFull "OUTBOX_FULL" "As many records wait to be logged as the gate may keep." "Bring the ledger back; what waits is logged in order.";
    ClockSteppedBack "CLOCK_STEPPED_BACK" "The gate's clock is behind what it has recorded already." "Mend the clock; the gate goes on when it has caught up.";
    Stopping "STOPPING" "The gate is stopping." "Ask again when it is back.";

    // People.
    NotSupervised "NOT_SUPERVISED" "The action does not wait for approvals." "Look at its state with countersign approve ACTION, without a key.";
    SupervisionDenied "SUPERVISION_DENIED" "A person who may decide this denied it." "Ask for another action, not for this one again.";
    SupervisionExpired "SUPERVISION_EXPIRED" "The approvals that it needs did not come in time." "Ask again with a new action_id.";
    ApprovalDisplay "APPROVAL_DISPLAY" "The approval was signed over another text than this action's." "Show the person the text that the gate makes, and let them sign that.";
    ApprovalNotEligible "APPROVAL_NOT_ELIGIBLE" "The policy does not let this person decide this action." "Ask somebody whose roles allow it and who didn't ask for it.";
    ApprovalReplayed "APPROVAL_REPLAYED" "The approval's nonce was used before." "Sign anew: each approval has a nonce of its own.";
    ApprovalOtherVerdict "APPROVAL_OTHER_VERDICT" "The approval answers another verdict or another action." "Sign for this action's verdict and digest.";
    ApprovalExpired "APPROVAL_EXPIRED" "The approval's time has passed." "Sign anew, while the supervision is open.";
    ApprovalSamePerson "APPROVAL_SAME_PERSON" "This person or this key has answered already." "Ask somebody else, with a key of their own.";

    // Permits.
    PermitsFull "PERMITS_FULL" "As many permits are out without an outcome as the gate remembers." "Have executors report what they did, or raise [gate] permits_max.";
    PermitReplayed "PERMIT_REPLAYED" "Another effect was already reported for this permit." "Each permit covers one effect; the new one is recorded as an orphan.";
}

impl GateCode {
    /// The code with this text.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl std::fmt::Display for GateCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.as_str(), self.what(), self.remedy())
    }
}

impl std::error::Error for GateCode {}

/// One reason of a decision. Reasons are ordered by policy (none first), then by code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason {
    /// The policy's id; none for the gate's own codes.
    pub policy: Option<String>,
    /// The policy's reason code, or one of the gate's own.
    pub code: String,
    /// A sentence for people: the policy's, or what exactly the gate found.
    pub text: Option<String>,
}

impl Reason {
    /// A reason of the gate's own.
    pub fn gate(code: GateCode) -> Self {
        Self { policy: None, code: code.as_str().to_owned(), text: None }
    }

    /// The same, with a sentence that says what exactly is meant.
    pub fn because(code: GateCode, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::gate(code) }
    }

    /// As a record has it (KIND-4).
    pub fn to_json(&self) -> Value {
        json!({ "code": self.code, "policy": self.policy, "text": self.text })
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.code)?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_say_something() {
        let mut texts: Vec<&str> = GateCode::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        assert!(texts.is_sorted_by(|a, b| a < b), "a code stands twice");
        for code in GateCode::ALL {
            assert_eq!(GateCode::from_text(code.as_str()), Some(*code));
            assert!(code.what().ends_with('.') && code.remedy().ends_with('.'), "{code:?}");
        }
    }
}
