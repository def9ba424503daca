//! A complete pack, made of a running ledger and verified offline, by the real programs: beside a
//! strict Ed25519 verification for each record, and SHA-256 over all that the pack holds.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use countersign_core::encoding::hex;
use countersign_core::hash::Sha256Parts;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::core::{start, text};
use crate::figure::{Figure, number};
use crate::house::House;
use crate::sample::{Actions, POLICY};

/// Records of the pack where the environment says nothing.
const RECORDS: u64 = 10_000;
/// What says how many.
const RECORDS_VARIABLE: &str = "COUNTERSIGN_PACK_RECORDS";
/// How often a process's memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Seconds that a command took, and the most memory that it had, in MiB.
struct Cost {
    seconds: f64,
    memory: f64,
}

/// Submits records, packs them and verifies the pack.
pub(crate) async fn complete(dir: &Path, actions: &Actions) -> Result<Vec<Figure>, String> {
    let records = match std::env::var(RECORDS_VARIABLE) {
        Ok(said) => said.parse().map_err(|_| format!("{RECORDS_VARIABLE} is no number: {said}"))?,
        Err(_) => RECORDS,
    };
    eprintln!("a complete pack of {records} records");
    let house = House::made(dir.join("pack-bench"))?;
    let (_ledger, ledger) = house.start("serve", &[]).await?;
    let (gate, owner) = (house.path("identities/gate")?, house.path("identities/policy-admin")?);
    let at = ["--server", ledger.as_str(), "--identity", gate.as_str()];
    let digest = hex(&POLICY);
    let version = ["--policy-id", "prod", "--version", "41", "--engine", "cedar 4"];
    let register = ["policy", "register", "--digest", &digest, "--owner", &owner];
    house.run(&[&register[..], &version, &at].concat())?;
    let lines: String = (0..records).map(|n| actions.verdict(n) + "\n").collect();
    let file = house.path("verdicts.jsonl")?;
    std::fs::write(&file, lines).map_err(text)?;
    let answers = house.path("answers")?;
    let submitted =
        cost(&house.program, &[&["submit", &file, "--out", &answers], &at[..]].concat())?;
    let pack = house.path("pack")?;
    let packed =
        cost(&house.program, &[&["pack", "--complete", "--out", &pack], &at[..]].concat())?;
    let auditor = house.program.with_file_name("countersign-verify");
    let trust = house.path("trust.toml")?;
    let checked = cost(&auditor, &["pack", &pack, "--trust", &trust])?;
    let (digests, bytes) = sha256_of(Path::new(&pack))?;
    let signatures = signatures(records);
    let plain = Figure::plain;
    Ok(vec![
        plain("pack_records", number(records), "records"),
        plain("pack_peer_ed25519_strict_each", signatures, "s"),
        plain("pack_peer_sha256_of_all_bytes", digests, "s"),
        plain("pack_bytes", number(bytes), "bytes"),
        plain("pack_submit", submitted.seconds, "s").with_reference(signatures),
        plain("pack_make", packed.seconds, "s").with_reference(signatures),
        plain("pack_make_memory", packed.memory, "MiB"),
        plain("pack_verify", checked.seconds, "s").with_reference(signatures),
        plain("pack_verify_memory", checked.memory, "MiB"),
    ])
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
