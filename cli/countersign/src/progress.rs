//! Progress of long work, where somebody watches.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on standard error, of so many steps where that is known; nothing where that is no terminal.
pub(crate) fn bar(length: Option<u64>) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    ProgressBar::with_draw_target(length, target)
}

/// The same, drawn after a template.
pub(crate) fn drawn(length: Option<u64>, template: &str) -> ProgressBar {
    let bar = bar(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// A count that moves.
pub(crate) fn progress(what: &'static str) -> ProgressBar {
    let bar = drawn(None, "{msg} {pos} {wide_bar} {elapsed}");
    bar.set_message(what);
    bar
}
