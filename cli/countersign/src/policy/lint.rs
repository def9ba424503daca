//! `policy lint`: every fault of a policy set at once, without a gate.

use std::path::{Path, PathBuf};

use countersign_core::encoding::{escaped, hex};
use countersign_gate::{ENGINE, Policy, PolicyFaults, assemble};

use crate::args::LintArgs;
use crate::exit::{Exit, Failure};
use crate::files::{read_text, shown};

/// Bytes that one file of a policy set may have: as much as the whole set (POL-6), and one more so
/// that the lint names what is too large.
const FILE_BYTES_MAX: usize = 1024 * 1024 + 1;
/// Files that a folder of policies may have: as many as policies (POL-6).
const FILES_MAX: usize = 4_097;

pub(crate) fn run(args: &LintArgs) -> Result<Exit, Failure> {
    match load(&args.dir)? {
        Ok(policy) => {
            tell!("digest {}", hex(&policy.digest()));
            let (rules, dir) = (policy.rules().len(), shown(&args.dir));
            eprintln!("countersign: {dir} holds {rules} policies without a fault, for {ENGINE}.");
            Ok(Exit::Success)
        }
        Err(faults) => {
            for fault in &faults.0 {
                tell!("{}", escaped(&fault.to_string()));
            }
            eprintln!("countersign: {} faults in {}.", faults.0.len(), shown(&args.dir));
            Ok(Exit::Invalid)
        }
    }
}

/// Reads a folder's version; the inner error holds all that is wrong with it.
pub(super) fn load(dir: &Path) -> Result<Result<Policy, PolicyFaults>, Failure> {
    let files = read(dir)?;
    Ok(assemble(&files).and_then(|(policy, schema)| Policy::load(&policy, &schema)))
}

/// The same for a command that has no use for a version with faults.
pub(super) fn load_whole(dir: &Path) -> Result<Policy, Failure> {
    load(dir)?.map_err(|faults| {
        let (dir, faults) = (shown(dir), faults.0.iter());
        let lines: Vec<String> = faults.map(|fault| escaped(&fault.to_string())).collect();
        Failure::usage(format!(
            "{dir} is no policy version that a gate takes:\n{}\nMend every fault first.",
            lines.join("\n")
        ))
    })
}

fn read(dir: &Path) -> Result<Vec<(String, String)>, Failure> {
    let entries = std::fs::read_dir(dir).map_err(|error| Failure::file(dir, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::file(dir, &error))?;
    let ours = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "cedar" || extension == "cedarschema")
    };
    paths.retain(ours);
    if paths.len() > FILES_MAX {
        return Err(Failure::usage(format!("{} holds more than {FILES_MAX} files.", shown(dir))));
    }
    let name = |path: &PathBuf| {
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    paths.iter().map(|path| Ok((name(path), read_text(path, FILE_BYTES_MAX)?))).collect()
}
