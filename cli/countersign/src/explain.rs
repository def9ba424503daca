//! `explain`: what a code means and what to do about it.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use countersign_core::codes::Code;
use countersign_core::encoding::escaped;

use crate::args::ExplainArgs;
use crate::exit::{Exit, Failure};

pub(crate) fn run(args: &ExplainArgs) -> Result<Exit, Failure> {
    let Some(text) = &args.code else {
        let mut table = Table::new();
        table.load_preset(NOTHING);
        for code in Code::ALL {
            table.add_row([code.as_str(), code.what()]);
        }
        println!("{table}");
        return Ok(Exit::Success);
    };
    let code = Code::from_text(&text.to_ascii_uppercase()).ok_or_else(|| {
        Failure::usage(format!(
            "there is no code {}. countersign explain without one lists them all.",
            escaped(text)
        ))
    })?;
    println!("{}\n{}\n{}", code.as_str(), code.what(), code.remedy());
    Ok(Exit::Success)
}
