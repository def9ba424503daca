//! Logs that others made: their heads, proofs and tiles under this project's verifier and mirror.
//! Their entries have a meaning that nothing here knows, so no mirror of theirs is ever VALID
//! (MIRR-12).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use countersign_core::encoding::hex;
use countersign_core::hash::sha256;
use countersign_core::note::{SignedCheckpoint, VerifierKey};
use countersign_testkit::folder::files_below;
use countersign_tests::{Installation, Said};

use crate::process::Served;
use crate::tools::{Tool, text};

/// Sizes of the heads: within a tile, within the second, and with a tile above.
const SIZES: [&str; 3] = ["5", "300", "700"];

/// A log that a tool made, and a trust file that names its key.
struct Theirs {
    installation: Installation,
    origin: String,
    dir: PathBuf,
    trust: String,
}

impl Theirs {
    fn made(tool: &Tool, origin: &str) -> Self {
        let installation = Installation::new();
        let dir = installation.beside("theirs");
        tool.says(&[&["make", dir.to_str().unwrap(), origin][..], &SIZES].concat());
        let vkey = std::fs::read_to_string(dir.join("vkey")).unwrap();
        let trust = installation.beside("trust.toml");
        std::fs::write(&trust, format!("[[log]]\nvkey = \"{vkey}\"\n")).unwrap();
        let trust = trust.to_str().unwrap().to_owned();
        Self { installation, origin: origin.to_owned(), dir, trust }
    }

    /// Runs `countersign-verify`, which is built beside `countersign`.
    fn verify(&self, arguments: &[&str]) -> Output {
        let beside = self.installation.command(&["help".to_owned()]);
        let program = Path::new(beside.get_program()).with_file_name("countersign-verify");
        Command::new(program).args(arguments).args(["--trust", &self.trust]).output().unwrap()
    }

    fn note(&self, size: &str) -> String {
        self.dir.join(format!("heads/{size:0>20}.note")).to_str().unwrap().to_owned()
    }

    /// Each head is one of its key, in the one spelling that there is (NOTE-1 to NOTE-7).
    fn heads(&self) {
        let vkey = std::fs::read_to_string(self.dir.join("vkey")).unwrap();
        let vkey = VerifierKey::parse(&vkey).unwrap();
        for size in SIZES {
            let note = std::fs::read_to_string(self.note(size)).unwrap();
            let head = SignedCheckpoint::parse(&note).unwrap();
            head.verify_log(&vkey).unwrap();
            assert_eq!((head.as_str(), head.size.0.to_string().as_str()), (note.as_str(), size));
            let other = SignedCheckpoint::parse(&note.replacen("\n5\n", "\n6\n", 1)).unwrap();
            assert!(size != "5" || other.verify_log(&vkey).is_err());
        }
    }

    /// Their consistency proofs in a file of this project (CONS-1).
    fn consistency(&self) {
        for (old, new) in [("5", "300"), ("300", "700")] {
            let lines = std::fs::read_to_string(self.dir.join(format!("proofs/{old}-{new}")));
            let proof = self.installation.beside("their.proof");
            let file = format!("countersign/v1 consistency\n{old}\n{new}\n{}", lines.unwrap());
            std::fs::write(&proof, &file).unwrap();
            let (from, to) = (self.note(old), self.note(new));
            let arguments = ["consistency", &from, &to, proof.to_str().unwrap()];
            let said = self.verify(&arguments);
            let speech = text(&said.stdout);
            let sentence = format!(
                "The log {} grew from {old} to {new} entries and kept every one of the first {old}.",
                self.origin
            );
            assert_eq!(speech, format!("{sentence}\nRESULT VALID\n"));
            // One hash twice, and so one too many.
            let last = file.lines().last().unwrap();
            std::fs::write(&proof, format!("{file}{last}\n")).unwrap();
            let said = self.verify(&arguments);
            assert_eq!(said.status.code(), Some(1), "{}", text(&said.stdout));
        }
    }

    /// `countersign-verify mirror`: how it ended, and what it said.
    fn mirror(&self, dir: &Path) -> (Option<i32>, String) {
        let said = self.verify(&["mirror", dir.to_str().unwrap()]);
        (said.status.code(), text(&said.stdout).to_owned())
    }

    fn folder(&self) -> String {
        hex(&sha256(self.origin.as_bytes()))
    }

    /// Their files in the folder of a mirror: the tree is verified, the entries can't be judged.
    fn as_a_mirror(&self) {
        let mirror = self.installation.beside("by-hand");
        let log = mirror.join(self.folder());
        for (from, to) in [("tiles", ""), ("heads", "heads")] {
            for (name, bytes) in files_below(&self.dir.join(from)).unwrap() {
                put(&log.join(to).join(name), &bytes);
            }
        }
        let (code, said) = self.mirror(&mirror);
        assert_eq!(code, Some(3), "{said}");
        for sentence in [
            "3 heads, 4 tiles and 3 bundles recomputed from the entries",
            "700 entries are missing or can't be read: their streams and times are not checked.",
            "another log's entries it can't judge.",
            "\nRESULT INDETERMINATE MIRROR_ENTRY_UNREAD index 0\n",
        ] {
            assert!(said.contains(sentence), "{sentence:?} in {said}");
        }
        // What the tree commits to is theirs to the byte.
        for file in ["tile/0/000", "tile/entries/001", "heads/00000000000000000300.note"] {
            let good = std::fs::read(log.join(file)).unwrap();
            let mut bad = good.clone();
            bad[30] ^= 1;
            put(&log.join(file), &bad);
            let (code, said) = self.mirror(&mirror);
            assert_eq!((code, said.contains("\nRESULT INVALID ")), (Some(1), true), "{said}");
            put(&log.join(file), &good);
        }
    }

    fn countersign(&self, arguments: &[&str]) -> Said {
        let said = self.installation.run(&[arguments, &["--trust", &self.trust]].concat());
        assert!(said.status.success(), "{}", said.stderr);
        said
    }

    /// From a web server that knows files only: exported, and followed.
    fn on_a_web_server(&self, server: &Tool) {
        let files = Served::files(server, &self.dir.join("tiles"));
        let (url, made) = (files.url(), files_below(&self.dir.join("tiles")).unwrap());
        let (export, mirror) =
            (self.installation.beside("export"), self.installation.beside("followed"));
        self.countersign(&["export-tiles", export.to_str().unwrap(), "--from", &url]);
        assert_eq!(files_below(&export).unwrap(), edge_of(&made), "the files of the last head");
        let to = mirror.to_str().unwrap();
        self.countersign(&["mirror", "--from", &url, "--dir", to, "--once"]);
        let followed = files_below(&mirror.join(self.folder())).unwrap();
        for (name, bytes) in edge_of(&made) {
            assert_eq!(followed.get(&name), Some(&bytes), "{}", name.display());
        }
        let (code, said) = self.mirror(&mirror);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("\nRESULT INDETERMINATE MIRROR_ENTRY_UNREAD index 0\n"), "{said}");
    }
}

/// What one tool makes: a log with entries longer than ours for the verifier, and one with entries
/// that are no longer for what follows logs, which takes no others.
fn judged(tool: &Tool, origin: &str) {
    let long = format!("{origin}/under-a-name-that-makes-each-entry-longer-than-66-bytes");
    let theirs = Theirs::made(tool, &long);
    theirs.heads();
    theirs.consistency();
    theirs.as_a_mirror();
    if let Some(server) = Tool::web_server() {
        Theirs::made(tool, origin).on_a_web_server(&server);
    }
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Without the partial tiles and bundles of smaller heads.
fn edge_of(files: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    let of_smaller = |name: &PathBuf| {
        let partial = name.to_str().unwrap().contains(".p/");
        partial
            && !["tile/0/002.p/188", "tile/1/000.p/2", "tile/entries/002.p/188"]
                .contains(&name.to_str().unwrap())
    };
    let kept = files.iter().filter(|(name, _)| !of_smaller(name));
    kept.map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
}

/// golang.org/x/mod.
#[test]
fn a_log_made_in_go_is_verified() {
    let Some(go) = Tool::go() else { return };
    judged(&go, "log.example/in-go");
}

/// aics-tlog.
#[test]
fn a_log_made_in_python_is_verified() {
    let Some(python) = Tool::python() else { return };
    judged(&python, "log.example/in-python");
}

/// signed_note and tlog_tiles.
#[test]
fn a_log_made_of_rust_crates_is_verified() {
    let Some(rust) = Tool::rust() else { return };
    judged(&rust, "log.example/in-rust");
}
