//! Checkpoints of any C2SP log.
//!
//! The project's own heads are narrower ([`countersign_core::note`]): other logs may have extension
//! lines, which are part of what is signed, and origins with spaces.

use countersign_core::codes::Code;
use countersign_core::encoding::{from_b64, from_b64_array, from_decimal};
use countersign_core::hash::{RootHash, TreeSize};
use countersign_core::note::{KeyType, VerifierKey};
use countersign_core::seal::verify_signature;

/// Signature lines that a note may have; C2SP asks for at least 16.
pub const SIGNATURES_MAX: usize = 64;
/// Bytes that an origin may have.
pub const ORIGIN_BYTES_MAX: usize = 1_024;

/// A signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    name: String,
    id: [u8; 4],
    signature: Vec<u8>,
    text: String,
}

/// A checkpoint, parsed and not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: TreeSize,
    root: RootHash,
    body: String,
    lines: Vec<Line>,
}

impl Checkpoint {
    /// Parses a signed note whose text is a checkpoint (WITN-2). The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.bytes().any(|b| b < 0x20 && b != b'\n') {
            return Err("the checkpoint has control characters");
        }
        // The last empty line parts text and signatures.
        let (body, lines) =
            text.rsplit_once("\n\n").ok_or("no empty line before the signatures")?;
        let mut head = body.splitn(4, '\n');
        let (Some(origin), Some(size), Some(root)) = (head.next(), head.next(), head.next()) else {
            return Err("the checkpoint has fewer than three lines");
        };
        if origin.is_empty() || origin.len() > ORIGIN_BYTES_MAX {
            return Err("the origin is empty or too long");
        }
        // Extension lines are not looked into, and are not empty.
        if head.next().is_some_and(|more| more.split('\n').any(str::is_empty)) {
            return Err("an extension line is empty");
        }
        let size = TreeSize(from_decimal(size).ok_or("the tree size is no decimal number")?);
        let root = RootHash(from_b64_array(root).ok_or("the root is not 32 bytes of base64")?);
        let lines = lines.strip_suffix('\n').ok_or("the checkpoint ends without a newline")?;
        let lines = lines.split('\n').map(Line::parse).collect::<Result<Vec<_>, _>>()?;
        if lines.len() > SIGNATURES_MAX {
            return Err("too many signatures");
        }
        let (origin, body) = (origin.to_owned(), format!("{body}\n"));
        Ok(Self { origin, size, root, body, lines })
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Leaves in its tree.
    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// The tree's root.
    pub fn root(&self) -> &RootHash {
        &self.root
    }

    /// The text that is signed, extension lines and final newline included.
    pub fn body(&self) -> &str {
        &self.body
    }

    fn lines_of<'a>(&'a self, vkey: &'a VerifierKey) -> impl Iterator<Item = &'a Line> {
        let id = vkey.id();
        self.lines.iter().filter(move |line| line.id == id && line.name == vkey.name)
    }

    /// Verifies every line of these log keys, and gives those lines as they stand. Lines of other
    /// keys are passed over; one of a known key that fails, or none at all, is an error (WITN-3).
    pub fn signed_by(&self, keys: &[VerifierKey]) -> Result<String, Unsigned> {
        let mut verified = String::new();
        for vkey in keys.iter().filter(|vkey| vkey.key_type == KeyType::Note) {
            for line in self.lines_of(vkey) {
                let signature =
                    <&[u8; 64]>::try_from(line.signature.as_slice()).map_err(|_| Unsigned)?;
                let (key, body) = (&vkey.key, self.body.as_bytes());
                verify_signature(key, body, signature, Code::LogSignature).map_err(|_| Unsigned)?;
                verified.push_str(&line.text);
                verified.push('\n');
            }
        }
        if verified.is_empty() { Err(Unsigned) } else { Ok(verified) }
    }

    /// The latest time of this key's cosignatures, all of which verify; none where one does not, or
    /// there is none.
    pub fn cosigned_by(&self, vkey: &VerifierKey) -> Option<u64> {
        let mut latest = None;
        for line in self.lines_of(vkey) {
            let (time, signature) = line.signature.split_first_chunk::<8>()?;
            let time = u64::from_be_bytes(*time);
            let message = format!("cosignature/v1\ntime {time}\n{}", self.body);
            let signature = <&[u8; 64]>::try_from(signature).ok()?;
            verify_signature(&vkey.key, message.as_bytes(), signature, Code::WitnessSignature)
                .ok()?;
            latest = latest.max(Some(time));
        }
        latest
    }
}

/// No line of a trusted key, or one that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsigned;

impl Line {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let malformed = "a signature line is not of the form that signed notes have";
        let rest = line.strip_prefix("\u{2014} ").ok_or(malformed)?;
        let (name, encoded) = rest.split_once(' ').ok_or(malformed)?;
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c == '+') {
            return Err(malformed);
        }
        let bytes = from_b64(encoded).ok_or(malformed)?;
        let (id, signature) = bytes.split_first_chunk::<4>().ok_or(malformed)?;
        if signature.is_empty() {
            return Err(malformed);
        }
        let (name, text) = (name.to_owned(), line.to_owned());
        Ok(Self { name, id: *id, signature: signature.to_vec(), text })
    }
}
