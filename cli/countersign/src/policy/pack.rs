//! `policy pack`: whole policies to start from.

use countersign_gate::packs;

use crate::args::PackArgs;
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, shown, sync_folder, write_new};

pub(crate) fn run(args: &PackArgs) -> Result<Exit, Failure> {
    let Some(name) = &args.name else {
        for pack in packs::ALL {
            tell!("{}", pack.name);
        }
        return Ok(Exit::Success);
    };
    let names: Vec<&str> = packs::ALL.iter().map(|pack| pack.name).collect();
    let pack = packs::find(name).ok_or_else(|| {
        Failure::usage(format!("there is no such pack. Name one of {}.", names.join(", ")))
    })?;
    let out = args.out.as_ref().ok_or_else(|| {
        Failure::usage("name the folder to write the pack to with --out, a new one.")
    })?;
    make_folder(out)?;
    let mut there = std::fs::read_dir(out).map_err(|error| Failure::file(out, &error))?;
    if there.next().is_some() {
        return Err(Failure::usage(format!(
            "{} is not empty, and nothing is overwritten. Name a new folder.",
            shown(out)
        )));
    }
    for (file, text) in [
        ("policy.cedar", pack.policy),
        ("schema.cedarschema", pack.schema),
        ("directory.json", pack.directory),
        ("table.jsonl", pack.table),
        ("README.md", pack.readme),
    ] {
        write_new(&out.join(file), text.as_bytes())?;
    }
    sync_folder(out)?;
    let dir = shown(out);
    eprintln!("countersign: {dir} now holds the pack. Make it yours, and then:");
    eprintln!("  countersign policy lint {dir}");
    Ok(Exit::Success)
}
