//! Hostile requests to a witness: never a panic, one spelling of each, nothing signed by a key that
//! signed nothing, and whatever this project calls a head a witness can read.
#![no_main]

// The two parsers themselves: the crate that they are in brings a web server, a TLS library and
// clients of object storage, of which nothing is fuzzed here.
#[allow(dead_code)]
#[path = "../../crates/countersign-mirror/src/witness/checkpoint.rs"]
mod checkpoint;
#[allow(dead_code)]
#[path = "../../crates/countersign-mirror/src/witness/request.rs"]
mod request;

use checkpoint::Checkpoint;
use countersign_core::encoding::b64;
use countersign_core::merkle::{empty_root, verify_consistency};
use countersign_core::note::{KeyType, SignedCheckpoint, VerifierKey};
use libfuzzer_sys::fuzz_target;
use request::{AddCheckpoint, PROOF_LINES_MAX};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        note(text);
    }
    let Ok(request) = AddCheckpoint::parse(bytes) else { return };
    assert!(request.proof.len() <= PROOF_LINES_MAX);
    let checkpoint = &request.checkpoint;
    // What was read is what stands there, to the byte, up to the signatures.
    let mut spelled = format!("old {}\n", request.old.0);
    for hash in &request.proof {
        spelled.push_str(&b64(hash));
        spelled.push('\n');
    }
    spelled.push('\n');
    spelled.push_str(checkpoint.body());
    spelled.push('\n');
    assert!(bytes.starts_with(spelled.as_bytes()));
    let head = format!(
        "{}\n{}\n{}\n",
        checkpoint.origin(),
        checkpoint.size().0,
        b64(&checkpoint.root().0)
    );
    assert!(checkpoint.body().starts_with(&head));
    let (old, size) = (request.old, checkpoint.size());
    let _ = verify_consistency(old, size, &empty_root(), checkpoint.root(), &request.proof);
    for name in [checkpoint.origin(), "w"] {
        // A key of which the fuzzer knows no signature.
        let mut key = [0x66; 32];
        key[0] = 0x58;
        let vkey = |kind| VerifierKey::new(name, kind, key);
        if let (Ok(log), Ok(witness)) = (vkey(KeyType::Note), vkey(KeyType::Cosignature)) {
            assert!(checkpoint.signed_by(&[log]).is_err());
            assert!(checkpoint.cosigned_by(&witness).is_none());
        }
    }
});

/// A head of this project's narrower form is a checkpoint of C2SP's, and the same one.
fn note(text: &str) {
    let Ok(head) = SignedCheckpoint::parse(text) else { return };
    let checkpoint = Checkpoint::parse(text).expect("a head is a checkpoint");
    assert_eq!(checkpoint.body(), head.body());
    assert_eq!((checkpoint.size(), checkpoint.root()), (head.size, &head.root));
}
