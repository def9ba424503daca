//! `mirror.toml`: which logs are followed, and where they are kept.

use std::path::{Path, PathBuf};

use countersign_core::encoding::{escaped, is_origin};
use serde::Deserialize;

/// Bytes that the file may have.
pub const CONFIG_BYTES_MAX: usize = 1024 * 1024;
/// Logs that it may name.
pub const LOGS_MAX: usize = 1_024;
/// Seconds between two rounds where nothing is said.
pub const INTERVAL_S: u64 = 10;
/// Seconds that a published head may be behind one that was signed for somebody, where nothing is
/// said: some of the ledger's head intervals, and its idle one.
pub const BRANCH_GRACE_S: u64 = 300;

/// What is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not TOML of this shape.
    #[error("mirror.toml can't be read: {0}")]
    Toml(String),
    /// No place, or two.
    #[error("name either dir or to: one place for everything that is mirrored")]
    Place,
    /// No log, or too many.
    #[error("name between 1 and 1,024 logs, each in a [[log]]")]
    Logs,
    /// Not a name that a log has.
    #[error("the origin {0} is none; copy it from the log's vkey")]
    Origin(String),
    /// A number that makes no sense.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// gRPC needs both.
    #[error("name server and identity together: the one is called as the other")]
    Half,
}

/// The file, read. Paths are as they stand there, relative to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorConfig {
    /// A folder's path, or an `s3://` URL.
    pub to: String,
    /// Whether it is a folder, relative to the file.
    pub is_folder: bool,
    /// Seconds between two rounds.
    pub interval_s: u64,
    /// See [`super::Followed::branch_grace_s`].
    pub branch_grace_s: u64,
    /// The logs.
    pub logs: Vec<LogConfig>,
}

/// One log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Its name; none where the trust file names one log only.
    pub origin: Option<String>,
    /// URL of its tiles.
    pub from: String,
    /// The trust file.
    pub trust: PathBuf,
    /// Address of its gRPC, and the folder of the identity to call with.
    pub server: Option<(String, PathBuf)>,
    /// Folder of receipts or evidence to hold against it.
    pub receipts: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    dir: Option<String>,
    to: Option<String>,
    trust: PathBuf,
    #[serde(default = "interval_s")]
    interval_s: u64,
    #[serde(default = "branch_grace_s")]
    branch_grace_s: u64,
    #[serde(default)]
    log: Vec<LogSection>,
}

fn interval_s() -> u64 {
    INTERVAL_S
}

fn branch_grace_s() -> u64 {
    BRANCH_GRACE_S
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSection {
    origin: Option<String>,
    from: String,
    trust: Option<PathBuf>,
    server: Option<String>,
    identity: Option<PathBuf>,
    receipts: Option<PathBuf>,
}

impl MirrorConfig {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file: ConfigFile =
            toml::from_str(text).map_err(|error| ConfigError::Toml(escaped(&error.to_string())))?;
        let (to, is_folder) = match (file.dir, file.to) {
            (Some(dir), None) => (dir, true),
            (None, Some(to)) => (to, false),
            _ => return Err(ConfigError::Place),
        };
        if !(1..=LOGS_MAX).contains(&file.log.len()) {
            return Err(ConfigError::Logs);
        }
        if file.interval_s == 0 {
            return Err(ConfigError::Zero("interval_s"));
        }
        let logs = file.log.into_iter().map(|log| log.read(&file.trust));
        let logs = logs.collect::<Result<Vec<_>, _>>()?;
        let (interval_s, branch_grace_s) = (file.interval_s, file.branch_grace_s);
        Ok(Self { to, is_folder, interval_s, branch_grace_s, logs })
    }
}

impl LogSection {
    fn read(self, trust: &Path) -> Result<LogConfig, ConfigError> {
        if let Some(origin) = self.origin.as_ref().filter(|origin| !is_origin(origin)) {
            return Err(ConfigError::Origin(escaped(origin)));
        }
        let server = match (self.server, self.identity) {
            (Some(server), Some(identity)) => Some((server, identity)),
            (None, None) => None,
            _ => return Err(ConfigError::Half),
        };
        let trust = self.trust.unwrap_or_else(|| trust.to_owned());
        let (origin, from, receipts) = (self.origin, self.from, self.receipts);
        Ok(LogConfig { origin, from, trust, server, receipts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_logs_have_one_place() {
        let text = "dir = \"m\"\ntrust = \"t.toml\"\n[[log]]\nfrom = \"http://a\"\n[[log]]\n\
                    from = \"http://b\"\norigin = \"b\"\ntrust = \"b.toml\"\nserver = \"b:1\"\n\
                    identity = \"i\"\nreceipts = \"r\"\n";
        let config = MirrorConfig::parse(text).unwrap();
        assert_eq!((config.to.as_str(), config.is_folder, config.interval_s), ("m", true, 10));
        let trusts: Vec<_> = config.logs.iter().map(|log| log.trust.to_str().unwrap()).collect();
        assert_eq!(trusts, ["t.toml", "b.toml"]);
        assert_eq!(config.logs[1].server, Some(("b:1".to_owned(), PathBuf::from("i"))));
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        let log = "[[log]]\nfrom = \"http://a\"\n";
        for (text, why) in [
            (format!("trust = \"t\"\n{log}"), "either dir or to"),
            (format!("dir = \"a\"\nto = \"s3://b\"\ntrust = \"t\"\n{log}"), "either dir or to"),
            ("dir = \"a\"\ntrust = \"t\"\n".to_owned(), "[[log]]"),
            (format!("dir = \"a\"\ntrust = \"t\"\ninterval_s = 0\n{log}"), "interval_s"),
            (format!("dir = \"a\"\ntrust = \"t\"\n{log}origin = \"a b\"\n"), "the origin"),
            (format!("dir = \"a\"\ntrust = \"t\"\n{log}server = \"s\"\n"), "together"),
            (format!("dir = \"a\"\ntrust = \"t\"\n{log}sever = \"s\"\n"), "unknown field"),
        ] {
            let error = MirrorConfig::parse(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
