//! What the engine decides: steps 4 to 6 of Deciding, a function of policy, request and entities.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision as Cedar, Diagnostics, Entities, Entity,
    PolicyId, PolicySet, Request, Response,
};

use crate::decide::{Outcome, Requires};
use crate::index::{Base, Circumstances, Row};
use crate::lint::Supervision;
use crate::policy::{Policy, RuleOutcome};
use crate::reader::cut;
use crate::reason::{GateCode, Reason};
use crate::schema::Action;

/// Reasons that a decision names: more would not fit a record (POL-9).
const REASONS_MAX: usize = 64;
/// Bytes of all reasons as JSON with their texts; without texts they always fit.
const REASONS_BYTES_MAX: usize = 8 * 1024;
/// Errors that a decision names, and the bytes of each.
const ERRORS_MAX: usize = 8;
const ERROR_BYTES_MAX: usize = 256;
/// What a permit without a reason code gives (POL-2).
const PERMITTED: &str = "PERMITTED";

/// A request, with everything that it rests on.
pub(crate) struct Question<'q> {
    pub(crate) place: usize,
    pub(crate) request: Request,
    /// With the actions that are looked at ([`with_actions`]).
    pub(crate) entities: &'q Entities,
    pub(crate) given: Circumstances,
}

/// What the engine found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) outcome: Outcome,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) errors: Vec<String>,
    pub(crate) loss_class: Option<String>,
    pub(crate) requires: Option<Requires>,
}

/// Builds a request that fits the schema.
pub(crate) fn request(
    policy: &Policy,
    (principal, action, resource): (cedar_policy::EntityUid, &Action, cedar_policy::EntityUid),
    context: Context,
) -> Result<Request, Reason> {
    let schema = Some(&policy.schema.schema);
    Request::new(principal, action.uid.clone(), resource, context, schema)
        .map_err(|error| Reason::because(GateCode::InputInvalid, cut(&error.to_string(), 512)))
}

/// Decides. An error anywhere refuses, and so does whatever is not allowed.
pub(crate) fn evaluate(policy: &Policy, question: Question<'_>) -> Finding {
    let Question { place, request, entities, given } = question;
    let slice = policy.index.slice(place, given);
    let ask = |set: &PolicySet| Authorizer::new().is_authorized(&request, set, entities);
    let answer = Answer::of(policy, &ask(&slice.all));
    if !answer.errors.is_empty() {
        return answer.failed();
    }
    if answer.allowed {
        return answer.finding(Outcome::Approve, |_| true);
    }
    if answer.determining.is_empty() {
        return Finding::refuse(vec![Reason::gate(GateCode::NoAuthority)]);
    }
    let supervises = |row: &Row| row.rule.outcome == Some(RuleOutcome::Supervise);
    if !answer.determining.iter().all(|row| supervises(row)) {
        return answer.finding(Outcome::Refuse, |row| !supervises(row));
    }
    // Only supervises stand in the way: people can release authority, not make it.
    let authority = Answer::of(policy, &ask(&slice.authority));
    if !authority.errors.is_empty() {
        return authority.failed();
    }
    if !authority.allowed {
        return Finding::refuse(vec![Reason::gate(GateCode::NoAuthority)]);
    }
    let requires = answer.join();
    Finding { requires, ..answer.finding(Outcome::Supervise, |_| true) }
}

/// The request's action with its groups, and those that conditions look into. They are the schema's,
/// so that records leave them out (POL-10).
pub(crate) fn with_actions(
    policy: &Policy,
    action: &Action,
    base: &Base,
    entities: Entities,
) -> Result<Entities, Reason> {
    let own = action.closure.iter().filter_map(|uid| policy.schema.action_entity(uid));
    let all: BTreeMap<_, &Entity> =
        own.chain(&base.actions).map(|entity| (entity.uid(), entity)).collect();
    let whole = entities.add_entities(all.into_values().cloned(), None);
    whole.map_err(|_| Reason::gate(GateCode::InputInvalid))
}

/// The engine's answer. Its order is random: what becomes of it is sorted ([`Finding::refuse`]).
struct Answer<'p> {
    allowed: bool,
    determining: Vec<&'p Row>,
    /// Policy and message, sorted.
    errors: BTreeSet<(String, String)>,
}

impl<'p> Answer<'p> {
    fn of(policy: &'p Policy, response: &Response) -> Self {
        let diagnostics: &Diagnostics = response.diagnostics();
        let ids: Vec<&PolicyId> = diagnostics.reason().collect();
        let named = |id: &&PolicyId| policy.index.row(AsRef::<str>::as_ref(*id));
        let determining: Vec<&Row> = ids.iter().filter_map(named).collect();
        let error = |error: &AuthorizationError| match error {
            AuthorizationError::PolicyEvaluationError(inner) => {
                (inner.policy_id().to_string(), inner.inner().to_string())
            }
        };
        // A determining policy that is no row of ours can't be told from an error.
        let lost = (determining.len() != ids.len())
            .then(|| (String::new(), "the engine named an unknown policy".to_owned()));
        let errors = diagnostics.errors().map(error).chain(lost).collect();
        Self { allowed: response.decision() == Cedar::Allow, determining, errors }
    }

    /// Step 4: one reason for each policy that erred.
    fn failed(&self) -> Finding {
        let erred: BTreeSet<&String> = self.errors.iter().map(|(id, _)| id).collect();
        let reasons = erred.into_iter().map(|id| Reason {
            policy: Some(id.clone()).filter(|id| !id.is_empty()),
            ..Reason::gate(GateCode::PolicyError)
        });
        let said = self.errors.iter().take(ERRORS_MAX);
        let errors =
            said.map(|(id, what)| cut(&format!("{id}: {what}"), ERROR_BYTES_MAX)).collect();
        Finding { errors, ..Finding::refuse(reasons.collect()) }
    }

    fn finding(&self, outcome: Outcome, counts: impl Fn(&Row) -> bool) -> Finding {
        let rows = || self.determining.iter().filter(|row| counts(row));
        let reason = |row: &&Row| Reason {
            policy: Some(row.rule.id.clone()),
            code: row.rule.code.clone().unwrap_or_else(|| PERMITTED.to_owned()),
            text: row.rule.text.clone(),
        };
        let losses: BTreeSet<&str> =
            rows().filter_map(|row| row.rule.loss_class.as_deref()).collect();
        let losses: Vec<&str> = losses.into_iter().take(REASONS_MAX).collect();
        Finding {
            outcome,
            loss_class: (!losses.is_empty()).then(|| losses.join(",")),
            ..Finding::refuse(rows().map(reason).collect())
        }
    }

    /// Step 6: the join of what the supervises ask for.
    fn join(&self) -> Option<Requires> {
        let asked = || self.determining.iter().filter_map(|row| row.supervision.as_ref());
        Some(Requires {
            approvals: asked().map(|s| s.quorum).max()?,
            roles: asked().flat_map(|s: &Supervision| s.roles.iter().cloned()).collect(),
            ttl_us: asked().map(|s| s.ttl_us).min()?,
        })
    }
}

impl Finding {
    /// A refusal for these reasons, in order and within what a record takes (POL-9).
    pub(crate) fn refuse(mut reasons: Vec<Reason>) -> Self {
        reasons.sort();
        reasons.dedup();
        reasons.truncate(REASONS_MAX);
        let bytes: usize = reasons.iter().map(|reason| reason.to_json().to_string().len()).sum();
        if bytes > REASONS_BYTES_MAX {
            for reason in &mut reasons {
                reason.text = None;
            }
        }
        Self {
            outcome: Outcome::Refuse,
            reasons,
            errors: Vec::new(),
            loss_class: None,
            requires: None,
        }
    }
}
