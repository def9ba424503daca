//! Signed notes, checkpoints and timestamped cosignatures (spec/note.md; C2SP signed-note v1.0.0,
//! tlog-checkpoint v1.0.0, tlog-cosignature v1).

use ed25519_dalek::{Signer as _, SigningKey};

use crate::codes::{Code, Fault};
use crate::encoding::{
    b64, from_b64, from_b64_array, from_decimal, from_hex_array, hex, is_origin,
};
use crate::hash::{RootHash, TreeSize, sha256};
use crate::seal::{verify_signature, verifying_key};

/// Bytes that a note may have.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// Signature lines that a note may have; C2SP asks for at least 16.
pub const SIGNATURES_MAX: usize = 64;

/// What a key of a note signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// 0x01: Ed25519 over the note's text.
    Note,
    /// 0x04: timestamped cosignature of a checkpoint.
    Cosignature,
}

impl KeyType {
    fn number(self) -> u8 {
        match self {
            Self::Note => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A verifier key: `<name>+<hex key ID>+<base64 of type and public key>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    /// The key's name; a log's is its origin.
    pub name: String,
    /// What it signs.
    pub key_type: KeyType,
    /// The Ed25519 public key.
    pub key: [u8; 32],
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

impl VerifierKey {
    /// A key by its parts.
    pub fn new(name: &str, key_type: KeyType, key: [u8; 32]) -> Result<Self, Fault> {
        if !is_key_name(name) {
            return Err(Code::VkeyMalformed.into());
        }
        verifying_key(&key)?;
        Ok(Self { name: name.to_owned(), key_type, key })
    }

    /// Reads a vkey; the key ID must be the one that name, type and key give (NOTE-3).
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Code::VkeyMalformed.into());
        };
        let id: [u8; 4] = from_hex_array(id).ok_or(Code::VkeyMalformed)?;
        let [number, key @ ..] = from_b64_array::<33>(key).ok_or(Code::VkeyMalformed)?;
        let key_type = match number {
            1 => KeyType::Note,
            4 => KeyType::Cosignature,
            _ => return Err(Code::VkeyType.into()),
        };
        let vkey = Self::new(name, key_type, key)?;
        if vkey.id() == id { Ok(vkey) } else { Err(Code::VkeyId.into()) }
    }

    /// SHA-256(name || 0x0A || type || public key) cut to 4 bytes (NOTE-2).
    pub fn id(&self) -> [u8; 4] {
        let mut input = self.name.as_bytes().to_vec();
        input.push(b'\n');
        input.push(self.key_type.number());
        input.extend_from_slice(&self.key);
        let [a, b, c, d, ..] = sha256(&input);
        [a, b, c, d]
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut key = vec![self.key_type.number()];
        key.extend_from_slice(&self.key);
        write!(f, "{}+{}+{}", self.name, hex(&self.id()), b64(&key))
    }
}

/// A signature line of a note, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    /// The key's name.
    pub name: String,
    /// The key's ID.
    pub id: [u8; 4],
    /// What follows the ID.
    pub signature: Vec<u8>,
}

/// A checkpoint with its signature lines, parsed and not verified: every check that needs a key
/// is a method that names the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// The log's identity.
    pub origin: String,
    /// Leaves in the tree.
    pub size: TreeSize,
    /// The tree's root.
    pub root: RootHash,
    body: String,
    signatures: Vec<SignatureLine>,
    text: String,
}

/// The text that a log signs: origin, size, root, one line each.
pub fn checkpoint_body(origin: &str, size: TreeSize, root: &RootHash) -> String {
    format!("{origin}\n{}\n{}\n", size.0, b64(&root.0))
}

impl SignedCheckpoint {
    /// Parses a signed checkpoint: exactly one spelling, no extension lines, at least one
    /// signature line (NOTE-1, NOTE-4 to NOTE-6).
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > NOTE_BYTES_MAX {
            return Err(Code::NoteOversized.into());
        }
        if text.bytes().any(|b| (b < 0x20 && b != b'\n') || b == 0x7f) {
            return Err(Code::NoteMalformed.into());
        }
        // The text ends at the last empty line; a checkpoint's lines are not empty, so the first
        // is the last, and a second one is a fault.
        let (body, signatures) = text.split_once("\n\n").ok_or(Code::NoteMalformed)?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(Code::CheckpointLines.into());
        };
        if !is_origin(origin) {
            return Err(Code::OriginMalformed.into());
        }
        let size = TreeSize(from_decimal(size).ok_or(Code::CheckpointLines)?);
        let root = RootHash(from_b64_array(root).ok_or(Code::Base64.at_field("root"))?);
        let signatures = signatures.strip_suffix('\n').ok_or(Code::NoteMalformed)?;
        let signatures =
            signatures.split('\n').map(parse_signature_line).collect::<Result<Vec<_>, Fault>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(Code::NoteOversized.into());
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
            body: format!("{body}\n"),
            signatures,
            text: text.to_owned(),
        })
    }

    /// The whole note, verbatim.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text that is signed, with its final newline.
    pub fn body(&self) -> &str {
        &self.body
    }

    fn lines_of<'a>(&'a self, vkey: &VerifierKey) -> impl Iterator<Item = &'a SignatureLine> {
        let id = vkey.id();
        let name = vkey.name.clone();
        self.signatures.iter().filter(move |line| line.id == id && line.name == name)
    }

    /// Verifies the log's own signature (type 0x01): every line of that key, at least one.
    pub fn verify_log(&self, vkey: &VerifierKey) -> Result<(), Fault> {
        if vkey.key_type != KeyType::Note {
            return Err(Code::VkeyType.into());
        }
        let mut seen = false;
        for line in self.lines_of(vkey) {
            let signature =
                <&[u8; 64]>::try_from(line.signature.as_slice()).map_err(|_| Code::LogSignature)?;
            verify_signature(&vkey.key, self.body.as_bytes(), signature, Code::LogSignature)?;
            seen = true;
        }
        if seen { Ok(()) } else { Err(Code::LogSignatureMissing.into()) }
    }

    /// Verifies every cosignature of this key and gives the earliest and latest of their times in
    /// seconds; `None` where there is none (tlog-cosignature v1).
    pub fn cosigned_at(
        &self,
        vkey: &VerifierKey,
        otherwise: Code,
    ) -> Result<Option<(u64, u64)>, Fault> {
        if vkey.key_type != KeyType::Cosignature {
            return Err(Code::VkeyType.into());
        }
        let mut times: Option<(u64, u64)> = None;
        for line in self.lines_of(vkey) {
            let bytes = <&[u8; 72]>::try_from(line.signature.as_slice()).map_err(|_| otherwise)?;
            let (time, signature) = bytes.split_first_chunk::<8>().ok_or(otherwise)?;
            let time = u64::from_be_bytes(*time);
            let signature = signature.first_chunk::<64>().ok_or(otherwise)?;
            if time > i64::MAX as u64 {
                return Err(otherwise.into());
            }
            let message = cosigned_bytes(time, &self.body);
            verify_signature(&vkey.key, message.as_bytes(), signature, otherwise)?;
            times = Some(times.map_or((time, time), |(a, b)| (a.min(time), b.max(time))));
        }
        Ok(times)
    }

    /// The note with one more signature line.
    pub fn with_line(&self, line: &str) -> Result<Self, Fault> {
        Self::parse(&format!("{}{line}", self.text))
    }
}

fn parse_signature_line(line: &str) -> Result<SignatureLine, Fault> {
    let rest = line.strip_prefix("\u{2014} ").ok_or(Code::NoteSignatureLine)?;
    let (name, signature) = rest.split_once(' ').ok_or(Code::NoteSignatureLine)?;
    if !is_key_name(name) {
        return Err(Code::NoteSignatureLine.into());
    }
    let bytes = from_b64(signature).ok_or(Code::NoteSignatureLine)?;
    let (id, signature) = bytes.split_first_chunk::<4>().ok_or(Code::NoteSignatureLine)?;
    if signature.is_empty() {
        return Err(Code::NoteSignatureLine.into());
    }
    Ok(SignatureLine { name: name.to_owned(), id: *id, signature: signature.to_vec() })
}

fn cosigned_bytes(time: u64, body: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{body}")
}

fn signature_line(vkey: &VerifierKey, signature: &[u8]) -> String {
    let mut bytes = vkey.id().to_vec();
    bytes.extend_from_slice(signature);
    format!("\u{2014} {} {}\n", vkey.name, b64(&bytes))
}

/// The log's signature line over a checkpoint's body.
pub fn sign_body(vkey: &VerifierKey, key: &SigningKey, body: &str) -> String {
    signature_line(vkey, &key.sign(body.as_bytes()).to_bytes())
}

/// A timestamped cosignature line over a checkpoint's body; `seconds` since the epoch.
pub fn cosign_body(vkey: &VerifierKey, key: &SigningKey, seconds: u64, body: &str) -> String {
    let signature = key.sign(cosigned_bytes(seconds, body).as_bytes()).to_bytes();
    let mut bytes = seconds.to_be_bytes().to_vec();
    bytes.extend_from_slice(&signature);
    signature_line(vkey, &bytes)
}
