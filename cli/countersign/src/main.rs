//! `countersign`: the operator's, gate's, tenant's and responder's command.
//!
//! Data goes to standard output, speech to standard error; the exit code is one of
//! [`exit::Exit`]. What a command does is in the module of its name.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "the command line is an edge: it reads the time and speaks to people"
)]

/// A line of data, to standard output.
macro_rules! tell {
    () => { $crate::exit::put("\n") };
    ($($text:tt)*) => { $crate::exit::put(&(format!($($text)*) + "\n")) };
}

/// The same without a newline of its own.
macro_rules! tell_raw {
    ($($text:tt)*) => { $crate::exit::put(&format!($($text)*)) };
}

mod approve;
mod args;
mod clock;
mod connect;
mod demo;
mod diagnose;
mod disclose;
mod doctor;
mod emergency;
mod erase;
mod evaluate;
mod evidence;
mod exit;
mod explain;
mod export;
mod export_tiles;
mod fetch;
mod files;
mod gate_cmd;
mod gate_link;
mod generate;
mod grant;
mod head;
mod identity;
mod init;
mod mirror;
mod outcome;
mod pack;
mod pki;
mod policy;
mod progress;
mod query;
mod reconcile;
mod records;
mod reindex;
mod report;
mod serve;
mod settings;
mod signing;
mod submit;
mod switch;
mod watch;
mod witness;

use std::process::ExitCode;

use clap::Parser as _;

use crate::approve::Decision;
use crate::args::{Arguments, Command};
use crate::exit::{Exit, Failure};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("countersign: {}", failure.message);
            failure.exit.into()
        }
    }
}

fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::run(&args),
        Command::Serve(args) => in_runtime(serve::run(args)),
        Command::Submit(args) => in_runtime(submit::run(args)),
        Command::Gate(args) => in_runtime(gate_cmd::run(args)),
        Command::Evaluate(args) => in_runtime(evaluate::run(args)),
        Command::Approve(args) => in_runtime(approve::run(args, Decision::Grant)),
        Command::Deny(args) => in_runtime(approve::run(args, Decision::Deny)),
        Command::Outcome(args) => in_runtime(outcome::run(args)),
        Command::Reconcile(args) => in_runtime(reconcile::run(args)),
        Command::Halt(args) => in_runtime(switch::halt(args)),
        Command::Resume(args) => in_runtime(switch::resume(args)),
        Command::Mode(args) => in_runtime(switch::mode(args)),
        Command::Status(args) => in_runtime(switch::status(args)),
        Command::Emergency(args) => in_runtime(emergency::run(args)),
        Command::Grant(args) => in_runtime(grant::run(args)),
        Command::Policy(args) => in_runtime(policy::run(args)),
        Command::Head(args) => in_runtime(head::run(args)),
        Command::Evidence(args) => in_runtime(evidence::run(args)),
        Command::Query(args) => in_runtime(query::run(args)),
        Command::Watch(args) => in_runtime(watch::run(args)),
        // Boxed: it holds all that a pack is made of.
        Command::Pack(args) => in_runtime(Box::pin(pack::run(args))),
        Command::Disclose(args) => disclose::run(&args),
        Command::Erase(args) => in_runtime(erase::run(args)),
        Command::Export(args) => in_runtime(export::run(args)),
        Command::Diagnose(args) => in_runtime(diagnose::run(args)),
        Command::Reindex(args) => reindex::run(&args),
        Command::ExportTiles(args) => in_runtime(export_tiles::run(args)),
        Command::Mirror(args) => in_runtime(Box::pin(mirror::run(args))),
        Command::Witness(args) => witness::run(args),
        Command::Config(args) => settings::run(&args),
        Command::Doctor(args) => in_runtime(doctor::run(args)),
        Command::Explain(args) => explain::run(&args),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
        Command::Demo(args) => in_runtime(demo::run(args)),
    }
}

fn in_runtime(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("the async runtime does not start: {error}")))?;
    runtime.block_on(work)
}
