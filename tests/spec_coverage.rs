//! Every rule of `spec/` is defined once, every citation cites a rule, and rules that neither code
//! nor test cites are listed here with the reason. The list can only shrink.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Why nothing cites a rule yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// The program that it binds comes with a later issue.
    Later,
    /// It binds people, operators or other programs, and no line here could break it.
    Elsewhere,
    /// It is kept without being named where it is kept.
    Unnamed,
}

/// Rules that neither code nor test cites.
const UNCITED: &[(&str, Why)] = &[
    ("CERT-11", Why::Unnamed),
    ("CONS-4", Why::Elsewhere),
    ("CONV-1", Why::Unnamed),
    ("CONV-10", Why::Unnamed),
    ("CONV-11", Why::Unnamed),
    ("CONV-12", Why::Unnamed),
    ("CONV-13", Why::Unnamed),
    ("CONV-14", Why::Unnamed),
    ("CONV-15", Why::Unnamed),
    ("CONV-16", Why::Unnamed),
    ("CONV-18", Why::Unnamed),
    ("CONV-19", Why::Unnamed),
    ("CONV-20", Why::Unnamed),
    ("ENT-5", Why::Unnamed),
    ("ENT-7", Why::Unnamed),
    ("EVID-8", Why::Unnamed),
    ("EVID-9", Why::Unnamed),
    ("EVID-10", Why::Elsewhere),
    ("KIND-2", Why::Unnamed),
    ("KIND-10", Why::Unnamed),
    ("KIND-11", Why::Unnamed),
    ("KIND-13", Why::Later),
    ("NOTE-8", Why::Unnamed),
    ("NOTE-9", Why::Unnamed),
    ("RCPT-1", Why::Unnamed),
    ("RCPT-2", Why::Unnamed),
    ("RCPT-4", Why::Unnamed),
    ("REC-1", Why::Unnamed),
    ("REC-7", Why::Unnamed),
    ("REC-9", Why::Unnamed),
    ("REC-11", Why::Unnamed),
    ("STR-12", Why::Unnamed),
    ("TRUST-1", Why::Unnamed),
    ("TRUST-2", Why::Unnamed),
    ("TRUST-3", Why::Unnamed),
    ("TRUST-6", Why::Unnamed),
    ("TRUST-7", Why::Unnamed),
    ("TRUST-8", Why::Unnamed),
    ("TRUST-9", Why::Unnamed),
];

/// This file, whose list is no citation.
const THIS: &str = "tests/spec_coverage.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files below `dir` with this ending, in order.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Words that look like ids, `REC-4`, and what stands behind each.
fn ids(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split_inclusive(move |c| !is_part(c)).filter_map(move |word| {
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (word, _) = word.split_at_checked(end)?;
        let (prefix, number) = word.split_once('-')?;
        let at = word.as_ptr().addr() - text.as_ptr().addr() + word.len();
        let is_id = !prefix.is_empty()
            && prefix.bytes().all(|b| b.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit());
        is_id.then(|| (word, text.get(at..).unwrap_or_default()))
    })
}

/// The ids that a text cites, those in the middle of `EVID-1 to EVID-6` included.
fn cited(text: &str, prefixes: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (id, rest) in ids(text) {
        let (prefix, first) = id.split_once('-').unwrap();
        if !prefixes.contains(prefix) {
            continue;
        }
        found.insert(id.to_owned());
        let Some((last, _)) = rest.strip_prefix(" to ").and_then(|rest| ids(rest).next()) else {
            continue;
        };
        let Some((same, last_number)) = last.split_once('-') else { continue };
        if same == prefix && rest.starts_with(&format!(" to {last}")) {
            let numbers = first.parse::<u32>().unwrap()..last_number.parse().unwrap();
            found.extend(numbers.map(|number| format!("{prefix}-{number}")));
        }
    }
    found
}

/// The rules: each id in bold at its definition, and how often.
fn defined() -> BTreeMap<String, usize> {
    let mut rules = BTreeMap::new();
    for path in files(&root().join("spec"), "md") {
        let text = std::fs::read_to_string(path).unwrap();
        for part in text.split("**").skip(1).step_by(2) {
            if ids(part).next().is_some_and(|(id, rest)| id == part && rest.is_empty()) {
                *rules.entry(part.to_owned()).or_insert(0) += 1;
            }
        }
    }
    rules
}

#[derive(Default)]
struct Citations {
    in_code: BTreeSet<String>,
    in_tests: BTreeSet<String>,
    unknown: Vec<String>,
}

fn citations(rules: &BTreeMap<String, usize>) -> Citations {
    let prefixes =
        rules.keys().map(|id| id.split_once('-').unwrap().0.to_owned()).collect::<BTreeSet<_>>();
    let mut all = Citations::default();
    let root = root();
    let rooms = ["crates", "cli", "tests", "fuzz/targets", "benches"];
    for path in rooms.iter().flat_map(|room| files(&root.join(room), "rs")) {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        if name == THIS {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let found = cited(&text, &prefixes);
        let unknown = found.iter().filter(|id| !rules.contains_key(*id));
        all.unknown.extend(unknown.map(|id| format!("{name} cites {id}, which no page defines")));
        // A module's own tests stand at its end.
        let (code, tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
        if name.starts_with("tests/") || name.contains("/tests/") || name.contains("/tests.rs") {
            all.in_tests.extend(found);
        } else {
            all.in_code.extend(cited(code, &prefixes));
            all.in_tests.extend(cited(tests, &prefixes));
        }
    }
    all
}

#[test]
fn every_rule_is_defined_once() {
    let rules = defined();
    assert!(rules.len() > 100, "only {} rules were found: is spec/ there?", rules.len());
    let twice: Vec<_> = rules.iter().filter(|(_, count)| **count > 1).collect();
    assert_eq!(twice, Vec::<(&String, &usize)>::new());
}

#[test]
fn every_citation_cites_a_rule() {
    assert_eq!(citations(&defined()).unknown, Vec::<String>::new());
}

#[test]
fn rules_that_nothing_cites_are_listed_and_the_list_only_shrinks() {
    let rules = defined();
    let Citations { in_code, in_tests, .. } = citations(&rules);
    let uncited: BTreeSet<&str> = rules
        .keys()
        .filter(|id| !in_code.contains(*id) && !in_tests.contains(*id))
        .map(String::as_str)
        .collect();
    let listed: BTreeSet<&str> = UNCITED.iter().map(|(id, _)| *id).collect();
    assert_eq!(listed.len(), UNCITED.len(), "an id is listed twice");
    let only = |some: &BTreeSet<String>, others: &BTreeSet<String>| -> Vec<String> {
        some.difference(others).filter(|id| rules.contains_key(*id)).cloned().collect()
    };
    println!(
        "{} rules; cited by code only: {}; cited by tests only: {}; by neither: {}",
        rules.len(),
        only(&in_code, &in_tests).join(" "),
        only(&in_tests, &in_code).join(" "),
        uncited.len(),
    );
    let missing: Vec<_> = uncited.difference(&listed).collect();
    assert!(missing.is_empty(), "cite these in code or test, or list them in {THIS}: {missing:?}");
    let stale: Vec<_> = listed.difference(&uncited).collect();
    assert!(stale.is_empty(), "these are cited now, or gone: delete their lines: {stale:?}");
}

#[test]
fn ids_are_found_and_ranges_filled() {
    let prefixes = BTreeSet::from(["REC".to_owned(), "EVID".to_owned()]);
    let text = "caps (REC-3), EVID-1 to EVID-3; SHA-256, REC-4_x REC-5-1 REC-x rec-6 REC-7.";
    let found: Vec<String> = cited(text, &prefixes).into_iter().collect();
    assert_eq!(found, ["EVID-1", "EVID-2", "EVID-3", "REC-3", "REC-7"]);
}
