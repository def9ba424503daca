//! Alarms that prove nothing: honest logs accused, and true alarms changed in each of their parts.

use countersign_core::alarm::{ALARM_BYTES_MAX, Alarm, verify_alarm};
use countersign_core::encoding::b64;
use countersign_core::verify::Verdict;
use proptest::prelude::*;

use crate::alarms::{log_with, rewrite, run, two_histories};
use crate::stage::Log;

/// One true alarm of each kind, and the log that is guilty of all.
pub(crate) fn true_alarms() -> (Log, Vec<Alarm>) {
    let (one, other) = two_histories(300, 7);
    let guilty =
        log_with(300, &[(40, 9, 0, 1_000), (100, 8, 1, 0), (150, 8, 1, 0), (200, 8, 3, 0)]);
    let head = || guilty.head(300);
    let alarms = vec![
        Alarm::fork(one.head(300), other.head(300)).unwrap(),
        rewrite(other.head(200), &one),
        Alarm::order(head(), guilty.proven(40, 300), guilty.proven(250, 300)).unwrap(),
        Alarm::stream(head(), guilty.proven(100, 300), guilty.proven(150, 300)).unwrap(),
        Alarm::gap(head(), run(&guilty, 150, 201)).unwrap(),
    ];
    (one, alarms)
}

fn code(bytes: &[u8], log: &Log) -> String {
    let report = verify_alarm(bytes, Some(&log.trust()));
    let code = report.fault.map_or("none", |fault| fault.code.as_str());
    assert_eq!(report.shown.is_some(), report.result != Verdict::Invalid && report.fault.is_none());
    format!("{} {code}", report.result.as_str())
}

#[test]
fn honest_logs_are_not_accused() {
    let (log, other) = two_histories(300, 7);
    let refused =
        |alarm: Result<Alarm, countersign_core::codes::Fault>| alarm.unwrap_err().code.as_str();
    assert_eq!(refused(Alarm::fork(log.head(300), log.head(300))), "ALARM_NO_FORK");
    assert_eq!(refused(Alarm::fork(log.head(300), log.head(200))), "ALARM_NO_FORK");
    // ALRM-15: an older head shown later is no misbehaviour that a third party could see.
    let plan = countersign_core::alarm::RewritePlan::new(log.head(200).size, log.head(300).size);
    let plan = plan.unwrap();
    let (seed, hashes) = plan.finish(&log.nodes(&plan.nodes())).unwrap();
    let alarm = |small, large| Alarm::rewrite(small, large, seed, hashes.clone());
    assert_eq!(refused(alarm(log.head(200), log.head(300))), "ALARM_JOINED");
    assert_eq!(refused(alarm(log.head(300), log.head(200))), "CONSISTENCY_SIZES");
    // Hashes of no tree that the log signed.
    assert_eq!(refused(alarm(other.head(200), other.head(300))), "ALARM_HASHES");
    let mut stranger = log.clone();
    stranger.origin = "ledger.example/other".to_owned();
    assert_eq!(refused(alarm(stranger.head(200), log.head(300))), "CONSISTENCY_ORIGINS");
    assert_eq!(refused(Alarm::fork(stranger.head(300), other.head(300))), "CONSISTENCY_ORIGINS");
    // Entries that the head does not have, or not there.
    let pair = |i, j| Alarm::order(log.head(300), other.proven(i, 300), other.proven(j, 300));
    assert_eq!(refused(pair(7, 20)), "INCLUSION_ROOT_MISMATCH");
    assert_eq!(refused(pair(20, 7)), "ALARM_MALFORMED");
    assert_eq!(refused(pair(20, 20)), "ALARM_MALFORMED");
    let mut moved = log.proven(20, 300);
    moved.index.0 = 21;
    let alarm = Alarm::order(log.head(300), log.proven(10, 300), moved);
    assert_eq!(refused(alarm), "INCLUSION_ROOT_MISMATCH");
    assert_eq!(refused(Alarm::gap(log.head(300), run(&other, 5, 200))), "ALARM_HASHES");
}

#[test]
fn each_part_of_a_true_alarm_counts() {
    let (log, alarms) = true_alarms();
    for alarm in &alarms {
        let name = alarm.proves().as_str();
        let text = String::from_utf8(alarm.to_bytes()).unwrap();
        assert_eq!(code(text.as_bytes(), &log), "VALID none", "{name}");
        let note = alarm.heads()[0].as_str();
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        // Whose signature: none, another's, a changed one.
        let body = alarm.heads()[0].body();
        let unsigned = format!("{body}\n\u{2014} x {}\n", b64(&[7; 68]));
        let flipped = note.replacen("mirrored AA", "mirrored AB", 1);
        let mut cases = vec![
            (text.replacen(&quoted(note), &quoted(&unsigned), 1), "LOG_SIGNATURE_MISSING"),
            (text.replacen("alarm/v1", "alarm/v01", 1), "ALARM_MALFORMED"),
            (text.replacen(&format!("\"{name}\""), "\"theft\"", 1), "ALARM_MALFORMED"),
            (text.replacen("\"heads\": [", "\"heads\": [ ", 1), "ALARM_MALFORMED"),
            (text.replacen(" \"proves\"", " \"more\": 1,\n \"proves\"", 1), "MEMBER_UNKNOWN"),
            (text.replacen("\"heads\"", "\"headz\"", 1), "MEMBER_MISSING"),
            (
                text.replacen(" \"proves\"", " \"countersign\": \"alarm/v1\",\n \"proves\"", 1),
                "JSON_DUPLICATE_KEY",
            ),
            (text.trim_end().to_owned(), "ALARM_MALFORMED"),
            (format!("{text}\n"), "ALARM_MALFORMED"),
            (text[..text.len() / 2].to_owned(), "JSON_MALFORMED"),
            (String::new(), "JSON_MALFORMED"),
            ("[]".to_owned(), "ALARM_MALFORMED"),
        ];
        if flipped != note {
            cases.push((
                text.replacen(&quoted(note), &quoted(&flipped), 1),
                "LOG_SIGNATURE_MISSING",
            ));
        }
        for (changed, expected) in cases {
            assert_ne!(changed, text, "{name} {expected}");
            assert_eq!(code(changed.as_bytes(), &log), format!("INVALID {expected}"), "{name}");
        }
        // CONV-17: of a later version nothing is proved.
        let later = text.replacen("alarm/v1", "alarm/v2", 1);
        assert_eq!(code(later.as_bytes(), &log), "INDETERMINATE VERSION_UNKNOWN");
        // ALRM-11: what holds without a key proves nothing without it.
        let report = verify_alarm(text.as_bytes(), None);
        assert_eq!(report.result, Verdict::Indeterminate);
        assert!(report.shown.is_some());
    }
    let oversized = vec![b' '; ALARM_BYTES_MAX + 1];
    assert_eq!(code(&oversized, &log), "INVALID ALARM_OVERSIZED");
}

#[test]
fn each_hash_and_number_of_a_true_alarm_counts() {
    let (log, alarms) = true_alarms();
    for alarm in &alarms {
        let text = String::from_utf8(alarm.to_bytes()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut hashes: Vec<String> = Vec::new();
        for member in ["hashes", "peaks"] {
            let list = value[member].as_array().into_iter().flatten();
            hashes.extend(list.map(|hash| hash.as_str().unwrap().to_owned()));
        }
        hashes.extend(value["seed"].as_str().map(str::to_owned));
        for entry in value["entries"].as_array().into_iter().flatten() {
            let path = entry["path"].as_array().unwrap().iter();
            hashes.extend(path.map(|hash| hash.as_str().unwrap().to_owned()));
            let index = entry["index"].as_u64().unwrap();
            let moved = text.replacen(
                &format!("\"index\": {index},"),
                &format!("\"index\": {},", index + 1),
                1,
            );
            assert!(code(moved.as_bytes(), &log).starts_with("INVALID "), "{moved}");
        }
        for hash in hashes {
            let zeros = text.replacen(&hash, &b64(&[0; 32]), 1);
            let result = code(zeros.as_bytes(), &log);
            assert!(result.starts_with("INVALID "), "{}: {result}", alarm.proves().as_str());
            let gone = text.replacen(&format!("\"{hash}\""), "\"\"", 1);
            assert_eq!(code(gone.as_bytes(), &log), "INVALID BASE64");
        }
        if let Some(from) = value["from"].as_u64() {
            for other in [from - 1, from + 1, 1 << 53, u64::MAX] {
                let text =
                    text.replacen(&format!("\"from\": {from}"), &format!("\"from\": {other}"), 1);
                assert!(code(text.as_bytes(), &log).starts_with("INVALID "), "{other}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever byte of a true alarm is changed: never a panic, and never VALID, but where the
    /// byte is one of a line that is not the log's.
    #[test]
    fn no_changed_byte_proves_anything_else(which in 0_usize..5, at: usize, bit in 0_u8..8) {
        let (log, alarms) = true_alarms();
        let alarm = &alarms[which];
        let mut bytes = alarm.to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let report = verify_alarm(&bytes, Some(&log.trust()));
        if report.result == Verdict::Valid {
            let changed = Alarm::parse(&bytes).unwrap();
            prop_assert_eq!(changed.proves(), alarm.proves());
            for (one, other) in changed.heads().iter().zip(alarm.heads()) {
                prop_assert_eq!(one.body(), other.body());
            }
            prop_assert_eq!(changed.shown(), alarm.shown());
        }
    }

    #[test]
    fn hostile_texts_do_not_panic(text in r#"\{"countersign": ?"alarm/v1",[ -~\n]{0,200}\}"#) {
        let report = verify_alarm(text.as_bytes(), None);
        prop_assert_ne!(report.result, Verdict::Valid);
    }
}
