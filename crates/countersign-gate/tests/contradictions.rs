//! What a dishonest gate tells its engine, and the record says otherwise: never the same (POL-10).
//! The story: a gate invented two approvals, and the replay of its approve said SAME.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]

mod support;

use countersign_core::encoding::Micros;
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::record::{Field, FullRecord, View};
use countersign_gate::{
    Approver, Decision, Facts, GrantHeld, Intent, Outcome, Policy, Replay, Sealing, Terms, Used,
    decide, not_compared, reconsider, replay, verdict_json,
};
use serde_json::{Value, json};
use support::*;

/// An agent's payment, asked with everything that an intent may say.
const ASKED: &str = r#"{
    "verb": "pay", "class": "move_money", "destructive": false,
    "actor": {"kind": "agent", "id": "infra-1", "session": "s-1", "model": "m-1", "on_behalf_of": "bob"},
    "resource": {"type": "System", "id": "dev-1"},
    "parameters": {"payee": "acme", "amount": "12.5", "currency": "EUR", "items": [1, 2]},
    "task": {"ticket": "T-1", "grant": "g-1", "scope_digest": "d-1", "justification": "invoice 7"},
    "urgency": "low", "consent": "c-1"
}"#;

const TERMS: &str = r#"{"grantee": "infra-1", "allowed": {"actions": ["*"], "resources": ["*"], "targets": ["acme"]},
    "forbidden": {}, "ticket": "T-1", "session": null, "limits": {},
    "not_before": "2026-11-01T00:00:00.000000Z", "expires_at": "2026-12-01T00:00:00.000000Z"}"#;

/// The members of the verdict on what is asked, released by these people.
fn verdict(intent: &Intent, people: &[&str]) -> (Policy, Value) {
    let (policy, directory) = (policy(POLICIES), directory());
    let terms = Terms::parse(TERMS).unwrap();
    let approvals: Vec<Approver> =
        people.iter().map(|id| Approver { id: (*id).to_owned() }).collect();
    let facts = Facts {
        grant: Some(GrantHeld { id: "g-1", terms: &terms, used: Used::default() }),
        approvals: &approvals,
        ..facts(&directory)
    };
    let decision = decide(&policy, intent, &facts);
    let roots = roots(people.len());
    let sealing = Sealing { expires_at: expiry(&decision), ..released(&policy, &roots) };
    let text = verdict_json(intent, &decision, &sealing);
    (policy, serde_json::from_str(&text).unwrap())
}

/// What comes of the verdict when a change is made to it.
fn came(policy: &Policy, members: &Value, change: &Value) -> Replay {
    let mut members = members.clone();
    merge(&mut members, change);
    replay(record_of(&members.to_string()).view(), &[], policy)
}

fn contradicted(member: &'static str) -> Replay {
    Replay::Contradicted { member }
}

#[test]
fn what_the_engine_was_told_is_what_the_record_says() {
    let (policy, members) = verdict(&Intent::parse(ASKED).unwrap(), &[]);
    assert_eq!(members["outcome"], "supervise");
    assert_eq!(came(&policy, &members, &json!({})), Replay::Same);
    for (told, member) in [
        (json!({"verb": "db:Drop"}), "context.verb"),
        (json!({"destructive": true}), "context.destructive"),
        (json!({"irreversible": true}), "context.irreversible"),
        (json!({"session": "s-2"}), "context.session"),
        (json!({"model": "m-2"}), "context.model"),
        (json!({"urgency": "high"}), "context.urgency"),
        (json!({"consent": "c-2"}), "context.consent"),
        (json!({"task": {"ticket": "T-2"}}), "context.task.ticket"),
        (json!({"task": {"scope_digest": "d-2"}}), "context.task.scope_digest"),
        (json!({"task": {"justified": false}}), "context.task.justified"),
        (json!({"grant": {"id": "g-2"}}), "context.grant.id"),
        (json!({"grant": {"ticket": "T-2"}}), "context.grant.ticket"),
        (json!({"targets": []}), "context.targets"),
        (json!({"facts": ["a=b"]}), "context.facts"),
        (json!({"amount": {"__extn": {"fn": "decimal", "arg": "1.0"}}}), "context.amount"),
        (json!({"currency": "USD"}), "context.currency"),
        (json!({"count": 1}), "context.count"),
        (
            json!({"now": {"__extn": {"fn": "datetime", "arg": "2026-11-23T07:00:00Z"}}}),
            "context.now",
        ),
        (json!({"weekday": 4}), "context.weekday"),
        (json!({"minute_of_day": 1440}), "context.minute_of_day"),
        (json!({"approvals": {"count": 1}}), "context.approvals.count"),
    ] {
        assert_eq!(came(&policy, &members, &json!({"context": told})), contradicted(member));
    }
    // The other way about: the record was written as if something else had been asked.
    for (said, member) in [
        (json!({"parameters": {"amount": "99"}}), "context.amount"),
        (json!({"parameters": {"amount": "x"}}), "parameters"),
        (json!({"parameters": null}), "parameters"),
        (json!({"actor": {"session": null}}), "context.session"),
        (json!({"actor": {"class": "other"}}), "actor.class"),
        (json!({"actor": {"on_behalf_of": "eve"}}), "actor.on_behalf_of"),
        (json!({"resource": {"environment": "prod"}}), "resource.environment"),
        (json!({"resource": {"domain": "billing"}}), "resource.domain"),
        (json!({"task": {"grant": null}}), "context.grant.id"),
        (json!({"task": {"justification": "\u{200b}"}}), "context.task.justified"),
        (json!({"evaluated_at": "2026-11-23T06:00:01.000000Z"}), "context.now"),
        (json!({"evaluated_at": null}), "context.now"),
        (json!({"loss_class": "other"}), "loss_class"),
        (json!({"requires": {"expires_at": "2026-11-25T06:00:00.000000Z"}}), "requires.expires_at"),
        (json!({"requires": {"expires_at": null}}), "requires.expires_at"),
    ] {
        assert_eq!(came(&policy, &members, &said), contradicted(member), "{said}");
    }
    // What the schema says is so whatever record and context agree on.
    let drop = json!({"verb": "db:Drop", "resource": {"id": "dev-1"}});
    let (policy, dropped) = verdict(&intent(&drop), &[]);
    assert_eq!(came(&policy, &dropped, &json!({})), Replay::Same);
    let mild = json!({"destructive": false, "context": {"destructive": false}});
    assert_eq!(came(&policy, &dropped, &mild), contradicted("destructive"));
    let mild = json!({"context": {"irreversible": false}});
    assert_eq!(came(&policy, &dropped, &mild), contradicted("context.irreversible"));
}

/// The invented approvals: an approve of what waits for two people.
#[test]
fn approvals_are_those_that_the_record_names() {
    let asked = intent(&json!({}));
    let (policy, honest) = verdict(&asked, &["bob", "carol"]);
    assert_eq!(honest["outcome"], "approve");
    assert_eq!(came(&policy, &honest, &json!({})), Replay::Same);
    let one = json!([honest["approvals"][0]]);
    for change in [
        json!({"parent": null, "approvals": null}),
        json!({"parent": null, "approvals": []}),
        json!({"approvals": null}),
        json!({"approvals": one}),
        json!({"context": {"approvals": {"count": 3}}}),
        json!({"context": {"approvals": {"by": []}}}),
    ] {
        let came = came(&policy, &honest, &change);
        assert_eq!(came, contradicted("context.approvals.count"), "{change}");
    }
    let roles = json!({"context": {"approvals": {"distinct_roles": []}}});
    assert_eq!(came(&policy, &honest, &roles), contradicted("context.approvals.distinct_roles"));
    // A refuse may leave out the answers that it does not rest on, and none else.
    let costs = intent(&json!({"resource": {"id": "costs"}}));
    let (policy, refused) = verdict(&costs, &["bob", "carol"]);
    assert_eq!(refused["outcome"], "refuse");
    assert_eq!(came(&policy, &refused, &json!({"approvals": []})), Replay::Same);
    let alone = json!({"parent": null, "approvals": null});
    assert_eq!(came(&policy, &refused, &alone), contradicted("context.approvals.count"));
}

/// INT-4, POL-8. A gate that approves what no gate may judge is found out, whatever else agrees.
#[test]
fn a_name_that_passes_for_another_is_not_made_again() {
    let asked = json!({"verb": "db:Other", "class": "modify", "destructive": false, "resource": {"id": "dev-1"}});
    let (policy, honest) = verdict(&intent(&asked), &[]);
    assert_eq!(honest["outcome"], "approve");
    assert_eq!(came(&policy, &honest, &json!({})), Replay::Same);
    for (name, member) in [
        ("db:\u{ff24}rop", "action"),
        ("db:Other\u{202e}", "action"),
        ("s-1\u{200b}", "session"),
        ("m\u{0}", "model"),
    ] {
        let change = match member {
            "action" => json!({"action": name, "context": {"verb": name}}),
            member => json!({"actor": {member: name}, "context": {member: name}}),
        };
        let came = came(&policy, &honest, &change);
        let refuses = matches!(came, Replay::Different { outcome: Outcome::Refuse, .. });
        assert!(refuses, "{name:?}: {came:?}");
    }
}

/// Who approved is known where the approvals came with the verdict.
#[test]
fn the_people_are_those_who_signed() {
    let (policy, honest) = verdict(&intent(&json!({})), &["bob", "carol"]);
    let record = record_of(&honest.to_string());
    let approval = |who: &str| -> View {
        let value = |name: &str| match name {
            "type" => json!("approval"),
            "tenant" | "gate" | "software" | "justification" => json!("acme"),
            "stream" | "nonce" => json!("11".repeat(16)),
            "prev" | "verdict" | "action_digest" | "displayed_digest" => json!("22".repeat(32)),
            "seq" => json!(3),
            "action_id" => json!(ACTION_ID),
            "approver" => json!({"id": who, "roles": [], "certificate": "33".repeat(32)}),
            "decision" => json!("grant"),
            "signature" => json!(countersign_core::encoding::b64(&[0; 64])),
            _ => json!(NOW),
        };
        let values = Kind::Approval.fields().iter().map(|f| value(f.name).to_string()).collect();
        FullRecord::parse(Kind::Approval, [7; 32], values).unwrap().view().clone()
    };
    let with = |first: &str, second: &str| {
        let (first, second) = (approval(first), approval(second));
        let roots = roots(2);
        replay(record.view(), &[(roots[0], &first), (roots[1], &second)], &policy)
    };
    assert_eq!(with("bob", "carol"), Replay::Same);
    assert_eq!(with("carol", "bob"), Replay::Same);
    assert_eq!(with("bob", "dave"), contradicted("context.approvals.by"));
    // One that the record does not name says nothing of it.
    let other = approval("dave");
    assert_eq!(replay(record.view(), &[(RecordRoot([8; 32]), &other)], &policy), Replay::Same);
}

/// A withheld field gives nothing to compare, and is named.
#[test]
fn what_is_withheld_is_not_compared() {
    let (policy, mut members) = verdict(&Intent::parse(ASKED).unwrap(), &[]);
    members["context"]["targets"] = json!(["other"]);
    let record = record_of(&members.to_string());
    assert_eq!(replay(record.view(), &[], &policy), contradicted("context.targets"));
    assert_eq!(not_compared(record.view()).count(), 0);
    let mut disclosed = record.disclose();
    let place = Kind::Verdict.fields().iter().position(|field| field.name == "parameters").unwrap();
    disclosed.fields[place] = Field::Withheld([0; 32]);
    let view = disclosed.view(Kind::Verdict).unwrap();
    assert_eq!(replay(&view, &[], &policy), Replay::Same);
    assert_eq!(not_compared(&view).collect::<Vec<_>>(), ["parameters"]);
}

/// Another version reads other things from the parameters, which contradicts nobody.
#[test]
fn a_candidate_is_not_asked_what_the_record_contradicts() {
    let (policy, mut members) = verdict(&Intent::parse(ASKED).unwrap(), &[]);
    members["context"]["facts"] = json!(["a=b"]);
    let record = record_of(&members.to_string());
    assert_eq!(reconsider(record.view(), &policy), Replay::Same);
}

/// The calendar may be anywhere on earth, and no further.
#[test]
fn the_day_is_that_of_some_calendar() {
    let policy = policy(POLICIES);
    for minutes in [-1440, -720, -61, 0, 60, 840, 1440] {
        let offset = format!("\"utc_offset_minutes\": {minutes}");
        let directory = DIRECTORY.replace("\"utc_offset_minutes\": 60", &offset);
        let directory = countersign_gate::Directory::parse(&directory).unwrap();
        for now in [NOW, "2026-11-22T23:59:59.999999Z", "1970-01-01T00:00:00.000000Z"] {
            let intent = intent(&json!({"resource": {"id": "dev-1"}}));
            let facts = Facts { now: at(now), ..facts(&directory) };
            let decision: Decision = decide(&policy, &intent, &facts);
            assert_eq!(decision.outcome, Outcome::Approve);
            let evaluated_at: Micros = at(now);
            let sealing = Sealing { evaluated_at, ..sealing(&policy) };
            let record = record(&intent, &decision, &sealing);
            assert_eq!(replay(record.view(), &[], &policy), Replay::Same, "{minutes} {now}");
        }
    }
}
