//! A verification that goes on where an earlier one stopped (MIRR-15, MIRR-16).

use countersign_core::mirror::{MirrorState, Weight};
use countersign_core::verify::Verdict;

use crate::stage::{Log, said, verify, verify_from};

#[test]
fn every_later_size_is_verified_from_every_earlier_state() {
    let whole = Log::new(1_300);
    let trust = whole.trust();
    for earlier in [1, 255, 256, 257, 512, 700, 1_024] {
        let log = whole.prefix(earlier);
        let heads: Vec<u64> =
            [100, 256, 300, 512].into_iter().filter(|n| *n < log.size()).collect();
        let (report, state) = verify_from(&log.mirror(&heads), Some(&trust), None);
        assert_eq!(said(&report), "VALID");
        let state = state.expect("nothing was amiss");
        assert_eq!(state.size().0, log.size() / 256 * 256);
        let line = state.to_line();
        let state = MirrorState::parse(line.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(state.to_line(), line);
        for later in [earlier, earlier + 1, 1_300] {
            let log = whole.prefix(later);
            let mut heads = heads.clone();
            heads.push(earlier as u64);
            let files = log.mirror(&heads);
            let (report, _) = verify_from(&files, Some(&trust), Some(state.clone()));
            assert_eq!(said(&report), "VALID", "{earlier} to {later}: {:?}", report.findings);
            assert_eq!(report.resumed, log.size().min(state.size().0));
            let full = verify(&files, Some(&trust));
            assert_eq!(report.counts, full.counts, "{earlier} to {later}");
            assert_eq!((report.times, &report.findings), (full.times, &full.findings));
        }
    }
}

#[test]
fn what_came_later_is_held_against_what_was_verified() {
    let whole = Log::new(900);
    let (_, state) = verify_from(&whole.prefix(600).mirror(&[]), Some(&whole.trust()), None);
    let state = state.unwrap();
    // A stream goes on where it was; another history has other roots.
    let mut skipping = whole.clone();
    let seq = skipping.entries[700][33];
    skipping.entries[700][33] = seq.wrapping_add(1);
    let report = verify_from(&skipping.mirror(&[600]), Some(&whole.trust()), Some(state.clone())).0;
    assert!(said(&report).starts_with("MIRROR_SEQ_GAP @700"), "{}", said(&report));
    let mut rewritten = whole.clone();
    rewritten.entries[5][65] ^= 1;
    let report = verify_from(&rewritten.mirror(&[600]), Some(&whole.trust()), Some(state)).0;
    assert_eq!(report.result, Verdict::Invalid);
    assert!(said(&report).starts_with("MIRROR_HEAD_ROOT"), "{}", said(&report));
}

#[test]
fn a_state_that_does_not_fit_is_not_used() {
    let whole = Log::new(900);
    let trust = whole.trust();
    let mirror = whole.prefix(600).mirror(&[100, 300]);
    let state = verify_from(&mirror, Some(&trust), None).1.unwrap();
    let unused = |files: &_, trust: &_| {
        let report = verify_from(files, Some(trust), Some(state.clone())).0;
        let codes: Vec<_> = report.findings.iter().map(|f| f.fault.code.as_str()).collect();
        assert_eq!((codes, report.resumed), (vec!["MIRROR_RESUME"], 0));
        assert!(report.findings.iter().all(|finding| finding.weight == Weight::Warning));
        assert_eq!(report.result, Verdict::Valid, "everything was verified after all");
    };
    // A head more or fewer in the part that was verified, a mirror that went back, other keys.
    unused(&whole.prefix(600).mirror(&[100, 200, 300]), &trust);
    unused(&whole.prefix(600).mirror(&[300]), &trust);
    unused(&whole.prefix(400).mirror(&[100, 300]), &trust);
    let fewer = format!("[[log]]\nvkey = \"{}\"\n", whole.vkey());
    let fewer = countersign_core::trust::Trust::parse(&fewer, |_| panic!("no roots")).unwrap();
    unused(&mirror, &fewer);
    // Where something is amiss, or nothing is trusted, nothing is left.
    assert_eq!(verify_from(&mirror, None, None).1, None);
    let mut damaged = mirror.clone();
    damaged.remove("tile/0/001");
    assert_eq!(verify_from(&damaged, Some(&trust), None).1, None);
}

#[test]
fn a_damaged_state_is_refused() {
    let log = Log::new(600);
    let state = verify_from(&log.mirror(&[]), Some(&log.trust()), None).1.unwrap();
    let line = state.to_line();
    let line = line.strip_suffix('\n').unwrap();
    let read = |text: &str| MirrorState::parse(text).map_err(|fault| fault.code.as_str());
    assert_eq!(read(line).as_ref(), Ok(&state));
    for at in (0..line.len()).step_by(7) {
        let mut bytes = line.as_bytes().to_vec();
        bytes[at] ^= 1;
        assert_eq!(read(&String::from_utf8(bytes).unwrap()), Err("MIRROR_STATE"), "byte {at}");
    }
    for text in ["", "\t", "{}", &line[..line.len() - 1], &format!("{line} ")] {
        assert_eq!(read(text), Err("MIRROR_STATE"));
    }
    // A checksum that is right over a shape that is wrong.
    let (json, _) = line.split_once('\t').unwrap();
    for (from, to) in [("\"bundles\":2", "\"bundles\":3"), ("state/v1", "state/v2")] {
        let json = json.replacen(from, to, 1);
        let digest = countersign_core::hash::sha256(json.as_bytes());
        let text = format!("{json}\t{}", countersign_core::encoding::hex(&digest));
        assert_eq!(read(&text), Err("MIRROR_STATE"), "{to}");
    }
}
