//! Receipts and consistency files (spec/receipt.md, spec/consistency.md; C2SP tlog-proof v1).

use crate::codes::{Code, Fault};
use crate::encoding::{b64, from_b64_array, from_decimal};
use crate::hash::{Hash, LeafHash, LeafIndex, TreeSize};
use crate::merkle::{empty_root, verify_consistency, verify_inclusion};
use crate::note::SignedCheckpoint;

/// Hashes that a proof may have: no tree has more than 2^63 leaves.
pub const PROOF_HASHES_MAX: usize = 64;
/// Bytes that a consistency file may have.
pub const CONSISTENCY_BYTES_MAX: usize = 8 * 1024;

const PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";
const CONSISTENCY_HEADER: &str = "countersign/v1 consistency";

fn hash_line(line: &str) -> Result<Hash, Fault> {
    from_b64_array(line).ok_or(Code::Base64.at_field("hash"))
}

/// A receipt: the proof that an entry is in the log, with the checkpoint it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The entry's place in the log.
    pub index: LeafIndex,
    /// From the leaf's sibling to the root's child.
    pub path: Vec<Hash>,
    /// The checkpoint, verbatim, with whatever signatures it had.
    pub checkpoint: SignedCheckpoint,
}

impl Receipt {
    /// Parses a tlog-proof; an `extra` line is refused (RCPT-3).
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let (header, rest) = text.split_once('\n').ok_or(Code::ReceiptMalformed)?;
        if header != PROOF_HEADER {
            return Err(unknown_version(header, "c2sp.org/tlog-proof@v", Code::ReceiptMalformed));
        }
        if rest.starts_with("extra ") {
            return Err(Code::ReceiptExtra.into());
        }
        let (proof, checkpoint) = rest.split_once("\n\n").ok_or(Code::ReceiptMalformed)?;
        let mut lines = proof.split('\n');
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = LeafIndex(index.and_then(from_decimal).ok_or(Code::ReceiptMalformed)?);
        let path: Vec<Hash> =
            lines.take(PROOF_HASHES_MAX + 1).map(hash_line).collect::<Result<_, _>>()?;
        if path.len() > PROOF_HASHES_MAX {
            return Err(Code::ProofLength.into());
        }
        Ok(Self { index, path, checkpoint: SignedCheckpoint::parse(checkpoint)? })
    }

    /// Whether the proof leads from this leaf to the checkpoint's root.
    pub fn verify(&self, leaf: &LeafHash) -> Result<(), Fault> {
        let checkpoint = &self.checkpoint;
        verify_inclusion(self.index, checkpoint.size, leaf, &self.path, &checkpoint.root)
    }
}

impl std::fmt::Display for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{PROOF_HEADER}\nindex {}", self.index.0)?;
        for hash in &self.path {
            writeln!(f, "{}", b64(hash))?;
        }
        write!(f, "\n{}", self.checkpoint.as_str())
    }
}

/// Names a version that is well formed but unknown apart from what is malformed.
pub(crate) fn unknown_version(found: &str, prefix: &str, otherwise: Code) -> Fault {
    let version = found.strip_prefix(prefix).and_then(from_decimal);
    if version.is_some_and(|v| v > 1) { Code::VersionUnknown.into() } else { otherwise.into() }
}

/// A consistency file: the proof that one tree is a prefix of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// The smaller tree.
    pub old_size: TreeSize,
    /// The larger tree.
    pub new_size: TreeSize,
    /// The proof's hashes (RFC 9162 section 2.1.4).
    pub hashes: Vec<Hash>,
}

impl ConsistencyProof {
    /// Parses a `.proof` file (CONS-1).
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > CONSISTENCY_BYTES_MAX {
            return Err(Code::ConsistencyMalformed.into());
        }
        let text = text.strip_suffix('\n').ok_or(Code::ConsistencyMalformed)?;
        let mut lines = text.split('\n');
        let header = lines.next().unwrap_or_default();
        if header != CONSISTENCY_HEADER {
            let version = header.strip_suffix(" consistency").unwrap_or_default();
            return Err(unknown_version(version, "countersign/v", Code::ConsistencyMalformed));
        }
        let mut size = || {
            let line = lines.next().and_then(from_decimal);
            line.map(TreeSize).ok_or(Code::ConsistencyMalformed)
        };
        let (old_size, new_size) = (size()?, size()?);
        let hashes = lines.map(hash_line).collect::<Result<Vec<_>, _>>()?;
        if hashes.len() > PROOF_HASHES_MAX {
            return Err(Code::ProofLength.into());
        }
        Ok(Self { old_size, new_size, hashes })
    }

    /// Whether the proof joins these two heads: one origin, the sizes it names, both roots.
    ///
    /// Checks no signature: who calls it has verified both heads.
    pub fn verify(&self, old: &SignedCheckpoint, new: &SignedCheckpoint) -> Result<(), Fault> {
        if old.origin != new.origin {
            return Err(Code::ConsistencyOrigins.into());
        }
        if self.old_size != old.size || self.new_size != new.size {
            return Err(Code::ConsistencySizes.into());
        }
        // From the empty tree nothing needs proof (CONS-3); its root is the hash of nothing.
        if old.size.0 == 0 {
            let empty = empty_root();
            let joined = old.root == empty && (new.size.0 > 0 || new.root == empty);
            return match (joined, self.hashes.is_empty()) {
                (true, true) => Ok(()),
                (true, false) => Err(Code::ProofLength.into()),
                (false, _) => Err(Code::ConsistencyMismatch.into()),
            };
        }
        verify_consistency(old.size, new.size, &old.root, &new.root, &self.hashes)
    }
}

impl std::fmt::Display for ConsistencyProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{CONSISTENCY_HEADER}\n{}\n{}", self.old_size.0, self.new_size.0)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", b64(hash)))
    }
}
