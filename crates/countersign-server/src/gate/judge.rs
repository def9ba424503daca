//! From an intent to a first verdict in the outbox.

use std::sync::Arc;

use countersign_client::{Draft, DraftError, Stamp};
use countersign_core::encoding::{Micros, from_hex_array, hex};
use countersign_core::hash::Hash;
use countersign_core::kinds::Kind;
use countersign_gate::{
    Decision, Facts, GateCode, GrantHeld, Intent, Outcome, PermitSaid, Reason, Sealing, decide,
    intent_json,
};
use serde_json::json;
use tokio::time::Instant;

use super::core::GateCore;
use super::live::Loaded;
use super::rows::{
    About, ActionRow, ActionState, Charge, Part, PermitRow, RequiresRow, SaidRow, SilenceRow,
    VerdictAbout,
};
use super::shared::{Shared, outbox_row, reasons_of};
use super::state::StateError;
use super::tables::{self, Room};
use super::ticket::{Fate, Stub, ticket};

/// An intent that somebody asks about.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) caller: String,
    pub(crate) audience: String,
    pub(crate) action_id: String,
    /// SHA-256 of the intent's one spelling, in hex.
    pub(crate) digest: String,
    pub(crate) intent: Intent,
    /// What is wrong with the intent, where it could only be salvaged.
    pub(crate) fault: Option<Reason>,
}

/// What became of a first verdict at the outbox.
pub(crate) enum Enqueued {
    /// It is there.
    There(Stub),
    /// The outbox is full.
    NoRoom,
    /// It has a permit, and as many are out as may be. It counts in its session already.
    NoPermit,
}

/// Why an approve was not made where too many permits are out.
const PERMITS_FULL: &str = "PERMITS_FULL";

/// The reason of a refuse for want of room for its permit.
pub(crate) fn permits_full() -> Reason {
    let text = "as many permits are out without an outcome as this gate remembers ([gate] \
                permits_max): have executors report what they did";
    Reason { policy: None, code: PERMITS_FULL.to_owned(), text: Some(text.to_owned()) }
}

/// A first verdict that is about to be put into the outbox. Dropped before, it gives back what it
/// reserved.
pub(crate) struct Judged {
    pub(crate) said: SaidRow,
    pub(crate) digest: Hash,
    pub(crate) mode: String,
    row: ActionRow,
    draft: Draft,
    about: VerdictAbout,
    now: Micros,
    session: Option<InSession>,
    charge: Reserved,
}

/// An action that counts in its session's memory until the state has it.
pub(crate) struct InSession {
    shared: Arc<Shared>,
    name: String,
    before: u64,
}

impl Drop for InSession {
    fn drop(&mut self) {
        self.shared.live.leave_session(&self.name);
    }
}

/// What an approve takes from a grant, until the outbox has it.
pub(crate) struct Reserved {
    shared: Arc<Shared>,
    charge: Option<Charge>,
}

impl Reserved {
    pub(crate) fn new(shared: &Arc<Shared>, charge: Option<Charge>) -> Self {
        Self { shared: Arc::clone(shared), charge }
    }

    /// What is reserved.
    pub(crate) fn charge(&self) -> Option<Charge> {
        self.charge.clone()
    }

    /// The outbox has it now.
    pub(crate) fn keep(mut self) {
        self.charge = None;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(charge) = &self.charge {
            self.shared.live.release(charge, false);
        }
    }
}

/// What an approve of this decision takes from the grant that its intent names.
pub(crate) fn charge_of(intent: &Intent, decision: &Decision, mode: &str) -> Option<Charge> {
    if decision.outcome != Outcome::Approve || mode != "enforce" {
        return None;
    }
    Some(Charge {
        grant: intent.grant()?.to_owned(),
        amount: decision.amount.map_or(0, |amount| amount.0),
        // GRT-4: what does not say how many touches one.
        count: decision.count.unwrap_or(1),
    })
}

impl GateCore {
    /// Puts the attempt on record before it is judged, where that is asked for. The nonce of the
    /// action's records, or why it is refused.
    pub(crate) async fn intent_first(
        &self,
        asked: &Asked,
        deadline: Instant,
    ) -> Result<Result<[u8; 16], GateCode>, StateError> {
        let shared = &self.shared;
        let nonce = shared.host.random();
        if !shared.settings.intent_first || asked.fault.is_some() {
            return Ok(Ok(nonce));
        }
        let stamp = Stamp { recorded_at: shared.host.now(), nonce };
        let json = intent_json(&asked.intent, &asked.action_id);
        let Ok(draft) = shared.identity.draft(Kind::Intent, &json, Vec::new(), &stamp) else {
            // What is wrong with it is said by the verdict, which is drafted from the same values.
            return Ok(Ok(nonce));
        };
        let row = outbox_row(&draft, About::Intent);
        let Some(stub) = self.enqueue(row, Room::Caller(shared.settings.outbox_max)).await? else {
            return Ok(Err(GateCode::OutboxFull));
        };
        match stub.fate(deadline).await {
            Some(Fate::Logged(_)) => Ok(Ok(nonce)),
            _ => Ok(Err(GateCode::EvidenceUnavailable)),
        }
    }

    /// Puts a record into the outbox, durably, and gives what waits for it; none where it is full.
    pub(crate) async fn enqueue(
        &self,
        row: super::rows::OutboxRow,
        room: Room,
    ) -> Result<Option<Stub>, StateError> {
        let shared = Arc::clone(&self.shared);
        let (ticket, stub) = ticket();
        let write = move |tx: &redb::WriteTransaction| {
            let number = tables::enqueue(tx, &row, room)?;
            if let Some(number) = number {
                shared.tickets.insert(number, ticket);
            }
            Ok(number.is_some())
        };
        let taken = self.shared.state.write(write).await?;
        self.shared.work.notify_one();
        Ok(taken.then_some(stub))
    }

    /// Judges an intent, and reserves what an approve takes from a grant.
    pub(crate) fn judge(&self, asked: &Asked, nonce: [u8; 16]) -> Result<Judged, StateError> {
        let shared = &self.shared;
        let (now, clock) = shared.live.tick(&*shared.host);
        let mode = shared.live.mode();
        let session = asked.intent.session().map(|name| {
            let before = shared.live.enter_session(&shared.state, name)?;
            let (shared, name) = (Arc::clone(shared), name.to_owned());
            Ok::<_, StateError>(InSession { shared, name, before })
        });
        let session = session.transpose()?;
        let before = session.as_ref().map_or(0, |session| session.before);
        let ready = match (&asked.fault, clock) {
            _ if shared.live.is_halted(&asked.intent) => Err(Reason::gate(GateCode::Halted)),
            (Some(fault), _) => Err(fault.clone()),
            (None, Err(code)) => Err(Reason::gate(code)),
            (None, Ok(())) => {
                let policy = shared.live.policy();
                policy.and_then(|p| Ok((p, shared.live.directory()?))).map_err(Reason::gate)
            }
        };
        let (decision, charge, policy) = match ready {
            Err(reason) => (Decision::refuse_for(reason), None, shared.live.policy().ok()),
            Ok((policy, directory)) => {
                let facts = Facts {
                    now,
                    directory: &directory,
                    halts: &shared.live.halts(),
                    grant: None,
                    session_actions: before,
                    emergency: self.is_emergency(now),
                    approvals: &[],
                };
                let (decision, charge) = self.decide(&policy, &asked.intent, &facts, &mode)?;
                (decision, charge, Some(policy))
            }
        };
        let reserved = Reserved::new(shared, charge);
        self.build(asked, decision, nonce, now, &mode, policy.as_deref(), session, reserved)
    }

    /// Decides with the grant that an intent names, and reserves what an approve takes from it.
    pub(crate) fn decide(
        &self,
        loaded: &Loaded,
        intent: &Intent,
        facts: &Facts<'_>,
        mode: &str,
    ) -> Result<(Decision, Option<Charge>), StateError> {
        let Some(id) = intent.grant() else {
            return Ok((decide(&loaded.policy, intent, facts), None));
        };
        let shared = &self.shared;
        shared.live.with_grant(&shared.state, id, |held| {
            let grant = held.map(|(terms, used)| GrantHeld { id, terms, used });
            let decision = decide(&loaded.policy, intent, &Facts { grant, ..*facts });
            let charge = held.and_then(|_| charge_of(intent, &decision, mode));
            ((decision, charge.clone()), charge)
        })
    }

    pub(crate) fn is_emergency(&self, now: Micros) -> bool {
        self.shared.live.emergency().is_some_and(|open| now.0 < open.until)
    }

    /// A refusal that nothing was decided for.
    pub(crate) fn judged(
        &self,
        asked: &Asked,
        decision: Decision,
        nonce: [u8; 16],
    ) -> Result<Judged, StateError> {
        let shared = &self.shared;
        let (now, _) = shared.live.tick(&*shared.host);
        let mode = shared.live.mode();
        let reserved = Reserved::new(shared, None);
        self.build(asked, decision, nonce, now, &mode, None, None, reserved)
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one value, put together once")]
    fn build(
        &self,
        asked: &Asked,
        decision: Decision,
        nonce: [u8; 16],
        now: Micros,
        mode: &str,
        policy: Option<&Loaded>,
        session: Option<InSession>,
        mut charge: Reserved,
    ) -> Result<Judged, StateError> {
        let mut drafted = First::new(self, asked, decision, nonce, now, mode, policy);
        let draft = match drafted.draft(&self.shared) {
            Ok(draft) => draft,
            Err(error) => {
                // Too large for a record, or not to be put into one: then it isn't let through, and
                // the record says so without it.
                tracing::debug!(%error, "an intent does not fit into a record");
                drafted.strip(&error);
                charge = Reserved::new(&self.shared, None);
                drafted.draft(&self.shared).map_err(|error| {
                    tracing::error!(%error, "a refusal does not fit into a record");
                    StateError::Draft
                })?
            }
        };
        let digest = draft.value("action_digest").map(|text| text.trim_matches('"'));
        let digest: Hash = digest.and_then(from_hex_array).unwrap_or([0; 32]);
        let First { intent, decision, said, .. } = drafted;
        let then = match (mode, decision.outcome) {
            ("enforce", Outcome::Approve) => ActionState::Approved,
            ("enforce", Outcome::Supervise) => ActionState::Waiting,
            (_, Outcome::Refuse) => ActionState::Refused,
            _ => ActionState::Observed,
        };
        let row = ActionRow {
            caller: asked.caller.clone(),
            audience: asked.audience.clone(),
            asked: asked.digest.clone(),
            intent: intent.to_json(),
            mode: mode.to_owned(),
            nonce: hex(&nonce),
            digest: hex(&digest),
            state: ActionState::Judged,
            said: said.clone(),
            supervise: None,
            approvals: Vec::new(),
            outcomes: Vec::new(),
        };
        let about = VerdictAbout {
            action_id: asked.action_id.clone(),
            at: now.0,
            part: Part::First,
            then,
            said: said.clone(),
            charge: charge.charge.clone(),
            policy: policy.map(|loaded| hex(&loaded.name.digest)),
        };
        let mode = mode.to_owned();
        Ok(Judged { said, digest, mode, row, draft, about, now, session, charge })
    }

    /// Puts a first verdict and its action into the outbox by one write; where that is full, it is
    /// counted by the same write.
    pub(crate) async fn enqueue_first(&self, judged: Judged) -> Result<Enqueued, StateError> {
        let shared = Arc::clone(&self.shared);
        let (ticket, stub) = ticket();
        let Judged { row, draft, about, now, session, charge, .. } = judged;
        let id = about.action_id.clone();
        let outbox = outbox_row(&draft, About::Verdict(about));
        let name = session.as_ref().map(|session| session.name.clone());
        let (max, permits_max) = (shared.settings.outbox_max, shared.settings.permits_max);
        let write = move |tx: &redb::WriteTransaction| {
            let last = tables::last_time(tx)?.unwrap_or(0).max(now.0);
            tables::put_last_time(tx, Some(&last))?;
            if let Some(name) = &name {
                tables::count_session(tx, name, now.0)?;
            }
            if row.said.permit.is_some() && tables::open_permits(tx)? >= permits_max {
                return Ok(Enqueued::NoPermit);
            }
            let Some(number) = tables::enqueue(tx, &outbox, Room::Caller(max))? else {
                let silence = tables::silence(tx)?;
                let first = SilenceRow { refused: 0, from: now.0, to: now.0 };
                let before = silence.unwrap_or(first);
                let (refused, to) = (before.refused.saturating_add(1), now.0.max(before.to));
                tables::put_silence(tx, Some(&SilenceRow { refused, to, ..before }))?;
                return Ok(Enqueued::NoRoom);
            };
            shared.tickets.insert(number, ticket);
            tables::put_action(tx, &id, &row)?;
            Ok(Enqueued::There(stub))
        };
        let enqueued = self.shared.state.write(write).await?;
        drop(session);
        if matches!(enqueued, Enqueued::There(_)) {
            charge.keep();
            self.shared.work.notify_one();
        }
        Ok(enqueued)
    }
}

/// The making of a first verdict's record.
struct First<'a> {
    asked: &'a Asked,
    intent: Intent,
    decision: Decision,
    said: SaidRow,
    nonce: [u8; 16],
    now: Micros,
    mode: &'a str,
    policy: Option<&'a Loaded>,
}

impl<'a> First<'a> {
    fn new(
        core: &GateCore,
        asked: &'a Asked,
        decision: Decision,
        nonce: [u8; 16],
        now: Micros,
        mode: &'a str,
        policy: Option<&'a Loaded>,
    ) -> Self {
        let settings = &core.shared.settings;
        let ttl = settings.permit_ttl_s.saturating_mul(1_000_000);
        let permit =
            (decision.outcome == Outcome::Approve && mode == "enforce").then(|| PermitRow {
                id: hex(&core.shared.host.random()),
                audience: asked.audience.clone(),
                nonce: hex(&nonce),
                not_after: now.0.saturating_add(ttl),
            });
        let requires = decision.requires.as_ref().map(|requires| RequiresRow {
            approvals: requires.approvals,
            roles: requires.roles.iter().cloned().collect(),
            expires_at: now.0.saturating_add(requires.ttl_us),
        });
        let said = SaidRow {
            outcome: decision.outcome.as_str().to_owned(),
            reasons: reasons_of(&decision),
            permit,
            requires,
            logged: None,
        };
        let intent = asked.intent.settled(&decision);
        Self { asked, intent, decision, said, nonce, now, mode, policy }
    }

    fn draft(&self, shared: &Shared) -> Result<Draft, DraftError> {
        let sealing = Sealing {
            action_id: &self.asked.action_id,
            mode: self.mode,
            evaluated_at: self.now,
            policy: self.policy.map(|loaded| loaded.name.clone()),
            parent: None,
            approvals: &[],
            permit: self.said.permit.as_ref().map(permit_said),
            expires_at: self.said.requires.as_ref().map(|requires| Micros(requires.expires_at)),
        };
        shared.verdict(&self.intent, &self.decision, &sealing, self.nonce)
    }

    /// Makes it a refusal that names what was asked, and leaves out what does not fit.
    fn strip(&mut self, error: &DraftError) {
        // What the gate refused before any policy was asked keeps its own code.
        if self.decision.outcome != Outcome::Refuse || self.decision.context.is_some() {
            let reason = Reason::because(GateCode::InputInvalid, error.to_string());
            self.decision = Decision::refuse_for(reason);
        }
        let short = |text: &str| text.chars().take(256).collect::<String>();
        let actor = self.intent.actor();
        let bare = json!({
            "verb": short(self.intent.verb()),
            "actor": actor.map(|a| json!({ "kind": a.kind.as_str(), "id": short(&a.id) })),
        });
        self.intent = Intent::salvage(&bare.to_string());
        self.said = super::closing::said_refuse(&self.decision);
    }
}

/// A permit as its record names it.
pub(crate) fn permit_said(row: &PermitRow) -> PermitSaid {
    let (id, audience) = (row.id.clone(), row.audience.clone());
    PermitSaid { id, audience, not_after: Micros(row.not_after) }
}
