//! `config show`, and the one place where flags and environment meet the file.

use std::path::{Path, PathBuf};

use countersign_server::config::{ConfigError, ServerConfig};

use crate::args::{ConfigArgs, ConfigCommand, Overrides};
use crate::exit::{Exit, Failure};
use crate::files::shown;

/// Name of the configuration in an installation's folder.
pub(crate) const CONFIG_FILE: &str = "countersign.toml";

pub(crate) fn run(args: &ConfigArgs) -> Result<Exit, Failure> {
    let ConfigCommand::Show(args) = &args.command;
    let config = read(&args.dir, &args.overrides)?;
    // Shown only when it would also start, so that what is printed is what is in force.
    config.clone().check(false).map_err(|error| failure(&error))?;
    let text = toml::to_string(&config).map_err(|error| {
        Failure::internal(format!("the configuration can't be printed: {error}"))
    })?;
    tell_raw!("{text}");
    Ok(Exit::Success)
}

/// The file's configuration, and over it what flags and environment say (clap has put the former
/// over the latter).
pub(crate) fn read(dir: &Path, overrides: &Overrides) -> Result<ServerConfig, Failure> {
    // Whoever prints or keeps a path of it may stand elsewhere.
    let dir = absolute(dir)?;
    let path = dir.join(CONFIG_FILE);
    if !path.exists() {
        let (path, dir) = (shown(&path), shown(&dir));
        return Err(Failure::io(format!(
            "{path} is not there, so {dir} holds no ledger. Name the folder of one, or run \
             countersign init --dir {dir} to make one."
        )));
    }
    let mut config = ServerConfig::read(&path).map_err(|error| failure(&error))?;
    let Overrides { grpc, http, data_dir, head_interval_ms, head_republish_s, drain_timeout_s } =
        overrides;
    config.grpc = grpc.unwrap_or(config.grpc);
    config.http = http.unwrap_or(config.http);
    if let Some(data_dir) = data_dir {
        config.data_dir = absolute(data_dir)?;
    }
    config.head_interval_ms = head_interval_ms.unwrap_or(config.head_interval_ms);
    config.head_republish_s = head_republish_s.unwrap_or(config.head_republish_s);
    config.drain_timeout_s = drain_timeout_s.unwrap_or(config.drain_timeout_s);
    Ok(config)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("the path {}: {error}.", shown(path))))
}

/// A configuration that can't be used.
pub(crate) fn failure(error: &ConfigError) -> Failure {
    let exit = match error {
        ConfigError::Unreadable { .. } => Exit::Io,
        _ => Exit::Usage,
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !message.contains(&said) {
            message.push_str(": ");
            message.push_str(&said);
        }
        cause = inner.source();
    }
    Failure { exit, message }
}
