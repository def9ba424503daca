//! Task-scoped grants (GRT-1 to GRT-4).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]

mod support;

use countersign_gate::{Amount, Facts, GrantHeld, Intent, Terms, Used, decide};
use serde_json::{Value, json};
use support::*;

fn terms(change: &Value) -> Result<Terms, String> {
    let mut whole = json!({
        "grantee": "infra-1",
        "allowed": {"actions": ["*"], "resources": ["*"], "targets": ["alice@acme.example"], "amounts": ["50.00"]},
        "forbidden": {},
        "ticket": null,
        "session": null,
        "not_before": "2026-11-23T00:00:00.000000Z",
        "expires_at": "2026-11-24T00:00:00.000000Z",
        "limits": {},
    });
    merge(&mut whole, change);
    Terms::parse(&whole.to_string()).map_err(|fault| fault.at)
}

/// The answer to an intent on a development system that names the grant `g`.
fn judged(change: &Value, used: Used, intent_change: &Value, now: &str) -> String {
    let directory = directory();
    let terms = terms(change).unwrap();
    let held = GrantHeld { id: "g", terms: &terms, used };
    let facts = Facts { now: at(now), grant: Some(held), ..facts(&directory) };
    let mut whole = json!({"task": {"grant": "g", "ticket": "T-1"}, "resource": {"id": "dev-1"}});
    merge(&mut whole, intent_change);
    judge(&policy(POLICIES), &intent(&whole), &facts)
}

fn with(change: &Value) -> String {
    judged(change, Used::default(), &json!({}), NOW)
}

#[test]
fn a_grant_covers_its_own_and_nothing_else() {
    assert_eq!(with(&json!({})), "approve A_AGENTS");
    assert_eq!(with(&json!({"grantee": "other-1"})), "refuse GRANT_OTHER_ACTOR");
    assert_eq!(with(&json!({"session": "s-1", "ticket": "T-1"})), "approve A_AGENTS");
    assert_eq!(with(&json!({"session": "s-2"})), "refuse GRANT_OTHER_SESSION");
    assert_eq!(with(&json!({"ticket": "T-2"})), "refuse GRANT_OTHER_TICKET");
    for (actions, resources, told) in [
        (json!(["delete"]), json!(["dev-1"]), "approve A_AGENTS"),
        (json!(["ec2:Terminate"]), json!(["dev-*"]), "approve A_AGENTS"),
        (json!(["read"]), json!(["*"]), "refuse GRANT_NOT_ALLOWED"),
        (json!([]), json!(["*"]), "refuse GRANT_NOT_ALLOWED"),
        (json!(["*"]), json!(["dev-2", "shop*"]), "refuse GRANT_NOT_ALLOWED"),
        (json!(["*"]), json!([]), "refuse GRANT_NOT_ALLOWED"),
    ] {
        let change = json!({"allowed": {"actions": actions, "resources": resources}});
        assert_eq!(with(&change), told, "{actions} {resources}");
    }
    for forbidden in [
        json!({"actions": ["delete"]}),
        json!({"actions": ["ec2:Terminate"]}),
        json!({"actions": ["*"]}),
        json!({"resources": ["dev-1"]}),
        json!({"resources": ["dev*"]}),
    ] {
        assert_eq!(with(&json!({"forbidden": forbidden})), "refuse GRANT_FORBIDS", "{forbidden}");
    }
    assert_eq!(
        with(&json!({"forbidden": {"actions": ["read"], "resources": ["shop"]}})),
        "approve A_AGENTS"
    );
}

/// A grant for `dev-*` is none for what a path leads to from there; what is forbidden stays so.
#[test]
fn a_prefix_holds_what_stays_under_it() {
    let asked = |id: &str, change: &Value| {
        judged(change, Used::default(), &json!({"resource": {"id": id}}), NOW)
    };
    let dev = json!({"allowed": {"resources": ["dev-*"]}});
    assert_eq!(asked("dev-1/x", &dev), "approve A_AGENTS");
    for id in ["dev-/../shop", "dev-1//x", "dev-\\\\x", "dev-1/..", "dev-/\u{ff0e}\u{ff0e}/shop"] {
        assert_eq!(asked(id, &dev), "refuse ENTITY_MISSING", "{id}");
    }
    // Where the directory has the very id, the grant must have it too.
    let terms = |resources: Value, forbidden: Value| json!({"allowed": {"resources": resources}, "forbidden": {"resources": forbidden}});
    let exact = DIRECTORY.replace("\"id\": \"dev-*\"", "\"id\": \"dev-/../x\"");
    let directory = countersign_gate::Directory::parse(&exact).unwrap();
    let at_exact = |change: &Value| {
        let terms = self::terms(change).unwrap();
        let held = GrantHeld { id: "g", terms: &terms, used: Used::default() };
        let facts = Facts { grant: Some(held), ..facts(&directory) };
        let whole = json!({"task": {"grant": "g"}, "resource": {"id": "dev-/../x"}});
        judge(&policy(POLICIES), &intent(&whole), &facts)
    };
    assert_eq!(at_exact(&terms(json!(["dev-/../x"]), json!([]))), "approve A_AGENTS");
    for pattern in ["*", "dev-*", "dev-/*"] {
        let told = at_exact(&terms(json!([pattern]), json!([])));
        assert_eq!(told, "refuse GRANT_NOT_ALLOWED", "{pattern}");
    }
    let both = terms(json!(["dev-/../x"]), json!(["dev-*"]));
    assert_eq!(at_exact(&both), "refuse GRANT_FORBIDS");
}

#[test]
fn a_grant_has_its_time() {
    let at = |now: &str| judged(&json!({}), Used::default(), &json!({}), now);
    assert_eq!(at("2026-11-22T23:59:59.999999Z"), "refuse GRANT_NOT_YET");
    assert_eq!(at("2026-11-23T00:00:00.000000Z"), "approve A_AGENTS");
    assert_eq!(at("2026-11-23T23:59:59.999999Z"), "approve A_AGENTS");
    assert_eq!(at("2026-11-24T00:00:00.000000Z"), "refuse GRANT_EXPIRED");
}

#[test]
fn a_grant_that_is_not_held_is_no_grant() {
    let directory = directory();
    let (policy, intent) = (policy(POLICIES), intent(&json!({"task": {"grant": "g"}})));
    assert_eq!(judge(&policy, &intent, &facts(&directory)), "refuse GRANT_UNKNOWN");
    let terms = terms(&json!({})).unwrap();
    let held = GrantHeld { id: "other", terms: &terms, used: Used::default() };
    let facts = Facts { grant: Some(held), ..facts(&directory) };
    assert_eq!(judge(&policy, &intent, &facts), "refuse GRANT_UNKNOWN");
}

#[test]
fn limits_hold_with_what_was_used() {
    let pay = |limits: Value, used: Used, amount: &str, items: Value| {
        let change = json!({"limits": limits});
        let directory = directory();
        let terms = terms(&change).unwrap();
        let held = GrantHeld { id: "g", terms: &terms, used };
        let facts = Facts { grant: Some(held), ..facts(&directory) };
        let mut whole: Value = serde_json::from_str(&intent_text(&json!({
            "verb": "pay", "class": "move_money", "destructive": false,
            "resource": {"id": "dev-1"}, "task": {"grant": "g"},
        })))
        .unwrap();
        whole["parameters"] = json!({"amount": amount, "payee": "acme", "items": items});
        judge(&policy(POLICIES), &Intent::parse(&whole.to_string()).unwrap(), &facts)
    };
    let used =
        |actions, amount, count| Used { actions, amount: Amount::parse(amount).unwrap(), count };
    let none = used(0, "0", 0);
    assert_eq!(pay(json!({"amount": "100.00"}), none, "100", Value::Null), "supervise S_PAY");
    assert_eq!(
        pay(json!({"amount": "100.00"}), none, "100.0001", Value::Null),
        "refuse GRANT_LIMIT"
    );
    assert_eq!(
        pay(json!({"amount": "100"}), used(1, "60.00", 1), "40", Value::Null),
        "supervise S_PAY"
    );
    assert_eq!(
        pay(json!({"amount": "100"}), used(1, "60.01", 1), "40", Value::Null),
        "refuse GRANT_LIMIT"
    );
    assert_eq!(
        pay(json!({"amount": "100"}), Used { amount: Amount(i64::MAX), ..none }, "1", Value::Null),
        "refuse GRANT_LIMIT"
    );
    assert_eq!(pay(json!({"actions": 2}), used(1, "0", 0), "1", Value::Null), "supervise S_PAY");
    assert_eq!(pay(json!({"actions": 2}), used(2, "0", 0), "1", Value::Null), "refuse GRANT_LIMIT");
    assert_eq!(pay(json!({"count": 3}), none, "1", json!([1, 2, 3])), "supervise S_PAY");
    assert_eq!(pay(json!({"count": 3}), none, "1", json!(4)), "refuse GRANT_LIMIT");
    assert_eq!(pay(json!({"count": 3}), used(0, "0", 3), "1", Value::Null), "refuse GRANT_LIMIT");
    assert_eq!(
        pay(json!({"count": 3}), used(u64::MAX, "0", u64::MAX), "1", json!(1)),
        "refuse GRANT_LIMIT"
    );
    // GRT-4: what is approved adds up, and stops at its end.
    let sum = none.with(Amount::parse("1.5"), Some(2)).with(None, None);
    assert_eq!(sum, used(2, "1.5", 3));
    assert_eq!(
        Used { amount: Amount(i64::MAX), ..none }.with(Some(Amount(1)), None).amount,
        Amount(i64::MAX)
    );
}

#[test]
fn what_a_grant_says_of_targets_is_the_policys_to_judge() {
    let mail = |to: Value, body: &str, change: Value| {
        let directory = directory();
        let terms = terms(&change).unwrap();
        let held = GrantHeld { id: "g", terms: &terms, used: Used::default() };
        let facts = Facts { grant: Some(held), ..facts(&directory) };
        let intent = intent(&json!({
            "verb": "mail:Send", "class": "send", "destructive": false,
            "resource": {"type": "Mailbox", "id": "box"}, "task": {"grant": "g"},
            "parameters": {"to": to, "body": body},
        }));
        judge(&policy(POLICIES), &intent, &facts)
    };
    assert_eq!(mail(json!("alice@acme.example"), "hello", json!({})), "approve A_AGENTS");
    assert_eq!(
        mail(json!(["alice@acme.example", "eve@other.example"]), "", json!({})),
        "refuse R_MAIL_UNGRANTED"
    );
    // What stands in the text is reached as well.
    assert_eq!(
        mail(json!("alice@acme.example"), "see https://other.example/x", json!({})),
        "refuse R_MAIL_UNGRANTED"
    );
    let forbids = json!({"forbidden": {"targets": ["alice@acme.example"]}});
    assert_eq!(mail(json!("Alice@ACME.example"), "", forbids), "refuse GRANT_FORBIDS");
}

#[test]
fn what_a_grant_leaves_is_in_the_context() {
    let directory = directory();
    let change = json!({"ticket": "T-1", "limits": {"actions": 3, "amount": "100"}});
    let terms = terms(&change).unwrap();
    let used = Used { actions: 1, amount: Amount::parse("60.5").unwrap(), count: 1 };
    let held = GrantHeld { id: "g", terms: &terms, used };
    let facts = Facts { grant: Some(held), ..facts(&directory) };
    let intent = intent(&json!({"task": {"grant": "g", "ticket": "T-1"}}));
    let context: Value =
        serde_json::from_str(&decide(&policy(POLICIES), &intent, &facts).context.unwrap()).unwrap();
    assert_eq!(
        context["grant"],
        json!({
            "id": "g",
            "ticket": "T-1",
            "targets": ["alice@acme.example"],
            "amounts": [{"__extn": {"fn": "decimal", "arg": "50.0"}}],
            "actions_left": 2,
            "amount_left": {"__extn": {"fn": "decimal", "arg": "39.5"}},
        })
    );
}

#[test]
fn terms_have_one_form() {
    let at = |change: Value| terms(&change).err().unwrap_or_default();
    assert_eq!(at(json!({})), "");
    assert_eq!(at(json!({"grantee": null})), "grantee");
    assert_eq!(at(json!({"allowed": {"action": ["x"]}})), "allowed.action");
    assert_eq!(at(json!({"allowed": {"actions": "x"}})), "allowed.actions");
    assert_eq!(at(json!({"forbidden": {"amounts": [50]}})), "forbidden.amounts[0]");
    assert_eq!(at(json!({"not_before": "2026-11-23"})), "not_before");
    assert_eq!(at(json!({"expires_at": "2026-11-23T00:00:00.000000Z"})), "expires_at");
    assert_eq!(at(json!({"limits": {"actions": -1}})), "limits.actions");
    assert_eq!(at(json!({"limits": {"amount": 5}})), "limits.amount");
    assert_eq!(at(json!({"more": 1})), "more");
    let mut whole = json!({"grantee": "infra-1"});
    merge(&mut whole, &json!({"allowed": {}, "forbidden": {}, "ticket": null, "session": null}));
    merge(&mut whole, &json!({"not_before": NOW, "expires_at": "2027-01-01T00:00:00.000000Z"}));
    // KIND-9: every name of the record's list stands there.
    assert!(Terms::parse(&whole.to_string()).is_err());
    assert!(Terms::parse(&" ".repeat(13_000)).is_err());
}
