//! `witness.toml`: who the witness is and which logs it knows.

use std::collections::BTreeSet;
use std::path::PathBuf;

use countersign_core::codes::Fault;
use countersign_core::encoding::escaped;
use countersign_core::note::{KeyType, VerifierKey};
use serde::Deserialize;

use super::checkpoint::ORIGIN_BYTES_MAX;

/// Bytes that the file may have.
pub const CONFIG_BYTES_MAX: usize = 1_024 * 1_024;
/// Logs that it may name, and keys of one log.
pub const LOGS_MAX: usize = 4_096;
/// Keys that a log may have, an old one and its successor being the usual case.
pub const KEYS_MAX: usize = 8;

/// A log that is witnessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessedLog {
    /// Its name, the first line of its checkpoints.
    pub origin: String,
    /// The keys of type 0x01 that may sign its heads: any of them serves.
    pub keys: Vec<VerifierKey>,
}

/// The file, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessConfig {
    /// The witness's name, which its cosignatures bear.
    pub name: String,
    /// File of its Ed25519 key, PKCS#8 in PEM, relative to this file.
    pub key: PathBuf,
    /// The logs.
    pub logs: Vec<WitnessedLog>,
}

/// What is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not TOML of this shape.
    #[error("witness.toml can't be read: {0}")]
    Toml(String),
    /// A vkey that is none, or of a type that signs no heads.
    #[error("the vkey {vkey} of a log can't be used: {fault}")]
    Vkey {
        /// The vkey, escaped.
        vkey: String,
        /// Why not.
        fault: Fault,
    },
    /// A vkey of another type than 0x01.
    #[error("the vkey {0} is not of type 1, which signs a log's heads; give the log's own vkey")]
    NotALogs(String),
    /// A log without keys, or with too many.
    #[error("the log {0} has no vkeys, or more than 8; name those that sign it now")]
    Keys(String),
    /// One log twice.
    #[error("the log {0} is named twice; put its vkeys into one [[log]]")]
    Twice(String),
    /// An origin that no checkpoint can have.
    #[error("the origin {0} is empty, too long or has control characters; copy it from the log")]
    Origin(String),
    /// Too many logs.
    #[error("more than 4,096 logs are named; run several witnesses, each with a key of its own")]
    Logs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    name: String,
    key: PathBuf,
    #[serde(default)]
    log: Vec<LogSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSection {
    origin: Option<String>,
    vkeys: Vec<String>,
}

impl WitnessConfig {
    /// Reads the file's text. A log's origin is its first key's name unless it is given.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file: ConfigFile =
            toml::from_str(text).map_err(|error| ConfigError::Toml(escaped(&error.to_string())))?;
        if file.log.len() > LOGS_MAX {
            return Err(ConfigError::Logs);
        }
        let logs = file.log.into_iter().map(LogSection::read).collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeSet::new();
        if let Some(log) = logs.iter().find(|log| !seen.insert(&log.origin)) {
            return Err(ConfigError::Twice(escaped(&log.origin)));
        }
        Ok(Self { name: file.name, key: file.key, logs })
    }
}

impl LogSection {
    fn read(self) -> Result<WitnessedLog, ConfigError> {
        let keys = self.vkeys.iter().map(|vkey| read_vkey(vkey)).collect::<Result<Vec<_>, _>>()?;
        let first = keys.first().map(|vkey| vkey.name.clone());
        let origin = self.origin.or(first).unwrap_or_default();
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(ConfigError::Keys(escaped(&origin)));
        }
        let control = origin.bytes().any(|b| b < 0x20);
        if origin.is_empty() || origin.len() > ORIGIN_BYTES_MAX || control {
            return Err(ConfigError::Origin(escaped(&origin)));
        }
        Ok(WitnessedLog { origin, keys })
    }
}

fn read_vkey(text: &str) -> Result<VerifierKey, ConfigError> {
    let shown = || escaped(text);
    let vkey =
        VerifierKey::parse(text).map_err(|fault| ConfigError::Vkey { vkey: shown(), fault })?;
    if vkey.key_type == KeyType::Note { Ok(vkey) } else { Err(ConfigError::NotALogs(shown())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

    #[test]
    fn logs_are_named_by_their_keys_or_by_hand() {
        let text = format!(
            "name = \"w\"\nkey = \"k.pem\"\n[[log]]\nvkeys = [\"{LOG}\"]\n\
             [[log]]\norigin = \"go.sum database tree\"\nvkeys = [\"{LOG}\"]\n"
        );
        let config = WitnessConfig::parse(&text).unwrap();
        let origins: Vec<&str> = config.logs.iter().map(|log| log.origin.as_str()).collect();
        assert_eq!(origins, ["example.com/foo", "go.sum database tree"]);
        assert_eq!(config.key, PathBuf::from("k.pem"));
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        let cosigner = LOG.replace("foo+530d903a+AekyeRrm", "foo+530d903a+BekyeRrm");
        for (tail, why) in [
            ("nme = \"w\"\n".to_owned(), "unknown field"),
            ("[[log]]\nvkeys = []\n".to_owned(), "no vkeys"),
            ("[[log]]\nvkeys = [\"x\"]\n".to_owned(), "can't be used"),
            (format!("[[log]]\nvkeys = [\"{cosigner}\"]\n"), "can't be used"),
            (format!("[[log]]\norigin = \"\"\nvkeys = [\"{LOG}\"]\n"), "the origin"),
            (format!("[[log]]\nvkeys = [\"{LOG}\"]\n").repeat(2), "twice"),
        ] {
            let text = format!("name = \"w\"\nkey = \"k.pem\"\n{tail}");
            let error = WitnessConfig::parse(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{tail}: {error}");
        }
        assert!(WitnessConfig::parse("name = \"w\"\n").is_err());
    }
}
