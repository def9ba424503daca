//! What a free text could reach somebody by, or give away (POL-7).
//!
//! It rather finds too much than too little: what it finds is a target, which a policy lets pass only
//! where the task's grant names it.

use std::collections::BTreeSet;

use crate::fold::{digit, folded};

/// E-mail addresses, links and hosts, numbers of accounts, cards and passports, one-time codes and
/// keys in a free text. As they stand there once compatibility forms are folded, numbers without the
/// spaces and marks between their groups. Whoever makes a grant from a text may use it too.
pub fn targets_in(text: &str) -> BTreeSet<String> {
    let shown = folded(text);
    let between = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || "<>()[]{}\"'`,;|\\\u{201c}\u{201d}\u{201e}\u{2018}\u{2019}\u{ab}\u{bb}".contains(c)
    };
    let mut found = BTreeSet::new();
    for word in shown.split(between) {
        let bare = word.trim_matches(|c| ".:!?*_~@".contains(c));
        if is_ip6(word) {
            found.insert(word.to_owned());
        } else if reaches(bare) || decoded(bare).is_some_and(|decoded| reaches(&decoded)) {
            found.insert(bare.to_owned());
        }
    }
    found.extend(numbers(&shown));
    found
}

fn reaches(word: &str) -> bool {
    is_address(word) || is_url(word)
}

/// Something on both sides of an at sign.
fn is_address(word: &str) -> bool {
    word.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
}

/// Beginnings of what a program opens, whether slashes follow or not.
const OPENED: [&str; 16] = [
    "www.",
    "mailto:",
    "data:",
    "tel:",
    "sms:",
    "http:",
    "https:",
    "ftp:",
    "file:",
    "javascript:",
    "ws:",
    "wss:",
    "ssh:",
    "sip:",
    "xmpp:",
    "magnet:",
];

/// A scheme, two slashes, `www.`, or a host, with a path or without.
fn is_url(word: &str) -> bool {
    if word.split_once("//").is_some_and(|(_, rest)| rest.contains(char::is_alphanumeric)) {
        return true;
    }
    let lower = word.to_ascii_lowercase();
    if OPENED.iter().any(|start| lower.strip_prefix(start).is_some_and(|rest| !rest.is_empty())) {
        return true;
    }
    match word.split_once(['/', '?', '#', ':']) {
        Some((host, _)) => is_host(host),
        None => is_host(word) && !is_file(&lower),
    }
}

/// Labels by points, one or more; the last of two letters or more, or in the ASCII form of other
/// letters, or all of them numbers. What is not ASCII may stand for anything.
fn is_host(text: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || !c.is_ascii();
    let labels: Vec<&str> = text.split('.').filter(|label| !label.is_empty()).collect();
    if labels.len() < 2 || !labels.iter().all(|label| label.chars().all(fits)) {
        return false;
    }
    let last = labels.last().copied().unwrap_or_default();
    let letters = last.chars().filter(|c| c.is_alphabetic()).count() >= 2
        && last.chars().all(|c| c.is_alphabetic() || !c.is_ascii());
    letters || last.to_ascii_lowercase().starts_with("xn--") || is_ip4(&labels)
}

fn is_ip4(labels: &[&str]) -> bool {
    labels.len() == 4 && labels.iter().all(|label| label.parse::<u8>().is_ok())
}

/// Hexadecimal groups by colons, eight of them or with two colons together.
fn is_ip6(word: &str) -> bool {
    let word = word.split(['/', '%']).next().unwrap_or_default();
    let word = word.trim_end_matches(['.', '!', '?']);
    let colons = word.bytes().filter(|b| *b == b':').count();
    word.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
        && word.bytes().any(|b| b.is_ascii_hexdigit())
        && (colons == 7 || (colons >= 2 && word.contains("::")))
}

/// A word with what its percent signs hide; none where they hide nothing.
fn decoded(word: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let code = after.get(..2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let hidden = code.filter(u8::is_ascii_graphic);
        out.push(hidden.map_or('%', char::from));
        rest = if hidden.is_some() { after.get(2..)? } else { after };
    }
    out.push_str(rest);
    (out != word).then_some(out)
}

/// A file by its ending. None of these endings is a top-level domain; `md` and `zip` are.
fn is_file(lower: &str) -> bool {
    const ENDINGS: [&str; 32] = [
        "bak", "bmp", "csv", "doc", "docx", "eml", "gif", "htm", "html", "ics", "jpeg", "jpg",
        "json", "log", "odp", "ods", "odt", "pdf", "png", "ppt", "pptx", "rtf", "svg", "tif",
        "tiff", "toml", "tsv", "txt", "xls", "xlsx", "xml", "yaml",
    ];
    lower.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

/// Digits in a number of somebody's.
const DIGITS_MIN: usize = 8;
/// Digits in one whose groups stand apart as the numbers of a list do.
const LISTED_MIN: usize = 12;

/// What looks like a number of somebody's: words and groups of words of letters and digits. Groups
/// that stand together are one number, so that it has one spelling; a date is none.
fn numbers(text: &str) -> BTreeSet<String> {
    let text: String = text.chars().map(|c| digit(c).unwrap_or(c)).collect();
    let mut found = BTreeSet::new();
    let (mut joined, mut single) = (Run::of(DIGITS_MIN, true), Run::of(DIGITS_MIN, true));
    let mut listed = Run::of(LISTED_MIN, false);
    // Characters of the group before, 0 where something else stands between; and the mark before.
    let (mut last, mut before) = (0, "");
    let mut rest = text.as_str();
    while let Some(start) = rest.find(in_word) {
        let (mark, from) = rest.split_at(start);
        let end = from.find(|c: char| !in_word(c)).unwrap_or(from.len());
        // A date would lend its digits to the number that stands beside it.
        let dated = date_at(from);
        let (word, after) = from.split_at(dated.unwrap_or(end));
        rest = after;
        let length = word.chars().count();
        let is_number = dated.is_none() && digits(word) > 0;
        let group = Some(word).filter(|_| is_number && length >= 2);
        let one = Some(word).filter(|_| is_number && length == 1);
        // Numbers that stand under each other are one; one that begins a line of words is not.
        let under = !mark.contains('\n') || is_line_of_numbers(from);
        let joins = group.is_some() && under && continues(mark, last, length);
        found.extend(joined.take(group, joins));
        let lists = group.is_some_and(is_listed) && under && last.min(length) >= 3;
        found.extend(listed.take(group, joins || lists));
        listed.counts |= lists && !joins;
        let alike = mark.chars().all(is_soft) || single.text.len() == 1 || mark == before;
        found.extend(single.take(one, one.is_some() && under && alike));
        // Each word by itself too: a number may stand beside another.
        found.extend(group.filter(|word| is_code(word)).map(str::to_owned));
        (last, before) = (group.map_or(0, |_| length), mark);
    }
    found.extend([joined, listed, single].iter_mut().filter_map(Run::end));
    found
}

/// Groups that are read as one number.
struct Run {
    text: String,
    least: usize,
    /// Whether it is told of; what is a list only, once two groups of it stand as in a list.
    counts: bool,
    always: bool,
}

impl Run {
    fn of(least: usize, always: bool) -> Self {
        Self { text: String::new(), least, counts: always, always }
    }

    /// Takes the next word, where it is one of these, and gives what ended before it.
    fn take(&mut self, word: Option<&str>, joins: bool) -> Option<String> {
        let ended = if joins { None } else { self.end() };
        self.text.push_str(word.unwrap_or_default());
        ended
    }

    fn end(&mut self) -> Option<String> {
        let (text, counts) = (std::mem::take(&mut self.text), self.counts);
        self.counts = self.always;
        Some(text).filter(|text| counts && is_account(text, self.least))
    }
}

/// ASCII letters and digits, digits of whatever kind, and letters of the scripts whose letters pass
/// for each other: those that have two cases.
fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c.is_numeric() || c.is_lowercase() || c.is_uppercase()
}

/// Spaces, ends of lines and dashes.
fn is_soft(c: char) -> bool {
    c.is_whitespace() || c.is_control() || c == '-'
}

/// Whether a line, from here on, has nothing but numbers in it.
fn is_line_of_numbers(text: &str) -> bool {
    let line = text.split('\n').next().unwrap_or_default();
    let mut words = line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.all(|word| digits(word) > 0)
}

/// Whether two groups with this between them are one number: spaces and dashes; between groups of
/// three or more also what else people put there, which in pairs is a time or a date; between those
/// of four whatever is no space. What ends a part of a sentence joins nothing.
fn continues(mark: &str, last: usize, next: usize) -> bool {
    let shortest = last.min(next);
    let of = |more: &str| mark.chars().all(|c| is_soft(c) || more.contains(c));
    let sentence = mark.trim_end() != mark && mark.trim_end().chars().count() == 1;
    shortest > 0
        && (of("")
            || (shortest >= 3 && of("./_:") && !sentence)
            || (shortest >= 4 && !mark.contains(char::is_whitespace)))
}

/// A number that may be one of a list's, and is no year.
fn is_listed(word: &str) -> bool {
    let is_year = word.len() == 4 && word.parse().is_ok_and(|n: u16| (1900..2100).contains(&n));
    digits(word) == word.chars().count() && !is_year
}

/// The length of a date such as `2024-05-26` at the start of a text.
fn date_at(text: &str) -> Option<usize> {
    let date = text.get(..10).filter(|date| is_date(&date.replace('-', "")) && date.len() == 10)?;
    let marked = date.bytes().enumerate().all(|(at, b)| (b == b'-') == (at == 4 || at == 7));
    let ends = !text.get(10..).unwrap_or_default().starts_with(in_word);
    (marked && ends).then_some(10)
}

/// Eight digits: a year of this century or the last, a month and a day.
fn is_date(word: &str) -> bool {
    let part = |from, to| word.get(from..to).and_then(|part| part.parse::<u16>().ok());
    word.len() == 8
        && word.bytes().all(|b| b.is_ascii_digit())
        && part(0, 4).is_some_and(|year| (1900..2100).contains(&year))
        && part(4, 6).is_some_and(|month| (1..=12).contains(&month))
        && part(6, 8).is_some_and(|day| (1..=31).contains(&day))
}

fn digits(word: &str) -> usize {
    word.chars().filter(|c| c.is_numeric()).count()
}

/// Groups together: so many digits or more, and at least as many as letters.
fn is_account(joined: &str, least: usize) -> bool {
    digits(joined) >= least && digits(joined) * 2 >= joined.chars().count() && !is_date(joined)
}

/// One word: a one-time code or passport (six digits or more, and at least as many as letters), or
/// a key (six characters or more whose letters and digits change places three times, or twenty).
fn is_code(word: &str) -> bool {
    let kinds: Vec<bool> = word.chars().map(char::is_numeric).collect();
    let changes = kinds.windows(2).filter(|pair| matches!(pair, [a, b] if a != b)).count();
    let (length, of_digits) = (kinds.len(), digits(word));
    (of_digits >= 6 && of_digits * 2 >= length && !is_date(word))
        || (length >= 6 && changes >= 3)
        || (length >= 20 && of_digits < length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_gives_its_addresses_urls_and_accounts() {
        let found = |text: &str| targets_in(text).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(
            found("Write to <alice@acme.example>, or bob@acme.example."),
            "alice@acme.example bob@acme.example"
        );
        assert_eq!(found("see https://x.example/a?b=c!"), "https://x.example/a?b=c");
        assert_eq!(found("go to www.acme.example."), "www.acme.example");
        assert_eq!(found("short x.example/abc"), "x.example/abc");
        assert_eq!(found("pay US900000000343434343434 now"), "US900000000343434343434");
        assert_eq!(found("DE89 3704 0044 0532 0130 00"), "DE89370400440532013000");
        assert_eq!(found("on 2024-05-26 at 10:00, 12 people, e.g. file.txt and/or @bob"), "");
        assert_eq!(found("call 555-0100-1234"), "55501001234");
        assert_eq!(found("at 2024-05-26 10:00 for 12, till 2024-05-27 18:30, 20240526"), "");
    }

    #[test]
    fn a_text_gives_what_somebody_would_hide_in_it() {
        let found = |text: &str| targets_in(text).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(found("the code is 271903."), "271903");
        assert_eq!(found("passport_number: KLM204815,"), "KLM204815");
        assert_eq!(found("card 4000-1234-5678-9010"), "4000123456789010");
        assert_eq!(found("card 4000.1234.5678.9010"), "4000123456789010");
        assert_eq!(
            found("card 40\u{200b}00\u{2013}1234\u{a0}5678\u{2011}9010"),
            "4000123456789010"
        );
        assert_eq!(found("GB94 BARC 1020 1530 0934 59"), "10201530093459");
        assert_eq!(found("the key is 7q2x9f"), "7q2x9f");
        assert_eq!(found("AKIAIOSFODNN7EXAMPLE"), "AKIAIOSFODNN7EXAMPLE");
        assert_eq!(found("2024-05-26 4000 1234"), "40001234");
        assert_eq!(
            found("see acme-252.example, b\u{ad}ob@acme.example"),
            "acme-252.example bob@acme.example"
        );
        assert_eq!(
            found("acme.example:8443, acme.example?q=1"),
            "acme.example:8443 acme.example?q=1"
        );
        assert_eq!(found("at a.xn--p1ai"), "a.xn--p1ai");
        assert_eq!(
            found("minutes.docx, e.g. at 160-0023, 1-1-1 or 75002, 10am, 2023Q4, 19.5%"),
            ""
        );
    }

    /// An attack review's ways to hide what a text reaches: each gave nothing once.
    #[test]
    fn another_dress_hides_nothing() {
        let found = |text: &str| targets_in(text).into_iter().collect::<Vec<_>>().join(" ");
        // Full-width, mathematical, circled and other scripts' forms.
        assert_eq!(found("bob\u{ff20}acme\u{ff0e}example"), "bob@acme.example");
        assert_eq!(found("ｂｏｂ@ａｃｍｅ.ｅｘａｍｐｌｅ"), "bob@acme.example");
        assert_eq!(found("bob\u{fe6b}acme\u{3002}example"), "bob@acme.example");
        assert_eq!(found("\u{1d41b}\u{24de}b@acme.example"), "bob@acme.example");
        assert_eq!(found("card ４０００ １２３４ ５６７８ ９０１０"), "4000123456789010");
        assert_eq!(found("card ٤٠٠٠-١٢٣٤-٥٦٧٨-٩٠١٠"), "4000123456789010");
        assert_eq!(found("card ①②③④⑤⑥⑦⑧"), "12345678");
        assert_eq!(found("code \u{1d7d0}\u{1d7d5}\u{1d7cf}\u{1d7d7}\u{1d7ce}\u{1d7d1}"), "271903");
        // A letter of another script makes it a target that no grant names.
        assert_eq!(found("\u{430}cme.example"), "\u{430}cme.example");
        assert_eq!(found("ac\u{301}me.exa\u{301}mple"), "ac\u{301}me.exa\u{301}mple");
        assert_eq!(found("b\u{43e}b@acme.example"), "b\u{43e}b@acme.example");
        assert_eq!(found("KL\u{41c}204815"), "KL\u{41c}204815");
        assert_eq!(found("evil\u{2011}acme.example"), "evil-acme.example");
    }

    #[test]
    fn hosts_have_many_spellings() {
        let found = |text: &str| targets_in(text).into_iter().collect::<Vec<_>>().join(" ");
        for whole in [
            "10.0.0.7",
            "10.0.0.7:8443/x",
            "//acme.example",
            "//acme/x",
            "http:acme",
            "https:/acme",
            "bob@acme",
            "bob@@acme",
            "bob@@acme..example",
            "acme..example",
            "acme...example/x",
            "acme%2eexample",
            "bob%40acme",
            "my_host.acme.example",
        ] {
            assert_eq!(found(&format!("go to {whole} now")), whole);
        }
        assert_eq!(found("at [2001:db8::7], ::1 or fe80::1%eth0"), "2001:db8::7 ::1 fe80::1%eth0");
        assert_eq!(found("2001:db8:0:0:0:0:0:7"), "2001:db8:0:0:0:0:0:7");
        assert_eq!(found("\\\\acme\\share"), "//acme");
        assert_eq!(found("bob @acme.example"), "acme.example");
        assert_eq!(
            found("and/or, 4.5/5, 10:00:00, v1.2.3, @bob, 5 // 7, a @ b, e.g..., 26.05.2024"),
            ""
        );
    }

    #[test]
    fn groups_of_digits_are_one_number_whatever_stands_between() {
        let found = |text: &str| targets_in(text).into_iter().collect::<Vec<_>>().join(" ");
        for text in [
            "4000\n1234\n5678\n9010",
            "card:\n4000 1234\n5678 9010\nthanks",
            "40\n00\n12\n34\n56\n78\n90\n10",
            "4000 - 1234 - 5678 - 9010",
            "4000--1234..5678__9010",
            "4000 / 1234 / 5678 / 9010",
            "4000,1234,5678,9010",
            "4000(1234)5678(9010)",
            "4000, 1234, 5678, 9010",
            "4000. 1234. 5678. 9010",
            "4-0-0-0-1-2-3-4-5-6-7-8-9-0-1-0",
            "4\n0\n0\n0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n0\n1\n0",
            "4.0.0.0.1.2.3.4.5.6.7.8.9.0.1.0",
            "4000\u{5e74}1234\u{5e74}5678\u{5e74}9010",
        ] {
            assert_eq!(found(text), "4000123456789010", "{text}");
        }
        // Lists, prices, ratings, times and numbered lines are none.
        assert_eq!(found("paid 1500. 2024 was good"), "");
        assert_eq!(found("240, 500, 120; 2023, 2024, 2025"), "");
        assert_eq!(found("4.5 4.6 4.7 4.8, 12,500,000 and 1,200"), "");
        assert_eq!(found("1. one\n2. two\n10. ten\n11. eleven, room 101\n202 is free"), "");
        // A number that begins a line of words is another.
        assert_eq!(found("account 12345678\n50 EUR"), "12345678");
    }
}
