//! `reindex`: the derived indexes made again from the log, with the ledger stopped.

use crate::args::{Overrides, ReindexArgs};
use crate::exit::{Exit, Failure};
use crate::progress::progress;
use crate::settings;

pub(crate) fn run(args: &ReindexArgs) -> Result<Exit, Failure> {
    let config = settings::read(&args.dir, &Overrides::default())?;
    let bar = progress("records");
    let done = countersign_server::reindex::reindex(&config.data_dir, |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let done = done.map_err(|error| Failure::io(error.to_string()))?;
    tell!("{done} records indexed");
    Ok(Exit::Success)
}
