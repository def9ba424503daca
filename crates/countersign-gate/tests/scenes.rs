//! What is kept between decisions never shows in them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]

mod support;

use countersign_gate::{Directory, Policy, decide};
use serde_json::json;
use support::*;

/// Agents in the directory besides those of the tests: more than scenes are kept.
const MANY: usize = 1_100;

fn answer(policy: &Policy, directory: &Directory, actor: &str) -> countersign_gate::Decision {
    let change = json!({"actor": {"id": actor}, "resource": {"id": "dev-7"}});
    decide(policy, &intent(&change), &facts(directory))
}

#[test]
fn one_directory_is_never_answered_from_another() {
    let policy = policy(POLICIES);
    let before = directory();
    let text = DIRECTORY.replace("dev-*", "dev-x*");
    let after = Directory::parse(&text).unwrap();
    for _ in 0..2 {
        assert_eq!(told(&answer(&policy, &before, "infra-1")), "approve A_AGENTS");
        assert_eq!(told(&answer(&policy, &after, "infra-1")), "refuse ENTITY_MISSING");
    }
    let other =
        Directory::parse(&DIRECTORY.replace("\"owner\": \"alice\"", "\"owner\": \"bob\"")).unwrap();
    let entities = |directory: &Directory| answer(&policy, directory, "infra-1").entities.unwrap();
    assert_ne!(entities(&before), entities(&other));
    assert_eq!(entities(&before), entities(&directory()), "the same text is the same directory");
}

/// Two actions between the same types, judged by the same policies, are in different groups.
#[test]
fn one_action_is_never_answered_from_another() {
    let rule = "@id(\"all\") @reason_code(\"A\")\n\
                permit (principal, action in Gate::Action::\"governed\", resource)\n\
                unless { action in Gate::Action::\"delete\" };";
    let (policy, directory) = (policy(rule), directory());
    let on = |verb: &str| {
        let change = json!({"verb": verb, "class": "delete", "resource": {"id": "dev-7"}});
        told(&decide(&policy, &intent(&change), &facts(&directory)))
    };
    for _ in 0..2 {
        assert_eq!(on("delete"), "refuse NO_AUTHORITY");
        assert_eq!(on("db:Drop"), "refuse NO_AUTHORITY");
        assert_eq!(on("create"), "approve A");
    }
}

#[test]
fn more_are_asked_for_than_are_kept() {
    let agents: Vec<String> = (0..MANY)
        .map(|n| format!("{{\"id\":\"m-{n}\",\"class\":\"infra\",\"owner\":\"bob\"}},"))
        .collect();
    let text = DIRECTORY.replacen("\"agents\": [", &format!("\"agents\": [{}", agents.concat()), 1);
    let directory = Directory::parse(&text).unwrap();
    let (kept, fresh) = (policy(POLICIES), policy(POLICIES));
    for n in (0..MANY).chain(0..3) {
        let actor = format!("m-{n}");
        let decision = answer(&kept, &directory, &actor);
        assert_eq!(told(&decision), "approve A_AGENTS", "{actor}");
        assert!(decision.entities.as_ref().unwrap().contains(&actor));
        // Asked in the other order, what is kept differs; the answers don't.
        let other = answer(&fresh, &directory, &format!("m-{}", MANY - 1 - n));
        assert_eq!(other.outcome, decision.outcome);
        if n < 3 {
            assert_eq!(answer(&fresh, &directory, &actor), decision);
        }
    }
}
