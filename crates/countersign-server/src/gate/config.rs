//! The section `[gate]` of `countersign.toml`: what a gate service is told before it starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::webhook::WebhookSection;
use crate::config::ConfigError;

/// The section `[gate]`. Paths are relative to the folder of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateSettings {
    /// Address of the gRPC port.
    pub grpc: SocketAddr,
    /// Address of the HTTP port.
    pub http: SocketAddr,
    /// Address of the AuthZEN port (spec/authzen.md).
    pub authzen: SocketAddr,
    /// The URL that the AuthZEN port is reached under, without a slash at its end, for its
    /// metadata; `https://` and the address unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authzen_url: Option<String>,
    /// Folder of the gate's own state: the outbox and what it remembers.
    pub state_dir: PathBuf,
    /// The tenant's directory of actors, people and resources (spec/policy.md, DIR-1).
    pub directory: PathBuf,
    /// Milliseconds within which `Evaluate` answers, logged or not.
    pub answer_timeout_ms: u64,
    /// Seconds for which a permit may be used.
    pub permit_ttl_s: u64,
    /// Records that may wait to be logged; an intent that finds no room is refused.
    pub outbox_max: u64,
    /// Permits that may be out without an outcome; what would be one more is refused.
    pub permits_max: u64,
    /// Seconds of silence after which a heartbeat is logged.
    pub heartbeat_s: u64,
    /// Whether an attempt is put on record before it is judged.
    pub intent_first: bool,
    /// Seconds that an emergency lasts at most.
    pub emergency_max_s: u64,
    /// Who is told at once of every refuse and supervise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSection>,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            grpc: SocketAddr::from(([127, 0, 0, 1], 7453)),
            http: SocketAddr::from(([127, 0, 0, 1], 7490)),
            authzen: SocketAddr::from(([127, 0, 0, 1], 7454)),
            authzen_url: None,
            state_dir: PathBuf::from("gate"),
            directory: PathBuf::from("gate/directory.json"),
            answer_timeout_ms: 2_000,
            permit_ttl_s: 300,
            outbox_max: 10_000,
            permits_max: 100_000,
            heartbeat_s: 60,
            intent_first: false,
            emergency_max_s: 4 * 3_600,
            webhook: None,
        }
    }
}

impl GateSettings {
    /// Makes every relative path relative to `dir`.
    pub(crate) fn resolve(&mut self, dir: &Path) {
        for path in [&mut self.state_dir, &mut self.directory] {
            *path = dir.join(&*path);
        }
        if let Some(webhook) = &mut self.webhook {
            webhook.resolve(dir);
        }
    }

    /// Whether every value is in its range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let ranges = [
            ("gate.answer_timeout_ms", self.answer_timeout_ms, 10, 60_000, "10 to 60000"),
            ("gate.permit_ttl_s", self.permit_ttl_s, 1, 86_400, "1 to 86400 seconds"),
            ("gate.outbox_max", self.outbox_max, 1, 1_000_000, "1 to 1000000 records"),
            ("gate.permits_max", self.permits_max, 1, 1_000_000, "1 to 1000000 permits"),
            ("gate.heartbeat_s", self.heartbeat_s, 1, 86_400, "1 to 86400 seconds"),
            ("gate.emergency_max_s", self.emergency_max_s, 60, 604_800, "60 to 604800 seconds"),
        ];
        for (key, value, min, max, remedy) in ranges {
            if !(min..=max).contains(&value) {
                return Err(ConfigError::Value { key, remedy });
            }
        }
        Ok(())
    }

    /// Within which an answer leaves.
    pub fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }
}
