//! From an intent to its verified receipt: a real ledger and a real gate, mTLS over loopback, the
//! client verifying every answer. All of them share the machine's cores; fsync is on in both.

use std::path::Path;
use std::time::Duration;

use countersign_client::{ClientConfig, GateClient, TlsIdentity};
use countersign_core::note::VerifierKey;
use serde_json::json;

use crate::core::{start, text};
use crate::figure::{Figure, number, percentile};
use crate::house::House;

/// Intents a second: one every so many microseconds, whether or not the last was answered.
const EVERY: Duration = Duration::from_millis(5);

async fn client(house: &House, gate: &str) -> Result<GateClient, String> {
    let read = |name: &str| {
        let path = house.dir.join("identities/pep").join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let vkey = |name: &str| VerifierKey::parse(read(name)?.trim_end()).map_err(text);
    let mut config = ClientConfig::new(format!("https://{gate}"), vkey("log.vkey")?);
    config.clocks = vec![vkey("clock.vkey")?];
    config.server_roots = Some(read("ca.pem")?);
    config.server_name = Some("localhost".to_owned());
    let (cert_pem, key_pem) = (read("cert.pem")?, read("key.pem")?);
    config.identity = Some(TlsIdentity { cert_pem, key_pem });
    GateClient::connect(config, None).await.map_err(text)
}

/// Latency of evaluate → verified receipt at 200 intents a second, for so many seconds.
pub(crate) async fn evaluate(dir: &Path, seconds: u64) -> Result<Vec<Figure>, String> {
    let house = House::made(dir.join("gate-bench"))?;
    let policy = house.path("policy")?;
    house.run(&["policy", "pack", "infrastructure", "--out", &policy])?;
    std::fs::create_dir_all(house.dir.join("gate")).map_err(text)?;
    let directory = house.dir.join("policy/directory.json");
    std::fs::copy(directory, house.dir.join("gate/directory.json")).map_err(text)?;
    let (_ledger, ledger) = house.start("serve", &[]).await?;
    let (_gate, gate) = house.start("gate", &["--ledger", &ledger]).await?;
    let owner = house.path("identities/policy-admin")?;
    house.run(&[
        "policy",
        "activate",
        &policy,
        "--policy-id",
        "infrastructure",
        "--version",
        "1",
        "--gate",
        &gate,
        "--identity",
        &owner,
    ])?;
    let client = client(&house, &gate).await?;
    let wanted = seconds * 200;
    let begun = start();
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..wanted {
        let due = EVERY * u32::try_from(n).map_err(text)?;
        tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        let client = client.clone();
        let intent = json!({
            "verb": "ec2:DescribeInstances",
            "class": "read",
            "actor": {"kind": "agent", "id": "infra-assistant-7", "session": format!("s-{}", n / 50)},
            "resource": {"type": "System", "id": "storefront"},
            "task": {"ticket": "OPS-1"},
        });
        asked.spawn(async move {
            let start = start();
            let judged = client.evaluate(&intent.to_string(), "").await.map_err(text)?;
            let took = start.elapsed().as_secs_f64() * 1e3;
            let proven = judged.outcome == "approve" && judged.evidence.is_some();
            if proven { Ok(took) } else { Err(format!("not approved: {judged:?}")) }
        });
    }
    let mut sample = Vec::new();
    while let Some(done) = asked.join_next().await {
        sample.push(done.map_err(text)??);
    }
    sample.sort_by(f64::total_cmp);
    Ok(vec![
        Figure::plain("evaluate_samples", number(sample.len() as u64), "intents"),
        Figure::at_most("evaluate_to_receipt_p50", percentile(&sample, 0.50), "ms", 5.0),
        Figure::at_most("evaluate_to_receipt_p99", percentile(&sample, 0.99), "ms", 25.0),
    ])
}
