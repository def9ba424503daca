//! From an intent to its verified receipt: a real ledger and a real gate, mTLS over loopback, the
//! client verifying every answer. All of them share the machine's cores; fsync is on in both.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use countersign_client::{ClientConfig, GateClient, TlsIdentity};
use countersign_core::note::VerifierKey;
use serde_json::{Value, json};

use crate::figure::{Figure, number, percentile};

const ORIGIN: &str = "bench.example/gate";
/// Intents a second: one every so many microseconds, whether or not the last was answered.
const EVERY: Duration = Duration::from_millis(5);

fn text<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

#[allow(clippy::disallowed_methods)] // Measuring time is what a benchmark is for.
fn now() -> Instant {
    Instant::now()
}

/// A process that ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct House {
    program: PathBuf,
    dir: PathBuf,
}

impl House {
    fn run(&self, arguments: &[&str]) -> Result<(), String> {
        let status = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(text)?;
        if status.success() { Ok(()) } else { Err(format!("countersign {arguments:?}: {status}")) }
    }

    fn path(&self, name: &str) -> Result<String, String> {
        let path = self.dir.join(name);
        path.to_str().map(str::to_owned).ok_or_else(|| "a path is no UTF-8".to_owned())
    }

    /// Starts a service and gives its gRPC address.
    async fn start(&self, what: &str, more: &[&str]) -> Result<(Process, String), String> {
        let ready = self.dir.join(format!("{what}.ready"));
        let child = Command::new(&self.program)
            .arg(what)
            .arg("--dir")
            .arg(&self.dir)
            .args(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(more)
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(text)?;
        let process = Process(child);
        for _ in 0..600 {
            if let Ok(found) = std::fs::read_to_string(&ready) {
                let found: Value = serde_json::from_str(&found).map_err(text)?;
                let grpc = found.get("grpc").and_then(Value::as_str);
                let grpc = grpc.ok_or("the ready file names no port")?.to_owned();
                return Ok((process, grpc));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("countersign {what} was not ready within 30 s"))
    }

    async fn client(&self, gate: &str) -> Result<GateClient, String> {
        let read = |name: &str| {
            let path = self.dir.join("identities/pep").join(name);
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
}

/// Latency of evaluate → verified receipt at 200 intents a second, for so many seconds.
pub(crate) async fn evaluate(dir: &Path, seconds: u64) -> Result<Vec<Figure>, String> {
    let program = std::env::current_exe().map_err(text)?.with_file_name("countersign");
    let house = House { program, dir: dir.join("gate-bench") };
    let folder = house.path("")?;
    let folder = folder.trim_end_matches('/');
    house.run(&[
        "init", "--dir", folder, "--origin", ORIGIN, "--tenant", "bench", "--gate", "load-1",
    ])?;
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
    let client = house.client(&gate).await?;
    let wanted = seconds * 200;
    let begun = now();
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
            let start = now();
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
