//! `countersign`: the operator's, gate's, tenant's and responder's command.
//!
//! Data goes to standard output, speech to standard error; the exit code is one of
//! [`exit::Exit`]. What a command does is in the module of its name.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line is an edge: it reads the time and speaks to people"
)]

mod args;
mod connect;
mod demo;
mod doctor;
mod evidence;
mod exit;
mod explain;
mod files;
mod generate;
mod head;
mod identity;
mod init;
mod pki;
mod serve;
mod settings;
mod submit;

use std::process::ExitCode;

use clap::Parser as _;

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
        Command::Head(args) => in_runtime(head::run(args)),
        Command::Evidence(args) => in_runtime(evidence::run(args)),
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
