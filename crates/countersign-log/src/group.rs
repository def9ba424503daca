//! One group: what waited together, numbered, timed, hashed and signed as one commit.
//!
//! This is step 2 and 3 of the commit path (ADR 004): nothing here is durable yet, and nothing that
//! is signed here leaves the process before [`crate::sequencer`] has made it so.

use std::sync::Arc;

use countersign_core::cert::Certificate;
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_core::entry::Entry;
use countersign_core::hash::{Hash, LeafHash, LeafIndex, RecordRoot, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::merkle::{ProofPlan, leaf_hash};
use countersign_core::record::FullRecord;
use countersign_core::seal::SealedBatch;
use countersign_core::stream::StreamId;

use crate::api::{Erasure, Refused};
use crate::derive;
use crate::erase::{self, Erasing, Found};
use crate::evidence::facts;
use crate::lifecycle::{self, action_of};
use crate::own::Saying;
use crate::policies;
use crate::rows::{BatchRow, Payload, StreamRow};
use crate::shared::{Owner, Published, Shared};
use crate::state::{State, Stream, stored_root};
use crate::store::{Commit, IndexRow, Store, StoredHead};
use crate::work::{BatchWork, EraseWork, OpenWork, Opened, Opening, Work};

/// What is decided of a record before the commit.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// It will be at this index.
    New(LeafIndex, Entry),
    /// It is in the log already, or will be once what is being committed is.
    Repeat,
    /// It is refused.
    Refused(Refused),
}

/// Work with what was decided of it.
#[derive(Debug)]
pub(crate) enum Decided {
    Batch(BatchWork, Vec<(u64, Slot)>),
    Open(OpenWork, Result<Opened, Refused>),
    Erase(EraseWork, Result<Erasure, Refused>),
}

/// What the store is to be given, and what is published once it has it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) expected: TreeSize,
    /// Given to the store once; a group that fails is made anew.
    pub(crate) commit: Option<Commit>,
    /// The head as it is stored.
    pub(crate) head: StoredHead,
    pub(crate) last_leaf: LeafHash,
    pub(crate) published: Published,
    /// The inclusion proofs of the new entries, in order.
    pub(crate) paths: Vec<Vec<Hash>>,
    pub(crate) opened: Vec<(StreamId, Owner)>,
}

/// A group, decided. Without anything new in it there is nothing to commit.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) prepared: Option<Prepared>,
    pub(crate) decided: Vec<Decided>,
}

impl Group {
    /// The work that it was made of, to be decided anew.
    pub(crate) fn into_works(self) -> Vec<Work> {
        let work = |decided| match decided {
            Decided::Batch(work, _) => Work::Batch(work),
            Decided::Open(work, _) => Work::Open(work),
            Decided::Erase(work, _) => Work::Erase(work),
        };
        self.decided.into_iter().map(work).collect()
    }
}

/// A group in the making.
struct Maker<'a, S> {
    shared: &'a Shared<S>,
    state: &'a mut State,
    first: u64,
    now: Micros,
    commit: Commit,
    touched: Vec<StreamId>,
    opened: Vec<(StreamId, Owner)>,
}

/// Decides the works in order. The state is that after the group. `begin` makes the log's first
/// record. An error is a fault of the store, and leaves the state to be read again.
pub(crate) async fn make<S: Store>(
    shared: &Shared<S>,
    state: &mut State,
    works: Vec<Work>,
    begin: bool,
) -> Result<Group, (Fault, Vec<Work>)> {
    let first = state.edge.size().0;
    let now = shared.host.now().max(state.last_logged_at);
    let head = StoredHead { size: TreeSize(first), note: String::new() };
    let commit = Commit {
        entries: Vec::new(),
        payloads: Vec::new(),
        batches: Vec::new(),
        tiles: Vec::new(),
        rows: Vec::new(),
        streams: Vec::new(),
        erased: Vec::new(),
        head,
    };
    let mut maker =
        Maker { shared, state, first, now, commit, touched: Vec::new(), opened: Vec::new() };
    let mut decided = Vec::with_capacity(works.len());
    let mut works = works.into_iter();
    let mut fault = if begin { maker.say(&Saying::Genesis, "", &[]).err() } else { None };
    while fault.is_none()
        && let Some(work) = works.next()
    {
        match work {
            Work::Batch(work) => match maker.batch(&work).await {
                Ok(slots) => decided.push(Decided::Batch(work, slots)),
                Err(found) => {
                    fault = Some(found);
                    decided.push(Decided::Batch(work, Vec::new()));
                }
            },
            Work::Open(work) => {
                let result = maker.open(&work.opening).map_err(Refused::from);
                decided.push(Decided::Open(work, result));
            }
            Work::Erase(work) => match maker.erase(&work.erasing).await {
                Ok(result) => decided.push(Decided::Erase(work, result)),
                Err(found) => {
                    fault = Some(found);
                    decided.push(Decided::Erase(work, Err(Code::EvidenceUnavailable.into())));
                }
            },
            Work::Doubt(_) | Work::Stop(_) => {}
        }
    }
    if let Some(fault) = fault {
        let mut all = Group { prepared: None, decided }.into_works();
        all.extend(works);
        return Err((fault, all));
    }
    let prepared = maker.finish();
    Ok(Group { prepared, decided })
}

impl<S: Store> Maker<'_, S> {
    fn next_index(&self) -> LeafIndex {
        LeafIndex(self.state.edge.size().0)
    }

    /// Opens a stream, or notes that its key has a new certificate (KIND-14). A stream that stands
    /// as it is asked for is left alone.
    fn open(&mut self, opening: &Opening) -> Result<Opened, Fault> {
        let stream = opening.stream;
        let known = self.state.streams.get(&stream);
        let (next_seq, prev) =
            known.map_or((0, RecordRoot([0; 32])), |stream| (stream.row.next_seq, stream.row.prev));
        let opened = Opened { stream, next_seq, prev };
        let event = match known {
            // An older certificate changes nothing: what was shown before counts for longer.
            Some(stream)
                if stream.distrusted.is_none() && stream.row.not_after >= opening.not_after =>
            {
                return Ok(opened);
            }
            Some(_) => "renew",
            None => "open",
        };
        let saying = Saying::Stream {
            event,
            tenant: opening.tenant.clone(),
            gate: opening.gate.clone(),
            gate_key: opening.seal_key,
            stream: opening.stream,
            certificate: opening.certificate,
        };
        self.say(&saying, &opening.tenant, &[])?;
        let row = StreamRow {
            tenant: opening.tenant.clone(),
            gate: opening.gate.clone(),
            seal_key: opening.seal_key,
            not_after: opening.not_after,
            chain: opening.chain,
            next_seq,
            prev,
        };
        self.opened.push((opening.stream, crate::state::owner_of(&row)));
        self.state.streams.insert(opening.stream, Stream { row, distrusted: None });
        self.touch(opening.stream);
        Ok(opened)
    }

    /// Decides each record of a batch, in order.
    async fn batch(&mut self, work: &BatchWork) -> Result<Vec<(u64, Slot)>, Fault> {
        let batch = &work.batch;
        let Some(stream) = self.state.streams.get(&batch.stream) else {
            return Err(Code::Internal.at_field("stream"));
        };
        let expected = stream.row.next_seq;
        let mut slots = Vec::with_capacity(batch.records.len());
        // A call that was refused a record goes on at the seq that is expected, and nowhere else.
        let halted = self.state.halted.get(&batch.stream) == Some(&batch.call);
        if halted && batch.first_seq <= expected {
            self.state.halted.remove(&batch.stream);
        }
        let gap = if halted { Code::StreamHalted } else { Code::SeqGap };
        let mut refused: Option<Refused> = None;
        let mut batch_at = None;
        for position in 0..batch.records.len() {
            let seq = batch.first_seq + position as u64;
            let slot = match refused {
                Some(refused) => Slot::Refused(refused),
                None => self.record(work, position, seq, gap, &mut batch_at).await?,
            };
            if let (Slot::Refused(_), None) = (&slot, refused) {
                let expected_seq = self.state.streams.get(&batch.stream).map(|s| s.row.next_seq);
                refused = Some(Refused { fault: Code::StreamHalted.into(), expected_seq });
                self.state.halted.insert(batch.stream, batch.call);
            }
            slots.push((seq, slot));
        }
        Ok(slots)
    }

    async fn record(
        &mut self,
        work: &BatchWork,
        position: usize,
        seq: u64,
        gap: Code,
        batch_at: &mut Option<LeafIndex>,
    ) -> Result<Slot, Fault> {
        let batch = &work.batch;
        let refuse = |fault: Fault| Ok(Slot::Refused(fault.into()));
        let (Some(root), Some(record), Some(checked), Some(terms), Some(stream)) = (
            batch.sealed.roots.get(position).copied(),
            batch.records.get(position),
            work.checked.get(position),
            work.terms.get(position),
            self.state.streams.get(&batch.stream),
        ) else {
            return Err(Code::Internal.at_field("batch"));
        };
        if seq < stream.row.next_seq {
            return self.repeat(batch.stream, seq, root).await;
        }
        if seq > stream.row.next_seq {
            let expected_seq = Some(stream.row.next_seq);
            return Ok(Slot::Refused(Refused { fault: gap.into(), expected_seq }));
        }
        let person_until = match checked {
            Ok(until) => *until,
            Err(fault) => return refuse(*fault),
        };
        let view = record.record.view();
        if view.str("prev") != Some(stream.row.prev.hex().as_str()) {
            return refuse(Code::PrevMismatch.into());
        }
        if let Some((_, fault)) = stream.distrusted.filter(|(from, _)| *from <= self.now) {
            return refuse(fault);
        }
        if self.now > stream.row.not_after || self.now > person_until {
            return refuse(Code::CertExpired.into());
        }
        let ahead = Micros(self.now.0.saturating_add(self.shared.config.skew_us));
        if view.str("recorded_at").and_then(Micros::parse).is_none_or(|at| at > ahead) {
            return refuse(Code::RecordedAhead.at_field("recorded_at"));
        }
        let store = &*self.shared.store;
        if let Err(fault) = policies::check(store, self.state, &batch.tenant, view).await? {
            return refuse(fault);
        }
        if let Err(fault) = self.lifecycle(work, position, root).await? {
            return refuse(fault);
        }
        let chain = stream_chain(self.state, batch.stream);
        // The sealed batch is stored once, under the first of its records that is new.
        let at = *batch_at.get_or_insert_with(|| {
            let at = LeafIndex(self.state.edge.size().0);
            let row = BatchRow { sealed: batch.sealed.clone(), chain };
            self.commit.batches.push((at, row.encode()));
            at
        });
        let position = u32::try_from(position).map_err(|_| Code::Internal)?;
        let payload = Payload::encode(at, position, &record.record, &record.people);
        let index = self.next_index();
        let rows = derive::rows(&batch.tenant, record.record.view(), terms.clone(), index);
        let entry = self.append(&record.record, batch.stream, seq, root, &batch.sealed, payload);
        self.commit.rows.extend(rows);
        Ok(Slot::New(index, entry))
    }

    /// A record whose seq is in the log, or about to be: the same is a repeat, another is an
    /// equivocation, which is noted (STR-8).
    async fn repeat(
        &mut self,
        stream: StreamId,
        seq: u64,
        root: RecordRoot,
    ) -> Result<Slot, Fault> {
        let first = match self.state.unsettled_root(stream, seq) {
            Some(first) => first,
            None => stored_root(&*self.shared.store, stream, seq).await?,
        };
        if first == root {
            return Ok(Slot::Repeat);
        }
        if self.state.noted.insert(stream, seq, root) {
            let owner = self.state.streams.get(&stream).ok_or(Code::Internal.at_field("stream"))?;
            let tenant = owner.row.tenant.clone();
            self.say(&Saying::Equivocation { stream, seq, refused: root }, &tenant, &[])?;
        }
        Ok(Slot::Refused(Code::Equivocation.into()))
    }

    /// Asks the lifecycle of the record's action, and remembers the record for those behind it.
    async fn lifecycle(
        &mut self,
        work: &BatchWork,
        position: usize,
        root: RecordRoot,
    ) -> Result<Result<(), Fault>, Fault> {
        let batch = &work.batch;
        let Some(record) = batch.records.get(position) else { return Ok(Ok(())) };
        let view = record.record.view();
        let Some(action) = action_of(view) else {
            return Ok(lifecycle::check_without_action(view));
        };
        let new = lifecycle::fact(root, self.now, &record.record, &record.people);
        let key = (batch.tenant.clone(), action);
        let unsettled = [&self.state.committing, &self.state.preparing];
        if unsettled.iter().any(|unsettled| unsettled.erased.contains(&key)) {
            return Ok(Err(Code::Erased.into()));
        }
        let mut logged = match facts(&*self.shared.store, &batch.tenant, action).await {
            Err(fault) if matches!(fault.code, Code::Erased | Code::ActionFull) => {
                return Ok(Err(fault));
            }
            found => found?,
        };
        for unsettled in unsettled {
            for fact in unsettled.facts.get(&key).into_iter().flatten() {
                // What is being committed may have become readable meanwhile.
                if !logged.iter().any(|known| known.root() == fact.root()) {
                    logged.push(fact.clone());
                }
            }
        }
        if let Err(fault) = lifecycle::check(&new, &logged) {
            return Ok(Err(fault));
        }
        self.state.preparing.facts.entry(key).or_default().push(new);
        Ok(Ok(()))
    }

    /// Logs a record of the ledger's own, about a tenant or, with no name, about everybody.
    fn say(&mut self, saying: &Saying, tenant: &str, people: &[Certificate]) -> Result<(), Fault> {
        let keys = self.shared.signer.keys();
        let own = self.state.streams.get(&StreamId::LEDGER);
        let (seq, prev) =
            own.map_or((0, RecordRoot([0; 32])), |own| (own.row.next_seq, own.row.prev));
        let seed = self.shared.host.random();
        let (record, sealed) = saying.seal(keys, seed, seq, prev, self.now)?;
        let root = *sealed.roots.first().ok_or(Code::Internal)?;
        let at = self.next_index();
        let payload = Payload::encode(at, 0, &record, people);
        let row = BatchRow { sealed: sealed.clone(), chain: [0; 32] };
        self.commit.batches.push((at, row.encode()));
        if own.is_none() {
            let row = StreamRow {
                tenant: String::new(),
                gate: String::new(),
                seal_key: sealed.key,
                not_after: Micros(u64::MAX),
                chain: [0; 32],
                next_seq: 0,
                prev,
            };
            self.state.streams.insert(StreamId::LEDGER, Stream { row, distrusted: None });
        }
        self.append(&record, StreamId::LEDGER, seq, root, &sealed, payload);
        let view = record.view();
        self.commit.rows.extend(derive::rows(tenant, view, derive::terms(view), at));
        Ok(())
    }

    /// Gives a record its place in log and stream.
    fn append(
        &mut self,
        record: &FullRecord,
        stream: StreamId,
        seq: u64,
        root: RecordRoot,
        sealed: &SealedBatch,
        payload: Vec<u8>,
    ) -> Entry {
        let index = self.next_index();
        let entry = Entry {
            kind: record.kind(),
            logged_at: self.now,
            stream,
            seq,
            sealed: sealed.sealed(&root),
        };
        self.state.edge.append(&entry.leaf());
        self.state.last_logged_at = self.now;
        self.commit.entries.push(entry.to_bytes());
        self.commit.payloads.push(payload);
        self.commit.rows.push(IndexRow::Stream { stream, seq, index });
        let view = record.view();
        if view.kind() == Kind::Policy
            && let (Some(tenant), Some(digest)) = (view.str("tenant"), policies::digest_of(view))
        {
            self.state.preparing.policies.insert((tenant.to_owned(), digest));
        }
        if let Some(known) = self.state.streams.get_mut(&stream) {
            known.row.next_seq = seq + 1;
            known.row.prev = root;
        }
        self.state.preparing.roots.insert((stream, seq), root);
        self.touch(stream);
        entry
    }

    /// Erases records and logs that it was done, both in this commit (ADR 010).
    async fn erase(&mut self, erasing: &Erasing) -> Result<Result<Erasure, Refused>, Fault> {
        let found = match erasing.look(self.shared, self.state, self.now).await {
            Ok(Found::Done(erasure)) => return Ok(Ok(erasure)),
            Ok(Found::Erasable(found)) => found,
            Err(fault) => return Ok(Err(fault.into())),
        };
        let index = self.next_index();
        self.say(&erasing.saying, &erasing.tenant, &erasing.people)?;
        let erased = found.len() as u64;
        erase::write(found, &mut self.commit, &mut self.state.preparing);
        Ok(Ok(Erasure { index, erased }))
    }

    fn touch(&mut self, stream: StreamId) {
        if !self.touched.contains(&stream) {
            self.touched.push(stream);
        }
    }

    /// Proves the new entries, takes out the full tiles, signs the head.
    fn finish(mut self) -> Option<Prepared> {
        let last_leaf = leaf_hash(self.commit.entries.last()?);
        let size = self.state.edge.size();
        let edge = &self.state.edge;
        let prove = |index: u64| {
            let plan = ProofPlan::inclusion(LeafIndex(index), size)?;
            let hashes: Option<Vec<Hash>> = plan.nodes().iter().map(|id| edge.node(*id)).collect();
            Some(plan.finish(&hashes?))
        };
        let paths: Vec<Vec<Hash>> = (self.first..size.0)
            .map(|index| {
                prove(index).unwrap_or_else(|| unreachable!("bad math in group: a proof's node"))
            })
            .collect();
        self.commit.tiles = self.state.edge.take_full_tiles();
        for id in &self.touched {
            if let Some(stream) = self.state.streams.get(id) {
                self.commit.streams.push((*id, stream.row.encode()));
            }
        }
        let root = self.state.edge.root();
        let signer = &self.shared.signer;
        let head = signer.sign(size, &root, self.shared.host.now(), self.now);
        self.commit.head = StoredHead { size, note: head.note.clone() };
        let published = Published { head: Arc::new(head), edge: Arc::new(self.state.edge.clone()) };
        Some(Prepared {
            expected: TreeSize(self.first),
            head: self.commit.head.clone(),
            commit: Some(self.commit),
            last_leaf,
            published,
            paths,
            opened: self.opened,
        })
    }
}

fn stream_chain(state: &State, stream: StreamId) -> Hash {
    state.streams.get(&stream).map_or([0; 32], |stream| stream.row.chain)
}
