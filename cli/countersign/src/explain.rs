//! `explain`: what a code means and what to do about it.

use std::collections::BTreeMap;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use countersign_client::reconcile::Matter;
use countersign_core::codes::Code;
use countersign_core::encoding::escaped;
use countersign_gate::GateCode;

use crate::args::ExplainArgs;
use crate::exit::{Exit, Failure};

pub(crate) fn run(args: &ExplainArgs) -> Result<Exit, Failure> {
    let known = known();
    let Some(text) = &args.code else {
        let mut table = Table::new();
        table.load_preset(NOTHING);
        for (code, meanings) in &known {
            for (what, _) in meanings {
                table.add_row([*code, *what]);
            }
        }
        println!("{table}");
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
    println!("{code}");
    for (what, remedy) in meanings {
        println!("{what}\n{remedy}");
    }
    Ok(Exit::Success)
}

type Meanings = Vec<(&'static str, &'static str)>;

/// Every code with what it means: of calls and files, of a gate's refusals, of reconciliation. Some
/// name a refused call and a refused action both, in sentences of their own.
fn known() -> BTreeMap<&'static str, Meanings> {
    let calls = Code::ALL.iter().map(|code| (code.as_str(), code.what(), code.remedy()));
    let gate = GateCode::ALL.iter().map(|code| (code.as_str(), code.what(), code.remedy()));
    let matters = Matter::ALL.iter().map(|code| (code.as_str(), code.what(), code.remedy()));
    let mut known: BTreeMap<&str, Meanings> = BTreeMap::new();
    for (code, what, remedy) in calls.chain(gate).chain(matters) {
        let meanings = known.entry(code).or_default();
        if !meanings.contains(&(what, remedy)) {
            meanings.push((what, remedy));
        }
    }
    known
}
