//! Characters that a reader takes for others: what is not seen, what is ASCII in another dress, and
//! the digits of other scripts (POL-7, INT-4).

/// Soft hyphens, joiners, marks of direction and of byte order, fillers, tags and selectors: nobody
/// sees them.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Whether nobody sees anything of a text.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c.is_control() || is_invisible(c))
}

/// Whether a reader sees all of a name: no control or format character, nothing without a shape, no
/// space but the plain one and that inside only, and nothing that this program's Unicode version
/// does not know (INT-4).
pub(crate) fn is_seen(name: &str) -> bool {
    !name.starts_with(' ') && !name.ends_with(' ') && name.chars().all(is_shown)
}

/// Whether a character has a shape by which it is known.
fn is_shown(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_control();
    }
    // The escapes of the standard library are its table of what can't be printed: controls, formats,
    // separators, private and unassigned characters. Behind a letter a combining mark can.
    !is_invisible(c) && format!("a{c}").escape_debug().count() == 2
}

/// A text without what nobody sees, and with the ASCII that Unicode's compatibility forms stand for
/// (NFKC), as hosts are read: full-width and mathematical letters and digits, points and dashes. What
/// else is not ASCII stays, so that it is no part of anything that a grant names.
pub(crate) fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !is_invisible(*c)) {
        match c {
            '\u{2025}' => out.push_str(".."),
            '\u{2026}' => out.push_str("..."),
            c if c.is_ascii() => out.push(c),
            c => out.push(plain(c)),
        }
    }
    // Browsers take these for slashes.
    out.replace("\\\\", "//")
}

/// The ASCII character that one stands for, or itself.
fn plain(c: char) -> char {
    let code = u32::from(c);
    let ascii = |base: u32, at: u32| char::from_u32(base + at).unwrap_or(c);
    let letter = |at: u32| match at % 52 {
        upper @ 0..26 => ascii(0x41, upper),
        lower => ascii(0x61, lower - 26),
    };
    match code {
        0xff01..=0xff5e => ascii(0x21, code - 0xff01),
        // Thirteen alphabets of mathematics, then Greek ones, then five rows of digits.
        0x1d400..=0x1d6a3 => letter(code - 0x1d400),
        0x1d7ce..=0x1d7ff => ascii(0x30, (code - 0x1d7ce) % 10),
        0x24b6..=0x24e9 => letter(code - 0x24b6),
        0x249c..=0x24b5 => ascii(0x61, code - 0x249c),
        0x1f130..=0x1f149 => ascii(0x41, code - 0x1f130),
        0x2010..=0x2015 | 0x2212 | 0xfe58 | 0xfe63 => '-',
        0x2024 | 0x3002 | 0xfe52 | 0xff61 => '.',
        0x2044 | 0x2215 | 0x29f8 => '/',
        0x2236 | 0xa789 | 0xfe13 | 0xfe55 => ':',
        0xfe6b => '@',
        _ => c,
    }
}

/// Where the ten decimal digits of a script begin, ascending.
const ZEROS: [u32; 61] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6,
    0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50,
    0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0x104a0,
    0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0,
    0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x11f50, 0x16a60, 0x16ac0, 0x16b50,
    0x1e140, 0x1e2f0, 0x1e4f0, 0x1e950, 0x1fbf0,
];

/// The digit that a character is for whoever reads it: of any script, raised, lowered or circled.
pub(crate) fn digit(c: char) -> Option<char> {
    let code = u32::from(c);
    let of = |value: u32| char::from_digit(value, 10);
    match code {
        0x30..=0x39 => Some(c),
        0xb2 | 0xb3 => of(code - 0xb0),
        0xb9 => of(1),
        0x2070 | 0x2074..=0x2079 => of(code - 0x2070),
        0x2080..=0x2089 => of(code - 0x2080),
        0x2460..=0x2468 => of(code - 0x2460 + 1),
        0x2474..=0x247c => of(code - 0x2474 + 1),
        0x2488..=0x2490 => of(code - 0x2488 + 1),
        0x24f5..=0x24fd => of(code - 0x24f5 + 1),
        0x2776..=0x277e => of(code - 0x2776 + 1),
        0x2780..=0x2788 => of(code - 0x2780 + 1),
        0x278a..=0x2792 => of(code - 0x278a + 1),
        0x24ea | 0x24ff => of(0),
        _ => {
            let zero = ZEROS.iter().rev().find(|zero| **zero <= code)?;
            of(code - zero)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // INT-4.
    #[test]
    fn a_name_is_what_a_reader_sees_of_it() {
        for seen in
            ["a", "bob", "ec2:Run", "a b", "Zoë", "Zoe\u{308}", "東京", "løn", "a\\b", "\"'"]
        {
            assert!(is_seen(seen), "{seen:?}");
        }
        for unseen in [
            "\u{0}",
            "a\u{7f}",
            "a\u{85}",
            "a\u{ad}b",
            "\u{200b}",
            "a\u{202e}",
            "a\u{2066}b",
            " a",
            "a ",
            "a\u{a0}b",
            "a\u{2028}b",
            "a\u{3000}b",
            "\u{3164}",
            "a\u{fe0f}",
            "\u{e000}",
            "\u{e0041}",
            "a\u{378}",
            "\u{10ffff}",
            "a\tb",
        ] {
            assert!(!is_seen(unseen), "{unseen:?}");
        }
    }
}
