//! `gate`: the gate service, until SIGTERM or SIGINT.

use countersign_core::cert::SpiffeId;
use countersign_core::codes::Code;
use countersign_core::encoding::escaped;
use countersign_server::gate::{GateParts, GateReady, run_gate};

use crate::args::{GateArgs, Overrides};
use crate::exit::{Exit, Failure};
use crate::identity::Identity;
use crate::serve::{ReadyFile, explained, log_to_stderr};
use crate::settings;

/// The identity that every caller is under `--insecure-dev`.
const DEV_CALLER: &str = "identities/pep";

pub(crate) async fn run(args: GateArgs) -> Result<Exit, Failure> {
    log_to_stderr();
    let identity = Identity::read(&args.dir)?;
    let parts =
        GateParts { identity: identity.gate()?, ledger: identity.client_config(&args.ledger) };
    let mut config = settings::read(&args.dir, &Overrides::default())?;
    config.gate.grpc = args.grpc.unwrap_or(config.gate.grpc);
    config.gate.http = args.http.unwrap_or(config.gate.http);
    config.gate.authzen = args.authzen.unwrap_or(config.gate.authzen);
    if args.insecure_dev && config.insecure_dev_identity.is_none() {
        let caller: SpiffeId = Identity::read(&args.dir.join(DEV_CALLER))?.spiffe;
        config.insecure_dev_identity = Some(caller.to_string());
    }
    let checked = config.check(args.insecure_dev).map_err(|error| settings::failure(&error))?;
    if args.insecure_dev {
        eprintln!(
            "countersign: INSECURE: plain TCP, and whoever connects is an enforcement point. \
             Loopback only."
        );
    }
    let ready_file = ReadyFile::new(args.ready_file)?;
    let mut unwritten = None;
    let on_ready = |ready: &GateReady| {
        eprintln!(
            "countersign: gate {} of {} serves gRPC on {}, AuthZEN on {} and HTTP on {}.",
            escaped(&ready.gate),
            escaped(&ready.tenant),
            ready.grpc,
            ready.authzen,
            ready.http
        );
        let origin = &identity.file.origin;
        unwritten = ready_file.write(ready.grpc, ready.http, Some(ready.authzen), origin).err();
    };
    // Boxed: it holds all that a gate is made of.
    let ended = Box::pin(run_gate(checked, parts, on_ready)).await;
    ready_file.remove();
    ended.map_err(|error| {
        let message = explained(&error, error.code());
        match error.code() {
            Some(Code::Internal) => Failure::internal(message),
            _ => Failure::io(message),
        }
    })?;
    unwritten.map_or(Ok(Exit::Success), Err)
}
