//! A recorded verdict made again (POL-10).
//!
//! It proves that policy, context and entities of the record give its outcome, and that the record's
//! other fields don't contradict them. The rest of the context is the gate's word.

use cedar_policy::{Context, Entities};
use countersign_core::encoding::{Micros, hex};
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::record::View;
use serde_json::Value;

use crate::contradiction::{COMPARED, contradicted};
use crate::datum::{NAMESPACE, Uid};
use crate::decide::{Outcome, governed, principal_type};
use crate::evaluate::{Finding, Question, evaluate, request, with_actions};
use crate::fold::is_seen;
use crate::index::Circumstances;
use crate::intent::{ActorKind, Class};
use crate::policy::{ENGINE, Policy};
use crate::reason::{GateCode, Reason};
use crate::schema::Action;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// The same outcome, reasons and requirements.
    Same,
    /// Others than the record says.
    Different {
        /// The outcome that this policy gives.
        outcome: Outcome,
        /// Its reasons.
        reasons: Vec<Reason>,
    },
    /// The record contradicts itself: what the engine was given, or what is said to follow, is not
    /// what its other fields give. Its gate told the engine, or the log, something untrue.
    Contradicted {
        /// The member that does not agree, such as `context.targets`.
        member: &'static str,
    },
    /// The record was made by another engine, so that nothing is proved either way.
    DifferentEngine {
        /// What the record names.
        recorded: String,
    },
    /// The record names another policy version than this one.
    OtherPolicy,
    /// The gate refused by itself, before or after the policy: there is nothing to make again.
    NotByPolicy {
        /// Its code.
        code: String,
    },
    /// A value that is needed is withheld, or the record is no verdict.
    Withheld {
        /// Its name.
        name: &'static str,
    },
}

/// What is needed to decide again, and to compare.
const NEEDED: [&str; 11] = [
    "policy",
    "action",
    "action_class",
    "actor",
    "destructive",
    "resource",
    "context",
    "entities",
    "outcome",
    "reasons",
    "requires",
];

/// Where a verdict names something, besides its action (INT-4).
const NAMES: [(&str, &str); 9] = [
    ("actor", "id"),
    ("actor", "session"),
    ("actor", "model"),
    ("actor", "on_behalf_of"),
    ("resource", "type"),
    ("resource", "id"),
    ("resource", "environment"),
    ("resource", "domain"),
    ("task", "grant"),
];

/// Makes a recorded verdict again from its own context and entities, under the policy version that it
/// names, and holds them against the record's other fields (POL-10). `approvals` are those that came
/// with it, by their roots; where there are none, only their number is compared.
pub fn replay(verdict: &View, approvals: &[(RecordRoot, &View)], policy: &Policy) -> Replay {
    if let Some(stop) = cannot(verdict) {
        return stop;
    }
    let said = verdict.get("policy").unwrap_or(&Value::Null);
    let member = |name: &str| said.get(name).and_then(Value::as_str);
    if said.is_object() && member("digest") != Some(hex(&policy.digest()).as_str()) {
        return Replay::OtherPolicy;
    }
    if said.is_object() && member("engine") != Some(ENGINE) {
        return Replay::DifferentEngine {
            recorded: member("engine").unwrap_or_default().to_owned(),
        };
    }
    if let Some(code) = refused_alone(verdict) {
        return Replay::NotByPolicy { code };
    }
    let is_told = verdict.get("context").is_some_and(Value::is_object);
    let action = action_of(verdict, policy).ok().filter(|_| is_told);
    let member = action.and_then(|action| contradicted(verdict, approvals, action));
    if let Some(member) = member {
        return Replay::Contradicted { member };
    }
    let found = again(verdict, policy);
    match unlike(verdict, &found) {
        Some(member) if agrees(verdict, &found) => Replay::Contradicted { member },
        _ => compared(verdict, found),
    }
}

/// The fields that [`replay`] would have compared, and that are withheld.
pub fn not_compared(verdict: &View) -> impl Iterator<Item = &'static str> {
    COMPARED.into_iter().filter(|name| verdict.is_withheld(name))
}

/// What another policy version would have decided: a record's own context and entities under
/// `policy`, whichever version the record names. For comparing versions before one is activated; it
/// proves nothing of the record.
pub fn reconsider(verdict: &View, policy: &Policy) -> Replay {
    if let Some(stop) = cannot(verdict) {
        return stop;
    }
    if let Some(code) = refused_alone(verdict) {
        return Replay::NotByPolicy { code };
    }
    compared(verdict, again(verdict, policy))
}

fn compared(verdict: &View, found: Finding) -> Replay {
    if agrees(verdict, &found) {
        Replay::Same
    } else {
        Replay::Different { outcome: found.outcome, reasons: found.reasons }
    }
}

/// What follows from the decision and is said otherwise: when a supervise ends, what is at stake.
fn unlike(verdict: &View, found: &Finding) -> Option<&'static str> {
    if !verdict.is_withheld("loss_class")
        && verdict.str("loss_class") != found.loss_class.as_deref()
    {
        return Some("loss_class");
    }
    let requires = found.requires.as_ref().filter(|_| !verdict.is_withheld("evaluated_at"))?;
    let said = verdict.get("requires").and_then(|said| said.get("expires_at")?.as_str());
    let from = verdict.str("evaluated_at").and_then(Micros::parse);
    let until = from.map(|from| Micros(from.0.saturating_add(requires.ttl_us)).format());
    (said != until.as_deref()).then_some("requires.expires_at")
}

fn cannot(verdict: &View) -> Option<Replay> {
    if verdict.kind() != Kind::Verdict {
        return Some(Replay::Withheld { name: "outcome" });
    }
    let name = NEEDED.into_iter().find(|name| verdict.is_withheld(name))?;
    Some(Replay::Withheld { name })
}

/// The gate's own code, where no policy made this refusal.
fn refused_alone(verdict: &View) -> Option<String> {
    // Nobody approves or supervises without a policy: such a record is decided again, and differs.
    if verdict.str("outcome") != Some(Outcome::Refuse.as_str()) {
        return None;
    }
    let reasons = verdict.get("reasons").and_then(Value::as_array).into_iter().flatten();
    let own = reasons.filter(|reason| reason.get("policy").is_none_or(Value::is_null));
    let mut codes = own.filter_map(|reason| reason.get("code").and_then(Value::as_str));
    // NO_AUTHORITY is the policy's silence; it can be made again.
    let silence = GateCode::NoAuthority.as_str();
    let without = verdict.get("context").is_none_or(Value::is_null);
    codes.find(|code| without || *code != silence).map(str::to_owned)
}

fn agrees(verdict: &View, found: &Finding) -> bool {
    let list =
        |name: &str| verdict.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let said = list("reasons");
    let said = said.iter().map(|reason| {
        let text = |name: &str| reason.get(name).and_then(Value::as_str).map(str::to_owned);
        (text("policy"), text("code").unwrap_or_default())
    });
    // A record sorts by policy; equals among one policy are compared in one order.
    let mut said: Vec<_> = said.collect();
    said.sort();
    let mut ours: Vec<_> =
        found.reasons.iter().map(|reason| (reason.policy.clone(), reason.code.clone())).collect();
    ours.sort();
    let requires = verdict.get("requires").unwrap_or(&Value::Null);
    let same_requires = match &found.requires {
        None => requires.is_null(),
        Some(ours) => {
            let mut roles: Vec<&str> = requires
                .get("roles")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            roles.sort_unstable();
            requires.get("approvals").and_then(Value::as_u64) == Some(u64::from(ours.approvals))
                && roles.iter().copied().eq(ours.roles.iter().map(String::as_str))
        }
    };
    verdict.str("outcome") == Some(found.outcome.as_str()) && said == ours && same_requires
}

/// Decides again; what can't be given to the engine is a refusal, as it was for the gate.
fn again(verdict: &View, policy: &Policy) -> Finding {
    judged(verdict, policy).unwrap_or_else(|reason| Finding::refuse(vec![reason]))
}

fn judged(verdict: &View, policy: &Policy) -> Result<Finding, Reason> {
    let invalid = |what: &str| Reason::because(GateCode::InputInvalid, what);
    let text = |name: &str, member: &str| {
        verdict.get(name).and_then(|value| value.get(member)).and_then(Value::as_str)
    };
    let verb = verdict.str("action").unwrap_or_default();
    let kind = text("actor", "kind").and_then(ActorKind::from_text);
    let (kind, actor) = kind.zip(text("actor", "id")).ok_or_else(|| invalid("no actor"))?;
    let resource = text("resource", "type").zip(text("resource", "id"));
    let resource = resource.ok_or_else(|| invalid("no resource"))?;
    // INT-4: no gate judges such a name.
    let names = NAMES.iter().filter_map(|(field, member)| text(field, member));
    if !names.chain([verb]).all(is_seen) {
        return Err(invalid("a name has in it what nobody sees"));
    }
    let principal = Uid::new(principal_type(kind), actor);
    let resource = Uid::new(resource.0, resource.1);
    let schema = &policy.schema;
    let action = action_of(verdict, policy)?;
    let found = policy.index.base(&action.id, &principal.type_name, &resource.type_name);
    let (place, base) = found.ok_or_else(|| Reason::gate(GateCode::ActionUnknown))?;
    let context = verdict.get("context").cloned().unwrap_or(Value::Null);
    let listed = verdict.get("entities").cloned().unwrap_or(Value::Null);
    if context.get("verb").and_then(Value::as_str) != Some(verb)
        || context.get("destructive") != verdict.get("destructive")
    {
        return Err(invalid("the context is not of this action"));
    }
    let given = circumstances(&listed, &resource, verb).ok_or_else(|| {
        Reason::because(GateCode::EntityMissing, "the resource is not among the entities")
    })?;
    if text("resource", "environment") != Some(&given.env)
        || text("resource", "domain") != Some(&given.domain)
    {
        return Err(invalid("the entities are not of this resource"));
    }
    let context = Context::from_json_value(context, Some((&schema.schema, &action.uid)))
        .map_err(|_| invalid("the context does not fit the schema"))?;
    let entities = Entities::from_json_value(listed, Some(&schema.entities))
        .map_err(|_| invalid("the entities do not fit the schema"))?;
    let uid = |uid: &Uid| uid.to_cedar(&schema.types).ok_or_else(|| invalid("a type is unknown"));
    let (principal, resource) = (uid(&principal)?, uid(&resource)?);
    if entities.get(&principal).is_none() {
        return Err(Reason::gate(GateCode::EntityMissing));
    }
    let request = request(policy, (principal, action, resource), context)?;
    let entities = with_actions(policy, action, base, entities)?;
    Ok(evaluate(policy, Question { place, request, entities: &entities, given }))
}

/// The action of the schema that the verb, or else the class, stands for (POL-8).
fn action_of<'p>(verdict: &View, policy: &'p Policy) -> Result<&'p Action, Reason> {
    let verb = verdict.str("action").unwrap_or_default();
    let class = Class::from_text(verdict.str("action_class").unwrap_or_default());
    let (action, judged) = governed(policy, verb, class)?;
    if class != Some(judged) {
        let what = "the class is not the verb's";
        return Err(Reason::because(GateCode::InputInvalid, what));
    }
    Ok(action)
}

/// What the entities say of the resource's place.
fn circumstances(entities: &Value, resource: &Uid, verb: &str) -> Option<Circumstances> {
    let type_name = format!("{NAMESPACE}::{}", resource.type_name);
    let is_it = |entity: &&Value| {
        let uid = entity.get("uid");
        let of = |name: &str| uid.and_then(|uid| uid.get(name)).and_then(Value::as_str);
        of("type") == Some(&type_name) && of("id") == Some(&resource.id)
    };
    let found = entities.as_array()?.iter().find(is_it)?;
    let named = |name: &str| {
        let id = found.get("attrs")?.get(name)?.get("__entity")?.get("id")?.as_str()?;
        Some(id.to_owned())
    };
    Some(Circumstances {
        verb: Some(verb.to_owned()),
        env: named("env")?,
        domain: named("domain")?,
    })
}
