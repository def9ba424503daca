//! `inspect`: what a file says, with every line marked as unverified.

use std::path::Path;

use countersign_core::codes::Code;
use countersign_core::encoding::{escaped, hex};
use countersign_core::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use countersign_core::record::Field;

use crate::Exit;
use crate::files::read_capped;

/// Prints an evidence file's content; it proves nothing, and says so on every line.
pub(crate) fn inspect(path: &Path) -> Exit {
    let bytes = match read_capped(path, EVIDENCE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(problem) => {
            eprintln!("countersign-verify: {problem}");
            return Exit::Io;
        }
    };
    match Evidence::parse(&bytes) {
        Ok(evidence) => {
            print_evidence(&evidence, "");
            // Nothing was verified, and that is never success.
            Exit::Indeterminate
        }
        Err(fault) => {
            say!("UNVERIFIED {fault}");
            if fault.code == Code::VersionUnknown { Exit::Indeterminate } else { Exit::Invalid }
        }
    }
}

fn print_evidence(evidence: &Evidence, indent: &str) {
    let line = |text: String| say!("UNVERIFIED {indent}{text}");
    for field in &evidence.record.fields {
        match field {
            Field::Shown(bytes) => line(escaped(bytes)),
            Field::Withheld(leaf) => line(format!("(withheld, leaf {})", hex(leaf))),
        }
    }
    let seal = &evidence.seal;
    line(format!("seal: key {}, record {} of {}", hex(&seal.key), seal.index, seal.size));
    line(format!("entry: {}", hex(&evidence.entry)));
    let receipt = &evidence.receipt;
    let checkpoint = &receipt.checkpoint;
    line(format!(
        "receipt: index {} of {} in log {}",
        receipt.index.0,
        checkpoint.size.0,
        escaped(&checkpoint.origin)
    ));
    line(format!("gate certificates: {}", evidence.gate_chain.len()));
    line(format!("people's chains: {}", evidence.people_chains.len()));
    for (number, inner) in evidence.supporting.iter().enumerate() {
        line(format!("supporting record {}:", number + 1));
        print_evidence(inner, &format!("{indent}  "));
    }
}
