//! What the gate keeps on disk, row by row. Every row is JSON: few are written a second, and they
//! can be read by eye when something has to be found out.

use serde::{Deserialize, Serialize};

/// A record that is not known to be in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OutboxRow {
    /// The kind's number.
    pub(crate) kind: u8,
    /// Its values as JSON texts; with its place among them once it has one.
    pub(crate) values: Vec<String>,
    /// The chain of the person who signed it, DER in base64.
    pub(crate) people: Vec<String>,
    /// Its place, once it has one. It is kept as long as its fate is open, so that the same record
    /// is sent again.
    pub(crate) place: Option<PlaceRow>,
    /// What it means to the gate.
    pub(crate) about: About,
}

/// A record's place in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlaceRow {
    /// The stream's name in hex.
    pub(crate) stream: String,
    pub(crate) seq: u64,
    /// The seed of its salts in hex.
    pub(crate) seed: String,
}

/// What a record means to the gate, and so what is done once it is in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum About {
    Intent,
    Verdict(VerdictAbout),
    Approval { action_id: String, approval: ApprovalRow },
    Outcome { action_id: Option<String>, outcome: OutcomeRow },
    Policy(PolicyRow),
    Grant(GrantRow),
    Notice(Option<Change>),
}

/// Of a verdict.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VerdictAbout {
    pub(crate) action_id: String,
    /// When it was decided, microseconds since the epoch.
    pub(crate) at: u64,
    pub(crate) part: Part,
    /// What the action is once it is logged.
    pub(crate) then: ActionState,
    pub(crate) said: SaidRow,
    /// What it takes from a grant.
    pub(crate) charge: Option<Charge>,
    /// Digest in hex of the policy that it was decided under.
    #[serde(default)]
    pub(crate) policy: Option<String>,
}

/// Which of an action's verdicts it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// Its first, for which a caller waits. Unless it is a refuse, it stands only if the caller
    /// heard it.
    First,
    /// The answer to a supervise.
    Final,
    /// The refuse of a first verdict that nobody heard.
    Void,
}

/// What is taken from a grant by one action (GRT-4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) grant: String,
    /// Ten-thousandths.
    pub(crate) amount: i64,
    pub(crate) count: u64,
}

/// A verdict as its caller hears it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SaidRow {
    pub(crate) outcome: String,
    pub(crate) reasons: Vec<ReasonRow>,
    pub(crate) permit: Option<PermitRow>,
    pub(crate) requires: Option<RequiresRow>,
    /// Where it is in the log, once it is.
    pub(crate) logged: Option<LoggedRow>,
}

/// Where a record is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoggedRow {
    pub(crate) index: u64,
    /// Its root in hex.
    pub(crate) root: String,
    /// Its evidence file.
    pub(crate) evidence: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReasonRow {
    pub(crate) code: String,
    pub(crate) policy: Option<String>,
    pub(crate) text: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PermitRow {
    pub(crate) id: String,
    pub(crate) audience: String,
    /// The action's nonce in hex: with it the executor recomputes the action digest.
    pub(crate) nonce: String,
    /// Microseconds since the epoch.
    pub(crate) not_after: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequiresRow {
    pub(crate) approvals: u32,
    pub(crate) roles: Vec<String>,
    /// Microseconds since the epoch.
    pub(crate) expires_at: u64,
}

/// Where an action is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ActionState {
    /// Its first verdict is on its way to the log.
    Judged,
    Refused,
    /// For people.
    Waiting,
    /// The answer to a supervise is on its way to the log.
    Deciding,
    Approved,
    /// A first verdict that nobody heard is being voided.
    Voiding,
    Voided,
    Denied,
    Expired,
    Executed,
    Diverged,
    /// Judged in shadow mode, with no consequence.
    Observed,
}

impl ActionState {
    /// As `GetActionResponse.state` says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Judged | Self::Refused => "refused",
            Self::Waiting | Self::Deciding => "waiting",
            Self::Approved => "approved",
            Self::Voiding | Self::Voided => "voided",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Executed => "executed",
            Self::Diverged => "diverged",
            Self::Observed => "observed",
        }
    }

    /// Whether nothing of it is under way any more.
    pub(crate) fn is_settled(self) -> bool {
        !matches!(self, Self::Judged | Self::Waiting | Self::Deciding | Self::Voiding)
    }
}

/// An action.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ActionRow {
    /// The enforcement point that asked.
    pub(crate) caller: String,
    pub(crate) audience: String,
    /// SHA-256 of what was asked, in hex: a repeat asks for the same.
    pub(crate) asked: String,
    /// The intent as JSON text, with the environment and domain that were judged.
    pub(crate) intent: String,
    pub(crate) mode: String,
    /// Hex.
    pub(crate) nonce: String,
    /// Hex.
    pub(crate) digest: String,
    pub(crate) state: ActionState,
    /// Its newest verdict.
    pub(crate) said: SaidRow,
    /// The supervise that it waits by, or was released from.
    pub(crate) supervise: Option<SuperviseRow>,
    pub(crate) approvals: Vec<ApprovalRow>,
    pub(crate) outcomes: Vec<OutcomeRow>,
}

impl ActionRow {
    /// The permit that its approve carries, while no outcome answers for it; none where there is no
    /// approve, or it is taken back.
    pub(crate) fn open_permit(&self) -> Option<&PermitRow> {
        let permit = self.said.permit.as_ref()?;
        let is_out = matches!(self.state, ActionState::Judged | ActionState::Approved);
        let is_used = || self.outcomes.iter().any(|each| each.permit.as_ref() == Some(&permit.id));
        (is_out && !is_used()).then_some(permit)
    }
}

/// A supervise verdict that is in the log, as a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SuperviseRow {
    pub(crate) values: Vec<String>,
    pub(crate) seed: String,
    pub(crate) requires: RequiresRow,
    pub(crate) logged: LoggedRow,
}

/// A person's answer that counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ApprovalRow {
    pub(crate) person: String,
    /// The person's roles, by the directory of then.
    pub(crate) roles: Vec<String>,
    /// The person's public key, hex.
    pub(crate) key: String,
    pub(crate) nonce: String,
    pub(crate) signature: String,
    pub(crate) denies: bool,
    /// Microseconds since the epoch.
    pub(crate) not_after: u64,
    /// Where it is in the log; none on its way there.
    pub(crate) logged: Option<LoggedRow>,
}

/// What became of an action.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OutcomeRow {
    pub(crate) permit: Option<String>,
    pub(crate) result: String,
    pub(crate) effect_digest: Option<String>,
    pub(crate) matches: String,
    pub(crate) logged: Option<LoggedRow>,
    /// executor or system_of_record.
    #[serde(default)]
    pub(crate) attested_by: String,
    /// SHA-256 in hex of all that makes a report the same as another one.
    #[serde(default)]
    pub(crate) report: String,
    /// What the gate found wrong with it.
    #[serde(default)]
    pub(crate) codes: Vec<String>,
}

/// The active policy version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PolicyRow {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) policy_text: String,
    pub(crate) schema_text: String,
    pub(crate) logged: Option<LoggedRow>,
}

/// A grant and what was used of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GrantRow {
    pub(crate) id: String,
    pub(crate) terms: String,
    pub(crate) signature: String,
    pub(crate) used: UsedRow,
    pub(crate) logged: Option<LoggedRow>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsedRow {
    pub(crate) actions: u64,
    /// Ten-thousandths.
    pub(crate) amount: i64,
    pub(crate) count: u64,
}

/// What holds once its notice is in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Change {
    Mode(String),
    Resume(ScopeRow),
}

/// Whom a halt covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum ScopeRow {
    Actor(String),
    Session(String),
    Tenant,
}

/// A session that has asked for something.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) actions: u64,
    /// When it asked last, microseconds since the epoch.
    pub(crate) last: u64,
}

/// Intents that were refused for want of room, and not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SilenceRow {
    pub(crate) refused: u64,
    /// Microseconds since the epoch, both included.
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// An emergency that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EmergencyRow {
    /// Root of the approve that opened it, in hex.
    pub(crate) verdict: String,
    /// Microseconds since the epoch.
    pub(crate) until: u64,
}

/// A refuse or supervise that is in the log, for whoever is to be told at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Where it is in the log.
    pub index: u64,
    /// The action.
    pub action_id: String,
    /// refuse or supervise.
    pub outcome: String,
    /// The codes of its reasons, sorted by policy.
    pub codes: Vec<String>,
    /// The gate's name.
    pub gate: String,
    /// The tenant.
    pub tenant: String,
    /// enforce or shadow.
    pub mode: String,
    /// The ledger's time of its entry, microseconds since the epoch.
    pub logged_at: u64,
}
