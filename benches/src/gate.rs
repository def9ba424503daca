//! The gate's decision, without I/O: policy sets of three sizes, and every AWS action there is on
//! production and development, by an agent and by a person.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use countersign_core::encoding::Micros;
use countersign_gate::{Decision, Directory, Facts, Intent, Outcome, Policy, decide, packs};

use crate::core::text;
use crate::figure::{Figure, number, percentile};
use crate::sample::Actions;

/// 2026-11-23T12:00:00Z, a Monday.
const NOW: Micros = Micros(1_795_435_200_000_000);
/// Verbs and resource types over which the policies of the made sets are spread.
const VERBS: usize = 20;
const TYPES: usize = 5;
/// Decisions of one sample.
const DECISIONS: usize = 20_000;
/// Resources that agents keep asking for, in turn. Beside it stand decisions of which each is on a
/// resource that was never asked for before.
const KNOWN: usize = 500;

/// Who and what the infrastructure pack's directory knows.
const ACTORS: [(&str, &str); 2] = [("agent", "infra-assistant-7"), ("human", "alice")];
const RESOURCES: [(&str, &str); 2] = [("prod", "storefront"), ("dev", "storefront-dev")];

/// Decision latency by the number of policies, and the rate over all actions.
pub(crate) fn decisions(actions: &Actions) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for (policies, known, new, budget) in [
        (
            100,
            ["decide_100_policies_p50", "decide_100_policies_p99"],
            ["decide_100_policies_new_p50", "decide_100_policies_new_p99"],
            100.0,
        ),
        (
            1_000,
            ["decide_1000_policies_p50", "decide_1000_policies_p99"],
            ["decide_1000_policies_new_p50", "decide_1000_policies_new_p99"],
            200.0,
        ),
    ] {
        for ([p50, p99], resources) in [(known, KNOWN), (new, DECISIONS)] {
            let sample = made_set(policies, resources)?;
            figures.push(Figure::plain(p50, percentile(&sample, 0.50), "us"));
            figures.push(Figure::at_most(p99, percentile(&sample, 0.99), "us", budget));
        }
    }
    figures.push(all_actions(actions)?);
    Ok(figures)
}

fn facts(directory: &Directory) -> Facts<'_> {
    Facts {
        now: NOW,
        directory,
        halts: &[],
        grant: None,
        session_actions: 0,
        emergency: false,
        approvals: &[],
    }
}

#[allow(clippy::disallowed_methods, reason = "measuring time is what a benchmark is for")]
fn timed(policy: &Policy, intent: &Intent, facts: &Facts<'_>) -> (f64, Decision) {
    let start = Instant::now();
    let decision = decide(policy, intent, facts);
    (start.elapsed().as_secs_f64() * 1e6, decision)
}

/// A set of so many policies, spread evenly over verbs and resource types, each with a condition
/// that the request meets in part; decided on so many resources in turn.
fn made_set(policies: usize, resources: usize) -> Result<Vec<f64>, String> {
    let (mut types, mut verbs) = (String::new(), String::new());
    for n in 0..TYPES {
        let _ = writeln!(
            types,
            "entity Kind{n} {{ env: Env, domain: Domain, owner: Human, labels: Set<String> }};"
        );
    }
    let kinds: Vec<String> = (0..TYPES).map(|n| format!("Kind{n}")).collect();
    for n in 0..VERBS {
        let _ = writeln!(
            verbs,
            "action verb{n} in [modify] appliesTo {{ principal: [Agent, Human], \
             resource: [{}], context: Context }};",
            kinds.join(", ")
        );
    }
    let base = packs::BASE_SCHEMA.trim_end().strip_suffix('}').ok_or("the base does not end")?;
    let schema = format!(
        "{base}\nentity Env enum [\"prod\", \"dev\"]; entity Domain enum [\"web\"];\n{types}{verbs}\
         action approve_intent appliesTo {{ principal: [Human], resource: [Intent], context: {{}} }};\n}}\n"
    );
    let mut set = String::from(
        "@id(\"authority\") @reason_code(\"A\")\n\
         permit (principal, action in Gate::Action::\"governed\", resource);\n",
    );
    for n in 1..policies {
        let _ = writeln!(
            set,
            "@id(\"p{n}\") @outcome(\"refuse\") @reason_code(\"R_{n}\")\n\
             forbid (principal is Gate::Agent, action == Gate::Action::\"verb{}\", \
             resource is Gate::Kind{})\n\
             when {{ context.destructive && resource.env == Gate::Env::\"prod\" && \
             resource.labels.contains(\"label-{n}\") }};",
            n % VERBS,
            n / VERBS % TYPES,
        );
    }
    let policy = Policy::load(&set, &schema).map_err(text)?;
    let directory = Directory::parse(
        r#"{"agents":[{"id":"a","class":"c","owner":"alice"}],"services":[],
            "people":[{"id":"alice","roles":["r"]}],
            "resources":[{"id":"k-*","type":"Kind3","environment":"prod","domain":"web",
                          "owner":"alice","labels":["label-none"],"attributes":{}}],
            "calendar":{"utc_offset_minutes":0,"freezes":[]}}"#,
    )
    .map_err(text)?;
    let facts = facts(&directory);
    let mut sample = Vec::with_capacity(DECISIONS);
    for n in 0..DECISIONS + DECISIONS / 10 {
        let intent = Intent::parse(&format!(
            r#"{{"verb":"verb7","class":"modify","destructive":true,
                "actor":{{"kind":"agent","id":"a"}},
                "resource":{{"type":"Kind3","id":"k-{}"}}}}"#,
            if resources < DECISIONS { n % resources } else { n },
        ))
        .map_err(|reason| format!("{reason:?}"))?;
        let (us, decision) = timed(&policy, &intent, &facts);
        if decision.outcome != Outcome::Approve {
            return Err(format!("the made set decided otherwise: {decision:?}"));
        }
        // A first tenth warms caches up.
        if n >= DECISIONS / 10 {
            sample.push(us);
        }
    }
    sample.sort_by(f64::total_cmp);
    Ok(sample)
}

/// Every action × two actors × two environments under the infrastructure pack; prints the outcomes
/// by access level, and gives the rate.
fn all_actions(actions: &Actions) -> Result<Figure, String> {
    let pack = packs::find("infrastructure").ok_or("no infrastructure pack")?;
    let policy = Policy::load(pack.policy, pack.schema).map_err(text)?;
    let directory = Directory::parse(pack.directory).map_err(text)?;
    let facts = facts(&directory);
    let mut table: BTreeMap<(String, &str, &str), [u64; 3]> = BTreeMap::new();
    let (mut decided, mut spent) = (0_u64, 0.0);
    for (action, level) in actions.rows() {
        for (kind, actor) in ACTORS {
            for (environment, resource) in RESOURCES {
                let intent = intent(action, level, (kind, actor), resource)?;
                let (us, decision) = timed(&policy, &intent, &facts);
                decided += 1;
                spent += us;
                let row = table.entry((level.clone(), environment, kind)).or_default();
                let at = match decision.outcome {
                    Outcome::Approve => 0,
                    Outcome::Supervise => 1,
                    Outcome::Refuse => 2,
                };
                if let Some(cell) = row.get_mut(at) {
                    *cell += 1;
                }
            }
        }
    }
    eprintln!(
        "{:<24} {:<6} {:<6} {:>9} {:>10} {:>9}",
        "level", "on", "by", "approved", "supervised", "refused"
    );
    for ((level, environment, kind), [approved, supervised, refused]) in &table {
        eprintln!(
            "{level:<24} {environment:<6} {kind:<6} {approved:>9} {supervised:>10} {refused:>9}"
        );
    }
    Ok(Figure::plain("decide_all_aws_actions", number(decided) / (spent / 1e6), "1/s"))
}

/// An action as an enforcement point would describe it: its class by access level and name.
fn intent(
    action: &str,
    level: &str,
    (kind, actor): (&str, &str),
    resource: &str,
) -> Result<Intent, String> {
    let name = action.split(':').nth(1).unwrap_or_default();
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let class = match level {
        "Read" | "List" => "read",
        "Permissions management" => "permissions",
        "Tagging" => "modify",
        _ if begins(&["Delete", "Terminate", "Remove", "Purge", "Destroy", "Deregister"]) => {
            "delete"
        }
        _ if begins(&["Create", "Run", "Register", "Allocate", "Import"]) => "create",
        _ if begins(&["Send", "Publish"]) => "send",
        _ if begins(&["Start", "Invoke", "Execute"]) => "execute",
        _ => "modify",
    };
    let intent = serde_json::json!({
        "verb": action,
        "class": class,
        "destructive": class == "delete",
        "actor": {"kind": kind, "id": actor, "session": "s-1"},
        "resource": {"type": "System", "id": resource},
        "task": {"ticket": "OPS-1", "justification": "routine change"},
    });
    Intent::parse(&intent.to_string()).map_err(|reason| format!("{action}: {reason:?}"))
}
