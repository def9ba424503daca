//! Every pack does what its table says, every rule of it matters, and its people release what it
//! holds (spec/policy.md: POL-5, POL-8, POL-9, APR-2, DIR-1, GRT-3).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test stops where it fails.

mod aws;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{
    Authorizer, Context, Entities, EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet,
    Request, Schema,
};
use countersign_core::encoding::Micros;
use countersign_gate::packs::{self, Pack};
use countersign_gate::{
    Amount, Approver, Class, Decision, Directory, Effect, Facts, GrantHeld, Intent, Outcome,
    Policy, Terms, Used, decide,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// One line of a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    intent: Box<RawValue>,
    at: String,
    grant: Option<Grant>,
    #[serde(default)]
    session_actions: u64,
    #[serde(default)]
    emergency: bool,
    #[serde(default)]
    approvals: Vec<String>,
    expect: Expected,
}

/// The grant that the gate holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    id: String,
    terms: Box<RawValue>,
    used: Use,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Use {
    actions: u64,
    amount: String,
    count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    outcome: String,
    codes: Vec<String>,
}

fn table(pack: &Pack) -> Vec<Case> {
    let line = |text: &str| {
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{}: {e}: {text}", pack.name))
    };
    pack.table.lines().map(line).collect()
}

fn load(name: &str, policy: &str, schema: &str) -> Policy {
    Policy::load(policy, schema).unwrap_or_else(|faults| panic!("{name}:\n{faults}"))
}

/// Decides a case as the gate would. An intent that can't be read is refused with its own reason.
fn run(policy: &Policy, directory: &Directory, case: &Case) -> Decision {
    let intent = match Intent::parse(case.intent.get()) {
        Ok(intent) => intent,
        Err(reason) => return Decision::refuse_for(reason),
    };
    let terms = case.grant.as_ref().map(|grant| Terms::parse(grant.terms.get()).unwrap());
    let held = case.grant.as_ref().zip(terms.as_ref()).map(|(grant, terms)| GrantHeld {
        id: &grant.id,
        terms,
        used: Used {
            actions: grant.used.actions,
            amount: Amount::parse(&grant.used.amount).unwrap(),
            count: grant.used.count,
        },
    });
    let approvals: Vec<Approver> =
        case.approvals.iter().map(|id| Approver { id: id.clone() }).collect();
    let facts = Facts {
        now: Micros::parse(&case.at).unwrap(),
        directory,
        halts: &[],
        grant: held.filter(|grant| intent.grant() == Some(grant.id)),
        session_actions: case.session_actions,
        emergency: case.emergency,
        approvals: &approvals,
    };
    decide(policy, &intent, &facts)
}

fn answer(decision: &Decision) -> Expected {
    let codes: BTreeSet<&String> = decision.reasons.iter().map(|reason| &reason.code).collect();
    Expected {
        outcome: decision.outcome.as_str().to_owned(),
        codes: codes.into_iter().cloned().collect(),
    }
}

/// A pack, loaded, with its table decided.
struct Played {
    pack: &'static Pack,
    policy: Policy,
    directory: Directory,
    cases: Vec<Case>,
    decisions: Vec<Decision>,
}

/// Every pack, played once for all tests.
static PLAYED: LazyLock<Vec<Played>> = LazyLock::new(|| packs::ALL.iter().map(play).collect());

fn play(pack: &'static Pack) -> Played {
    let policy = load(pack.name, pack.policy, pack.schema);
    let directory =
        Directory::parse(pack.directory).unwrap_or_else(|e| panic!("{}: {e}", pack.name));
    let cases = table(pack);
    let decisions = cases.iter().map(|case| run(&policy, &directory, case)).collect();
    Played { pack, policy, directory, cases, decisions }
}

/// The policies of a text, each with its `@id` and its own text.
fn policies(text: &str) -> BTreeMap<String, String> {
    let set = PolicySet::from_str(text).unwrap();
    set.policies()
        .map(|policy| (policy.annotation("id").unwrap().to_owned(), policy.to_cedar().unwrap()))
        .collect()
}

fn without(texts: &BTreeMap<String, String>, id: &str) -> String {
    let kept: Vec<&str> =
        texts.iter().filter(|(other, _)| *other != id).map(|(_, text)| text.as_str()).collect();
    kept.join("\n")
}

/// Whether a rule says who may approve: those are asked by another question than the table's.
fn is_about_approvers(text: &str) -> bool {
    text.contains("Gate::Action::\"approve_intent\"")
}

#[test]
fn every_folder_is_a_pack() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packs");
    let mut folders: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort_unstable();
    let names: Vec<&str> = packs::ALL.iter().map(|pack| pack.name).collect();
    assert_eq!(names, folders, "name each folder of packs/ in src/packs.rs, in this order");
    for pack in packs::ALL {
        assert_eq!(packs::find(pack.name), Some(pack));
    }
}

#[test]
fn tables_come_true() {
    let mut wrong = Vec::new();
    for played in PLAYED.iter() {
        for (case, decision) in played.cases.iter().zip(&played.decisions) {
            let got = answer(decision);
            if got != case.expect {
                let reasons = &decision.reasons;
                wrong.push(format!("{}: {}: {got:?} {reasons:?}", played.pack.name, case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn packs_hold_what_they_promise() {
    for played in PLAYED.iter() {
        let name = played.pack.name;
        let forbids = played.policy.rules().iter().filter(|rule| rule.outcome.is_some()).count();
        assert!(forbids >= 12, "{name} has {forbids} rules that hold something back");
        assert!(played.cases.len() >= 40, "{name} has {} cases", played.cases.len());
        let names: BTreeSet<&String> = played.cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), played.cases.len(), "{name}: two cases have one name");
        for rule in played.policy.rules() {
            assert!(rule.code.is_some(), "{name}: {} has no reason_code", rule.id);
            let said = rule.text.is_some() || rule.effect == Effect::Permit;
            assert!(said, "{name}: {} has no text for people", rule.id);
        }
        assert!(played.pack.readme.starts_with("# "), "{name}: its README has no title");
        for rule in played.policy.rules() {
            let code = rule.code.as_deref().unwrap();
            let told = rule.outcome.is_none() || played.pack.readme.contains(code);
            assert!(told, "{name}: its README does not tell of {code}");
        }
    }
}

/// Every supervision of the tables is held for too few people, held for enough people of too few
/// roles, and released by the right ones, all for one and the same intent, at least once a pack.
#[test]
fn a_supervised_path_is_held_and_released() {
    for played in PLAYED.iter() {
        let mut paths: BTreeMap<&str, [bool; 3]> = BTreeMap::new();
        for (case, decision) in played.cases.iter().zip(&played.decisions) {
            let [held, roles_missing, released] = paths.entry(case.intent.get()).or_default();
            match (decision.outcome, &decision.requires) {
                (Outcome::Supervise, Some(_)) if case.approvals.is_empty() => *held = true,
                (Outcome::Supervise, Some(requires)) => {
                    let quorum = usize::try_from(requires.approvals).unwrap();
                    *roles_missing |= quorum > 1 && case.approvals.len() >= quorum;
                }
                (Outcome::Approve, _) => *released |= !case.approvals.is_empty(),
                _ => {}
            }
        }
        assert!(
            paths.values().any(|path| *path == [true; 3]),
            "{}: no intent is held, held for want of a role, and released",
            played.pack.name
        );
    }
}

#[test]
fn every_class_is_asked_for() {
    for played in PLAYED.iter() {
        let asked: BTreeSet<Class> = played.decisions.iter().filter_map(|d| d.class).collect();
        for class in Class::ALL {
            assert!(asked.contains(&class), "{}: no case of {class:?}", played.pack.name);
        }
    }
}

#[test]
fn every_rule_determines_a_case() {
    for played in PLAYED.iter() {
        let reasons = played.decisions.iter().flat_map(|decision| &decision.reasons);
        let seen: BTreeSet<&String> = reasons.filter_map(|r| r.policy.as_ref()).collect();
        for (id, text) in policies(played.pack.policy) {
            let asked = seen.contains(&id) || is_about_approvers(&text);
            assert!(asked, "{}: {id} determines no case of the table", played.pack.name);
        }
    }
}

/// A rule that can be taken away without a change to any answer protects nothing, or its table does
/// not show what. Some refuse where there is no authority either, and then say why; enough of them
/// are all that stands between an intent and its approval.
#[test]
fn taking_any_rule_away_changes_an_answer() {
    for played in PLAYED.iter() {
        let name = played.pack.name;
        let texts = policies(played.pack.policy);
        let mut alone = 0;
        for rule in played.policy.rules().iter().filter(|r| !is_about_approvers(&texts[&r.id])) {
            let fewer = Policy::load(&without(&texts, &rule.id), played.pack.schema);
            let fewer = match fewer {
                Ok(fewer) => fewer,
                // POL-13: without it the set is none at all.
                Err(faults) if faults.0.iter().all(|fault| fault.rule == "POL-13") => continue,
                Err(faults) => panic!("{name}: without {}:\n{faults}", rule.id),
            };
            // Where it determined nothing, its absence can't be noticed.
            let cases = played.cases.iter().zip(&played.decisions).filter(|(_, decision)| {
                decision.reasons.iter().any(|reason| reason.policy.as_ref() == Some(&rule.id))
            });
            let answers: Vec<(Expected, Expected)> = cases
                .map(|(case, before)| {
                    (answer(before), answer(&run(&fewer, &played.directory, case)))
                })
                .collect();
            let changes = answers.iter().any(|(before, now)| before != now);
            assert!(changes, "{name}: without {} every answer is the same", rule.id);
            let opens = answers.iter().any(|(before, now)| before.outcome != now.outcome);
            alone += usize::from(opens && rule.effect == Effect::Forbid);
            let needed = rule.effect == Effect::Permit;
            assert!(opens || !needed, "{name}: without {} every outcome is the same", rule.id);
        }
        assert!(alone >= 12, "{name}: only {alone} rules hold something back by themselves");
    }
}

/// POL-13, and more: in a pack nothing but approvals lifts what holds an emergency, for anybody.
#[test]
fn nobody_opens_an_emergency_alone() {
    let mut declared = 0;
    for pack in packs::ALL {
        if !pack.schema.contains("action \"gate:emergency\"") {
            continue;
        }
        declared += 1;
        let set = PolicySet::from_str(pack.policy).unwrap();
        let held = set.policies().any(|policy| {
            let json = policy.to_json().unwrap();
            policy.annotation("outcome") == Some("supervise")
                && json["principal"]["op"] == "All"
                && json["action"]["entity"]["id"] == "gate:emergency"
                && json["conditions"].as_array().unwrap().len() == 1
        });
        assert!(held, "{}: an emergency can be opened without people", pack.name);
    }
    assert_eq!(declared, 3);
}

/// Whom a policy text lets approve which of the pack's supervised intents, and by which rules.
struct Asking {
    schema: Schema,
    authorizer: Authorizer,
    /// Entities of each question: the people and what they are asked to approve.
    questions: Vec<(Entities, Vec<EntityUid>)>,
}

fn uid(kind: &str, id: &str) -> EntityUid {
    let kind = EntityTypeName::from_str(&format!("Gate::{kind}")).unwrap();
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

fn entity(kind: &str, id: &str, attrs: &Value, parents: &[Value]) -> Value {
    json!({ "uid": { "type": format!("Gate::{kind}"), "id": id }, "attrs": attrs, "parents": parents })
}

fn reference(kind: &str, id: &str) -> Value {
    json!({ "__entity": { "type": format!("Gate::{kind}"), "id": id } })
}

impl Asking {
    fn new(played: &Played) -> Self {
        let (schema, _) = Schema::from_cedarschema_str(played.pack.schema).unwrap();
        let directory: Value = serde_json::from_str(played.pack.directory).unwrap();
        let held = played.cases.iter().zip(&played.decisions);
        let questions = held
            .filter(|(_, decision)| decision.outcome == Outcome::Supervise)
            .map(|(case, decision)| question(&schema, &directory, case, decision))
            .collect();
        Self { schema, authorizer: Authorizer::new(), questions }
    }

    /// Each question's answer: allowed or not, and the rules that determined it.
    fn answers(&self, policy: &str) -> Vec<(bool, BTreeSet<String>)> {
        let set = PolicySet::from_str(policy).unwrap();
        let named = set.policies().map(|p| p.new_id(PolicyId::new(p.annotation("id").unwrap())));
        let set = PolicySet::from_policies(named).unwrap();
        let mut answers = Vec::new();
        for (entities, people) in &self.questions {
            for person in people {
                let (action, intent) = (uid("Action", "approve_intent"), uid("Intent", "asked"));
                let context = Context::empty();
                let schema = Some(&self.schema);
                let request =
                    Request::new(person.clone(), action, intent, context, schema).unwrap();
                let response = self.authorizer.is_authorized(&request, &set, entities);
                assert_eq!(response.diagnostics().errors().count(), 0);
                let rules = response.diagnostics().reason().map(ToString::to_string).collect();
                answers.push((response.decision() == cedar_policy::Decision::Allow, rules));
            }
        }
        answers
    }
}

/// The `Gate::Intent` of a supervised case, and everyone who could be asked.
fn question(
    schema: &Schema,
    directory: &Value,
    case: &Case,
    decision: &Decision,
) -> (Entities, Vec<EntityUid>) {
    let intent = Intent::parse(case.intent.get()).unwrap();
    let (actor, resource) = (intent.actor().unwrap(), intent.resource().unwrap());
    // The owner of an agent or service asks through it; a person asks for themselves.
    let machines = ["agents", "services"].map(|kind| directory[kind].as_array().unwrap());
    let machine = machines.into_iter().flatten().find(|m| m["id"] == actor.id.as_str());
    let owner = machine.map_or(actor.id.as_str(), |machine| machine["owner"].as_str().unwrap());
    let of_resource = directory["resources"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["type"] == resource.type_name.as_str())
        .filter(|r| {
            let id = r["id"].as_str().unwrap();
            id.strip_suffix('*').map_or(id == resource.id, |start| resource.id.starts_with(start))
        })
        .max_by_key(|r| r["id"].as_str().unwrap().len())
        .unwrap();
    let mut attrs = json!({
        "verb": intent.verb(),
        "class": decision.class.unwrap().as_str(),
        "destructive": decision.destructive,
        "requester": actor.id,
        "requester_owner": reference("Human", owner),
        "resource_owner": reference("Human", of_resource["owner"].as_str().unwrap()),
        "env": reference("Env", decision.environment.as_ref().unwrap()),
        "domain": reference("Domain", decision.domain.as_ref().unwrap()),
    });
    if let Some(person) = &actor.on_behalf_of {
        attrs["on_behalf_of"] = reference("Human", person);
    }
    let mut entities = vec![entity("Intent", "asked", &attrs, &[])];
    let mut people = Vec::new();
    let mut roles = BTreeSet::new();
    for person in directory["people"].as_array().unwrap() {
        let id = person["id"].as_str().unwrap();
        let held = person["roles"].as_array().unwrap();
        roles.extend(held.iter().map(|role| role.as_str().unwrap()));
        let parents: Vec<Value> =
            held.iter().map(|role| json!({ "type": "Gate::Role", "id": role })).collect();
        entities.push(entity("Human", id, &json!({}), &parents));
        people.push(uid("Human", id));
    }
    entities.extend(roles.into_iter().map(|role| entity("Role", role, &json!({}), &[])));
    (Entities::from_json_value(Value::Array(entities), Some(schema)).unwrap(), people)
}

#[test]
fn every_rule_about_approvers_matters() {
    for played in PLAYED.iter() {
        let asking = Asking::new(played);
        let texts = policies(played.pack.policy);
        let answers = asking.answers(played.pack.policy);
        let allowed: Vec<bool> = answers.iter().map(|(allowed, _)| *allowed).collect();
        for id in texts.iter().filter(|(_, t)| is_about_approvers(t)).map(|(id, _)| id) {
            let name = played.pack.name;
            let determines = answers.iter().any(|(_, rules)| rules.contains(id));
            assert!(determines, "{name}: {id} determines nobody's approval");
            let fewer = asking.answers(&without(&texts, id));
            let changes = fewer.iter().zip(&allowed).any(|((now, _), before)| now != before);
            assert!(changes, "{name}: without {id} the same people approve the same intents");
        }
    }
}

/// Whoever releases an intent in a table may approve it by the pack's own rules, so that no table
/// shows a release that the gate would never see.
#[test]
fn who_releases_may_approve() {
    for played in PLAYED.iter() {
        let (schema, _) = Schema::from_cedarschema_str(played.pack.schema).unwrap();
        let directory: Value = serde_json::from_str(played.pack.directory).unwrap();
        let held = played.cases.iter().zip(&played.decisions);
        for (case, decision) in held.filter(|(case, _)| !case.approvals.is_empty()) {
            if decision.outcome != Outcome::Approve {
                continue;
            }
            let (entities, people) = question(&schema, &directory, case, decision);
            let named = case.approvals.iter().map(|id| uid("Human", id));
            let named: Vec<EntityUid> = named.filter(|one| people.contains(one)).collect();
            let (schema, authorizer) = (schema.clone(), Authorizer::new());
            let asking = Asking { schema, authorizer, questions: vec![(entities, named)] };
            for (allowed, rules) in asking.answers(played.pack.policy) {
                let name = played.pack.name;
                assert!(allowed, "{name}: {}: an approval would not count: {rules:?}", case.name);
            }
        }
    }
}
