//! Amounts: decimals with up to four places, as Cedar has them.

use std::fmt;

/// What one whole unit is.
const UNIT: i64 = 10_000;

/// An amount in ten-thousandths: exactly the values of Cedar's `decimal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub i64);

impl Amount {
    /// Reads `-?digits` with up to four decimals after a point. Surplus zeros are taken: `50`, `50.0`
    /// and `50.0000` are one amount.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, places) = rest.split_once('.').unwrap_or((rest, "0"));
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(places) || places.len() > 4 || whole.len() > 24 {
            return None;
        }
        // Widths are bounded above, so that neither of these can overflow.
        let whole: i128 = whole.parse().ok()?;
        let padded: i128 = format!("{places:0<4}").parse().ok()?;
        let scaled = whole * i128::from(UNIT) + padded;
        i64::try_from(if negative { -scaled } else { scaled }).ok().map(Self)
    }

    /// A whole number of units.
    pub fn whole(units: i64) -> Option<Self> {
        units.checked_mul(UNIT).map(Self)
    }

    /// The sum, unless it is out of range.
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, unless it is out of range.
    pub fn minus(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

/// The one spelling that records have: no surplus zero but one decimal at least, as Cedar asks.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let unit = UNIT.unsigned_abs();
        let (whole, places) = (self.0.unsigned_abs() / unit, self.0.unsigned_abs() % unit);
        let places = format!("{places:04}");
        let shown = places.trim_end_matches('0');
        write!(f, "{sign}{whole}.{}", if shown.is_empty() { "0" } else { shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_and_print() {
        for (text, units, printed) in [
            ("0", 0, "0.0"),
            ("-0.0", 0, "0.0"),
            ("82000", 820_000_000, "82000.0"),
            ("1.5", 15_000, "1.5"),
            ("1.2345", 12_345, "1.2345"),
            ("-0.0001", -1, "-0.0001"),
            ("922337203685477.5807", i64::MAX, "922337203685477.5807"),
            ("-922337203685477.5808", i64::MIN, "-922337203685477.5808"),
        ] {
            assert_eq!(Amount::parse(text), Some(Amount(units)), "{text}");
            assert_eq!(Amount(units).to_string(), printed);
        }
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "+1",
            "1,000",
            "1e3",
            "1.23456",
            " 1",
            "--1",
            "922337203685477.5808",
            "99999999999999999999999999",
            "１",
        ] {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
    }
}
