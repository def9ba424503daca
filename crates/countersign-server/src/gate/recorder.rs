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
//! 2. **Placed.** The row has its seq and the seed of its salts, and so its root: by a write of its
//!    own, or by the one that closed all the records before it, of which each was logged. *Killed here, or
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
//! A row that was placed under a seal key which is not this gate's any more can't be sent again.
//! The ledger is asked for its place: the same root there closes it like any other, and anything
//! else, or nothing, means that it is not in the log and is placed anew under the key of now.
//!
//! Only the ledger's own word that it refused a record takes its place away ([`Self::settle`]);
//! no timeout does. LIFE-1 and LIFE-11 stand behind all of it: the ledger takes no second first
//! verdict of an action and no second child of a verdict.

mod former;
mod place;
mod prepare;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use countersign_client::{Client, ClientError, Gate, PreparedBatch, RecordOutcome, Retry};
use countersign_core::codes::Code;
use countersign_core::encoding::from_hex_array;
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_gate::GateCode;
use countersign_proto::convert::SubmittedRecord;
use countersign_proto::errors::Refusal;
use tokio::time::timeout;

use self::place::{keep, place_next, placed};
use self::prepare::{Ready, prepared};
use super::closing::{Effect, Logged, close, drop_verdict, reject};
use super::host::{Killed, Step};
use super::rows::{About, OutboxRow, Part, PlaceRow};
use super::shared::{Shared, people_of};
use super::state::StateError;
use super::tables;
use super::ticket::Fate;
use crate::drain::Drain;

/// Records that one round takes at most.
const ROUND_MAX: usize = 512;
/// How long one round tries to submit before it looks at the world again.
const SUBMIT_FOR: Duration = Duration::from_secs(1);
/// Answers in a row that leave the same record open after which nothing else is to be hoped for.
const OPEN_MAX: u32 = 8;
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
    /// The ledger answers, and what it says of this record of the outbox settles nothing.
    Open(u64),
}

/// How often the ledger has failed at the same record in a row.
#[derive(Debug, Default)]
struct Failing {
    number: Option<u64>,
    times: u32,
}

impl Failing {
    /// It failed at this record; whether that has been so often enough to call it stuck.
    fn again(&mut self, number: u64) -> bool {
        self.times = if self.number == Some(number) { self.times.saturating_add(1) } else { 1 };
        self.number = Some(number);
        self.times >= OPEN_MAX
    }
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
    let mut recorder = Recorder { shared, gate: None, next: None };
    let (mut wait, mut failing) = (WAITS.0, Failing::default());
    loop {
        let round = recorder.round().await;
        if round.is_ok() {
            failing = Failing::default();
            recorder.shared.set_stuck(false);
        }
        match round {
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
            Err(halted) => {
                match halted {
                    Halted::Ledger(error) => {
                        recorder.shared.set_reachable(false);
                        tracing::warn!(%error, wait_ms = wait.as_millis(), "no answer of the ledger");
                    }
                    // It is tried on, since what fails may be mended; nothing overtakes it.
                    Halted::Open(number) if failing.again(number) => {
                        recorder.shared.set_stuck(true);
                        tracing::error!(number, "the ledger fails at a record again and again");
                    }
                    _ => {}
                }
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
    /// What the last close has placed: it stands first in the outbox.
    next: Option<Batch>,
}

/// Records with their places, and sealed.
type Batch = (Vec<(u64, OutboxRow)>, Arc<PreparedBatch>);
type Sent = Option<Batch>;

/// What the end of a batch leads to outside the state.
struct Settled {
    ended: Vec<(u64, Fate)>,
    effects: Vec<Effect>,
    /// The refusal of a record that is welcome at another time.
    not_now: Option<Refusal>,
    /// A record of which nothing is settled.
    open: Option<u64>,
    next: Sent,
}

impl Recorder {
    /// Takes what stands first in the outbox, if anything does, until its fate is known.
    async fn round(&mut self) -> Result<bool, Halted> {
        if self.shared.state.is_poisoned() {
            return Err(Halted::State(StateError::Poisoned));
        }
        self.connect().await?;
        if let Some((rows, batch)) = self.next.take() {
            self.shared.reached(Step::Placed)?;
            self.submit(rows, &batch).await?;
            return Ok(true);
        }
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
        if let Some((number, row)) = rows.first()
            && row.place.as_ref().is_some_and(|place| place.stream != stream)
        {
            let (number, row) = (*number, row.clone());
            self.former(number, row).await?;
            return Ok(None);
        }
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
            tracing::error!("a record of the outbox is not what this version writes");
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
        let Some((rows, batch)) = placed(self.gate()?, fit, drafts)? else { return Ok(None) };
        let kept = rows.clone();
        let write = move |tx: &redb::WriteTransaction| keep(tx, &kept);
        shared.state.write(write).await?;
        shared.reached(Step::Placed)?;
        Ok(Some((rows, batch)))
    }

    /// Sends a batch, and settles what the ledger says of it.
    async fn submit(
        &mut self,
        rows: Vec<(u64, OutboxRow)>,
        batch: &Arc<PreparedBatch>,
    ) -> Result<(), Halted> {
        let shared = Arc::clone(&self.shared);
        let answer = {
            let mut submitted = pin!(self.gate()?.submit(batch));
            let answer = timeout(shared.settings.answer_timeout(), &mut submitted).await;
            if let Ok(answer) = answer {
                answer
            } else {
                // Whoever waited for it has given up. The call may go on for much longer, and to
                // all but itself the ledger is away.
                shared.set_reachable(false);
                submitted.await
            }
        };
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
        // The stream's end goes along, so that what waits gets its places by the same write.
        let gate = self.gate.take();
        let write = move |tx: &redb::WriteTransaction| {
            let count = rows.len();
            let mut ended = Vec::with_capacity(count);
            let mut effects = Vec::new();
            let (mut not_now, mut open) = (None, None);
            for ((number, row), outcome) in rows.into_iter().zip(outcomes) {
                match outcome.result {
                    Ok(record) => match Logged::of(&shared, number, &row, &record) {
                        Ok(logged) => {
                            let (at, more) = close(&shared, tx, &logged)?;
                            effects.extend(more);
                            ended.push((number, Fate::Logged(at)));
                        }
                        // What the client verified has evidence; without it the row stays.
                        Err(fault) => {
                            tracing::error!(%fault, number, "no evidence of a record");
                            open = open.or(Some(number));
                        }
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
                        open = open.or(Some(number));
                    }
                    Err(refusal) => {
                        tracing::error!(%refusal, number, "the ledger refused a record for good");
                        shared.metrics.rejected();
                        effects.extend(reject(&shared, tx, number, &row, refusal.code)?);
                        ended.push((number, Fate::Rejected(refusal.code)));
                    }
                }
            }
            let logged = |(_, fate): &(u64, Fate)| matches!(fate, Fate::Logged(_));
            let next = match &gate {
                Some(gate) if ended.len() == count && ended.iter().all(logged) => {
                    place_next(&shared, tx, gate)?
                }
                _ => None,
            };
            Ok((Settled { ended, effects, not_now, open, next }, gate))
        };
        let (settled, gate) = self.shared.state.write(write).await?;
        let Settled { ended, effects, not_now, open, next } = settled;
        (self.gate, self.next) = (gate, next);
        self.shared.reached(Step::Closed)?;
        self.apply(effects)?;
        for (number, fate) in ended {
            self.shared.tickets.end(number, fate);
        }
        match (not_now, open) {
            (Some(refusal), _) => Err(Halted::Ledger(ClientError::Refused(refusal))),
            (None, Some(number)) => Err(Halted::Open(number)),
            (None, None) => Ok(()),
        }
    }

    /// Lets memory follow what is durable.
    fn apply(&self, effects: Vec<Effect>) -> Result<(), Halted> {
        let shared = &self.shared;
        for effect in effects {
            match effect {
                Effect::Released { charge, spent } => shared.live.release(&charge, spent),
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

#[cfg(test)]
mod tests {
    use super::*;

    // A record that the ledger failed at once held up the outbox for ever, and nothing showed it.
    #[test]
    fn a_ledger_that_fails_at_one_record_again_and_again_is_stuck() {
        let mut failing = Failing::default();
        for _ in 1..OPEN_MAX {
            assert!(!failing.again(7));
        }
        assert!(failing.again(7) && failing.again(7));
        // Another record is another matter.
        assert!(!failing.again(8));
        assert!(!failing.again(7));
    }
}
