//! The gate itself: what gRPC, AuthZEN over HTTP and tests call alike.
//!
//! A judged intent is never an error. What is, is a call that could not be judged at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, from_hex_array, hex};
use countersign_core::hash::{Hash, sha256};
use countersign_core::json;
use countersign_core::kinds::is_uuid_v7;
use countersign_gate::{Decision, GateCode, Intent, Reason};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{Instant, timeout_at};

use super::judge::{Asked, Enqueued, permits_full};
use super::rows::{ActionRow, ActionState, PermitRow, SaidRow, Signal};
use super::shared::Shared;
use super::state::StateError;
use super::ticket::Fate;
use super::{closing, tables};

/// Bytes that an intent may have (INT-1).
pub const INTENT_BYTES_MAX: usize = 48 * 1024;
/// What is said of a text that nothing can be recorded of.
const NO_INTENT: &str = "The intent is not one JSON object of at most 48 KiB. Write it as INT-1 of \
                         spec/policy.md has it.";
/// Bytes that an audience may have.
const AUDIENCE_BYTES_MAX: usize = 256;

/// The gate; clones are the same one.
#[derive(Clone, Debug)]
pub struct GateCore {
    pub(crate) shared: Arc<Shared>,
    turns: Arc<Turns>,
}

/// Who is at an action: one caller at a time, so that a repeat meets the first one's answer.
#[derive(Debug, Default)]
struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

/// One's turn at an action, until it is dropped.
pub(crate) struct Turn {
    id: String,
    turns: Arc<Turns>,
    held: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut turns = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else waits for it: it need not be remembered.
        if turns.get(&self.id).is_some_and(|turn| turn.strong_count() == 0) {
            turns.remove(&self.id);
        }
    }
}

impl GateCore {
    /// A gate over these parts.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, turns: Arc::default() }
    }

    /// The tenant whose gate it is.
    pub fn tenant(&self) -> &str {
        &self.shared.identity.tenant
    }

    /// Waits for one's turn at an action; none when the deadline comes first.
    pub(crate) async fn turn(&self, id: &str, deadline: Instant) -> Option<Turn> {
        let mutex = {
            let mut turns = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = turns.get(id).and_then(Weak::upgrade);
            let mutex = known.unwrap_or_default();
            turns.insert(id.to_owned(), Arc::downgrade(&mutex));
            mutex
        };
        let held = timeout_at(deadline, mutex.lock_owned()).await.ok()?;
        Some(Turn { id: id.to_owned(), turns: Arc::clone(&self.turns), held: Some(held) })
    }

    /// Judges an intent for the enforcement point `caller`. The permit is for `audience`, or where
    /// that is empty for the caller. Errors: `REQUEST_MALFORMED`, `GATE_STOPPING`.
    pub async fn evaluate(
        &self,
        caller: &str,
        intent: &str,
        audience: &str,
    ) -> Result<v1::EvaluateResponse, Refusal> {
        self.shared.check_running()?;
        if intent.len() > INTENT_BYTES_MAX || !json::parse(intent).is_ok_and(|v| v.is_object()) {
            return Err(Refusal::new(Code::RequestMalformed, NO_INTENT));
        }
        if audience.len() > AUDIENCE_BYTES_MAX {
            return Err(Code::RequestMalformed.at_field("audience").into());
        }
        let audience = if audience.is_empty() { caller } else { audience };
        let (text, fault) = match Intent::parse(intent) {
            Ok(parsed) => (parsed, None),
            Err(reason) => (Intent::salvage(intent), Some(reason)),
        };
        let given = text.action_id().filter(|id| is_uuid_v7(id)).map(str::to_owned);
        let asked = Asked {
            caller: caller.to_owned(),
            audience: audience.to_owned(),
            action_id: given.clone().unwrap_or_else(|| self.new_action_id()),
            // What was salvaged of a malformed intent leaves out what is malformed, and so may look
            // like another one that is not.
            digest: match fault {
                None => hex(&sha256(text.to_json().as_bytes())),
                Some(_) => format!("malformed {}", hex(&sha256(intent.as_bytes()))),
            },
            intent: text,
            fault,
        };
        let core = self.clone();
        // A task of its own: a caller that hangs up in the middle must not leave the gate there.
        let answered = tokio::spawn(async move { core.answer(asked, given.is_some()).await });
        let response = answered.await.map_err(|error| {
            tracing::error!(%error, "an evaluation ended without an answer");
            Refusal::from(Code::Internal)
        })?;
        self.shared.metrics.answer(&response.0.outcome, &response.1, response.0.recorded);
        Ok(response.0)
    }

    async fn answer(
        &self,
        asked: Asked,
        may_repeat: bool,
    ) -> (v1::EvaluateResponse, Vec<super::rows::ReasonRow>) {
        let deadline = Instant::now() + self.shared.settings.answer_timeout();
        let failed = |error: StateError| {
            tracing::error!(%error, "an intent could not be judged");
            Answer::Unkept(GateCode::EvidenceUnavailable)
        };
        let turn = self.turn(&asked.action_id, deadline).await;
        let answer = match &turn {
            None => self.without_turn(&asked),
            Some(_) => self.answer_in_turn(&asked, may_repeat, deadline).await,
        };
        let answer = self.unless_halted(&asked, answer.unwrap_or_else(failed)).await;
        // What is recorded apart is no part of this action, and holds nobody up who asks for it.
        drop(turn);
        let reply = match answer {
            Answer::First(reply) | Answer::Again(reply) => reply,
            Answer::Apart(code) => {
                self.apart(&asked, code, deadline).await.unwrap_or_else(|error| {
                    tracing::error!(%error, "a refusal is not recorded");
                    self.unrecorded(&asked.action_id, code)
                })
            }
            Answer::Unkept(code) => self.unrecorded(&asked.action_id, code),
        };
        let reasons = reply.said.reasons.clone();
        (reply.to_wire(), reasons)
    }

    /// A kill switch comes before everything, what was said before it included; and a permit that
    /// nobody has heard of yet is not kept for later.
    async fn unless_halted(&self, asked: &Asked, answer: Answer) -> Answer {
        if !self.shared.live.is_halted(&asked.intent) {
            return answer;
        }
        match answer {
            Answer::First(reply) | Answer::Again(reply) if reply.says(GateCode::Halted) => {
                Answer::Again(reply)
            }
            // The refuse that takes it back says why.
            Answer::First(reply) if reply.said.permit.is_some() => {
                self.void_untold(&asked.action_id).await;
                Answer::Unkept(GateCode::Halted)
            }
            Answer::Unkept(_) => Answer::Unkept(GateCode::Halted),
            Answer::First(_) | Answer::Again(_) | Answer::Apart(_) => {
                Answer::Apart(GateCode::Halted)
            }
        }
    }

    /// What is answered where somebody else is at the action until the deadline.
    fn without_turn(&self, asked: &Asked) -> Result<Answer, StateError> {
        let row = self.shared.state.read(|tx| tables::action(tx, &asked.action_id))?;
        Ok(match row {
            Some(row) if self.is_other(asked, &row) => Answer::Apart(GateCode::ActionRepeated),
            // Its own verdict is on its way, and says no more than this.
            Some(_) => Answer::Unkept(GateCode::EvidenceUnavailable),
            None => Answer::Apart(GateCode::EvidenceUnavailable),
        })
    }

    /// Refuses what is not the action whose id it came with, or is not to be told of it, and puts
    /// that on record as an action of its own (INT-5): the ledger takes one first verdict of an
    /// action (LIFE-1), and a refusal that no record holds is one that nobody can ask about.
    async fn apart(
        &self,
        asked: &Asked,
        code: GateCode,
        deadline: Instant,
    ) -> Result<Reply, StateError> {
        let own = Asked { action_id: self.new_action_id(), ..asked.clone() };
        let text = format!("asked for under the action_id {}", asked.action_id);
        let decision = Decision::refuse_for(Reason::because(code, text));
        let judged = self.judged(&own, decision, self.shared.host.random())?;
        let (said, digest, mode) = (judged.said.clone(), judged.digest, judged.mode.clone());
        let Enqueued::There(stub) = self.enqueue_first(judged).await? else {
            // There is no room; it is counted with the others (`tables::silence`).
            return Ok(self.unrecorded(&asked.action_id, code));
        };
        let logged = match stub.fate(deadline).await {
            Some(Fate::Logged(at)) => Some(at),
            // It waits, or a notice says that the ledger does not take it.
            Some(Fate::Rejected(_)) | None => None,
        };
        let said = SaidRow { logged, ..said };
        Ok(Reply { action_id: own.action_id, digest: Some(digest), mode, said })
    }

    /// Takes back an approve whose permit nobody was told.
    async fn void_untold(&self, action_id: &str) {
        let (shared, id) = (Arc::clone(&self.shared), action_id.to_owned());
        let write = move |tx: &redb::WriteTransaction| closing::void_untold(&shared, tx, &id);
        if let Err(error) = self.shared.state.write(write).await {
            tracing::error!(%error, action_id, "an approve was halted and can't be voided");
        }
        self.shared.work.notify_one();
    }

    async fn answer_in_turn(
        &self,
        asked: &Asked,
        may_repeat: bool,
        deadline: Instant,
    ) -> Result<Answer, StateError> {
        if may_repeat
            && let Some(row) = self.shared.state.read(|tx| tables::action(tx, &asked.action_id))?
        {
            return Ok(self.repeated(asked, &row));
        }
        let refuse = |reason, nonce| self.judged(asked, Decision::refuse_for(reason), nonce);
        let (nonce, judged) = match self.intent_first(asked, deadline).await? {
            Ok(nonce) => (nonce, self.judge(asked, nonce)?),
            Err(code) => {
                let nonce = self.shared.host.random();
                (nonce, refuse(Reason::gate(code), nonce)?)
            }
        };
        let mut head = (judged.said.clone(), judged.digest, judged.mode.clone());
        let mut enqueued = self.enqueue_first(judged).await?;
        if matches!(enqueued, Enqueued::NoPermit) {
            let judged = refuse(permits_full(), nonce)?;
            head = (judged.said.clone(), judged.digest, judged.mode.clone());
            enqueued = self.enqueue_first(judged).await?;
        }
        let Enqueued::There(stub) = enqueued else {
            return Ok(Answer::Unkept(GateCode::OutboxFull));
        };
        let (said, digest, mode) = head;
        let fate = stub.fate(deadline).await;
        Ok(self.told(asked, said, digest, mode, fate))
    }

    /// What a caller hears of a first verdict, by its fate.
    fn told(
        &self,
        asked: &Asked,
        said: SaidRow,
        digest: Hash,
        mode: String,
        fate: Option<Fate>,
    ) -> Answer {
        let action_id = asked.action_id.as_str();
        let answer = |said| {
            let action_id = action_id.to_owned();
            Answer::First(Reply { action_id, digest: Some(digest), mode, said })
        };
        match fate {
            Some(Fate::Logged(at)) => {
                // What is in the log was voided in the same write where it was halted meanwhile, or
                // the policy is another one now.
                let row = self.shared.state.read(|tx| tables::action(tx, action_id)).ok().flatten();
                match row {
                    Some(row) if row.state == ActionState::Voiding => {
                        let halted = self.shared.live.is_halted(&asked.intent);
                        let reason = if halted {
                            Reason::gate(GateCode::Halted)
                        } else {
                            closing::policy_changed()
                        };
                        answer(closing::said_refuse(&Decision::refuse_for(reason)))
                    }
                    _ => answer(SaidRow { logged: Some(at), ..said }),
                }
            }
            // The ledger knows the action, and this gate does not any more.
            Some(Fate::Rejected(Code::DuplicateVerdict)) => Answer::Apart(GateCode::ActionRepeated),
            // A refusal is one, logged or not.
            None if said.outcome == "refuse" => answer(said),
            None if self.shared.is_stopping() => answer(refused(GateCode::Stopping)),
            // No evidence, no approval.
            Some(Fate::Rejected(_)) | None => answer(refused(GateCode::EvidenceUnavailable)),
        }
    }

    /// Whether this is asked by another, or for something else, than the action.
    fn is_other(&self, asked: &Asked, row: &ActionRow) -> bool {
        // What shadow mode let pass for a look is no answer of a gate that enforces.
        let other_mode = row.mode != *self.shared.live.mode();
        row.caller != asked.caller || row.asked != asked.digest || other_mode
    }

    /// The answer to an action that was judged before.
    fn repeated(&self, asked: &Asked, row: &ActionRow) -> Answer {
        if self.is_other(asked, row) {
            return Answer::Apart(GateCode::ActionRepeated);
        }
        let said = match row.state {
            // On its way: what it was is not known to be in the log, or must not be told.
            ActionState::Judged if row.said.outcome != "refuse" => {
                refused(GateCode::EvidenceUnavailable)
            }
            ActionState::Voiding => refused(GateCode::EvidenceUnavailable),
            _ => self.with_usable_permit(row),
        };
        let (action_id, mode) = (asked.action_id.clone(), row.mode.clone());
        let reply = Reply { action_id, digest: from_hex_array(&row.digest), mode, said };
        // The ledger took no verdict of it from this gate.
        if reply.says(GateCode::ActionRepeated) {
            return Answer::Apart(GateCode::ActionRepeated);
        }
        Answer::Again(reply)
    }

    /// An action's newest verdict, its permit only while it may be used.
    fn with_usable_permit(&self, row: &ActionRow) -> SaidRow {
        let now = self.shared.host.now();
        let usable = |permit: &PermitRow| {
            let unused = row.outcomes.iter().all(|each| each.permit.as_ref() != Some(&permit.id));
            row.state == ActionState::Approved && unused && now.0 <= permit.not_after
        };
        SaidRow { permit: row.said.permit.clone().filter(usable), ..row.said.clone() }
    }

    /// A refusal that no record holds.
    fn unrecorded(&self, action_id: &str, code: GateCode) -> Reply {
        let mode = self.shared.live.mode().to_string();
        Reply { action_id: action_id.to_owned(), digest: None, mode, said: refused(code) }
    }

    fn new_action_id(&self) -> String {
        let now = self.shared.host.now();
        let mut bytes = self.shared.host.random();
        // RFC 9562, section 5.7: 48 bits of milliseconds, version 7, variant 10.
        let millis = (now.0 / 1_000).to_be_bytes();
        if let (Some(head), Some(time)) = (bytes.get_mut(..6), millis.get(2..)) {
            head.copy_from_slice(time);
        }
        uuid::Builder::from_bytes(bytes)
            .with_version(uuid::Version::SortRand)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid()
            .to_string()
    }

    /// Signals behind this log index, oldest first, for a receiver that keeps where it stands.
    pub fn signals_after(&self, after: Option<u64>, max: usize) -> Result<Vec<Signal>, StateError> {
        self.shared.state.read(|tx| tables::signals_after(tx, after, max))
    }

    /// Where a receiver of signals stands: the log index up to which all were delivered.
    pub fn signals_delivered(&self) -> Result<Option<u64>, StateError> {
        self.shared.state.read(tables::delivered)
    }

    /// Keeps that all signals up to this log index were delivered, and forgets them.
    pub async fn set_signals_delivered(&self, index: u64) -> Result<(), StateError> {
        let write = move |tx: &redb::WriteTransaction| {
            tables::put_delivered(tx, Some(&index))?;
            tables::forget_signals(tx, index)
        };
        self.shared.state.write(write).await
    }

    /// The log index of the newest signal, as it changes.
    pub fn signals_newest(&self) -> watch::Receiver<Option<u64>> {
        self.shared.signals.subscribe()
    }
}

fn refused(code: GateCode) -> SaidRow {
    closing::said_refuse(&Decision::refuse(code))
}

/// What becomes of a call.
enum Answer {
    /// The action's first verdict, which this call made.
    First(Reply),
    /// What is known of the action.
    Again(Reply),
    /// A refusal that is no verdict of the action: it is recorded by itself.
    Apart(GateCode),
    /// A refusal that can't be recorded, is counted with others, or is on its way as a void.
    Unkept(GateCode),
}

/// A verdict on its way to its caller.
pub(crate) struct Reply {
    pub(crate) action_id: String,
    pub(crate) digest: Option<Hash>,
    pub(crate) mode: String,
    pub(crate) said: SaidRow,
}

impl Reply {
    /// Whether this code is among its reasons.
    fn says(&self, code: GateCode) -> bool {
        self.said.reasons.iter().any(|reason| reason.code == code.as_str())
    }

    /// As the wire has it.
    pub(crate) fn to_wire(&self) -> v1::EvaluateResponse {
        let said = &self.said;
        let reason = |row: &super::rows::ReasonRow| v1::Reason {
            code: row.code.clone(),
            policy: row.policy.clone().unwrap_or_default(),
            text: row.text.clone().unwrap_or_default(),
        };
        v1::EvaluateResponse {
            action_id: self.action_id.clone(),
            outcome: said.outcome.clone(),
            mode: self.mode.clone(),
            reasons: said.reasons.iter().map(reason).collect(),
            permit: said.permit.as_ref().map(|permit| v1::Permit {
                id: permit.id.clone(),
                audience: permit.audience.clone(),
                not_after: Micros(permit.not_after).format(),
                nonce: permit.nonce.clone(),
            }),
            requires: said.requires.as_ref().map(requires_to_wire),
            action_digest: self.digest.map(|digest| digest.to_vec().into()).unwrap_or_default(),
            recorded: said.logged.is_some(),
            evidence: said.logged.as_ref().map(|at| at.evidence.clone()).unwrap_or_default(),
        }
    }
}

/// What releases an action, as the wire has it.
pub(crate) fn requires_to_wire(row: &super::rows::RequiresRow) -> v1::Requires {
    v1::Requires {
        approvals: row.approvals,
        roles: row.roles.clone(),
        expires_at: Micros(row.expires_at).format(),
    }
}
