//! What a policy must satisfy before it decides anything (POL-1, POL-2, POL-5).
//!
//! POL-5 is checked on the policy's syntax tree in Cedar's JSON form, since what a text looks like
//! says little about what it means.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    ActionConstraint, Effect as CedarEffect, Policy, PrincipalConstraint, ResourceConstraint,
};
use serde_json::{Value, json};

use crate::datum::Uid;
use crate::policy::{Effect, Rule, RuleOutcome};
use crate::schema::APPROVE_INTENT;
use crate::tree::{Tree, Walk, guards, literal};

/// One fault of a policy set or its schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{rule}{}: {what}", .policy.as_ref().map(|id| format!(" in {id}")).unwrap_or_default())]
pub struct PolicyFault {
    /// The rule of spec/policy.md that is broken.
    pub rule: &'static str,
    /// The policy at fault, by `@id`, or by its place in the text where it has none.
    pub policy: Option<String>,
    /// What is wrong and what to write instead.
    pub what: String,
}

/// Every fault that was found, sorted; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFaults(pub Vec<PolicyFault>);

impl std::fmt::Display for PolicyFaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyFaults {}

/// Seven days, in microseconds: the longest supervision.
const TTL_MAX_US: u64 = 7 * 86_400 * 1_000_000;
const MINUTE_US: u64 = 60 * 1_000_000;

/// What a supervise asks for (POL-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Supervision {
    pub(crate) quorum: u32,
    pub(crate) roles: BTreeSet<String>,
    pub(crate) ttl_us: u64,
}

/// A policy, linted: how it is described, and what it names.
#[derive(Clone, Debug)]
pub(crate) struct Linted {
    pub(crate) rule: Rule,
    pub(crate) supervision: Option<Supervision>,
    pub(crate) tree: Tree,
}

/// Lints one policy. `place` names it while it has no id.
pub(crate) fn lint(policy: &Policy, place: &str) -> Result<Linted, Vec<PolicyFault>> {
    let annotations: BTreeMap<&str, &str> = policy.annotations().collect();
    let name = annotations.get("id").map_or(place, |id| *id).to_owned();
    let mut faults = Vec::new();
    let mut say = |rule, what: String| {
        faults.push(PolicyFault { rule, policy: Some(name.clone()), what });
    };
    if !annotations.get("id").is_some_and(|id| is_of(id, 128, "._-", char::is_ascii_lowercase)) {
        say("POL-1", "give it an @id of 1 to 128 characters of a-z 0-9 . _ -".to_owned());
    }
    let described = describe(policy, &annotations, &mut |what| say("POL-2", what));
    if admits_everyone(policy) {
        let what = "say in its scope who may approve: principal in Gate::Role::\"…\", or a permit \
                    that lets everyone act lets everyone release what is held, too";
        say("POL-12", what.to_owned());
    }
    let json = policy.to_json().unwrap_or(Value::Null);
    let conditions = json.get("conditions").and_then(Value::as_array);
    let Some(conditions) = conditions else {
        say("POL-5", "its syntax tree can't be read: write it more simply".to_owned());
        return Err(faults);
    };
    let mut walk = Walk::default();
    for condition in conditions {
        walk.run(condition.get("body").unwrap_or(&Value::Null), true);
        if std::mem::take(&mut walk.approvals) && !is_release(condition, described.1.as_ref()) {
            say("POL-5", release_form(described.1.as_ref()));
        }
        if std::mem::take(&mut walk.bare_context) {
            say(
                "POL-5",
                "write context.name or context has name, never context by itself".to_owned(),
            );
        }
    }
    let releases = conditions.iter().filter(|c| is_release(c, described.1.as_ref())).count();
    if described.0.outcome == Some(RuleOutcome::Supervise) && releases != 1 {
        say("POL-5", release_form(described.1.as_ref()));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let guards = conditions.first().map(guards).unwrap_or_default();
    let tree = Tree { named: walk.named, read: walk.read, guards };
    Ok(Linted { rule: described.0, supervision: described.1, tree })
}

fn is_of(text: &str, length: usize, more: &str, letter: fn(&char) -> bool) -> bool {
    let fits = |c: char| letter(&c) || c.is_ascii_digit() || more.contains(c);
    (1..=length).contains(&text.len()) && text.chars().all(fits)
}

/// Reads the annotations (POL-2).
fn describe(
    policy: &Policy,
    annotations: &BTreeMap<&str, &str>,
    say: &mut impl FnMut(String),
) -> (Rule, Option<Supervision>) {
    let get = |key: &str| annotations.get(key).map(|value| (*value).to_owned());
    let forbid = policy.effect() == CedarEffect::Forbid;
    for key in annotations.keys() {
        if !["id", "outcome", "reason_code", "loss_class", "text", "quorum", "roles", "ttl"]
            .contains(key)
        {
            say(format!("@{key} is no annotation of a policy: remove or correct it"));
        }
    }
    let code = get("reason_code");
    if code.as_ref().is_some_and(|code| !is_of(code, 64, "_", char::is_ascii_uppercase)) {
        say("write @reason_code with 1 to 64 characters of A-Z 0-9 _".to_owned());
    }
    let loss_class = get("loss_class");
    if loss_class.as_ref().is_some_and(|loss| !is_of(loss, 64, "._", char::is_ascii_lowercase)) {
        say("write @loss_class with 1 to 64 characters of a-z 0-9 . _".to_owned());
    }
    let text = get("text");
    let sayable =
        |text: &String| (1..=512).contains(&text.len()) && !text.chars().any(char::is_control);
    if text.as_ref().is_some_and(|text| !sayable(text)) {
        say("write @text with 1 to 512 bytes and no control characters".to_owned());
    }
    let outcome = match annotations.get("outcome") {
        Some(&"refuse") => Some(RuleOutcome::Refuse),
        Some(&"supervise") => Some(RuleOutcome::Supervise),
        Some(_) => {
            say("write @outcome(\"refuse\") or @outcome(\"supervise\")".to_owned());
            None
        }
        None => None,
    };
    if annotations.contains_key("outcome") && !forbid {
        say("@outcome stands on a forbid only: remove it".to_owned());
    }
    if forbid && is_governed(policy) {
        for key in ["outcome", "reason_code"] {
            if !annotations.contains_key(key) {
                say(format!("a forbid on governed actions needs @{key}"));
            }
        }
    }
    let mut supervision = None;
    for key in ["quorum", "roles", "ttl"] {
        match (outcome == Some(RuleOutcome::Supervise), annotations.contains_key(key)) {
            (true, false) => say(format!("a supervise needs @{key}")),
            (false, true) => say(format!("@{key} stands on a supervise only: remove it")),
            _ => {}
        }
    }
    if outcome == Some(RuleOutcome::Supervise) {
        supervision = read_supervision(annotations, say);
    }
    let effect = if forbid { Effect::Forbid } else { Effect::Permit };
    let id = get("id").unwrap_or_default();
    (Rule { id, effect, outcome, code, loss_class, text }, supervision)
}

/// It can apply to something else than `approve_intent`.
fn is_governed(policy: &Policy) -> bool {
    let asks = |uid: &cedar_policy::EntityUid| uid.id().unescaped() == APPROVE_INTENT;
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => !asks(&uid),
        ActionConstraint::In(uids) => !uids.iter().all(asks),
    }
}

/// POL-12: a permit by whose scope anybody at all may decide what waits for people.
fn admits_everyone(policy: &Policy) -> bool {
    let asks = |uid: &cedar_policy::EntityUid| uid.id().unescaped() == APPROVE_INTENT;
    let of = |name: &cedar_policy::EntityTypeName, wanted: &str| name.basename() == wanted;
    let action = match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => asks(&uid),
        ActionConstraint::In(uids) => uids.iter().any(asks),
    };
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Any => true,
        ResourceConstraint::Is(name) | ResourceConstraint::IsIn(name, _) => of(&name, "Intent"),
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) => of(uid.type_name(), "Intent"),
    };
    let anybody = match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(name) => of(&name, "Human"),
        _ => false,
    };
    policy.effect() == CedarEffect::Permit && action && resource && anybody
}

fn read_supervision(
    annotations: &BTreeMap<&str, &str>,
    say: &mut impl FnMut(String),
) -> Option<Supervision> {
    let quorum = annotations.get("quorum").and_then(|text| {
        let number = countersign_core::encoding::from_decimal(text)?;
        u32::try_from(number).ok().filter(|n| (1..=16).contains(n))
    });
    if quorum.is_none() && annotations.contains_key("quorum") {
        say("write @quorum with a number from 1 to 16".to_owned());
    }
    let listed: Vec<&str> = annotations.get("roles").map_or(Vec::new(), |r| r.split(',').collect());
    let roles: BTreeSet<String> = listed.iter().map(|role| (*role).to_owned()).collect();
    let named = |role: &String| is_of(role, 128, "._-", char::is_ascii_alphabetic);
    let sound =
        (1..=16).contains(&roles.len()) && roles.len() == listed.len() && roles.iter().all(named);
    if !sound && annotations.contains_key("roles") {
        say("write @roles with 1 to 16 different names of A-Z a-z 0-9 . _ -, by comma, without spaces".to_owned());
    }
    let ttl = annotations.get("ttl").and_then(|text| duration_us(text));
    let ttl = ttl.filter(|ttl| (MINUTE_US..=TTL_MAX_US).contains(ttl));
    if ttl.is_none() && annotations.contains_key("ttl") {
        say("write @ttl from PT1M to P7D, such as PT30M or P1DT12H".to_owned());
    }
    Some(Supervision { quorum: quorum?, roles: sound.then_some(roles)?, ttl_us: ttl? })
}

/// An ISO 8601 duration of days, hours, minutes and seconds, in that order.
fn duration_us(text: &str) -> Option<u64> {
    let rest = text.strip_prefix('P')?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    let mut seconds = 0_u64;
    for (part, units) in [(date, &[('D', 86_400)][..]), (time, &[('H', 3600), ('M', 60), ('S', 1)])]
    {
        let mut rest = part;
        for (unit, size) in units {
            let Some((number, after)) = rest.split_once(*unit) else { continue };
            let number = countersign_core::encoding::from_decimal(number)?;
            seconds = seconds.checked_add(number.checked_mul(*size)?)?;
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    seconds.checked_mul(1_000_000).filter(|us| *us > 0)
}

/// The one form of a supervise's `unless` (POL-5).
fn is_release(condition: &Value, supervision: Option<&Supervision>) -> bool {
    let Some(supervision) = supervision else { return false };
    let approvals = |name: &str| {
        let context = json!({ ".": { "left": { "Var": "context" }, "attr": "approvals" } });
        json!({ ".": { "left": context, "attr": name } })
    };
    let parts = || {
        if condition.get("kind")? != "unless" {
            return None;
        }
        let and = condition.get("body")?.get("&&")?;
        Some((and.get("left")?.get(">=")?, and.get("right")?.get("containsAll")?))
    };
    let Some((count, roles)) = parts() else { return false };
    let listed = || -> Option<BTreeSet<String>> {
        let items = roles.get("right")?.get("Set")?.as_array()?;
        let names: Option<BTreeSet<Uid>> = items.iter().map(literal).collect();
        let names = names.filter(|names| names.iter().all(|uid| uid.type_name == "Role"))?;
        Some(names.into_iter().map(|uid| uid.id).collect())
    };
    count.get("left") == Some(&approvals("count"))
        && count.get("right") == Some(&json!({ "Value": supervision.quorum }))
        && roles.get("left") == Some(&approvals("distinct_roles"))
        && listed().as_ref() == Some(&supervision.roles)
}

fn release_form(supervision: Option<&Supervision>) -> String {
    match supervision {
        Some(Supervision { quorum, roles, .. }) => {
            let roles: Vec<String> =
                roles.iter().map(|role| Uid::new("Role", role).to_string()).collect();
            format!(
                "a supervise names context.approvals in exactly one clause, and that is \
                 unless {{ context.approvals.count >= {quorum} && \
                 context.approvals.distinct_roles.containsAll([{}]) }}",
                roles.join(", ")
            )
        }
        None => "context.approvals stands in the unless of a supervise only".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_of_days_hours_minutes_and_seconds() {
        assert_eq!(duration_us("PT30M"), Some(30 * MINUTE_US));
        assert_eq!(duration_us("P1DT2H3M4S"), Some(93_784 * 1_000_000));
        for text in
            ["", "P", "PT", "PT0S", "30M", "P1M", "PT1H30", "PT1M1H", "P-1D", "PT1.5H", "P1W"]
        {
            assert_eq!(duration_us(text), None, "{text}");
        }
    }
}
