//! Seals: one gate signature over a batch of records (spec/seal.md).

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde_json::{Value, json};

use crate::codes::{Code, Fault};
use crate::encoding::{b64, from_b64_array};
use crate::hash::{BatchRoot, Context, Hash, RecordRoot, Sealed};
use crate::json::Object;
use crate::merkle::{BatchTree, root_from_inclusion, root_of};
use crate::record::RsMerkle;

/// Records that one seal may cover (SEAL-1).
pub const BATCH_MAX: u32 = 65_536;
/// Hashes that a batch path may have: log2 of [`BATCH_MAX`].
pub const PATH_MAX: usize = 16;

/// An Ed25519 public key that may verify: canonical, not of small order (CONV-8).
pub fn verifying_key(bytes: &[u8; 32]) -> Result<VerifyingKey, Fault> {
    // The encoding is canonical exactly when y < 2^255 - 19: the other spelling that a point may
    // have, x = 0 with a sign bit, belongs to points of small order.
    let [low, middle @ .., high] = bytes;
    if *low >= 0xed && middle.iter().all(|b| *b == 0xff) && high & 0x7f == 0x7f {
        return Err(Code::KeyMalformed.into());
    }
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| Code::KeyMalformed)?;
    if key.is_weak() { Err(Code::KeyMalformed.into()) } else { Ok(key) }
}

/// Verifies strictly: S < L, A and R canonical and not of small order, no cofactor (CONV-8).
pub fn verify_signature(
    key: &[u8; 32],
    message: &[u8],
    signature: &[u8; 64],
    otherwise: Code,
) -> Result<(), Fault> {
    verifying_key(key)?
        .verify_strict(message, &Signature::from_bytes(signature))
        .map_err(|_| otherwise.into())
}

/// H("batch leaf", record root) (SEAL-2).
fn batch_leaf(root: &RecordRoot) -> Hash {
    Context::BatchLeaf.hash(&[&root.0])
}

/// What is signed: `countersign/v1 seal`, newline, u32 size, batch root (SEAL-3).
fn signed_bytes(size: u32, root: &BatchRoot) -> Vec<u8> {
    let mut bytes = b"countersign/v1 seal\n".to_vec();
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(&root.0);
    bytes
}

/// The seal of one record: its place in a batch and the signature over the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The gate's Ed25519 public key.
    pub key: [u8; 32],
    /// Records in the batch.
    pub size: u32,
    /// The record's place in it, from 0.
    pub index: u32,
    /// From the record's sibling to the root's child, of exactly the length that index and size
    /// demand.
    pub path: Vec<Hash>,
    /// Ed25519 over [`Seal`]'s signed bytes.
    pub signature: [u8; 64],
}

impl Seal {
    /// Verifies path and signature for a record (SEAL-4, SEAL-5).
    pub fn verify(&self, root: &RecordRoot) -> Result<(), Fault> {
        self.verify_batch(&self.batch_root(root)?)
    }

    /// The root of the batch that the path leads to from this record.
    pub(crate) fn batch_root(&self, root: &RecordRoot) -> Result<BatchRoot, Fault> {
        if self.size == 0 || self.size > BATCH_MAX {
            return Err(Code::SealSize.into());
        }
        if self.index >= self.size {
            return Err(Code::SealIndex.into());
        }
        let batch = root_from_inclusion::<BatchTree>(
            u64::from(self.index),
            u64::from(self.size),
            &batch_leaf(root),
            &self.path,
        )
        .map_err(|_| Code::SealPath)?;
        Ok(BatchRoot(batch))
    }

    /// Verifies the signature over a batch of this root.
    pub(crate) fn verify_batch(&self, batch: &BatchRoot) -> Result<(), Fault> {
        let message = signed_bytes(self.size, batch);
        verify_signature(&self.key, &message, &self.signature, Code::SealSignature)
    }

    /// H("sealed", record root || key || signature): what the log entry commits to (ENT-3).
    pub fn sealed(&self, root: &RecordRoot) -> Sealed {
        Sealed(Context::Sealed.hash(&[&root.0, &self.key, &self.signature]))
    }

    /// The seal as evidence files write it.
    pub fn to_json(&self) -> Value {
        let path: Vec<String> = self.path.iter().map(|hash| b64(hash)).collect();
        json!({
            "key": b64(&self.key),
            "size": self.size,
            "index": self.index,
            "path": path,
            "signature": b64(&self.signature),
        })
    }

    /// Reads a seal of an evidence file.
    pub fn from_json(value: &Value) -> Result<Self, Fault> {
        let object = Object::exact(value, &["key", "size", "index", "path", "signature"])?;
        let small = |name| -> Result<u32, Fault> {
            u32::try_from(object.u64(name)?).map_err(|_| Code::SealSize.at_field(name))
        };
        let path = object.array("path")?;
        if path.len() > PATH_MAX {
            return Err(Code::SealPath.into());
        }
        let hash = |item: &Value| {
            let text = item.as_str().ok_or(Code::JsonShape)?;
            from_b64_array::<32>(text).ok_or(Code::Base64.at_field("path"))
        };
        Ok(Self {
            key: from_b64_array(object.str("key")?).ok_or(Code::Base64.at_field("key"))?,
            size: small("size")?,
            index: small("index")?,
            path: path.iter().map(hash).collect::<Result<_, _>>()?,
            signature: from_b64_array(object.str("signature")?)
                .ok_or(Code::Base64.at_field("signature"))?,
        })
    }
}

/// A sealed batch: roots in order under one key and signature. What a ledger stores of a seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// The gate's Ed25519 public key.
    pub key: [u8; 32],
    /// Ed25519 over size and batch root.
    pub signature: [u8; 64],
    /// The roots of the batch's records.
    pub roots: Vec<RecordRoot>,
}

impl SealedBatch {
    /// Seals some records with a gate's key; 1 to [`BATCH_MAX`] of them.
    pub fn seal(key: &SigningKey, roots: Vec<RecordRoot>) -> Result<Self, Fault> {
        let size = batch_size(&roots)?;
        let leaves: Vec<Hash> = roots.iter().map(batch_leaf).collect();
        let tree = rs_merkle::MerkleTree::<RsMerkle<BatchTree>>::from_leaves(&leaves);
        let built = tree.root().ok_or(Code::SealSize)?;
        // Two programs agree on the root before it is signed.
        if Some(built) != root_of::<BatchTree>(&leaves) {
            return Err(Code::SealPath.into());
        }
        let signature = key.sign(&signed_bytes(size, &BatchRoot(built))).to_bytes();
        Ok(Self { key: key.verifying_key().to_bytes(), signature, roots })
    }

    /// Verifies the signature over all roots.
    pub fn verify(&self) -> Result<(), Fault> {
        let size = batch_size(&self.roots)?;
        let leaves: Vec<Hash> = self.roots.iter().map(batch_leaf).collect();
        let root = root_of::<BatchTree>(&leaves).ok_or(Code::SealSize)?;
        let message = signed_bytes(size, &BatchRoot(root));
        verify_signature(&self.key, &message, &self.signature, Code::SealSignature)
    }

    /// The seals of every record of the batch. `rs_merkle` makes the paths.
    pub fn seals(&self) -> Result<Vec<Seal>, Fault> {
        let leaves: Vec<Hash> = self.roots.iter().map(batch_leaf).collect();
        let tree = rs_merkle::MerkleTree::<RsMerkle<BatchTree>>::from_leaves(&leaves);
        let size = batch_size(&self.roots)?;
        (0..size).map(|index| Ok(self.seal_from(&tree, index, size))).collect()
    }

    /// The seal of one record of the batch.
    pub fn seal_of(&self, index: u32) -> Result<Seal, Fault> {
        let size = batch_size(&self.roots)?;
        if index >= size {
            return Err(Code::SealIndex.into());
        }
        let leaves: Vec<Hash> = self.roots.iter().map(batch_leaf).collect();
        let tree = rs_merkle::MerkleTree::<RsMerkle<BatchTree>>::from_leaves(&leaves);
        Ok(self.seal_from(&tree, index, size))
    }

    fn seal_from(
        &self,
        tree: &rs_merkle::MerkleTree<RsMerkle<BatchTree>>,
        index: u32,
        size: u32,
    ) -> Seal {
        let path = tree.proof(&[index as usize]).proof_hashes().to_vec();
        Seal { key: self.key, size, index, path, signature: self.signature }
    }

    /// H("sealed", …) of a record under this batch's signature.
    pub fn sealed(&self, root: &RecordRoot) -> Sealed {
        Sealed(Context::Sealed.hash(&[&root.0, &self.key, &self.signature]))
    }
}

fn batch_size(roots: &[RecordRoot]) -> Result<u32, Fault> {
    let size = u32::try_from(roots.len()).map_err(|_| Code::SealSize)?;
    if size == 0 || size > BATCH_MAX { Err(Code::SealSize.into()) } else { Ok(size) }
}
