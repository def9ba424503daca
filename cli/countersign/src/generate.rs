//! `completions` and `man`.

use clap::CommandFactory as _;

use crate::args::{Arguments, CompletionsArgs, ManArgs};
use crate::exit::{Exit, Failure, put};
use crate::files::{make_folder, shown};

#[allow(clippy::unnecessary_wraps, reason = "every command has this shape")]
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut command = Arguments::command();
    // It panics where it can't write.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "countersign", &mut text);
    put(&String::from_utf8_lossy(&text));
    Ok(Exit::Success)
}

pub(crate) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    make_folder(&args.out)?;
    clap_mangen::generate_to(Arguments::command(), &args.out)
        .map_err(|error| Failure::file(&args.out, &error))?;
    eprintln!("The manual pages are in {}.", shown(&args.out));
    Ok(Exit::Success)
}
