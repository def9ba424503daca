//! The body of an `add-checkpoint` request: `old` line, proof lines, empty line, checkpoint.

use countersign_core::encoding::{b64, from_b64_array, from_decimal};
use countersign_core::hash::{Hash, TreeSize};

use super::checkpoint::Checkpoint;

/// Bytes that a request may have: room for 16 signatures of post-quantum size, as C2SP asks, and for
/// the longest proof.
pub const REQUEST_BYTES_MAX: usize = 256 * 1_024;
/// Lines that a proof may have.
pub const PROOF_LINES_MAX: usize = 63;

/// A request, parsed and not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the log believes was cosigned last.
    pub old: TreeSize,
    /// The consistency proof from there.
    pub proof: Vec<Hash>,
    /// The head to cosign.
    pub checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// The body that asks for a cosignature of `note`, a signed checkpoint, to which `proof` leads
    /// from `old`.
    pub fn text(old: TreeSize, proof: &[Hash], note: &str) -> String {
        let mut body = format!("old {}\n", old.0);
        for hash in proof {
            body.push_str(&b64(hash));
            body.push('\n');
        }
        body.push('\n');
        body.push_str(note);
        body
    }

    /// Parses a body (WITN-2). The error says what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err("the request is too large");
        }
        let text = std::str::from_utf8(body).map_err(|_| "the request is not UTF-8")?;
        let (old, mut rest) = text.split_once('\n').ok_or("the request has no line")?;
        let old = old.strip_prefix("old ").ok_or("the first line does not say old")?;
        let old = TreeSize(from_decimal(old).ok_or("the old size is no decimal number")?);
        let mut proof = Vec::new();
        loop {
            let (line, after) = rest.split_once('\n').ok_or("no empty line ends the proof")?;
            rest = after;
            if line.is_empty() {
                break;
            }
            if proof.len() == PROOF_LINES_MAX {
                return Err("the proof has more than 63 lines");
            }
            proof.push(from_b64_array(line).ok_or("a proof line is not 32 bytes of base64")?);
        }
        Ok(Self { old, proof, checkpoint: Checkpoint::parse(rest)? })
    }
}
