//! The people's path: an action that waits for two of them, what came of it, and an auditor's four
//! questions answered from verified evidence alone.

use std::path::{Path, PathBuf};

use countersign_core::encoding::escaped;
use countersign_core::evidence::EVIDENCE_BYTES_MAX;
use countersign_core::kinds::Kind;
use countersign_core::record::View;
use countersign_core::verify::{Verdict, verify_file};
use serde_json::{Value, json};

use super::stage::{Service, Stage, path};
use super::{codes, evidence_of, expect, intents, step, text};
use crate::exit::Failure;
use crate::files::{make_folder, read_capped, read_trust, replace, write_new};

/// The pack that the demonstration's gate decides by.
const PACK: &str = "infrastructure";
/// What the people's evidence is left in.
const FOLDER: &str = "oncall";

impl Stage {
    /// Writes the pack's files, and its directory to where the gate looks for it.
    pub(super) async fn start_policy(&self) -> Result<PathBuf, Failure> {
        let policy = self.dir.join("policy");
        self.run(&["policy", "pack", PACK, "--out", &path(&policy)?]).await?;
        make_folder(&self.dir.join("gate"))?;
        let directory = read_capped(&policy.join("directory.json"), 4 << 20)?;
        replace(&self.dir.join("gate/directory.json"), &directory)?;
        Ok(policy)
    }

    /// Makes the pack the policy that decides, and gives the agent a grant as broad as the
    /// credentials that it has anyway.
    pub(super) async fn activate(&self, gate: &Service, policy: &Path) -> Result<(), Failure> {
        let owner = path(&self.identity("policy-admin"))?;
        let connection = ["--gate", &gate.grpc, "--identity", &owner];
        let folder = path(policy)?;
        let activate = ["policy", "activate", &folder, "--policy-id", PACK, "--version", "1"];
        tell_raw!("{}", self.run(&[&activate[..], &connection].concat()).await?);
        let terms = self.dir.join("grant-terms.json");
        write_new(&terms, terms_text().as_bytes())?;
        let terms = path(&terms)?;
        let issue = ["grant", "issue", intents::GRANT, "--terms", &terms];
        tell_raw!("{}", self.run(&[&issue[..], &connection].concat()).await?);
        Ok(())
    }

    async fn answer(&self, action: &str, who: &str, why: &str, gate: &str) -> Result<(), Failure> {
        let (key, out) = (path(&self.identity(who))?, path(&self.dir.join(FOLDER))?);
        let arguments = [
            "approve",
            action,
            "--gate",
            gate,
            "--key",
            &key,
            "--yes",
            "--justification",
            why,
            "--out",
            &out,
        ];
        tell_raw!("{}", self.run(&arguments).await?);
        Ok(())
    }
}

fn terms_text() -> String {
    let everything = json!({"actions": ["*"], "resources": ["*"], "targets": [], "amounts": []});
    let nothing = json!({"actions": [], "resources": [], "targets": [], "amounts": []});
    json!({
        "grantee": "infra-assistant-7",
        "allowed": everything,
        "forbidden": nothing,
        "ticket": null,
        "session": null,
        "not_before": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2099-01-01T00:00:00.000000Z",
        "limits": {"actions": null, "amount": null, "count": null},
    })
    .to_string()
}

/// Development first, where nobody has to be asked; then production, by a person on call.
pub(super) async fn show(stage: &Stage, gate: &Service, ledger: &Service) -> Result<(), Failure> {
    step("the same on development, by the same agent");
    let dev = intent("agent", "infra-assistant-7", "cost-explorer-dev", Some(intents::GRANT));
    let answer = ask(stage, gate, &dev, "dev.jsonl").await?;
    expect(text(&answer, "outcome") == "approve", "development must be approved")?;
    tell!("approved, {}, permit {}", codes(&answer), member(&answer, "/permit/id"));

    step("on production, by the engineer on call: two people must agree");
    let prod = intent("human", "alice", "cost-explorer", None);
    let answer = ask(stage, gate, &prod, "prod.jsonl").await?;
    expect(text(&answer, "outcome") == "supervise", "production must wait for people")?;
    let action = text(&answer, "action_id").to_owned();
    tell!("supervised, {}: countersign approve {action}", codes(&answer));
    let why = "the runbook was followed, and the restore was tried on staging";
    stage.answer(&action, "approver-oncall-1", why, &gate.grpc).await?;
    stage
        .answer(&action, "approver-owner-1", "the cost data can be away tonight", &gate.grpc)
        .await?;

    step("the enforcement point asks again, gets its permit, acts, and says what came of it");
    let answer = ask(stage, gate, &prod, "prod.jsonl").await?;
    expect(text(&answer, "outcome") == "approve", "two approvals must release it")?;
    report(stage, gate, &prod, &answer).await?;

    step("the action's whole life, fetched by an auditor and verified offline");
    let (auditor, out) = (path(&stage.identity("auditor"))?, stage.dir.join("audit"));
    let out_text = path(&out)?;
    let arguments = ["evidence", &action, "--server", &ledger.grpc, "--identity", &auditor];
    stage.run(&[&arguments[..], &["--out", &out_text]].concat()).await?;
    let files = files_of(&out)?;
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    stage.verify("evidence", &paths, 0).await?;

    step("one letter changed in an approval: the verifier must refuse it (exit code 1)");
    let views = views(stage, &files)?;
    tamper(stage, &files, &views).await?;

    step("an auditor's four questions, answered from what was verified");
    for line in answers(&views)? {
        tell!("{line}");
    }
    Ok(())
}

/// An intent to terminate an environment.
fn intent(kind: &str, actor: &str, id: &str, grant: Option<&str>) -> Value {
    json!({
        "action_id": uuid::Uuid::now_v7().to_string(),
        "verb": "elasticbeanstalk:TerminateEnvironment",
        "class": "delete",
        "destructive": true,
        "actor": {"kind": kind, "id": actor, "session": "s-demo"},
        "resource": {"type": "System", "id": id},
        "parameters": {"environment-name": id},
        "task": {
            "ticket": "OPS-4412",
            "grant": grant,
            "justification": "the deployment is stuck; delete and recreate the environment",
        },
    })
}

async fn ask(stage: &Stage, gate: &Service, intent: &Value, name: &str) -> Result<Value, Failure> {
    make_folder(&stage.dir.join(FOLDER))?;
    let file = stage.dir.join(FOLDER).join(name);
    replace(&file, format!("{intent}\n").as_bytes())?;
    let answers = stage.evaluate(gate, &file, FOLDER).await?;
    let answer = answers.into_iter().next();
    let answer = answer.ok_or_else(|| Failure::internal("an intent was not answered"))?;
    evidence_of(&answer)?;
    Ok(answer)
}

/// The executor recomputes the action digest from what it did.
async fn report(
    stage: &Stage,
    gate: &Service,
    intent: &Value,
    answer: &Value,
) -> Result<(), Failure> {
    let effect = json!({
        "action": intent.get("verb"),
        "actor": intent.pointer("/actor/id"),
        "nonce": answer.pointer("/permit/nonce"),
        "on_behalf_of": null,
        "parameters": intent.get("parameters"),
        "resource": {
            "domain": "billing",
            "environment": "prod",
            "id": intent.pointer("/resource/id"),
            "type": "System",
        },
        "tenant": "acme",
    });
    let file = stage.dir.join(FOLDER).join("effect.json");
    replace(&file, effect.to_string().as_bytes())?;
    let (file, pep) = (path(&file)?, path(&stage.identity("pep"))?);
    let (action, permit) = (text(answer, "action_id"), member(answer, "/permit/id"));
    let arguments = [
        "outcome",
        "--gate",
        &gate.grpc,
        "--identity",
        &pep,
        "--action",
        action,
        "--permit",
        &permit,
        "--result",
        "executed",
        "--effect",
        &file,
    ];
    tell_raw!("{}", stage.run(&arguments).await?);
    Ok(())
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| Failure::file(folder, &error))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "evidence"));
    files.sort();
    Ok(files)
}

/// What each file says, every one of them being VALID.
fn views(stage: &Stage, files: &[PathBuf]) -> Result<Vec<View>, Failure> {
    let trust = read_trust(&stage.dir.join("trust.toml"))?;
    let view = |file: &PathBuf| {
        let report = verify_file(&read_capped(file, EVIDENCE_BYTES_MAX)?, Some(&trust));
        expect(report.result == Verdict::Valid, "every file of the action must be VALID")?;
        report.facts.view.ok_or_else(|| Failure::internal("a VALID file shows no record"))
    };
    files.iter().map(view).collect()
}

async fn tamper(stage: &Stage, files: &[PathBuf], views: &[View]) -> Result<(), Failure> {
    let approval = files.iter().zip(views).find(|(_, view)| view.kind() == Kind::Approval);
    let (file, _) = approval.ok_or_else(|| Failure::internal("there is no approval"))?;
    let mut bytes = read_capped(file, EVIDENCE_BYTES_MAX)?;
    let target = b"the runbook was followed";
    let at = bytes.windows(target.len()).position(|part| part == target);
    let byte = at.and_then(|at| bytes.get_mut(at));
    *byte.ok_or_else(|| Failure::internal("the approval gives no reason"))? ^= 1;
    let folder = stage.dir.join("tampered");
    make_folder(&folder)?;
    let tampered = folder.join(file.file_name().unwrap_or_default());
    replace(&tampered, &bytes)?;
    stage.verify("evidence", &[&tampered], 1).await
}

/// Who authorised it, what it touched, when, and with what justification.
fn answers(views: &[View]) -> Result<Vec<String>, Failure> {
    let verdict = |outcome: &str| {
        let found =
            views.iter().find(|v| v.kind() == Kind::Verdict && v.str("outcome") == Some(outcome));
        found.ok_or_else(|| Failure::invalid(format!("no {outcome} is among the evidence.")))
    };
    let (held, released) = (verdict("supervise")?, verdict("approve")?);
    let said = |view: &View, pointer: &str| {
        let (name, rest) = pointer.split_once('/').unwrap_or((pointer, ""));
        let value = view.get(name).cloned().unwrap_or_default();
        let value = if rest.is_empty() { Some(&value) } else { value.pointer(&format!("/{rest}")) };
        escaped(value.and_then(Value::as_str).unwrap_or("-"))
    };
    let approvals: Vec<&View> = views.iter().filter(|v| v.kind() == Kind::Approval).collect();
    let people: Vec<String> = approvals.iter().map(|v| said(v, "approver/id")).collect();
    let reasons: Vec<String> = approvals.iter().map(|v| said(v, "justification")).collect();
    let outcome = views.iter().find(|view| view.kind() == Kind::Outcome);
    let outcome = outcome.ok_or_else(|| Failure::invalid("no outcome is among the evidence."))?;
    Ok(vec![
        format!(
            "Who authorised it?   {} and {}, under policy {} version {}; asked for by {}.",
            people.first().map_or("-", String::as_str),
            people.get(1).map_or("-", String::as_str),
            said(released, "policy/id"),
            said(released, "policy/version"),
            said(held, "actor/id"),
        ),
        format!(
            "What did it touch?   {} on {} ({}): {}, {}.",
            said(released, "action"),
            said(released, "resource/id"),
            said(released, "resource/environment"),
            said(outcome, "result"),
            said(outcome, "match"),
        ),
        format!(
            "When?                held {}, released {}, done {}.",
            said(held, "evaluated_at"),
            said(released, "evaluated_at"),
            said(outcome, "observed_at"),
        ),
        format!(
            "With what reason?    {}: {}; {}.",
            said(held, "task/ticket"),
            said(held, "task/justification"),
            reasons.join("; "),
        ),
    ])
}

fn member(answer: &Value, pointer: &str) -> String {
    escaped(answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default())
}
