//! Verdicts made again: the same, another, and those that nothing can be said of.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

use countersign_core::encoding::Micros;
use countersign_core::json::quoted;
use countersign_core::record::{Field, FullRecord};
use countersign_core::verify::Facts as Read;
use countersign_gate::{
    Decision, Directory, Facts, GateCode, Intent, PolicyName, Sealing, decide, packs, verdict_json,
};

use super::*;

const AT: &str = "2026-11-24T10:00:00.000000Z";
const INTENT: &str = r#"{"verb":"gate:emergency","class":"approve","destructive":false,
    "actor":{"kind":"human","id":"alice"},"resource":{"type":"System","id":"production"},
    "parameters":{"minutes":60},"task":{"ticket":"OPS-4412"}}"#;

fn pack() -> &'static packs::Pack {
    packs::find("infrastructure").unwrap()
}

fn policy() -> Policy {
    Policy::load(pack().policy, pack().schema).unwrap()
}

/// The same rules in other words, so that the digest is another.
fn reworded() -> Policy {
    Policy::load(&format!("// reviewed\n{}", pack().policy), pack().schema).unwrap()
}

fn decision(policy: &Policy) -> Decision {
    let directory = Directory::parse(pack().directory).unwrap();
    let facts = Facts {
        now: Micros::parse(AT).unwrap(),
        directory: &directory,
        halts: &[],
        grant: None,
        session_actions: 0,
        emergency: false,
        approvals: &[],
    };
    decide(policy, &Intent::parse(INTENT).unwrap(), &facts)
}

/// A verified file with the verdict that `policy` gave, after `change` had its way with it.
fn file(
    decision: &Decision,
    policy: &Policy,
    change: impl FnOnce(&mut serde_json::Map<String, Value>),
) -> FileReport {
    let record = record(decision, policy, change);
    let facts = Read { view: Some(record.view().clone()), ..Read::default() };
    FileReport::verified("a.evidence".to_owned(), report(Verdict::Valid, facts))
}

fn record(
    decision: &Decision,
    policy: &Policy,
    change: impl FnOnce(&mut serde_json::Map<String, Value>),
) -> FullRecord {
    let at = Micros::parse(AT).unwrap();
    let digest = policy.digest();
    let sealing = Sealing {
        action_id: "019ab000-0000-7000-8000-000000000001",
        mode: "enforce",
        evaluated_at: at,
        policy: Some(PolicyName { id: "p".into(), version: "1".into(), digest }),
        parent: None,
        approvals: &[],
        permit: None,
        expires_at: decision.requires.as_ref().map(|each| Micros(at.0 + each.ttl_us)),
    };
    let intent = Intent::parse(INTENT).unwrap();
    let text = verdict_json(&intent, decision, &sealing);
    let mut said: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    change(&mut said);
    let value = |name: &str| match name {
        "type" => quoted("verdict"),
        "tenant" | "gate" | "software" => quoted("acme"),
        "stream" | "nonce" => quoted(&hex(&[0; 16])),
        "prev" | "action_digest" => quoted(&hex(&[0; 32])),
        "seq" => "1".to_owned(),
        "recorded_at" => quoted(AT),
        name => said.get(name).unwrap_or(&Value::Null).to_string(),
    };
    let values = Kind::Verdict.fields().iter().map(|field| value(field.name)).collect();
    FullRecord::parse(Kind::Verdict, [0; 32], values).unwrap()
}

fn report(result: Verdict, facts: Read) -> Report {
    Report {
        result,
        fault: None,
        doubts: Vec::new(),
        steps: Vec::new(),
        not_checked: Vec::new(),
        facts,
        supporting: Vec::new(),
    }
}

fn came_to(file: &FileReport, versions: &[Policy]) -> (&'static str, Exit) {
    let made = Made::of(file, versions);
    assert!(made.said().ends_with('.'), "{}", made.said());
    assert_eq!(made.json()["result"], made.word());
    (made.word(), made.exit().unwrap())
}

/// POL-10.
#[test]
fn a_verdict_is_made_again() {
    let decided = decision(&policy());
    assert_eq!(decided.outcome, Outcome::Supervise);
    let honest = file(&decided, &policy(), |_| {});
    assert_eq!(came_to(&honest, &[policy()]), ("SAME", Exit::Valid));
    // Of many versions the one that the record names.
    assert_eq!(came_to(&honest, &[reworded(), policy()]), ("SAME", Exit::Valid));
    assert_eq!(came_to(&honest, &[reworded()]), ("OTHER_POLICY", Exit::Indeterminate));
}

#[test]
fn another_outcome_or_reason_is_invalid() {
    let decided = decision(&policy());
    let released = file(&decided, &policy(), |said| {
        said.insert("outcome".into(), "approve".into());
        said.insert("requires".into(), Value::Null);
    });
    assert_eq!(came_to(&released, &[policy()]), ("DIFFERENT", Exit::Invalid));
    let excused = file(&decided, &policy(), |said| {
        let reason = json!({"code": "S_OTHER", "policy": "supervise.emergency", "text": null});
        said.insert("reasons".into(), json!([reason]));
    });
    assert_eq!(came_to(&excused, &[policy()]), ("DIFFERENT", Exit::Invalid));
}

/// A gate that invents approvals, or tells its engine of another payment, is found out.
#[test]
fn a_record_that_contradicts_itself_is_invalid() {
    let decided = decision(&policy());
    let context = |said: &mut serde_json::Map<String, Value>, name: &str, value: Value| {
        let context = said.get_mut("context").and_then(Value::as_object_mut).unwrap();
        context.insert(name.to_owned(), value);
    };
    let invented = file(&decided, &policy(), |said| {
        let role = |id| json!({"__entity": {"type": "Gate::Role", "id": id}});
        let roles = json!([role("service-owner"), role("sre-oncall")]);
        context(said, "approvals", json!({"by": [], "count": 2, "distinct_roles": roles}));
        said.insert("outcome".into(), "approve".into());
        said.insert("requires".into(), Value::Null);
    });
    assert_eq!(came_to(&invented, &[policy()]), ("CONTRADICTED", Exit::Invalid));
    let made = Made::of(&invented, &[policy()]);
    assert!(made.said().contains("context.approvals.count"), "{}", made.said());
    assert_eq!(made.json()["contradicted"], "context.approvals.count");
    let other = file(&decided, &policy(), |said| context(said, "session", json!("s-9")));
    assert_eq!(came_to(&other, &[policy()]), ("CONTRADICTED", Exit::Invalid));
}

/// What a file withholds is said, and not passed for checked.
#[test]
fn what_is_withheld_is_said_to_be_unchecked() {
    let decided = decision(&policy());
    let whole = file(&decided, &policy(), |_| {});
    let mut facts = whole.report().unwrap().facts.clone();
    let mut disclosed = record(&decided, &policy(), |_| {}).disclose();
    let at = Kind::Verdict.fields().iter().position(|field| field.name == "task").unwrap();
    *disclosed.fields.get_mut(at).unwrap() = Field::Withheld([0; 32]);
    facts.view = Some(disclosed.view(Kind::Verdict).unwrap());
    let part = FileReport::verified("a".to_owned(), report(Verdict::Valid, facts));
    assert_eq!(came_to(&part, &[policy()]), ("SAME", Exit::Valid));
    let made = Made::of(&part, &[policy()]);
    assert!(made.said().ends_with("being withheld: task."), "{}", made.said());
    assert_eq!(made.json()["not_checked"], json!(["task"]));
    assert_eq!(Made::of(&whole, &[policy()]).json()["not_checked"], json!([]));
}

#[test]
fn what_cannot_be_made_again_is_never_valid() {
    let decided = decision(&policy());
    let engine = file(&decided, &policy(), |said| {
        let policy = said.get_mut("policy").and_then(Value::as_object_mut).unwrap();
        policy.insert("engine".into(), "cedar-policy/9.9.9".into());
    });
    assert_eq!(came_to(&engine, &[policy()]), ("DIFFERENT_ENGINE", Exit::Indeterminate));
    let halted = Decision::refuse(GateCode::Halted);
    let halted = file(&halted, &policy(), |_| {});
    assert_eq!(came_to(&halted, &[policy()]), ("NOT_BY_POLICY", Exit::Indeterminate));
    // What the evidence does not prove is not made again, even if it would come out the same.
    let honest = file(&decided, &policy(), |_| {});
    let facts = honest.report().unwrap().facts.clone();
    let forged = FileReport::verified("a".to_owned(), report(Verdict::Invalid, facts));
    assert_eq!(came_to(&forged, &[policy()]), ("NOT_PROVED", Exit::Indeterminate));
    // A withheld field is one thing, another kind of record another.
    let mut disclosed = record(&decided, &policy(), |_| {}).disclose();
    let at = Kind::Verdict.fields().iter().position(|field| field.name == "context").unwrap();
    *disclosed.fields.get_mut(at).unwrap() = Field::Withheld([0; 32]);
    let view = Some(disclosed.view(Kind::Verdict).unwrap());
    let facts = Read { view, ..Read::default() };
    let part = FileReport::verified("a".to_owned(), report(Verdict::Valid, facts));
    assert_eq!(came_to(&part, &[policy()]), ("WITHHELD", Exit::Indeterminate));
    let unread = FileReport::unread("a".to_owned(), "gone".to_owned());
    assert_eq!(came_to(&unread, &[policy()]), ("NOT_PROVED", Exit::Indeterminate));
}

#[test]
fn a_folder_is_a_version_or_holds_some() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, policy: &str| {
        let dir = folder.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.cedar"), policy).unwrap();
        std::fs::write(dir.join("a.cedarschema"), pack().schema).unwrap();
    };
    assert!(versions(folder.path()).is_err_and(|(exit, _)| exit == Exit::Usage), "none");
    write("1", pack().policy);
    write("2", reworded().policy_text());
    std::fs::create_dir(folder.path().join("notes")).unwrap();
    let digests: Vec<_> = versions(folder.path()).unwrap().iter().map(Policy::digest).collect();
    assert_eq!(digests, [policy().digest(), reworded().digest()]);
    assert_eq!(versions(&folder.path().join("2")).unwrap().len(), 1);
    write("3", "permit (principal, action, resource);");
    let (exit, said) = versions(folder.path()).unwrap_err();
    assert!(exit == Exit::Usage && said.contains("POL-1"), "{said}");
    assert!(versions(&folder.path().join("4")).is_err_and(|(exit, _)| exit == Exit::Io));
}

/// A pack's `policies`: one file a version, named by its digest (PACK-2).
#[test]
fn a_packs_folder_of_policies_is_one_of_versions() {
    let folder = tempfile::tempdir().unwrap();
    let blob = |policy: &str, schema: &str| {
        let length = |text: &str| u32::try_from(text.len()).unwrap().to_be_bytes();
        [&length(policy)[..], policy.as_bytes(), &length(schema), schema.as_bytes()].concat()
    };
    let put = |bytes: &[u8]| {
        let digest = hex(&Context::Policy.hash(&[bytes]));
        std::fs::write(folder.path().join(&digest), bytes).unwrap();
        digest
    };
    // What another engine decides by is no version of ours, and no fault.
    let foreign = put(&blob("", ""));
    put(b"none");
    assert!(versions(folder.path()).is_err_and(|(exit, _)| exit == Exit::Usage), "none is ours");
    let ours = put(&blob(pack().policy, pack().schema));
    put(&blob(reworded().policy_text(), pack().schema));
    let found: Vec<String> =
        versions(folder.path()).unwrap().iter().map(|version| hex(&version.digest())).collect();
    assert!(found.len() == 2 && found.contains(&ours) && !found.contains(&foreign), "{found:?}");
    assert_eq!(texts(&[&blob("a", "b")[..], b"c"].concat()), None);
    assert_eq!(texts(&blob("a", "b")), Some(("a", "b")));
    // Its name is its digest, or somebody changed it.
    std::fs::write(folder.path().join(&ours), blob(pack().policy, "")).unwrap();
    let (exit, said) = versions(folder.path()).unwrap_err();
    assert!(exit == Exit::Usage && said.contains("its digest is another"), "{said}");
}

/// All of a pack's evidence can be given at once: only its verdicts are made again.
#[test]
fn files_without_a_verdict_neither_fail_a_replay_nor_make_one() {
    let decided = decision(&policy());
    let honest = || Made::of(&file(&decided, &policy(), |_| {}), &[policy()]);
    let value = |name: &str| match name {
        "type" => quoted("notice"),
        "about" => quoted("heartbeat"),
        "tenant" | "gate" | "software" => quoted("acme"),
        "stream" => quoted(&hex(&[0; 16])),
        "prev" => quoted(&hex(&[0; 32])),
        "seq" => "1".to_owned(),
        "recorded_at" => quoted(AT),
        _ => "{}".to_owned(),
    };
    let values = Kind::Notice.fields().iter().map(|field| value(field.name)).collect();
    let notice = FullRecord::parse(Kind::Notice, [0; 32], values).unwrap();
    let facts = Read { view: Some(notice.view().clone()), ..Read::default() };
    let notice = FileReport::verified("a".to_owned(), report(Verdict::Valid, facts));
    let other = || Made::of(&notice, &[policy()]);
    assert_eq!((other().word(), other().exit()), ("NOT_A_VERDICT", None));
    assert_eq!(worst(&[other(), honest(), other()], Exit::Valid), Exit::Valid);
    assert_eq!(worst(&[other(), honest()], Exit::Io), Exit::Io);
    assert_eq!(worst(&[other(), other()], Exit::Valid), Exit::Indeterminate, "nothing made again");
    assert_eq!(worst(&[], Exit::Valid), Exit::Indeterminate);
}
