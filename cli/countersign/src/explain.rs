//! `explain`: what a code means and what to do about it.

use std::collections::BTreeMap;

use countersign_client::reconcile::Matter;
use countersign_core::codes::Code;
use countersign_core::encoding::escaped;
use countersign_gate::GateCode;

use crate::args::ExplainArgs;
use crate::exit::{Exit, Failure};

pub(crate) fn run(args: &ExplainArgs) -> Result<Exit, Failure> {
    let known = known();
    let Some(text) = &args.code else {
        let width = known.keys().map(|code| code.len()).max().unwrap_or(0);
        for (code, meanings) in &known {
            for Meaning { place, what, .. } in meanings {
                let place = if meanings.len() > 1 { format!("{place}: ") } else { String::new() };
                tell!("{code:<width$}  {place}{what}");
            }
        }
        return Ok(Exit::Success);
    };
    let code = text.to_ascii_uppercase();
    let meanings = known.get(code.as_str()).ok_or_else(|| {
        Failure::usage(format!(
            "there is no code {}. countersign explain without one lists them all; the codes of a \
             tenant's policies are explained by their texts.",
            escaped(text)
        ))
    })?;
    tell!("{code}");
    for Meaning { place, what, remedy } in meanings {
        // Where one code names two things, it matters where it was met.
        if meanings.len() > 1 {
            tell!("\n{place}:");
        }
        tell!("{what}\n{remedy}");
    }
    Ok(Exit::Success)
}

/// What a code means where it is met.
struct Meaning {
    place: &'static str,
    what: &'static str,
    remedy: &'static str,
}

/// Every code with what it means: of calls and files, of a gate's refusals, of reconciliation. Some
/// name a refused call and a refused action both, in sentences of their own.
fn known() -> BTreeMap<&'static str, Vec<Meaning>> {
    let calls = Code::ALL.iter().map(|code| {
        let place = "As the answer to a call, or found by verification";
        (code.as_str(), Meaning { place, what: code.what(), remedy: code.remedy() })
    });
    let gate = GateCode::ALL.iter().map(|code| {
        let place = "As the reason of a gate's refusal";
        (code.as_str(), Meaning { place, what: code.what(), remedy: code.remedy() })
    });
    let matters = Matter::ALL.iter().map(|code| {
        let place = "As a finding of countersign reconcile";
        (code.as_str(), Meaning { place, what: code.what(), remedy: code.remedy() })
    });
    let mut known: BTreeMap<&str, Vec<Meaning>> = BTreeMap::new();
    for (code, meaning) in calls.chain(gate).chain(matters) {
        let meanings = known.entry(code).or_default();
        let same = |told: &Meaning| (told.what, told.remedy) == (meaning.what, meaning.remedy);
        if !meanings.iter().any(same) {
            meanings.push(meaning);
        }
    }
    known
}
