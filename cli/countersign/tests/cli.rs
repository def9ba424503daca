//! The command's parts that need no ledger.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set up its stage should stop there"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use countersign_core::cert::{Role, TrustAnchor, split_pem_bundle, verify_chain};
use countersign_core::codes::Code;
use countersign_core::trust::Trust;

const ORIGIN: &str = "ledger.acme.example/prod";

fn countersign(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COUNTERSIGN_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn init(dir: &Path) -> Output {
    let dir = dir.to_str().unwrap();
    countersign(&["init", "--dir", dir, "--origin", ORIGIN, "--tenant", "acme", "--gate", "prod-1"])
}

/// Every file and folder below one, folders first.
fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut paths = vec![dir.to_owned()];
    let mut at = 0;
    while at < paths.len() {
        if paths[at].is_dir() {
            let entries = fs::read_dir(&paths[at]).unwrap();
            paths.extend(entries.map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    paths
}

#[test]
fn init_makes_a_whole_installation_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    let output = init(&dir);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty(), "speech belongs to standard error");
    for name in [
        "countersign.toml",
        "data/begin",
        "trust.toml",
        "gate-ca.pem",
        "people-ca.pem",
        "keys/log.pem",
        "keys/clock.pem",
        "keys/ledger.pem",
        "tls/cert.pem",
        "tls/key.pem",
        "tls/ca.pem",
        "pki/gate-ca.key.pem",
        "identities/gate/cert.pem",
        "identities/gate/key.pem",
        "identities/gate/ca.pem",
        "identities/gate/log.vkey",
        "identities/gate/clock.vkey",
        "identities/gate/ledger.vkey",
        "identities/gate/identity.toml",
        "identities/auditor/cert.pem",
        "identities/responder/cert.pem",
        "identities/pep/cert.pem",
        "identities/operator/cert.pem",
        "identities/policy-admin/key.pem",
        "identities/tenant-admin/key.pem",
        "identities/approver-oncall-1/key.pem",
        "identities/approver-owner-1/key.pem",
    ] {
        assert!(dir.join(name).is_file(), "{name}");
    }
    for path in walk(&dir) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}", path.display());
    }
    assert_eq!(fs::read(dir.join("data/begin")).unwrap(), b"", "it lets a log begin there");
    // Nothing of the making is left beside it.
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    let said = text(&output.stderr);
    for next in ["countersign serve --dir", "countersign gate --dir", "--ledger 127.0.0.1:7443"] {
        assert!(said.contains(next), "{next}: {said}");
    }
}

#[test]
fn init_never_overwrites() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    assert!(init(&dir).status.success());
    let before = fs::read(dir.join("keys/log.pem")).unwrap();
    let again = init(&dir);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("never overwritten"));
    assert_eq!(fs::read(dir.join("keys/log.pem")).unwrap(), before);
    let other = parent.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("mine"), "").unwrap();
    assert_eq!(init(&other).status.code(), Some(2));
    fs::remove_file(other.join("mine")).unwrap();
    assert!(init(&other).status.success(), "an empty folder is taken");
}

#[test]
fn init_takes_every_spelling_of_an_empty_folder() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    for name in ["here", "there", "target"] {
        fs::create_dir(at(name)).unwrap();
    }
    std::os::unix::fs::symlink("target", at("link")).unwrap();
    let run = |folder: &Path, dir: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["init", "--origin", ORIGIN, "--tenant", "acme", "--gate", "prod-1"]);
        command.args(["--dir", dir]).current_dir(folder).output().unwrap()
    };
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(at(name)).unwrap());
    let before = inode("here");
    for (folder, dir, made) in [
        (at("here"), ".", "here"),
        (at(""), "there/", "there"),
        (at(""), "link", "target"),
        (at(""), "new/", "new"),
        (at(""), "deep/new/.", "deep/new"),
    ] {
        let output = run(&folder, dir);
        assert!(output.status.success(), "{dir}: {}", text(&output.stderr));
        assert!(at(made).join("trust.toml").is_file(), "{dir}");
        let mode = fs::metadata(at(made)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{dir}");
        assert_eq!(fs::read_dir(at(made)).unwrap().count(), 10, "{dir}");
        assert_eq!(run(&folder, dir).status.code(), Some(2), "{dir}: never overwritten");
    }
    assert_eq!(inode("here"), before, "whoever stands in it still does");
    assert!(at("link").is_symlink());
    assert_eq!(run(parent.path(), "").status.code(), Some(2));
    // What fails leaves the folder as it was. No certificate can name a host of that form.
    fs::create_dir(at("fails")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["init", "--origin", "ledger_\u{7e}x", "--tenant", "acme", "--gate", "g"]);
    let output = command.args(["--dir", "."]).current_dir(at("fails")).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(fs::read_dir(at("fails")).unwrap().count(), 0);
}

#[test]
fn only_the_servers_keys_are_ecdsa() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    assert!(init(&dir).status.success());
    // The names of the algorithms in DER: id-Ed25519, and ecdsa-with-SHA256.
    let has = |name: &str, oid: &[u8]| {
        let certificate =
            split_pem_bundle(&fs::read_to_string(dir.join(name)).unwrap()).unwrap().remove(0);
        certificate.der().windows(oid.len()).any(|window| window == oid)
    };
    let (ed25519, ecdsa) = ([0x2b, 0x65, 0x70], [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
    for name in ["tls/cert.pem", "tls/ca.pem", "identities/gate/ca.pem"] {
        assert!(has(name, &ecdsa) && !has(name, &ed25519), "{name}");
    }
    for name in ["gate-ca.pem", "people-ca.pem", "identities/gate/cert.pem"] {
        assert!(has(name, &ed25519) && !has(name, &ecdsa), "{name}");
    }
}

#[test]
fn keys_that_may_not_serve_are_a_fault_of_the_configuration() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    assert!(init(&dir).status.success());
    let serve = || {
        let free = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let output = countersign(&[&["serve", "--dir", dir.to_str().unwrap()], &free[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("CONFIG_INVALID"), "{}", text(&output.stderr));
    };
    let key = dir.join("keys/log.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    serve();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::copy(dir.join("keys/clock.pem"), &key).unwrap();
    serve();
}

#[test]
fn init_refuses_names_that_no_certificate_could_carry() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    let dir = dir.to_str().unwrap();
    for (origin, tenant, gate) in [
        ("ledger.example/a b", "acme", "g"),
        ("", "acme", "g"),
        ("ledger.example", "a/b", "g"),
        ("ledger.example", "acme", ".."),
        ("/prod", "acme", "g"),
        (":7443", "acme", "g"),
        ("https://ledger.example", "acme", "g"),
    ] {
        let output = countersign(&[
            "init", "--dir", dir, "--origin", origin, "--tenant", tenant, "--gate", gate,
        ]);
        assert_eq!(output.status.code(), Some(2), "{origin} {tenant} {gate}");
        assert!(!Path::new(dir).exists());
        let said = text(&output.stderr);
        let of_origin = origin.contains("://") || origin.starts_with(['/', ':']);
        assert_eq!(said.contains("begins with a host, without scheme"), of_origin, "{said}");
    }
}

#[test]
fn init_names_the_folder_that_was_asked_for_when_it_fails() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    // One byte less than a name may have, so that the folder beside it has too long a name.
    for dir in [file.join("ledger"), parent.path().join("x".repeat(254))] {
        let output = init(&dir);
        assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(!said.contains(".new-"), "{said}");
        assert!(said.contains(dir.parent().unwrap().to_str().unwrap()), "{said}");
    }
}

#[test]
fn the_certificates_hold_before_our_own_path_validation() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    assert!(init(&dir).status.success());
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let now = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap();
    for (identity, root, role, name) in [
        ("gate", "gate-ca.pem", Role::Gate, "prod-1"),
        ("auditor", "people-ca.pem", Role::Auditor, "auditor"),
        ("responder", "people-ca.pem", Role::Responder, "responder"),
        ("pep", "gate-ca.pem", Role::Pep, "pep"),
        ("policy-admin", "people-ca.pem", Role::PolicyAdmin, "policy-admin"),
        ("tenant-admin", "people-ca.pem", Role::TenantAdmin, "tenant-admin"),
        ("approver-oncall-1", "people-ca.pem", Role::Approver, "oncall-1"),
        ("approver-owner-1", "people-ca.pem", Role::Approver, "owner-1"),
    ] {
        let chain = split_pem_bundle(&read(&format!("identities/{identity}/cert.pem"))).unwrap();
        let root = split_pem_bundle(&read(root)).unwrap().remove(0);
        let roots = [TrustAnchor::new(root).unwrap()];
        let verified = verify_chain(&chain, &roots, now).unwrap();
        let spiffe = verified.identity();
        assert_eq!((spiffe.role(), spiffe.name()), (role, name));
        assert_eq!((spiffe.trust_domain(), spiffe.tenant()), ("ledger.acme.example", "acme"));
        // Some slack for clocks, and more than a year of life.
        assert!(verify_chain(&chain, &roots, now - 3_500_000_000).is_ok());
        assert!(verify_chain(&chain, &roots, now + 365 * 86_400_000_000).is_ok());
    }
    let trust = Trust::parse(&read("trust.toml"), |name| Ok(read(name))).unwrap();
    assert_eq!(trust.logs[0].vkey.name, ORIGIN);
    assert_eq!(format!("{}\n", trust.logs[0].vkey), read("identities/gate/log.vkey"));
    assert_eq!(trust.gates.unwrap().tenants, ["acme"]);
}

#[test]
fn approvers_have_the_names_that_init_is_given() {
    let parent = tempfile::tempdir().unwrap();
    let with = |dir: &Path, names: &[&str]| {
        let dir = dir.to_str().unwrap();
        let mut arguments = vec!["init", "--dir", dir, "--origin", ORIGIN];
        arguments.extend(["--tenant", "acme", "--gate", "prod-1"]);
        arguments.extend(names.iter().flat_map(|name| ["--approver", name]));
        countersign(&arguments)
    };
    let dir = parent.path().join("ledger");
    let output = with(&dir, &["alice", "bob", "carol"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut approvers: Vec<_> = fs::read_dir(dir.join("identities"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("approver-"))
        .collect();
    approvers.sort();
    assert_eq!(approvers, ["approver-alice", "approver-bob", "approver-carol"]);
    for names in [&["alice", "alice"][..], &["../alice"], &[""]] {
        let other = parent.path().join("other");
        let output = with(&other, names);
        assert_eq!(output.status.code(), Some(2), "{names:?}: {}", text(&output.stderr));
        assert!(!other.exists(), "{names:?}");
    }
}

#[test]
fn config_show_prints_what_is_in_force() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    assert!(init(&dir).status.success());
    let dir = dir.to_str().unwrap();
    let show = |extra: &[&str], env: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["config", "show", "--dir", dir]).args(extra);
        command.envs(env.iter().copied()).output().unwrap()
    };
    let grpc = |output: &Output| {
        let shown: toml::Table = text(&output.stdout).parse().unwrap();
        shown["grpc"].as_str().unwrap().to_owned()
    };
    // Default in the file, then environment over it, then a flag over that.
    assert_eq!(grpc(&show(&[], &[])), "127.0.0.1:7443");
    let env = [("COUNTERSIGN_GRPC", "127.0.0.1:1001")];
    assert_eq!(grpc(&show(&[], &env)), "127.0.0.1:1001");
    assert_eq!(grpc(&show(&["--grpc", "127.0.0.1:1002"], &env)), "127.0.0.1:1002");

    // Whoever copies what is shown to another folder still means the same files.
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["config", "show", "--dir", "ledger"]).current_dir(parent.path());
    let shown: toml::Table = text(&command.output().unwrap().stdout).parse().unwrap();
    let absolute = |name: &str| Path::new(dir).join(name).to_str().unwrap().to_owned();
    assert_eq!(shown["data_dir"].as_str(), Some(&*absolute("data")));
    assert_eq!(shown["keys"]["log"].as_str(), Some(&*absolute("keys/log.pem")));
    assert_eq!(shown["tls"]["client_roots"][0].as_str(), Some(&*absolute("gate-ca.pem")));
    let output = command.args(["--data-dir", "elsewhere"]).output().unwrap();
    let shown: toml::Table = text(&output.stdout).parse().unwrap();
    let elsewhere = parent.path().join("elsewhere");
    assert_eq!(shown["data_dir"].as_str(), elsewhere.to_str());

    let path = Path::new(dir).join("countersign.toml");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("colour = \"red\"\n{good}")).unwrap();
    let refused = show(&[], &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("colour"), "{}", text(&refused.stderr));
    assert!(refused.stdout.is_empty());
    fs::write(&path, good.replace("head_interval_ms = 1000", "head_interval_ms = 1")).unwrap();
    let refused = show(&[], &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("head_interval_ms"));
    assert_eq!(countersign(&["config", "show", "--dir", "/nonexistent"]).status.code(), Some(4));
}

#[test]
fn doctor_names_each_fault_and_its_remedy() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    assert!(init(&dir).status.success());
    let doctor = |expected: i32| {
        let output = countersign(&["doctor", "--dir", dir.to_str().unwrap()]);
        let said = text(&output.stdout).to_owned();
        assert_eq!(output.status.code(), Some(expected), "{said}{}", text(&output.stderr));
        said
    };
    let said = doctor(0);
    assert!(!said.contains("FAULT") && !said.contains("warning"), "{said}");

    let key = dir.join("keys/log.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(doctor(1).contains("chmod 600"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let log = fs::read(&key).unwrap();
    fs::copy(dir.join("keys/clock.pem"), &key).unwrap();
    assert!(doctor(1).contains("is not a key that trust.toml names"));
    fs::write(&key, "x").unwrap();
    assert!(doctor(1).contains("not an Ed25519 key"));
    fs::write(&key, log).unwrap();

    let cert = dir.join("identities/gate/cert.pem");
    let good = fs::read(&cert).unwrap();
    fs::copy(dir.join("identities/auditor/cert.pem"), &cert).unwrap();
    assert!(doctor(1).contains("another identity than cert.pem"));
    fs::write(&cert, good).unwrap();

    let data = dir.join("data");
    fs::remove_file(data.join("begin")).unwrap();
    assert!(doctor(1).contains("LOG_ABSENT"));
    fs::create_dir(data.join("db")).unwrap();
    fs::write(data.join("db/CURRENT"), "").unwrap();
    assert!(doctor(1).contains("ANCHOR_MISSING"));
    fs::write(data.join("anchor"), "").unwrap();
    doctor(0);
    fs::remove_dir_all(data.join("db")).unwrap();
    assert!(doctor(1).contains("an anchor and no database"));
    fs::remove_dir_all(&data).unwrap();
    assert!(doctor(1).contains("data is not there"));

    fs::remove_file(dir.join("tls/cert.pem")).unwrap();
    assert!(doctor(1).contains("tls/cert.pem"));
}

#[test]
fn doctor_counts_in_words_and_has_nothing_to_say_of_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    let dir = dir.to_str().unwrap();
    for arguments in [&["doctor"][..], &["config", "show"], &["serve"]] {
        let output = countersign(&[arguments, &["--dir", dir]].concat());
        assert_eq!(output.status.code(), Some(4), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains("countersign init") && said.contains(dir), "{said}");
    }
    assert!(init(Path::new(dir)).status.success());
    assert!(text(&countersign(&["doctor", "--dir", dir]).stderr).contains("0 faults, 0 warnings."));
    fs::remove_file(Path::new(dir).join("data/begin")).unwrap();
    assert!(text(&countersign(&["doctor", "--dir", dir]).stderr).contains("1 fault, 0 warnings."));
}

#[test]
fn the_help_says_the_exit_codes_and_the_forms_of_an_address() {
    for arguments in [&["--help"][..], &["submit", "--help"], &["evidence", "--help"]] {
        let said = countersign(arguments);
        assert!(text(&said.stdout).contains("Exit codes:"), "{arguments:?}");
    }
    let submit = countersign(&["submit", "--help"]);
    assert!(text(&submit.stdout).contains("http://host:port"));
    assert!(text(&submit.stdout).contains("--insecure-dev"));
}

#[test]
fn a_submission_that_can_not_begin_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    assert!(init(&dir).status.success());
    let (gate, out) = (dir.join("identities/gate"), parent.path().join("out"));
    let file = parent.path().join("verdicts.jsonl");
    let submit = |file: &Path, expected: i32| {
        let [file, gate, out] = [file, &gate, &out].map(|path| path.to_str().unwrap());
        let what = ["submit", file, "--server", "127.0.0.1:1", "--identity", gate, "--out", out];
        let output = countersign(&what);
        assert_eq!(output.status.code(), Some(expected), "{}", text(&output.stderr));
        assert!(!Path::new(out).exists());
        text(&output.stderr).to_owned()
    };
    fs::write(&file, "{}\n").unwrap();
    let said = submit(&file, 4);
    assert!(
        said.contains("connection was refused") && said.contains("countersign serve"),
        "{said}"
    );
    fs::write(&file, "").unwrap();
    assert!(submit(&file, 3).contains("nothing was submitted"));
    assert!(submit(Path::new("-"), 2).contains("standard input is not taken"));
}

/// Nobody takes what it says: an I/O error in a sentence, and no panic.
#[test]
fn standard_output_that_can_not_be_written_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    assert!(init(&path).status.success());
    let dir = path.to_str().unwrap();
    let commands: [&[&str]; 5] = [
        &["explain", "SEQ_GAP"],
        &["explain"],
        &["completions", "bash"],
        &["config", "show", "--dir", dir],
        &["doctor", "--dir", dir],
    ];
    for command in commands {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_countersign"));
        let output = program.args(command).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{command:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("standard output can't be written"), "{command:?}");
    }
}

#[test]
fn every_code_is_explained() {
    for code in Code::ALL {
        let output = countersign(&["explain", code.as_str()]);
        assert!(output.status.success());
        let said = text(&output.stdout);
        assert!(said.contains(code.what()) && said.contains(code.remedy()), "{said}");
    }
    let all = countersign(&["explain"]);
    assert!(Code::ALL.iter().all(|code| text(&all.stdout).contains(code.as_str())));
    assert!(countersign(&["explain", "seq_gap"]).status.success());
    // A code that is met in two places says which meaning is of which; one of a single meaning
    // needs no such word.
    let two = countersign(&["explain", "GATE_SILENT"]);
    for place in ["As the answer to a call", "As a finding of countersign reconcile"] {
        assert!(text(&two.stdout).contains(place), "{}", text(&two.stdout));
        assert!(text(&all.stdout).contains(place));
    }
    assert!(!text(&countersign(&["explain", "SEQ_GAP"]).stdout).contains("As the answer"));
    let unknown = countersign(&["explain", "NO\u{202e}SUCH"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("NO\\u{202e}SUCH"), "escaped");
}

/// What can't be meant is told before anything is called, with what could be.
#[test]
fn a_question_is_checked_before_it_is_asked() {
    let ask = |what: &[&str]| {
        let to = ["--server", "127.0.0.1:1", "--identity", "/nonexistent"];
        let output = countersign(&[&["query"], what, &to].concat());
        assert_eq!(output.status.code(), Some(2), "{what:?}: {}", text(&output.stderr));
        text(&output.stderr).to_owned()
    };
    for (what, said) in [
        (["--outcome", "refused"], "refuse"),
        (["--kind", "verdicts"], "verdict"),
        (["--mode", "enforced"], "enforce"),
        (["--action-id", "42"], "UUID of version 7"),
        (["--policy-digest", "ab"], "64 digits"),
        (["--since", "yesterday"], "2d"),
        (["--to", "2026-11-23"], "2026-11-23T02:00:00Z"),
    ] {
        let answer = ask(&what);
        assert!(answer.contains(said) && !answer.contains("QUERY_MALFORMED"), "{answer}");
    }
    let head = |server: &str| {
        let output = countersign(&["head", "--server", server, "--identity", "/nonexistent"]);
        (output.status.code(), text(&output.stderr).to_owned())
    };
    for server in ["localhost", "localhost:", ":7443", "localhost:x", "localhost:0", "::1"] {
        let (code, said) = head(server);
        assert!(code == Some(2) && said.contains("localhost:7443"), "{server}: {said}");
    }
    for server in
        ["localhost:7443", "[::1]:7443", "http://127.0.0.1:7443", "https://ledger.example"]
    {
        assert_eq!(head(server).0, Some(4), "{server}: the identity is what is missing");
    }
}

#[test]
fn completions_and_manual_pages_come_out() {
    for shell in ["bash", "zsh", "fish"] {
        let output = countersign(&["completions", shell]);
        assert!(output.status.success() && output.stdout.len() > 1_000, "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(countersign(&["man", "--out", dir.path().to_str().unwrap()]).status.success());
    let page = fs::read_to_string(dir.path().join("countersign-submit.1")).unwrap();
    assert!(page.contains("identity"));
}

#[test]
fn what_is_not_there_is_said_with_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nothing");
    let missing = missing.to_str().unwrap();
    let output = countersign(&["serve", "--dir", missing]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let output = countersign(&["head", "--server", "127.0.0.1:1", "--identity", missing]);
    assert_eq!(output.status.code(), Some(4));
    let installed = dir.path().join("ledger");
    assert!(init(&installed).status.success());
    let gate = installed.join("identities/gate");
    let output =
        countersign(&["head", "--server", "127.0.0.1:1", "--identity", gate.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("explain UNREACHABLE"));
    assert_eq!(countersign(&["no-such-command"]).status.code(), Some(2));
}
