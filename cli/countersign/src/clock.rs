//! The machine's time, in the format's own unit, and times as people give them.

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

/// A time of a question: exactly, or how long ago.
///
/// # Errors
///
/// What is neither, or lies before 1970, in a sentence with the forms that are taken.
pub(crate) fn moment(text: &str) -> Result<Micros, String> {
    moment_at(text, now())
}

fn moment_at(text: &str, now: Micros) -> Result<Micros, String> {
    let ago = || now.0.checked_sub(span_us(text)?).map(Micros);
    let exact = || {
        let time = text.parse::<jiff::Timestamp>().ok()?;
        u64::try_from(time.as_microsecond()).ok().map(Micros)
    };
    exact().or_else(ago).ok_or_else(|| {
        "give a time in UTC such as 2026-11-23T02:00:00Z, or how long ago: 90s, 30m, 1h, 2d, 1w."
            .to_owned()
    })
}

/// A whole number with the unit of it: seconds, minutes, hours, days, weeks.
fn span_us(text: &str) -> Option<u64> {
    let seconds = match text.chars().last()? {
        's' => 1_u64,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let (number, _) = text.split_at_checked(text.len() - 1)?;
    let number = countersign_core::encoding::from_decimal(number)?;
    number.checked_mul(seconds)?.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_given_exactly_or_as_how_long_ago() {
        let now = Micros(1_795_435_201_500_000);
        let at = |text: &str| moment_at(text, now).map(|time| time.0);
        assert_eq!(at("2026-11-23T12:00:01.5Z"), Ok(1_795_435_201_500_000));
        assert_eq!(at("2026-11-23T13:00:01.5+01:00"), Ok(1_795_435_201_500_000));
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("30m", 1_800),
            ("1h", 3_600),
            ("2d", 172_800),
            ("1w", 604_800),
        ] {
            assert_eq!(at(text), Ok(now.0 - seconds * 1_000_000), "{text}");
        }
        for wrong in [
            "",
            "h",
            "yesterday",
            "1",
            "-1h",
            "1.5h",
            "01h",
            "1 h",
            "1µ",
            "99999w",
            "2026-11-23",
            "1H",
        ] {
            let said = at(wrong).unwrap_err();
            assert!(said.contains("T02:00:00Z") && said.contains("1h"), "{wrong}: {said}");
        }
    }
}
