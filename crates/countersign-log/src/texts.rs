//! The texts of policies, beside the log: under their digest, and for the tenants that put them.
//!
//! A digest stands in records and packs that others read. So it opens nothing by itself: a tenant
//! registers and reads only texts that it put here (ADR 014).

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::from_hex_array;
use countersign_core::hash::{Context, Hash};
use serde_json::Value;

use crate::api::{BatchRecord, Refused};
use crate::ledger::Ledger;
use crate::shared::store_fault;
use crate::store::{Store, StoreError};
use crate::work::Work;

/// Bytes of a policy's two texts and their lengths.
pub const BLOB_BYTES_MAX: usize = 4 * 1024 * 1024 + 8;

impl<S: Store> Ledger<S> {
    /// Keeps the texts of a policy under their digest, and that this tenant put them; false where it
    /// did so before.
    ///
    /// # Errors
    ///
    /// `BLOB_OVERSIZED`; `BLOB_DIGEST` where the digest is of other bytes, or the bytes are not two
    /// texts with their lengths (KIND-8); `LEDGER_STOPPING`, `LEDGER_POISONED`, `STORE_FAILED`,
    /// `STORE_CORRUPT`.
    pub async fn put_blob(
        &self,
        tenant: &str,
        digest: Hash,
        bytes: Vec<u8>,
    ) -> Result<bool, Refused> {
        self.ready()?;
        if bytes.len() > BLOB_BYTES_MAX {
            return Err(Code::BlobOversized.into());
        }
        if Context::Policy.hash(&[&bytes]) != digest || !is_policy(&bytes) {
            return Err(Code::BlobDigest.into());
        }
        // The texts first: whoever is said to have put them finds them.
        self.keep(digest, bytes).await?;
        self.keep(held_by(tenant, digest), Vec::new()).await
    }

    /// The texts of a policy that the tenant put here. A digest alone opens nothing: who knows that of
    /// another tenant's texts has shown none, and is shown none (ADR 014).
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where it put none; `STORE_FAILED`, `STORE_CORRUPT`.
    pub async fn policy(&self, tenant: &str, digest: Hash) -> Result<Vec<u8>, Refused> {
        let content = self.policy_of(tenant, digest).await?.ok_or(Code::NotFound)?;
        // What is stored is not believed to be what it is stored as.
        if Context::Policy.hash(&[&content]) == digest {
            Ok(content)
        } else {
            Err(Code::StoreCorrupt.at_field("blob").into())
        }
    }

    /// A policy record names texts that its tenant put, of the length it says, or none (KIND-8).
    pub(crate) async fn policy_held(&self, record: &BatchRecord) -> Result<(), Fault> {
        let view = record.record.view();
        let length = view.get("length").and_then(Value::as_u64).unwrap_or(0);
        if length == 0 {
            return Ok(());
        }
        let digest = view.str("digest").and_then(from_hex_array).ok_or(Code::BlobUnknown)?;
        let tenant = view.str("tenant").unwrap_or_default();
        let held = self.policy_of(tenant, digest).await?;
        let held = held.ok_or(Code::BlobUnknown.at_field("digest"))?;
        // Two lengths of four bytes stand before the texts.
        if held.len() as u64 == length.saturating_add(8) {
            Ok(())
        } else {
            Err(Code::BlobDigest.at_field("length"))
        }
    }

    /// The texts that this tenant put under this digest.
    async fn policy_of(&self, tenant: &str, digest: Hash) -> Result<Option<Vec<u8>>, Fault> {
        let store = &self.shared.store;
        if store.blob(held_by(tenant, digest)).await.map_err(store_fault)?.is_none() {
            return Ok(None);
        }
        store.blob(digest).await.map_err(store_fault)
    }

    /// Keeps a blob. A write of unknown fate is the sequencer's to look into, since it may be the
    /// end of all writing.
    pub(crate) async fn keep(&self, digest: Hash, bytes: Vec<u8>) -> Result<bool, Refused> {
        let kept = self.shared.store.put_blob(digest, bytes).await;
        Ok(kept.map_err(|error| {
            if matches!(error, StoreError::Unknown(_)) {
                // An error means that the sequencer has ended already.
                let _ = self.queue.send(Work::Doubt(error.clone()));
            }
            store_fault(error)
        })?)
    }
}

/// Where it is kept that a tenant put texts: a blob without content, under a digest of both.
fn held_by(tenant: &str, digest: Hash) -> Hash {
    Context::PolicyHolder.hash(&[&digest, tenant.as_bytes()])
}

/// u32 length, policy text, u32 length, schema text, and nothing after it (KIND-8).
fn is_policy(bytes: &[u8]) -> bool {
    let part = |bytes: &'_ [u8]| -> Option<usize> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let text = rest.get(..length)?;
        std::str::from_utf8(text).ok()?;
        Some(length + 4)
    };
    let Some(first) = part(bytes) else { return false };
    let second = bytes.get(first..).and_then(part);
    second.is_some_and(|second| first + second == bytes.len())
}
