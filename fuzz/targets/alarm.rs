//! Hostile alarms: never a panic, one spelling, and never VALID without a key.
#![no_main]

use countersign_core::alarm::{Alarm, verify_alarm};
use countersign_core::mirror::{MirrorFile, MirrorState};
use countersign_core::verify::Verdict;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(alarm) = Alarm::parse(bytes) {
        assert_eq!(alarm.to_bytes(), bytes);
        if let Ok(shown) = alarm.shown() {
            assert!(!shown.sentence().chars().any(char::is_control));
        }
    }
    assert_ne!(verify_alarm(bytes, None).result, Verdict::Valid);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(file) = MirrorFile::parse(text) {
        assert_eq!(file.to_string(), text);
    }
    // Its checksum stands in the way of what is behind it, so it is given.
    let digest = countersign_core::encoding::hex(&countersign_core::hash::sha256(bytes));
    let _ = MirrorState::parse(&format!("{text}\t{digest}"));
});
