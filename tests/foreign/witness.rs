//! Witnesses and logs of both sides cosign for each other (WITN-1 to WITN-6, WITN-8, NOTE-12).

use std::path::Path;

use countersign_core::encoding::hex;
use countersign_core::hash::sha256;
use countersign_core::note::SignedCheckpoint;
use countersign_core::quorum::WitnessPolicy;
use countersign_tests::{Installation, ORIGIN};

use crate::ours::Ours;
use crate::process::{Served, add_checkpoint, call};
use crate::tools::Tool;

/// Sizes of the heads of another's log.
const SIZES: [u64; 3] = [5, 300, 700];

fn words(first: &[&str], sizes: &[u64]) -> Vec<String> {
    let first = first.iter().map(|&word| word.to_owned());
    first.chain(sizes.iter().map(u64::to_string)).collect()
}

/// A log that a tool made in `dir`: its vkey.
fn made(tool: &Tool, dir: &Path, origin: &str) -> String {
    tool.says(&words(&["make", dir.to_str().unwrap(), origin], &SIZES));
    std::fs::read_to_string(dir.join("vkey")).unwrap()
}

/// What monitors see: the last head of this origin that was cosigned.
fn monitored(witness: &Served, origin: &str) -> (u16, String) {
    let path = format!("/{}/checkpoint", hex(&sha256(origin.as_bytes())));
    let (status, _, note) = call(witness.addr, "GET", &path, "");
    (status, note)
}

/// golang.org/x/mod's notes and proofs, over Go's own HTTP client: every status of the protocol
/// (WITN-2 to WITN-4), by heads with extension lines where they are good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_asks_our_witness_everything() {
    let Some(go) = Tool::go() else { return };
    let installation = Installation::new();
    let origin = "log.example/in-go";
    let vkey = made(&go, &installation.beside("made"), origin);
    let (witness, own) = Served::witness(&installation, &[vkey]).await;
    let said = go.says(&words(&["feed", &witness.url(), &own.to_string(), origin], &SIZES));
    // Three heads, of which the later two are asked from nothing first; then what is refused.
    assert_eq!(said, "200 409 200 409 200 400 400 403 404 409 409 422 422\n");
    let (status, note) = monitored(&witness, origin);
    let head = "log.example/in-go\n700\n";
    assert_eq!((status, note.starts_with(head)), (200, true), "{note}");
    assert!(note.contains("\nextension of another log\n\n"), "{note}");
}

/// aics-witness's client: it verifies each cosignature and its age, and ends at what is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_asks_our_witness() {
    let Some(python) = Tool::python() else { return };
    let installation = Installation::new();
    let origin = "log.example/in-python";
    let vkey = made(&python, &installation.beside("made"), origin);
    let (witness, own) = Served::witness(&installation, &[vkey]).await;
    let said = python.says(&words(&["feed", &witness.url(), &own.to_string(), origin], &SIZES));
    // Each head twice: a second cosignature of the same head needs no proof.
    let cosigned = "cosigned ".repeat(6);
    assert_eq!(said, format!("{cosigned}409 422 404 WitnessAhead\n"));
    assert_eq!(monitored(&witness, origin).0, 200);
}

/// Heads that signed_note signed, and proofs of tlog_tiles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_rust_crates_are_cosigned() {
    let Some(rust) = Tool::rust() else { return };
    let installation = Installation::new();
    let (dir, origin) = (installation.beside("made"), "log.example/in-rust");
    let vkey = made(&rust, &dir, origin);
    let (witness, own) = Served::witness(&installation, &[vkey]).await;
    let policy = WitnessPolicy::parse(&format!("witness W {own}\nquorum W\n")).unwrap();
    let mut old = 0;
    for size in SIZES {
        let note = std::fs::read_to_string(dir.join(format!("heads/{size:020}.note"))).unwrap();
        let proof = std::fs::read_to_string(dir.join(format!("proofs/{old}-{size}")));
        let proof = proof.unwrap_or_default();
        if old > 0 {
            let (status, _) = add_checkpoint(witness.addr, &format!("old {old}\n\n{note}"));
            assert_eq!(status, 422, "a step of {old} to {size} without a proof");
        }
        let (status, line) = add_checkpoint(witness.addr, &format!("old {old}\n{proof}\n{note}"));
        assert_eq!(status, 200, "{line}");
        let cosigned = SignedCheckpoint::parse(&note).unwrap().with_line(&line).unwrap();
        assert!(policy.evaluate(&cosigned, &[], None).unwrap().is_some());
        assert_eq!(monitored(&witness, origin), (200, cosigned.as_str().to_owned()));
        old = size;
    }
}

/// A witness that others wrote cosigns what this ledger publishes, and its line counts (NOTE-12).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_witness_cosigns_our_heads() {
    let Some(tool) = Tool::python_witness() else { return };
    let ours = Ours::of(2).await;
    let dir = ours.stage.dir.path().join("others");
    std::fs::create_dir(&dir).unwrap();
    let (witness, own) = Served::python_witness(&tool, &dir, ORIGIN, &ours.stage.log_vkey);
    let policy = WitnessPolicy::parse(&format!("witness W {own}\nquorum W\n")).unwrap();
    let head = ours.head;
    assert!(policy.evaluate(&head, &[], None).unwrap().is_none());
    let request = format!("old 0\n\n{}", head.as_str());
    let (status, line) = add_checkpoint(witness.addr, &request);
    assert_eq!(status, 200, "{line}");
    let cosigned = head.with_line(&line).unwrap();
    assert!(policy.evaluate(&cosigned, &[], None).unwrap().is_some());
    // A second time it names the size that it holds, as ours does.
    let (status, size) = add_checkpoint(witness.addr, &request);
    assert_eq!((status, size), (409, format!("{}\n", head.size.0)));
}
