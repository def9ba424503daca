//! `disclose`: the same evidence with less shown, under the same root, seal and receipt.

use std::io::Write as _;

use countersign_core::codes::Fault;
use countersign_core::disclose::{Place, Repeated, Selection, unchecked_without};
use countersign_core::encoding::escaped;
use countersign_core::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use countersign_core::verify::{Report, verify};

use crate::args::DiscloseArgs;
use crate::exit::{Exit, Failure};
use crate::files::{read_capped, shown, write_new};

pub(crate) fn run(args: &DiscloseArgs) -> Result<Exit, Failure> {
    let content = |fault: Fault| Failure::content(&args.file, fault);
    let evidence =
        Evidence::parse(&read_capped(&args.file, EVIDENCE_BYTES_MAX)?).map_err(content)?;
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
    let told: Vec<Repeated> = evidence.repeated(&less).map_err(content)?.into_iter().collect();
    refuse_told(args, &told)?;
    let bytes = less.to_bytes();
    match &args.out {
        Some(out) => write_new(out, &bytes)?,
        None => std::io::stdout()
            .write_all(&bytes)
            .map_err(|error| Failure::io(format!("standard output: {error}")))?,
    }
    say(&less);
    for (kind, name) in evidence.taken_along(&less, &selection).map_err(content)? {
        eprintln!(
            "countersign: {name} of the {} is withheld too: with it a guess at what is withheld \
             could be confirmed.",
            kind.as_str()
        );
    }
    for told in &told {
        eprintln!("countersign: the file still tells what is withheld: {}.", sentence(told));
    }
    Ok(Exit::Success)
}

/// EVID-15: what somebody names to be withheld and the file tells all the same is not written, unless
/// they say so. Who names what is to be kept has chosen that it is seen, and is told what it repeats.
fn refuse_told(args: &DiscloseArgs, told: &[Repeated]) -> Result<(), Failure> {
    let unsalted = told.iter().any(|told| told.place == Place::Digest);
    if args.although_shown || told.is_empty() || (args.keep.is_some() && !unsalted) {
        return Ok(());
    }
    let told: Vec<String> = told.iter().map(sentence).collect();
    Err(Failure::usage(format!(
        "{} would still tell what is to be withheld: {}. Withhold those fields too, or give \
         --although-shown where that is meant.",
        shown(&args.file),
        told.join("; ")
    )))
}

/// Which field is told, and where; its value stays unsaid.
fn sentence(told: &Repeated) -> String {
    let of = format!("{} of the {}", told.name, told.kind.as_str());
    match told.place {
        Place::Field(kind, name) => format!("{of} stands in {name} of the {}", kind.as_str()),
        Place::Certificate(kind) => {
            format!("{of} stands in the certificate of who signed the {}", kind.as_str())
        }
        Place::Digest => format!(
            "a guess at {of} can be confirmed by the action digest, as the action has no nonce"
        ),
    }
}

/// What whoever gets the file can't see, and what they can't check for that.
fn say(evidence: &Evidence) {
    // Without trust nothing is judged; what is read of the record is the same.
    let report = verify(evidence, None);
    let Some(view) = report.facts.view.as_ref() else { return };
    let names: Vec<&str> = view.withheld().collect();
    if names.is_empty() && !report.supporting.iter().any(withholds) {
        eprintln!("countersign: nothing is withheld.");
        return;
    }
    if !names.is_empty() {
        eprintln!("countersign: withheld: {}.", names.join(", "));
    }
    for report in std::iter::once(&report).chain(&report.supporting) {
        let Some(view) = report.facts.view.as_ref() else { continue };
        for name in view.withheld() {
            if let Some(what) = unchecked_without(view.kind(), name) {
                let (kind, index) = (view.kind().as_str(), report.facts.index);
                eprintln!(
                    "countersign: without {name} of the {kind} at index {index} nobody can check \
                     {what}."
                );
            }
        }
    }
}

fn withholds(report: &Report) -> bool {
    report.facts.view.as_ref().is_some_and(|view| view.withheld().next().is_some())
}
