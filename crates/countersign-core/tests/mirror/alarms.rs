//! Alarms that are true: built from what a mirror saw, read back, and verified with the log's key
//! alone (ALRM-1 to ALRM-14).

use countersign_core::alarm::{
    Alarm, ProvenRun, Proves, RUN_ENTRIES_MAX, RewritePlan, Shown, verify_alarm,
};
use countersign_core::encoding::Micros;
use countersign_core::entry::{ENTRY_BYTES, Entry};
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::merkle::verify_consistency;
use countersign_core::mirror::MirrorFile;
use countersign_core::note::SignedCheckpoint;
use countersign_core::verify::Verdict;

use crate::stage::{Log, ORIGIN, entry};

/// Two logs under one key that differ in the entry with this index.
pub(crate) fn two_histories(size: u64, differ: usize) -> (Log, Log) {
    let (one, mut other) = (Log::new(size), Log::new(size));
    other.entries[differ][65] ^= 1;
    (one, other)
}

/// The alarm that a larger head does not continue a smaller one, from the larger one's tree.
pub(crate) fn rewrite(smaller: SignedCheckpoint, larger: &Log) -> Alarm {
    let head = larger.head(larger.size());
    let plan = RewritePlan::new(smaller.size, head.size).unwrap();
    let (seed, hashes) = plan.finish(&larger.nodes(&plan.nodes())).unwrap();
    Alarm::rewrite(smaller, head, seed, hashes).unwrap()
}

/// All entries from one index to another, joined to the log's head.
pub(crate) fn run(log: &Log, from: u64, to: u64) -> ProvenRun {
    let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
    let entry = |entry: &Vec<u8>| <[u8; ENTRY_BYTES]>::try_from(entry.as_slice()).unwrap();
    ProvenRun {
        from: LeafIndex(from),
        peaks: log.peaks(from),
        entries: log.entries[range].iter().map(entry).collect(),
        hashes: log.consistency(to, log.size()),
    }
}

/// A log of which some entries were written anew: index, stream, number, microseconds later.
pub(crate) fn log_with(size: u64, entries: &[(u64, u8, u64, i64)]) -> Log {
    let mut log = Log::new(size);
    for &(index, stream, seq, later) in entries {
        let mut one = entry(index, stream, seq);
        one.logged_at = Micros(one.logged_at.0.checked_add_signed(later).unwrap());
        log.entries[usize::try_from(index).unwrap()] = one.to_bytes().to_vec();
    }
    log
}

fn is_true(alarm: &Alarm, log: &Log) -> Shown {
    let bytes = alarm.to_bytes();
    assert_eq!(Alarm::parse(&bytes).as_ref(), Ok(alarm));
    assert_eq!(alarm.origin(), ORIGIN);
    let report = verify_alarm(&bytes, Some(&log.trust()));
    assert_eq!((report.result, report.fault), (Verdict::Valid, None));
    assert_eq!(report.proves, Some(alarm.proves()));
    report.shown.unwrap()
}

#[test]
fn a_fork_is_proved_whoever_saw_which_head_first() {
    let (one, other) = two_histories(300, 7);
    let alarm = Alarm::fork(one.head(300), other.head(300)).unwrap();
    assert_eq!(alarm, Alarm::fork(other.head(300), one.head(300)).unwrap());
    assert!(matches!(is_true(&alarm, &one), Shown::Fork { size: TreeSize(300), .. }));
    assert_eq!(alarm.proves(), Proves::Fork);
    // ALRM-10: a name that a mirror has a place for.
    let path = format!("alarms/{}", alarm.file_name());
    assert!(
        matches!(MirrorFile::parse(&path), Some(MirrorFile::Alarm(name)) if name.starts_with("fork-"))
    );
}

/// ALRM-6, exhaustively: for every pair of sizes there is an alarm where histories differ, and none
/// where they don't, against the consistency proofs that ct-merkle agrees with.
#[test]
fn a_rewrite_is_proved_for_every_pair_of_small_sizes() {
    for size in 2..=34_u64 {
        let (log, other) = two_histories(size, 0);
        for smaller in 1..size {
            let (own, theirs) = (log.head(smaller), other.head(smaller));
            let head = log.head(size);
            let plan = RewritePlan::new(own.size, head.size).unwrap();
            let (seed, hashes) = plan.finish(&log.nodes(&plan.nodes())).unwrap();
            let proof = log.consistency(smaller, size);
            verify_consistency(own.size, head.size, &own.root, &head.root, &proof).unwrap();
            // The seed is what the proof begins with, or leaves out.
            let whole = smaller.is_power_of_two();
            let expected = if whole {
                [&[seed], hashes.as_slice()].concat()[1..].to_vec()
            } else {
                hashes.clone()
            };
            assert_eq!(expected, proof[usize::from(!whole)..]);
            let honest = Alarm::rewrite(own, head, seed, hashes);
            assert_eq!(honest.unwrap_err().code.as_str(), "ALARM_JOINED", "{smaller} {size}");
            let alarm = rewrite(theirs.clone(), &log);
            let report = verify_alarm(&alarm.to_bytes(), None);
            assert_eq!(report.fault.unwrap().code.as_str(), "NO_TRUST");
            let Some(Shown::Rewrite { said, found, .. }) = report.shown else {
                panic!("a rewrite")
            };
            assert_eq!((said, found), (theirs.root, log.root(smaller)));
        }
        assert_eq!(RewritePlan::new(TreeSize(size), TreeSize(size)), None);
        assert_eq!(RewritePlan::new(TreeSize(0), TreeSize(size)), None);
    }
    let (log, other) = two_histories(700, 3);
    for smaller in [4, 255, 256, 600] {
        is_true(&rewrite(other.head(smaller), &log), &log);
    }
}

#[test]
fn times_that_decrease_are_proved() {
    let log = log_with(300, &[(40, 9, 0, 1_000)]);
    let alarm = Alarm::order(log.head(300), log.proven(40, 300), log.proven(250, 300)).unwrap();
    let Shown::Order { indexes, times } = is_true(&alarm, &log) else { panic!("an order") };
    assert_eq!(indexes, [LeafIndex(40), LeafIndex(250)]);
    assert!(times[1] < times[0]);
    // Under an earlier head as well, and not between entries that stand as they should.
    is_true(&Alarm::order(log.head(251), log.proven(40, 251), log.proven(250, 251)).unwrap(), &log);
    let honest = Alarm::order(log.head(300), log.proven(41, 300), log.proven(250, 300));
    assert_eq!(honest.unwrap_err().code.as_str(), "ALARM_TIMES");
}

/// ALRM-8: each pair of numbers that can't both be right, and none that can.
#[test]
fn numbers_of_a_stream_that_can_not_be_are_proved() {
    for (i, j, first, second, provable) in [
        (10, 20, 3, 3, true),
        (10, 20, 3, 2, true),
        (10, 20, 3, 13, false),
        (10, 20, 3, 14, true),
        (10, 20, 3, 4, false),
        (10, 11, 3, 4, false),
        (10, 11, 3, 5, true),
        (10, 11, 0, u64::MAX, true),
        (0, 299, u64::MAX, 0, true),
    ] {
        let log = log_with(300, &[(i, 9, first, 0), (j, 9, second, 0)]);
        let alarm = Alarm::stream(log.head(300), log.proven(i, 300), log.proven(j, 300));
        if provable {
            let Shown::Stream { seqs, .. } = is_true(&alarm.unwrap(), &log) else { panic!() };
            assert_eq!(seqs, [first, second]);
        } else {
            assert_eq!(
                alarm.unwrap_err().code.as_str(),
                "ALARM_NUMBERS",
                "{i} {j} {first} {second}"
            );
        }
    }
    // Two streams have nothing to do with each other.
    let log = log_with(300, &[(10, 9, 3, 0), (20, 8, 3, 0)]);
    let alarm = Alarm::stream(log.head(300), log.proven(10, 300), log.proven(20, 300));
    assert_eq!(alarm.unwrap_err().code.as_str(), "ALARM_NUMBERS");
}

/// ALRM-9: a gap that two entries alone can't show, with everything between them.
#[test]
fn a_gap_is_proved_by_every_entry_of_it() {
    let log = log_with(300, &[(10, 9, 0, 0), (100, 9, 1, 0), (200, 9, 3, 0)]);
    let pair = Alarm::stream(log.head(300), log.proven(100, 300), log.proven(200, 300));
    assert_eq!(pair.unwrap_err().code.as_str(), "ALARM_NUMBERS");
    let alarm = Alarm::gap(log.head(300), run(&log, 100, 201)).unwrap();
    let Shown::Gap { index, before, seq, .. } = is_true(&alarm, &log) else { panic!("a gap") };
    assert_eq!((index, before, seq), (LeafIndex(200), Some(1), 3));
    // Under the head that ends with it, and from the log's beginning.
    let short = log.prefix(201);
    is_true(&Alarm::gap(short.head(201), run(&short, 100, 201)).unwrap(), &log);
    is_true(&Alarm::gap(log.head(300), run(&log, 0, 201)).unwrap(), &log);
    // A stream that begins with another number than 0 is one from the log's beginning only.
    let late = log_with(300, &[(50, 9, 1, 0)]);
    let alarm = Alarm::gap(late.head(300), run(&late, 0, 51)).unwrap();
    assert!(matches!(is_true(&alarm, &late), Shown::Gap { before: None, seq: 1, .. }));
    for honest in [run(&late, 1, 51), run(&log, 10, 101), run(&log, 101, 201), run(&log, 0, 1)] {
        let head = if honest.from.0 == 1 { late.head(300) } else { log.head(300) };
        assert_eq!(Alarm::gap(head, honest).unwrap_err().code.as_str(), "ALARM_NUMBERS");
    }
    // The longest that fits is read back; one more is none.
    let longest = RUN_ENTRIES_MAX as u64;
    let wide = log_with(longest + 1, &[(0, 9, 0, 0), (longest - 1, 9, 2, 0), (longest, 9, 4, 0)]);
    is_true(&Alarm::gap(wide.head(wide.size()), run(&wide, 0, longest)).unwrap(), &wide);
    let alarm = Alarm::gap(wide.head(wide.size()), run(&wide, 0, longest + 1));
    assert_eq!(alarm.unwrap_err().code.as_str(), "ALARM_MALFORMED");
}

/// ALRM-12: of entries that this program can't read nothing is proved, neither way.
#[test]
fn unknown_entries_are_indeterminate() {
    let mut log = log_with(300, &[(40, 9, 0, 1_000)]);
    log.entries[40][0] = 2;
    let alarm = Alarm::order(log.head(300), log.proven(40, 300), log.proven(250, 300));
    assert_eq!(alarm.unwrap_err().code.as_str(), "ENTRY_VERSION");
    // As a later version would write it: the file is made by hand from one that is true.
    let known = log_with(300, &[(40, 9, 0, 1_000)]);
    let alarm =
        Alarm::order(known.head(300), known.proven(40, 300), known.proven(250, 300)).unwrap();
    let b64 = countersign_core::encoding::b64;
    let text = String::from_utf8(alarm.to_bytes()).unwrap();
    let mut text = text.replacen(&b64(&known.entries[40]), &b64(&log.entries[40]), 1);
    for (one, other) in known.proven(250, 300).path.iter().zip(&log.proven(250, 300).path) {
        text = text.replace(&b64(one), &b64(other));
    }
    let head = |head: SignedCheckpoint| serde_json::Value::from(head.as_str()).to_string();
    let text = text.replacen(&head(known.head(300)), &head(log.head(300)), 1);
    let report = verify_alarm(text.as_bytes(), Some(&log.trust()));
    assert_eq!(report.result, Verdict::Indeterminate, "{:?}", report.fault);
    assert_eq!(report.fault.unwrap().code.as_str(), "ENTRY_VERSION");
    assert!(Entry::from_bytes(&log.entries[40]).is_err());
}

/// ALRM-14: whoever stole a key could have signed anything.
#[test]
fn a_revoked_key_leaves_a_doubt() {
    let (one, other) = two_histories(300, 7);
    let bytes = Alarm::fork(one.head(300), other.head(300)).unwrap().to_bytes();
    let key = countersign_core::encoding::b64(&one.public());
    let revoked = format!("[[revoked]]\nkey = \"{key}\"\nfrom = \"2026-11-23T12:00:00.000000Z\"\n");
    let report = verify_alarm(&bytes, Some(&one.trust_with(&revoked)));
    assert_eq!(report.result, Verdict::Indeterminate);
    assert_eq!(report.fault.unwrap().code.as_str(), "KEY_REVOKED");
    let mut stranger = Log::new(0);
    stranger.origin = "ledger.example/other".to_owned();
    let report = verify_alarm(&bytes, Some(&stranger.trust()));
    assert_eq!(report.result, Verdict::Invalid);
    assert_eq!(report.fault.unwrap().code.as_str(), "ORIGIN_UNKNOWN");
}
