//! What needs no disk: verifying one evidence file beside one strict Ed25519 verification.

use std::path::Path;
use std::time::Instant;

use countersign_core::codes::{Code, Fault};
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_core::trust::Trust;
use countersign_core::verify::{Verdict, verify_file};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::figure::{Figure, number};

/// Evidence and trust file of the project's own vectors.
const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/vectors");

/// Microseconds that one of `rounds` calls takes.
fn micros(rounds: u32, mut call: impl FnMut()) -> f64 {
    // A first tenth warms caches up.
    for _ in 0..rounds / 10 {
        call();
    }
    #[allow(clippy::disallowed_methods)] // Measuring time is what a benchmark is for.
    let start = Instant::now();
    for _ in 0..rounds {
        call();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
}

/// Budget: at most 6 times one strict verification (four signatures and the rest).
pub(crate) fn verify_evidence() -> Result<Vec<Figure>, String> {
    let folder = Path::new(VECTORS);
    let read = |name: &str| {
        std::fs::read(folder.join(name)).map_err(|error| format!("spec/vectors/{name}: {error}"))
    };
    let bytes = read("refusal.evidence")?;
    let text = String::from_utf8(read("trust.toml")?).map_err(|error| error.to_string())?;
    let root = |name: &str| {
        let bytes = read(name).map_err(|_| Fault::from(Code::CertPem))?;
        String::from_utf8(bytes).map_err(|_| Code::CertPem.into())
    };
    let trust = Trust::parse(&text, root).map_err(|fault| fault.to_string())?;
    if verify_file(&bytes, Some(&trust)).result != Verdict::Valid {
        return Err("the vector refusal.evidence is not valid".to_owned());
    }
    let key = SigningKey::from_bytes(&[7; 32]);
    let message = [1; 100];
    let signature = key.sign(&message);
    let public = key.verifying_key();
    let one = micros(2_000, || {
        std::hint::black_box(public.verify_strict(&message, &signature).is_ok());
    });
    let file = micros(1_000, || {
        std::hint::black_box(verify_file(std::hint::black_box(&bytes), Some(&trust)));
    });
    let size = number(bytes.len() as u64);
    Ok(vec![
        Figure::plain("ed25519_verify_strict", one, "us"),
        Figure::plain("evidence_file", size, "bytes"),
        Figure::plain("verify_one_evidence_file", file, "us").beside(one, 6.0, false),
    ])
}

/// What a record costs the one who takes it: parsing, its root, its action's digest.
pub(crate) fn records(actions: &crate::sample::Actions) -> Result<Vec<Figure>, String> {
    let record = crate::core::one_record(actions)?;
    let (seed, values) = (*record.seed(), record.values().to_vec());
    let parse = micros(2_000, || {
        let again = FullRecord::parse(Kind::Verdict, seed, values.clone());
        std::hint::black_box(again.is_ok());
    });
    let root = micros(2_000, || {
        std::hint::black_box(record.root());
    });
    let digest = micros(2_000, || {
        std::hint::black_box(countersign_core::action::digest(record.view()).is_ok());
    });
    Ok(vec![
        Figure::plain("record_parse", parse, "us"),
        Figure::plain("record_root", root, "us"),
        Figure::plain("record_action_digest", digest, "us"),
    ])
}
