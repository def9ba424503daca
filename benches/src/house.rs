//! Real processes to measure: an installation of its own, on loopback with mTLS.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use countersign_client::{Client, ClientConfig, Gate, GateIdentity, Retry, TlsIdentity};
use countersign_core::cert::split_pem_bundle;
use countersign_core::note::VerifierKey;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use serde_json::Value;

use crate::core::text;

const ORIGIN: &str = "bench.example/gate";

/// A process that ends with this value.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that `countersign init` made, and the program that serves it.
pub(crate) struct House {
    pub(crate) program: PathBuf,
    pub(crate) dir: PathBuf,
}

impl House {
    /// A new installation in `dir` for the tenant `bench` and its gate `load-1`.
    pub(crate) fn made(dir: PathBuf) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(text)?.with_file_name("countersign");
        let house = Self { program, dir };
        let folder = house.path("")?;
        let folder = folder.trim_end_matches('/');
        house.run(&[
            "init", "--dir", folder, "--origin", ORIGIN, "--tenant", "bench", "--gate", "load-1",
        ])?;
        Ok(house)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<(), String> {
        let status = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(text)?;
        if status.success() { Ok(()) } else { Err(format!("countersign {arguments:?}: {status}")) }
    }

    pub(crate) fn path(&self, name: &str) -> Result<String, String> {
        let path = self.dir.join(name);
        path.to_str().map(str::to_owned).ok_or_else(|| "a path is no UTF-8".to_owned())
    }

    /// An instance of the gate, connected to a ledger at this gRPC address.
    pub(crate) async fn gate(&self, ledger: &str, instance: u32) -> Result<Gate, String> {
        gate(&self.dir, ledger, instance).await
    }

    /// Starts a service and gives its gRPC address.
    pub(crate) async fn start(
        &self,
        what: &str,
        more: &[&str],
    ) -> Result<(Process, String), String> {
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
}

/// An instance of the gate of the installation in this folder, connected to a ledger at this gRPC
/// address.
pub(crate) async fn gate(dir: &Path, ledger: &str, instance: u32) -> Result<Gate, String> {
    let read = |name: &str| {
        let path = dir.join("identities/gate").join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let vkey = |name: &str| VerifierKey::parse(read(name)?.trim_end()).map_err(text);
    let mut config = ClientConfig::new(format!("https://{ledger}"), vkey("log.vkey")?);
    config.clocks = vec![vkey("clock.vkey")?];
    config.server_roots = Some(read("ca.pem")?);
    config.server_name = Some("localhost".to_owned());
    let (cert_pem, key_pem) = (read("cert.pem")?, read("key.pem")?);
    let identity = GateIdentity {
        tenant: "bench".to_owned(),
        gate: "load-1".to_owned(),
        seal_key: SigningKey::from_pkcs8_pem(&key_pem).map_err(text)?,
        chain: split_pem_bundle(&cert_pem).map_err(text)?,
        instance,
        software: "bench".to_owned(),
    };
    config.identity = Some(TlsIdentity { cert_pem, key_pem });
    let client = Client::connect(config).await.map_err(text)?;
    Gate::open(client, identity, Retry::default()).await.map_err(text)
}
