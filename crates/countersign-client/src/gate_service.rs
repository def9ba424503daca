//! Calls of a gate service: what comes back has been proved by evidence, verified here.
//!
//! A gate hands out evidence with nearly every answer. It is verified under the trust file that the
//! client was given, or else as far as the log's own keys go, and it must bear the answer out:
//! outcome, permit, nonce and requirements are those on record. What is absent: a comparison of the
//! heads in these files with those that the ledger shows ([`crate::Client`] does that), and proof
//! of [`GateClient::status`], which is the gate's word.

mod answers;
mod error;

use std::time::Duration;

use countersign_core::cert::Certificate;
use countersign_core::encoding::{Micros, b64};
use countersign_core::hash::{Context, Hash};
use countersign_core::kinds::Kind;
use countersign_core::trust::Trust;
use countersign_proto::v1;
use countersign_proto::v1::gate_service_client::GateServiceClient;
use prost::bytes::Bytes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::client::{ANSWER_BYTES_MAX, EvidenceItem, endpoint};
use crate::config::ClientConfig;
use crate::heads::Keyring;
use crate::reach::{from_status, not_connected, timed_out};

use self::answers::{Verifier, check_action_id, says};
pub use self::error::GateCallError;

/// Leave to act once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Its name.
    pub id: String,
    /// Who may use it.
    pub audience: String,
    /// The executor does not act after it.
    pub not_after: Micros,
    /// With it the executor recomputes the action digest from what it is about to do (DIG-4).
    pub nonce: [u8; 16],
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The policy's code, or one of the gate's own.
    pub code: String,
    /// The policy's id; empty for the gate's own codes.
    pub policy: String,
    /// The policy's text for people; may be empty.
    pub text: String,
}

impl From<v1::Reason> for Reason {
    fn from(reason: v1::Reason) -> Self {
        Self { code: reason.code, policy: reason.policy, text: reason.text }
    }
}

/// What releases a supervised action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requires {
    /// Approvals by distinct people.
    pub approvals: u32,
    /// Roles that they must hold between them.
    pub roles: Vec<String>,
    /// RFC 3339, six decimals.
    pub expires_at: String,
}

impl From<v1::Requires> for Requires {
    fn from(requires: v1::Requires) -> Self {
        let v1::Requires { approvals, roles, expires_at } = requires;
        Self { approvals, roles, expires_at }
    }
}

/// A verdict, as its record has it where it is recorded. Only the client makes one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Judged {
    /// The action's UUIDv7.
    pub action_id: String,
    /// `approve`, `refuse` or `supervise`.
    pub outcome: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// Sorted by policy, then code.
    pub reasons: Vec<Reason>,
    /// On an enforced approve only.
    pub permit: Option<Permit>,
    /// On supervise only.
    pub requires: Option<Requires>,
    /// `None` where a malformed intent has none.
    pub action_digest: Option<Hash>,
    /// The proof; only a refusal may come without.
    pub evidence: Option<EvidenceItem>,
}

/// Where an action stands, by the gate's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The gate refused it.
    Refused,
    /// It waits for people.
    Waiting,
    /// It may be done, once.
    Approved,
    /// Its outcome was reported.
    Executed,
    /// A person denied it.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// It was approved, and the approve was taken back.
    Voided,
    /// What was done is not what was approved, or not then: voided before, another effect, a second
    /// one, or one after the permit's end.
    Diverged,
    /// It was judged in shadow mode, with no consequence.
    Observed,
}

impl State {
    const ALL: [Self; 9] = [
        Self::Refused,
        Self::Waiting,
        Self::Approved,
        Self::Executed,
        Self::Denied,
        Self::Expired,
        Self::Voided,
        Self::Diverged,
        Self::Observed,
    ];

    /// As the wire spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Executed => "executed",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Voided => "voided",
            Self::Diverged => "diverged",
            Self::Observed => "observed",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// An action's life.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Action {
    /// Where it stands.
    pub state: State,
    /// Its records, in the order of the log.
    pub files: Vec<EvidenceItem>,
    /// Approvals that count so far, while it is waiting.
    pub approvals: u32,
    /// What releases it, while it is waiting.
    pub requires: Option<Requires>,
}

/// What a person's answer led to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answered {
    /// The record of the answer.
    pub approval: EvidenceItem,
    /// Where the action stands.
    pub state: State,
    /// Approvals that count so far.
    pub approvals: u32,
    /// Approvals needed.
    pub needed: u32,
    /// The final verdict, once there is one.
    pub verdict: Option<Judged>,
}

/// What an executor did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EffectReport {
    /// The action; empty for an effect that no verdict covers.
    pub action_id: String,
    /// The permit's id; empty where there was none.
    pub permit: String,
    /// `executed`, `failed`, `not_executed`, `unknown` or `reverted`.
    pub result: String,
    /// The action digest recomputed from what was done, where that is known.
    pub effect_digest: Option<Hash>,
    /// `executor` or `system_of_record`.
    pub attested_by: String,
    /// When it was seen.
    pub observed_at: Micros,
    /// JSON of whatever else there is to say; may be empty.
    pub detail: String,
}

/// An outcome on record.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reported {
    /// `match`, `mismatch`, `indeterminate` or `orphan`.
    pub r#match: String,
    /// What is wrong besides the effect: `LATE`, `OTHER_REPORTER`.
    pub codes: Vec<String>,
    /// Its record.
    pub evidence: EvidenceItem,
}

/// What a person signed of a policy or a grant, and who they are.
#[derive(Clone, Debug)]
pub struct Authorised {
    /// The Ed25519 signature (KIND-15).
    pub signature: [u8; 64],
    /// The person's certificate chain, leaf first, without the root.
    pub chain: Vec<Certificate>,
}

impl Authorised {
    fn chain(&self) -> Vec<Bytes> {
        wire_chain(&self.chain)
    }
}

fn wire_chain(chain: &[Certificate]) -> Vec<Bytes> {
    chain.iter().map(|each| Bytes::copy_from_slice(each.der())).collect()
}

/// Whom a halt covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An actor, by its id.
    Actor(String),
    /// A session.
    Session(String),
    /// Everyone.
    Tenant,
}

impl From<Scope> for v1::Scope {
    fn from(scope: Scope) -> Self {
        use v1::scope::Of;
        let of = match scope {
            Scope::Actor(id) => Of::Actor(id),
            Scope::Session(id) => Of::Session(id),
            Scope::Tenant => Of::Tenant(true),
        };
        Self { of: Some(of) }
    }
}

/// A change of how the gate answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Refuse everything of this scope.
    Halt(Scope),
    /// Lift a halt of exactly this scope.
    Resume(Scope),
    /// `enforce` or `shadow`.
    Mode(String),
    /// End the emergency that is open.
    EndEmergency,
}

/// What a change led to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Switched {
    /// The notice on record; `None` while what holds already waits to be recorded.
    pub evidence: Option<EvidenceItem>,
    /// What the gate has to say of it, by its word: a halt of an actor that nobody knows. May be
    /// empty.
    pub note: String,
}

/// A connection to a gate service that returns only what it has verified. Clones share it.
#[derive(Clone, Debug)]
pub struct GateClient {
    grpc: GateServiceClient<Channel>,
    verifier: std::sync::Arc<Verifier>,
    call_timeout: Duration,
}

type Called<T> = Result<T, GateCallError>;

impl GateClient {
    /// Connects. Evidence is verified under `trust`, or without one as far as the log's own keys
    /// go: seal, entry, inclusion, signatures of log and clock.
    pub async fn connect(config: ClientConfig, trust: Option<Trust>) -> Called<Self> {
        let endpoint = endpoint(&config)?;
        let channel = endpoint.connect().await.map_err(|error| not_connected(&error))?;
        let grpc = GateServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let verifier = Verifier::new(Keyring::new(config.log, config.clocks), trust);
        Ok(Self { grpc, verifier: verifier.into(), call_timeout: config.call_timeout })
    }

    /// Has an intent judged (INT-1), its permit for `audience`, or for the caller where that is
    /// empty.
    pub async fn evaluate(&self, intent: &str, audience: &str) -> Called<Judged> {
        let message =
            v1::EvaluateRequest { intent: intent.to_owned(), audience: audience.to_owned() };
        let answer = self.call(self.grpc.clone().evaluate(self.request(message))).await?;
        Ok(self.verifier.judged(answer, Some(intent))?)
    }

    /// The whole life of an action.
    pub async fn action(&self, id: &str) -> Called<Action> {
        check_action_id(id)?;
        let message = v1::GetActionRequest { action_id: id.to_owned() };
        let answer = self.call(self.grpc.clone().get_action(self.request(message))).await?;
        Ok(self.verifier.action(id, answer)?)
    }

    /// Sends one person's answer: the members of the approval record as JSON, and the signature
    /// among them.
    pub async fn approve(
        &self,
        action_id: &str,
        approval: String,
        signed: &Authorised,
    ) -> Called<Answered> {
        let message = v1::ApproveRequest { approval, chain: signed.chain() };
        let answer = self.call(self.grpc.clone().approve(self.request(message))).await?;
        Ok(self.verifier.answered(action_id, &b64(&signed.signature), answer)?)
    }

    /// Records what became of an action.
    pub async fn report_outcome(&self, report: &EffectReport) -> Called<Reported> {
        let message = v1::ReportOutcomeRequest {
            action_id: report.action_id.clone(),
            permit: report.permit.clone(),
            result: report.result.clone(),
            effect_digest: report
                .effect_digest
                .map_or_else(String::new, |digest| countersign_core::encoding::hex(&digest)),
            attested_by: report.attested_by.clone(),
            observed_at: report.observed_at.format(),
            detail: report.detail.clone(),
        };
        let request = self.request(message.clone());
        let answer = self.call(self.grpc.clone().report_outcome(request)).await?;
        Ok(self.verifier.reported(&message, answer)?)
    }

    /// Makes a policy version the one that decides. Returns the evidence of its record.
    pub async fn activate_policy(
        &self,
        policy_id: &str,
        version: &str,
        (policy_text, schema_text): (&str, &str),
        signed: &Authorised,
    ) -> Called<EvidenceItem> {
        let message = v1::ActivatePolicyRequest {
            policy_id: policy_id.to_owned(),
            version: version.to_owned(),
            policy_text: policy_text.to_owned(),
            schema_text: schema_text.to_owned(),
            signature: Bytes::copy_from_slice(&signed.signature),
            chain: signed.chain(),
        };
        let answer = self.call(self.grpc.clone().activate_policy(self.request(message))).await?;
        let digest = countersign_core::encoding::hex(&policy_digest(policy_text, schema_text));
        let signature = b64(&signed.signature);
        self.recorded(
            answer,
            Kind::Policy,
            &[
                ("policy_id", policy_id),
                ("version", version),
                ("digest", &digest),
                ("signature", &signature),
            ],
        )
    }

    /// Has a task-scoped grant taken. Returns the evidence of its record.
    pub async fn issue_grant(
        &self,
        grant_id: &str,
        terms: &str,
        signed: &Authorised,
    ) -> Called<EvidenceItem> {
        let message = v1::IssueGrantRequest {
            grant_id: grant_id.to_owned(),
            terms: terms.to_owned(),
            signature: Bytes::copy_from_slice(&signed.signature),
            chain: signed.chain(),
        };
        let answer = self.call(self.grpc.clone().issue_grant(self.request(message))).await?;
        let signature = b64(&signed.signature);
        self.recorded(
            answer,
            Kind::Grant,
            &[("grant_id", grant_id), ("terms", terms), ("signature", &signature)],
        )
    }

    /// Halts, resumes, changes the mode, or ends an emergency.
    pub async fn switch(&self, change: Switch, reason: &str) -> Called<Switched> {
        use v1::switch_request::Change;
        let change = match change {
            Switch::Halt(scope) => Change::Halt(scope.into()),
            Switch::Resume(scope) => Change::Resume(scope.into()),
            Switch::Mode(mode) => Change::Mode(mode),
            Switch::EndEmergency => Change::EndEmergency(true),
        };
        let message = v1::SwitchRequest { change: Some(change), reason: reason.to_owned() };
        let answer = self.call(self.grpc.clone().switch(self.request(message))).await?;
        let v1::SwitchResponse { evidence, note } = answer;
        let evidence = (!evidence.is_empty())
            .then(|| self.verifier.evidence(evidence, &[Kind::Notice]))
            .transpose()?;
        Ok(Switched { evidence, note })
    }

    /// How the gate stands, by its word.
    pub async fn status(&self) -> Called<v1::GateStatus> {
        self.call(self.grpc.clone().get_status(self.request(v1::GetStatusRequest {}))).await
    }

    fn recorded(
        &self,
        answer: v1::Recorded,
        kind: Kind,
        said: &[(&'static str, &str)],
    ) -> Called<EvidenceItem> {
        let item = self.verifier.evidence(answer.evidence, &[kind])?;
        if let Some(view) = &item.report.facts.view {
            for (name, value) in said {
                says(view, name, value)?;
            }
        }
        Ok(item)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.call_timeout);
        request
    }

    async fn call<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Called<T> {
        match tokio::time::timeout(self.call_timeout, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(from_status(&status).into()),
            Err(_elapsed) => Err(timed_out(self.call_timeout).into()),
        }
    }
}

/// The digest of a policy's texts (KIND-8).
fn policy_digest(policy: &str, schema: &str) -> Hash {
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    let (p, s) = (length(policy), length(schema));
    Context::Policy.hash(&[&p, policy.as_bytes(), &s, schema.as_bytes()])
}
