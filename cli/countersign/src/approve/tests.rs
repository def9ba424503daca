//! What a person is asked to sign, and what they are not. The records are the vectors of spec/.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected should stop there"
)]

use std::path::PathBuf;

use countersign_core::codes::Code;
use countersign_core::encoding::from_b64_array;
use countersign_core::evidence::Evidence;
use countersign_core::hash::LeafIndex;
use countersign_core::json::quoted;
use countersign_core::record::FullRecord;
use countersign_core::seal::verify_signature;
use countersign_core::trust::Trust;
use countersign_core::verify::{person_signed_bytes, verify_file};
use tempfile::TempDir;

use super::*;
use crate::args::InitArgs;
use crate::files::read_trust;

const ID: &str = "019ab000-0000-7000-8000-000000000002";
/// While the vector's supervision is open.
const OPEN: &str = "2026-11-23T12:10:00.000000Z";

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
}

fn trust() -> Trust {
    read_trust(&vectors().join("trust.toml")).unwrap()
}

fn evidence(name: &str) -> Evidence {
    Evidence::parse(&std::fs::read(vectors().join(name)).unwrap()).unwrap()
}

/// A file as the client hands it on.
fn item(evidence: &Evidence) -> EvidenceItem {
    let bytes = evidence.to_bytes();
    let report = verify_file(&bytes, Some(&trust()));
    let index = LeafIndex(evidence.receipt.index.0);
    EvidenceItem { index, json: String::from_utf8(bytes).unwrap(), report }
}

/// The supervise verdict, all of it shown.
fn supervise() -> Evidence {
    evidence("approve-after-supervise.evidence").supporting[0].clone()
}

/// An approver of the vectors' tenant, with a certificate of an authority of their own.
fn approver() -> (TempDir, Identity) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ledger");
    let init = InitArgs {
        dir: dir.clone(),
        origin: "ledger.acme.example/prod".to_owned(),
        tenant: "acme".to_owned(),
        gate: "prod-1".to_owned(),
        approver: vec!["alice".to_owned()],
    };
    crate::init::make(&init).unwrap();
    let identity = Identity::read(&dir.join("identities/approver-alice")).unwrap();
    (folder, identity)
}

fn shown(state: State, files: &[EvidenceItem], at: &str) -> Result<Shown, Failure> {
    let (_folder, identity) = approver();
    Shown::of(ID, state, files, &identity, Micros::parse(at).unwrap())
}

fn why_not(state: State, files: &[EvidenceItem], at: &str) -> String {
    shown(state, files, at).unwrap_err().message
}

/// APR-1: the text is the gate's, and the signature is over its digest and nothing else's.
#[test]
fn what_was_shown_is_what_is_signed() {
    let (_folder, identity) = approver();
    let file = item(&supervise());
    let at = Micros::parse(OPEN).unwrap();
    let shown = Shown::of(ID, State::Waiting, std::slice::from_ref(&file), &identity, at).unwrap();
    let view = file.report.facts.view.as_ref().unwrap();
    let root = file.report.facts.root.unwrap();
    assert_eq!(shown.text, countersign_gate::display(view, root));
    assert!(shown.text.starts_with("Countersign approval request 1\n"), "{}", shown.text);
    assert!(shown.text.is_ascii() && shown.text.contains(&root.hex()));
    for (decision, for_us) in [(Decision::Grant, None), (Decision::Deny, Some(60_000_000))] {
        let (json, signed) = shown.sign(&identity, decision, "checked", at, for_us).unwrap();
        let approval: Value = serde_json::from_str(&json).unwrap();
        let displayed = Context::Displayed.hash(&[shown.text.as_bytes()]);
        assert_eq!(approval["displayed_digest"], hex(&displayed));
        assert_eq!(approval["verdict"], root.hex());
        assert_eq!(approval["action_digest"], *view.get("action_digest").unwrap());
        assert_eq!(approval["decision"], decision.as_str());
        assert_eq!(approval["approver"]["id"], "alice");
        let until = approval["not_after"].as_str().unwrap();
        let wanted = if for_us.is_some() { "12:11:00" } else { "12:30:00" };
        assert!(until.contains(wanted), "{until}");
        assert!(countersign_gate::Approval::parse(&json).is_ok(), "{json}");
        // The verifier's own reading of the record has the signed bytes (KIND-15).
        let record = approval_record(&approval);
        let leaf = identity.chain[0].digest();
        let message = person_signed_bytes(record.view(), "any", leaf).unwrap();
        let key = identity.key().unwrap().verifying_key().to_bytes();
        let signature = from_b64_array(approval["signature"].as_str().unwrap()).unwrap();
        assert_eq!(signature, signed.signature);
        assert_eq!(verify_signature(&key, &message, &signature, Code::PersonSignature), Ok(()));
    }
    let nonce = |json: &str| serde_json::from_str::<Value>(json).unwrap()["nonce"].clone();
    let sign = || shown.sign(&identity, Decision::Grant, "", at, None).unwrap().0;
    assert_ne!(nonce(&sign()), nonce(&sign()), "each has a nonce of its own");
}

/// The approval record that the gate makes of these members.
fn approval_record(approval: &Value) -> FullRecord {
    let value = |name: &str| match name {
        "approver" => {
            let mut approver = approval["approver"].clone();
            approver["roles"] = serde_json::json!([]);
            approver.to_string()
        }
        "type" => quoted("approval"),
        "tenant" | "gate" => quoted("acme"),
        "stream" => quoted(&"0".repeat(32)),
        "prev" => quoted(&"0".repeat(64)),
        "seq" => "1".to_owned(),
        "software" => quoted("test"),
        "recorded_at" => quoted(OPEN),
        name => approval[name].to_string(),
    };
    let values = Kind::Approval.fields().iter().map(|field| value(field.name)).collect();
    FullRecord::parse(Kind::Approval, [0; 32], values).unwrap()
}

#[test]
fn nothing_is_signed_that_does_not_wait() {
    let file = item(&supervise());
    for state in [State::Approved, State::Denied, State::Expired, State::Voided, State::Refused] {
        let why = why_not(state, std::slice::from_ref(&file), OPEN);
        assert!(why.contains(state.as_str()), "{why}");
    }
    // Whatever the gate says of the state: a verdict that answers it is in the log.
    let released = item(&evidence("approve-after-supervise.evidence"));
    let why = why_not(State::Waiting, &[file, released.clone()], OPEN);
    assert!(why.contains("still open"), "{why}");
    assert!(why_not(State::Waiting, &[released], OPEN).contains("still open"));
    assert!(why_not(State::Waiting, &[], OPEN).contains("still open"));
}

#[test]
fn nothing_is_signed_too_late() {
    let file = [item(&supervise())];
    for at in ["2026-11-23T12:30:00.000000Z", "2027-01-01T00:00:00.000000Z"] {
        assert!(why_not(State::Waiting, &file, at).contains("time to answer is over"));
    }
    assert!(shown(State::Waiting, &file, "2026-11-23T12:29:59.999999Z").is_ok());
}

#[test]
fn nothing_is_signed_that_does_not_verify_or_is_not_shown() {
    // One character of a shown value: its root, and with it the seal, is another's.
    let mut altered = supervise();
    for field in &mut altered.record.fields {
        if let countersign_core::record::Field::Shown(bytes) = field {
            *bytes = bytes.replace("\"destructive\",false", "\"destructive\",true");
        }
    }
    assert_ne!(altered, supervise());
    let why = why_not(State::Waiting, &[item(&altered)], OPEN);
    assert!(why.contains("does not verify"), "{why}");
    // Under no trust file it is no more than the log's word.
    let bytes = supervise().to_bytes();
    let report = verify_file(&bytes, None);
    let doubtful = EvidenceItem { report, ..item(&supervise()) };
    assert!(why_not(State::Waiting, &[doubtful], OPEN).contains("does not verify"));
    let withheld = item(&evidence("supervise-three-withheld.evidence"));
    assert!(why_not(State::Waiting, &[withheld], OPEN).contains("withheld"));
}

#[test]
fn only_an_approver_signs() {
    let (folder, _) = approver();
    let auditor = Identity::read(&folder.path().join("ledger/identities/auditor")).unwrap();
    let refused = has_role(&auditor, &[Role::Approver]).unwrap_err();
    assert_eq!(refused.exit, Exit::Usage);
    assert!(refused.message.contains("auditor"), "{}", refused.message);
}

/// A granted action that a kill switch refused was once told as a success.
#[test]
fn an_answer_that_comes_to_nothing_is_no_success() {
    let ends = |decision: Decision| -> Vec<State> {
        let all = [
            State::Refused,
            State::Waiting,
            State::Approved,
            State::Executed,
            State::Denied,
            State::Expired,
            State::Voided,
        ];
        all.into_iter().filter(|state| decision.holds_in(*state)).collect()
    };
    assert_eq!(ends(Decision::Grant), [State::Waiting, State::Approved, State::Executed]);
    let denied = [State::Refused, State::Denied, State::Expired, State::Voided];
    assert_eq!(ends(Decision::Deny), denied);
}
