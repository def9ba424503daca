//! `mirror`: follows logs into the tenant's own storage until SIGTERM or SIGINT, or once.

mod compare;
mod receipts;
mod setup;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign_core::encoding::escaped;
use countersign_mirror::follow::metrics::register;
use countersign_mirror::follow::{EvidencePuller, FollowError, Follower, Pace, Status, follow};
use countersign_mirror::source::HttpSource;
use countersign_mirror::storage::Place;
use countersign_mirror::tree::TreeError;
use countersign_server::drain::{Drain, drain};
use countersign_server::http::{self, Readiness};
use indicatif::ProgressBar;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::receipts::Receipts;
use self::setup::{Call, Log, Setup};
use crate::args::{FollowArgs, MirrorArgs, MirrorCommand, Output};
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::files::replace;
use crate::progress::drawn;
use crate::serve::{ReadyFile, log_to_stderr};

/// Connections that may be open at once.
const CONNECTIONS_MAX: usize = 256;
/// Between two drawings of the bar.
const DRAW: Duration = Duration::from_millis(200);
/// Between two tries to reach the ledger's gRPC.
const CALL_AGAIN: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: MirrorArgs) -> Result<Exit, Failure> {
    match args.command {
        Some(MirrorCommand::Compare(args)) => compare::run(args).await,
        None => mirror(args.follow).await,
    }
}

/// One log that is being followed.
struct Following {
    follower: Follower<HttpSource>,
    call: Option<Call>,
    receipts: Option<Receipts>,
    pace: Pace,
}

async fn mirror(args: FollowArgs) -> Result<Exit, Failure> {
    log_to_stderr();
    let setup = Setup::of(&args)?;
    let ready_file = ReadyFile::new(args.ready_file.clone())?;
    let (trigger, mut stop) = drain();
    let signals = trigger.on_signals();
    signals.map_err(|error| Failure::internal(format!("signals can't be handled: {error}")))?;
    let mut work = JoinSet::new();
    let mut told = Vec::new();
    let mut worst = None;
    for log in setup.logs {
        let origin = escaped(&log.followed.origin);
        match begin(log, &setup.place, setup.interval, args.once).await {
            Ok(following) => {
                told.push((origin, Arc::clone(&following.follower.status)));
                work.spawn(attend(following, args.output));
            }
            Err(error @ FollowError::Stopped(_)) => {
                eprintln!("countersign: {origin}: {error}");
                worst = Some(Exit::Invalid);
            }
            Err(error) => return Err(failed(&origin, &error)),
        }
    }
    let served = serve_http(&args, told.clone(), &stop).await?;
    let bar = draw(told);
    loop {
        let ended = tokio::select! {
            // A log that has just stopped is told before the signal that came with it.
            biased;
            ended = work.join_next() => ended,
            () = stop.started() => break,
        };
        match ended {
            None => break,
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(failure))) => {
                eprintln!("countersign: {}", failure.message);
                worst = Some(match worst {
                    Some(Exit::Invalid) => Exit::Invalid,
                    _ => failure.exit,
                });
            }
            Some(Err(error)) => return Err(Failure::internal(error.to_string())),
        }
    }
    // Each round may end anywhere: what it wrote is found by the next run.
    work.shutdown().await;
    trigger.start();
    if let Some(served) = served {
        let _ = served.await;
    }
    bar.finish_and_clear();
    ready_file.remove();
    Ok(worst.unwrap_or(Exit::Success))
}

async fn begin(
    log: Log,
    whole: &Place,
    interval: Duration,
    once: bool,
) -> Result<Following, FollowError> {
    let follower = Follower::open(log.followed, log.source, whole).await?;
    let receipts = log
        .receipts
        .map(|folder| Receipts::new(folder, follower.claims.clone(), follower.followed().clone()));
    let pace = Pace { interval, once, wake: Arc::new(Notify::new()) };
    Ok(Following { follower, call: log.call, receipts, pace })
}

/// Follows one log, and pulls its evidence, to the end.
async fn attend(following: Following, output: Output) -> Result<(), Failure> {
    let Following { mut follower, call, mut receipts, pace } = following;
    let origin = escaped(follower.origin());
    if let Some(receipts) = &mut receipts {
        receipts.look();
    }
    let pulls = call.map(|call| pulling(call, &follower, pace.clone()));
    if !pace.once {
        // They end with this task: dropping the set stops them.
        let mut beside = JoinSet::new();
        if let Some(pulls) = pulls {
            beside.spawn(pulls);
        }
        if let Some(receipts) = receipts {
            beside.spawn(looking(receipts, pace.interval));
        }
        return follow(&mut follower, &pace).await.map_err(|error| failed(&origin, &error));
    }
    follow(&mut follower, &pace).await.map_err(|error| failed(&origin, &error))?;
    if let Some(pulls) = pulls {
        pulls.await?;
        // What came with the evidence must be joined too.
        follow(&mut follower, &pace).await.map_err(|error| failed(&origin, &error))?;
    }
    report(&follower, output);
    Ok(())
}

/// Pulls evidence: for ever, trying again whatever happens, or once.
fn pulling(
    call: Call,
    follower: &Follower<HttpSource>,
    pace: Pace,
) -> impl Future<Output = Result<(), Failure>> + use<> {
    let (log, folder) = (follower.followed().clone(), follower.place().clone());
    let (claims, status) = (follower.claims.clone(), Arc::clone(&follower.status));
    async move {
        loop {
            let connected = countersign_client::Client::connect(call.config.clone()).await;
            let ended: Result<(), Failure> = match connected {
                Ok(client) => {
                    let (claims, status) = (claims.clone(), Arc::clone(&status));
                    let puller =
                        EvidencePuller::new(client, log.clone(), folder.clone(), claims, status);
                    puller.run(&pace).await.map_err(|error| setup::of_evidence(&error))
                }
                Err(error) => Err(error.into()),
            };
            if pace.once {
                return ended;
            }
            if let Err(failure) = ended {
                let origin = escaped(&log.origin);
                tracing::warn!(origin, "no evidence comes: {}", failure.message);
            }
            sleep(CALL_AGAIN).await;
        }
    }
}

async fn looking(mut receipts: Receipts, interval: Duration) -> Result<(), Failure> {
    loop {
        sleep(interval).await;
        receipts.look();
    }
}

/// How following a log ended.
fn failed(origin: &str, error: &FollowError) -> Failure {
    let exit = match error {
        FollowError::Stopped(_)
        | FollowError::Held { .. }
        | FollowError::Head(_)
        | FollowError::Tree(TreeError::Altered { .. }) => Exit::Invalid,
        FollowError::Fetch(_) | FollowError::Storage(_) => Exit::Io,
        FollowError::Tree(error) if error.is_passing() => Exit::Io,
        _ => Exit::Internal,
    };
    let code = error.code().as_str();
    Failure { exit, message: format!("{origin}: {error} (countersign explain {code})") }
}

fn report(follower: &Follower<HttpSource>, output: Output) {
    let (size, root) =
        follower.head().map_or((0, String::new()), |head| (head.size().0, head.root().hex()));
    let evidence = follower.status.evidence.load(Ordering::Relaxed);
    let (origin, waiting) = (follower.origin(), follower.claims.len());
    match output {
        Output::Human => {
            let (origin, place) = (escaped(origin), follower.place().shown(""));
            tell!("{size} entries of {origin} are in {place}, root {root}.");
            if evidence > 0 {
                tell!("{evidence} evidence files came with them.");
            }
            if waiting > 0 {
                tell!(
                    "{waiting} heads that were given out are newer than what is published; they \
                     are looked at again with the next head."
                );
            }
        }
        Output::Jsonl => tell!(
            "{}",
            json!({ "origin": origin, "size": size, "root": root, "evidence": evidence,
                    "waiting": waiting })
        ),
    }
}

type Logs = Vec<(String, Arc<Status>)>;

/// Serves the metrics where that was asked for, and says so in the ready file.
async fn serve_http(
    args: &FollowArgs,
    logs: Logs,
    drain: &Drain,
) -> Result<Option<tokio::task::JoinHandle<std::io::Result<()>>>, Failure> {
    let mut bound: Option<SocketAddr> = None;
    let mut served = None;
    if let Some(http) = args.http {
        let failed = |error: std::io::Error| {
            Failure::io(format!("cannot listen on {http}: {error}. Is another process there?"))
        };
        let listener = TcpListener::bind(http).await.map_err(failed)?;
        bound = Some(listener.local_addr().map_err(failed)?);
        let mut registry = Registry::default();
        register(logs, || clock::now().seconds(), &mut registry);
        let drain = drain.clone();
        served = Some(tokio::spawn(async move {
            let (_readiness, watched) = watch::channel(Readiness::Ready);
            let routes = http::router(watched, Arc::new(registry), drain.clone());
            http::serve(listener, CONNECTIONS_MAX, routes, drain).await
        }));
    }
    if let Some(path) = &args.ready_file {
        let http = bound.map(|bound| bound.to_string());
        let ready = json!({ "http": http, "pid": std::process::id() });
        replace(path, format!("{ready}\n").as_bytes())?;
    }
    Ok(served)
}

/// A bar of what is still to be caught up with, where somebody watches.
fn draw(logs: Logs) -> ProgressBar {
    let bar = drawn(Some(0), "{wide_bar} {human_pos}/{human_len} entries {eta}");
    if !bar.is_hidden() {
        let bar = bar.clone();
        tokio::spawn(async move {
            while !bar.is_finished() {
                let sum = |value: fn(&Status) -> u64| logs.iter().map(|(_, s)| value(s)).sum();
                bar.set_length(sum(|status| status.seen.load(Ordering::Relaxed)));
                bar.set_position(sum(|status| status.copied.load(Ordering::Relaxed)));
                sleep(DRAW).await;
            }
        });
    }
    bar
}
