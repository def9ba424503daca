//! The vectors of `spec/vectors/mirror` and `spec/vectors/alarm`, byte for byte as the log of these
//! tests writes them, and each alarm with what its name says.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_core::alarm::verify_alarm;
use countersign_core::codes::{Code, Fault};
use countersign_core::mirror::log_folder;
use countersign_core::trust::Trust;

use crate::alarm_corpus::true_alarms;
use crate::stage::{Files, Log, ORIGIN};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
}

fn trust() -> Trust {
    let text = fs::read_to_string(folder().join("mirror-trust.toml")).unwrap();
    Trust::parse(&text, |_| Err(Fault::from(Code::TrustMalformed))).unwrap()
}

/// What is in a folder, by its path below it.
fn read(dir: &Path) -> Files {
    let mut files = Files::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// MIRR-1: the mirror of the page.
#[test]
fn the_mirror_is_the_one_that_this_log_has() {
    let log = Log::new(600);
    let found = read(&folder().join("mirror").join(log_folder(ORIGIN)));
    assert!(found == log.mirror(&[300, 512, 513]), "spec/vectors/mirror is another log's");
    assert_eq!(trust().logs[0].vkey, log.vkey());
}

#[test]
fn every_alarm_comes_out_as_its_name_says() {
    let (_, alarms) = true_alarms();
    let mut expected = Files::new();
    for alarm in &alarms {
        expected.insert(format!("{}.alarm", alarm.proves().as_str()), alarm.to_bytes());
    }
    let mut found = read(&folder().join("alarm"));
    for (name, code) in [
        ("false-fork-of-one-root.alarm", "ALARM_NO_FORK"),
        ("false-rewrite-that-joins.alarm", "ALARM_JOINED"),
        ("false-rewrite-of-another-tree.alarm", "ALARM_HASHES"),
        ("false-order-moved.alarm", "INCLUSION_ROOT_MISMATCH"),
        ("false-stream-of-possible-numbers.alarm", "ALARM_NUMBERS"),
        ("false-fork-unsigned.alarm", "LOG_SIGNATURE_MISSING"),
    ] {
        let report = verify_alarm(&found.remove(name).expect(name), Some(&trust()));
        assert_eq!(report.result.as_str(), "INVALID", "{name}");
        assert_eq!(report.fault.map(|fault| fault.code.as_str()), Some(code), "{name}");
    }
    assert!(found == expected, "spec/vectors/alarm holds other alarms");
    for bytes in found.values() {
        assert_eq!(verify_alarm(bytes, Some(&trust())).result.as_str(), "VALID");
    }
}
