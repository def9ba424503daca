//! What a policy set must hold for people, so that no permit releases more than it was meant to.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod support;

use countersign_gate::Policy;
use support::*;

const PERMIT: &str =
    "@id(\"all\") permit (principal, action in Gate::Action::\"governed\", resource);";

const SUPERVISE: &str = "@id(\"s\") @outcome(\"supervise\") @reason_code(\"S\") @quorum(\"2\") @roles(\"a,b\") @ttl(\"PT1H\") \
    forbid (principal, action, resource is Gate::System) ";

fn forbid(id: &str, rest: &str) -> String {
    format!(
        "@id(\"{id}\") @outcome(\"refuse\") @reason_code(\"R\") \
         forbid (principal, action in Gate::Action::\"governed\", resource) {rest};"
    )
}

/// POL-12. Whoever may decide what waits is named; everyone is not.
#[test]
fn a_permit_for_everyone_does_not_make_everyone_an_approver() {
    let of = |scope: &str| faults(&format!("@id(\"a\") permit ({scope});"));
    for scope in [
        "principal, action, resource",
        "principal is Gate::Human, action, resource",
        "principal, action == Gate::Action::\"approve_intent\", resource",
        "principal is Gate::Human, action in [Gate::Action::\"approve_intent\"], resource is Gate::Intent",
        "principal, action in [Gate::Action::\"read\", Gate::Action::\"approve_intent\"], resource",
    ] {
        assert!(of(scope).contains(&"POL-12 a".to_owned()), "{scope}: {:?}", of(scope));
    }
    for scope in [
        "principal in Gate::Role::\"x\", action == Gate::Action::\"approve_intent\", resource",
        "principal == Gate::Human::\"bob\", action, resource",
        "principal is Gate::Human in Gate::Role::\"x\", action, resource",
        "principal is Gate::Agent, action, resource",
        "principal, action, resource is Gate::System",
        "principal, action in Gate::Action::\"governed\", resource",
    ] {
        assert_eq!(of(scope), [""; 0], "{scope}");
    }
}

/// POL-13. Nobody opens an emergency alone, by a permit that was meant for all the rest.
#[test]
fn an_emergency_is_held_for_people() {
    let verb = "action \"gate:emergency\" in [execute] appliesTo { principal: [Agent, Human], \
                resource: [System], context: Context };\n  action approve_intent";
    let schema = schema().replacen("action approve_intent", verb, 1);
    let load = |more: &str| {
        let all = Policy::load(&format!("{PERMIT} {more}"), &schema).map(drop);
        all.map_err(|faults| faults.0.iter().map(|f| f.rule).collect::<Vec<_>>())
    };
    assert_eq!(load(""), Err(vec!["POL-13"]));
    assert_eq!(load(&forbid("r", "when { context.emergency }")), Err(vec!["POL-13"]));
    let held = "unless { context.approvals.count >= 2 && context.approvals.distinct_roles.containsAll([Gate::Role::\"a\", Gate::Role::\"b\"]) };";
    assert_eq!(load(&format!("{SUPERVISE}{held}")), Ok(()));
    // One that holds people leaves agents alone.
    let people = SUPERVISE.replace("(principal,", "(principal is Gate::Human,");
    assert_eq!(load(&format!("{people}{held}")), Err(vec!["POL-13"]));
    // Where nobody may open one, nobody need hold it.
    let reads = "@id(\"r\") permit (principal, action in Gate::Action::\"read\", resource);";
    assert!(Policy::load(reads, &schema).is_ok());
}
