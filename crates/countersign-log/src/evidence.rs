//! Evidence from what is stored. Everything read is checked against the entry before it is given
//! out: a damaged store makes no evidence, it makes an error.

use std::sync::Arc;

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::from_hex_array;
use countersign_core::entry::Entry;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{LeafIndex, RecordRoot, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::receipt::Receipt;
use countersign_core::seal::Seal;
use countersign_core::stream::StreamId;
use serde_json::Value;

use crate::api::{First, Head, ProveAt, RecordAt};
use crate::derive::{Subject, subject};
use crate::edge::Edge;
use crate::lifecycle::{self, ACTION_RECORDS_MAX, Fact, action_of};
use crate::rows::{BatchRow, Payload, decode_chain};
use crate::shared::{CORRUPT, Published, Shared, entry_at, store_fault};
use crate::store::Store;

/// A record as it is stored, consistent with its entry.
pub(crate) struct Stored {
    pub(crate) index: LeafIndex,
    pub(crate) entry: Entry,
    pub(crate) root: RecordRoot,
    pub(crate) payload: Payload,
    pub(crate) batch: BatchRow,
}

impl Stored {
    /// Reads the record at this index.
    pub(crate) async fn read<S: Store>(store: &S, index: LeafIndex) -> Result<Self, Fault> {
        let entry = entry_at(store, index).await?.ok_or(Code::NotFound)?;
        Self::read_of(store, index, entry).await
    }

    /// Reads what belongs to an entry that was read already.
    async fn read_of<S: Store>(store: &S, index: LeafIndex, entry: Entry) -> Result<Self, Fault> {
        let corrupt = CORRUPT.at_index(index.0);
        let payload = store.payload(index).await.map_err(store_fault)?.ok_or(corrupt)?;
        let payload = Payload::decode(entry.kind, &payload).ok_or(corrupt)?;
        let batch = store.batch(payload.batch).await.map_err(store_fault)?;
        let batch = batch.as_deref().and_then(BatchRow::decode).ok_or(corrupt)?;
        let root = payload.record.root().map_err(|_| corrupt)?;
        let listed = batch.sealed.roots.get(payload.position as usize);
        if listed != Some(&root) || batch.sealed.sealed(&root) != entry.sealed {
            return Err(corrupt);
        }
        Ok(Self { index, entry, root, payload, batch })
    }

    /// What the lifecycle asks of it; `ERASED` where that is gone.
    pub(crate) fn fact(&self) -> Result<Fact, Fault> {
        let Payload { record, people, .. } = &self.payload;
        Ok(lifecycle::fact(self.root, self.entry.logged_at, record.full()?, people))
    }

    fn seal(&self) -> Result<Seal, Fault> {
        self.batch.sealed.seal_of(self.payload.position)
    }
}

/// The records that the log holds of an action and that its lifecycle asks about, in index order;
/// the code of the limit where there are as many as there may be.
pub(crate) async fn facts<S: Store>(
    store: &S,
    tenant: &str,
    action: [u8; 16],
) -> Result<Vec<Fact>, Fault> {
    let found = store.by_action(tenant, action, ACTION_RECORDS_MAX).await.map_err(store_fault)?;
    // Before anything is read: an action that is full must cost nothing.
    if found.len() >= ACTION_RECORDS_MAX {
        return Err(Code::ActionFull.into());
    }
    let mut facts = Vec::with_capacity(found.len());
    for index in found {
        let entry = entry_at(store, index).await?.ok_or(CORRUPT.at_index(index.0))?;
        // An attempt on record binds nobody.
        if entry.kind != Kind::Intent {
            facts.push(Stored::read_of(store, index, entry).await?.fact()?);
        }
    }
    Ok(facts)
}

impl<S: Store> Shared<S> {
    /// The index that is meant, if it may be seen: a record of the tenant's, or one of the ledger's
    /// own that is about the tenant or about everybody. What may not be seen is `NOT_FOUND`.
    pub(crate) async fn find(
        &self,
        tenant: Option<&str>,
        at: RecordAt,
    ) -> Result<LeafIndex, Fault> {
        let index = match at {
            RecordAt::Index(index) => index,
            RecordAt::Seq(stream, seq) => self
                .store
                .by_stream(stream, seq)
                .await
                .map_err(store_fault)?
                .ok_or(Code::NotFound)?,
        };
        // Committed is not yet published.
        if index.0 >= self.published().head.size.0 {
            return Err(Code::NotFound.into());
        }
        let Some(tenant) = tenant else { return Ok(index) };
        let entry = self.entry(index).await?;
        let visible = if entry.stream == StreamId::LEDGER {
            self.own_record_is_for(tenant, index).await?
        } else {
            self.owner(entry.stream).is_some_and(|owner| owner.tenant == tenant)
        };
        if visible { Ok(index) } else { Err(Code::NotFound.into()) }
    }

    pub(crate) async fn own_record_is_for(
        &self,
        tenant: &str,
        index: LeafIndex,
    ) -> Result<bool, Fault> {
        let stored = Stored::read(&*self.store, index).await?;
        let view = stored.payload.record.view();
        if matches!(view.kind(), Kind::Genesis | Kind::Key) {
            return Ok(true);
        }
        let about = match subject(view) {
            Subject::Log => return Ok(false),
            Subject::Tenant(about) => return Ok(about == tenant),
            Subject::Stream(stream) => stream,
            Subject::Record(index) => self.entry(index).await?.stream,
        };
        Ok(self.owner(about).is_some_and(|owner| owner.tenant == tenant))
    }

    /// The head to prove a record at, with the edge of the published tree, which is never older.
    async fn head_for(
        &self,
        index: LeafIndex,
        at: ProveAt,
    ) -> Result<(Arc<Head>, Arc<Edge>), Fault> {
        let witnessed = self.witnessed.borrow().clone();
        let Published { head, edge } = self.published();
        match at {
            ProveAt::AtLeast(size) if size > head.size => Err(Code::SizeUnknown.into()),
            ProveAt::AtLeast(_) => Ok((head, edge)),
            ProveAt::Exactly(size) => Ok((self.committed(size).await?, edge)),
            ProveAt::Witnessed => {
                let covers = witnessed.filter(|head| head.size.0 > index.0);
                Ok((covers.ok_or(Code::NotWitnessed)?, edge))
            }
        }
    }

    /// The head that was committed at exactly this size, if it is published.
    pub(crate) async fn committed(&self, size: TreeSize) -> Result<Arc<Head>, Fault> {
        if size > self.published().head.size {
            return Err(Code::SizeUnknown.into());
        }
        let stored = self.store.head_at_least(size).await.map_err(store_fault)?;
        let stored = stored.filter(|head| head.size == size).ok_or(Code::SizeUnknown)?;
        Ok(Arc::new(self.signer.read(stored.size, &stored.note)?))
    }

    /// A record's receipt.
    pub(crate) async fn receipt(&self, index: LeafIndex, at: ProveAt) -> Result<Receipt, Fault> {
        let (head, edge) = self.head_for(index, at).await?;
        let entry = self.entry(index).await?;
        self.receipt_at(&edge, index, &entry, &head.note).await
    }

    /// What a record that is in the log was first answered with. `batch` keeps the seals of the
    /// batch that was read last, since repeats come in the order in which they were sealed.
    pub(crate) async fn first(
        &self,
        index: LeafIndex,
        batch: &mut Option<(LeafIndex, Vec<Seal>)>,
    ) -> Result<(Entry, Receipt, First), Fault> {
        let stored = Stored::read(&*self.store, index).await?;
        let size = TreeSize(index.0.saturating_add(1));
        let head = self.store.head_at_least(size).await.map_err(store_fault)?;
        let head = head.ok_or(CORRUPT.at_field("head"))?;
        let head = self.signer.read(head.size, &head.note)?;
        let edge = self.published().edge;
        let receipt = self.receipt_at(&edge, index, &stored.entry, &head.note).await?;
        let (at, position) = (stored.payload.batch, stored.payload.position as usize);
        if batch.as_ref().is_none_or(|(kept, _)| *kept != at) {
            *batch = Some((at, stored.batch.sealed.seals()?));
        }
        let seal = batch.as_ref().and_then(|(_, seals)| seals.get(position)).cloned();
        let first = First { note: head.note, seal: seal.ok_or(CORRUPT.at_index(index.0))? };
        Ok((stored.entry, receipt, first))
    }

    /// A record's evidence, with what it rests on.
    pub(crate) async fn evidence(&self, index: LeafIndex, at: ProveAt) -> Result<Evidence, Fault> {
        let (head, edge) = self.head_for(index, at).await?;
        let stored = Stored::read(&*self.store, index).await?;
        let mut evidence = self.evidence_of(&stored, &head, &edge).await?;
        for index in self.supporting(&stored).await? {
            let inner = Stored::read(&*self.store, index).await?;
            evidence.supporting.push(self.evidence_of(&inner, &head, &edge).await?);
        }
        Ok(evidence)
    }

    async fn evidence_of(
        &self,
        stored: &Stored,
        head: &Head,
        edge: &Edge,
    ) -> Result<Evidence, Fault> {
        let entry = &stored.entry;
        let receipt = self.receipt_at(edge, stored.index, entry, &head.note).await?;
        let gate_chain = if entry.stream == StreamId::LEDGER {
            Vec::new()
        } else {
            let chain = self.store.blob(stored.batch.chain).await.map_err(store_fault)?;
            chain.as_deref().and_then(decode_chain).ok_or(CORRUPT.at_field("chain"))?
        };
        let pem = |chain: &[countersign_core::cert::Certificate]| -> Vec<String> {
            chain.iter().map(countersign_core::cert::Certificate::pem).collect()
        };
        let people = &stored.payload.people;
        Ok(Evidence {
            record: stored.payload.record.disclose(),
            seal: stored.seal()?,
            entry: entry.to_bytes().to_vec(),
            receipt,
            gate_chain: pem(&gate_chain),
            people_chains: if people.is_empty() { Vec::new() } else { vec![pem(people)] },
            supporting: Vec::new(),
        })
    }

    /// Where the records stand that a verdict with a parent rests on: the parent, and the approvals
    /// that the verdict lists.
    async fn supporting(&self, stored: &Stored) -> Result<Vec<LeafIndex>, Fault> {
        let view = stored.payload.record.view();
        let parent = view.str("parent").and_then(from_hex_array).map(RecordRoot);
        let (Kind::Verdict, Some(parent), Some(action)) = (view.kind(), parent, action_of(view))
        else {
            return Ok(Vec::new());
        };
        let listed = view.get("approvals").and_then(Value::as_array);
        let listed: Vec<RecordRoot> = listed
            .into_iter()
            .flatten()
            .filter_map(|root| root.as_str().and_then(from_hex_array).map(RecordRoot))
            .collect();
        let tenant = view.str("tenant").unwrap_or_default();
        let found = self.store.by_action(tenant, action, ACTION_RECORDS_MAX).await;
        let mut supporting = Vec::new();
        for index in found.map_err(store_fault)?.into_iter().filter(|i| *i < stored.index) {
            let other = Stored::read(&*self.store, index).await?;
            if other.root == parent || listed.contains(&other.root) {
                supporting.push(index);
            }
        }
        Ok(supporting)
    }
}
