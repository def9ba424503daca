//! The spellings of conventions: base64, hex, decimals, times, length prefixes.
//!
//! Every decoder here accepts exactly one spelling of a value (CONV-2 to CONV-7): what it returns,
//! encoded again, is the text that was read.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Bytes as standard base64 with padding (RFC 4648 section 4).
pub fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Standard base64 with padding and canonical trailing bits; any other spelling is `None`.
pub fn from_b64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// [`from_b64`] of exactly `N` bytes.
pub fn from_b64_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Long texts are refused before they are decoded.
    if text.len() != N.div_ceil(3) * 4 {
        return None;
    }
    from_b64(text)?.try_into().ok()
}

/// Bytes as URL-safe base64 without padding (RFC 4648 section 5).
pub fn b64u(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The same of a salt, into the 22 characters that it has, without a string of its own.
pub(crate) fn b64u_salt(salt: &[u8; 16], text: &mut [u8; 22]) {
    // 16 bytes are 22 characters: the encoder can't run out of room.
    let _ = URL_SAFE_NO_PAD.encode_slice(salt, text);
}

/// URL-safe base64 without padding of exactly `N` bytes, canonical trailing bits.
pub fn from_b64u_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// Lower-case hex of exactly `N` bytes.
pub fn from_hex_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).ok()?;
    Some(out)
}

/// A decimal without sign or leading zeros that fits `u64`.
pub fn from_decimal(text: &str) -> Option<u64> {
    let canonical = !text.is_empty()
        && text.len() <= 20
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// `u16 length || bytes`, or `None` where the text is longer than 65,535 bytes.
pub fn lp(text: &str) -> Option<Vec<u8>> {
    let length = u16::try_from(text.len()).ok()?;
    let mut out = Vec::with_capacity(2 + text.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Some(out)
}

/// A name of a tenant or a gate: 1 to 128 bytes of `[A-Za-z0-9._-]`, neither `.` nor `..`.
pub fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A log's origin: 1 to 255 bytes of printable ASCII without space and `+`.
pub fn is_origin(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'+')
}

/// Text made safe to print: control, bidirectional and other invisible characters as `\u{…}`.
///
/// Whatever came from evidence goes through here before a person sees it.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let invisible = c.is_control()
            || matches!(c, '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}'
                | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{115f}' | '\u{1160}'
                | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}'
                | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}');
        if invisible {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A time: microseconds since the Unix epoch, UTC, no leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

/// The last instant that the format can write: 9999-12-31T23:59:59.999999Z.
const MICROS_MAX: u64 = 253_402_300_799_999_999;

impl Micros {
    /// Parses RFC 3339 in UTC with exactly six decimals and `Z` (CONV-7).
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: &[u8; 27] = text.as_bytes().try_into().ok()?;
        let digits = |from: usize, to: usize| -> Option<u64> {
            let part = bytes.get(from..to)?;
            if !part.iter().all(u8::is_ascii_digit) {
                return None;
            }
            Some(part.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
        };
        let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.')];
        if !separators.iter().all(|&(at, c)| bytes.get(at) == Some(&c))
            || bytes.last() != Some(&b'Z')
        {
            return None;
        }
        let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
        let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
        let micros = digits(20, 26)?;
        if year < 1970 || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        if day == 0 || day > days_in_month(year, month)? {
            return None;
        }
        let days = days_since_epoch(year, month, day);
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
        Some(Self(seconds * 1_000_000 + micros))
    }

    /// The one spelling that [`Micros::parse`] accepts. Times past year 9999 print as its end.
    pub fn format(self) -> String {
        let us = self.0.min(MICROS_MAX);
        let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
        let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
        let mut year = 1970;
        while days >= year_length(year) {
            days -= year_length(year);
            year += 1;
        }
        let mut month = 1;
        while let Some(length) = days_in_month(year, month) {
            if days < length {
                break;
            }
            days -= length;
            month += 1;
        }
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        let day = days + 1;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_length(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: u64) -> Option<u64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap(year) { 29 } else { 28 }),
        _ => None,
    }
}

/// Days from 1970-01-01 to a valid civil date from 1970 on.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let y = year - 1;
    let leap_days = |y: u64| y / 4 - y / 100 + y / 400;
    let whole_years = (year - 1970) * 365 + leap_days(y) - leap_days(1969);
    let whole_months: u64 = (1..month).filter_map(|m| days_in_month(year, m)).sum();
    whole_years + whole_months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_spelling() {
        for text in [
            "1970-01-01T00:00:00.000000Z",
            "2000-02-29T23:59:59.999999Z",
            "2026-11-23T12:00:06.500000Z",
            "2100-03-01T00:00:00.000001Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            assert_eq!(Micros::parse(text).expect(text).format(), text);
        }
        assert_eq!(
            Micros::parse("2026-11-23T12:00:00.000000Z"),
            Some(Micros(1_795_435_200_000_000))
        );
        for text in [
            "2026-11-23T12:00:00Z",
            "2026-11-23T12:00:00.000Z",
            "2026-11-23T12:00:00.000000+00:00",
            "2026-11-23t12:00:00.000000z",
            "2026-11-23 12:00:00.000000Z",
            "2026-02-29T12:00:00.000000Z",
            "2026-13-01T12:00:00.000000Z",
            "2026-00-01T12:00:00.000000Z",
            "2026-01-00T12:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T23:59:60.000000Z",
            "1969-12-31T23:59:59.999999Z",
            "+026-01-01T23:59:00.000000Z",
            "",
        ] {
            assert_eq!(Micros::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        let mut day = 0;
        while day < 366 * 400 {
            let time = Micros(day * 86_400_000_000 + 1);
            assert_eq!(Micros::parse(&time.format()), Some(time));
            day += 1;
        }
    }

    #[test]
    fn only_canonical_spellings_decode() {
        assert_eq!(from_b64("AA=="), Some(vec![0]));
        assert_eq!(from_b64("AB=="), None, "trailing bits");
        assert_eq!(from_b64("AA"), None, "missing padding");
        assert_eq!(from_b64("AA==\n"), None);
        assert_eq!(from_b64u_array::<1>("AA"), Some([0]));
        assert_eq!(from_b64u_array::<1>("AB"), None);
        assert_eq!(from_b64u_array::<1>("AA=="), None);
        assert_eq!(from_hex_array::<1>("0a"), Some([10]));
        assert_eq!(from_hex_array::<1>("0A"), None);
        assert_eq!(from_decimal("0"), Some(0));
        assert_eq!(from_decimal("18446744073709551615"), Some(u64::MAX));
        for text in ["", "00", "01", "+1", "-1", " 1", "1 ", "18446744073709551616", "1e3"] {
            assert_eq!(from_decimal(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_invisible_is_printed_as_it_is() {
        assert_eq!(escaped("a\u{202e}b\x1b[2J\n"), "a\\u{202e}b\\u{1b}[2J\\u{a}");
        assert_eq!(escaped("naïve ☂"), "naïve ☂");
    }
}
