//! The section `[witnesses]` of `countersign.toml`: whom the ledger asks to cosign its heads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_core::codes::Fault;
use countersign_core::quorum::{POLICY_BYTES_MAX, WitnessPolicy};
use countersign_mirror::source::SourceError;
use countersign_mirror::witness::ask::RemoteWitness;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, read_text};

/// The section. Without it, nobody is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessSection {
    /// File of a C2SP tlog-policy, whose witnesses have URLs; relative to this configuration.
    pub policy: PathBuf,
    /// Milliseconds that the witnesses have for one head: what is there by then is published.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Seconds that the ledger waits for them at the start, before it signs anything.
    #[serde(default = "default_start_wait_s")]
    pub start_wait_s: u64,
}

const fn default_timeout_ms() -> u64 {
    2_000
}

const fn default_start_wait_s() -> u64 {
    10
}

/// What is wrong with the witness policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It does not parse.
    #[error("{} is no witness policy: {fault}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        fault: Fault,
    },
    /// A witness can't be asked under its URL.
    #[error("witness {name} of {}: {source}", path.display())]
    Url {
        /// The file.
        path: PathBuf,
        /// Its name in the policy.
        name: String,
        /// Why not.
        source: SourceError,
    },
    /// Nobody can be asked.
    #[error(
        "{} names no witness with a URL, so that nobody can be asked: put the URL of add-checkpoint's \
         folder at the end of a witness's line, or remove the section [witnesses]",
        path.display()
    )]
    Nobody {
        /// The file.
        path: PathBuf,
    },
}

/// The section, checked and its policy read.
#[derive(Debug, Clone)]
pub struct CheckedWitnesses {
    pub(crate) policy: WitnessPolicy,
    pub(crate) remotes: Vec<RemoteWitness>,
    pub(crate) timeout: Duration,
    pub(crate) start_wait: Duration,
}

impl WitnessSection {
    pub(crate) fn resolve(&mut self, dir: &Path) {
        self.policy = dir.join(&self.policy);
    }

    pub(crate) fn check(&self) -> Result<CheckedWitnesses, ConfigError> {
        let ranges = [
            (
                (50..=30_000).contains(&self.timeout_ms),
                "witnesses.timeout_ms",
                "choose 50 to 30000",
            ),
            ((1..=600).contains(&self.start_wait_s), "witnesses.start_wait_s", "choose 1 to 600"),
        ];
        for (holds, key, remedy) in ranges {
            if !holds {
                return Err(ConfigError::Value { key, remedy });
            }
        }
        let path = || self.policy.clone();
        let text = read_text(&self.policy, POLICY_BYTES_MAX as u64)?;
        let policy = WitnessPolicy::parse(&text)
            .map_err(|fault| PolicyError::Malformed { path: path(), fault })?;
        let mut remotes = Vec::new();
        for witness in policy.witnesses() {
            let remote = RemoteWitness::new(&witness).map_err(|source| PolicyError::Url {
                path: path(),
                name: witness.name.clone(),
                source,
            })?;
            remotes.extend(remote);
        }
        if remotes.is_empty() {
            return Err(PolicyError::Nobody { path: path() }.into());
        }
        Ok(CheckedWitnesses {
            policy,
            remotes,
            timeout: Duration::from_millis(self.timeout_ms),
            start_wait: Duration::from_secs(self.start_wait_s),
        })
    }
}
