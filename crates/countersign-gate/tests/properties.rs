//! Whatever is asked of whatever policies: three outcomes, one answer, never more than was allowed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    Authorizer, Context, Decision as Cedar, Entities, EntityUid, PolicyId, PolicySet, Request,
    Schema,
};
use countersign_gate::{
    Approver, Decision, Facts, GateCode, Intent, Outcome, Policy, Replay, Sealing, decide, replay,
    verdict_json,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::*;

/// Scopes and conditions that between them exclude by action, by type, by guard, by error.
const PRINCIPALS: [&str; 6] = [
    "principal",
    "principal is Gate::Agent",
    "principal in Gate::AgentClass::\"infra\"",
    "principal in Gate::Role::\"sre-oncall\"",
    "principal is Gate::Service in Gate::AgentClass::\"infra\"",
    "principal == Gate::Agent::\"infra-1\"",
];
const ACTIONS: [&str; 5] = [
    "action in Gate::Action::\"governed\"",
    "action == Gate::Action::\"delete\"",
    "action in [Gate::Action::\"delete\", Gate::Action::\"read\"]",
    "action == Gate::Action::\"pay\"",
    "action in Gate::Action::\"send\"",
];
const RESOURCES: [&str; 4] = [
    "resource",
    "resource is Gate::System",
    "resource is Gate::Mailbox",
    "resource == Gate::System::\"shop\"",
];
const CONDITIONS: [&str; 14] = [
    "",
    "when { context.verb == \"ec2:Terminate\" }",
    "when { context.destructive && context.verb == \"pay\" }",
    "when { resource.env == Gate::Env::\"prod\" }",
    "when { resource.env == Gate::Env::\"dev\" && resource.domain == Gate::Domain::\"web\" }",
    "when { !context.emergency && resource.domain == Gate::Domain::\"billing\" && context.session_actions > 1 }",
    "when { context.session_actions > 2 && context.verb == \"ec2:Terminate\" }",
    // Errs where the session asked for anything; behind a guard, in front of one, alone.
    "when { context.session_actions + 9223372036854775807 > 3 }",
    "when { resource.env == Gate::Env::\"prod\" && context.session_actions + 9223372036854775807 > 3 }",
    "when { context.session_actions + 9223372036854775807 > 3 && context.verb == \"other\" }",
    "unless { context has grant }",
    "when { context.verb == \"other\" || resource.owner in Gate::Role::\"service-owner\" }",
    "when { Gate::Human::\"dave\" in Gate::Role::\"finance\" && context.destructive }",
    "when { action in Gate::Action::\"delete\" && Gate::Action::\"pay\" in Gate::Action::\"move_money\" }",
];

#[derive(Clone, Debug)]
struct Written {
    kind: u8,
    parts: (usize, usize, usize, usize),
    quorum: u32,
}

impl Written {
    fn text(&self, i: usize) -> String {
        let (principal, action, resource, condition) = self.parts;
        let scope =
            format!("({}, {}, {})", PRINCIPALS[principal], ACTIONS[action], RESOURCES[resource]);
        let condition = CONDITIONS[condition];
        match self.kind {
            0 => format!("@id(\"p{i}\") @reason_code(\"P{i}\") permit {scope} {condition};\n"),
            1 => format!(
                "@id(\"p{i}\") @outcome(\"refuse\") @reason_code(\"R{i}\") forbid {scope} {condition};\n"
            ),
            _ => format!(
                "@id(\"p{i}\") @outcome(\"supervise\") @reason_code(\"S{i}\") @quorum(\"{0}\") @roles(\"sre-oncall\") @ttl(\"PT1H\")\n\
                 forbid {scope} {condition} unless {{ context.approvals.count >= {0} && context.approvals.distinct_roles.containsAll([Gate::Role::\"sre-oncall\"]) }};\n",
                self.quorum
            ),
        }
    }
}

fn written() -> impl Strategy<Value = Written> {
    let parts = (0..PRINCIPALS.len(), 0..ACTIONS.len(), 0..RESOURCES.len(), 0..CONDITIONS.len());
    // Permits often, so that something is left to be forbidden.
    (prop_oneof![3 => Just(0_u8), 2 => Just(1), 2 => Just(2)], parts, 1..3_u32)
        .prop_map(|(kind, parts, quorum)| Written { kind, parts, quorum })
}

/// A set that loads: what strict validation finds impossible is left out.
fn sets() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(written(), 1..10).prop_map(|written| {
        let texts = written.iter().enumerate().map(|(i, written)| written.text(i));
        texts.filter(|text| loads(text)).collect()
    })
}

/// Whether one policy loads; the answer to each text is kept, since validating costs milliseconds.
fn loads(text: &str) -> bool {
    use std::sync::Mutex;
    static KNOWN: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    *known.entry(text.to_owned()).or_insert_with(|| Policy::load(text, &schema()).is_ok())
}

#[derive(Clone, Debug)]
struct Asked {
    intent: Intent,
    session_actions: u64,
    emergency: bool,
    approvals: Vec<Approver>,
}

impl Asked {
    fn decide(&self, policy: &Policy) -> Decision {
        let directory = directory();
        let facts = Facts {
            session_actions: self.session_actions,
            emergency: self.emergency,
            approvals: &self.approvals,
            ..facts(&directory)
        };
        decide(policy, &self.intent, &facts)
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let verbs = prop_oneof![
        4 => Just(("ec2:Terminate", "delete")),
        2 => Just(("x", "read")),
        2 => Just(("pay", "move_money")),
        1 => Just(("mail:Send", "send")),
        1 => Just(("x", "file")),
    ];
    let actors = prop_oneof![
        5 => Just(("agent", "infra-1")),
        1 => Just(("agent", "other-1")),
        1 => Just(("service", "deployer")),
        2 => Just(("human", "bob")),
        1 => Just(("human", "nobody")),
    ];
    let resources = prop_oneof![
        4 => Just(("System", "shop")),
        2 => Just(("System", "costs")),
        2 => Just(("System", "dev-1")),
        1 => Just(("Mailbox", "box")),
        1 => Just(("System", "nowhere")),
    ];
    let people = proptest::sample::subsequence(vec!["alice", "bob", "carol", "dave"], 0..4);
    let destructive = proptest::option::of(any::<bool>());
    (verbs, actors, resources, destructive, 0..4_u64, any::<bool>(), people).prop_map(
        |(verb, actor, resource, destructive, session_actions, emergency, people)| {
            let mut whole = json!({
                "verb": verb.0, "class": verb.1, "destructive": destructive,
                "actor": {"kind": actor.0, "id": actor.1},
                "resource": {"type": resource.0, "id": resource.1},
            });
            if verb.0 == "pay" {
                whole["parameters"] = json!({"amount": "5", "payee": "x"});
            }
            Asked {
                intent: Intent::parse(&whole.to_string()).unwrap(),
                session_actions,
                emergency,
                approvals: people.into_iter().map(|id| Approver { id: id.to_owned() }).collect(),
            }
        },
    )
}

fn joined(set: &[String]) -> Policy {
    policy(&set.concat())
}

/// What plain Cedar says to the whole set, by the record alone: an oracle that shares no code with the
/// index. `None` where the gate never asked Cedar.
fn oracle(set: &[String], asked: &Asked, decision: &Decision) -> Option<(Outcome, Vec<String>)> {
    let (schema, _) = Schema::from_cedarschema_str(&schema()).unwrap();
    let context: Value = serde_json::from_str(decision.context.as_ref()?).unwrap();
    let entities: Value = serde_json::from_str(decision.entities.as_ref()?).unwrap();
    let verb = asked.intent.verb();
    let id =
        if ["pay", "mail:Send"].contains(&verb) { verb } else { asked.intent.class()?.as_str() };
    let uid = |t: &str, id: &str| format!("Gate::{t}::{id:?}").parse::<EntityUid>().unwrap();
    let (action, actor) = (uid("Action", id), asked.intent.actor()?);
    let resource = asked.intent.resource()?;
    let kind = match actor.kind.as_str() {
        "agent" => "Agent",
        "human" => "Human",
        _ => "Service",
    };
    let request = Request::new(
        uid(kind, &actor.id),
        action.clone(),
        uid(&resource.type_name, &resource.id),
        Context::from_json_value(context, Some((&schema, &action))).unwrap(),
        Some(&schema),
    )
    .unwrap();
    let entities = Entities::from_json_value(entities, Some(&schema)).unwrap();
    let all: PolicySet = set.concat().parse().unwrap();
    let named = |supervises: bool| {
        let chosen =
            all.policies().filter(|p| supervises || p.annotation("outcome") != Some("supervise"));
        let renamed = chosen.map(|p| p.new_id(PolicyId::new(p.annotation("id").unwrap())));
        PolicySet::from_policies(renamed).unwrap()
    };
    let ask = |set: &PolicySet| {
        let answer = Authorizer::new().is_authorized(&request, set, &entities);
        let errors: BTreeSet<String> = answer
            .diagnostics()
            .errors()
            .map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(e) => {
                    e.policy_id().to_string()
                }
            })
            .collect();
        let reasons: BTreeSet<String> =
            answer.diagnostics().reason().map(ToString::to_string).collect();
        (answer.decision(), errors, reasons)
    };
    let refuse = |why: BTreeSet<String>| (Outcome::Refuse, why.into_iter().collect());
    let set = named(true);
    let (said, errors, reasons) = ask(&set);
    if !errors.is_empty() {
        return Some(refuse(errors));
    }
    if said == Cedar::Allow {
        return Some((Outcome::Approve, reasons.into_iter().collect()));
    }
    let hard = |id: &&String| set.annotation(&PolicyId::new(id), "outcome") != Some("supervise");
    let hard: BTreeSet<String> = reasons.iter().filter(hard).cloned().collect();
    if reasons.is_empty() || !hard.is_empty() {
        return Some(refuse(hard));
    }
    match ask(&named(false)) {
        (_, errors, _) if !errors.is_empty() => Some(refuse(errors)),
        (Cedar::Allow, ..) => Some((Outcome::Supervise, reasons.into_iter().collect())),
        (Cedar::Deny, ..) => Some(refuse(BTreeSet::new())),
    }
}

fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Refuse => 0,
        Outcome::Supervise => 1,
        Outcome::Approve => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The indexed answer is the whole set's, and it can be recorded and made again.
    #[test]
    fn the_index_changes_nothing(set in sets(), asked in asked()) {
        let policy = joined(&set);
        let decision = asked.decide(&policy);
        if let Some((outcome, ids)) = oracle(&set, &asked, &decision) {
            prop_assert_eq!(decision.outcome, outcome);
            let found: Vec<String> = decision.reasons.iter().filter_map(|r| r.policy.clone()).collect();
            prop_assert_eq!(found, ids);
            let erred = decision.reasons.iter().any(|r| r.code == GateCode::PolicyError.as_str());
            prop_assert_eq!(erred, !decision.errors.is_empty());
        }
        // A supervise that some have answered waits for more, and is no record of its own (APR-3).
        prop_assume!(decision.outcome != Outcome::Supervise || asked.approvals.is_empty());
        let people: BTreeSet<&String> = asked.approvals.iter().map(|one| &one.id).collect();
        let roots = roots(people.len());
        let sealing = Sealing { expires_at: expiry(&decision), ..released(&policy, &roots) };
        let record = record(&asked.intent, &decision, &sealing);
        match replay(record.view(), &[], &policy) {
            Replay::Same => prop_assert!(decision.context.is_some()),
            Replay::NotByPolicy { .. } => prop_assert!(decision.context.is_none()),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// The same inputs give the same bytes, whatever was asked before and however often it is loaded.
    #[test]
    fn the_same_inputs_give_the_same_bytes(set in sets(), asked in asked(), before in asked()) {
        let (policy, other) = (joined(&set), joined(&set));
        before.decide(&other);
        let text = |policy: &Policy| verdict_json(&asked.intent, &asked.decide(policy), &sealing(policy));
        let first = text(&policy);
        prop_assert_eq!(&text(&policy), &first);
        prop_assert_eq!(&text(&other), &first);
    }

    /// An error anywhere never approves, and nothing but a permit ever does.
    #[test]
    fn an_error_never_approves(set in sets(), asked in asked()) {
        let decision = asked.decide(&joined(&set));
        prop_assert_eq!(decision.requires.is_some(), decision.outcome == Outcome::Supervise);
        prop_assert!(!decision.reasons.is_empty());
        if !decision.errors.is_empty() {
            prop_assert_eq!(decision.outcome, Outcome::Refuse);
        }
        if decision.outcome == Outcome::Approve {
            prop_assert!(decision.reasons.iter().all(|reason| reason.code.starts_with('P')));
        }
    }

    /// Less authority never gives more: without a permit, or without an approval, no answer rises.
    #[test]
    fn taking_away_never_gives(set in sets(), asked in asked(), pick in any::<proptest::sample::Index>()) {
        let before = rank(asked.decide(&joined(&set)).outcome);
        let permits: Vec<usize> =
            (0..set.len()).filter(|i| set[*i].contains("permit ")).collect();
        if !permits.is_empty() {
            let mut fewer = set.clone();
            let gone = fewer.remove(permits[pick.index(permits.len())]);
            // A permit that erred refused everything: without it the rest may speak again.
            let erred = !asked.decide(&joined(&set)).errors.is_empty();
            let errs = gone.contains("9223372036854775807") && erred;
            prop_assert!(errs || rank(asked.decide(&joined(&fewer)).outcome) <= before);
        }
        if !asked.approvals.is_empty() {
            let mut fewer = asked.clone();
            fewer.approvals.remove(pick.index(asked.approvals.len()));
            prop_assert!(rank(fewer.decide(&joined(&set)).outcome) <= before);
        }
    }

    /// Whatever bytes are sent as an intent: a reason or an intent, and always something to record.
    #[test]
    fn any_text_is_answered(text in ".{0,200}", cut in any::<proptest::sample::Index>()) {
        let whole = intent_text(&json!({}));
        let mut broken: Vec<char> = whole.chars().collect();
        broken.truncate(cut.index(broken.len()));
        broken.extend(text.chars());
        let broken: String = broken.into_iter().collect();
        for text in [text, broken] {
            let policy = shared();
            let decision = match Intent::parse(&text) {
                Ok(intent) => decide(policy, &intent, &facts(&directory())),
                Err(reason) => Decision::refuse_for(reason),
            };
            record(&Intent::salvage(&text), &decision, &sealing(policy));
        }
    }
}

/// The one case in which a permit less lets more pass (spec/policy.md, Deciding, step 4): an error
/// anywhere refuses, and a permit that errs is one. What it hid is what the others give, no more.
#[test]
fn a_permit_that_errs_refuses_what_the_others_give() {
    let errs = "@id(\"errs\") @reason_code(\"P\") permit (principal, action, resource is Gate::System) \
                when { context.session_actions + 9223372036854775807 > 3 };\n";
    let rest =
        "@id(\"all\") @reason_code(\"A\") permit (principal, action, resource is Gate::System);\n";
    let judged = |set: &[&str], session_actions| {
        let intent = intent(&json!({"resource": {"id": "dev-1"}}));
        let asked = Asked { intent, session_actions, emergency: false, approvals: Vec::new() };
        told(&asked.decide(&policy(&set.concat())))
    };
    assert_eq!(judged(&[errs, rest], 1), "refuse POLICY_ERROR");
    assert_eq!(judged(&[rest], 1), "approve A");
    assert_eq!(judged(&[rest], 0), "approve A");
    // The same permit where it does not err: without it nothing more is approved.
    assert_eq!(judged(&[errs], 1), "refuse POLICY_ERROR");
    assert_eq!(judged(&[], 1), "refuse NO_AUTHORITY");
}

/// The policies of the other tests, loaded once.
fn shared() -> &'static Policy {
    static POLICY: std::sync::OnceLock<Policy> = std::sync::OnceLock::new();
    POLICY.get_or_init(|| policy(POLICIES))
}

/// Each condition by itself, in each kind of policy, over requests that meet and miss its guards.
#[test]
fn each_condition_answers_as_the_whole() {
    for (condition, kind) in (0..CONDITIONS.len()).flat_map(|c| (0..3_u8).map(move |k| (c, k))) {
        let written = Written { kind, parts: (0, 0, 1, condition), quorum: 1 };
        let permit = "@id(\"all\") permit (principal, action, resource is Gate::System);\n";
        let set = vec![permit.to_owned(), written.text(0)];
        let policy = joined(&set);
        for (resource, verb) in [("shop", "ec2:Terminate"), ("costs", "other"), ("dev-1", "x")] {
            for (session_actions, emergency) in [(0, false), (3, false), (3, true)] {
                let intent = intent(&json!({"verb": verb, "resource": {"id": resource}}));
                let asked = Asked { intent, session_actions, emergency, approvals: Vec::new() };
                let decision = asked.decide(&policy);
                let (outcome, ids) = oracle(&set, &asked, &decision).unwrap();
                let found: Vec<String> =
                    decision.reasons.iter().filter_map(|r| r.policy.clone()).collect();
                assert_eq!((decision.outcome, found), (outcome, ids), "{set:?} {asked:?}");
            }
        }
    }
}

/// Hundreds of policies that the index tells apart answer as the whole set does.
#[test]
fn a_large_set_answers_as_the_whole() {
    let mut set: Vec<String> = POLICIES.split_inclusive(";\n").map(str::to_owned).collect();
    for i in 0..300 {
        let (env, domain) = (["dev", "prod"][i % 2], ["billing", "web"][i / 2 % 2]);
        set.push(format!(
            "@id(\"many.{i}\") @outcome(\"refuse\") @reason_code(\"M{i}\") forbid (principal is Gate::Agent, action in Gate::Action::\"governed\", resource is Gate::System) \
             when {{ resource.env == Gate::Env::\"{env}\" && resource.domain == Gate::Domain::\"{domain}\" && context.verb == \"v{}\" }};\n",
            i % 75
        ));
    }
    let policy = joined(&set);
    for (verb, resource) in [
        ("v0", "shop"),
        ("v1", "shop"),
        ("v1", "costs"),
        ("v2", "dev-1"),
        ("w", "dev-1"),
        ("v3", "dev-1"),
    ] {
        let intent = intent(&json!({"verb": verb, "resource": {"id": resource}}));
        let asked = Asked { intent, session_actions: 0, emergency: false, approvals: Vec::new() };
        let decision = asked.decide(&policy);
        let (outcome, ids) = oracle(&set, &asked, &decision).unwrap();
        let found: Vec<String> = decision.reasons.iter().filter_map(|r| r.policy.clone()).collect();
        assert_eq!((decision.outcome, found), (outcome, ids), "{verb} {resource}");
    }
}
