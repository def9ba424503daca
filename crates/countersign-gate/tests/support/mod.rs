//! A small tenant: one schema, one policy set, one directory, and calls that take them.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]

use std::fmt::Write as _;

use countersign_core::encoding::Micros;
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_gate::{
    Decision, Directory, Facts, Intent, Policy, PolicyName, Sealing, decide, verdict_json,
};
use serde_json::{Value, json};

/// The schema that the tests judge by: the base, and one tenant's own part.
pub(crate) fn schema() -> String {
    let base = include_str!("../../schema/base.cedarschema");
    let start = base.find("  action read, create").unwrap();
    let own = r#"
  entity Env enum ["dev", "prod"];
  entity Domain enum ["billing", "web"];
  entity System { env: Env, domain: Domain, owner: Human, labels: Set<String>, tier?: Long };
  entity Mailbox { env: Env, domain: Domain, owner: Human, labels: Set<String> };

  action read, create, modify, delete, execute in [governed] appliesTo {
    principal: [Agent, Human, Service], resource: [System], context: Context
  };
  action send, file, approve, move_money, permissions in [governed];

  @destructive("true") @irreversible("true")
  action "db:Drop" in [delete] appliesTo {
    principal: [Agent, Human, Service], resource: [System], context: Context
  };
  @targets("to,cc") @text("body") @facts("subject")
  action "mail:Send" in [send] appliesTo {
    principal: [Agent, Human], resource: [Mailbox], context: Context
  };
  @targets("payee") @amount("amount") @currency("currency") @count("items")
  @parameters("payee,amount,currency,items")
  action pay in [move_money] appliesTo {
    principal: [Agent, Human], resource: [System], context: Context
  };
  action approve_intent appliesTo { principal: [Human], resource: [Intent], context: {} };
}
"#;
    format!("{}{own}", &base[..start])
}

/// Policies that use each of the three outcomes.
pub(crate) const POLICIES: &str = r#"
@id("authority.agents") @reason_code("A_AGENTS") @text("agents of this class may act")
permit (principal in Gate::AgentClass::"infra", action in Gate::Action::"governed", resource);

@id("authority.people") @reason_code("A_PEOPLE")
permit (principal is Gate::Human, action in Gate::Action::"governed", resource)
when { principal in Gate::Role::"sre-oncall" || principal in Gate::Role::"service-owner" };

@id("refuse.agent.destructive.billing.prod") @outcome("refuse")
@reason_code("R_AGENT_DESTRUCTIVE_BILLING_PROD") @loss_class("availability.high")
forbid (principal is Gate::Agent, action in Gate::Action::"governed", resource is Gate::System)
when { context.destructive && resource.env == Gate::Env::"prod" && resource.domain == Gate::Domain::"billing" };

@id("supervise.destructive.prod") @outcome("supervise") @reason_code("S_DESTRUCTIVE_PROD_DUAL")
@loss_class("availability.high") @quorum("2") @roles("service-owner,sre-oncall") @ttl("PT30M")
forbid (principal, action in Gate::Action::"governed", resource is Gate::System)
when { context.destructive && resource.env == Gate::Env::"prod" }
unless { context.approvals.count >= 2 && context.approvals.distinct_roles.containsAll([Gate::Role::"sre-oncall", Gate::Role::"service-owner"]) };

@id("refuse.pay.large") @outcome("refuse") @reason_code("R_PAY_LARGE") @loss_class("money.high")
forbid (principal, action == Gate::Action::"pay", resource)
when { context has amount && context.amount.greaterThan(decimal("1000.0")) };

@id("supervise.pay") @outcome("supervise") @reason_code("S_PAY") @quorum("1") @roles("finance") @ttl("P1D")
forbid (principal, action == Gate::Action::"pay", resource)
unless { context.approvals.count >= 1 && context.approvals.distinct_roles.containsAll([Gate::Role::"finance"]) };

@id("refuse.mail.ungranted") @outcome("refuse") @reason_code("R_MAIL_UNGRANTED")
forbid (principal is Gate::Agent, action in Gate::Action::"send", resource)
unless { context has grant && context.grant.targets.containsAll(context.targets) };

@id("approve.oncall") permit (principal in Gate::Role::"sre-oncall", action == Gate::Action::"approve_intent", resource);
@id("approve.owner") permit (principal in Gate::Role::"service-owner", action == Gate::Action::"approve_intent", resource);
@id("approve.sod") @reason_code("SOD_REQUESTER")
forbid (principal, action == Gate::Action::"approve_intent", resource)
when { principal == resource.requester_owner || (resource has on_behalf_of && principal == resource.on_behalf_of) };
"#;

/// Who and what there is.
pub(crate) fn directory() -> Directory {
    Directory::parse(DIRECTORY).unwrap()
}

pub(crate) const DIRECTORY: &str = r#"{
  "agents": [
    {"id": "infra-1", "class": "infra", "owner": "alice"},
    {"id": "other-1", "class": "other", "owner": "alice"}
  ],
  "services": [{"id": "deployer", "class": "infra", "owner": "bob"}],
  "people": [
    {"id": "alice", "roles": ["sre-oncall", "service-owner"]},
    {"id": "bob", "roles": ["sre-oncall"]},
    {"id": "carol", "roles": ["service-owner"]},
    {"id": "dave", "roles": ["finance"]},
    {"id": "eve", "roles": []}
  ],
  "resources": [
    {"id": "costs", "type": "System", "environment": "prod", "domain": "billing", "owner": "carol", "labels": ["pci"]},
    {"id": "shop", "type": "System", "environment": "prod", "domain": "web", "owner": "carol", "labels": [], "attributes": {"tier": 1}},
    {"id": "dev-*", "type": "System", "environment": "dev", "domain": "web", "owner": "carol"},
    {"id": "box", "type": "Mailbox", "environment": "prod", "domain": "web", "owner": "alice"}
  ],
  "calendar": {"utc_offset_minutes": 60, "freezes": [{"from": "2026-12-20T00:00:00.000000Z", "to": "2027-01-02T00:00:00.000000Z"}]}
}"#;

/// The time at which tests judge, unless they say otherwise.
pub(crate) const NOW: &str = "2026-11-23T06:00:00.000000Z";
pub(crate) const ACTION_ID: &str = "019ab000-0000-7000-8000-000000000002";

pub(crate) fn at(text: &str) -> Micros {
    Micros::parse(text).unwrap()
}

pub(crate) fn policy(text: &str) -> Policy {
    Policy::load(text, &schema()).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The rules that loading these policies breaks, as `rule policy`, each once.
pub(crate) fn faults(text: &str) -> Vec<String> {
    match Policy::load(text, &schema()) {
        Ok(_) => Vec::new(),
        Err(faults) => {
            let name = |f: &countersign_gate::PolicyFault| {
                format!("{} {}", f.rule, f.policy.as_deref().unwrap_or("-"))
            };
            let mut told: Vec<String> = faults.0.iter().map(name).collect();
            told.dedup();
            told
        }
    }
}

/// Facts with nothing in them but the time and the directory.
pub(crate) fn facts(directory: &Directory) -> Facts<'_> {
    Facts {
        now: at(NOW),
        directory,
        halts: &[],
        grant: None,
        session_actions: 0,
        emergency: false,
        approvals: &[],
    }
}

/// An intent of the agent on a system; `change` is merged into it.
pub(crate) fn intent(change: &Value) -> Intent {
    Intent::parse(&intent_text(change)).unwrap_or_else(|reason| panic!("{reason}"))
}

pub(crate) fn intent_text(change: &Value) -> String {
    let mut whole = json!({
        "verb": "ec2:Terminate",
        "class": "delete",
        "destructive": true,
        "actor": {"kind": "agent", "id": "infra-1", "session": "s-1"},
        "resource": {"type": "System", "id": "shop"},
        "parameters": {"name": "shop"},
    });
    merge(&mut whole, change);
    whole.to_string()
}

pub(crate) fn merge(whole: &mut Value, change: &Value) {
    match (whole, change) {
        (Value::Object(whole), Value::Object(change)) => {
            for (name, value) in change {
                merge(whole.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (whole, change) => *whole = change.clone(),
    }
}

/// `outcome CODE CODE…`, the codes in their order.
pub(crate) fn told(decision: &Decision) -> String {
    let mut out = decision.outcome.as_str().to_owned();
    for reason in &decision.reasons {
        write!(out, " {}", reason.code).unwrap();
    }
    out
}

pub(crate) fn judge(policy: &Policy, intent: &Intent, facts: &Facts<'_>) -> String {
    told(&decide(policy, intent, facts))
}

/// What a verdict says besides, for a test's own verdicts.
pub(crate) fn sealing<'a>(policy: &Policy) -> Sealing<'a> {
    Sealing {
        action_id: ACTION_ID,
        mode: "enforce",
        evaluated_at: at(NOW),
        policy: Some(PolicyName {
            id: "acme".to_owned(),
            version: "1".to_owned(),
            digest: policy.digest(),
        }),
        parent: None,
        approvals: &[],
        permit: None,
        expires_at: Some(at("2026-11-23T06:30:00.000000Z")),
    }
}

/// The same for a decision that rests on so many people's answers: with the parent that they are
/// answers to, and a root for each.
pub(crate) fn released<'a>(policy: &Policy, roots: &'a [RecordRoot]) -> Sealing<'a> {
    let parent = (!roots.is_empty()).then_some(RecordRoot([9; 32]));
    Sealing { parent, approvals: roots, ..sealing(policy) }
}

/// Roots of so many approvals.
pub(crate) fn roots(count: usize) -> Vec<RecordRoot> {
    (1..=count).map(|n| RecordRoot([u8::try_from(n).unwrap(); 32])).collect()
}

/// When a supervise of this decision ends, decided at [`NOW`].
pub(crate) fn expiry(decision: &Decision) -> Option<Micros> {
    decision.requires.as_ref().map(|requires| Micros(at(NOW).0 + requires.ttl_us))
}

/// The record that a gate would make of the decision.
pub(crate) fn record(intent: &Intent, decision: &Decision, sealing: &Sealing<'_>) -> FullRecord {
    record_of(&verdict_json(intent, decision, sealing))
}

/// A verdict record of these members, with a place in a stream and its action digest.
pub(crate) fn record_of(members: &str) -> FullRecord {
    let mut members: Value = countersign_core::json::parse(members).unwrap();
    merge(
        &mut members,
        &json!({
            "type": "verdict", "tenant": "acme", "gate": "gate-1", "software": "test/1",
            "recorded_at": NOW, "seq": 1, "nonce": "00".repeat(16), "stream": "11".repeat(16),
            "prev": "22".repeat(32), "action_digest": "33".repeat(32),
        }),
    );
    let build = |members: &Value| {
        let names = Kind::Verdict.fields();
        assert!(members.as_object().unwrap().keys().all(|k| names.iter().any(|f| f.name == k)));
        let values = names.iter().map(|field| members[field.name].to_string()).collect();
        FullRecord::parse(Kind::Verdict, [7; 32], values).unwrap()
    };
    let digest = countersign_core::action::digest(build(&members).view()).unwrap().unwrap();
    members["action_digest"] = json!(countersign_core::encoding::hex(&digest));
    build(&members)
}

pub(crate) fn root(record: &FullRecord) -> RecordRoot {
    record.root()
}
