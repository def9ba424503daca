//! The decision: nine steps, one of three outcomes (spec/policy.md, Deciding).

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::Context;
use countersign_core::encoding::Micros;

use crate::amount::Amount;
use crate::datum::{Datum, Uid, write_members};
use crate::directory::{Directory, Thing};
use crate::evaluate::{Finding, Question, evaluate, request};
use crate::fold::is_blank;
use crate::grant::{Terms, Used};
use crate::index::{Base, Circumstances};
use crate::intent::{Actor, ActorKind, Class, Intent};
use crate::policy::Policy;
use crate::reading::Read;
use crate::reason::{GateCode, Reason};
use crate::scene::unrecordable;
use crate::schema::Action;
use crate::world::{missing, own};

/// Bytes of the context as JSON: with everything else a record must hold 60 KiB at most (REC-3).
const CONTEXT_MAX: usize = 11 * 1024;

/// How the verbs begin that open an emergency, or do whatever else to the gate itself (POL-8).
const OWN_VERBS: &str = "gate:";

/// What is decided: these three and no fourth (KIND-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It may be done, once.
    Approve,
    /// It may not be done.
    Refuse,
    /// People decide.
    Supervise,
}

impl Outcome {
    /// As records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Refuse => "refuse",
            Self::Supervise => "supervise",
        }
    }

    /// The outcome with this name.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Approve, Self::Refuse, Self::Supervise].into_iter().find(|o| o.as_str() == text)
    }
}

/// Whom a kill switch covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Halt {
    /// One actor, by id.
    Actor(String),
    /// One session.
    Session(String),
    /// Everyone.
    Tenant,
}

/// The grant that an intent names, as the gate holds it.
#[derive(Clone, Copy, Debug)]
pub struct GrantHeld<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its terms.
    pub terms: &'a Terms,
    /// What was approved under it.
    pub used: Used,
}

/// A person whose grant of an approval counts (APR-2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Approver {
    /// Their id in the directory.
    pub id: String,
}

/// What the gate knows besides policy and intent.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The gate's clock.
    pub now: Micros,
    /// The tenant's directory.
    pub directory: &'a Directory,
    /// Kill switches in force.
    pub halts: &'a [Halt],
    /// The grant that the intent names; none where the gate does not hold it.
    pub grant: Option<GrantHeld<'a>>,
    /// How many actions the session asked for before this one.
    pub session_actions: u64,
    /// An emergency is open.
    pub emergency: bool,
    /// Approvals of this action that count so far.
    pub approvals: &'a [Approver],
}

/// What releases a supervised action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requires {
    /// Approvals by distinct people.
    pub approvals: u32,
    /// Roles that they must hold between them.
    pub roles: BTreeSet<String>,
    /// How long they may take, in microseconds.
    pub ttl_us: u64,
}

/// What was decided, and from what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The outcome.
    pub outcome: Outcome,
    /// Why, sorted by policy and then code (POL-9).
    pub reasons: Vec<Reason>,
    /// What failed while policies were evaluated.
    pub errors: Vec<String>,
    /// What is at stake, by the policies that determined.
    pub loss_class: Option<String>,
    /// On supervise only.
    pub requires: Option<Requires>,
    /// The class that was judged (POL-8).
    pub class: Option<Class>,
    /// What was judged, whatever the intent claims (POL-8).
    pub destructive: bool,
    /// The resource's environment, by the directory.
    pub environment: Option<String>,
    /// The resource's domain, by the directory.
    pub domain: Option<String>,
    /// The actor's class, by the directory.
    pub actor_class: Option<String>,
    /// The amount that it moves.
    pub amount: Option<Amount>,
    /// How many things it touches.
    pub count: Option<u64>,
    /// The context that the engine was given, as Cedar's JSON (POL-10).
    pub context: Option<String>,
    /// The entities that the engine was given, as Cedar's JSON (POL-10).
    pub entities: Option<String>,
}

impl Decision {
    /// A refusal that no policy makes.
    pub fn refuse(code: GateCode) -> Self {
        Self::refuse_for(Reason::gate(code))
    }

    /// The same, with the reason's own text.
    pub fn refuse_for(reason: Reason) -> Self {
        Self {
            outcome: Outcome::Refuse,
            reasons: vec![reason],
            errors: Vec::new(),
            loss_class: None,
            requires: None,
            class: None,
            destructive: true,
            environment: None,
            domain: None,
            actor_class: None,
            amount: None,
            count: None,
            context: None,
            entities: None,
        }
    }
}

/// Decides (POL-9). Total: whatever it is given, it answers, and never approves what it could not
/// evaluate.
pub fn decide(policy: &Policy, intent: &Intent, facts: &Facts<'_>) -> Decision {
    // 1. The kill switch comes before everything.
    if facts.halts.iter().any(|halt| halt.covers(intent)) {
        return Decision::refuse(GateCode::Halted);
    }
    let mut decision = Decision::refuse(GateCode::InputInvalid);
    // 2. and 3. Everything that the engine is given is built and checked, or the reason is the answer.
    match judge(policy, intent, facts, &mut decision) {
        Ok(finding) => Decision {
            outcome: finding.outcome,
            reasons: finding.reasons,
            errors: finding.errors,
            loss_class: finding.loss_class,
            requires: finding.requires,
            ..decision
        },
        Err(reason) => {
            Decision { reasons: vec![reason], context: None, entities: None, ..decision }
        }
    }
}

impl Halt {
    fn covers(&self, intent: &Intent) -> bool {
        match self {
            Self::Actor(id) => intent.actor().is_some_and(|actor| actor.id == *id),
            Self::Session(session) => intent.session() == Some(session),
            Self::Tenant => true,
        }
    }
}

/// Steps 2 to 6. What is found on the way stands in `decision`, so that a refusal says it too.
fn judge(
    policy: &Policy,
    intent: &Intent,
    facts: &Facts<'_>,
    decision: &mut Decision,
) -> Result<Finding, Reason> {
    let case = Case::of(policy, intent, facts, decision)?;
    let read = case.action.reading.read(intent.parameters());
    let read = read.map_err(|what| Reason::because(GateCode::InputInvalid, what))?;
    (decision.amount, decision.count) = (read.amount, read.count);
    let grant = held_grant(intent, facts, case.class, &read)?;
    let context = case.context(intent, facts, &read, grant, decision.destructive);
    let at = (case.place, case.base);
    let needed = case.entities(facts);
    let scene = policy.scenes.find(policy, facts.directory, case.action, at, needed)?;
    let mut text = String::new();
    write_members(&context, &mut text);
    if text.len() > CONTEXT_MAX {
        return Err(unrecordable());
    }
    let types = &policy.schema.types;
    let unfit = || Reason::because(GateCode::InputInvalid, "the context does not fit the schema");
    let members = context.iter().map(|(name, value)| Some((name.clone(), value.to_cedar(types)?)));
    let members: Vec<_> = members.collect::<Option<_>>().ok_or_else(unfit)?;
    let context = Context::from_pairs(members).map_err(|_| unfit())?;
    let uid = |uid: &Uid| uid.to_cedar(types).ok_or_else(unfit);
    let names = (uid(&case.principal)?, case.action, uid(&case.resource)?);
    let question = Question {
        place: case.place,
        request: request(policy, names, context)?,
        entities: &scene.entities,
        given: Circumstances {
            verb: Some(intent.verb().to_owned()),
            env: case.thing.environment.clone(),
            domain: case.thing.domain.clone(),
        },
    };
    (decision.context, decision.entities) = (Some(text), Some(scene.text.clone()));
    Ok(evaluate(policy, question))
}

/// GRT-3: the grant that the intent names, where it covers the intent.
fn held_grant<'a>(
    intent: &Intent,
    facts: &Facts<'a>,
    class: Class,
    read: &Read,
) -> Result<Option<GrantHeld<'a>>, Reason> {
    let Some(named) = intent.grant() else { return Ok(None) };
    let held = facts.grant.filter(|held| held.id == named);
    let held = held.ok_or_else(|| Reason::gate(GateCode::GrantUnknown))?;
    held.terms.check(intent, class, read, &held.used, facts.now).map_err(Reason::gate)?;
    Ok(Some(held))
}

/// An intent with what schema and directory say of it.
struct Case<'a> {
    action: &'a Action,
    class: Class,
    place: usize,
    base: &'a Base,
    actor: &'a Actor,
    principal: Uid,
    resource: Uid,
    thing: &'a Thing,
}

impl<'a> Case<'a> {
    fn of(
        policy: &'a Policy,
        intent: &'a Intent,
        facts: &Facts<'a>,
        decision: &mut Decision,
    ) -> Result<Self, Reason> {
        let invalid = |what: &str| Reason::because(GateCode::InputInvalid, what);
        let actor = intent.actor().ok_or_else(|| invalid("actor: this is needed"))?;
        let named = intent.resource().ok_or_else(|| invalid("resource: this is needed"))?;
        let (action, class) = governed(policy, intent.verb(), intent.class())?;
        decision.class = Some(class);
        // POL-8: silence is destructive, unless it only reads.
        let claimed = intent.destructive().unwrap_or(class != Class::Read);
        decision.destructive = claimed || action.reading.destructive;
        let principal = Uid::new(principal_type(actor.kind), &actor.id);
        let resource = Uid::new(&named.type_name, &named.id);
        let thing = facts.directory.resource(&named.type_name, &named.id);
        let thing = thing.ok_or_else(|| missing(&resource))?;
        decision.environment = Some(thing.environment.clone());
        decision.domain = Some(thing.domain.clone());
        decision.actor_class = actor_class(actor, facts.directory);
        // INT-2: what the caller says of the resource is the directory's word, or the intent is wrong.
        for (said, known) in
            [(&named.environment, &thing.environment), (&named.domain, &thing.domain)]
        {
            if said.as_ref().is_some_and(|said| said != known) {
                return Err(invalid("resource: environment or domain is not the directory's"));
            }
        }
        let found = policy.index.base(&action.id, &principal.type_name, &resource.type_name);
        let (place, base) = found.ok_or_else(|| {
            let what =
                format!("{} is not for {} and {}", action.id, principal.type_name, named.type_name);
            Reason::because(GateCode::ActionUnknown, what)
        })?;
        Ok(Self { action, class, place, base, actor, principal, resource, thing })
    }

    /// What must be in the directory, whether policies look at it or not (DIR-1).
    fn entities(&self, facts: &Facts<'_>) -> Vec<Uid> {
        let mut needed = vec![self.principal.clone(), self.resource.clone()];
        needed.extend(self.actor.on_behalf_of.iter().map(|id| Uid::new("Human", id)));
        needed.extend(facts.approvals.iter().map(|approver| Uid::new("Human", &approver.id)));
        needed
    }

    fn context(
        &self,
        intent: &Intent,
        facts: &Facts<'_>,
        read: &Read,
        grant: Option<GrantHeld<'_>>,
        destructive: bool,
    ) -> BTreeMap<String, Datum> {
        let (weekday, minute_of_day) = facts.directory.local_time(facts.now);
        let whole = |n: u64| Datum::Long(i64::try_from(n).unwrap_or(i64::MAX));
        let mut members = own([
            ("verb", Datum::text(intent.verb())),
            ("destructive", Datum::Bool(destructive)),
            ("irreversible", Datum::Bool(self.action.reading.irreversible)),
            ("emergency", Datum::Bool(facts.emergency)),
            ("change_freeze", Datum::Bool(facts.directory.frozen(facts.now))),
            ("now", Datum::Made("datetime", seconds(facts.now))),
            ("weekday", Datum::Long(weekday)),
            ("minute_of_day", Datum::Long(minute_of_day)),
            ("session_actions", whole(facts.session_actions)),
            ("targets", Datum::texts(&read.targets)),
            ("facts", Datum::texts(&read.facts)),
            ("task", task(intent)),
            ("approvals", approvals(facts)),
        ]);
        let mut put = |name: &str, value: Option<Datum>| {
            members.extend(value.map(|value| (name.to_owned(), value)));
        };
        let text = |text: Option<&str>| text.map(Datum::text);
        put("urgency", text(intent.urgency()));
        put("consent", text(intent.consent()));
        put("session", text(intent.session()));
        put("model", text(self.actor.model.as_deref()));
        put("amount", read.amount.map(Datum::decimal));
        put("currency", text(read.currency.as_deref()));
        put("count", read.count.map(whole));
        put("grant", grant.map(|held| held.terms.context(held.id, &held.used)));
        members
    }
}

/// POL-8: the verb, where the schema applies it to something, and otherwise its class.
pub(crate) fn governed<'a>(
    policy: &'a Policy,
    verb: &str,
    class: Option<Class>,
) -> Result<(&'a Action, Class), Reason> {
    let applied = |id: &str| {
        let action = policy.schema.actions.get(id)?;
        // An action without a class is none that an intent may ask for.
        Some((action, action.class.filter(|_| !action.applies.is_empty())?))
    };
    // What is declared is judged as itself or not at all: a claimed class opens nothing, nor does
    // another spelling of it. What begins with gate: does something to the gate itself.
    let own = verb.get(..OWN_VERBS.len()).is_some_and(|s| s.eq_ignore_ascii_case(OWN_VERBS));
    let found = if own || policy.schema.is_declared(verb) {
        applied(verb)
    } else {
        class.and_then(|class| applied(class.as_str()))
    };
    found.ok_or_else(|| {
        let what = format!("neither {verb} nor its class applies to anything");
        Reason::because(GateCode::ActionUnknown, what)
    })
}

pub(crate) fn principal_type(kind: ActorKind) -> &'static str {
    match kind {
        ActorKind::Agent => "Agent",
        ActorKind::Human => "Human",
        ActorKind::Service => "Service",
    }
}

fn actor_class(actor: &Actor, directory: &Directory) -> Option<String> {
    let machine = match actor.kind {
        ActorKind::Agent => directory.agent(&actor.id),
        ActorKind::Service => directory.service(&actor.id),
        ActorKind::Human => None,
    };
    machine.map(|machine| machine.class.clone())
}

/// A time as Cedar writes it, in whole seconds (POL-11).
pub(crate) fn seconds(now: Micros) -> String {
    let text = now.format();
    format!("{}Z", text.get(..19).unwrap_or_default())
}

fn task(intent: &Intent) -> Datum {
    let task = intent.task();
    // INT-3: what nobody sees says nothing.
    let seen = |text: &&String| !is_blank(text);
    let justified = task.justification.as_ref().is_some_and(|text| seen(&text));
    let texts = [
        ("ticket", &task.ticket),
        ("repository", &task.repository),
        ("branch", &task.branch),
        ("scope_digest", &task.scope_digest),
    ];
    let texts = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name, Datum::text(text.as_ref().filter(seen)?))));
    Datum::record(texts.chain([("justified", Datum::Bool(justified))]))
}

/// Approvals as policies see them: people that count once each, and the roles that they hold now.
fn approvals(facts: &Facts<'_>) -> Datum {
    let people: BTreeSet<&String> = facts.approvals.iter().map(|approver| &approver.id).collect();
    let roles = people.iter().filter_map(|id| facts.directory.roles(id)).flatten();
    Datum::record([
        ("count", Datum::Long(i64::try_from(people.len()).unwrap_or(i64::MAX))),
        ("distinct_roles", Datum::Set(roles.map(|role| Datum::entity("Role", role)).collect())),
        ("by", Datum::Set(people.iter().map(|id| Datum::entity("Human", id)).collect())),
    ])
}
