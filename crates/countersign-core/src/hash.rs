//! Digests by what they are digests of, and the two hash functions (ADR 001).
//!
//! The log tree is SHA-256 as in RFC 9162; records, batches and everything below a leaf are BLAKE3
//! in `derive_key` mode, one context a purpose, so that no digest of one kind passes for another.

use std::cell::RefCell;

use sha2::{Digest as _, Sha256};

/// Any 32-byte digest, where what it is a digest of is said by the place it stands in.
pub type Hash = [u8; 32];

macro_rules! digest_types {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Hash);

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), crate::encoding::hex(&self.0))
            }
        }

        impl $name {
            /// Lower-case hex of the digest.
            pub fn hex(&self) -> String {
                crate::encoding::hex(&self.0)
            }
        }
    )* };
}

digest_types! {
    /// SHA-256(0x00 || entry), a leaf of the log tree (RFC 9162 section 2.1.1).
    LeafHash;
    /// The root of the log tree at some size.
    RootHash;
    /// The commitment to one record (REC-6).
    RecordRoot;
    /// The root of a gate's batch of records (SEAL-1).
    BatchRoot;
    /// What an entry says of record and seal (ENT-3).
    Sealed;
}

/// A leaf's place in the log, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafIndex(pub u64);

/// The number of leaves in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeSize(pub u64);

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// SHA-256 of bytes that come in parts: of a file that is too large to be held.
#[derive(Clone, Debug, Default)]
pub struct Sha256Parts(Sha256);

impl Sha256Parts {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all of them.
    pub fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// The purposes for which BLAKE3 is used; each has a key derivation context of its own.
#[derive(Clone, Copy, Debug)]
pub enum Context {
    /// One field of a record.
    Field,
    /// An inner node of a record's field tree.
    FieldNode,
    /// A record's root.
    Record,
    /// A field's salt.
    Salt,
    /// A record in a batch.
    BatchLeaf,
    /// An inner node of a batch.
    BatchNode,
    /// A stream's name.
    Stream,
    /// What an entry says of record and seal.
    Sealed,
    /// The text that was shown to an approver.
    Displayed,
    /// A policy's text and schema.
    Policy,
    /// A grant's terms.
    Grant,
    /// The canonical form of an action.
    Action,
    /// An approver's justification.
    Justification,
    /// Which tenant put a policy's texts (ADR 014).
    PolicyHolder,
}

const CONTEXTS: [&str; 14] = [
    "field",
    "field node",
    "record",
    "salt",
    "batch leaf",
    "batch node",
    "stream",
    "sealed",
    "displayed",
    "policy",
    "grant",
    "action",
    "justification",
    "policy holder",
];

thread_local! {
    // Deriving a context's key costs two compressions, and a hasher is two kilobytes: each thread
    // makes one a context, and resets it before each use.
    static HASHERS: RefCell<[blake3::Hasher; 14]> = RefCell::new(CONTEXTS.map(new_hasher));
}

fn new_hasher(context: &str) -> blake3::Hasher {
    blake3::Hasher::new_derive_key(&format!("countersign 2026-11-23 v1 {context}"))
}

impl Context {
    /// H(context, parts joined): BLAKE3 in `derive_key` mode, 32 bytes (CONV-5).
    pub fn hash(self, parts: &[&[u8]]) -> Hash {
        HASHERS.with_borrow_mut(|hashers| {
            let Some(hasher) = hashers.get_mut(self as usize) else {
                unreachable!("bad math in hash: the table has a row for every context")
            };
            hasher.reset();
            for part in parts {
                hasher.update(part);
            }
            *hasher.finalize().as_bytes()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_context_has_its_own_row() {
        assert_eq!(CONTEXTS.get(Context::PolicyHolder as usize), Some(&"policy holder"));
        assert_eq!(CONTEXTS.get(Context::BatchNode as usize), Some(&"batch node"));
        let plain = blake3::derive_key("countersign 2026-11-23 v1 field node", b"ab");
        assert_eq!(Context::FieldNode.hash(&[b"a", b"b"]), plain);
        assert_ne!(Context::Field.hash(&[b"ab"]), plain);
    }
}
