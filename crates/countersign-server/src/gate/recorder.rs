//! The recorder: the one owner of the gate's stream, and the way of a record to the log.
//!
//! What follows is meant as a proof that every verdict ends in exactly one way, whatever is killed
//! when. Of each step: what is durable after it, and what a kill there means.
//!
//! 1. **Enqueued.** The record's values stand in the outbox, and its action beside them, by one
//!    write. Nobody has heard anything. *Killed here:* the next process finds the row without a
//!    place. It was never sent, so that it is in the log under no circumstances. A refuse is placed
//!    then; an approve or supervise, whose caller is gone, is made a refuse in its place; a final
//!    approve is dropped, and decided again.
//! 2. **Placed.** The row has its seq and the seed of its salts, and so its root. *Killed here, or
//!    while it is sent, or after the ledger logged it and before we kept that:* its fate is open.
//!    The next process sends the same record again: (stream, seq) with the same root is answered
//!    with the first receipt, so that it is logged once. It keeps its place until an answer came.
//! 3. **Answered.** The client has verified the receipt; nothing of it is kept. A kill here is a
//!    kill after 2.
//! 4. **Closed.** By one write the row is gone, the action has its state and evidence, a grant is
//!    charged, a signal stands; or, where a first verdict that lets something go on is not waited
//!    for any more, its void stands in the outbox. *Killed here:* an approve is in the log and
//!    kept, with its permit, for its caller to ask for again. No permit left before.
//!
//! Only the ledger's own word that it refused a record takes its place away ([`Self::settle`]);
//! no timeout does. LIFE-1 and LIFE-11 stand behind all of it: the ledger takes no second first
//! verdict of an action and no second child of a verdict.

use std::sync::Arc;
use std::time::Duration;

use countersign_client::{Client, ClientError, Draft, Gate, PreparedBatch, RecordOutcome, Retry};
use countersign_core::codes::Code;
use countersign_core::encoding::{from_hex_array, hex};
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_gate::{Decision, GateCode, Intent, Sealing};
use countersign_proto::convert::SubmittedRecord;
use tokio::time::timeout;

use super::closing::{Effect, Logged, close, drop_verdict, reject, said_refuse};
use super::host::{Killed, Step};
use super::live::Loaded;
use super::rows::{About, ActionState, OutboxRow, Part, PlaceRow, VerdictAbout};
use super::shared::{Shared, intent_of, nonce_of, outbox_row, people_of};
use super::state::StateError;
use super::tables;
use super::ticket::Fate;
use crate::drain::Drain;

/// Records that one round takes at most.
const ROUND_MAX: usize = 512;
/// How long one round tries to submit before it looks at the world again.
const SUBMIT_FOR: Duration = Duration::from_secs(1);
/// Before the second attempt to reach a ledger that does not answer, and at most between two.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why a round ended without an answer.
enum Halted {
    /// The host ends the gate here.
    Killed,
    /// The state can't be written any more.
    State(StateError),
    /// The ledger gave none, or none that can be believed.
    Ledger(ClientError),
}

impl From<Killed> for Halted {
    fn from(_: Killed) -> Self {
        Self::Killed
    }
}

impl From<StateError> for Halted {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<ClientError> for Halted {
    fn from(error: ClientError) -> Self {
        Self::Ledger(error)
    }
}

/// Runs until the drain has started and the outbox is empty, or the ledger does not answer then.
pub(crate) async fn run(shared: Arc<Shared>, mut drain: Drain) {
    let mut recorder = Recorder { shared, gate: None };
    let mut wait = WAITS.0;
    loop {
        match recorder.round().await {
            Ok(true) => wait = WAITS.0,
            Ok(false) if drain.has_started() => break,
            Ok(false) => tokio::select! {
                () = recorder.shared.work.notified() => {}
                () = drain.started() => {}
            },
            Err(Halted::Killed) => return,
            Err(Halted::State(error)) => {
                tracing::error!(%error, "nothing is recorded any more");
                recorder.shared.end();
                return;
            }
            Err(Halted::Ledger(error)) => {
                recorder.shared.set_reachable(false);
                tracing::warn!(%error, wait_ms = wait.as_millis(), "the ledger does not answer");
                if drain.has_started() {
                    break;
                }
                // A drain in between is seen by the next round.
                let _ = timeout(wait, drain.started()).await;
                wait = wait.saturating_mul(2).min(WAITS.1);
            }
        }
    }
    recorder.shared.tickets.clear();
}

struct Recorder {
    shared: Arc<Shared>,
    gate: Option<Gate>,
}

impl Recorder {
    /// Takes what stands first in the outbox, if anything does, until its fate is known.
    async fn round(&mut self) -> Result<bool, Halted> {
        if self.shared.state.is_poisoned() {
            return Err(Halted::State(StateError::Poisoned));
        }
        self.connect().await?;
        let rows = self.shared.state.read(|tx| tables::outbox(tx, 0, ROUND_MAX))?;
        if rows.is_empty() {
            return Ok(false);
        }
        self.shared.reached(Step::Enqueued)?;
        let placed = rows.first().is_some_and(|(_, row)| row.place.is_some());
        let sent = if placed { self.again(rows).await? } else { self.place(rows).await? };
        if let Some((rows, batch)) = sent {
            self.submit(rows, &batch).await?;
        }
        Ok(true)
    }

    /// Connects and opens the stream, where that is not done yet.
    async fn connect(&mut self) -> Result<(), Halted> {
        if self.gate.is_none() {
            let shared = &self.shared;
            let client = match shared.client() {
                Some(client) => client,
                None => Client::connect(shared.ledger.clone()).await?,
            };
            shared.set_client(&client);
            let retry = Retry { deadline: SUBMIT_FOR, ..Retry::default() };
            self.gate = Some(Gate::open(client, shared.identity.clone(), retry).await?);
            shared.set_reachable(true);
        }
        Ok(())
    }

    fn gate(&mut self) -> Result<&mut Gate, Halted> {
        // It was opened at the head of the round.
        self.gate.as_mut().ok_or(Halted::State(StateError::Poisoned))
    }

    /// Records that have their places, as they are.
    async fn again(&mut self, rows: Vec<(u64, OutboxRow)>) -> Result<Sent, Halted> {
        let gate = self.gate()?;
        let stream = gate.stream().hex();
        let mut taken: Vec<(u64, OutboxRow)> = Vec::new();
        let mut records = Vec::new();
        let mut next = None;
        for (number, row) in rows {
            let Some(place) = row.place.clone() else { break };
            if place.stream != stream || next.is_some_and(|next| next != place.seq) {
                break;
            }
            next = place.seq.checked_add(1);
            let Some(record) = record_of(&row, &place) else { break };
            records.push(record);
            taken.push((number, row));
        }
        let first = taken.first().and_then(|(_, row)| row.place.as_ref()).map(|place| place.seq);
        let Some(first) = first else {
            // Another stream's, or nothing that this version wrote: the key was changed.
            self.forget_places().await?;
            return Ok(None);
        };
        let batch = gate.seal(first, records)?;
        Ok(Some((taken, batch)))
    }

    /// Gives the first records their places, durably, before anything of them is sent.
    async fn place(&mut self, rows: Vec<(u64, OutboxRow)>) -> Result<Sent, Halted> {
        let shared = Arc::clone(&self.shared);
        let mut fit = Vec::new();
        let mut drafts = Vec::new();
        for (number, row) in rows {
            if row.place.is_some() {
                break;
            }
            match prepared(&shared, number, row) {
                Ready::Record(row, draft) => {
                    fit.push((number, *row));
                    drafts.push(*draft);
                }
                Ready::Dropped(row) => self.drop_row(number, *row).await?,
            }
        }
        let fitting = Gate::fitting(&drafts);
        drafts.truncate(fitting);
        fit.truncate(fitting);
        if drafts.is_empty() {
            return Ok(None);
        }
        let gate = self.gate()?;
        let stream = gate.stream().hex();
        let batch = gate.prepare(&drafts)?;
        for (((_, row), submitted), seq) in
            fit.iter_mut().zip(batch.records()).zip(batch.first_seq()..)
        {
            row.values = submitted.record.values().to_vec();
            let seed = hex(submitted.record.seed());
            row.place = Some(PlaceRow { stream: stream.clone(), seq, seed });
        }
        let rows = fit.clone();
        let write = move |tx: &redb::WriteTransaction| {
            rows.iter().try_for_each(|(number, row)| tables::put_outbox(tx, *number, row))
        };
        shared.state.write(write).await?;
        shared.reached(Step::Placed)?;
        Ok(Some((fit, batch)))
    }

    /// Sends a batch, and settles what the ledger says of it.
    async fn submit(
        &mut self,
        rows: Vec<(u64, OutboxRow)>,
        batch: &Arc<PreparedBatch>,
    ) -> Result<(), Halted> {
        let answer = self.gate()?.submit(batch).await;
        self.shared.reached(Step::Answered)?;
        match answer {
            Ok(outcomes) => {
                self.shared.set_reachable(true);
                self.settle(rows, outcomes).await
            }
            // Refused as a whole, so that nothing of it is in the log: it loses its place, and what
            // is wrong with this gate is tried again with what is left to try.
            Err(ClientError::Refused(refusal)) if !leaves_open(refusal.code) => {
                tracing::error!(%refusal, "the ledger refused a batch");
                self.forget_places().await?;
                self.gate = None;
                Err(Halted::Ledger(ClientError::Refused(refusal)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps what became of each record of a batch, and tells who waits.
    async fn settle(
        &mut self,
        rows: Vec<(u64, OutboxRow)>,
        outcomes: Vec<RecordOutcome>,
    ) -> Result<(), Halted> {
        let shared = Arc::clone(&self.shared);
        let write = move |tx: &redb::WriteTransaction| {
            let mut ended = Vec::with_capacity(rows.len());
            let mut effects = Vec::new();
            let mut not_now = None;
            for ((number, row), outcome) in rows.into_iter().zip(outcomes) {
                match outcome.result {
                    Ok(record) => match Logged::of(&shared, number, &row, &record) {
                        Ok(logged) => {
                            let (at, more) = close(&shared, tx, &logged)?;
                            effects.extend(more);
                            ended.push((number, Fate::Logged(at)));
                        }
                        // What the client verified has evidence; without it the row stays.
                        Err(fault) => tracing::error!(%fault, number, "no evidence of a record"),
                    },
                    // Not looked at, or at a place that another record has: it is not in the log.
                    Err(refusal) if loses_place(refusal.code) => {
                        tables::put_outbox(tx, number, &OutboxRow { place: None, ..row })?;
                    }
                    // Not in the log, and welcome there once a clock or a certificate is mended.
                    Err(refusal) if is_of_moment(refusal.code) => {
                        tables::put_outbox(tx, number, &OutboxRow { place: None, ..row })?;
                        not_now = Some(refusal);
                    }
                    Err(refusal) if leaves_open(refusal.code) => {
                        tracing::error!(%refusal, number, "the ledger failed at a record");
                    }
                    Err(refusal) => {
                        tracing::error!(%refusal, number, "the ledger refused a record for good");
                        shared.metrics.rejected();
                        effects.extend(reject(&shared, tx, number, &row, refusal.code)?);
                        ended.push((number, Fate::Rejected(refusal.code)));
                    }
                }
            }
            Ok((ended, effects, not_now))
        };
        let (ended, effects, not_now) = self.shared.state.write(write).await?;
        self.shared.reached(Step::Closed)?;
        self.apply(effects)?;
        for (number, fate) in ended {
            self.shared.tickets.end(number, fate);
        }
        not_now.map_or(Ok(()), |refusal| Err(Halted::Ledger(ClientError::Refused(refusal))))
    }

    /// Lets memory follow what is durable.
    fn apply(&self, effects: Vec<Effect>) -> Result<(), Halted> {
        let shared = &self.shared;
        for effect in effects {
            match effect {
                Effect::Released { charge, spent } => shared.live.release(&charge, spent),
                Effect::Policy(row) => shared.live.set_policy(Loaded::of(&row)),
                Effect::Reload => shared.live.reload(&shared.state)?,
                // Fails only when the gate is at its end.
                Effect::Poke(id) => drop(shared.pokes.send(id)),
                Effect::Signal(index) => drop(shared.signals.send_replace(Some(index))),
                // The next round looks anyway.
                Effect::Work => {}
            }
        }
        Ok(())
    }

    /// Takes every record's place away: none of them is in the log.
    async fn forget_places(&self) -> Result<(), Halted> {
        let write = |tx: &redb::WriteTransaction| {
            for (number, row) in tables::outbox(tx, 0, usize::MAX)? {
                if row.place.is_some() {
                    tables::put_outbox(tx, number, &OutboxRow { place: None, ..row })?;
                }
            }
            Ok(())
        };
        Ok(self.shared.state.write(write).await?)
    }

    /// Takes a record out of the outbox that was never sent and need not be any more.
    async fn drop_row(&self, number: u64, row: OutboxRow) -> Result<(), Halted> {
        let write = move |tx: &redb::WriteTransaction| {
            tables::remove_outbox(tx, number)?;
            let About::Verdict(about) = &row.about else { return Ok(Vec::new()) };
            let mut effects = drop_verdict(tx, about, GateCode::EvidenceUnavailable)?;
            if about.part == Part::Final {
                effects.push(Effect::Poke(about.action_id.clone()));
            }
            Ok(effects)
        };
        let effects = self.shared.state.write(write).await?;
        self.apply(effects)?;
        self.shared.tickets.end(number, Fate::Rejected(Code::EvidenceUnavailable));
        Ok(())
    }
}

type Sent = Option<(Vec<(u64, OutboxRow)>, Arc<PreparedBatch>)>;

/// A record that has its place, as it was first sent.
fn record_of(row: &OutboxRow, place: &PlaceRow) -> Option<SubmittedRecord> {
    let kind = Kind::from_number(row.kind)?;
    let record = FullRecord::parse(kind, from_hex_array(&place.seed)?, row.values.clone()).ok()?;
    Some(SubmittedRecord { record, people: people_of(row)? })
}

/// Whether a record refused with this code may be logged at another place.
fn loses_place(code: Code) -> bool {
    Gate::reseals(code) || code == Code::Equivocation
}

/// Whether a record may be in the log although the ledger answers with this code: it is sent again,
/// as it is, until there is another answer.
fn leaves_open(code: Code) -> bool {
    matches!(code, Code::Internal | Code::StoreFailed | Code::StoreCorrupt)
}

/// Whether a record refused with this code may be taken as it is at another time. It waits: a
/// refusal must not be lost because a clock was wrong.
fn is_of_moment(code: Code) -> bool {
    matches!(
        code,
        Code::RecordedAhead | Code::CertExpired | Code::CertNotYetValid | Code::KeyRevoked
    )
}

/// What is to be done with a record that has no place yet.
enum Ready {
    /// It gets one, perhaps as another record than it was.
    Record(Box<OutboxRow>, Box<Draft>),
    /// Nobody waits for it, and nobody misses it.
    Dropped(Box<OutboxRow>),
}

fn prepared(shared: &Shared, number: u64, row: OutboxRow) -> Ready {
    let waited = || shared.tickets.of(number).is_some_and(|ticket| ticket.is_waited_for());
    let row = match &row.about {
        About::Verdict(about) if about.said.outcome != "refuse" => match about.part {
            Part::First if !waited() => return made_refuse(shared, row),
            Part::Final if is_stale(shared, about) => return Ready::Dropped(Box::new(row)),
            _ => row,
        },
        // Their callers were told that it came to nothing, and may do it again.
        About::Approval { .. } | About::Policy(_) | About::Grant(_) | About::Notice(Some(_))
            if !waited() =>
        {
            return Ready::Dropped(Box::new(row));
        }
        _ => row,
    };
    ready(row)
}

fn ready(row: OutboxRow) -> Ready {
    let draft = Kind::from_number(row.kind)
        .and_then(|kind| Draft::kept(kind, row.values.clone(), people_of(&row)?).ok());
    if let Some(draft) = draft {
        Ready::Record(Box::new(row), Box::new(draft))
    } else {
        tracing::error!(kind = row.kind, "a record of the outbox can't be read");
        Ready::Dropped(Box::new(row))
    }
}

/// Whether a final approve was decided by facts that may be others now.
fn is_stale(shared: &Shared, about: &VerdictAbout) -> bool {
    let age = shared.host.now().0.saturating_sub(about.at);
    u128::from(age) > shared.settings.answer_timeout().as_micros()
}

/// An approve or supervise that was never sent and that nobody waits for, as the refuse that its
/// caller was given: with the same nonce, and so of the same action.
fn made_refuse(shared: &Shared, row: OutboxRow) -> Ready {
    let About::Verdict(about) = &row.about else { return Ready::Dropped(Box::new(row)) };
    let action = shared.state.read(|tx| tables::action(tx, &about.action_id));
    let Ok(Some(action)) = action else { return Ready::Dropped(Box::new(row)) };
    let decision = Decision::refuse(GateCode::EvidenceUnavailable);
    let intent: Intent = intent_of(&action);
    let sealing = Sealing {
        action_id: &about.action_id,
        mode: &action.mode,
        evaluated_at: shared.host.now(),
        policy: shared.live.policy().ok().map(|loaded| loaded.name.clone()),
        parent: None::<RecordRoot>,
        approvals: &[],
        permit: None,
        expires_at: None,
    };
    let refuse =
        VerdictAbout { then: ActionState::Refused, said: said_refuse(&decision), ..about.clone() };
    match shared.verdict(&intent, &decision, &sealing, nonce_of(&action)) {
        // The charge stays with the row until it is closed or dropped, which gives it back.
        Ok(draft) => ready(outbox_row(&draft, About::Verdict(refuse))),
        Err(error) => {
            tracing::error!(%error, action = about.action_id, "a refuse can't be drafted");
            Ready::Dropped(Box::new(row))
        }
    }
}
