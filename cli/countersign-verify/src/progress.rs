//! Progress of long work, where somebody watches.

use std::io::{IsTerminal as _, Write as _};

/// A counted line on standard error, where somebody watches it.
pub(crate) struct Progress {
    what: &'static str,
    watched: bool,
    shown: u64,
}

impl Progress {
    /// Counts so many of `what`.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, watched: std::io::stderr().is_terminal(), shown: 0 }
    }

    /// At most two hundred times, whatever there is to do.
    pub(crate) fn show(&mut self, (done, of): (u64, u64)) {
        let step = (of / 200).max(1);
        if self.watched && (done >= self.shown.saturating_add(step)) {
            self.shown = done;
            let mut bar = String::new();
            let filled = done.saturating_mul(30) / of.max(1);
            for at in 0..30 {
                bar.push(if at < filled { '=' } else { ' ' });
            }
            // Nobody misses a line that a closed terminal does not show.
            let what = self.what;
            let _ = write!(std::io::stderr(), "\rverifying [{bar}] {done} of {of} {what}");
        }
    }

    /// Ends the line.
    pub(crate) fn end(&self) {
        if self.watched && self.shown > 0 {
            let _ = writeln!(std::io::stderr());
        }
    }
}
