//! Mirrors with one defect each: every file changed, removed, truncated, swapped or extended, each
//! with the code that names it (MIRR-3 to MIRR-9).

use countersign_core::mirror::MirrorFile;
use countersign_core::tiles::{TileKind, TilePath};
use countersign_core::trust::Trust;
use countersign_core::verify::Verdict;
use proptest::prelude::*;

use crate::stage::{Files, Log, said, verify};

const HEADS: [u64; 3] = [300, 512, 513];

fn mirror() -> (Log, Trust, Files) {
    let log = Log::new(600);
    let (trust, files) = (log.trust(), log.mirror(&HEADS));
    (log, trust, files)
}

fn tile(path: &str) -> Option<TilePath> {
    TilePath::parse(path)
}

/// What a mirror says when one file was put in another's place.
fn with(files: &Files, path: &str, bytes: Option<Vec<u8>>) -> Files {
    let mut files = files.clone();
    match bytes {
        Some(bytes) => files.insert(path.to_owned(), bytes),
        None => files.remove(path),
    };
    files
}

/// A damaged file is named, and nothing else is: what it holds is not the log's, and so is no fault
/// of the log.
#[test]
fn every_byte_class_of_every_tile_and_bundle_is_held() {
    let (_, trust, files) = mirror();
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("tile/")) {
        let place = tile(path).unwrap();
        let code = match place.kind() {
            TileKind::Entries => "MIRROR_BUNDLE",
            TileKind::Hashes(_) => "MIRROR_TILE",
        };
        let mut changes: Vec<(&str, Vec<u8>)> = Vec::new();
        for at in [0, 1, 33, bytes.len() / 2, bytes.len() - 1] {
            let mut one = bytes.clone();
            one[at] ^= 1;
            changes.push(("changed", one));
        }
        changes.push(("truncated", bytes[..bytes.len() - 1].to_vec()));
        changes.push(("emptied", Vec::new()));
        changes.push(("extended", [bytes.as_slice(), &[0]].concat()));
        changes.push(("doubled", [bytes.as_slice(), bytes].concat()));
        for (name, changed) in changes {
            let report = verify(&with(&files, path, Some(changed)), Some(&trust));
            assert_eq!(report.result, Verdict::Invalid, "{name} {path}");
            assert_eq!(said(&report), format!("{code} {path}"), "{name}");
            assert_eq!(report.found[0], 1, "{name} {path}: {:?}", report.findings);
        }
    }
}

/// MIRR-11.
#[test]
fn a_missing_file_is_named_and_the_rest_verified() {
    let (_, trust, files) = mirror();
    for path in files.keys().filter(|path| path.starts_with("tile/")) {
        let report = verify(&with(&files, path, None), Some(&trust));
        assert_eq!(said(&report), format!("MIRROR_FILE_MISSING {path}"));
        assert_eq!((report.result, report.found), (Verdict::Indeterminate, [0, 1, 0]), "{path}");
        assert_eq!(report.counts.heads, 4, "{path}: hashes alone lead to the heads too");
    }
    // Bundle and tile both: the root stands in the tile above, the heads inside are unproven.
    let mut files = with(&files, "tile/entries/001", None);
    files.remove("tile/0/001");
    let report = verify(&files, Some(&trust));
    assert_eq!((report.result, report.found), (Verdict::Indeterminate, [0, 4, 0]));
    assert_eq!((report.counts.heads, report.counts.unread), (2, 256));
    // The tile above is gone as well: nothing behind can be proved.
    files.remove("tile/1/000.p/2");
    let report = verify(&files, Some(&trust));
    assert_eq!((report.result, report.counts.heads), (Verdict::Indeterminate, 0));
}

#[test]
fn swapped_files_are_named() {
    let (_, trust, files) = mirror();
    for (one, other) in [
        ("tile/entries/000", "tile/entries/001"),
        ("tile/0/000", "tile/0/001"),
        ("tile/0/001", "tile/entries/001"),
    ] {
        let mut swapped = files.clone();
        swapped.insert(one.to_owned(), files[other].clone());
        swapped.insert(other.to_owned(), files[one].clone());
        let report = verify(&swapped, Some(&trust));
        assert_eq!(report.result, Verdict::Invalid);
        assert!(said(&report).contains("tile/"), "{}", said(&report));
    }
    let (small, large) = (MirrorFile::Head(300).to_string(), MirrorFile::Head(512).to_string());
    let mut swapped = files.clone();
    swapped.insert(small.clone(), files[&large].clone());
    swapped.insert(large, files[&small].clone());
    assert_eq!(said(&verify(&swapped, Some(&trust))), format!("MIRROR_HEAD_NAME {small}"));
}

#[test]
fn every_head_is_read_and_held_against_the_entries() {
    let (log, trust, files) = mirror();
    let mut other = log.clone();
    other.entries[5][65] ^= 1;
    for size in [300, 512, 513, 600] {
        let path = MirrorFile::Head(size).to_string();
        let text = String::from_utf8(files[&path].clone()).unwrap();
        let verdict = |text: &str| verify(&with(&files, &path, Some(text.into())), Some(&trust));
        let cut = &text[..text.len() - 1];
        for (wrong, code) in [
            (text.replacen("mirrored\n", "mirrorex\n", 1), "MIRROR_ORIGIN"),
            (text.replacen(&format!("\n{size}\n"), "\n299\n", 1), "LOG_SIGNATURE"),
            (
                text.replacen("\u{2014} ledger.example/mirrored ", "\u{2014} x ", 1),
                "LOG_SIGNATURE_MISSING",
            ),
            (cut.to_owned(), "NOTE_MALFORMED"),
            (format!("{text}\n"), "NOTE_SIGNATURE_LINE"),
            (String::new(), "NOTE_MALFORMED"),
        ] {
            let report = verdict(&wrong);
            let said = said(&report);
            assert_eq!(report.result, Verdict::Invalid, "{size}");
            // The head that all rests on is read first, and in its folder; others by their names.
            let named = [format!("{code} {path}"), format!("MIRROR_HEAD_NAME {path}")];
            assert!(named.contains(&said), "{size}: {said}");
        }
        // The log's own signature on another history.
        let report = verdict(other.head(size).as_str());
        assert_eq!(report.result, Verdict::Invalid);
        assert!(said(&report).starts_with("MIRROR_HEAD_ROOT"), "{size}: {}", said(&report));
    }
    let mut wrong = files.clone();
    wrong.insert("checkpoint".to_owned(), other.head(600).as_str().into());
    assert_eq!(said(&verify(&wrong, Some(&trust))), "MIRROR_HEAD_ROOT checkpoint");
    wrong.insert("checkpoint".to_owned(), b"nothing".to_vec());
    assert_eq!(said(&verify(&wrong, Some(&trust))), "NOTE_MALFORMED checkpoint");
}

/// A head that nobody signed, far beyond what is there, is named, and costs nothing.
#[test]
fn a_forged_head_does_not_lead_the_verifier_astray() {
    let (log, trust, files) = mirror();
    let size = u64::MAX;
    let text = log.sign(1 << 62, &log.root(1));
    let path = MirrorFile::Head(size).to_string();
    let mut forged = with(&files, &path, Some(text.as_str().into()));
    let report = verify(&forged, Some(&trust));
    assert_eq!(said(&report), format!("MIRROR_HEAD_NAME {path}"));
    assert_eq!((report.head.0, report.counts.heads), (600, 4));
    // One that the log did sign leads to nothing, and soon.
    forged.remove(&path);
    forged.insert(MirrorFile::Head(1 << 62).to_string(), text.as_str().into());
    let report = verify(&forged, Some(&trust));
    assert_eq!(report.result, Verdict::Indeterminate);
    assert!(report.found[1] >= 1_000, "what is missing is said, and then enough is enough");
}

fn picked(files: &Files, at: usize) -> &String {
    files.keys().nth(at % files.len()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever byte of whatever file is changed, no mirror stays VALID.
    #[test]
    fn no_changed_byte_goes_unseen(file: usize, at: usize, bit in 0_u8..8) {
        let (_, trust, files) = mirror();
        let path = picked(&files, file).clone();
        let mut bytes = files[&path].clone();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let report = verify(&with(&files, &path, Some(bytes)), Some(&trust));
        prop_assert_ne!(report.result, Verdict::Valid, "{} byte {}", path, at);
    }

    /// Whatever file holds another's bytes, or is gone, no mirror stays VALID.
    #[test]
    fn no_file_stands_for_another(one: usize, other: usize) {
        let (_, trust, files) = mirror();
        let (one, other) = (picked(&files, one), picked(&files, other));
        // That a log signed a head in between, nobody can know who does not have it.
        if !one.starts_with("heads/") {
            let report = verify(&with(&files, one, None), Some(&trust));
            prop_assert_ne!(report.result, Verdict::Valid);
        }
        if files[one] != files[other] {
            let report = verify(&with(&files, one, Some(files[other].clone())), Some(&trust));
            prop_assert_ne!(report.result, Verdict::Valid, "{} for {}", other, one);
        }
    }

    /// Hostile bytes in every file: no panic, and nothing VALID.
    #[test]
    fn hostile_files_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), file: usize) {
        let (_, trust, files) = mirror();
        let path = picked(&files, file).clone();
        let report = verify(&with(&files, &path, Some(bytes)), Some(&trust));
        prop_assert_ne!(report.result, Verdict::Valid);
    }
}
