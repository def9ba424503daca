//! A decision as the members of a record (KIND-3, KIND-4).

use countersign_core::encoding::{Micros, hex};
use countersign_core::hash::{Hash, RecordRoot};
use countersign_core::json::quoted;
use serde_json::{Value, json};

use crate::decide::{Decision, Outcome};
use crate::intent::{Class, Intent};
use crate::policy::ENGINE;

/// The policy version that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyName {
    /// The policy's name.
    pub id: String,
    /// The version's name.
    pub version: String,
    /// The version's digest.
    pub digest: Hash,
}

/// The permit of an approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitSaid {
    /// Its name.
    pub id: String,
    /// Who may use it.
    pub audience: String,
    /// Until when.
    pub not_after: Micros,
}

/// What a verdict says besides what was decided.
#[derive(Clone, Debug)]
pub struct Sealing<'a> {
    /// The action's UUIDv7.
    pub action_id: &'a str,
    /// enforce or shadow.
    pub mode: &'a str,
    /// When it was decided.
    pub evaluated_at: Micros,
    /// By which policy version.
    pub policy: Option<PolicyName>,
    /// The verdict that it resolves or voids.
    pub parent: Option<RecordRoot>,
    /// The approvals that it rests on.
    pub approvals: &'a [RecordRoot],
    /// The permit, on an enforced approve.
    pub permit: Option<PermitSaid>,
    /// When a supervise expires.
    pub expires_at: Option<Micros>,
}

/// A JSON object, member by member, in the order in which they are put.
struct Members(String);

impl Members {
    fn new() -> Self {
        Self("{".to_owned())
    }

    /// A member whose value is JSON text already: it is kept as it stands.
    fn text(mut self, name: &str, value: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(value);
        self
    }

    fn put(self, name: &str, value: &Value) -> Self {
        self.text(name, &value.to_string())
    }

    fn done(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// The members of a verdict that its gate gives; place, nonce and digest are filled in where it is
/// drafted. A permit, what is required and the approvals are written only where a record may have
/// them (KIND-4, KIND-5).
pub fn verdict_json(intent: &Intent, decision: &Decision, sealing: &Sealing<'_>) -> String {
    let outcome = decision.outcome;
    let permit = sealing.permit.as_ref().map(|permit| {
        let not_after = permit.not_after.format();
        json!({ "id": permit.id, "audience": permit.audience, "not_after": not_after })
    });
    let permit = permit.filter(|_| outcome == Outcome::Approve && sealing.mode == "enforce");
    let requires = decision.requires.as_ref().map(|requires| {
        let expires_at = sealing.expires_at.map(Micros::format);
        json!({ "approvals": requires.approvals, "roles": requires.roles, "expires_at": expires_at })
    });
    let requires = requires.filter(|_| outcome == Outcome::Supervise);
    let policy = sealing.policy.as_ref().map(|policy| {
        let digest = hex(&policy.digest);
        json!({ "id": policy.id, "version": policy.version, "digest": digest, "engine": ENGINE })
    });
    let roots = |roots: &[RecordRoot]| roots.iter().map(RecordRoot::hex).collect::<Vec<_>>();
    let approvals = sealing.parent.map(|_| roots(sealing.approvals));
    let reasons: Vec<Value> = decision.reasons.iter().map(crate::Reason::to_json).collect();
    // What was judged, where it came to that; what was claimed otherwise.
    let class = decision.class.or(intent.class());
    let destructive = decision.class.map(|_| decision.destructive).or(intent.destructive());
    action_members(intent, sealing.action_id, decision.actor_class.as_deref())
        .put("action_class", &json!(class.map(Class::as_str)))
        .put("destructive", &json!(destructive))
        .put("resource", &resource(intent, Some(decision)))
        .text("context", decision.context.as_deref().unwrap_or("null"))
        .text("entities", decision.entities.as_deref().unwrap_or("null"))
        .put("approvals", &json!(approvals))
        .put("errors", &json!(decision.errors))
        .put("evaluated_at", &json!(sealing.evaluated_at.format()))
        .put("loss_class", &json!(decision.loss_class))
        .put("mode", &json!(sealing.mode))
        .put("outcome", &json!(outcome.as_str()))
        .put("parent", &json!(sealing.parent.map(|parent| parent.hex())))
        .put("permit", &json!(permit))
        .put("policy", &json!(policy))
        .put("reasons", &Value::Array(reasons))
        .put("requires", &json!(requires))
        .done()
}

/// The members of an intent record: what was asked, before anything is judged.
pub fn intent_json(intent: &Intent, action_id: &str) -> String {
    action_members(intent, action_id, None)
        .put("action_class", &json!(intent.class().map(Class::as_str)))
        .put("destructive", &json!(intent.destructive()))
        .put("resource", &resource(intent, None))
        .done()
}

fn action_members(intent: &Intent, action_id: &str, class: Option<&str>) -> Members {
    let actor = intent.actor().map(|actor| {
        json!({
            "kind": actor.kind.as_str(),
            "id": actor.id,
            "class": class,
            "session": actor.session,
            "model": actor.model,
            "on_behalf_of": actor.on_behalf_of,
        })
    });
    let task = intent.task();
    let task = json!({
        "ticket": task.ticket,
        "grant": task.grant,
        "scope_digest": task.scope_digest,
        "justification": task.justification,
    });
    Members::new()
        .put("action", &json!(intent.verb()))
        .put("action_id", &json!(action_id))
        .put("actor", &json!(actor))
        .put("consent", &json!(intent.consent()))
        .put("parameters", &json!(intent.parameters()))
        .put("task", &task)
        .put("urgency", &json!(intent.urgency()))
}

/// The resource as the directory has it, or as the intent says, where that was settled before.
fn resource(intent: &Intent, decision: Option<&Decision>) -> Value {
    let Some(resource) = intent.resource() else { return Value::Null };
    let environment = decision.and_then(|decision| decision.environment.as_ref());
    let domain = decision.and_then(|decision| decision.domain.as_ref());
    json!({
        "type": resource.type_name,
        "id": resource.id,
        "environment": resource.environment.as_ref().or(environment),
        "domain": resource.domain.as_ref().or(domain),
    })
}
