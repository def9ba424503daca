//! `demo`: the whole way of a verdict on loopback, every step checked, its files left to look at.
//!
//! The steps use the same commands that an operator, a gate and an auditor use: this program calls
//! itself as a child, and the separate verifier.

mod intents;
mod oncall;
mod stage;

use std::path::{Path, PathBuf};

use countersign_client::{Client, VerifiedHead};
use countersign_core::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use serde_json::{Value, json};

use self::stage::{ANY_PORT, Stage};
use crate::args::{DemoArgs, InitArgs};
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, read_capped, replace, shown, write_new};
use crate::identity::Identity;
use crate::init;

/// What an infrastructure agent asks for, checked in beside this program.
const EXAMPLE: &str = include_str!("../examples/infrastructure-agent.jsonl");
/// The line of the example to look at: production is to be terminated to mend a deployment.
const REFUSAL_LINE: usize = 400;
/// What that line asks for.
const REFUSED_ACTION: &str = "elasticbeanstalk:TerminateEnvironment";
/// Intents that are judged after the restart.
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
        approver: vec!["oncall-1".to_owned(), "owner-1".to_owned()],
    })?;

    step("a fresh ledger and a gate on loopback, mutual TLS: countersign serve, countersign gate");
    let policy = stage.start_policy().await?;
    let ledger = stage.ledger(ANY_PORT).await?;
    let gate = stage.gate(&ledger).await?;
    stage.activate(&gate, &policy).await?;

    let example = dir.join("intents.jsonl");
    write_new(&example, intents::from_example(EXAMPLE)?.as_bytes())?;
    let lines = EXAMPLE.lines().count();
    step(&format!("{lines} intents of an infrastructure agent: countersign evaluate"));
    let first = stage.evaluate(&gate, &example, "evidence").await?;
    expect(first.len() == lines, "every intent must be answered")?;
    expect(first.iter().all(is_recorded), "every verdict must be in the log")?;
    eprintln!("{lines} verdicts are in the log, each with its evidence file.");

    let refused = first.get(REFUSAL_LINE - 1).cloned().unwrap_or_default();
    let refusal = evidence_of(&refused)?;
    step(&format!(
        "line {REFUSAL_LINE}: an agent with valid, too-broad credentials means to delete and \
         recreate production's cost management"
    ));
    expect(text(&refused, "outcome") == "refuse", "the gate must refuse")?;
    tell!("{REFUSED_ACTION}: refused, {}", codes(&refused));
    let evidence = Evidence::parse(&read_capped(&refusal, EVIDENCE_BYTES_MAX)?)
        .map_err(|fault| Failure::content(&refusal, fault))?;
    tell_raw!("{}", evidence.receipt);
    verify_offline(stage, &refusal).await?;
    step("the verdict made again from the record and the policy: countersign-verify replay");
    let policies = stage::path(&policy)?;
    stage.verify(&format!("replay --policies {policies}"), &[&refusal], 0).await?;

    oncall::show(stage, &gate, &ledger).await?;

    let auditor = stage.client(&ledger, "auditor").await?;
    let old = auditor.head().await?;
    let old_note = keep_head(dir, &old)?;
    step(&format!("gate and ledger stop, and start again; the head of {} is kept", old.size().0));
    gate.stop().await?;
    let port = ledger.grpc.clone();
    ledger.stop().await?;
    let ledger = stage.ledger(&port).await?;
    let gate = stage.gate(&ledger).await?;

    step("the same intents once more: the first verdicts come back, and nothing is doubled");
    let again = stage.evaluate(&gate, &example, "again").await?;
    expect(places(&again) == places(&first), "every verdict must be where it was")?;

    step(&format!("{MORE} more refusals, and the proof that the log kept its history"));
    let more = dir.join("after-restart.jsonl");
    write_new(&more, intents::refusal_again(EXAMPLE, REFUSAL_LINE, MORE)?.as_bytes())?;
    let later = stage.evaluate(&gate, &more, "evidence").await?;
    expect(later.len() == MORE && later.iter().all(is_recorded), "each must be logged")?;

    let auditor = stage.client(&ledger, "auditor").await?;
    let new = auditor.head().await?;
    let new_note = keep_head(dir, &new)?;
    let proof = prove(dir, &auditor, &old, &new).await?;
    let consistency: [&Path; 3] = [&old_note, &new_note, &proof];
    stage.verify("consistency", &consistency, 0).await?;

    step("all of it in one folder, complete by proof, with a report: countersign pack --complete");
    let pack = stage.pack(&ledger).await?;
    stage.verify("pack", &[&pack], 0).await?;

    step("the tenant's own copy of the log, every head of it proved: countersign mirror");
    let mirror = stage.mirror(&ledger).await?;
    stage.verify("mirror", &[&mirror], 0).await?;
    gate.stop().await?;
    ledger.stop().await?;

    let all: Vec<Value> = first.into_iter().chain(later).collect();
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
    answers: &[Value],
    head: &VerifiedHead,
    refusal: &Path,
) -> Result<(), Failure> {
    step("the verifier on every evidence file");
    let outcomes = stage.verify_all().await?;
    expect(outcomes.len() == answers.len(), "every verdict must have one evidence file")?;
    let proven = |outcome: &str| outcomes.iter().filter(|found| *found == outcome).count();
    let said =
        |outcome: &str| answers.iter().filter(|answer| text(answer, "outcome") == outcome).count();
    for outcome in ["approve", "refuse", "supervise"] {
        expect(proven(outcome) == said(outcome), "the files must say what was answered")?;
    }
    eprintln!("{} of {} are VALID.", outcomes.len(), answers.len());
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
    eprintln!("  {verifier} pack {dir}/pack --trust {dir}/trust.toml");
    eprintln!("  {verifier} mirror {dir}/mirror --trust {dir}/trust.toml");
    eprintln!("  open {dir}/pack/report.html in a browser");
    eprintln!("  {program} serve --dir {dir}");
    eprintln!(
        "  {program} mirror --dir {dir}/mirror --from http://127.0.0.1:7480 --trust \
         {dir}/trust.toml"
    );
    eprintln!("  {program} gate --dir {dir} --ledger 127.0.0.1:7443");
    eprintln!(
        "  {program} query --outcome refuse --server 127.0.0.1:7443 --identity \
         {dir}/identities/responder"
    );
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

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn codes(answer: &Value) -> String {
    let codes = answer.get("codes").and_then(Value::as_array);
    codes.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn is_recorded(answer: &Value) -> bool {
    answer.get("index").is_some_and(Value::is_u64)
}

fn places(answers: &[Value]) -> Vec<Option<u64>> {
    answers.iter().map(|answer| answer.get("index").and_then(Value::as_u64)).collect()
}

fn evidence_of(answer: &Value) -> Result<PathBuf, Failure> {
    let path = answer.get("evidence").and_then(Value::as_str).map(PathBuf::from);
    path.ok_or_else(|| Failure::internal(format!("an answer has no evidence file: {answer}")))
}
