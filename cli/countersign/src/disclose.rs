//! `disclose`: the same evidence with less shown, under the same root, seal and receipt.

use std::io::Write as _;

use countersign_core::disclose::{Selection, unchecked_without};
use countersign_core::encoding::escaped;
use countersign_core::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use countersign_core::verify::verify;

use crate::args::DiscloseArgs;
use crate::exit::{Exit, Failure};
use crate::files::{read_capped, shown, write_new};

pub(crate) fn run(args: &DiscloseArgs) -> Result<Exit, Failure> {
    let evidence = Evidence::parse(&read_capped(&args.file, EVIDENCE_BYTES_MAX)?)
        .map_err(|fault| Failure::content(&args.file, fault))?;
    let chosen = args.keep.as_ref().or(args.withhold.as_ref());
    let names: Vec<&str> = chosen
        .into_iter()
        .flatten()
        .map(|name| name.trim())
        .filter(|name| !name.is_empty())
        .collect();
    let selection =
        if args.keep.is_some() { Selection::Keep(&names) } else { Selection::Withhold(&names) };
    let less = evidence.withhold(&selection).map_err(|fault| {
        let of = escaped(&names.join(", "));
        Failure::usage(format!("{}, of the fields {of}: {fault}", shown(&args.file)))
    })?;
    let bytes = less.to_bytes();
    match &args.out {
        Some(out) => write_new(out, &bytes)?,
        None => std::io::stdout()
            .write_all(&bytes)
            .map_err(|error| Failure::io(format!("standard output: {error}")))?,
    }
    say(&less);
    Ok(Exit::Success)
}

/// What whoever gets the file can't see, and what they can't check for that.
fn say(evidence: &Evidence) {
    // Without trust nothing is judged; what is read of the record is the same.
    let report = verify(evidence, None);
    let Some(view) = report.facts.view.as_ref() else { return };
    let names: Vec<&str> = view.withheld().collect();
    if names.is_empty() {
        eprintln!("countersign: nothing is withheld.");
        return;
    }
    eprintln!("countersign: withheld: {}.", names.join(", "));
    for name in names {
        if let Some(what) = unchecked_without(view.kind(), name) {
            eprintln!("countersign: without {name} nobody can check {what}.");
        }
    }
}
