//! Each hazard of Cedar that a gate must not fall into: every test here goes red when the guard that
//! it names is taken out.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]

mod support;

use countersign_gate::{Directory, ENGINE, GateCode, Outcome, Policy, Replay, decide, replay};
use serde_json::{Value, json};
use support::*;

const PERMIT: &str =
    "@id(\"all\") permit (principal, action in Gate::Action::\"governed\", resource);";

fn forbid(id: &str, rest: &str) -> String {
    format!(
        "@id(\"{id}\") @outcome(\"refuse\") @reason_code(\"R\") \
         forbid (principal, action in Gate::Action::\"governed\", resource) {rest};"
    )
}

/// Cedar answers Allow when the resource isn't loaded, since a forbid that errs is skipped.
#[test]
fn what_is_not_in_the_directory_is_refused() {
    let policy = policy(
        &[PERMIT, &forbid("prod", "when { resource.env == Gate::Env::\"prod\" }")].join("\n"),
    );
    let directory = directory();
    let missing = |change: Value| judge(&policy, &intent(&change), &facts(&directory));
    assert_eq!(missing(json!({"resource": {"id": "nowhere"}})), "refuse ENTITY_MISSING");
    assert_eq!(missing(json!({"actor": {"id": "nobody"}})), "refuse ENTITY_MISSING");
    assert_eq!(missing(json!({"actor": {"on_behalf_of": "nobody"}})), "refuse ENTITY_MISSING");
    // An agent's id is no person's.
    assert_eq!(missing(json!({"actor": {"kind": "human"}})), "refuse ENTITY_MISSING");
    assert_eq!(missing(json!({"resource": {"id": "dev-1"}})), "approve PERMITTED");
    // Owners of what is there must be there too.
    for (from, to) in [
        ("\"owner\": \"alice\"", "\"owner\": \"gone\""),
        ("\"owner\": \"carol\"", "\"owner\": \"gone\""),
    ] {
        let directory = Directory::parse(&DIRECTORY.replace(from, to)).unwrap();
        assert_eq!(
            judge(&policy, &intent(&json!({})), &facts(&directory)),
            "refuse ENTITY_MISSING"
        );
    }
}

/// A forbid on a role or class that nobody is in would quietly never hold.
#[test]
fn what_a_policy_names_must_be_in_the_directory() {
    let judged = |text: &str| {
        judge(
            &policy(&[PERMIT, text].join("\n")),
            &intent(&json!({"resource": {"id": "dev-1"}})),
            &facts(&directory()),
        )
    };
    assert_eq!(
        judged(&forbid("a", "when { principal in Gate::AgentClass::\"infar\" }")),
        "refuse ENTITY_MISSING"
    );
    assert_eq!(
        judged(&forbid("a", "when { principal in Gate::AgentClass::\"other\" }")),
        "approve PERMITTED"
    );
    assert_eq!(
        judged(&forbid("a", "when { resource.owner in Gate::Role::\"nobody\" }")),
        "refuse ENTITY_MISSING"
    );
    assert_eq!(
        judged(&forbid("a", "when { resource == Gate::System::\"nowhere\" }")),
        "refuse ENTITY_MISSING"
    );
    assert_eq!(
        judged(&forbid("a", "when { Gate::Human::\"nobody\" in Gate::Role::\"finance\" }")),
        "refuse ENTITY_MISSING"
    );
    let scoped = "@id(\"a\") @outcome(\"refuse\") @reason_code(\"R\") forbid (principal in Gate::AgentClass::\"infar\", action, resource is Gate::System);";
    assert_eq!(judged(scoped), "refuse ENTITY_MISSING");
    // In the scope of a permit a missing class only fails to give authority.
    let permit = "@id(\"b\") permit (principal in Gate::AgentClass::\"infar\", action in Gate::Action::\"governed\", resource);";
    assert_eq!(judged(permit), "approve PERMITTED");
    // A supervise that asks for a role that nobody holds can't be released, and says so at once.
    let supervise = "@id(\"s\") @outcome(\"supervise\") @reason_code(\"S\") @quorum(\"1\") @roles(\"nobody\") @ttl(\"PT1H\") \
        forbid (principal, action in Gate::Action::\"governed\", resource is Gate::System) \
        unless { context.approvals.count >= 1 && context.approvals.distinct_roles.containsAll([Gate::Role::\"nobody\"]) };";
    assert_eq!(judged(supervise), "refuse ENTITY_MISSING");
}

/// What a condition looks into is loaded, so that it neither errs nor finds nothing.
#[test]
fn what_a_policy_looks_into_is_loaded() {
    let rest = "when { Gate::Human::\"dave\" in Gate::Role::\"finance\" && Gate::System::\"costs\".owner == Gate::Human::\"carol\" }";
    let policy = policy(&[PERMIT, &forbid("a", rest)].join("\n"));
    assert_eq!(judge(&policy, &intent(&json!({})), &facts(&directory())), "refuse R");
}

/// Cedar skips a forbid whose condition overflows, and allows.
#[test]
fn an_overflow_refuses_and_names_the_policy() {
    let rest = "when { context.session_actions + 9223372036854775807 > 3 }";
    let policy = policy(&[PERMIT, &forbid("overflows", rest)].join("\n"));
    let directory = directory();
    let mut facts = facts(&directory);
    facts.session_actions = 7;
    let intent = intent(&json!({"resource": {"id": "dev-1"}}));
    let decision = decide(&policy, &intent, &facts);
    assert_eq!(told(&decision), "refuse POLICY_ERROR");
    assert_eq!(decision.reasons[0].policy.as_deref(), Some("overflows"));
    assert!(decision.errors[0].starts_with("overflows: "), "{:?}", decision.errors);
    let record = record(&intent, &decision, &sealing(&policy));
    assert_eq!(replay(record.view(), &[], &policy), Replay::Same);
}

/// An error while authority is sought without the supervises refuses as any other.
#[test]
fn an_error_beside_a_supervise_refuses() {
    let policy = policy(&[POLICIES, "@id(\"err\") permit (principal, action == Gate::Action::\"delete\", resource) when { context.session_actions + 9223372036854775807 > 3 };"].join("\n"));
    let directory = directory();
    let mut facts = facts(&directory);
    assert_eq!(judge(&policy, &intent(&json!({})), &facts), "supervise S_DESTRUCTIVE_PROD_DUAL");
    facts.session_actions = 1;
    assert_eq!(judge(&policy, &intent(&json!({})), &facts), "refuse POLICY_ERROR");
}

#[test]
fn typing_errors_are_found_when_the_policy_is_loaded() {
    let of = |text: &str| faults(&[PERMIT, text].join("\n"));
    // A typo in an annotation beside everything that is needed.
    for key in ["outcom", "quorom", "reason", "owner"] {
        let text = forbid("a", "").replace("@outcome", &format!("@{key}(\"x\") @outcome"));
        assert_eq!(of(&text), ["POL-2 a"], "{key}");
    }
    assert_eq!(of(&forbid("a", "when { resource.env == Gate::Env::\"production\" }")), ["POL-4 a"]);
    assert_eq!(of(&forbid("a", "when { context.destructve }")), ["POL-4 a"]);
    assert_eq!(
        of(&forbid("a", "when { context.amount.greaterThan(decimal(\"1.0\")) }")),
        ["POL-4 a"]
    );
    assert_eq!(
        of(&forbid("a", "when { context.destructive && !context.destructive && 1 == 2 }")),
        ["POL-4 a"],
        "a warning"
    );
    assert_eq!(
        of(
            "@id(\"a\") @outcom(\"refuse\") @reason_code(\"R\") forbid (principal, action, resource is Gate::System);"
        ),
        ["POL-2 a"]
    );
    assert_eq!(
        of("@id(\"a\") @reason_code(\"R\") forbid (principal, action, resource is Gate::System);"),
        ["POL-2 a"]
    );
    assert_eq!(
        of("@id(\"a\") @outcome(\"refuse\") forbid (principal, action, resource is Gate::System);"),
        ["POL-2 a"]
    );
    assert_eq!(
        of(
            "@id(\"a\") @outcome(\"superwise\") @reason_code(\"R\") forbid (principal, action, resource is Gate::System);"
        ),
        ["POL-2 a"]
    );
    assert_eq!(
        of("@id(\"a\") @outcome(\"refuse\") permit (principal, action, resource is Gate::System);"),
        ["POL-2 a"]
    );
    assert_eq!(
        of("@id(\"a\") @quorum(\"2\") permit (principal, action, resource is Gate::System);"),
        ["POL-2 a"]
    );
    assert_eq!(of("permit (principal, action, resource is Gate::System);"), ["POL-1 policy1"]);
    assert_eq!(
        of("@id(\"A b\") permit (principal, action, resource is Gate::System);"),
        ["POL-1 A b"]
    );
    assert_eq!(
        of("@id(\"all\") permit (principal, action, resource is Gate::System);"),
        ["POL-1 all"]
    );
    assert_eq!(
        of("@id(\"t\") permit (principal == ?principal, action, resource is Gate::System);"),
        ["POL-1 t"]
    );
    assert_eq!(of("permit ("), ["POL-4 -"]);
    let long = vec!["context.destructive"; 800].join(" || ");
    assert_eq!(of(&forbid("a", &format!("when {{ {long} }}"))), ["POL-6 -"]);
    let long = format!("when {{ [\"{}\"].contains(context.verb) }}", "x".repeat(17_000));
    assert_eq!(of(&forbid("a", &long)), ["POL-6 policy1"]);
    let many = (0..4097)
        .map(|i| format!("@id(\"p{i}\") permit (principal, action, resource);"))
        .collect::<Vec<_>>()
        .concat();
    assert_eq!(faults(&many), ["POL-6 -"]);
    assert_eq!(faults(&format!("{PERMIT}//{}", " ".repeat(1 << 20))), ["POL-6 -"]);
}

const SUPERVISE: &str = "@id(\"s\") @outcome(\"supervise\") @reason_code(\"S\") @quorum(\"2\") @roles(\"a,b\") @ttl(\"PT1H\") \
    forbid (principal, action, resource is Gate::System) ";

#[test]
fn a_supervise_has_one_form_and_nothing_else_names_approvals() {
    let of = |rest: &str| faults(&format!("{SUPERVISE}{rest};"));
    let good = "unless { context.approvals.count >= 2 && context.approvals.distinct_roles.containsAll([Gate::Role::\"a\", Gate::Role::\"b\"]) }";
    assert_eq!(of(good), [""; 0]);
    assert_eq!(
        of(&format!("when {{ context.destructive }} {good} unless {{ context.emergency }}")),
        [""; 0]
    );
    for other in [
        String::new(),
        good.replace(">= 2", ">= 1"),
        good.replace(">= 2", "> 1"),
        good.replace("&&", "||"),
        good.replace(", Gate::Role::\"b\"", ""),
        good.replace("unless", "when"),
        good.replace("containsAll", "containsAny"),
        format!("{good} {good}"),
        good.replace(" }", " && context.destructive }"),
        "unless { context.approvals.count >= 2 }".to_owned(),
        good.replace("context.approvals.count", "context.session_actions"),
        good.replace(
            "context.approvals.count",
            "context.approvals.distinct_roles.containsAll([]) && context.session_actions",
        ),
        format!("when {{ context.approvals.count > 0 }} {good}"),
    ] {
        assert!(
            of(&other).iter().all(|fault| fault == "POL-5 s") && !of(&other).is_empty(),
            "{other}"
        );
    }
    for hidden in [
        "when { context.approvals.count >= 2 }",
        "unless { context[\"approvals\"].count >= 2 }",
        "when { context has approvals }",
        "when { context has approvals.count }",
        "when { {\"Var\": context.approvals}.Var.count > 1 }",
        "when { {a: context}.a.approvals.count > 1 }",
        "when { (if context.destructive then context else context).approvals.count > 1 }",
        "when { [context.approvals.count].contains(2) }",
        "when { context == context }",
    ] {
        let found = faults(&forbid("a", hidden));
        assert!(found.contains(&"POL-5 a".to_owned()), "{hidden}: {found:?}");
    }
}

/// Cedar gives reasons in random order: fifty runs, one text.
#[test]
fn reasons_have_one_order_and_the_same_inputs_one_text() {
    let many: String = (0..12).map(|i| forbid(&format!("f{}", (i * 7) % 12), "")).collect();
    let text = format!("{PERMIT}{many}");
    let directory = directory();
    let intent = intent(&json!({}));
    let run = || {
        // Loaded anew, so that no order of a map survives.
        let policy = policy(&text);
        let decision = decide(&policy, &intent, &facts(&directory));
        countersign_gate::verdict_json(&intent, &decision, &sealing(&policy))
    };
    let first = run();
    assert!(first.contains("\"policy\":\"f0\"") && first.contains("\"policy\":\"f9\""));
    assert!((0..50).all(|_| run() == first));
}

#[test]
fn a_record_holds_whatever_was_decided() {
    // 200 refusals with long texts: the reasons are cut to what a record takes, and so replayed.
    let long = "\\\"".repeat(250);
    let many: String = (0..200)
        .map(|i| {
            forbid(&format!("f{i}-{}", "x".repeat(100)), "")
                .replace("@outcome", &format!("@text(\"{long}\") @outcome"))
        })
        .collect();
    let policy = policy(&format!("{PERMIT}{many}"));
    let intent = intent(&json!({
        "parameters": {"a": "x".repeat(15_000)},
        "task": {"justification": "\u{1}".repeat(600), "ticket": "é".repeat(100)},
    }));
    let decision = decide(&policy, &intent, &facts(&directory()));
    assert_eq!((decision.outcome, decision.reasons.len()), (Outcome::Refuse, 64));
    let record = record(&intent, &decision, &sealing(&policy));
    assert_eq!(replay(record.view(), &[], &policy), Replay::Same);
}

#[test]
fn a_schema_without_the_base_is_no_schema() {
    let good = schema();
    let of = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        let faults = Policy::load(POLICIES, &good.replace(from, to)).map(drop);
        faults.err().map_or(String::new(), |faults| faults.0[0].rule.to_owned())
    };
    assert_eq!(of("entity Role;", "entity Role; "), "");
    for (from, to) in [
        ("destructive: Bool,\n    irreversible", "destructive?: Bool,\n    irreversible"),
        ("entity Human in [Role];", "entity Human in [Role] { clearance: Long };"),
        ("count: Long, distinct_roles", "count: Long, extra: Long, distinct_roles"),
        ("entity Env enum [\"dev\", \"prod\"];", "entity Env;"),
        (
            "domain: Domain, owner: Human, labels: Set<String>, tier?: Long",
            "domain: Domain, owner: Human, labels?: Set<String>",
        ),
        ("action pay in [move_money]", "action pay in [governed]"),
        ("action pay in [move_money]", "action pay in [move_money, read]"),
        ("action pay in [move_money]", "action pay"),
        ("delete, execute in [governed]", "delete, execute"),
        ("resource: [Intent], context: {}", "resource: [System], context: {}"),
        ("resource: [Mailbox], context: Context", "resource: [Mailbox], context: {}"),
        (
            "principal: [Agent, Human], resource: [Mailbox]",
            "principal: [Role], resource: [Mailbox]",
        ),
        ("principal: [Agent, Human], resource: [Mailbox]", "principal: [Agent], resource: [Human]"),
        ("action approve_intent appliesTo", "action approve_intend appliesTo"),
        ("namespace Gate {", "namespace Other { entity X; } namespace Gate {"),
    ] {
        assert_eq!(of(from, to), "POL-3", "{to}");
    }
    for (from, to) in [
        ("@destructive(\"true\") @irreversible", "@destuctive(\"true\") @irreversible"),
        ("@destructive(\"true\") @irreversible", "@destructive(\"false\") @irreversible"),
        ("@amount(\"amount\")", "@amount(\"amount,fee\")"),
    ] {
        assert_eq!(of(from, to), "POL-7", "{to}");
    }
}

/// What the intent claims yields to what the schema says.
#[test]
fn a_verb_is_what_the_schema_says_it_is() {
    let (policy, directory) = (policy(POLICIES), directory());
    let tell = |change: Value| judge(&policy, &intent(&change), &facts(&directory));
    let drop = json!({"verb": "db:Drop", "class": "read", "destructive": false});
    assert_eq!(tell(drop.clone()), "supervise S_DESTRUCTIVE_PROD_DUAL");
    let decision = decide(&policy, &intent(&drop), &facts(&directory));
    assert_eq!(decision.class.map(countersign_gate::Class::as_str), Some("delete"));
    assert!(decision.destructive && decision.context.unwrap().contains("\"irreversible\":true"));
    // Silence destroys, unless it reads.
    assert_eq!(
        tell(json!({"verb": "x", "class": "modify", "destructive": null})),
        "supervise S_DESTRUCTIVE_PROD_DUAL"
    );
    assert_eq!(
        tell(json!({"verb": "x", "class": "read", "destructive": null})),
        "approve A_AGENTS"
    );
    // Neither the verb nor its class applies; what asks about approvals is nobody's to ask for; a verb
    // that is declared doesn't fall back to its class.
    assert_eq!(tell(json!({"verb": "x", "class": "file"})), "refuse ACTION_UNKNOWN");
    assert_eq!(tell(json!({"verb": "approve_intent", "class": "read"})), "refuse ACTION_UNKNOWN");
    assert_eq!(tell(json!({"verb": "governed", "class": "file"})), "refuse ACTION_UNKNOWN");
    assert_eq!(tell(json!({"verb": "mail:Send", "class": "delete"})), "refuse ACTION_UNKNOWN");
    // Unknown to the directory before it is unknown to the schema, and the other way round.
    assert_eq!(
        tell(json!({"resource": {"type": "Database", "id": "shop"}})),
        "refuse ENTITY_MISSING"
    );
    // INT-2: what is said of the resource is the directory's word.
    assert_eq!(tell(json!({"resource": {"environment": "dev"}})), "refuse INPUT_INVALID");
    assert_eq!(
        tell(json!({"resource": {"environment": "prod", "domain": "web"}})),
        "supervise S_DESTRUCTIVE_PROD_DUAL"
    );
    assert_eq!(tell(json!({"resource": {"domain": "billing"}})), "refuse INPUT_INVALID");
}

#[test]
fn what_does_not_fit_the_schema_is_refused() {
    let policy = policy(POLICIES);
    let with = |from: &str, to: &str| {
        let directory = Directory::parse(&DIRECTORY.replace(from, to)).unwrap();
        let decision = decide(&policy, &intent(&json!({})), &facts(&directory));
        let again = decide(&policy, &intent(&json!({})), &facts(&directory));
        assert_eq!(decision, again);
        told(&decision)
    };
    assert_eq!(with("\"tier\": 1", "\"tier\": \"1\""), "refuse INPUT_INVALID");
    assert_eq!(with("\"tier\": 1", "\"tear\": 1"), "refuse INPUT_INVALID");
    assert_eq!(
        with("\"environment\": \"prod\"", "\"environment\": \"production\""),
        "refuse INPUT_INVALID"
    );
    assert_eq!(
        with(
            "\"tier\": 1",
            "\"tier\": {\"__entity\": {\"type\": \"Gate::Nothing\", \"id\": \"x\"}}"
        ),
        "refuse ENTITY_MISSING"
    );
    let pay = |parameters: Value| {
        let change = json!({"verb": "pay", "class": "move_money", "destructive": false});
        let mut whole: Value = serde_json::from_str(&intent_text(&change)).unwrap();
        whole["parameters"] = parameters;
        let intent = countersign_gate::Intent::parse(&whole.to_string()).unwrap();
        judge(&policy, &intent, &facts(&directory()))
    };
    assert_eq!(pay(json!({"amount": 10, "payee": "x"})), "supervise S_PAY");
    assert_eq!(pay(json!({"amount": "1000.0001", "payee": "x"})), "refuse R_PAY_LARGE");
    assert_eq!(pay(json!({"payee": "x"})), "refuse INPUT_INVALID");
    assert_eq!(pay(json!({"amount": "-1", "payee": "x"})), "refuse INPUT_INVALID");
    assert_eq!(pay(json!({"amount": 10, "memo": "x"})), "refuse INPUT_INVALID");
}

#[test]
fn an_intent_has_one_form() {
    use countersign_gate::Intent;
    let bad = |change: Value| {
        let text = intent_text(&change);
        let reason = Intent::parse(&text).expect_err(&text);
        assert_eq!(reason.code, GateCode::InputInvalid.as_str());
        Intent::salvage(&text)
    };
    bad(json!({"urgent": true}));
    bad(json!({"action_id": "019ab000-0000-4000-8000-000000000002"}));
    bad(json!({"class": "destroy"}));
    bad(json!({"actor": {"class": "infra"}}));
    bad(json!({"parameters": {"amount": 1.5}}));
    bad(json!({"parameters": {"a": "x".repeat(16_000)}}));
    bad(json!({"task": {"justification": "x".repeat(5_000)}}));
    let kept = bad(json!({"actor": null}));
    assert_eq!((kept.verb(), kept.resource().unwrap().id.as_str()), ("ec2:Terminate", "shop"));
    assert_eq!(Intent::salvage("[").verb(), "");
    // Whatever is salvaged can be recorded.
    let refused = countersign_gate::Decision::refuse(GateCode::InputInvalid);
    let policy = policy(POLICIES);
    for text in ["", "{", "{}", "{\"verb\":7,\"parameters\":{\"a\":1.5}}"] {
        record(&Intent::salvage(text), &refused, &sealing(&policy));
    }
    // What parses is written so that it parses the same.
    let whole = intent(
        &json!({"action_id": ACTION_ID, "task": {"ticket": "T-1", "branch": "b"}, "consent": "c"}),
    );
    assert_eq!(Intent::parse(&whole.to_json()).unwrap(), whole);
}

#[test]
fn the_engine_is_the_one_that_is_named() {
    assert_eq!(ENGINE, format!("cedar-policy/{}", cedar_policy::get_sdk_version()));
}

/// A service decides on many threads under one policy.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Policy>();
};

/// A deep syntax tree must not end the process: worker threads have two megabytes of stack.
#[test]
fn a_deep_policy_is_judged_or_refused() {
    // One below each limit loads, everything deeper is refused before Cedar's parser sees it.
    let run = || {
        let of = |body: String| {
            faults(&forbid("a", &format!("when {{ context.destructive || {body} }}")))
        };
        let nest = |open: &str, core: &str, close: &str, n: usize| {
            of(format!("{}{core}{}", open.repeat(n), close.repeat(n)))
        };
        assert_eq!(nest("(", "true", ")", 30), [""; 0]);
        assert_eq!(nest("{a:", "true", "}.a", 30), [""; 0]);
        assert_eq!(of(format!("{}1 > 0", "1 + ".repeat(990))), [""; 0]);
        assert_eq!(of(vec!["true"; 400].join(" && ")), [""; 0]);
        let ifs = "(if context.destructive then true else ".repeat(30) + "true" + &")".repeat(30);
        assert_eq!(of(ifs), [""; 0]);
        for n in [40, 400, 4000] {
            for (open, core, close) in
                [("(", "true", ")"), ("[", "1", "]"), ("{a:", "true", "}.a"), ("!(", "true", ")")]
            {
                assert_eq!(nest(open, core, close, n), ["POL-6 -"], "{open} {n}");
            }
        }
        assert_eq!(of(format!("{}1 > 0", "1 + ".repeat(4000))), ["POL-6 -"]);
        assert_eq!(of(vec!["true"; 2000].join(" && ")), ["POL-6 -"]);
        assert_eq!(of(format!("context{} > 1", ".a".repeat(4000))), ["POL-6 -"]);
        let deep = format!("type Deep = {}Long{}; action pay", "Set<".repeat(200), ">".repeat(200));
        let deep = Policy::load(POLICIES, &schema().replace("action pay", &deep)).unwrap_err();
        assert_eq!(deep.0[0].rule, "POL-6");
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}
