//! Benchmarks: each prints its figure beside its limit or its peer, measured in the same run.
//!
//! Everything that writes has fsync on. Machines are shared and noisy: ratios mean more than
//! figures, and no test depends on either.

mod core;
mod figure;
mod gate;
mod house;
mod mirror;
mod pack;
mod pure;
mod query;
mod sample;
mod service;
mod wire;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};

use crate::figure::Figure;
use crate::sample::Actions;

/// The table of AWS actions that the project's figures are measured with.
const ACTIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/aws_actions.tsv");

/// Measures this version on this machine.
#[derive(Debug, Parser)]
#[command(name = "countersign-benches")]
struct Arguments {
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
    /// Verdicts to stream.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(2..))]
    verdicts: u64,
    /// Seconds at 1,000 verdicts a second.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Batches of 1,000 for the log without gRPC.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    core_batches: u64,
    /// Table of actions: service, action, access level, tab-separated, with a head line.
    #[arg(long)]
    actions: Option<PathBuf>,
    /// Folder for the databases, on the disk that is meant; a temporary one by default.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only these parts.
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Human,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Verifying evidence, and what a record costs.
    Evidence,
    /// The log without gRPC.
    Core,
    /// The gate: its decision, and an intent's way to its receipt.
    Gate,
    /// A complete pack, made and verified.
    Pack,
    /// Verifying whole mirrors.
    Mirror,
    /// Pages of records, by each index.
    Query,
    /// The whole way.
    Wire,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string());
    match runtime.and_then(|runtime| runtime.block_on(run(&arguments))) {
        Ok(figures) => print(&figures, arguments.output),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn actions(arguments: &Arguments) -> Result<Actions, String> {
    if let Some(path) = &arguments.actions {
        return Actions::read(path);
    }
    let usual = PathBuf::from(ACTIONS);
    if usual.exists() {
        return Actions::read(&usual);
    }
    eprintln!("no table of actions here: five actions are repeated instead");
    Ok(Actions::few())
}

async fn run(arguments: &Arguments) -> Result<Vec<Figure>, String> {
    let actions = Arc::new(actions(arguments)?);
    let temporary = tempfile::tempdir().map_err(|error| error.to_string())?;
    let dir = arguments.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!("{} actions; load of the machine at the start: {}", actions.len(), load.trim());
    let mut figures = Vec::new();
    if wanted(Part::Evidence) {
        eprintln!("evidence and records");
        figures.extend(pure::verify_evidence()?);
        figures.extend(pure::records(&actions)?);
    }
    if wanted(Part::Gate) {
        eprintln!("the gate's decision");
        figures.extend(gate::decisions(&actions)?);
        figures.extend(service::evaluate(&dir, arguments.seconds).await?);
    }
    if wanted(Part::Core) {
        eprintln!("the log without gRPC: {} batches of 1,000", arguments.core_batches);
        figures.extend(core::log_core(&dir, &actions, arguments.core_batches).await?);
    }
    if wanted(Part::Pack) {
        figures.extend(pack::complete(&dir, &actions).await?);
    }
    if wanted(Part::Mirror) {
        figures.extend(mirror::mirrors(&dir)?);
    }
    if wanted(Part::Query) {
        figures.extend(query::pages(&dir.join("query"), &actions).await?);
    }
    if wanted(Part::Wire) {
        eprintln!("the whole way: {} verdicts", arguments.verdicts);
        let (verdicts, seconds) = (arguments.verdicts, arguments.seconds);
        figures.extend(wire::verdicts(&dir, &actions, verdicts, seconds).await?);
        beside_bare(&mut figures);
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!("load of the machine at the end: {}", load.trim());
    Ok(figures)
}

/// Sets the streamed rate beside the bare database's of the same run.
fn beside_bare(figures: &mut [Figure]) {
    let bare = figures.iter().find(|figure| figure.name == "bare_rocksdb_batches_of_1000");
    let Some(bare) = bare.map(|figure| figure.value) else { return };
    for figure in figures.iter_mut().filter(|figure| figure.name == "streamed_verdicts") {
        *figure = figure.clone().with_reference(bare);
    }
}

fn print(figures: &[Figure], output: Output) -> ExitCode {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(figures).unwrap_or_default(),
        Output::Human => {
            let head = format!(
                "{:<34} {:>14} {:<12} {:>14} {:>8} {:>10}",
                "figure", "value", "unit", "reference", "ratio", "budget"
            );
            let lines: Vec<String> = figures.iter().map(Figure::line).collect();
            format!("{head}\n{}", lines.join("\n"))
        }
    };
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
