//! Configurations that are refused before a port is bound, each by the key that is wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, unreachable_pub, reason = "each test uses its part of the stage")]
mod support;

use std::net::SocketAddr;

use countersign_server::config::{ConfigError, RevokedSection, ServerConfig};
use support::{Authority, GATE};

const EXAMPLE: &str = r#"
origin = "ledger.acme.example/prod"
grpc = "127.0.0.1:7443"

[keys]
log = "keys/log.pem"
clock = "keys/clock.pem"
ledger = "keys/ledger.pem"

[tls]
cert = "tls/server.pem"
key = "tls/server.key"
client_roots = ["ca/clients.pem"]

[gates]
trust_domain = "acme.example"
roots = ["ca/gates.pem"]

[limits]
batch_records_max = 512
"#;

fn key_of(error: &ConfigError) -> String {
    match error {
        ConfigError::Value { key, .. } | ConfigError::Roots { key, .. } => (*key).to_owned(),
        ConfigError::Limit(limit) => format!("limits.{}", limit.name),
        ConfigError::DevIdentity { .. } => "insecure_dev_identity".to_owned(),
        ConfigError::Tls(_) => "tls".to_owned(),
        other => other.to_string(),
    }
}

#[test]
fn a_file_is_read_with_paths_relative_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("countersign.toml");
    std::fs::write(&path, EXAMPLE).unwrap();
    let config = ServerConfig::read(&path).unwrap();
    assert_eq!(config.limits.batch_records_max, 512);
    assert_eq!(config.limits.calls_in_flight_max, 1_024);
    assert_eq!(config.head_interval_ms, 1_000);
    assert_eq!(config.data_dir, dir.path().join("data"));
    assert_eq!(config.keys.log, dir.path().join("keys/log.pem"));
    assert_eq!(config.tls.as_ref().unwrap().client_roots, [dir.path().join("ca/clients.pem")]);
    // What is shown can be read again.
    let shown = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<ServerConfig>(&shown).unwrap(), config);
}

#[test]
fn unknown_keys_are_refused_at_every_level() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("countersign.toml");
    for (from, to) in [
        ("grpc =", "gprc ="),
        ("log =", "lgo = \"x\"\nlog ="),
        ("batch_records_max", "batch_record_max"),
        ("trust_domain =", "tenants = []\ntrust_domain ="),
    ] {
        std::fs::write(&path, EXAMPLE.replace(from, to)).unwrap();
        let error = ServerConfig::read(&path).unwrap_err();
        assert!(matches!(error, ConfigError::Malformed { .. }), "{to}: {error}");
    }
    std::fs::write(&path, "#".repeat(300 * 1024)).unwrap();
    let error = ServerConfig::read(&path).unwrap_err();
    assert!(matches!(error, ConfigError::TooLarge { .. }), "{error}");
}

#[test]
fn each_wrong_value_is_refused_by_its_key() {
    type Change = fn(&mut ServerConfig);
    let cases: [(&str, Change); 14] = [
        ("origin", |c| c.origin = "has space".to_owned()),
        ("head_interval_ms", |c| c.head_interval_ms = 1),
        ("head_republish_s", |c| c.head_republish_s = 0),
        ("head_republish_s", |c| (c.head_interval_ms, c.head_republish_s) = (5_000, 2)),
        ("drain_timeout_s", |c| c.drain_timeout_s = 0),
        ("gates.trust_domain", |c| c.gates.trust_domain = "ACME".to_owned()),
        ("gates.roots", |c| c.gates.roots.clear()),
        ("gates.roots", |c| c.gates.roots = vec![c.tls.as_ref().unwrap().key.clone()]),
        // A leaf is not a root.
        ("people.roots", |c| c.people.roots = vec![c.tls.as_ref().unwrap().cert.clone()]),
        ("limits.batch_records_max", |c| c.limits.batch_records_max = 100_000),
        ("tls", |c| c.tls = None),
        ("tls", |c| c.tls.as_mut().unwrap().key = c.gates.roots.first().unwrap().clone()),
        ("insecure_dev_identity", |c| c.insecure_dev_identity = Some(GATE.to_owned())),
        ("revoked", |c| {
            let (key, from) = ("AAAA".to_owned(), "yesterday".to_owned());
            c.revoked = vec![RevokedSection { key, from }];
        }),
    ];
    let dir = tempfile::tempdir().unwrap();
    let (server_ca, client_ca) = (Authority::new(), Authority::new());
    let good = support::config(&dir, &server_ca, &client_ca);
    good.clone().check(false).unwrap();
    for (key, change) in cases {
        let mut config = good.clone();
        change(&mut config);
        let error = config.check(false).unwrap_err();
        assert_eq!(key_of(&error), key, "{error}");
    }
}

#[test]
fn plain_tcp_is_for_loopback_and_a_named_identity() {
    type Change = fn(&mut ServerConfig);
    let cases: [(&str, Change); 6] = [
        ("grpc", |c| c.grpc = SocketAddr::from(([0, 0, 0, 0], 0))),
        ("gate.grpc", |c| c.gate.grpc = SocketAddr::from(([0, 0, 0, 0], 0))),
        ("gate.authzen", |c| c.gate.authzen = SocketAddr::from(([0, 0, 0, 0], 0))),
        ("insecure_dev_identity", |c| c.insecure_dev_identity = None),
        ("insecure_dev_identity", |c| c.insecure_dev_identity = Some("prod-1".to_owned())),
        ("insecure_dev_identity", |c| {
            let elsewhere = "spiffe://evil.example/tenant/acme/gate/prod-1";
            c.insecure_dev_identity = Some(elsewhere.to_owned());
        }),
    ];
    let dir = tempfile::tempdir().unwrap();
    let (server_ca, client_ca) = (Authority::new(), Authority::new());
    let mut good = support::config(&dir, &server_ca, &client_ca);
    good.insecure_dev_identity = Some(GATE.to_owned());
    good.tls = None;
    good.clone().check(true).unwrap();
    for (key, change) in cases {
        let mut config = good.clone();
        change(&mut config);
        let error = config.check(true).unwrap_err();
        assert_eq!(key_of(&error), key, "{error}");
    }
}
