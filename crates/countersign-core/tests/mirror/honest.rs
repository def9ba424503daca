//! Mirrors of a log that tells the truth.

use countersign_core::codes::Code;
use countersign_core::mirror::{MirrorFile, Weight};
use countersign_core::verify::Verdict;

use crate::stage::{Log, ORIGIN, said, verify};

/// MIRR-4 to MIRR-6, exhaustively: every size, with a head of every smaller size, against ct-merkle.
#[test]
fn every_small_size_with_every_head_is_recomputed() {
    let whole = Log::new(520);
    let all: Vec<u64> = (0..=520).collect();
    let files = whole.mirror(&all);
    for size in 0..=520_u64 {
        let log = whole.prefix(usize::try_from(size).unwrap());
        let mut mirror = log.mirror(&[]);
        for smaller in 0..=size {
            let path = MirrorFile::Head(smaller).to_string();
            mirror.insert(path.clone(), files[&path].clone());
        }
        let report = verify(&mirror, None);
        assert_eq!(said(&report), format!("NO_TRUST heads/{size:020}.note"));
        assert_eq!(report.found, [0, 1, 0], "{size}: {:?}", report.findings);
        let counts = report.counts;
        assert_eq!((counts.entries, counts.heads), (size, if size == 0 { 1 } else { size + 1 }));
        let tiles = mirror.keys().filter(|path| path.starts_with("tile/")).count() as u64;
        assert_eq!(counts.tiles + counts.bundles, tiles, "every tile and bundle was read");
    }
}

#[test]
fn a_log_of_three_levels_of_tiles_is_valid_and_counted() {
    let log = Log::new(66_000);
    let files = log.mirror(&[1, 255, 256, 257, 65_535, 65_536, 65_537]);
    let report = verify(&files, Some(&log.trust()));
    assert_eq!(said(&report), "VALID", "{:?}", report.findings);
    assert_eq!(report.origin.as_deref(), Some(ORIGIN));
    let counts = report.counts;
    assert_eq!((counts.entries, counts.heads, counts.streams), (66_000, 8, 3));
    assert_eq!((counts.bundles, counts.unread, counts.partials), (258, 0, 0));
    let tiles = files.keys().filter(|path| path.starts_with("tile/")).count() as u64;
    assert_eq!(counts.tiles + counts.bundles, tiles);
    assert!(files.contains_key("tile/1/000") && files.contains_key("tile/2/000.p/1"));
    let (first, last) = report.times.unwrap();
    assert_eq!(last.0 - first.0, 65_999);
    assert_eq!(report.statement().len(), 2);
    assert_eq!(report.not_checked, ["witnesses"]);
}

/// MIRR-8: what earlier heads left is held against what is there now.
#[test]
fn partial_tiles_of_earlier_heads_are_compared() {
    let whole = Log::new(700);
    let earlier = whole.prefix(600);
    let mut files = whole.mirror(&[600]);
    let left: Vec<_> = earlier
        .mirror(&[])
        .into_iter()
        .filter(|(path, _)| path.contains(".p/") && !files.contains_key(path))
        .collect();
    assert_eq!(left.len(), 2, "a tile and a bundle of 88");
    files.extend(left.clone());
    let report = verify(&files, Some(&whole.trust()));
    assert_eq!((said(&report).as_str(), report.counts.partials), ("VALID", 2));
    for (path, bytes) in &left {
        let mut changed = bytes.clone();
        changed[70] ^= 1;
        let shorter = bytes[..bytes.len() - 1].to_vec();
        let longer = [bytes.as_slice(), &[0]].concat();
        for wrong in [changed, shorter, longer, Vec::new()] {
            let mut files = files.clone();
            files.insert(path.clone(), wrong);
            let code = if path.contains("entries") { "MIRROR_BUNDLE" } else { "MIRROR_TILE" };
            let report = verify(&files, Some(&whole.trust()));
            assert_eq!(said(&report), format!("{code} {path}"));
        }
    }
}

/// MIRR-3: where following was interrupted, the larger head counts, and that it was is said.
#[test]
fn a_checkpoint_that_is_not_the_largest_head_leaves_a_doubt() {
    let log = Log::new(300);
    let trust = log.trust();
    let files = log.mirror(&[100, 280]);
    let mut behind = files.clone();
    behind.insert("checkpoint".to_owned(), files[&MirrorFile::Head(280).to_string()].clone());
    let report = verify(&behind, Some(&trust));
    assert_eq!(said(&report), "MIRROR_CHECKPOINT checkpoint");
    assert_eq!((report.result, report.counts.heads), (Verdict::Indeterminate, 3));
    let mut without = files.clone();
    without.remove("checkpoint");
    let report = verify(&without, Some(&trust));
    assert_eq!((said(&report).as_str(), report.head.0), ("MIRROR_CHECKPOINT checkpoint", 300));
    let mut ahead = files.clone();
    ahead.remove(&MirrorFile::Head(300).to_string());
    let report = verify(&ahead, Some(&trust));
    assert_eq!(said(&report), format!("MIRROR_HEAD_MISSING {}", MirrorFile::Head(300)));
    assert_eq!((report.head.0, report.counts.heads), (300, 3), "the checkpoint was verified");
    // Its head lies between two others, and no file of its own.
    behind.remove(&MirrorFile::Head(280).to_string());
    let report = verify(&behind, Some(&trust));
    assert_eq!((said(&report).as_str(), report.counts.heads), ("MIRROR_CHECKPOINT checkpoint", 3));
}

#[test]
fn what_has_no_place_is_named_and_nothing_more() {
    let log = Log::new(300);
    let mut files = log.mirror(&[]);
    for path in ["tile/0/001.p/45", "tile/0/002", "tile/entries/000.new", "notes.txt", "stopped"] {
        files.insert(path.to_owned(), b"x".to_vec());
    }
    files.insert("state/00000000000000000300.json".to_owned(), Vec::new());
    files.insert("evidence/00000000000000000007.evidence".to_owned(), Vec::new());
    let report = verify(&files, Some(&log.trust()));
    assert_eq!((report.result, report.found), (Verdict::Valid, [0, 0, 5]));
    assert!(report.findings.iter().all(|finding| finding.weight == Weight::Warning));
    let stopped = report.findings.iter().filter(|f| f.fault.code == Code::MirrorStopped);
    assert_eq!((stopped.count(), report.counts.evidence), (1, 1));
    assert_eq!(report.limits().len(), 3);
}

/// MIRR-12: of a log whose entries are not ours, tree and heads are verified, and the rest is said.
#[test]
fn a_foreign_log_is_indeterminate_with_its_tree_verified() {
    let mut log = Log::new(0);
    log.entries = (0..600_u64).map(|n| format!("entry {n} of another program").into()).collect();
    let report = verify(&log.mirror(&[300, 512]), Some(&log.trust()));
    assert_eq!(said(&report), "MIRROR_ENTRY_UNREAD @0");
    assert_eq!(report.result, Verdict::Indeterminate);
    let counts = report.counts;
    assert_eq!((counts.heads, counts.entries, counts.unread), (3, 0, 600));
    assert_eq!(report.found, [0, 3, 0], "one a bundle");
}

#[test]
fn without_keys_nothing_is_valid() {
    let log = Log::new(300);
    let files = log.mirror(&[100]);
    let mut other = Log::new(0);
    other.origin = "ledger.example/other".to_owned();
    let report = verify(&files, Some(&other.trust()));
    assert_eq!(said(&report), format!("ORIGIN_UNKNOWN {}", MirrorFile::Head(300)));
    assert_eq!((report.result, report.counts.heads), (Verdict::Indeterminate, 2));
    let nothing = verify(&crate::stage::Files::new(), Some(&log.trust()));
    assert_eq!((nothing.result, nothing.counts.heads), (Verdict::Indeterminate, 0));
    let codes: Vec<_> = nothing.findings.iter().map(|finding| finding.fault.code).collect();
    assert_eq!(codes, [Code::MirrorCheckpoint, Code::MirrorEmpty]);
    // An empty log has a head, and nothing else.
    let empty = Log::new(0);
    let report = verify(&empty.mirror(&[]), Some(&empty.trust()));
    assert_eq!((said(&report).as_str(), report.counts.heads), ("VALID", 1));
}
