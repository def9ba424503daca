//! Hostile notes, receipts, proofs, keys, policies and certificates: never a panic, and only one
//! spelling of each parses.
#![no_main]

use countersign_core::cert::Certificate;
use countersign_core::encoding::{Micros, escaped};
use countersign_core::kinds::parse_ranges;
use countersign_core::note::{SignedCheckpoint, VerifierKey};
use countersign_core::quorum::WitnessPolicy;
use countersign_core::receipt::{ConsistencyProof, Receipt};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Certificate::from_der(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(note) = SignedCheckpoint::parse(text) {
        assert_eq!(note.as_str(), text);
    }
    if let Ok(receipt) = Receipt::parse(text) {
        assert_eq!(receipt.to_string(), text);
    }
    if let Ok(proof) = ConsistencyProof::parse(text) {
        assert_eq!(proof.to_string(), text);
    }
    if let Ok(vkey) = VerifierKey::parse(text) {
        assert_eq!(vkey.to_string(), text);
    }
    if let Some(time) = Micros::parse(text) {
        assert_eq!(time.format(), text);
    }
    if let Ok(certificate) = Certificate::from_pem(text) {
        assert_eq!(certificate.pem(), text);
    }
    let _ = WitnessPolicy::parse(text);
    let _ = parse_ranges(text);
    assert!(!escaped(text).chars().any(char::is_control));
});
