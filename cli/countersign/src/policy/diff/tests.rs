//! Recorded verdicts under candidates that change one thing each.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

use countersign_core::encoding::hex;
use countersign_core::entry::Entry;
use countersign_core::hash::Sealed;
use countersign_core::json::quoted;
use countersign_core::record::FullRecord;
use countersign_core::stream::StreamId;
use countersign_gate::{
    Approver, Decision, Directory, Facts, GateCode, Intent, PolicyName, Sealing, decide, packs,
    verdict_json,
};

use super::*;

const AT: &str = "2026-11-24T10:00:00.000000Z";

fn pack() -> &'static packs::Pack {
    packs::find("infrastructure").unwrap()
}

/// The pack with one thing changed in its policies.
fn changed(from: &str, to: &str) -> Policy {
    let text = pack().policy.replace(from, to);
    assert_ne!(text, pack().policy, "{from}");
    Policy::load(&text, pack().schema).unwrap()
}

/// What the pack's own policy makes of `who` asking for an emergency, as the log holds it.
fn recorded(index: u64, who: &str, approvals: &[&str]) -> Known {
    let policy = Policy::load(pack().policy, pack().schema).unwrap();
    let intent = format!(
        r#"{{"verb":"gate:emergency","class":"approve","destructive":false,
        "actor":{{"kind":"human","id":"{who}"}},"resource":{{"type":"System","id":"production"}},
        "parameters":{{"minutes":60}},"task":{{"ticket":"OPS-4412"}}}}"#
    );
    let intent = Intent::parse(&intent).unwrap();
    let directory = Directory::parse(pack().directory).unwrap();
    let approvals: Vec<Approver> =
        approvals.iter().map(|id| Approver { id: (*id).to_owned() }).collect();
    let facts = Facts {
        now: Micros::parse(AT).unwrap(),
        directory: &directory,
        halts: &[],
        grant: None,
        session_actions: 0,
        emergency: false,
        approvals: &approvals,
    };
    let decision = decide(&policy, &intent, &facts);
    known(index, &intent, &decision, Some(policy.digest()))
}

fn known(index: u64, intent: &Intent, decision: &Decision, policy: Option<[u8; 32]>) -> Known {
    let at = Micros::parse(AT).unwrap();
    let sealing = Sealing {
        action_id: "019ab000-0000-7000-8000-000000000001",
        mode: "enforce",
        evaluated_at: at,
        policy: policy.map(|digest| PolicyName { id: "p".into(), version: "1".into(), digest }),
        parent: None,
        approvals: &[],
        permit: None,
        expires_at: Some(at),
    };
    let said: Value = serde_json::from_str(&verdict_json(intent, decision, &sealing)).unwrap();
    let value = |name: &str| match name {
        "type" => quoted("verdict"),
        "tenant" | "gate" | "software" => quoted("acme"),
        "stream" | "nonce" => quoted(&hex(&[0; 16])),
        "prev" | "action_digest" => quoted(&hex(&[0; 32])),
        "seq" => index.to_string(),
        "recorded_at" => quoted(AT),
        name => said.get(name).unwrap_or(&Value::Null).to_string(),
    };
    let values = Kind::Verdict.fields().iter().map(|field| value(field.name)).collect();
    let record = FullRecord::parse(Kind::Verdict, [0; 32], values).unwrap();
    let entry = Entry {
        kind: Kind::Verdict,
        logged_at: at,
        stream: StreamId([1; 16]),
        seq: index,
        sealed: Sealed([0; 32]),
    };
    Known { view: record.view().clone(), root: record.root(), entry, index }
}

/// An on-call's request, which waits; the same with its approvals; an engineer's, who has no say.
fn period() -> [Known; 3] {
    [
        recorded(1, "bob", &[]),
        recorded(2, "alice", &[]),
        recorded(3, "alice", &["oncall-1", "owner-1"]),
    ]
}

fn flips(candidate: &Policy) -> Vec<(Change, u64)> {
    let compared = compare(period().iter(), candidate);
    assert_eq!(compared.replayed(), 3);
    compared.flips.iter().map(|flip| (flip.change, flip.index)).collect()
}

#[test]
fn the_same_policy_flips_nothing() {
    let outcomes: Vec<String> =
        period().iter().map(|known| known.view.str("outcome").unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["refuse", "supervise", "approve"]);
    assert_eq!(flips(&Policy::load(pack().policy, pack().schema).unwrap()), []);
}

#[test]
fn new_approvals_come_first_and_every_change_has_its_name() {
    let rule = pack().policy.split_once("@id(\"supervise.emergency\")").unwrap().1;
    let rule = format!("@id(\"supervise.emergency\"){}", rule.split_once("};").unwrap().0);
    let everybody = (
        "principal in Gate::Role::\"sre-oncall\",\n  action in [",
        "principal is Gate::Human,\n  action in [",
    );
    assert_eq!(flips(&changed(&format!("{rule}}};"), "")), [(Change::NewApproval, 2)]);
    assert_eq!(flips(&changed(everybody.0, everybody.1)).first(), Some(&(Change::NewSupervise, 1)));
    let nobody = flips(&changed(", Gate::Action::\"approve\"\n", "\n"));
    assert_eq!(nobody, [(Change::NewRefusal, 2), (Change::NewRefusal, 3)]);
    let renamed = flips(&changed("S_EMERGENCY", "S_EMERGENCY_2"));
    assert_eq!(renamed, [(Change::OtherReasons, 2)]);
    let both = Policy::load(
        &pack().policy.replace(&format!("{rule}}};"), "").replace(everybody.0, everybody.1),
        pack().schema,
    );
    let both = flips(&both.unwrap());
    assert_eq!(both.first().map(|flip| flip.0), Some(Change::NewApproval), "{both:?}");
}

#[test]
fn what_no_policy_made_is_counted_and_not_replayed() {
    let candidate = Policy::load(pack().policy, pack().schema).unwrap();
    let intent = Intent::parse(
        r#"{"verb":"x","class":"read","actor":{"kind":"human","id":"bob"},
        "resource":{"type":"System","id":"production"}}"#,
    );
    let halted = Decision::refuse(GateCode::Halted);
    let halted = known(1, &intent.unwrap(), &halted, Some(candidate.digest()));
    let compared = compare([halted].iter(), &candidate);
    assert_eq!((compared.replayed(), compared.not_by_policy), (0, 1));
    assert_eq!(compared.counts()["replayed"], 0);
}
