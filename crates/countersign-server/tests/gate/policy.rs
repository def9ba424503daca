//! A small policy, its schema and directory: enough to be approved, refused and supervised by.

/// What every schema contains, unchanged but for what its classes apply to (POL-3).
const BASE: &str = include_str!("../../../countersign-gate/schema/base.cedarschema");

const APPLIES: &str =
    "appliesTo { principal: [Agent, Service, Human], resource: [System], context: Context }";

/// The base with two environments, one domain, one type of resource and a verb.
pub(crate) fn schema() -> String {
    let classes = "permissions, execute in [governed];";
    assert!(BASE.contains(classes), "the base has changed");
    let own = format!(
        "permissions, execute in [governed] {APPLIES};
  entity Env enum [\"dev\", \"prod\"];
  entity Domain enum [\"billing\", \"web\"];
  entity System {{ env: Env, domain: Domain, owner: Human, labels: Set<String> }};
  action \"gate:emergency\" in [permissions] {APPLIES};
  action approve_intent appliesTo {{ principal: [Human], resource: [Intent], context: {{}} }};"
    );
    BASE.replace(classes, &own)
}

/// Agents act everywhere; what destroys in prod is supervised by two people, billing refused.
pub(crate) const POLICIES: &str = r#"
@id("authority.agents") @reason_code("A_AGENT")
permit (principal in Gate::AgentClass::"infra-assistant", action in Gate::Action::"governed", resource is Gate::System);

@id("refuse.billing") @outcome("refuse") @reason_code("R_BILLING") @loss_class("availability.high")
forbid (principal, action in Gate::Action::"governed", resource is Gate::System)
when { context.destructive && resource.env == Gate::Env::"prod" && resource.domain == Gate::Domain::"billing" };

@id("supervise.prod") @outcome("supervise") @reason_code("S_PROD") @loss_class("availability.high")
@quorum("2") @roles("service-owner,sre-oncall") @ttl("PT2M")
forbid (principal, action in Gate::Action::"governed", resource is Gate::System)
when { context.destructive && resource.env == Gate::Env::"prod" && resource.domain != Gate::Domain::"billing" }
unless { context.approvals.count >= 2 && context.approvals.distinct_roles.containsAll([Gate::Role::"service-owner", Gate::Role::"sre-oncall"]) };

@id("approve.oncall") @reason_code("A_ONCALL")
permit (principal in Gate::Role::"sre-oncall", action == Gate::Action::"approve_intent", resource);

@id("approve.owner") @reason_code("A_OWNER")
permit (principal in Gate::Role::"service-owner", action == Gate::Action::"approve_intent", resource);

@id("approve.duties") @reason_code("SOD_REQUESTER")
forbid (principal, action == Gate::Action::"approve_intent", resource)
when { principal == resource.requester_owner };
"#;

/// The same, and nobody destroys anything in prod.
pub(crate) fn stricter() -> String {
    format!(
        "{POLICIES}
@id(\"refuse.prod\") @outcome(\"refuse\") @reason_code(\"R_PROD\")
forbid (principal, action in Gate::Action::\"governed\", resource is Gate::System)
when {{ context.destructive && resource.env == Gate::Env::\"prod\" }};
"
    )
}

pub(crate) const DIRECTORY: &str = r#"{
  "agents": [{"id": "agent-7", "class": "infra-assistant", "owner": "alice"}],
  "services": [],
  "people": [
    {"id": "alice", "roles": ["sre-oncall"]},
    {"id": "bob", "roles": ["service-owner"]},
    {"id": "oncall-1", "roles": ["sre-oncall"]},
    {"id": "owner-1", "roles": ["service-owner"]}
  ],
  "resources": [
    {"id": "shop", "type": "System", "environment": "prod", "domain": "web", "owner": "bob", "labels": [], "attributes": {}},
    {"id": "cost-explorer", "type": "System", "environment": "prod", "domain": "billing", "owner": "bob", "labels": [], "attributes": {}},
    {"id": "shop-dev", "type": "System", "environment": "dev", "domain": "web", "owner": "bob", "labels": [], "attributes": {}}
  ],
  "calendar": {"utc_offset_minutes": 0, "freezes": []}
}"#;
