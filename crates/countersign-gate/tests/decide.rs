//! The three outcomes, the kill switch, replay.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]

mod support;

use countersign_core::encoding::hex;
use countersign_core::hash::RecordRoot;
use countersign_gate::{
    Decision, Directory, Facts, GateCode, Halt, Intent, Outcome, PermitSaid, Replay, Sealing,
    assemble, decide, intent_json, reconsider, replay, verdict_json,
};
use serde_json::{Value, json};
use support::*;

#[test]
fn the_reference_case_is_refused_on_prod_approved_on_dev_supervised_elsewhere() {
    let (policy, directory) = (policy(POLICIES), directory());
    let on = |id: &str| {
        let intent = intent(&json!({"resource": {"id": id}}));
        let decision = decide(&policy, &intent, &facts(&directory));
        let record = record(&intent, &decision, &sealing(&policy));
        assert_eq!(replay(record.view(), &[], &policy), Replay::Same, "{id}");
        told(&decision)
    };
    assert_eq!(on("costs"), "refuse R_AGENT_DESTRUCTIVE_BILLING_PROD");
    assert_eq!(on("shop"), "supervise S_DESTRUCTIVE_PROD_DUAL");
    assert_eq!(on("dev-7"), "approve A_AGENTS");
}

#[test]
fn a_supervise_asks_for_the_join_of_all_that_hold() {
    let (policy, directory) = (policy(POLICIES), directory());
    let intent = intent(&json!({
        "verb": "pay", "class": "move_money", "parameters": {"amount": 5, "payee": "x", "name": null},
    }));
    let decision = decide(&policy, &intent, &facts(&directory));
    assert_eq!(told(&decision), "refuse INPUT_INVALID", "an unknown parameter");
    let mut whole: Value = serde_json::from_str(&intent.to_json()).unwrap();
    whole["parameters"] = json!({"amount": 5, "payee": "x"});
    let intent = Intent::parse(&whole.to_string()).unwrap();
    let decision = decide(&policy, &intent, &facts(&directory));
    assert_eq!(told(&decision), "supervise S_DESTRUCTIVE_PROD_DUAL S_PAY");
    let requires = decision.requires.clone().unwrap();
    assert_eq!((requires.approvals, requires.ttl_us), (2, 30 * 60 * 1_000_000));
    assert_eq!(
        requires.roles.into_iter().collect::<Vec<_>>(),
        ["finance", "service-owner", "sre-oncall"]
    );
    assert_eq!(decision.loss_class.as_deref(), Some("availability.high"));
}

#[test]
fn a_kill_switch_comes_before_everything() {
    let (policy, directory) = (policy(POLICIES), directory());
    let halted = |halt: Halt, change: Value| {
        let halts = [halt];
        judge(&policy, &intent(&change), &Facts { halts: &halts, ..facts(&directory) })
    };
    let dev = || json!({"resource": {"id": "dev-1"}});
    assert_eq!(halted(Halt::Tenant, dev()), "refuse HALTED");
    assert_eq!(halted(Halt::Actor("infra-1".into()), dev()), "refuse HALTED");
    assert_eq!(halted(Halt::Session("s-1".into()), dev()), "refuse HALTED");
    assert_eq!(halted(Halt::Actor("other".into()), dev()), "approve A_AGENTS");
    assert_eq!(halted(Halt::Session("s-2".into()), dev()), "approve A_AGENTS");
    assert_eq!(halted(Halt::Tenant, json!({"resource": {"id": "nowhere"}})), "refuse HALTED");
}

/// POL-11: the time is the gate's and the calendar the directory's.
#[test]
fn the_context_says_when() {
    let (policy, directory) = (policy(POLICIES), directory());
    let context = |now: &str| -> Value {
        let facts =
            Facts { now: at(now), emergency: true, session_actions: 4, ..facts(&directory) };
        let change = json!({"task": {"justification": " ", "branch": "main"}, "urgency": "high"});
        let decision = decide(&policy, &intent(&change), &facts);
        serde_json::from_str(&decision.context.unwrap()).unwrap()
    };
    let found = context("2026-12-20T23:30:00.123456Z");
    for (name, value) in [
        ("weekday", json!(1)),
        ("minute_of_day", json!(30)),
        ("change_freeze", json!(true)),
        ("emergency", json!(true)),
        ("session_actions", json!(4)),
        ("now", json!({"__extn": {"fn": "datetime", "arg": "2026-12-20T23:30:00Z"}})),
        ("task", json!({"branch": "main", "justified": false})),
        ("urgency", json!("high")),
        ("approvals", json!({"by": [], "count": 0, "distinct_roles": []})),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
    assert_eq!(context("2027-01-02T00:00:00.000000Z")["change_freeze"], json!(false));
}

// POL-8.
#[test]
fn what_is_declared_is_judged_as_itself_or_not_at_all() {
    let directory = directory();
    let schema = schema().replacen(
        "action approve_intent",
        "action \"db:Nuke\" in [delete];\n  action approve_intent",
        1,
    );
    let policy = countersign_gate::Policy::load(POLICIES, &schema).unwrap();
    for verb in ["db:Nuke", "governed"] {
        let asked = intent(&json!({"verb": verb, "class": "read", "resource": {"id": "dev-1"}}));
        let decision = decide(&policy, &asked, &facts(&directory));
        assert_eq!(decision.outcome, Outcome::Refuse, "{verb}");
        assert_eq!(decision.reasons[0].code, "ACTION_UNKNOWN", "{verb}");
    }
}

/// POL-8. A claimed class opens neither what is declared in other letters, nor the gate itself.
#[test]
fn another_case_of_a_verb_is_no_other_verb() {
    let (policy, directory) = (policy(POLICIES), directory());
    let asked = |verb: &str| {
        let change = json!({"verb": verb, "class": "modify", "destructive": false, "resource": {"id": "dev-1"}});
        judge(&policy, &intent(&change), &facts(&directory))
    };
    for verb in [
        "DB:Drop",
        "db:DROP",
        "Db:Other",
        "PAY",
        "Delete",
        "Approve_Intent",
        "gate:emergency",
        "Gate:x",
    ] {
        assert_eq!(asked(verb), "refuse ACTION_UNKNOWN", "{verb}");
    }
    for verb in ["db:Other", "other:Drop", "drop"] {
        assert_eq!(asked(verb), "approve A_AGENTS", "{verb}");
    }
}

/// POL-8, INT-4. An agent of class `read` on production was once approved under each of these.
#[test]
fn a_verb_that_passes_for_another_is_no_other_verb() {
    let (policy, directory) = (policy(POLICIES), directory());
    let asked = |verb: &str| {
        let whole = intent_text(&json!({"verb": verb, "class": "read", "destructive": false}));
        match Intent::parse(&whole) {
            Ok(intent) => judge(&policy, &intent, &facts(&directory)),
            Err(reason) => format!("refuse {}", reason.code),
        }
    };
    assert_eq!(asked("s3:GetObject"), "approve A_AGENTS");
    for verb in ["\u{0}", "s3:GetObject\u{202e}", "db:\u{200b}Drop", "db:Drop ", "s3:Get\u{378}"] {
        assert_eq!(asked(verb), "refuse INPUT_INVALID", "{verb:?}");
    }
    // Full-width, another script's letter, a ligature: what carries it out may read it as ASCII.
    for verb in
        ["db:\u{ff24}rop", "\u{ff44}b:Drop", "db\u{ff1a}Drop", "db:Dr\u{43e}p", "con\u{fb01}g:X"]
    {
        assert_eq!(asked(verb), "refuse ACTION_UNKNOWN", "{verb:?}");
    }
}

/// INT-4. What an intent names is seen by whoever reads its record, and recorded where it is not.
#[test]
fn a_name_that_is_not_seen_is_refused_and_recorded() {
    let bare = serde_json::from_str::<Value>(&intent_text(&json!({}))).unwrap();
    for (object, name) in [
        ("actor", "id"),
        ("actor", "session"),
        ("actor", "model"),
        ("actor", "on_behalf_of"),
        ("resource", "type"),
        ("resource", "id"),
        ("resource", "environment"),
        ("resource", "domain"),
        ("task", "grant"),
    ] {
        let mut whole = bare.clone();
        whole[object][name] = json!("a\u{202e}b");
        let text = whole.to_string();
        let reason = Intent::parse(&text).unwrap_err();
        assert_eq!(reason.code, "INPUT_INVALID", "{object}.{name}");
        let said = reason.text.unwrap();
        assert!(said.starts_with(&format!("{object}.{name}: ")), "{said}");
        let kept = Intent::salvage(&text).to_json();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept[object][name], "a\u{202e}b", "{object}.{name}");
    }
}

/// INT-3. What nobody sees is no ticket, and no reason.
#[test]
fn what_nobody_sees_says_nothing() {
    let (policy, directory) = (policy(POLICIES), directory());
    let task = |text: &str| -> Value {
        let change = json!({"task": {"ticket": text, "branch": text, "justification": text}});
        let decision = decide(&policy, &intent(&change), &facts(&directory));
        serde_json::from_str::<Value>(&decision.context.unwrap()).unwrap()["task"].clone()
    };
    for text in [" ", "\u{200b}", "\u{3164}\u{2800}", "\t\u{ad}\u{fe0f}", "\u{e0041}\u{a0}"] {
        assert_eq!(task(text), json!({"justified": false}), "{text:?}");
    }
    let seen = json!({"ticket": "T", "branch": "T", "justified": true});
    assert_eq!(task("T"), seen);
}

#[test]
fn a_record_says_what_was_judged() {
    let (policy, directory) = (policy(POLICIES), directory());
    let intent = intent(&json!({
        "verb": "db:Drop", "class": "read", "destructive": false, "resource": {"id": "dev-1"},
        "task": {"ticket": "T-1", "repository": "r"}, "consent": "c-1",
    }));
    let decision = decide(&policy, &intent, &facts(&directory));
    let permit = PermitSaid { id: "p-1".into(), audience: "pep-1".into(), not_after: at(NOW) };
    let parent = RecordRoot([5; 32]);
    let roots = [RecordRoot([6; 32])];
    let full = Sealing {
        permit: Some(permit),
        parent: Some(parent),
        approvals: &roots,
        ..sealing(&policy)
    };
    let view = record(&intent, &decision, &full);
    let view = view.view();
    for (name, value) in [
        ("action", json!("db:Drop")),
        ("action_class", json!("delete")),
        ("destructive", json!(true)),
        (
            "actor",
            json!({"kind": "agent", "id": "infra-1", "class": "infra", "session": "s-1", "model": null, "on_behalf_of": null}),
        ),
        (
            "resource",
            json!({"type": "System", "id": "dev-1", "environment": "dev", "domain": "web"}),
        ),
        (
            "task",
            json!({"ticket": "T-1", "grant": null, "scope_digest": null, "justification": null}),
        ),
        ("permit", json!({"id": "p-1", "audience": "pep-1", "not_after": NOW})),
        ("parent", json!("05".repeat(32))),
        ("approvals", json!(["06".repeat(32)])),
        ("requires", Value::Null),
        (
            "reasons",
            json!([{"code": "A_AGENTS", "policy": "authority.agents", "text": "agents of this class may act"}]),
        ),
        (
            "policy",
            json!({"id": "acme", "version": "1", "digest": hex(&policy.digest()), "engine": countersign_gate::ENGINE}),
        ),
        ("consent", json!("c-1")),
        ("evaluated_at", json!(NOW)),
    ] {
        assert_eq!(view.get(name), Some(&value), "{name}");
    }
    // A permit stands on an enforced approve only.
    let shadow = record(&intent, &decision, &Sealing { mode: "shadow", ..full.clone() });
    assert_eq!(shadow.view().get("permit"), Some(&Value::Null));
    let refused = record(&intent, &Decision::refuse(GateCode::EvidenceUnavailable), &full);
    assert_eq!(refused.view().get("permit"), Some(&Value::Null));
    // The intent record is what was asked.
    let asked: Value = serde_json::from_str(&intent_json(&intent, ACTION_ID)).unwrap();
    assert_eq!((&asked["action_class"], &asked["destructive"]), (&json!("read"), &json!(false)));
    assert_eq!(asked["action_id"], json!(ACTION_ID));
}

#[test]
fn replay_tells_same_from_different() {
    let (policy, directory) = (policy(POLICIES), directory());
    let intent = intent(&json!({}));
    let decision = decide(&policy, &intent, &facts(&directory));
    let members: Value =
        serde_json::from_str(&verdict_json(&intent, &decision, &sealing(&policy))).unwrap();
    let with = |change: Value| {
        let mut members = members.clone();
        merge(&mut members, &change);
        replay(record_of(&members.to_string()).view(), &[], &policy)
    };
    let differs = |change: Value| match with(change.clone()) {
        Replay::Different { outcome, .. } => outcome,
        other => panic!("{change}: {other:?}"),
    };
    assert_eq!(with(json!({})), Replay::Same);
    let supervise = Outcome::Supervise;
    assert_eq!(differs(json!({"outcome": "approve", "requires": null})), supervise);
    assert_eq!(
        differs(
            json!({"outcome": "refuse", "requires": null, "reasons": [{"code": "X", "policy": "x", "text": null}]})
        ),
        supervise
    );
    assert_eq!(differs(json!({"reasons": []})), supervise);
    assert_eq!(differs(json!({"requires": {"approvals": 1}})), supervise);
    assert_eq!(differs(json!({"requires": {"roles": ["sre-oncall"]}})), supervise);
    // A context that was never possible.
    let refuse = Outcome::Refuse;
    assert_eq!(differs(json!({"context": {"more": 1}})), refuse);
    assert_eq!(differs(json!({"context": null})), refuse);
    assert_eq!(differs(json!({"entities": null})), refuse);
    assert_eq!(differs(json!({"entities": []})), refuse);
    assert_eq!(differs(json!({"action_class": "file"})), refuse);
    assert_eq!(differs(json!({"actor": {"id": "infra-2"}})), refuse);
    // Another environment in the entities alone.
    let mut moved = members.clone();
    let text = moved["entities"].to_string().replace("\"prod\"", "\"dev\"");
    moved["entities"] = serde_json::from_str(&text).unwrap();
    moved["resource"]["environment"] = json!("dev");
    let moved = record_of(&moved.to_string());
    assert!(matches!(
        replay(moved.view(), &[], &policy),
        Replay::Different { outcome: Outcome::Approve, .. }
    ));
    // Engines and versions.
    let other = json!({"policy": {"engine": "cedar-policy/4.0.0"}});
    assert_eq!(with(other), Replay::DifferentEngine { recorded: "cedar-policy/4.0.0".into() });
    assert_eq!(with(json!({"policy": {"digest": "00".repeat(32)}})), Replay::OtherPolicy);
    // The gate's own refusals can't be made again.
    for code in ["SUPERVISION_EXPIRED", "ENTITY_MISSING"] {
        let own = Decision::refuse(GateCode::from_text(code).unwrap());
        let own = record(&intent, &own, &sealing(&policy));
        assert_eq!(replay(own.view(), &[], &policy), Replay::NotByPolicy { code: code.into() });
    }
    let own = json!({"outcome": "refuse", "requires": null, "reasons": [{"code": "EVIDENCE_UNAVAILABLE", "policy": null, "text": null}]});
    assert_eq!(with(own), Replay::NotByPolicy { code: "EVIDENCE_UNAVAILABLE".into() });
}

/// A candidate policy is tried on what was recorded under another.
#[test]
fn a_candidate_policy_says_what_it_would_have_decided() {
    let (old, directory) = (policy(POLICIES), directory());
    let intent = intent(&json!({}));
    let decision = decide(&old, &intent, &facts(&directory));
    let record = record(&intent, &decision, &sealing(&old));
    assert_eq!(reconsider(record.view(), &old), Replay::Same);
    let without = POLICIES.replace(
        "context.destructive && resource.env == Gate::Env::\"prod\" }\nunless",
        "context.emergency }\nunless",
    );
    let candidate = policy(&without);
    assert_eq!(replay(record.view(), &[], &candidate), Replay::OtherPolicy);
    assert!(matches!(
        reconsider(record.view(), &candidate),
        Replay::Different { outcome: Outcome::Approve, .. }
    ));
}

#[test]
fn a_folder_gives_two_texts() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let files = [
        file("b.cedar", "B"),
        file("x.cedarschema", "S"),
        file("a.cedar", "A"),
        file("README.md", ""),
    ];
    assert_eq!(assemble(&files), Ok(("A\nB".to_owned(), "S".to_owned())));
    assert!(assemble(&files[1..2]).is_err());
    assert!(assemble(&files[..1]).is_err());
    assert!(assemble(&[files[0].clone(), files[1].clone(), file("y.cedarschema", "")]).is_err());
}

/// Entities that attributes name are loaded too.
#[test]
fn attributes_lead_to_entities() {
    let schema = schema().replace("tier?: Long", "tier?: Long, steward?: Human, part_of?: System");
    let text = format!(
        "{POLICIES} @id(\"steward\") @outcome(\"refuse\") @reason_code(\"R_STEWARD\") forbid (principal, action in Gate::Action::\"governed\", resource is Gate::System) when {{ resource has part_of && resource.part_of has steward && resource.part_of.steward in Gate::Role::\"finance\" }};"
    );
    let policy = countersign_gate::Policy::load(&text, &schema).unwrap();
    let with = |steward: &str| {
        let more = format!(
            r#""labels": [], "attributes": {{"part_of": {{"__entity": {{"type": "Gate::System", "id": "dev-x"}}}}, "steward": {{"__entity": {{"type": "Gate::Human", "id": "{steward}"}}}}}}"#
        );
        let text = DIRECTORY
            .replace(r#""labels": [], "attributes": {"tier": 1}"#, &more)
            .replace(r#""id": "dev-*", "type": "System", "environment": "dev", "domain": "web", "owner": "carol""#,
                r#""id": "dev-*", "type": "System", "environment": "dev", "domain": "web", "owner": "carol", "attributes": {"steward": {"__entity": {"type": "Gate::Human", "id": "dave"}}}"#);
        let directory = Directory::parse(&text).unwrap();
        judge(&policy, &intent(&json!({})), &facts(&directory))
    };
    assert_eq!(with("eve"), "refuse R_STEWARD");
    assert_eq!(with("nobody"), "refuse ENTITY_MISSING");
}
