//! `demo`: the whole way of a verdict on loopback, every step checked, its files left to look at.
//!
//! The steps use the same commands that an operator, a gate and an auditor use: this program calls
//! itself as a child, and the separate verifier.

mod stage;

use std::path::{Path, PathBuf};

use countersign_client::{Client, VerifiedHead};
use countersign_core::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use serde_json::{Value, json};

use self::stage::Stage;
use crate::args::{DemoArgs, InitArgs};
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, read_capped, replace, shown, write_new};
use crate::identity::Identity;
use crate::init;

/// The verdicts of an infrastructure agent, checked in beside this program.
const EXAMPLE: &str = include_str!("../examples/infrastructure-agent.jsonl");
/// The line of the example to look at: production is to be terminated to mend a deployment.
const REFUSAL_LINE: usize = 400;
/// What that line asks for.
const REFUSED_ACTION: &str = "elasticbeanstalk:TerminateEnvironment";
/// Verdicts that are submitted after the restart.
const MORE: usize = 5;

pub(crate) async fn run(args: DemoArgs) -> Result<Exit, Failure> {
    let dir = args.dir.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("countersign-demo-{}", std::process::id()))
    });
    let dir = std::path::absolute(&dir).map_err(|error| Failure::file(&dir, &error))?;
    let stage = Stage::new(dir, args.verifier)?;
    let said = say_and_do(&stage).await;
    if said.is_err() {
        eprintln!("\nThe demonstration stopped; what it made is in {}.", shown(&stage.dir));
    }
    said.map(|()| Exit::Success)
}

async fn say_and_do(stage: &Stage) -> Result<(), Failure> {
    let dir = &stage.dir;
    step("keys, a development PKI, a configuration, a trust file: countersign init");
    init::make(&InitArgs {
        dir: dir.clone(),
        origin: "ledger.acme.example/demo".to_owned(),
        tenant: "acme".to_owned(),
        gate: "prod-1".to_owned(),
    })?;

    step("a fresh ledger on loopback, mutual TLS: countersign serve");
    let ledger = stage.start().await?;

    let example = dir.join("infrastructure-agent.jsonl");
    write_new(&example, EXAMPLE.as_bytes())?;
    let lines = EXAMPLE.lines().count();
    step(&format!("{lines} verdicts of an infrastructure agent: countersign submit"));
    let first = stage.submit(&ledger, &example, "submit.journal").await?;
    expect(first.len() == lines, "every line must be answered")?;
    expect(all_are(&first, "logged"), "every verdict must be logged")?;
    eprintln!("{lines} verdicts are in the log, each with its evidence file.");

    let refusal = evidence_of(&first, REFUSAL_LINE)?;
    step(&format!("the receipt of line {REFUSAL_LINE}, a refused {REFUSED_ACTION}"));
    let evidence = Evidence::parse(&read_capped(&refusal, EVIDENCE_BYTES_MAX)?)
        .map_err(|fault| Failure::content(&refusal, fault))?;
    print!("{}", evidence.receipt);

    verify_offline(stage, &refusal).await?;

    let auditor = stage.client(&ledger, "auditor").await?;
    let old = auditor.head().await?;
    let old_note = keep_head(dir, &old)?;
    step(&format!("the ledger stops, and starts again; the head of {} is kept", old.size().0));
    ledger.stop().await?;
    let ledger = stage.start().await?;

    step("the same file once more: the first receipts come back, and nothing is doubled");
    let again = stage.submit(&ledger, &example, "submit.journal").await?;
    expect(all_are(&again, "repeated"), "every verdict must be known already")?;
    expect(places(&again) == places(&first), "every verdict must be where it was")?;

    step(&format!("{MORE} more verdicts, and the proof that the log kept its history"));
    let more = dir.join("after-restart.jsonl");
    write_new(&more, more_verdicts()?.as_bytes())?;
    let later = stage.submit(&ledger, &more, "after-restart.journal").await?;
    expect(later.len() == MORE && all_are(&later, "logged"), "every verdict must be logged")?;

    let auditor = stage.client(&ledger, "auditor").await?;
    let new = auditor.head().await?;
    let new_note = keep_head(dir, &new)?;
    let proof = prove(dir, &auditor, &old, &new).await?;
    let consistency: [&Path; 3] = [&old_note, &new_note, &proof];
    stage.verify("consistency", &consistency, 0).await?;
    ledger.stop().await?;

    let all: Vec<&str> =
        EXAMPLE.lines().chain(std::iter::repeat_n(refusal_text()?, MORE)).collect();
    summary(stage, &all, &new, &refusal).await?;
    farewell(stage, &refusal, &consistency);
    Ok(())
}

/// The verifier on the refusal, on a copy with one byte changed, and on every file.
async fn verify_offline(stage: &Stage, refusal: &Path) -> Result<(), Failure> {
    step("the verifier, which has no network in it, on that refusal");
    stage.verify("evidence", &[refusal], 0).await?;

    let mut bytes = read_capped(refusal, EVIDENCE_BYTES_MAX)?;
    let target = b"cost-explorer";
    let at = bytes.windows(target.len()).position(|part| part == target);
    let byte = at.and_then(|at| bytes.get_mut(at));
    let byte = byte.ok_or_else(|| Failure::internal("the refusal does not name its resource"))?;
    *byte ^= 1;
    let folder = stage.dir.join("tampered");
    make_folder(&folder)?;
    let tampered = folder.join(refusal.file_name().unwrap_or_default());
    replace(&tampered, &bytes)?;
    step("one byte changed in a copy: the verifier must refuse it (exit code 1)");
    stage.verify("evidence", &[&tampered], 1).await
}

/// Keeps a head as `heads/<20-digit size>.note`.
fn keep_head(dir: &Path, head: &VerifiedHead) -> Result<PathBuf, Failure> {
    make_folder(&dir.join("heads"))?;
    let path = dir.join(format!("heads/{:020}.note", head.size().0));
    replace(&path, head.checkpoint().as_str().as_bytes())?;
    Ok(path)
}

async fn prove(
    dir: &Path,
    auditor: &Client,
    old: &VerifiedHead,
    new: &VerifiedHead,
) -> Result<PathBuf, Failure> {
    expect(old.size() < new.size(), "the log must have grown")?;
    let proof = auditor.consistency(old, new).await?;
    make_folder(&dir.join("consistency"))?;
    let path = dir.join(format!("consistency/{}-{}.proof", old.size().0, new.size().0));
    replace(&path, proof.to_string().as_bytes())?;
    Ok(path)
}

/// Verifies every file that was left, and writes `summary.json`.
async fn summary(
    stage: &Stage,
    submitted: &[&str],
    head: &VerifiedHead,
    refusal: &Path,
) -> Result<(), Failure> {
    step("the verifier on every evidence file");
    let outcomes = stage.verify_all().await?;
    expect(outcomes.len() == submitted.len(), "every verdict must have one evidence file")?;
    let proven = |outcome: &str| outcomes.iter().filter(|found| *found == outcome).count();
    let said = |outcome: &str| {
        let member = format!("\"outcome\":\"{outcome}\"");
        submitted.iter().filter(|line| line.contains(&member)).count()
    };
    for outcome in ["approve", "refuse", "supervise"] {
        expect(proven(outcome) == said(outcome), "the files must say what was submitted")?;
    }
    eprintln!("{} of {} are VALID.", outcomes.len(), submitted.len());
    let refusal = refusal.strip_prefix(&stage.dir).unwrap_or(refusal);
    let summary = json!({
        "verdicts": outcomes.len(),
        "approve": proven("approve"),
        "refuse": proven("refuse"),
        "supervise": proven("supervise"),
        "head_size": head.size().0,
        "refusal_file": refusal.display().to_string(),
    });
    replace(&stage.dir.join("summary.json"), format!("{summary:#}\n").as_bytes())
}

fn farewell(stage: &Stage, refusal: &Path, consistency: &[&Path; 3]) {
    let (dir, verifier) = (shown(&stage.dir), shown(&stage.verifier));
    let program = shown(&stage.program);
    let refusal = shown(refusal);
    let [old, new, proof] = consistency.map(shown);
    eprintln!("\nEvery step went as it must. What was made is in {dir}. Try next:\n");
    eprintln!("  {verifier} evidence {refusal} --trust {dir}/trust.toml");
    eprintln!("  {verifier} inspect {refusal}");
    eprintln!("  {verifier} consistency {old} {new} {proof} --trust {dir}/trust.toml");
    eprintln!("  {program} serve --dir {dir}");
    eprintln!("  {program} doctor --dir {dir} --server 127.0.0.1:7443");
    eprintln!("  {program} explain SEAL_SIGNATURE");
    eprintln!("\nChange any byte of an evidence file, and see what the verifier says.");
}

fn step(text: &str) {
    eprintln!("\n==> {text}");
}

/// A step that did not come out as it must ends the demonstration.
fn expect(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::invalid(format!("{what}, and this was not so here."))) }
}

fn all_are(answers: &[Value], status: &str) -> bool {
    answers.iter().all(|answer| answer.get("status").and_then(Value::as_str) == Some(status))
}

fn places(answers: &[Value]) -> Vec<Option<u64>> {
    answers.iter().map(|answer| answer.get("index").and_then(Value::as_u64)).collect()
}

fn evidence_of(answers: &[Value], line: usize) -> Result<PathBuf, Failure> {
    answers
        .get(line - 1)
        .and_then(|answer| answer.get("evidence"))
        .and_then(Value::as_str)
        .map(PathBuf::from)
        .ok_or_else(|| Failure::internal(format!("line {line} has no evidence file")))
}

fn refusal_text() -> Result<&'static str, Failure> {
    EXAMPLE
        .lines()
        .nth(REFUSAL_LINE - 1)
        .filter(|line| line.contains(REFUSED_ACTION))
        .ok_or_else(|| Failure::internal("the example has no such refusal"))
}

/// The agent tries again: the same refusal under new action_ids.
fn more_verdicts() -> Result<String, Failure> {
    let mut verdict: Value = serde_json::from_str(refusal_text()?)
        .map_err(|error| Failure::internal(format!("the example is wrong: {error}")))?;
    let mut text = String::new();
    for _ in 0..MORE {
        if let Some(id) = verdict.get_mut("action_id") {
            *id = Value::String(stage::uuid_v7()?);
        }
        text.push_str(&verdict.to_string());
        text.push('\n');
    }
    Ok(text)
}
