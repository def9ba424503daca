//! The machine's time, in the format's own unit.

use countersign_core::encoding::Micros;

pub(crate) use countersign_server::identity::now;

use crate::exit::Failure;

/// A time that was given, or the default.
pub(crate) fn given(text: Option<&String>, default: Micros) -> Result<Micros, Failure> {
    let Some(text) = text else { return Ok(default) };
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|time| u64::try_from(time.as_microsecond()).ok())
        .map(Micros)
        .ok_or_else(|| {
            Failure::usage(format!(
                "{} is no time. Give one such as 2026-11-23T12:00:00Z.",
                countersign_core::encoding::escaped(text)
            ))
        })
}
