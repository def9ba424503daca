//! The calls of AgentDojo's four workplaces through the real gate service, under the pack
//! `workplace`: what users asked for, and what attackers' texts made agents do under those users'
//! grants. The tables stand in spec/workplace-attacks.md as this test measures them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the unexpected should stop where it stands"
)]

mod calls;
mod prompt;

use std::fmt::Write as _;
use std::path::Path;

use calls::{Asked, Tally};
use countersign_tests::Installation;

fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_attack_that_sends_money_or_data_is_approved() {
    let data = tree().join("../shared/data/agentdojo_calls.jsonl");
    if !data.exists() {
        println!("not run: the calls of ../shared/data, which is absent");
        return;
    }
    let mut all = Installation::new();
    all.start_ledger().await;
    all.use_pack(&tree().join("crates/countersign-gate/packs/workplace")).await;
    let (mut intents, mut asked): (String, Vec<Asked>) = Default::default();
    for desk in calls::desks(&calls::tasks(&data)) {
        let file = all.beside("terms.json");
        std::fs::write(&file, desk.terms.to_string()).unwrap();
        let command = ["grant", "issue", &desk.grant, "--terms", file.to_str().unwrap()];
        all.gate(&command, "policy-admin");
        for one in desk.asked {
            writeln!(intents, "{}", one.intent).unwrap();
            asked.push(one);
        }
    }
    let file = all.beside("intents.jsonl");
    std::fs::write(&file, intents).unwrap();
    let out = all.beside("out");
    let said = all.gate(
        &[
            "evaluate",
            file.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
            "--output",
            "jsonl",
            "--in-flight",
            "32",
        ],
        "pep",
    );
    let answers = said.lines();
    assert_eq!(answers.len(), asked.len());
    let mut tally = Tally::default();
    for (asked, answer) in asked.iter().zip(&answers) {
        tally.count(asked, answer["outcome"].as_str().unwrap());
    }
    assert!(tally.escaped.is_empty(), "{:#?}", tally.escaped);
    let page = std::fs::read_to_string(tree().join("spec/workplace-attacks.md")).unwrap();
    for table in [tally.workplaces(), tally.functions(true), tally.functions(false)] {
        println!("{table}");
        assert!(
            page.contains(&table),
            "spec/workplace-attacks.md has another table than:\n{table}"
        );
    }
}
