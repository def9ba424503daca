//! Hostile evidence files: never a panic, never VALID without trust, and what parses is written
//! again as the same evidence.
#![no_main]

use countersign_core::evidence::Evidence;
use countersign_core::verify::{Verdict, verify_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert_ne!(verify_file(bytes, None).result, Verdict::Valid);
    if let Ok(evidence) = Evidence::parse(bytes) {
        assert_eq!(Evidence::parse(&evidence.to_bytes()), Ok(evidence));
    }
});
