//! Progress of long work, where somebody watches.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A count that moves on standard error; nothing where that is no terminal.
pub(crate) fn progress(what: &'static str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{msg} {pos} {wide_bar} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}
