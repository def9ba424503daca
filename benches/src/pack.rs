//! Packs, made of a running ledger and verified offline by the real programs: a complete one, and one
//! of what was asked of a larger log. Each stands beside a strict Ed25519 verification for each record,
//! and SHA-256 over all that the pack holds.

mod fill;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use countersign_core::encoding::hex;
use countersign_core::hash::Sha256Parts;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::core::{start, text};
use crate::figure::{Figure, number};
use crate::house::{House, Process};
use crate::sample::{Actions, POLICY};

/// Records of a pack where the environment says nothing.
const RECORDS: u64 = 10_000;
/// What says how many.
const RECORDS_VARIABLE: &str = "COUNTERSIGN_PACK_RECORDS";
/// What says how many the log has that some are asked of; as many as the pack where it says nothing.
const LOG_VARIABLE: &str = "COUNTERSIGN_PACK_LOG";
/// How often a process's memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Seconds that a command took, and the most memory that it had, in MiB.
struct Cost {
    seconds: f64,
    memory: f64,
}

/// A house with a ledger that knows the policy of the verdicts.
struct Stage {
    house: House,
    _ledger: Process,
    grpc: String,
}

impl Stage {
    async fn set(dir: &Path) -> Result<Self, String> {
        let house = House::made(dir.to_owned())?;
        let (ledger, grpc) = house.start("serve", &[]).await?;
        let (digest, owner) = (hex(&POLICY), house.path("identities/policy-admin")?);
        let stage = Self { house, _ledger: ledger, grpc };
        let version = ["--policy-id", "prod", "--version", "41", "--engine", "cedar 4"];
        let register = ["policy", "register", "--digest", &digest, "--owner", &owner];
        stage.call(&[&register[..], &version].concat())?;
        Ok(stage)
    }

    /// Runs a command as the gate.
    fn call(&self, what: &[&str]) -> Result<Cost, String> {
        let gate = self.house.path("identities/gate")?;
        let at = ["--server", &self.grpc, "--identity", &gate];
        cost(&self.house.program, &[what, &at].concat())
    }

    /// Makes a pack and verifies it; the figures by these names.
    fn pack(&self, question: &[&str], names: &Names, records: u64) -> Result<Vec<Figure>, String> {
        let pack = self.house.path("pack")?;
        let packed = self.call(&[&["pack", "--out", &pack], question].concat())?;
        let auditor = self.house.program.with_file_name("countersign-verify");
        let trust = self.house.path("trust.toml")?;
        let checked = cost(&auditor, &["pack", &pack, "--trust", &trust])?;
        let (digests, bytes) = sha256_of(Path::new(&pack))?;
        let signatures = signatures(records);
        let plain = Figure::plain;
        Ok(vec![
            plain(names.records, number(records), "records"),
            plain(names.signatures, signatures, "s"),
            plain(names.digests, digests, "s"),
            plain(names.bytes, number(bytes), "bytes"),
            plain(names.make, packed.seconds, "s").with_reference(signatures),
            plain(names.make_memory, packed.memory, "MiB"),
            plain(names.verify, checked.seconds, "s").with_reference(signatures),
            plain(names.verify_memory, checked.memory, "MiB"),
        ])
    }
}

/// What the figures of a pack are called.
struct Names {
    records: &'static str,
    signatures: &'static str,
    digests: &'static str,
    bytes: &'static str,
    make: &'static str,
    make_memory: &'static str,
    verify: &'static str,
    verify_memory: &'static str,
}

const COMPLETE: Names = Names {
    records: "pack_records",
    signatures: "pack_peer_ed25519_strict_each",
    digests: "pack_peer_sha256_of_all_bytes",
    bytes: "pack_bytes",
    make: "pack_make",
    make_memory: "pack_make_memory",
    verify: "pack_verify",
    verify_memory: "pack_verify_memory",
};
const ASKED: Names = Names {
    records: "pack_asked_records",
    signatures: "pack_asked_peer_ed25519_strict_each",
    digests: "pack_asked_peer_sha256_of_all_bytes",
    bytes: "pack_asked_bytes",
    make: "pack_asked_make",
    make_memory: "pack_asked_make_memory",
    verify: "pack_asked_verify",
    verify_memory: "pack_asked_verify_memory",
};

/// A number that the environment says, or another.
fn said(variable: &str, otherwise: u64) -> Result<u64, String> {
    match std::env::var(variable) {
        Ok(said) => said.parse().map_err(|_| format!("{variable} is no number: {said}")),
        Err(_) => Ok(otherwise),
    }
}

/// Submits records, packs them and verifies the pack; then the same of what was asked of a log.
pub(crate) async fn complete(dir: &Path, actions: &Arc<Actions>) -> Result<Vec<Figure>, String> {
    let records = said(RECORDS_VARIABLE, RECORDS)?;
    let mut figures = submitted(&dir.join("pack-bench"), actions, records).await?;
    figures.extend(asked(&dir.join("pack-log"), actions, records).await?);
    Ok(figures)
}

async fn submitted(dir: &Path, actions: &Actions, records: u64) -> Result<Vec<Figure>, String> {
    eprintln!("a complete pack of {records} records");
    let stage = Stage::set(dir).await?;
    let lines: String = (0..records).map(|n| actions.verdict(n) + "\n").collect();
    let file = stage.house.path("verdicts.jsonl")?;
    std::fs::write(&file, lines).map_err(text)?;
    let answers = stage.house.path("answers")?;
    let submitted = stage.call(&["submit", &file, "--out", &answers])?;
    let mut figures = stage.pack(&["--complete"], &COMPLETE, records)?;
    figures.push(Figure::plain("pack_submit", submitted.seconds, "s"));
    Ok(figures)
}

async fn asked(dir: &Path, actions: &Arc<Actions>, asked: u64) -> Result<Vec<Figure>, String> {
    let log = said(LOG_VARIABLE, asked)?.max(asked);
    eprintln!("a pack of {asked} records of one session, out of a log of {log}");
    let stage = Stage::set(dir).await?;
    fill::log(&stage.house, &stage.grpc, actions, (asked, log)).await?;
    let mut figures = vec![Figure::plain("pack_asked_log", number(log), "records")];
    figures.extend(stage.pack(&["--session", fill::SESSION], &ASKED, asked)?);
    Ok(figures)
}

/// Runs a command that must succeed.
fn cost(program: &Path, arguments: &[&str]) -> Result<Cost, String> {
    let begun = start();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(text)?;
    let status = format!("/proc/{}/status", child.id());
    let mut memory = 0.0_f64;
    loop {
        // The most it ever had, as the system counts it.
        let most = std::fs::read_to_string(&status).unwrap_or_default();
        let most = most.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = most.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        memory = memory.max(kib.unwrap_or(0.0) / 1024.0);
        if let Some(ended) = child.try_wait().map_err(text)? {
            let seconds = begun.elapsed().as_secs_f64();
            let said = || format!("{} {arguments:?}: {ended}", program.display());
            return if ended.success() { Ok(Cost { seconds, memory }) } else { Err(said()) };
        }
        std::thread::sleep(LOOK);
    }
}

/// Seconds for so many strict verifications.
fn signatures(count: u64) -> f64 {
    let key = SigningKey::from_bytes(&[7; 32]);
    let (public, message) = (key.verifying_key(), [1; 100]);
    let signature = key.sign(&message);
    let begun = start();
    for _ in 0..count {
        std::hint::black_box(public.verify_strict(&message, &signature).is_ok());
    }
    begun.elapsed().as_secs_f64()
}

/// Seconds for SHA-256 over every file of a folder once it was read, and their bytes.
fn sha256_of(folder: &Path) -> Result<(f64, u64), String> {
    let (mut open, mut seconds, mut bytes) = (vec![folder.to_owned()], 0.0, 0);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).map_err(text)? {
            let path = entry.map_err(text)?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let content = std::fs::read(path).map_err(text)?;
            bytes += content.len() as u64;
            let begun = start();
            let mut hash = Sha256Parts::default();
            hash.update(&content);
            std::hint::black_box(hash.finish());
            seconds += begun.elapsed().as_secs_f64();
        }
    }
    Ok((seconds, bytes))
}
