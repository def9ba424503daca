//! Every AWS action there is, asked by an agent and by a person on production and on development,
//! under the infrastructure pack: what `./x bench --only gate` prints as a table, held here.

use std::collections::BTreeMap;
use std::path::Path;

use countersign_core::encoding::Micros;
use countersign_gate::{Directory, Facts, Intent, Outcome, decide, packs};
use serde_json::json;

use crate::load;

/// A Monday, 12:00 UTC.
const NOW: Micros = Micros(1_795_435_200_000_000);

/// Each action as `service:Action`, with its access level; none where the table is absent.
fn actions() -> Option<Vec<(String, String)>> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(tree.join("../shared/data/aws_actions.tsv")).ok()?;
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        (format!("{}:{}", cells[0], cells[1]), cells[2].to_owned())
    };
    Some(text.lines().skip(1).map(row).collect())
}

/// The class that an enforcement point would claim, by access level and name.
fn class(action: &str, level: &str) -> &'static str {
    let name = action.split_once(':').unwrap().1;
    let begins = |all: &[&str]| all.iter().any(|prefix| name.starts_with(prefix));
    match level {
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
    }
}

#[test]
fn an_agent_reads_on_production_and_does_nothing_else_there() {
    let Some(actions) = actions() else {
        println!("not run: the actions of ../shared/data, which is absent");
        return;
    };
    let pack = packs::find("infrastructure").unwrap();
    let policy = load(pack.name, pack.policy, pack.schema);
    let directory = Directory::parse(pack.directory).unwrap();
    let facts = Facts {
        now: NOW,
        directory: &directory,
        halts: &[],
        grant: None,
        session_actions: 0,
        emergency: false,
        approvals: &[],
    };
    let ask = |(action, level): &(String, String), (kind, id): (&str, &str), on: &str| {
        let class = class(action, level);
        let intent = json!({
            "verb": action,
            "class": class,
            "destructive": class == "delete",
            "actor": {"kind": kind, "id": id, "session": "s-1"},
            "resource": {"type": "System", "id": on},
            "task": {"ticket": "OPS-1", "justification": "routine change"},
        });
        decide(&policy, &Intent::parse(&intent.to_string()).unwrap(), &facts).outcome
    };
    let (agent, person) = (("agent", "infra-assistant-7"), ("human", "alice"));
    // By level: approved, supervised, refused.
    let mut told: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut supervised = Vec::new();
    for row in &actions {
        let outcome = ask(row, agent, "storefront");
        told.entry(&row.1).or_default()[place(outcome)] += 1;
        if outcome == Outcome::Supervise {
            supervised.push(row.0.as_str());
        }
    }
    let expected = [
        ("List", [3_409, 0, 0]),
        ("Permissions management", [0, 0, 535]),
        ("Read", [5_433, 2, 0]),
        ("Tagging", [0, 0, 701]),
        ("Write", [0, 0, 10_375]),
    ];
    assert_eq!(told, BTreeMap::from(expected));
    // What reads a secret is held for somebody to look at.
    assert_eq!(supervised, ["secretsmanager:GetSecretValue", "ssm:GetParameter"]);
    // A sample of the rest: that much is not refused for want of knowing it.
    for row in actions.iter().step_by(40) {
        let is_read = ["Read", "List"].contains(&row.1.as_str());
        for (who, on) in
            [(agent, "storefront-dev"), (person, "storefront"), (person, "storefront-dev")]
        {
            let outcome = ask(row, who, on);
            assert!(!is_read || outcome == Outcome::Approve, "{row:?} {who:?} {on}");
            let deletes = class(&row.0, &row.1) == "delete" && on == "storefront";
            assert!(!deletes || outcome != Outcome::Approve, "{row:?}: a person alone");
        }
        let dev = ask(row, agent, "storefront-dev");
        assert!(row.1 != "Write" || dev != Outcome::Supervise, "{row:?}: nobody waits for dev");
    }
    let restart = ("elasticbeanstalk:RestartAppServer".to_owned(), "Write".to_owned());
    assert_eq!(ask(&restart, agent, "storefront-dev"), Outcome::Approve);
}

fn place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Approve => 0,
        Outcome::Supervise => 1,
        Outcome::Refuse => 2,
    }
}
