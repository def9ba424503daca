//! The house holds its shape: who may depend on whom, and what the verifier's tree never has.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The rooms and what each may depend on. Rooms whose issue comes later are named already.
const ROOMS: &[(&str, &[&str])] = &[
    ("countersign-core", &[]),
    ("countersign-gate", &["countersign-core"]),
    ("countersign-log", &["countersign-core"]),
    ("countersign-rocksdb", &["countersign-core", "countersign-log"]),
    ("countersign-proto", &["countersign-core"]),
    ("countersign-client", &["countersign-core", "countersign-proto"]),
    ("countersign-mirror", &["countersign-client", "countersign-core"]),
    (
        "countersign-server",
        &[
            "countersign-client",
            "countersign-core",
            "countersign-gate",
            "countersign-log",
            "countersign-mirror",
            "countersign-proto",
            "countersign-rocksdb",
        ],
    ),
    ("countersign-testkit", &["countersign-core", "countersign-log"]),
    (
        "countersign",
        &[
            "countersign-client",
            "countersign-core",
            "countersign-gate",
            "countersign-mirror",
            // Refusals of calls are read with it; it holds no logic.
            "countersign-proto",
            "countersign-server",
        ],
    ),
    ("countersign-verify", &["countersign-core", "countersign-gate"]),
];

/// Not rooms of the product: these may look into any.
const OUTSIDE: &[&str] = &["countersign-benches", "countersign-tests"];

/// Crates that bring a network or a database.
const NEVER_IN_VERIFIER: &[&str] = &[
    "axum",
    "h2",
    "hyper",
    "librocksdb-sys",
    "mio",
    "reqwest",
    "rocksdb",
    "rustls",
    "socket2",
    "tokio",
    "tonic",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        // Only what this machine builds: crates of other platforms may never have been fetched.
        .args(["metadata", "--offline", "--format-version", "1"])
        .args(["--filter-platform", &host()])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The platform that this machine builds for, as rustc names it.
fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// The packages of this workspace.
fn members(metadata: &Value) -> Vec<&Value> {
    let ids: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.filter(|package| ids.contains(package["id"].as_str().unwrap())).collect()
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap())
}

/// Whether it is needed only by tests.
fn is_dev(dependency: &Value) -> bool {
    dependency["kind"].as_str() == Some("dev")
}

/// What is wrong with the arrows between the workspace's crates.
fn wrong_arrows(metadata: &Value) -> Vec<String> {
    let members = members(metadata);
    let ours: BTreeSet<&str> = members.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let mut wrong = Vec::new();
    for package in members {
        let name = package["name"].as_str().unwrap();
        let row = ROOMS.iter().find(|(room, _)| *room == name);
        if row.is_none() && !OUTSIDE.contains(&name) {
            wrong.push(format!("{name} has no row in the table of rooms"));
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            if to == "rocksdb" && !["countersign-rocksdb", "countersign-benches"].contains(&name) {
                wrong.push(format!("{name} names rocksdb"));
            }
            if !ours.contains(to) {
                continue;
            }
            if to == "countersign-testkit" {
                // Its normal place would put faults into the product.
                if !is_dev(dependency) && !OUTSIDE.contains(&name) {
                    wrong.push(format!("{name} depends on {to} outside its tests"));
                }
            } else if let Some((_, may)) = row
                && !may.contains(&to)
                && !is_dev(dependency)
            {
                wrong.push(format!("{name} depends on {to}"));
            }
        }
    }
    wrong
}

/// The names of everything that a package is built with (build scripts included, tests not).
fn tree(metadata: &Value, of: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let edges: BTreeMap<&str, &Value> =
        nodes.iter().map(|node| (node["id"].as_str().unwrap(), &node["deps"])).collect();
    let start = members(metadata).into_iter().find(|p| p["name"].as_str() == Some(of));
    let mut waiting = vec![start.unwrap()["id"].as_str().unwrap()];
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in edges[id].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| !is_dev(kind)) {
                waiting.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    seen.into_iter().map(|id| names[id].to_owned()).collect()
}

#[test]
fn dependencies_point_inwards() {
    assert_eq!(wrong_arrows(&metadata()), Vec::<String>::new());
}

#[test]
fn the_verifier_has_no_network_and_no_database() {
    let metadata = metadata();
    let tree = tree(&metadata, "countersign-verify");
    assert!(tree.contains("countersign-core") && tree.contains("sha2"), "{tree:?}");
    let found: Vec<_> = NEVER_IN_VERIFIER.iter().filter(|name| tree.contains(**name)).collect();
    assert_eq!(found, Vec::<&&str>::new());
    // The walk sees what is there: the server's tree has them.
    let server = self::tree(&metadata, "countersign-server");
    assert!(["tokio", "tonic", "rocksdb", "hyper"].iter().all(|name| server.contains(*name)));
}

/// A tenant runs it: what it holds the ledger to must not be the ledger's own code.
#[test]
fn a_mirror_has_nothing_of_the_ledger() {
    let tree = tree(&metadata(), "countersign-mirror");
    let never = ["rocksdb", "countersign-log", "countersign-rocksdb", "countersign-server"];
    let found: Vec<_> = never.iter().filter(|name| tree.contains(**name)).collect();
    assert_eq!(found, Vec::<&&str>::new());
    assert!(tree.contains("countersign-core"), "{tree:?}");
}

#[test]
fn the_core_has_no_way_out() {
    let tree = tree(&metadata(), "countersign-core");
    let never = ["tokio", "tonic", "prost", "tracing", "log", "hyper", "rustls", "rocksdb"];
    let outward: Vec<_> = never.iter().filter(|name| tree.contains(**name)).collect();
    assert_eq!(outward, Vec::<&&str>::new());
}

#[test]
fn fuzz_targets_never_link_rocksdb() {
    let lock = std::fs::read_to_string(root().join("fuzz/Cargo.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    let names: Vec<&str> = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"countersign-core"), "{names:?}");
    let bad = ["rocksdb", "librocksdb-sys", "countersign-rocksdb", "countersign-server"];
    assert!(!bad.iter().any(|name| names.contains(name)), "{names:?}");
}

#[test]
fn an_arrow_that_points_outwards_is_found() {
    let mut metadata = metadata();
    let packages = metadata["packages"].as_array_mut().unwrap();
    let core = packages.iter_mut().find(|p| p["name"] == "countersign-core").unwrap();
    for name in ["countersign-log", "countersign-testkit", "rocksdb"] {
        let arrow = serde_json::json!({ "name": name, "kind": null });
        core["dependencies"].as_array_mut().unwrap().push(arrow);
    }
    let expected = [
        "countersign-core depends on countersign-log",
        "countersign-core depends on countersign-testkit outside its tests",
        "countersign-core names rocksdb",
    ];
    assert_eq!(wrong_arrows(&metadata), expected);
}
