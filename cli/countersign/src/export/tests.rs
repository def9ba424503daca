#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use std::path::Path;

use countersign_core::encoding::{Micros, from_b64};
use countersign_core::hash::{LeafIndex, RecordRoot};
use countersign_core::kinds::Kind;
use countersign_core::stream::StreamId;
use serde_json::Value;

use super::*;

fn row(index: u64, text: &str) -> Row {
    Row {
        index: LeafIndex(index),
        kind: Kind::Verdict,
        logged_at: Micros(1_795_000_000_123_456),
        stream: StreamId([1; 16]),
        seq: 3,
        root: RecordRoot([2; 32]),
        erased: false,
        gate: "prod-1".to_owned(),
        recorded_at: "2026-11-23T12:00:00.000000Z".to_owned(),
        action_id: "019ab000-0000-7000-8000-000000000002".to_owned(),
        action: text.to_owned(),
        action_class: "delete".to_owned(),
        actor: text.to_owned(),
        actor_kind: "agent".to_owned(),
        on_behalf_of: String::new(),
        session: text.to_owned(),
        ticket: "OPS-1".to_owned(),
        grant: String::new(),
        justification: text.to_owned(),
        resource_type: "System".to_owned(),
        resource: text.to_owned(),
        environment: "prod".to_owned(),
        outcome: "refuse".to_owned(),
        mode: "enforce".to_owned(),
        reasons: vec!["R_ONE".to_owned()],
        policy_id: "p|q".to_owned(),
        policy_version: "1".to_owned(),
        policy_digest: String::new(),
        parent: String::new(),
        verdict: String::new(),
        approver: String::new(),
        decision: String::new(),
        result: String::new(),
        about: String::new(),
    }
}

const HOSTILE: &str = "a=b|c\\d\nCEF:0|x\r\"</script>\u{2028}e";

fn event<'a>(row: &'a Row, evidence: &'a str) -> Event<'a> {
    Event { origin: "ledger.acme.example/prod", row, evidence, result: Verdict::Valid }
}

#[test]
fn an_ocsf_event_holds_the_evidence_letter_by_letter() {
    let row = row(42, HOSTILE);
    let evidence = "{\n \"a\": \"=|\\\\\"\n}\n";
    let line = ocsf::line(&event(&row, evidence));
    assert!(!line.contains('\n'));
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["raw_data"], evidence);
    assert_eq!((&value["class_uid"], &value["type_uid"]), (&6003.into(), &600_304.into()));
    assert_eq!((&value["status_id"], &value["action_id"]), (&2.into(), &2.into()));
    assert_eq!(value["unmapped"]["countersign"]["actor"], HOSTILE);
    assert_eq!(value["metadata"]["uid"], "ledger.acme.example/prod#42");
    assert_eq!(value["time"], 1_795_000_000_123_u64);
    assert_eq!(ocsf::index_of(&line), Some(42));
}

/// XCH-1: what ends a line for somebody, or turns it around, is spelt out, and means the same.
#[test]
fn an_event_is_one_line_for_every_reader() {
    let text = "a\u{85}b\u{2028}c\u{2029}d\u{202e}e\u{2066}f\u{200b}g";
    let row = row(1, text);
    let evidence = format!("{{\"a\":\"{text}\"}}");
    let line = ocsf::line(&event(&row, &evidence));
    assert_eq!(escaped(&line), line);
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["raw_data"], evidence);
    assert_eq!(value["unmapped"]["countersign"]["action"], text);
}

/// A member that holds nothing is left out, but for the query's own line.
#[test]
fn ocsf_has_no_empty_members() {
    fn look(value: &Value, at: &str) {
        match value {
            Value::String(text) => assert!(!text.is_empty(), "{at}"),
            Value::Array(all) => {
                assert!(!all.is_empty(), "{at}");
                for value in all {
                    look(value, at);
                }
            }
            Value::Object(all) => {
                assert!(!all.is_empty(), "{at}");
                for (name, value) in all.iter().filter(|(name, _)| *name != "countersign") {
                    look(value, &format!("{at}/{name}"));
                }
            }
            Value::Null => panic!("{at}"),
            Value::Bool(_) | Value::Number(_) => {}
        }
    }
    for kind in Kind::ALL {
        let bare = Row { kind, gate: String::new(), outcome: String::new(), ..row(1, "") };
        let bare = Row { resource_type: String::new(), environment: String::new(), ..bare };
        let value: Value = serde_json::from_str(&ocsf::line(&event(&bare, "{}"))).unwrap();
        look(&value, "");
        assert_eq!(value["unmapped"]["countersign"]["action"], "", "as a query has it");
    }
}

/// Receivers count by the id, so that it must not be made by what a record says.
#[test]
fn signature_ids_are_few_and_labels_come_with_their_fields() {
    let mut ids = std::collections::BTreeSet::new();
    for kind in Kind::ALL {
        for text in ["one", "two"] {
            let row = Row {
                kind,
                grant: text.to_owned(),
                policy_id: text.to_owned(),
                about: match kind {
                    Kind::Erasure => text.to_owned(),
                    Kind::Key => format!("{text}: rotated"),
                    _ => "mode".to_owned(),
                },
                ..row(1, "")
            };
            let line = cef::line(&event(&row, "{}"));
            ids.insert(line.split('|').nth(4).unwrap().to_owned());
            let value: Value = serde_json::from_str(&ocsf::line(&event(&row, "{}"))).unwrap();
            assert_eq!(value["metadata"]["event_code"], line.split('|').nth(4).unwrap());
            let fields = unescaped(line.splitn(8, '|').nth(7).unwrap());
            let has = |name: &str| fields.iter().any(|(known, _)| known == name);
            for number in 1..=6 {
                assert_eq!(has(&format!("cs{number}")), has(&format!("cs{number}Label")), "{line}");
            }
            assert!(!has("cs1") && has("cs2"), "{line}");
        }
    }
    assert_eq!(ids.len(), Kind::ALL.len(), "{ids:?}");
    assert!(ids.contains("verdict.refuse") && ids.contains("grant"), "{ids:?}");
}

#[test]
fn every_kind_has_a_class_that_ocsf_knows() {
    for kind in Kind::ALL {
        let row = Row { kind, ..row(1, "x") };
        let value: Value = serde_json::from_str(&ocsf::line(&event(&row, "{}"))).unwrap();
        let class = value["class_uid"].as_u64().unwrap();
        assert!([6003, 3004, 6002].contains(&class), "{kind:?}");
        assert_eq!(value["category_uid"], class / 1000);
        let needed: &[&str] = match class {
            6003 => &["actor", "api", "src_endpoint"],
            3004 => &["entity"],
            _ => &["app"],
        };
        assert!(needed.iter().all(|name| value.get(*name).is_some()), "{kind:?}");
    }
}

/// A reader of CEF that undoes the escapes finds the very values, and exactly one line.
#[test]
fn a_cef_line_is_one_line_and_gives_back_what_it_was_given() {
    let row = row(7, HOSTILE);
    let evidence = "{\n \"a\": 1\n}\n";
    let line = cef::line(&event(&row, evidence));
    assert!(!line.contains(['\n', '\r', '\u{2028}']), "{line:?}");
    let heads: Vec<&str> = line.splitn(8, '|').collect();
    assert_eq!(&heads[..4], ["CEF:0", "Countersign", "Countersign", env!("CARGO_PKG_VERSION")]);
    let fields = unescaped(heads[7]);
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).unwrap().1.clone();
    // What is invisible is spelt out; everything else comes back as it was.
    assert_eq!(field("suser"), HOSTILE.replace('\u{2028}', "\\u{2028}"));
    assert_eq!(field("cs4"), "p|q 1");
    assert_eq!(from_b64(&field("countersignEvidence")).unwrap(), evidence.as_bytes());
    assert_eq!(cef::index_of(&line), Some(7));
}

/// The extension of a CEF line as its specification reads it: a key is a word before an unescaped
/// `=`, a value goes on until the next key.
fn unescaped(text: &str) -> Vec<(String, String)> {
    let bytes: Vec<char> = text.chars().collect();
    let equals: Vec<usize> = (0..bytes.len())
        .filter(|at| {
            let before = bytes[..*at].iter().rev().take_while(|c| **c == '\\').count();
            bytes[*at] == '=' && before % 2 == 0
        })
        .collect();
    let key_start =
        |equal: usize| bytes[..equal].iter().rposition(|c| *c == ' ').map_or(0, |at| at + 1);
    let value = |from: usize, to: usize| {
        let mut out = String::new();
        let mut chars = bytes[from..to].iter();
        while let Some(c) = chars.next() {
            match (c, if *c == '\\' { chars.next() } else { None }) {
                ('\\', Some('n')) => out.push('\n'),
                ('\\', Some('r')) => out.push('\r'),
                ('\\', Some(other)) => out.push(*other),
                (c, _) => out.push(*c),
            }
        }
        out
    };
    let rows = equals.iter().enumerate().map(|(i, equal)| {
        let end = equals.get(i + 1).map_or(bytes.len(), |next| key_start(*next) - 1);
        let key: String = bytes[key_start(*equal)..*equal].iter().collect();
        (key, value(equal + 1, end))
    });
    rows.collect()
}

#[test]
fn an_interrupted_file_is_gone_on_with_after_its_last_whole_event() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.cef");
    let lines: Vec<String> =
        (5..8).map(|index| cef::line(&event(&row(index, "x"), "{}"))).collect();
    let mut target = Target::open(&path, cef::index_of).unwrap();
    assert_eq!(target.next_index(), None);
    target.line(&lines[0]).unwrap();
    target.line(&lines[1]).unwrap();
    target.finish().unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{}", &lines[2][..20])).unwrap();
    let mut target = Target::open(&path, cef::index_of).unwrap();
    assert_eq!(target.next_index(), Some(7));
    target.line(&lines[2]).unwrap();
    target.finish().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), lines.join("\n") + "\n");
    foreign_files_are_left_alone(folder.path());
}

fn foreign_files_are_left_alone(folder: &Path) {
    for text in ["notes", "notes\n", "{}\n", "CEF:0|other|x|1|a|b|1|rt=1\n"] {
        let path = folder.join("foreign");
        std::fs::write(&path, text).unwrap();
        assert!(Target::open(&path, cef::index_of).is_err(), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
