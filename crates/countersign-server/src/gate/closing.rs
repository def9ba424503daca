//! What a record's being in the log leads to: in one write with its leaving the outbox, so that
//! both are durable or neither is.

use countersign_client::{EvidenceItem, LoggedRecord};
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, hex};
use countersign_core::evidence::Evidence;
use countersign_gate::{Decision, GateCode, Outcome, Reason};
use redb::WriteTransaction;
use serde_json::json;

use super::live::{self, Loaded};
use super::outcome;
use super::rows::{
    About, ActionRow, ActionState, ApprovalRow, Change, Charge, EmergencyRow, GrantRow, LoggedRow,
    OutboxRow, OutcomeRow, Part, PolicyRow, SaidRow, Signal, SuperviseRow, VerdictAbout,
};
use super::shared::{Shared, intent_of, outbox_row, reasons_of, root_of};
use super::state::StateError;
use super::tables::{self, Room};

/// The verb whose approve opens an emergency.
pub(crate) const EMERGENCY_VERB: &str = "gate:emergency";
/// Why an approve is taken back that was decided under a policy which another one had replaced when
/// the log took it.
pub(crate) const POLICY_CHANGED: &str = "POLICY_CHANGED";
/// Microseconds of a minute.
const MINUTE_US: u64 = 60_000_000;

/// What memory must learn once the write is durable.
#[derive(Debug)]
pub(crate) enum Effect {
    /// A reservation has ended: spent, or given back.
    Released { charge: Charge, spent: bool },
    /// Halts, mode or emergency are others.
    Reload,
    /// A supervision is to be looked at again.
    Poke(String),
    /// There is a newer signal.
    Signal(u64),
    /// Something was put into the outbox.
    Work,
}

/// A record of the outbox that is in the log: where, and as evidence.
pub(crate) struct Logged<'a> {
    pub(crate) number: u64,
    pub(crate) row: &'a OutboxRow,
    pub(crate) evidence: Evidence,
    pub(crate) index: u64,
    /// The ledger's time of the entry.
    pub(crate) at: Micros,
    pub(crate) root: String,
    pub(crate) seed: String,
    pub(crate) values: Vec<String>,
}

impl<'a> Logged<'a> {
    /// What the client has proven of it.
    pub(crate) fn of(
        shared: &Shared,
        number: u64,
        row: &'a OutboxRow,
        record: &LoggedRecord,
    ) -> Result<Self, Fault> {
        let full = record.record().ok_or(Code::AnswerMismatch)?;
        Ok(Self {
            number,
            row,
            evidence: record.evidence(&shared.chain_pem)?,
            index: record.index().0,
            at: record.entry().logged_at,
            root: full.root().hex(),
            seed: hex(full.seed()),
            values: full.values().to_vec(),
        })
    }

    /// What the ledger's evidence has proven of a record that this process did not send. None where
    /// the file is of another record.
    pub(crate) fn found(number: u64, row: &'a OutboxRow, item: &EvidenceItem) -> Option<Self> {
        let place = row.place.as_ref()?;
        let (root, entry) = (item.report.facts.root?, item.report.facts.entry?);
        Some(Self {
            number,
            row,
            evidence: Evidence::parse(item.json.as_bytes()).ok()?,
            index: item.index.0,
            at: entry.logged_at,
            root: root.hex(),
            seed: place.seed.clone(),
            values: row.values.clone(),
        })
    }

    /// As rows keep it, resting on these other files.
    fn row(&self, supporting: &[&LoggedRow]) -> LoggedRow {
        let mut evidence = self.evidence.clone();
        let parse = |row: &&LoggedRow| {
            let mut file = Evidence::parse(row.evidence.as_bytes()).ok()?;
            // What supports rests on nothing in its turn (EVID-6).
            file.supporting = Vec::new();
            Some(file)
        };
        evidence.supporting = supporting.iter().filter_map(parse).collect();
        let evidence = String::from_utf8(evidence.to_bytes()).unwrap_or_default();
        LoggedRow { index: self.index, root: self.root.clone(), evidence }
    }
}

/// Takes a record that is in the log out of the outbox, and does what follows from it.
pub(crate) fn close(
    shared: &Shared,
    tx: &WriteTransaction,
    logged: &Logged<'_>,
) -> Result<(LoggedRow, Vec<Effect>), StateError> {
    tables::remove_outbox(tx, logged.number)?;
    let alone = || logged.row(&[]);
    let mut effects = Vec::new();
    let row = match &logged.row.about {
        About::Intent => alone(),
        About::Verdict(about) => verdict(shared, tx, logged, about, &mut effects)?,
        About::Approval { action_id, approval } => {
            let row = alone();
            take_approval(tx, action_id, approval, &row)?;
            effects.push(Effect::Poke(action_id.clone()));
            row
        }
        About::Outcome { action_id, outcome } => {
            let row = alone();
            if let Some(id) = action_id {
                take_outcome(tx, id, outcome, &row)?;
            }
            row
        }
        About::Policy(policy) => {
            let row = alone();
            let policy = PolicyRow { logged: Some(row.clone()), ..policy.clone() };
            tables::put_policy(tx, Some(&policy))?;
            // In force from here on, for what stands behind it in this very write: the record is in
            // the log, and where the write fails the gate is at its end.
            let loaded = Loaded::of(&policy);
            if let Ok(loaded) = &loaded {
                let digest = hex(&loaded.name.digest);
                tables::put_version(tx, &policy.id, &policy.version, &digest)?;
            }
            shared.live.set_policy(loaded);
            row
        }
        About::Grant(grant) => {
            let row = alone();
            tables::put_grant(tx, &GrantRow { logged: Some(row.clone()), ..grant.clone() })?;
            row
        }
        About::Notice(change) => {
            match change {
                Some(Change::Mode(mode)) => tables::put_mode(tx, Some(mode))?,
                Some(Change::Resume(scope)) => tables::set_halt(tx, scope, false)?,
                None => {}
            }
            effects.extend(change.as_ref().map(|_| Effect::Reload));
            alone()
        }
    };
    Ok((row, effects))
}

fn verdict(
    shared: &Shared,
    tx: &WriteTransaction,
    logged: &Logged<'_>,
    about: &VerdictAbout,
    effects: &mut Vec<Effect>,
) -> Result<LoggedRow, StateError> {
    if let Some(charge) = &about.charge {
        // GRT-4: an approve counts, voided or not; one that became a refuse unsent does not.
        let spent = about.said.outcome == Outcome::Approve.as_str();
        if spent && let Some(grant) = tables::grant(tx, &charge.grant)? {
            let used = live::spent(grant.used, charge);
            tables::put_grant(tx, &GrantRow { used, ..grant })?;
        }
        effects.push(Effect::Released { charge: charge.clone(), spent });
    }
    let Some(mut action) = tables::action(tx, &about.action_id)? else {
        return Ok(logged.row(&[]));
    };
    let row = {
        let mut supporting: Vec<&LoggedRow> = Vec::new();
        match (about.part, &action.supervise) {
            (Part::Final, Some(supervise)) => {
                supporting.push(&supervise.logged);
                supporting.extend(action.approvals.iter().filter_map(|each| each.logged.as_ref()));
            }
            (Part::Void, _) => supporting.extend(&action.said.logged),
            _ => {}
        }
        logged.row(&supporting)
    };
    signal(shared, tx, &action, about, logged, effects)?;
    let said = SaidRow { logged: Some(row.clone()), ..about.said.clone() };
    if let (Part::First, Some(requires)) = (about.part, &about.said.requires) {
        let (values, seed) = (logged.values.clone(), logged.seed.clone());
        let (requires, logged) = (requires.clone(), row.clone());
        action.supervise = Some(SuperviseRow { values, seed, requires, logged });
    }
    action.said = said;
    let taken_back = taken_back(shared, logged.number, about, &action);
    let Some(reason) = taken_back else {
        action.state = about.then;
        tables::put_action(tx, &about.action_id, &action)?;
        // Nobody opens one alone, whatever a policy lets pass.
        if about.then == ActionState::Approved && about.part == Part::Final {
            emergency(shared, tx, &action, &row, effects)?;
        }
        return Ok(row);
    };
    void(shared, tx, &about.action_id, &mut action, reason, effects)?;
    Ok(row)
}

/// Why a verdict that is in the log does not stand. What lets something go on stands only as long
/// as nobody has stopped it, and under the policy that is in force when the log takes it; and a
/// first verdict only if it is heard.
fn taken_back(
    shared: &Shared,
    number: u64,
    about: &VerdictAbout,
    action: &ActionRow,
) -> Option<Reason> {
    let approves = about.said.outcome == Outcome::Approve.as_str();
    let may_go_on = match about.part {
        Part::First => about.said.outcome != Outcome::Refuse.as_str(),
        Part::Final => approves,
        Part::Void => false,
    };
    if !may_go_on {
        return None;
    }
    let heard =
        about.part == Part::Final || shared.tickets.of(number).is_some_and(|ticket| ticket.take());
    if shared.live.is_halted(&intent_of(action)) {
        return Some(Reason::gate(GateCode::Halted));
    }
    if !heard {
        return Some(Reason::gate(GateCode::EvidenceUnavailable));
    }
    // A supervise is decided again before anything comes of it (APR-3).
    let now = shared.live.policy().ok().map(|loaded| hex(&loaded.name.digest));
    (approves && about.policy.is_some() && about.policy != now).then(policy_changed)
}

/// The reason of a refuse that takes back what an earlier policy approved.
pub(crate) fn policy_changed() -> Reason {
    Reason {
        policy: None,
        code: POLICY_CHANGED.to_owned(),
        text: Some("another policy came into force before the approve was in the log".to_owned()),
    }
}

/// Takes back an approve that is in the log and that nobody was told of, by a write of its own:
/// somebody pulled the kill switch after it was closed. False where it is no such approve any more.
pub(crate) fn void_untold(
    shared: &Shared,
    tx: &WriteTransaction,
    action_id: &str,
) -> Result<bool, StateError> {
    let Some(mut action) = tables::action(tx, action_id)? else { return Ok(false) };
    if action.state != ActionState::Approved || action.open_permit().is_none() {
        return Ok(false);
    }
    let mut effects = Vec::new();
    void(shared, tx, action_id, &mut action, Reason::gate(GateCode::Halted), &mut effects)?;
    Ok(true)
}

/// Puts the refuse of a verdict that does not stand into the outbox, and the action on its way.
fn void(
    shared: &Shared,
    tx: &WriteTransaction,
    action_id: &str,
    action: &mut ActionRow,
    reason: Reason,
    effects: &mut Vec<Effect>,
) -> Result<(), StateError> {
    action.state = ActionState::Voiding;
    tables::put_action(tx, action_id, action)?;
    let Some(parent) = action.said.logged.clone() else { return Ok(()) };
    let now = shared.host.now();
    let decision = Decision::refuse_for(reason);
    let drafted = root_of(&parent.root)
        .map(|root| shared.child_refuse(action_id, action, &decision, root, now));
    let draft = match drafted {
        Some(Ok(draft)) => draft,
        Some(Err(error)) => {
            tracing::error!(%error, action_id, "a verdict that nobody heard can't be voided");
            return Ok(());
        }
        None => return Ok(()),
    };
    let about = About::Verdict(VerdictAbout {
        action_id: action_id.to_owned(),
        at: now.0,
        part: Part::Void,
        then: match action.said.outcome.as_str() {
            "approve" => ActionState::Voided,
            _ => ActionState::Refused,
        },
        said: said_refuse(&decision),
        charge: None,
        policy: None,
    });
    let room = Room::Own(shared.settings.outbox_max);
    if tables::enqueue(tx, &outbox_row(&draft, about), room)?.is_none() {
        tracing::error!(action_id, "no room in the outbox to void a verdict that nobody heard");
    }
    effects.push(Effect::Work);
    Ok(())
}

/// A refusal as its caller hears it, not yet logged.
pub(crate) fn said_refuse(decision: &Decision) -> SaidRow {
    SaidRow {
        outcome: Outcome::Refuse.as_str().to_owned(),
        reasons: reasons_of(decision),
        permit: None,
        requires: None,
        logged: None,
    }
}

fn signal(
    shared: &Shared,
    tx: &WriteTransaction,
    action: &ActionRow,
    about: &VerdictAbout,
    logged: &Logged<'_>,
    effects: &mut Vec<Effect>,
) -> Result<(), StateError> {
    if about.said.outcome == Outcome::Approve.as_str() {
        return Ok(());
    }
    let signal = Signal {
        index: logged.index,
        action_id: about.action_id.clone(),
        outcome: about.said.outcome.clone(),
        codes: about.said.reasons.iter().map(|reason| reason.code.clone()).collect(),
        gate: shared.identity.gate.clone(),
        tenant: shared.identity.tenant.clone(),
        mode: action.mode.clone(),
        logged_at: logged.at.0,
    };
    tables::put_signal(tx, &signal)?;
    effects.push(Effect::Signal(logged.index));
    Ok(())
}

/// An approved `gate:emergency` opens one, and says so in the log.
fn emergency(
    shared: &Shared,
    tx: &WriteTransaction,
    action: &ActionRow,
    approve: &LoggedRow,
    effects: &mut Vec<Effect>,
) -> Result<(), StateError> {
    let intent = intent_of(action);
    if intent.verb() != EMERGENCY_VERB {
        return Ok(());
    }
    let asked = intent.parameters().and_then(|all| all.get("minutes")?.as_u64()).unwrap_or(0);
    let most = shared.settings.emergency_max_s.saturating_mul(1_000_000);
    let span = asked.saturating_mul(MINUTE_US).min(most);
    let until = Micros(shared.host.now().0.saturating_add(span));
    // One at a time: the log says of each when it ended.
    if let Some(before) = tables::emergency(tx)? {
        let detail = json!({
            "event": "closed", "verdict": before.verdict, "until": Micros(before.until).format(),
            "replaced_by": approve.root,
        });
        own_notice(shared, tx, "break_glass", &detail)?;
    }
    let open = EmergencyRow { verdict: approve.root.clone(), until: until.0 };
    tables::put_emergency(tx, Some(&open))?;
    let detail = json!({ "event": "opened", "verdict": approve.root, "until": until.format() });
    own_notice(shared, tx, "break_glass", &detail)?;
    effects.extend([Effect::Reload, Effect::Work]);
    Ok(())
}

/// Puts a notice of the gate's own into the outbox.
pub(crate) fn own_notice(
    shared: &Shared,
    tx: &WriteTransaction,
    about: &str,
    detail: &serde_json::Value,
) -> Result<(), StateError> {
    match shared.notice(about, detail) {
        Ok(draft) => {
            let row = outbox_row(&draft, About::Notice(None));
            if tables::enqueue(tx, &row, Room::Own(shared.settings.outbox_max))?.is_none() {
                tracing::error!(about, "no room in the outbox for a notice");
            }
        }
        Err(error) => tracing::error!(%error, about, "a notice can't be drafted"),
    }
    Ok(())
}

fn take_approval(
    tx: &WriteTransaction,
    action_id: &str,
    approval: &ApprovalRow,
    logged: &LoggedRow,
) -> Result<(), StateError> {
    let Some(mut action) = tables::action(tx, action_id)? else { return Ok(()) };
    action.approvals.push(ApprovalRow { logged: Some(logged.clone()), ..approval.clone() });
    tables::put_action(tx, action_id, &action)
}

fn take_outcome(
    tx: &WriteTransaction,
    action_id: &str,
    told: &OutcomeRow,
    logged: &LoggedRow,
) -> Result<(), StateError> {
    let Some(mut action) = tables::action(tx, action_id)? else { return Ok(()) };
    let fits = told.matches == "match" || told.matches == "indeterminate";
    let covered = fits && !told.codes.iter().any(|code| code == outcome::LATE);
    action.state = match (action.state, covered, told.result.as_str()) {
        (ActionState::Approved | ActionState::Executed, true, "executed" | "reverted") => {
            ActionState::Executed
        }
        // Nothing happened, or nobody knows: no word of a divergence.
        (state, true, "failed" | "not_executed" | "unknown") => state,
        (state @ (ActionState::Waiting | ActionState::Deciding | ActionState::Voiding), _, _) => {
            state
        }
        (_, _, _) => ActionState::Diverged,
    };
    action.outcomes.push(OutcomeRow { logged: Some(logged.clone()), ..told.clone() });
    tables::put_action(tx, action_id, &action)
}

/// Takes a record that the ledger refused for good out of the outbox.
pub(crate) fn reject(
    shared: &Shared,
    tx: &WriteTransaction,
    number: u64,
    row: &OutboxRow,
    code: Code,
) -> Result<Vec<Effect>, StateError> {
    tables::remove_outbox(tx, number)?;
    let mut effects = Vec::new();
    if let About::Verdict(about) = &row.about {
        let repeated = code == Code::DuplicateVerdict;
        let own = if repeated { GateCode::ActionRepeated } else { GateCode::EvidenceUnavailable };
        effects.extend(drop_verdict(tx, about, own)?);
        // A verdict that the ledger does not take leaves a gap in the story: say so.
        let detail = json!({
            "event": "rejected", "action_id": about.action_id, "outcome": about.said.outcome,
            "code": code.as_str(),
        });
        own_notice(shared, tx, "silence", &detail)?;
        effects.push(Effect::Work);
    }
    Ok(effects)
}

/// An action whose verdict is not logged and will not be is what it was before; a first verdict
/// leaves a refusal with this code, which no log holds.
pub(crate) fn drop_verdict(
    tx: &WriteTransaction,
    about: &VerdictAbout,
    code: GateCode,
) -> Result<Vec<Effect>, StateError> {
    let mut effects = Vec::new();
    if let Some(charge) = &about.charge {
        effects.push(Effect::Released { charge: charge.clone(), spent: false });
    }
    let Some(mut action) = tables::action(tx, &about.action_id)? else { return Ok(effects) };
    match about.part {
        Part::First => {
            action.state = ActionState::Refused;
            action.said = said_refuse(&Decision::refuse(code));
        }
        // People may still answer, or the time run out.
        Part::Final if about.said.outcome == Outcome::Approve.as_str() => {
            action.state = ActionState::Waiting;
        }
        // The approve stands in the log, unheard, and its permit was never released; or the parent
        // was answered by somebody else.
        Part::Final | Part::Void => {
            action.state = about.then;
            action.said = about.said.clone();
        }
    }
    tables::put_action(tx, &about.action_id, &action)?;
    Ok(effects)
}
