//! Approvals: what is shown, and which answers count (APR-1 to APR-5).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]

mod support;

use std::collections::BTreeSet;

use countersign_core::disclose::DISPLAYED;
use countersign_core::hash::{Context, RecordRoot};
use countersign_core::record::{FullRecord, View};
use countersign_gate::{
    Answer, Approval, Approver, Asked, Counted, Facts, GateCode, Intent, Outcome, Policy, Replay,
    Sealing, check_approval, decide, display, replay,
};
use serde_json::{Value, json};
use support::*;

/// An action that waits for people.
struct Waiting {
    policy: Policy,
    intent: Intent,
    record: FullRecord,
}

fn waiting() -> Waiting {
    waiting_for(&json!({}), |_| {})
}

fn waiting_for(change: &Value, seal: impl Fn(&mut Sealing<'_>)) -> Waiting {
    let (policy, directory) = (policy(POLICIES), directory());
    let intent = intent(change);
    let decision = decide(&policy, &intent, &facts(&directory));
    let intent = intent.settled(&decision);
    let mut sealing = sealing(&policy);
    seal(&mut sealing);
    let record = record(&intent, &decision, &sealing);
    Waiting { policy, intent, record }
}

impl Waiting {
    fn view(&self) -> &View {
        self.record.view()
    }

    fn root(&self) -> RecordRoot {
        self.record.root()
    }

    /// What a person would sign.
    fn approval(&self, person: &str) -> Approval {
        let shown = display(self.view(), self.root());
        Approval {
            action_id: ACTION_ID.to_owned(),
            action_digest: digest_of(self.view()),
            verdict: self.root(),
            decision: Answer::Grant,
            displayed_digest: Context::Displayed.hash(&[shown.as_bytes()]),
            justification: "checked".to_owned(),
            nonce: [u8::try_from(person.len()).unwrap(); 16],
            not_after: at("2026-11-23T06:20:00.000000Z"),
            signature: [0; 64],
            person: person.to_owned(),
            certificate: [1; 32],
        }
    }

    fn check(&self, approval: &Approval, change: impl Fn(&mut Facts<'_>)) -> String {
        self.check_after(&[], approval, change)
    }

    fn check_after(
        &self,
        earlier: &[Counted],
        approval: &Approval,
        change: impl Fn(&mut Facts<'_>),
    ) -> String {
        let directory = directory();
        let mut facts = facts(&directory);
        change(&mut facts);
        let asked = Asked { supervise: self.view(), root: self.root(), earlier };
        let person = &approval.person;
        let key = [person.as_bytes()[0]; 32];
        let checked =
            check_approval(&self.policy, &self.intent, &asked, approval, person, &key, &facts);
        checked.map_or_else(|code| code.as_str().to_owned(), |()| "counts".to_owned())
    }
}

fn digest_of(view: &View) -> [u8; 32] {
    countersign_core::encoding::from_hex_array(view.str("action_digest").unwrap()).unwrap()
}

#[test]
fn what_is_shown_is_the_whole_action_in_printable_ascii() {
    let change = json!({
        "parameters": {"name": "shöp\u{202e}", "z": [1, "a b"]},
        "actor": {"on_behalf_of": "eve"},
        "task": {"ticket": "T-1", "justification": "line\none \"two\" \u{1f600}"},
        "urgency": "high",
    });
    let waiting = waiting_for(&change, |_| {});
    let shown = display(waiting.view(), waiting.root());
    let digest = countersign_core::encoding::hex(&waiting.policy.digest());
    let expected = format!(
        "Countersign approval request 1\n\
         action: ec2:Terminate\n\
         class: delete\n\
         destructive: true\n\
         resource: System shop prod web\n\
         parameters: {{\"name\":\"sh\\u00f6p\\u202e\",\"z\":[1,\"a b\"]}}\n\
         actor: agent infra-1\n\
         session: s-1\n\
         on behalf of: eve\n\
         ticket: T-1\n\
         justification: line\\none \\\"two\\\" \\ud83d\\ude00\n\
         urgency: high\n\
         consequences: availability.high\n\
         policy: acme 1 {digest}\n\
         held by: S_DESTRUCTIVE_PROD_DUAL supervise.destructive.prod\n\
         requires: 2 service-owner,sre-oncall\n\
         expires: 2026-11-23T06:30:00.000000Z\n\
         action id: {ACTION_ID}\n\
         action digest: {}\n\
         verdict: {}\n",
        waiting.view().str("action_digest").unwrap(),
        waiting.root().hex(),
    );
    assert_eq!(shown, expected);
    assert!(shown.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
    // What is absent is a dash, and parts of one line can't pass for each other.
    let bare = waiting_for(&json!({"actor": {"session": "a b"}, "parameters": null}), |sealing| {
        sealing.policy.as_mut().unwrap().version = "1 2".to_owned();
    });
    let shown = display(bare.view(), bare.root());
    for line in ["parameters: -\n", "session: a b\n", "ticket: -\n", "policy: acme 1\\u00202 "] {
        assert!(shown.contains(line), "{shown}");
    }
}

#[test]
fn an_eligible_persons_answer_counts() {
    let waiting = waiting();
    for person in ["bob", "carol"] {
        assert_eq!(waiting.check(&waiting.approval(person), |_| {}), "counts");
    }
    // A deny needs the same.
    let mut deny = waiting.approval("bob");
    deny.decision = Answer::Deny;
    assert_eq!(waiting.check(&deny, |_| {}), "counts");
    deny.person = "dave".to_owned();
    assert_eq!(waiting.check(&deny, |_| {}), "APPROVAL_NOT_ELIGIBLE");
}

#[test]
fn people_without_the_role_or_with_a_part_in_it_are_not_eligible() {
    let waiting = waiting();
    // Another role, none, unknown; alice has both roles, but the agent is hers.
    for person in ["dave", "eve", "nobody", "infra-1", "alice"] {
        assert_eq!(
            waiting.check(&waiting.approval(person), |_| {}),
            "APPROVAL_NOT_ELIGIBLE",
            "{person}"
        );
    }
    // Separation of duties holds for whom the agent acts for as well.
    let for_bob = waiting_for(&json!({"actor": {"on_behalf_of": "bob"}}), |_| {});
    assert_eq!(for_bob.check(&for_bob.approval("bob"), |_| {}), "APPROVAL_NOT_ELIGIBLE");
    assert_eq!(for_bob.check(&for_bob.approval("carol"), |_| {}), "counts");
    // A person is their own requester.
    let by_carol = waiting_for(&json!({"actor": {"kind": "human", "id": "carol"}}), |_| {});
    assert_eq!(by_carol.check(&by_carol.approval("carol"), |_| {}), "APPROVAL_NOT_ELIGIBLE");
    // Whose certificate it is counts, not whose name is written.
    let approval = waiting.approval("bob");
    let directory = directory();
    let asked = Asked { supervise: waiting.view(), root: waiting.root(), earlier: &[] };
    let checked = check_approval(
        &waiting.policy,
        &waiting.intent,
        &asked,
        &approval,
        "carol",
        &[9; 32],
        &facts(&directory),
    );
    assert_eq!(checked, Err(GateCode::ApprovalNotEligible));
}

#[test]
fn an_approval_is_for_this_action_and_this_text() {
    let waiting = waiting();
    let with = |change: &dyn Fn(&mut Approval)| {
        let mut approval = waiting.approval("bob");
        change(&mut approval);
        waiting.check(&approval, |_| {})
    };
    assert_eq!(with(&|a| a.displayed_digest[0] ^= 1), "APPROVAL_DISPLAY");
    assert_eq!(with(&|a| a.action_digest[0] ^= 1), "APPROVAL_OTHER_VERDICT");
    assert_eq!(with(&|a| a.verdict.0[0] ^= 1), "APPROVAL_OTHER_VERDICT");
    assert_eq!(with(&|a| a.action_id.replace_range(..1, "1")), "APPROVAL_OTHER_VERDICT");
    // Approving 82,000 never releases 820,000: another digest, another text, another verdict.
    let (small, large) = (
        waiting_for(&json!({"parameters": {"amount": "82"}}), |_| {}),
        waiting_for(&json!({"parameters": {"amount": "820"}}), |_| {}),
    );
    let mut approval = small.approval("bob");
    assert_eq!(large.check(&approval, |_| {}), "APPROVAL_OTHER_VERDICT");
    (approval.verdict, approval.action_digest) = (large.root(), digest_of(large.view()));
    assert_eq!(large.check(&approval, |_| {}), "APPROVAL_DISPLAY");
}

#[test]
fn an_approval_has_its_time() {
    let waiting = waiting();
    let approval = waiting.approval("bob");
    let check = |now: &str| waiting.check(&approval, |facts| facts.now = at(now));
    assert_eq!(check("2026-11-23T06:20:00.000000Z"), "counts");
    assert_eq!(check("2026-11-23T06:20:00.000001Z"), "APPROVAL_EXPIRED");
    assert_eq!(check("2026-11-23T06:30:00.000001Z"), "SUPERVISION_EXPIRED");
    let open = waiting_for(&json!({}), |sealing| sealing.expires_at = None);
    assert_eq!(open.check(&open.approval("bob"), |_| {}), "SUPERVISION_EXPIRED");
}

#[test]
fn an_answer_counts_once() {
    let waiting = waiting();
    let bob = Counted { person: "bob".to_owned(), key: [b'b'; 32], nonce: [9; 16] };
    let after = |earlier: &Counted, person: &str| {
        waiting.check_after(std::slice::from_ref(earlier), &waiting.approval(person), |_| {})
    };
    assert_eq!(after(&bob, "carol"), "counts");
    assert_eq!(after(&bob, "bob"), "APPROVAL_SAME_PERSON");
    // One person with two keys, and one key with two names.
    assert_eq!(after(&Counted { key: [7; 32], ..bob.clone() }, "bob"), "APPROVAL_SAME_PERSON");
    assert_eq!(after(&Counted { key: [b'c'; 32], ..bob.clone() }, "carol"), "APPROVAL_SAME_PERSON");
    assert_eq!(after(&Counted { nonce: [5; 16], ..bob.clone() }, "carol"), "APPROVAL_REPLAYED");
}

#[test]
fn only_what_waits_is_answered() {
    let shadow = waiting_for(&json!({}), |sealing| sealing.mode = "shadow");
    assert_eq!(shadow.check(&shadow.approval("bob"), |_| {}), "NOT_SUPERVISED");
    let approved = waiting_for(&json!({"resource": {"id": "dev-1"}}), |_| {});
    assert_eq!(approved.check(&approved.approval("bob"), |_| {}), "NOT_SUPERVISED");
}

#[test]
fn approvals_release_what_was_held_and_nothing_else() {
    let (policy, directory) = (policy(POLICIES), directory());
    let judged = |resource: &str, people: &[&str]| {
        let approvals: Vec<Approver> =
            people.iter().map(|id| Approver { id: (*id).to_owned() }).collect();
        let facts = Facts { approvals: &approvals, ..facts(&directory) };
        let intent = intent(&json!({"resource": {"id": resource}}));
        let decision = decide(&policy, &intent, &facts);
        // A supervise that some have answered waits for more, and is no record of its own (APR-3).
        let waits = decision.outcome == Outcome::Supervise && !people.is_empty();
        if decision.context.is_some() && !waits {
            let distinct: BTreeSet<&&str> = people.iter().collect();
            let roots = roots(distinct.len());
            let sealing = Sealing { expires_at: expiry(&decision), ..released(&policy, &roots) };
            let record = record(&intent, &decision, &sealing);
            assert_eq!(replay(record.view(), &[], &policy), Replay::Same);
        }
        told(&decision)
    };
    assert_eq!(judged("shop", &["bob", "carol"]), "approve A_AGENTS");
    assert_eq!(judged("shop", &["carol", "bob"]), "approve A_AGENTS");
    assert_eq!(judged("shop", &["bob"]), "supervise S_DESTRUCTIVE_PROD_DUAL");
    // One person counts once, whatever roles they have; two people need both roles.
    assert_eq!(judged("shop", &["alice", "alice"]), "supervise S_DESTRUCTIVE_PROD_DUAL");
    assert_eq!(judged("shop", &["bob", "dave"]), "supervise S_DESTRUCTIVE_PROD_DUAL");
    assert_eq!(judged("shop", &["bob", "nobody"]), "refuse ENTITY_MISSING");
    // No approval turns a refusal.
    assert_eq!(
        judged("costs", &["bob", "carol", "alice"]),
        "refuse R_AGENT_DESTRUCTIVE_BILLING_PROD"
    );
}

/// People can release authority, not make it.
#[test]
fn without_authority_nothing_is_supervised() {
    let (policy, directory) = (policy(POLICIES), directory());
    let intent = intent(&json!({"actor": {"id": "other-1"}}));
    assert_eq!(judge(&policy, &intent, &facts(&directory)), "refuse NO_AUTHORITY");
}

/// APR-3: the policy that is active when the approvals are there decides.
#[test]
fn after_a_policy_change_the_new_policy_decides() {
    let waiting = waiting();
    let directory = directory();
    let approvals = ["bob", "carol"].map(|id| Approver { id: id.to_owned() });
    let facts = Facts { approvals: &approvals, ..facts(&directory) };
    let judged = |text: String| judge(&policy(&text), &waiting.intent, &facts);
    assert_eq!(judged(POLICIES.to_owned()), "approve A_AGENTS");
    let more =
        POLICIES.replace("count >= 2", "count >= 3").replace("@quorum(\"2\")", "@quorum(\"3\")");
    assert_eq!(judged(more), "supervise S_DESTRUCTIVE_PROD_DUAL");
    let never = format!(
        "{POLICIES} @id(\"never\") @outcome(\"refuse\") @reason_code(\"R_NEVER\") forbid (principal is Gate::Agent, action in Gate::Action::\"delete\", resource);"
    );
    assert_eq!(judged(never), "refuse R_NEVER");
    // The answer itself is checked by the policy of then, too.
    let closed = format!(
        "{POLICIES} @id(\"closed\") forbid (principal, action == Gate::Action::\"approve_intent\", resource) when {{ resource.destructive }};"
    );
    let changed = Waiting { policy: policy(&closed), ..waiting };
    assert_eq!(changed.check(&changed.approval("bob"), |_| {}), "APPROVAL_NOT_ELIGIBLE");
}

/// A resource that moved to another domain since is no longer what people were asked about.
#[test]
fn a_settled_intent_is_refused_when_the_directory_changed() {
    let waiting = waiting();
    let moved = DIRECTORY.replace("\"id\": \"shop\", \"type\": \"System\", \"environment\": \"prod\", \"domain\": \"web\"", "\"id\": \"shop\", \"type\": \"System\", \"environment\": \"prod\", \"domain\": \"billing\"");
    assert_ne!(moved, DIRECTORY);
    let moved = countersign_gate::Directory::parse(&moved).unwrap();
    let decision = decide(&waiting.policy, &waiting.intent, &facts(&moved));
    assert_eq!(told(&decision), "refuse INPUT_INVALID");
    // The record keeps the action that was asked about, so that its digest is its parent's.
    let child = record(&waiting.intent, &decision, &sealing(&waiting.policy));
    assert_eq!(child.view().str("action_digest"), waiting.view().str("action_digest"));
}

#[test]
fn an_error_while_eligibility_is_asked_makes_nobody_eligible() {
    let text = format!(
        "{POLICIES} @id(\"errs\") forbid (principal, action == Gate::Action::\"approve_intent\", resource) when {{ resource.destructive && 9223372036854775807 + (if resource.destructive then 1 else 0) > 3 }};"
    );
    let waiting = Waiting { policy: policy(&text), ..waiting() };
    assert_eq!(waiting.check(&waiting.approval("bob"), |_| {}), "APPROVAL_NOT_ELIGIBLE");
    let named = format!(
        "{POLICIES} @id(\"gone\") forbid (principal in Gate::Role::\"suspended\", action == Gate::Action::\"approve_intent\", resource);"
    );
    let waiting = Waiting { policy: policy(&named), ..waiting };
    assert_eq!(waiting.check(&waiting.approval("bob"), |_| {}), "APPROVAL_NOT_ELIGIBLE");
}

#[test]
fn an_approval_is_read_in_one_form() {
    let waiting = waiting();
    let good: Value = {
        let text = waiting.approval("bob").record_json(&["sre-oncall".to_owned()]);
        let mut whole: Value = serde_json::from_str(&text).unwrap();
        whole["approver"].as_object_mut().unwrap().remove("roles");
        whole
    };
    assert_eq!(Approval::parse(&good.to_string()).unwrap(), waiting.approval("bob"));
    for (name, value) in [
        ("decision", json!("yes")),
        ("nonce", json!("00")),
        ("not_after", json!("2026-11-23T06:20:00Z")),
        ("signature", json!("AA==")),
        ("action_id", json!("x")),
        ("justification", json!("x".repeat(5000))),
        ("approver", json!({"id": "bob"})),
        ("more", json!(1)),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert!(Approval::parse(&bad.to_string()).is_err(), "{name}");
    }
}

/// EVID-14: the fields that the text is made of are those that take its digest along when they are
/// withheld, no more and no fewer.
#[test]
fn the_text_is_made_of_the_fields_that_disclosure_knows_of() {
    let task = json!({ "ticket": "OPS-1", "justification": "it is old" });
    let waiting = waiting_for(&json!({ "task": task, "urgency": "high" }), |_| {});
    let kind = waiting.view().kind();
    let shown = display(waiting.view(), waiting.root());
    let mut of = BTreeSet::new();
    for (at, field) in kind.fields().iter().enumerate() {
        let mut part = waiting.record.disclose();
        part.fields[at] = part.fields[at].withheld();
        if display(&part.view(kind).unwrap(), waiting.root()) != shown {
            of.insert(field.name);
        }
    }
    // These two are never withheld (REC-8).
    let known = DISPLAYED.into_iter().chain(["action_digest", "action_id"]);
    assert_eq!(of, known.collect());
}
