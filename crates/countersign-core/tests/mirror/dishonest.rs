//! Whole and undamaged mirrors of a log that lied and signed it (MIRR-7, MIRR-4, MIRR-10).

use countersign_core::alarm::Alarm;
use countersign_core::encoding::Micros;
use countersign_core::entry::Entry;
use countersign_core::kinds::Kind;
use countersign_core::mirror::MirrorFile;
use countersign_core::stream::StreamId;
use countersign_core::verify::Verdict;

use crate::stage::{BEGIN, Log, entry, said, verify};

/// A log of 600 of which one entry is another.
fn lying(index: usize, change: impl FnOnce(&mut Entry)) -> Log {
    let mut log = Log::new(600);
    let mut entry = Entry::from_bytes(&log.entries[index]).unwrap();
    change(&mut entry);
    log.entries[index] = entry.to_bytes().to_vec();
    log
}

fn verdict(log: &Log) -> String {
    said(&verify(&log.mirror(&[256, 300]), Some(&log.trust())))
}

#[test]
fn times_never_decrease() {
    // Inside a bundle, at its first entry, and behind one that is far ahead.
    for index in [5, 256, 300, 599] {
        let log = lying(index, |entry| entry.logged_at = Micros(entry.logged_at.0 - 2));
        assert_eq!(
            verdict(&log).split(" #").next().unwrap(),
            named("MIRROR_TIME_ORDER", &log, index)
        );
    }
    let equal = lying(256, |entry| entry.logged_at = Micros(entry.logged_at.0 - 1));
    assert_eq!(verdict(&equal), "VALID", "equal times are none that decrease");
    let ahead = lying(255, |entry| entry.logged_at = Micros(entry.logged_at.0 + 10));
    assert_eq!(verdict(&ahead), "MIRROR_TIME_ORDER @256");
}

/// A finding with the entry's index and stream, as far as its bundle's own check names them.
fn named(code: &str, log: &Log, index: usize) -> String {
    let stream = Entry::from_bytes(&log.entries[index]).unwrap().stream;
    if index.is_multiple_of(256) {
        format!("{code} @{index}")
    } else {
        format!("{code} @{index} {:02x}", stream.0[0])
    }
}

#[test]
fn streams_have_every_number_once() {
    for index in [7, 255, 256, 300, 599] {
        for (by, code) in
            [(1, "MIRROR_SEQ_GAP"), (1_000, "MIRROR_SEQ_GAP"), (-1, "MIRROR_SEQ_REPEATED")]
        {
            let log = lying(index, |entry| entry.seq = entry.seq.wrapping_add_signed(by));
            let entry = Entry::from_bytes(&log.entries[index]).unwrap();
            let place = format!("@{index} {:02x} #{}", entry.stream.0[0], entry.seq);
            assert_eq!(verdict(&log), format!("{code} {place}"));
        }
    }
    // A stream that does not begin at 0, and one that ends at the last number there is.
    let log = lying(300, |entry| entry.stream = StreamId([9; 16]));
    assert!(verdict(&log).starts_with("MIRROR_SEQ_GAP @300 09 #"), "{}", verdict(&log));
    let mut log = Log::new(600);
    for (at, seq) in [(100, 0), (101, u64::MAX), (102, 0)] {
        log.entries[at] = entry(at as u64, 9, seq).to_bytes().to_vec();
    }
    let report = verify(&log.mirror(&[]), Some(&log.trust()));
    let codes: Vec<_> = report.findings.iter().take(2).map(|f| f.fault.code.as_str()).collect();
    assert_eq!(codes, ["MIRROR_SEQ_GAP", "MIRROR_SEQ_REPEATED"]);
}

#[test]
fn the_log_begins_once() {
    assert_eq!(verdict(&lying(0, |entry| entry.kind = Kind::Notice)), "GENESIS_PLACE @0 00 #0");
    let again = lying(40, |entry| entry.kind = Kind::Genesis);
    assert!(verdict(&again).starts_with("GENESIS_PLACE @40 "), "{}", verdict(&again));
}

/// MIRR-12: an entry of a later version leaves a doubt, and no false accusation.
#[test]
fn unknown_entries_may_be_what_is_missing() {
    for at in [7, 255, 256, 599] {
        let mut log = Log::new(600);
        log.entries[at][0] = 2;
        let report = verify(&log.mirror(&[300]), Some(&log.trust()));
        assert_eq!(said(&report), format!("MIRROR_ENTRY_UNREAD @{at}"));
        assert_eq!((report.result, report.found), (Verdict::Indeterminate, [0, 1, 0]));
        // One unread entry explains one number, and not two.
        let stream = Entry::from_bytes(&Log::new(600).entries[at]).unwrap().stream;
        let later =
            (at + 1..600).find(|i| Entry::from_bytes(&log.entries[*i]).unwrap().stream == stream);
        let Some(later) = later else { continue };
        let mut entry = Entry::from_bytes(&log.entries[later]).unwrap();
        entry.seq += 1;
        log.entries[later] = entry.to_bytes().to_vec();
        let report = verify(&log.mirror(&[300]), Some(&log.trust()));
        assert!(
            said(&report).starts_with(&format!("MIRROR_SEQ_GAP @{later} ")),
            "{}",
            said(&report)
        );
    }
}

#[test]
fn a_clock_behind_its_entries_is_a_fault() {
    let mut log = Log::new(600);
    log.clock_off = -1;
    assert_eq!(verdict(&log), format!("CLOCK_BEFORE_ENTRY {}", MirrorFile::Head(256)));
    log.clock_off = 100;
    assert_eq!(verdict(&log), "VALID");
    assert_eq!(BEGIN % 1_000_000, 0, "a second begins there, so that one less is behind");
}

/// MIRR-10: an alarm that is true is about this log whatever the files say.
#[test]
fn a_true_alarm_beside_the_mirror_is_a_fault() {
    let (log, other) = (Log::new(600), lying(5, |entry| entry.seq += 1));
    let alarm = Alarm::fork(log.head(300), other.head(300)).unwrap();
    let path = format!("alarms/{}", alarm.file_name());
    let mut files = log.mirror(&[]);
    files.insert(path.clone(), alarm.to_bytes());
    let report = verify(&files, Some(&log.trust()));
    assert_eq!((said(&report), report.counts.alarms), (format!("MIRROR_ALARM {path}"), 1));
    // One that is false is named, and no more.
    files.insert(path, b"{}".to_vec());
    let report = verify(&files, Some(&log.trust()));
    assert_eq!((report.result, report.found), (Verdict::Valid, [0, 0, 1]));
    assert_eq!(report.findings[0].fault.code.as_str(), "ALARM_MALFORMED");
}
