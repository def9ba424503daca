//! What is to be mirrored, from the command line or `mirror.toml`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_client::ClientConfig;
use countersign_core::encoding::escaped;
use countersign_core::trust::Trust;
use countersign_mirror::follow::EvidenceError;
use countersign_mirror::follow::Followed;
use countersign_mirror::follow::config::{
    BRANCH_GRACE_S, CONFIG_BYTES_MAX, INTERVAL_S, LogConfig, MirrorConfig,
};
use countersign_mirror::source::HttpSource;
use countersign_mirror::storage::Place;

use crate::args::FollowArgs;
use crate::exit::Failure;
use crate::files::{read_text, read_trust, shown};
use crate::identity::Identity;

/// Everything that is followed, and where to.
pub(super) struct Setup {
    pub(super) place: Place,
    pub(super) interval: Duration,
    pub(super) logs: Vec<Log>,
}

/// One log.
pub(super) struct Log {
    pub(super) followed: Followed,
    pub(super) source: HttpSource,
    pub(super) call: Option<Call>,
    pub(super) receipts: Option<PathBuf>,
}

/// How its gRPC is called.
pub(super) struct Call {
    pub(super) config: ClientConfig,
}

impl Setup {
    pub(super) fn of(args: &FollowArgs) -> Result<Self, Failure> {
        let (config, folder) = match &args.config {
            Some(path) => (from_file(args, path)?, path.parent().unwrap_or(Path::new(""))),
            None => (from_line(args)?, Path::new("")),
        };
        let place = if config.is_folder {
            Place::folder(&folder.join(&config.to))?
        } else {
            Place::named(&config.to)?
        };
        let grace = config.branch_grace_s;
        let logs = config.logs.iter().map(|log| Log::of(log, folder, grace));
        let logs = logs.collect::<Result<Vec<_>, _>>()?;
        let mut origins: Vec<&str> = logs.iter().map(|log| log.followed.origin.as_str()).collect();
        origins.sort_unstable();
        if let Some([twice, _]) = origins.array_windows().find(|[one, other]| one == other) {
            return Err(Failure::usage(format!(
                "the log {} is named twice. Name each once: two would write one folder.",
                escaped(twice)
            )));
        }
        Ok(Self { place, interval: Duration::from_secs(config.interval_s), logs })
    }
}

fn from_file(args: &FollowArgs, path: &Path) -> Result<MirrorConfig, Failure> {
    if args.dir.is_some() || args.to.is_some() || args.receipts.is_some() || args.origin.is_some() {
        return Err(Failure::usage(
            "--config names everything that is mirrored; leave --dir, --to, --origin and --receipts \
             out, or write them into it.",
        ));
    }
    let mut config = MirrorConfig::parse(&read_text(path, CONFIG_BYTES_MAX)?)
        .map_err(|error| Failure::usage(format!("{}: {error}.", shown(path))))?;
    config.interval_s = args.interval_s.unwrap_or(config.interval_s);
    Ok(config)
}

fn from_line(args: &FollowArgs) -> Result<MirrorConfig, Failure> {
    let (to, is_folder) = match (&args.dir, &args.to) {
        (Some(dir), _) => {
            let dir = dir.to_str().map(str::to_owned);
            (dir.ok_or_else(|| Failure::usage("--dir is no UTF-8 text."))?, true)
        }
        (None, Some(to)) => (to.clone(), false),
        (None, None) => {
            return Err(Failure::usage(
                "no place is named to keep the log in. Give --dir or --to, or --config.",
            ));
        }
    };
    let missing = |what: &str| Failure::usage(format!("{what} is missing. Give it, or --config."));
    let server = args.server.clone().zip(args.identity.clone());
    let log = LogConfig {
        origin: args.origin.clone(),
        from: args.from.clone().ok_or_else(|| missing("--from, the URL of the log's tiles,"))?,
        trust: args.trust.clone().ok_or_else(|| missing("--trust, the file with its keys,"))?,
        server,
        receipts: args.receipts.clone(),
    };
    let interval_s = args.interval_s.unwrap_or(INTERVAL_S);
    Ok(MirrorConfig { to, is_folder, interval_s, branch_grace_s: BRANCH_GRACE_S, logs: vec![log] })
}

impl Log {
    fn of(log: &LogConfig, folder: &Path, branch_grace_s: u64) -> Result<Self, Failure> {
        let path = folder.join(&log.trust);
        let trust = read_trust(&path)?;
        let origin = origin_of(&trust, log.origin.as_deref())
            .map_err(|why| Failure::usage(format!("{}: {why}", shown(&path))))?;
        let call = match &log.server {
            None => None,
            Some((server, identity)) => {
                let identity = Identity::read(&folder.join(identity))?;
                if identity.file.origin != origin {
                    let (its, asked) = (escaped(&identity.file.origin), escaped(&origin));
                    return Err(Failure::usage(format!(
                        "the identity is of the log {its}, and {asked} is to be mirrored. Give the \
                         identity of a caller of that log."
                    )));
                }
                Some(Call { config: identity.client_config(server) })
            }
        };
        Ok(Self {
            followed: Followed { origin, trust: Arc::new(trust), branch_grace_s },
            source: HttpSource::new(&log.from)?,
            call,
            receipts: log.receipts.as_ref().map(|receipts| folder.join(receipts)),
        })
    }
}

/// The log that is meant: the one named, or the only one of the trust file.
pub(super) fn origin_of(trust: &Trust, named: Option<&str>) -> Result<String, String> {
    let origins = origins(trust);
    match (named, origins.as_slice()) {
        (Some(named), known) if known.iter().any(|origin| origin == named) => Ok(named.to_owned()),
        (Some(named), _) => {
            Err(format!("it does not name the log {}. Add its vkey.", escaped(named)))
        }
        (None, [origin]) => Ok(origin.clone()),
        (None, _) => Err("it names several logs. Say with --origin which is meant.".to_owned()),
    }
}

/// The logs of a trust file, each once.
pub(super) fn origins(trust: &Trust) -> Vec<String> {
    let mut origins: Vec<String> = trust.logs.iter().map(|log| log.vkey.name.clone()).collect();
    origins.sort();
    origins.dedup();
    origins
}

/// Why no evidence came.
pub(super) fn of_evidence(error: &EvidenceError) -> Failure {
    Failure::io(error.to_string())
}
