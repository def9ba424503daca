//! What packs are made of, proven at heads of exact sizes: old heads, evidence, receipts, entries,
//! peaks, the texts of policies.

use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::entry::{ENTRY_BYTES, Entry};
use countersign_core::hash::{Context, Hash, TreeSize};
use countersign_core::merkle::{CompactRange, leaf_hash};
use countersign_core::receipt::Receipt;
use countersign_core::trust::Trust;
use countersign_proto::convert::{ENTRIES_MAX, EvidenceQuery, RecordRef, entries_from, peaks_from};
use countersign_proto::v1;
use prost::bytes::Bytes;

use crate::client::{Client, EvidenceItem, HeadWanted};
use crate::error::ClientError;
use crate::heads::VerifiedHead;

fn mismatch(field: &'static str) -> ClientError {
    ClientError::Answer(Code::AnswerMismatch.at_field(field))
}

impl Client {
    /// The head that was committed at exactly this size, proven to be a prefix of the newest one
    /// that this client saw.
    pub async fn head_at(&self, size: TreeSize) -> Result<Arc<VerifiedHead>, ClientError> {
        self.inner.tracker.floor()?;
        let mut grpc = self.grpc();
        let request = self.request(v1::GetHeadRequest { at_size: size.0, witnessed: false });
        let response = self.call(grpc.get_head(request)).await?;
        let head = self.inner.keys.verify(&response.checkpoint).map_err(ClientError::Answer)?;
        if head.size() != size || response.size != size.0 {
            return Err(mismatch("size"));
        }
        self.take_old_head(&head).await?;
        Ok(head)
    }

    /// [`Client::evidence`], each file proven at the head that was committed at exactly this size:
    /// the same question gives the same bytes for ever, until something is erased.
    pub async fn evidence_at(
        &self,
        query: EvidenceQuery,
        size: TreeSize,
        trust: Option<&Trust>,
    ) -> Result<Vec<EvidenceItem>, ClientError> {
        self.evidence_with(query, HeadWanted::Exactly(size), trust).await
    }

    /// [`Client::receipt`], at the head that was committed at exactly this size.
    pub async fn receipt_at(
        &self,
        record: RecordRef,
        entry: &Entry,
        size: TreeSize,
    ) -> Result<Receipt, ClientError> {
        self.receipt_with(record, entry, HeadWanted::Exactly(size)).await
    }

    /// The compact range of everything under a head. It folds to the head's root, or it is refused.
    pub async fn peaks(&self, head: &VerifiedHead) -> Result<CompactRange, ClientError> {
        self.inner.tracker.floor()?;
        let mut grpc = self.grpc();
        let request = self.request(v1::GetPeaksRequest { size: head.size().0 });
        let response = self.call(grpc.get_peaks(request)).await?;
        let peaks = peaks_from(&response).map_err(ClientError::Answer)?;
        let range = CompactRange::from_peaks(head.size(), peaks).map_err(ClientError::Answer)?;
        if range.root() == head.root() { Ok(range) } else { Err(mismatch("hashes")) }
    }

    /// The entries between two heads, or up to one. What the reader gives out is proven once it has
    /// given out all.
    pub async fn entries(
        &self,
        from: Option<&VerifiedHead>,
        to: &Arc<VerifiedHead>,
    ) -> Result<EntryReader, ClientError> {
        let start = match from {
            Some(head) => self.peaks(head).await?,
            None => CompactRange::new(),
        };
        if start.size() > to.size() {
            return Err(ClientError::Record(Code::SizeUnknown.into()));
        }
        let range = start.clone();
        Ok(EntryReader { client: self.clone(), to: Arc::clone(to), start, range })
    }

    /// The texts of a policy version that the caller's tenant has a record of, checked against the
    /// digest: u32 length, policy text, u32 length, schema text.
    pub async fn policy_content(&self, digest: Hash) -> Result<Vec<u8>, ClientError> {
        self.inner.tracker.floor()?;
        let mut grpc = self.grpc();
        let message = v1::GetPolicyRequest { digest: Bytes::copy_from_slice(&digest) };
        let response = self.call(grpc.get_policy(self.request(message))).await?;
        if Context::Policy.hash(&[&response.content]) != digest {
            return Err(ClientError::Answer(Code::BlobDigest.into()));
        }
        Ok(response.content.to_vec())
    }
}

/// Entries between two heads, chunk by chunk, folded onto the first head's peaks as they come.
#[derive(Debug)]
pub struct EntryReader {
    client: Client,
    to: Arc<VerifiedHead>,
    start: CompactRange,
    range: CompactRange,
}

impl EntryReader {
    /// The compact range of the first head: what the entries are folded onto.
    pub fn start(&self) -> &CompactRange {
        &self.start
    }

    /// The next entries, at most 16,384; `None` when all were given, and fold to the second head.
    ///
    /// # Errors
    ///
    /// `ANSWER_MISMATCH` where they don't, or the ledger gives none: then nothing that was given out
    /// is proven.
    pub async fn next(&mut self) -> Result<Option<Vec<[u8; ENTRY_BYTES]>>, ClientError> {
        let (at, end) = (self.range.size().0, self.to.size().0);
        if at == end {
            let proven = self.range.root() == self.to.root();
            return if proven { Ok(None) } else { Err(mismatch("entries")) };
        }
        self.client.inner.tracker.floor()?;
        let left = u32::try_from(end - at).unwrap_or(u32::MAX);
        let message = v1::GetEntriesRequest { from: at, count: left.min(ENTRIES_MAX) };
        let mut grpc = self.client.grpc();
        let request = self.client.request(message);
        let response = self.client.call(grpc.get_entries(request)).await?;
        let entries = entries_from(&response).map_err(ClientError::Answer)?;
        if entries.is_empty() || entries.len() as u64 > u64::from(left) {
            return Err(mismatch("entries"));
        }
        for entry in &entries {
            self.range.append(&leaf_hash(entry));
        }
        Ok(Some(entries))
    }
}
