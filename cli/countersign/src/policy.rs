//! `policy`: versions of a tenant's policy.

mod activate;
mod diff;
mod lint;
mod pack;
mod register;

use crate::args::{PolicyArgs, PolicyCommand};
use crate::exit::{Exit, Failure};

pub(crate) async fn run(args: PolicyArgs) -> Result<Exit, Failure> {
    match args.command {
        PolicyCommand::Lint(args) => lint::run(&args),
        PolicyCommand::Activate(args) => activate::run(args).await,
        PolicyCommand::Diff(args) => diff::run(args).await,
        PolicyCommand::Register(args) => register::run(args).await,
        PolicyCommand::Pack(args) => pack::run(&args),
    }
}
