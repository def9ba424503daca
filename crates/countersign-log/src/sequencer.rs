//! The commit path (ADR 004), written as a proof. One task decides groups, one commit is in flight.
//!
//! | step | durable after it | a crash right after it |
//! |---|---|---|
//! | 1 take what waits | nothing new | nobody was answered; submitters resubmit |
//! | 2, 3 number, hash, sign ([`crate::group`]) | nothing new; no signature has left | as 1 |
//! | 4 commit, one atomic synced write | all of the group, or nothing | what is found at the next start decides; resubmission is answered with it |
//! | 5 read back the last entry | as 4 | as 4 |
//! | 6 publish to the store (advance the anchor) | as 4, and answers may rest on it | as 4 |
//! | 7 publish the head in this process | as 6 | as 6 |
//! | 8 answer | as 6 | who got no answer resubmits and gets the first receipt |
//!
//! While group n commits, group n+1 is decided on top of it. When the store's word about n is in
//! doubt, the state is read again from the store, and the works of both groups are decided anew:
//! what had become durable is found and answered as a repeat, with the same receipt.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::codes::{Code, Fault};
use countersign_core::hash::LeafIndex;
use countersign_core::merkle::leaf_hash;
use countersign_core::seal::Seal;
use countersign_core::stream::StreamId;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, interval, sleep_until};

use crate::api::{BatchAnswer, LogState, Logged, Refused};
use crate::group::{Decided, Group, Slot, make};
use crate::shared::Shared;
use crate::state::{OpenError, State, Unsettled, recover};
use crate::store::{Store, StoreError};
use crate::work::Work;

/// How often in a row the store may leave a commit in doubt before the log gives up.
const DOUBTS_MAX: u32 = 8;

/// The sequencer's own: one a log.
pub(crate) struct Sequencer<S: Store> {
    shared: Arc<Shared<S>>,
    queue: mpsc::UnboundedReceiver<Work>,
    state: State,
    writer: Writer<S::Lease>,
    /// How often in a row a commit was left in doubt.
    doubts: u32,
    /// Works to be decided anew, before what the queue holds.
    again: VecDeque<Work>,
    /// Works of a commit that failed, which come before those.
    undone: Vec<Work>,
}

/// Who has the right to write.
enum Writer<L> {
    /// Nobody uses it.
    Idle(L),
    /// A commit does, and gives it back.
    Busy(JoinHandle<Result<L, Failed>>),
    /// The last commit was not done, or nobody knows.
    Failed(StoreError),
}

/// A group that the store did not take, or of which it can't say.
struct Failed {
    group: Group,
    error: StoreError,
}

/// What waited, and whether it is the last.
struct Taken {
    works: Vec<Work>,
    /// A write outside of the commit path that failed.
    doubt: Option<StoreError>,
    end: Option<End>,
}

/// Why the sequencer ends.
enum End {
    /// It was told to, and says when it is done.
    Stop(oneshot::Sender<()>),
    /// Nobody is left who could submit.
    Abandoned,
}

/// Why the log takes nothing more.
struct Poison(StoreError);

impl<S: Store> Sequencer<S> {
    pub(crate) fn new(
        shared: Arc<Shared<S>>,
        queue: mpsc::UnboundedReceiver<Work>,
        state: State,
        lease: S::Lease,
    ) -> Self {
        let (writer, again) = (Writer::Idle(lease), VecDeque::new());
        Self { shared, queue, state, writer, doubts: 0, again, undone: Vec::new() }
    }

    /// Runs until it is stopped, poisoned, or nobody is left who could submit.
    pub(crate) async fn run(mut self) {
        loop {
            let taken = self.take().await;
            // Group n+1 is decided while group n commits.
            let made = make(&self.shared, &mut self.state, taken.works, false).await;
            let (error, works) = match (self.lease().await, made) {
                (Ok(_), Ok(group)) if taken.doubt.is_some() => (taken.doubt, group.into_works()),
                (Ok(lease), Ok(group)) => {
                    self.state.committing = std::mem::take(&mut self.state.preparing);
                    let commit = commit(Arc::clone(&self.shared), lease, group);
                    self.writer = Writer::Busy(tokio::spawn(commit));
                    (None, Vec::new())
                }
                (Err(error), Ok(group)) => (Some(error), group.into_works()),
                (Err(error), Err((_, works))) => (Some(error), works),
                (Ok(_), Err((fault, works))) => match fault.code {
                    Code::StoreCorrupt => (Some(StoreError::Corrupt(fault)), works),
                    _ => (Some(StoreError::Read(fault.to_string())), works),
                },
            };
            for work in std::mem::take(&mut self.undone).into_iter().chain(works).rev() {
                self.again.push_front(work);
            }
            match (error, taken.end) {
                (None, None) => {}
                (None, Some(end)) => return self.end(end).await,
                (Some(error), end) => {
                    // What is in doubt is decided before the end.
                    if let Some(End::Stop(stop)) = end {
                        self.again.push_back(Work::Stop(stop));
                    }
                    if let Err(poison) = self.settle(error).await {
                        return self.poison(poison).await;
                    }
                }
            }
        }
    }

    /// Waits until the commit has ended, and takes the lease.
    async fn lease(&mut self) -> Result<S::Lease, StoreError> {
        let lost = Writer::Failed(StoreError::Unknown("nobody has the lease".to_owned()));
        match std::mem::replace(&mut self.writer, lost) {
            Writer::Idle(lease) => Ok(lease),
            Writer::Failed(error) => Err(error),
            Writer::Busy(flight) => match flight.await {
                Ok(ended) => self.landed(ended),
                // A panic in the store: those who wait learn that their fate is unknown.
                Err(error) => Err(StoreError::Unknown(error.to_string())),
            },
        }
    }

    fn landed(&mut self, ended: Result<S::Lease, Failed>) -> Result<S::Lease, StoreError> {
        match ended {
            Ok(lease) => {
                self.doubts = 0;
                Ok(lease)
            }
            Err(failed) => {
                self.undone = failed.group.into_works();
                Err(failed.error)
            }
        }
    }

    /// Step 1: waits for work, and for company only as long as another commit runs: a writer that has
    /// nothing to do takes what is there and begins, and what comes meanwhile is the next group. A
    /// commit that ends is looked at, so that those in one that failed do not wait for others to come.
    async fn take(&mut self) -> Taken {
        let mut works = Vec::new();
        let mut records = 0;
        let mut until: Option<Instant> = None;
        while records < self.shared.config.group_max {
            let next = match (self.again.pop_front(), until) {
                (Some(work), _) => Some(work),
                (None, Some(until)) => match self.company(until).await {
                    Some(next) => next,
                    None => break,
                },
                (None, None) => match self.first().await {
                    Some(next) => next,
                    None => break,
                },
            };
            match next {
                None => return Taken { works, doubt: None, end: Some(End::Abandoned) },
                Some(Work::Stop(stop)) => {
                    return Taken { works, doubt: None, end: Some(End::Stop(stop)) };
                }
                Some(Work::Doubt(error)) => return Taken { works, doubt: Some(error), end: None },
                // A group closes before the batch that would be too much; one alone may be larger.
                Some(work)
                    if records + work.records() > self.shared.config.group_max && records > 0 =>
                {
                    self.again.push_front(work);
                    break;
                }
                Some(work) => {
                    records += work.records();
                    works.push(work);
                }
            }
            let wait = Duration::from_micros(self.shared.config.group_wait_us);
            until.get_or_insert_with(|| Instant::now() + wait);
        }
        Taken { works, doubt: None, end: None }
    }

    /// More work for the group, or `None` where it is to begin.
    #[allow(clippy::option_option)] // The inner `None` is the end of the queue.
    async fn company(&mut self, until: Instant) -> Option<Option<Work>> {
        let Writer::Busy(flight) = &mut self.writer else {
            return match self.queue.try_recv() {
                Ok(next) => Some(Some(next)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(None),
            };
        };
        let ended = tokio::select! {
            biased;
            next = self.queue.recv() => return Some(next),
            ended = flight => ended,
            () = sleep_until(until) => return None,
        };
        self.flown(ended);
        None
    }

    /// Keeps what the commit came to.
    fn flown(&mut self, ended: Result<Result<S::Lease, Failed>, JoinError>) {
        let landed = match ended {
            Ok(ended) => self.landed(ended),
            // A panic in the store: those who wait learn that their fate is unknown.
            Err(error) => Err(StoreError::Unknown(error.to_string())),
        };
        self.writer = match landed {
            Ok(lease) => Writer::Idle(lease),
            Err(error) => Writer::Failed(error),
        };
    }

    /// The next work, or `None` where there is a failed commit to be looked at first.
    #[allow(clippy::option_option)] // The inner `None` is the end of the queue.
    async fn first(&mut self) -> Option<Option<Work>> {
        if let Writer::Busy(flight) = &mut self.writer {
            let ended = tokio::select! {
                biased;
                next = self.queue.recv() => return Some(next),
                ended = flight => ended,
            };
            self.flown(ended);
        }
        match self.writer {
            Writer::Failed(_) => None,
            _ => Some(self.queue.recv().await),
        }
    }

    /// The store left a commit in doubt: what a fresh lease finds settles it.
    async fn settle(&mut self, error: StoreError) -> Result<(), Poison> {
        self.doubts += 1;
        tracing::warn!(%error, doubts = self.doubts, "a commit is in doubt; reading the log again");
        let hopeless = matches!(error, StoreError::Fenced | StoreError::Corrupt(_));
        if self.doubts > DOUBTS_MAX || hopeless {
            return Err(Poison(error));
        }
        let shared = Arc::clone(&self.shared);
        let corrupt = |fault: Fault| Poison(StoreError::Corrupt(fault));
        let (mut lease, head) = shared.store.acquire().await.map_err(Poison)?;
        let head = head.ok_or(corrupt(Code::StoreCorrupt.into()))?;
        let recovered = recover(&*shared.store, &shared.signer, &shared.config, &head).await;
        let (state, published) = recovered.map_err(|error| match error {
            OpenError::Store(error) => Poison(error),
            OpenError::Log(fault) => corrupt(fault),
        })?;
        shared.store.publish(&mut lease, &head).await.map_err(Poison)?;
        shared.publish(published);
        for (stream, owner) in state.owners() {
            shared.add_owner(stream, owner);
        }
        self.state = state;
        self.writer = Writer::Idle(lease);
        Ok(())
    }

    /// Nothing more is taken until a new process opens the store.
    async fn poison(mut self, poison: Poison) {
        tracing::error!(error = %poison.0, "the log takes nothing more until it is restarted");
        self.shared.state.send_replace(LogState::Poisoned);
        // Whether these were logged is unknown.
        for work in self.undone.drain(..).chain(self.again.drain(..)) {
            work.refuse(Code::EvidenceUnavailable);
        }
        while let Some(work) = self.queue.recv().await {
            work.refuse(Code::LedgerPoisoned);
        }
    }

    /// Everything that came before the end is durable and answered when this is done.
    async fn end(mut self, end: End) {
        if let Err(error) = self.lease().await {
            if let End::Stop(stop) = end {
                self.again.push_back(Work::Stop(stop));
            }
            return self.poison(Poison(error)).await;
        }
        if let End::Stop(done) = end {
            // A dropped receiver is a caller that did not wait.
            let _ = done.send(());
        }
        while let Some(work) = self.queue.recv().await {
            work.refuse(Code::LedgerStopping);
        }
    }
}

/// Steps 4 to 8 for one group.
async fn commit<S: Store>(
    shared: Arc<Shared<S>>,
    mut lease: S::Lease,
    mut group: Group,
) -> Result<S::Lease, Failed> {
    if let Err(error) = make_durable(&shared, &mut lease, &mut group).await {
        return Err(Failed { group, error });
    }
    let head = group.prepared.as_ref().map(|prepared| Arc::clone(&prepared.published.head));
    let Group { prepared, decided } = group;
    let (first, mut paths) =
        prepared.map_or((0, Vec::new()), |prepared| (prepared.expected.0, prepared.paths));
    for one in decided {
        match one {
            // A dropped receiver is a caller that went away: it will ask again.
            Decided::Open(work, result) => drop(work.answer.send(result)),
            Decided::Erase(work, result) => drop(work.answer.send(result)),
            Decided::Batch(work, slots) => {
                let mut repeats = Vec::new();
                let mut records = Vec::with_capacity(slots.len());
                let mut new = false;
                for (seq, slot) in slots {
                    let outcome = match slot {
                        Slot::Refused(refused) => Err(refused),
                        Slot::New(index, entry) => {
                            new = true;
                            let place = usize::try_from(index.0 - first).unwrap_or(usize::MAX);
                            let path = paths.get_mut(place).map(std::mem::take);
                            let path = path.unwrap_or_else(|| {
                                unreachable!("bad math in sequencer: a new record has no proof")
                            });
                            Ok(Logged { index, entry, path, first: None })
                        }
                        Slot::Repeat => {
                            repeats.push(records.len());
                            // Until it is read back below, its fate is unknown.
                            Err(Code::EvidenceUnavailable.into())
                        }
                    };
                    records.push((seq, outcome));
                }
                let head = head.clone().filter(|_| new);
                let answer = BatchAnswer { head, records };
                if repeats.is_empty() {
                    drop(work.answer.send(Ok(answer)));
                } else {
                    tokio::spawn(answer_repeats(Arc::clone(&shared), work, answer, repeats));
                }
            }
        }
    }
    Ok(lease)
}

/// Steps 4 to 7.
async fn make_durable<S: Store>(
    shared: &Shared<S>,
    lease: &mut S::Lease,
    group: &mut Group,
) -> Result<(), StoreError> {
    let Some(prepared) = &mut group.prepared else { return Ok(()) };
    let stored = &prepared.head;
    // 4. One atomic, durable write.
    if let Some(commit) = prepared.commit.take() {
        shared.store.commit(lease, prepared.expected, commit).await?;
    }
    // 5. What was written is what is read, to the leaf that the signed root rests on.
    let last = LeafIndex(stored.size.0 - 1);
    let read = shared.store.entries(last, 1).await?;
    if read.first().map(|entry| leaf_hash(entry)) != Some(prepared.last_leaf) {
        return Err(StoreError::Corrupt(Code::StoreCorrupt.at_index(last.0)));
    }
    // 6. Answers may rest on it from here on.
    shared.store.publish(lease, stored).await?;
    // 7. Readers see it.
    for (stream, owner) in prepared.opened.drain(..) {
        shared.add_owner(stream, owner);
    }
    shared.publish(prepared.published.clone());
    Ok(())
}

/// Records that were in the log before are answered with their first receipt and first seal.
async fn answer_repeats<S: Store>(
    shared: Arc<Shared<S>>,
    work: crate::work::BatchWork,
    mut answer: BatchAnswer,
    repeats: Vec<usize>,
) {
    let stream = work.batch.stream;
    let mut batch = None;
    for place in repeats {
        if let Some((seq, outcome)) = answer.records.get_mut(place) {
            *outcome = repeat(&shared, stream, *seq, &mut batch).await;
        }
    }
    drop(work.answer.send(Ok(answer)));
}

async fn repeat<S: Store>(
    shared: &Shared<S>,
    stream: StreamId,
    seq: u64,
    batch: &mut Option<(LeafIndex, Vec<Seal>)>,
) -> Result<Logged, Refused> {
    let found = shared.store.by_stream(stream, seq).await.map_err(crate::shared::store_fault)?;
    let index = found.ok_or(Code::EvidenceUnavailable)?;
    let (entry, receipt, first) = shared.first(index, batch).await?;
    Ok(Logged { index, entry, path: receipt.path, first: Some(first) })
}

/// Publishes a freshly cosigned head each interval in which the log grew, and now and then when it
/// did not.
pub(crate) async fn publish_heads<S: Store>(shared: Arc<Shared<S>>) {
    let config = &shared.config;
    let mut tick = interval(Duration::from_millis(config.head_interval_ms.max(1)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let republish = Duration::from_millis(config.head_republish_ms);
    let mut last = (shared.published().head.size, Instant::now());
    shared.publish_periodic();
    loop {
        tick.tick().await;
        let size = shared.published().head.size;
        if size != last.0 || last.1.elapsed() >= republish {
            shared.publish_periodic();
            last = (size, Instant::now());
        }
    }
}

/// Begins an empty log with its genesis record.
pub(crate) async fn begin<S: Store>(
    shared: &Arc<Shared<S>>,
    lease: S::Lease,
) -> Result<(State, S::Lease), StoreError> {
    let mut state = State::default();
    let made = make(shared, &mut state, Vec::new(), true).await;
    let group = made.map_err(|(fault, _)| StoreError::Corrupt(fault))?;
    let lease = commit(Arc::clone(shared), lease, group).await.map_err(|failed| failed.error)?;
    state.preparing = Unsettled::default();
    Ok((state, lease))
}
