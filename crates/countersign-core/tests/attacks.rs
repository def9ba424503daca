//! Attacks that a review once got past the verifier, or made it call by the wrong name. Each file in
//! `spec/vectors/attacks` is named by its attack; `good.evidence` is what they were made from.
#![allow(clippy::unwrap_used)] // A test stops where it fails.

use std::path::PathBuf;

use countersign_core::codes::{Code, Fault};
use countersign_core::trust::Trust;
use countersign_core::verify::{Verdict, verify_file};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/attacks"))
}

fn trust(name: &str) -> Result<Trust, Fault> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    Trust::parse(&text, |root| {
        std::fs::read_to_string(folder().join(root)).map_err(|_| Code::CertPem.into())
    })
}

/// File, trust file, result, code of the decisive finding.
const CASES: &[(&str, &str, Verdict, Option<Code>)] = {
    use Verdict::{Indeterminate, Invalid, Valid};
    &[
        ("good", "trust", Valid, None),
        // What is absent or withheld stops nothing: what is there is judged, and can be wrong.
        ("absent-and-expired", "trust", Invalid, Some(Code::ApprovalExpired)),
        ("absent-and-few", "trust", Invalid, Some(Code::ApprovalsTooFew)),
        ("absent-and-order", "trust", Invalid, Some(Code::ParentOrder)),
        ("absent-and-sameid", "trust", Invalid, Some(Code::ApprovalSamePerson)),
        ("absent-and-wrongaid", "trust", Invalid, Some(Code::ParentMismatch)),
        ("parent-absent-and-deny", "trust", Invalid, Some(Code::ApprovalDenied)),
        ("parent-absent-and-expired", "trust", Invalid, Some(Code::ApprovalExpired)),
        ("requires-withheld-and-expired", "trust", Invalid, Some(Code::ApprovalExpired)),
        ("requires-withheld-and-otherverdict", "trust", Invalid, Some(Code::ApprovalOtherVerdict)),
        ("approvals-null", "trust", Invalid, Some(Code::ApprovalsTooFew)),
        // What one file shows of the lifecycle.
        ("void-after-the-permit", "trust", Invalid, Some(Code::VoidTooLate)),
        ("approval-after-its-not-after", "trust", Invalid, Some(Code::ApprovalExpired)),
        // Every key that the trust file names is known, in whatever order it names them.
        ("clock-as-witness", "clock-as-witness", Indeterminate, Some(Code::WitnessQuorum)),
        ("other-log-key-failing", "two-logs", Invalid, Some(Code::LogSignature)),
        ("other-log-key-failing", "two-logs-other-order", Invalid, Some(Code::LogSignature)),
        ("other-clock-failing", "rotated", Invalid, Some(Code::ClockSignature)),
        ("older-ledger-key", "rotated", Valid, None),
    ]
};

#[test]
fn each_attack_is_called_by_its_name() {
    for (file, trusted, result, code) in CASES {
        let bytes = std::fs::read(folder().join(format!("{file}.evidence"))).unwrap();
        let report = verify_file(&bytes, Some(&trust(&format!("{trusted}.toml")).unwrap()));
        let found = report.decisive().map(|finding| finding.fault.code);
        assert_eq!((report.result, found), (*result, *code), "{file} under {trusted}");
    }
}

/// A key pasted with the type byte of its vkey is no key: revoking it would revoke nothing.
#[test]
fn a_revoked_key_that_nothing_can_have_is_refused() {
    let refused = trust("revoked-with-its-type-byte.toml").unwrap_err();
    assert_eq!(refused, Code::TrustMalformed.at_field("revoked.key"));
}

#[test]
fn characters_that_nobody_sees_are_written_out() {
    let hidden =
        "\u{3164}\u{115f}\u{ffa0}\u{34f}\u{17b4}\u{180b}\u{fe0f}\u{2800}\u{1bca0}\u{1d173}";
    for c in hidden.chars() {
        let shown = countersign_core::encoding::escaped(&c.to_string());
        assert!(shown.starts_with("\\u{"), "{shown:?}");
    }
    assert_eq!(countersign_core::encoding::escaped("prod-1 é 漢"), "prod-1 é 漢");
}
