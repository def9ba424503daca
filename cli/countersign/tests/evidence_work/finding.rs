//! What a responder asks at night: one command, words instead of codes, and an error that says what
//! to do.

use super::*;

/// Installs another ledger's files beside the house; its trust file names another log.
fn another_trust_file(house: &House) -> PathBuf {
    let dir = house.beside("elsewhere");
    let made = countersign()
        .args(["init", "--origin", "other.example", "--tenant", "acme", "--gate", "g", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    dir.join("trust.toml")
}

#[test]
fn who_decided_an_action_is_one_question() {
    let house = House::new();
    let found = house.query(&["--outcome", "supervise"]);
    let with = house.query(&["--outcome", "supervise", "--with-answers"]);
    // The example's supervised verdicts are all that there is of their actions.
    assert_eq!(with, found);
    // Every record of an action that is found comes with it, once, though another was asked for.
    let action = found[0]["action_id"].as_str().unwrap();
    let of_action = house.query(&["--action-id", action]);
    let newest = ["--action-id", action, "--newest-first", "--with-answers"];
    let mut turned = house.query(&newest);
    turned.reverse();
    assert_eq!(turned, of_action);

    let table = house.expect(0, &["query", "--action-id", action], "responder");
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.lines().next().unwrap().ends_with("ACTION ID"), "{text}");
    assert!(text.lines().nth(1).unwrap().ends_with(action), "{text}");
    let all = house.expect(0, &["query", "--kind", "policy"], "responder");
    let text = String::from_utf8(all.stdout).unwrap();
    assert!(text.contains("rules in force: infra 3"), "{text}");
    let recent = house.query(&["--kind", "verdict", "--since", "1h"]);
    assert_eq!(recent.len(), VERDICTS);
    house.expect(3, &["query", "--kind", "verdict", "--until", "1h"], "responder");
    house.expect(2, &["query", "--since", "1h", "--until", "2h"], "responder");
}

#[test]
fn a_watch_is_for_people_too() {
    let house = House::new();
    let what =
        ["watch", "--kind", "policy", "--kind", "verdict", "--count", "3", "--output", "human"];
    let output = house.expect(0, &what, "auditor");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("rules in force: infra 3") && !text.contains('{'), "{text}");
    assert!(text.lines().all(|line| line.starts_with(|c: char| c.is_ascii_digit())), "{text}");
}

#[test]
fn evidence_is_verified_under_the_trust_file_of_the_installation() {
    let house = House::new();
    let row = house.query(&["--outcome", "refuse"]).remove(0);
    let out = house.beside("proof");
    let what = ["evidence", row["action_id"].as_str().unwrap(), "--out", out.to_str().unwrap()];
    let output = house.expect(0, &what, "responder");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.ends_with(": VALID\n"), "{text}");
    assert!(!said(&output).contains("not against a trust file"), "{}", said(&output));
    // What is not there was not verified, and is not wrong.
    let unknown = "0193ad5e-7c00-7000-8000-0000000000ff";
    for which in [unknown, "999999999"] {
        let what = ["evidence", which, "--out", out.to_str().unwrap()];
        let output = house.call(&what, "responder");
        assert_eq!(output.status.code(), Some(3), "{which}: {}", said(&output));
    }
}

#[test]
fn another_log_s_trust_file_is_named_and_not_the_ledger_blamed() {
    let house = House::new();
    let trust = another_trust_file(&house);
    let out = house.beside("pack");
    let [trust, path] = [&trust, &out].map(|path| path.to_str().unwrap());
    let export = ["export", "--cef", "--out", "-", "--trust", trust];
    for what in [&["pack", "--out", path, "--trust", trust][..], &export] {
        let output = house.expect(2, what, "auditor");
        assert!(said(&output).contains("does not name this log"), "{}", said(&output));
    }
    assert!(!house.beside("pack.partial").exists(), "nothing was begun");
    // Nor is anything left of a pack for which nothing could be fetched.
    let none = ["pack", "--complete", "--gate", "nobody", "--out", path];
    house.expect(1, &none, "auditor");
    assert!(!house.beside("pack.partial").exists(), "nothing is left");
}

#[test]
fn a_pack_s_readme_names_what_is_there() {
    let house = House::new();
    let pack = house.pack("pack", &["--complete"]);
    let readme = fs::read_to_string(pack.join("README.txt")).unwrap();
    for name in ["evidence", "heads", "consistency", "policies", "certificates", "entries.bin"] {
        let told = readme.lines().any(|line| line.starts_with(name));
        assert_eq!(told, pack.join(name).exists(), "{name}: {readme}");
    }
    assert!(!pack.join("consistency").exists(), "it begins with the log");
    let head = house.check(&pack).head.0.to_string();
    house.submit("second", VERDICTS, 3);
    let half = house.pack("half", &["--complete", "--from-head", &head]);
    let readme = fs::read_to_string(half.join("README.txt")).unwrap();
    assert!(readme.contains("consistency/") && half.join("consistency").is_dir(), "{readme}");
}
