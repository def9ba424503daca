//! Supervised actions: people's answers, the decision that follows, and the end of their time.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_client::Draft;
use countersign_core::cert::{Role, SpiffeId};
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, b64, from_hex_array, hex};
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_gate::{
    Answer, Approval, Approver, Asked, Counted, Decision, Directory, Facts, GateCode, Outcome,
    Sealing, check_approval,
};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use tokio::time::Instant;

use super::closing::said_refuse;
use super::core::{GateCore, Reply};
use super::judge::{Reserved, permit_said};
use super::live::Loaded;
use super::people::{chain_of, check_person};
use super::rows::{
    About, ActionRow, ActionState, ApprovalRow, LoggedRow, Part, PermitRow, SaidRow, SuperviseRow,
    VerdictAbout,
};
use super::shared::{intent_of, nonce_of, outbox_row, reasons_of, root_of};
use super::state::StateError;
use super::tables::{self, Room};
use super::ticket::{Fate, Stub, ticket};

/// Bytes of the JSON of an approval.
const APPROVAL_BYTES_MAX: usize = 16 * 1024;

/// An answer by the person who calls, whether or not it counts: its draft, the person's key and
/// roles, and when it was looked at.
struct Signed {
    draft: Draft,
    key: [u8; 32],
    roles: BTreeSet<String>,
    directory: Arc<Directory>,
    now: Micros,
}

/// What follows from the answers so far.
enum Next {
    /// More are needed, or it can't be decided now.
    Wait,
    Answer(Box<Answering>),
}

/// The answer to a supervise.
struct Answering {
    decision: Decision,
    then: ActionState,
    approvals: Vec<RecordRoot>,
    /// What it was decided under.
    policy: Option<Arc<Loaded>>,
    reserved: Option<Reserved>,
}

impl Answering {
    fn refuse(decision: Decision, then: ActionState, policy: Option<Arc<Loaded>>) -> Next {
        let approvals = Vec::new();
        Next::Answer(Box::new(Self { decision, then, approvals, policy, reserved: None }))
    }
}

impl GateCore {
    /// Takes one person's signed answer, under their own certificate's name. Errors: those of
    /// `GateService.Approve`.
    pub async fn approve(
        &self,
        caller: &SpiffeId,
        approval: &str,
        chain: &[impl AsRef<[u8]>],
    ) -> Result<v1::ApproveResponse, Refusal> {
        self.shared.check_running()?;
        if approval.len() > APPROVAL_BYTES_MAX {
            return Err(Code::RequestMalformed.at_field("approval").into());
        }
        let approval = Approval::parse(approval).map_err(Refusal::from)?;
        let chain = chain_of(chain)?;
        let core = self.clone();
        let caller = caller.clone();
        // A task of its own: see `evaluate`.
        let taken = tokio::spawn(async move { core.take(&caller, &approval, chain).await });
        taken.await.unwrap_or_else(|error| {
            tracing::error!(%error, "an approval ended without an answer");
            Err(Refusal::from(Code::Internal))
        })
    }

    async fn take(
        &self,
        caller: &SpiffeId,
        approval: &Approval,
        chain: Vec<countersign_core::cert::Certificate>,
    ) -> Result<v1::ApproveResponse, Refusal> {
        let deadline = Instant::now() + self.shared.settings.answer_timeout();
        let id = approval.action_id.as_str();
        let unavailable = || Refusal::from(Code::EvidenceUnavailable);
        let _turn = self.turn(id, deadline).await.ok_or_else(unavailable)?;
        let row = self.action(id)?.ok_or_else(|| Refusal::from(Code::NotFound))?;
        // Who calls comes first: not even what was answered before is told to somebody else.
        let signed = self.signed(caller, approval, chain)?;
        let evidence = if let Some(earlier) = earlier(&row, approval) {
            earlier.evidence
        } else {
            let counted = self.checked(approval, &signed, &row)?;
            // One that was not heard of in time may still be logged, and counts then; the same
            // answer again is answered with it.
            let about = About::Approval { action_id: id.to_owned(), approval: counted };
            self.log(outbox_row(&signed.draft, about), deadline).await?.evidence
        };
        self.resolve(id, deadline).await.map_err(failed)?;
        let row = self.action(id)?.ok_or_else(|| Refusal::from(Code::NotFound))?;
        Ok(answered(id, &row, evidence))
    }

    pub(crate) fn action(&self, id: &str) -> Result<Option<ActionRow>, Refusal> {
        self.shared.state.read(|tx| tables::action(tx, id)).map_err(failed)
    }

    /// An answer that the caller signed, with the key that their chain certifies now.
    fn signed(
        &self,
        caller: &SpiffeId,
        approval: &Approval,
        chain: Vec<countersign_core::cert::Certificate>,
    ) -> Result<Signed, Refusal> {
        let shared = &self.shared;
        let (now, clock) = shared.live.tick(&*shared.host);
        clock.map_err(gate_refusal)?;
        if approval.person != caller.name() {
            return Err(Code::PersonCertificate.at_field("approver").into());
        }
        let directory = shared.live.directory().map_err(gate_refusal)?;
        let roles = directory.roles(&approval.person).cloned().unwrap_or_default();
        let json = approval.record_json(&roles);
        let stamp = countersign_client::Stamp { recorded_at: now, nonce: [0; 16] };
        let draft = shared.identity.draft(Kind::Approval, &json, chain, &stamp);
        let draft = draft.map_err(|error| drafted(&error))?;
        let key = check_person(shared, &draft, caller, &[Role::Approver], "approver", now)
            .map_err(Refusal::from)?;
        Ok(Signed { draft, key, roles, directory, now })
    }

    /// Whether an answer counts (APR-2), and as what it is kept.
    fn checked(
        &self,
        approval: &Approval,
        signed: &Signed,
        row: &ActionRow,
    ) -> Result<ApprovalRow, Refusal> {
        let shared = &self.shared;
        let supervise = row.supervise.as_ref().filter(|_| row.state == ActionState::Waiting);
        let supervise = supervise.ok_or_else(|| gate_refusal(GateCode::NotSupervised))?;
        let (record, root) = supervised(supervise)?;
        let policy = shared.live.policy().map_err(gate_refusal)?;
        let earlier: Vec<Counted> = row.approvals.iter().filter_map(counted).collect();
        let asked = Asked { supervise: record.view(), root, earlier: &earlier };
        let facts = Facts {
            now: signed.now,
            directory: &signed.directory,
            halts: &shared.live.halts(),
            grant: None,
            session_actions: 0,
            emergency: self.is_emergency(signed.now),
            approvals: &[],
        };
        let (person, key) = (approval.person.as_str(), &signed.key);
        check_approval(&policy.policy, &intent_of(row), &asked, approval, person, key, &facts)
            .map_err(gate_refusal)?;
        Ok(ApprovalRow {
            person: approval.person.clone(),
            roles: signed.roles.iter().cloned().collect(),
            key: hex(key),
            nonce: hex(&approval.nonce),
            signature: b64(&approval.signature),
            denies: approval.decision == Answer::Deny,
            not_after: approval.not_after.0,
            logged: None,
        })
    }

    /// Gets a record into the log, for a caller who is told what became of it.
    pub(crate) async fn log(
        &self,
        row: super::rows::OutboxRow,
        deadline: Instant,
    ) -> Result<LoggedRow, Refusal> {
        let room = Room::Caller(self.shared.settings.outbox_max);
        let stub = self.enqueue(row, room).await.map_err(failed)?;
        let stub = stub.ok_or_else(|| Refusal::from(Code::EvidenceUnavailable))?;
        match stub.fate(deadline).await {
            Some(Fate::Logged(at)) => Ok(at),
            Some(Fate::Rejected(code)) => Err(Refusal::from(code)),
            None => Err(Refusal::from(Code::EvidenceUnavailable)),
        }
    }

    /// Looks at a supervised action again, and logs what follows. Whoever calls has the action's
    /// turn.
    pub(crate) async fn resolve(&self, id: &str, deadline: Instant) -> Result<(), StateError> {
        let Some(row) = self.shared.state.read(|tx| tables::action(tx, id))? else { return Ok(()) };
        let Some(supervise) = row.supervise.as_ref().filter(|_| row.state == ActionState::Waiting)
        else {
            return Ok(());
        };
        let (now, clock) = self.shared.live.tick(&*self.shared.host);
        // With a clock that stepped back nothing can be said to be in time, nor to be late.
        if clock.is_err() {
            return Ok(());
        }
        let stub = match self.next(&row, supervise, now)? {
            Next::Wait => return Ok(()),
            Next::Answer(answering) => self.enqueue_final(id, &row, *answering, now).await?,
        };
        if let Some(stub) = stub {
            // Whether it is heard of in time changes nothing: no permit leaves before it is closed.
            let _ = stub.fate(deadline).await;
        }
        Ok(())
    }

    fn next(
        &self,
        row: &ActionRow,
        supervise: &SuperviseRow,
        now: Micros,
    ) -> Result<Next, StateError> {
        let live = &self.shared.live;
        // APR-4.
        if row.approvals.iter().any(|each| each.denies) {
            let decision = Decision::refuse(GateCode::SupervisionDenied);
            return Ok(Answering::refuse(decision, ActionState::Denied, live.policy().ok()));
        }
        if now.0 > supervise.requires.expires_at {
            let decision = Decision::refuse(GateCode::SupervisionExpired);
            return Ok(Answering::refuse(decision, ActionState::Expired, live.policy().ok()));
        }
        let usable: Vec<&ApprovalRow> =
            row.approvals.iter().filter(|each| now.0 <= each.not_after).collect();
        if usable.is_empty() {
            return Ok(Next::Wait);
        }
        let intent = intent_of(row);
        // What can't be read now may be mended while there is time; nothing is approved by it.
        let (Ok(policy), Ok(directory)) = (live.policy(), live.directory()) else {
            return Ok(Next::Wait);
        };
        // APR-3: by the policy, the time and the directory of now.
        let people: Vec<Approver> =
            usable.iter().map(|each| Approver { id: each.person.clone() }).collect();
        let facts = Facts {
            now,
            directory: &directory,
            halts: &live.halts(),
            grant: None,
            session_actions: self.session_actions(&intent)?,
            emergency: self.is_emergency(now),
            approvals: &people,
        };
        let (decision, charge) = self.decide(&policy, &intent, &facts, &row.mode)?;
        let reserved = Reserved::new(&self.shared, charge);
        Ok(match decision.outcome {
            Outcome::Refuse => Answering::refuse(decision, ActionState::Refused, Some(policy)),
            // What the supervise said that it requires is required of its approve (LIFE-7), whatever
            // the policy of now would take.
            Outcome::Approve if suffices(supervise, &usable) => {
                let logged = usable.iter().filter_map(|each| each.logged.as_ref());
                let approvals = logged.filter_map(|at| root_of(&at.root)).collect();
                let (then, policy) = (ActionState::Approved, Some(policy));
                let reserved = Some(reserved);
                Next::Answer(Box::new(Answering { decision, then, approvals, policy, reserved }))
            }
            _ => Next::Wait,
        })
    }

    /// How many actions the session had asked for, this one not counted.
    fn session_actions(&self, intent: &countersign_gate::Intent) -> Result<u64, StateError> {
        let Some(name) = intent.session() else { return Ok(0) };
        let row = self.shared.state.read(|tx| tables::session(tx, name))?;
        Ok(row.map_or(0, |row| row.actions.saturating_sub(1)))
    }

    /// Puts the answer to a supervise into the outbox; the action is decided then, and no second
    /// answer is made while this one's fate is open.
    async fn enqueue_final(
        &self,
        id: &str,
        row: &ActionRow,
        answering: Answering,
        now: Micros,
    ) -> Result<Option<Stub>, StateError> {
        let Answering { decision, then, approvals, policy, reserved } = answering;
        let shared = &self.shared;
        let intent = intent_of(row);
        let permit = (decision.outcome == Outcome::Approve).then(|| PermitRow {
            id: hex(&shared.host.random()),
            audience: row.audience.clone(),
            nonce: row.nonce.clone(),
            not_after: now.0.saturating_add(shared.settings.permit_ttl_s.saturating_mul(1_000_000)),
        });
        let parent = row.supervise.as_ref().and_then(|at| root_of(&at.logged.root));
        let sealing = Sealing {
            action_id: id,
            mode: &row.mode,
            evaluated_at: now,
            policy: policy.as_ref().map(|loaded| loaded.name.clone()),
            parent,
            approvals: &approvals,
            permit: permit.as_ref().map(permit_said),
            expires_at: None,
        };
        let draft = match shared.verdict(&intent, &decision, &sealing, nonce_of(row)) {
            Ok(draft) if digest_in(&draft).as_deref() == Some(row.digest.as_str()) => draft,
            // The resource is another than the one that people approved.
            Ok(_) => {
                tracing::error!(action_id = id, "the action's digest has changed: not approved");
                return Ok(None);
            }
            Err(error) => {
                tracing::error!(%error, action_id = id, "a final verdict can't be drafted");
                return Ok(None);
            }
        };
        let said = SaidRow {
            outcome: decision.outcome.as_str().to_owned(),
            reasons: reasons_of(&decision),
            permit,
            requires: None,
            logged: None,
        };
        let about = VerdictAbout {
            action_id: id.to_owned(),
            at: now.0,
            part: Part::Final,
            then,
            said,
            charge: reserved.as_ref().and_then(Reserved::charge),
            policy: policy.map(|loaded| hex(&loaded.name.digest)),
        };
        let has_permit = about.said.permit.is_some();
        let outbox = outbox_row(&draft, About::Verdict(about));
        let (ticket, stub) = ticket();
        let (for_write, id) = (Arc::clone(shared), id.to_owned());
        let room = Room::Own(shared.settings.outbox_max);
        let write = move |tx: &redb::WriteTransaction| {
            let Some(mut action) = tables::action(tx, &id)? else { return Ok(false) };
            if has_permit && tables::open_permits(tx)? >= for_write.settings.permits_max {
                // It waits on, and is decided again when somebody answers or its time is over.
                tracing::error!(action_id = id, "as many permits are out as may be: not approved");
                return Ok(false);
            }
            let Some(number) = tables::enqueue(tx, &outbox, room)? else { return Ok(false) };
            for_write.tickets.insert(number, ticket);
            action.state = ActionState::Deciding;
            tables::put_action(tx, &id, &action)?;
            let last = tables::last_time(tx)?.unwrap_or(0).max(now.0);
            tables::put_last_time(tx, Some(&last))?;
            Ok(true)
        };
        let taken = shared.state.write(write).await?;
        if !taken {
            return Ok(None);
        }
        if let Some(reserved) = reserved {
            reserved.keep();
        }
        shared.work.notify_one();
        Ok(Some(stub))
    }
}

/// The very same answer, taken before: its caller did not hear of it.
fn earlier(row: &ActionRow, approval: &Approval) -> Option<LoggedRow> {
    let signature = b64(&approval.signature);
    let same =
        |each: &&ApprovalRow| each.signature == signature && each.nonce == hex(&approval.nonce);
    row.approvals.iter().find(same)?.logged.clone()
}

/// Number and roles as the supervise says (LIFE-7).
fn suffices(supervise: &SuperviseRow, approvals: &[&ApprovalRow]) -> bool {
    let held: BTreeSet<&String> = approvals.iter().flat_map(|each| &each.roles).collect();
    approvals.len() >= supervise.requires.approvals as usize
        && supervise.requires.roles.iter().all(|role| held.contains(role))
}

/// The supervise as a record, with its root.
fn supervised(row: &SuperviseRow) -> Result<(FullRecord, RecordRoot), Refusal> {
    let broken = || Refusal::from(Code::Internal);
    let seed = from_hex_array(&row.seed).ok_or_else(broken)?;
    let record = FullRecord::parse(Kind::Verdict, seed, row.values.clone());
    let root = root_of(&row.logged.root).ok_or_else(broken)?;
    Ok((record.map_err(Refusal::from)?, root))
}

fn counted(row: &ApprovalRow) -> Option<Counted> {
    let person = row.person.clone();
    Some(Counted { person, key: from_hex_array(&row.key)?, nonce: from_hex_array(&row.nonce)? })
}

fn digest_in(draft: &Draft) -> Option<String> {
    Some(draft.value("action_digest")?.trim_matches('"').to_owned())
}

/// A fault of an approval as the wire has it: both registries spell these codes alike. A code that
/// the wire's does not have is in the message.
pub(crate) fn gate_refusal(code: GateCode) -> Refusal {
    match Code::from_text(code.as_str()) {
        Some(known) => Refusal::new(known, format!("{} {}", code.what(), code.remedy())),
        None => Refusal::new(Code::EvidenceUnavailable, code.to_string()),
    }
}

/// What can't be drafted, as the wire has it.
pub(crate) fn drafted(error: &countersign_client::DraftError) -> Refusal {
    match error {
        countersign_client::DraftError::Fault(fault) => Refusal::from(*fault),
        _ => Refusal::from(Fault::from(Code::RequestMalformed)),
    }
}

/// The gate's own state failed: nothing can be promised.
#[allow(clippy::needless_pass_by_value, reason = "it ends the error's way")]
pub(crate) fn failed(error: StateError) -> Refusal {
    tracing::error!(%error, "a call failed");
    Refusal::from(Code::EvidenceUnavailable)
}

fn answered(id: &str, row: &ActionRow, approval_evidence: String) -> v1::ApproveResponse {
    let needed = row.supervise.as_ref().map_or(0, |supervise| supervise.requires.approvals);
    let granted = row.approvals.iter().filter(|each| !each.denies).count();
    let state = match row.state {
        ActionState::Approved | ActionState::Executed => "approved",
        ActionState::Denied => "denied",
        ActionState::Waiting | ActionState::Deciding => "waiting",
        _ => "refused",
    };
    // The permit is the enforcement point's, not the approver's; and what was approved and is being
    // taken back is no approve.
    let verdict = (state != "waiting").then(|| {
        let said = match row.state {
            ActionState::Voiding => said_refuse(&Decision::refuse(GateCode::EvidenceUnavailable)),
            _ => SaidRow { permit: None, ..row.said.clone() },
        };
        let (action_id, mode) = (id.to_owned(), row.mode.clone());
        Reply { action_id, digest: from_hex_array(&row.digest), mode, said }.to_wire()
    });
    v1::ApproveResponse {
        approval_evidence,
        state: state.to_owned(),
        approvals: u32::try_from(granted).unwrap_or(u32::MAX),
        needed,
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A refusal is printed as its code and its message; the code once stood in both. One that the
    // wire's registry does not have stands in the message alone.
    #[test]
    fn a_refusal_says_its_code_once() {
        for code in [GateCode::GrantLate, GateCode::ApprovalSamePerson, GateCode::PolicyMissing] {
            let said = gate_refusal(code).to_string();
            assert_eq!(said.matches(code.as_str()).count(), 1, "{said}");
            assert!(said.contains(code.what()) && said.contains(code.remedy()), "{said}");
        }
    }
}
