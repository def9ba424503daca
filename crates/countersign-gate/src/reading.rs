//! What a gate reads from an intent's parameters, as the schema's annotations say (POL-7).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::amount::Amount;
use crate::reader::cut;

/// Names that one annotation may list.
const NAMES_MAX: usize = 64;

/// The annotations of one action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) destructive: bool,
    pub(crate) irreversible: bool,
    targets: Vec<String>,
    text: Vec<String>,
    amount: Option<String>,
    currency: Option<String>,
    count: Option<String>,
    facts: Vec<String>,
    parameters: Option<BTreeSet<String>>,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) targets: BTreeSet<String>,
    pub(crate) facts: BTreeSet<String>,
    pub(crate) amount: Option<Amount>,
    pub(crate) currency: Option<String>,
    pub(crate) count: Option<u64>,
}

impl Reading {
    /// Reads the annotations of an action; what is wrong with each.
    pub(crate) fn parse(annotations: &BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let mut reading = Self::default();
        let mut faults = Vec::new();
        for (key, value) in annotations {
            if let Err(fault) = reading.annotation(key, value) {
                faults.push(fault);
            }
        }
        if faults.is_empty() { Ok(reading) } else { Err(faults) }
    }

    fn annotation(&mut self, key: &str, value: &str) -> Result<(), String> {
        let flag = || match value {
            "true" => Ok(true),
            _ => Err(format!("write @{key}(\"true\"), or leave it out")),
        };
        match key {
            "destructive" => self.destructive = flag()?,
            "irreversible" => self.irreversible = flag()?,
            "targets" => self.targets = names(key, value)?,
            "text" => self.text = names(key, value)?,
            "amount" => self.amount = Some(one_name(key, value)?),
            "currency" => self.currency = Some(one_name(key, value)?),
            "count" => self.count = Some(one_name(key, value)?),
            "facts" => self.facts = names(key, value)?,
            "parameters" => {
                // An empty list is a verb that takes no parameters.
                let listed = if value.is_empty() { Vec::new() } else { names(key, value)? };
                self.parameters = Some(listed.into_iter().collect());
            }
            // Cedar's own way of documenting a declaration.
            "doc" => {}
            _ => return Err(format!("@{key} is no annotation of an action: remove or correct it")),
        }
        Ok(())
    }

    /// Reads the parameters; what is wrong with them.
    pub(crate) fn read(&self, parameters: Option<&Map<String, Value>>) -> Result<Read, String> {
        let empty = Map::new();
        let given = parameters.unwrap_or(&empty);
        if let Some(known) = &self.parameters
            && let Some(name) = given.keys().find(|name| !known.contains(*name))
        {
            return Err(format!("the verb takes no parameter {}", cut(name, 64)));
        }
        let get = |name: &String| given.get(name).filter(|value| !value.is_null());
        let mut read = Read::default();
        for name in &self.targets {
            let texts = get(name).map_or(Some(Vec::new()), texts);
            let texts = texts.ok_or_else(|| wrong(name, "a text or an array of texts"))?;
            read.targets.extend(texts.into_iter().map(str::to_owned));
        }
        for name in &self.text {
            let texts = get(name).map_or(Some(Vec::new()), texts);
            let texts = texts.ok_or_else(|| wrong(name, "a text or an array of texts"))?;
            for text in texts {
                read.targets.extend(targets_in(text));
            }
        }
        for name in &self.facts {
            let Some(value) = get(name) else { continue };
            let shown = match value {
                Value::String(text) => text.clone(),
                Value::Bool(b) => b.to_string(),
                Value::Number(n) => n.to_string(),
                _ => return Err(wrong(name, "a text, an integer, true or false")),
            };
            read.facts.insert(format!("{name}={shown}"));
        }
        if let Some(name) = &self.amount {
            let amount = get(name).and_then(|value| match value {
                Value::Number(n) => n.as_i64().and_then(Amount::whole),
                Value::String(text) => Amount::parse(text),
                _ => None,
            });
            // A negative amount would slip under every limit.
            let amount = amount.filter(|amount| *amount >= Amount::default());
            read.amount = Some(
                amount.ok_or_else(|| wrong(name, "an integer or a decimal text, not negative"))?,
            );
        }
        if let Some((name, value)) = self.currency.as_ref().and_then(|n| Some((n, get(n)?))) {
            let text = value.as_str().ok_or_else(|| wrong(name, "a text"))?;
            read.currency = Some(text.to_owned());
        }
        if let Some((name, value)) = self.count.as_ref().and_then(|n| Some((n, get(n)?))) {
            let count = match value {
                Value::Array(items) => Some(items.len() as u64),
                _ => countersign_core::json::as_u53(value),
            };
            read.count = Some(count.ok_or_else(|| wrong(name, "an integer or an array"))?);
        }
        Ok(read)
    }
}

fn wrong(name: &str, what: &str) -> String {
    format!("parameter {} must be {what}", cut(name, 64))
}

fn names(key: &str, value: &str) -> Result<Vec<String>, String> {
    let list: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
    let distinct: BTreeSet<&String> = list.iter().collect();
    let sound = distinct.len() == list.len()
        && list.len() <= NAMES_MAX
        && list.iter().all(|name| (1..=128).contains(&name.len()));
    let fault =
        || format!("write 1 to {NAMES_MAX} different names of parameters, by comma, in @{key}");
    if sound { Ok(list) } else { Err(fault()) }
}

fn one_name(key: &str, value: &str) -> Result<String, String> {
    match names(key, value)?.as_slice() {
        [name] => Ok(name.clone()),
        _ => Err(format!("write one name of a parameter in @{key}")),
    }
}

/// A text, or the texts of an array; none for anything else.
fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// What a free text could reach somebody by or give away: e-mail addresses, links and hosts,
/// numbers of accounts, cards and passports, one-time codes and keys (POL-7). As they stand there,
/// numbers without the spaces and marks between their groups.
///
/// It rather finds too much than too little: what it finds is a target, which a policy lets pass
/// only where the task's grant names it. Whoever makes a grant from a text may use it too.
pub fn targets_in(text: &str) -> BTreeSet<String> {
    // Characters that nobody sees split nothing.
    let shown: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    let between = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || "<>()[]{}\"'`,;|\\\u{201c}\u{201d}\u{2018}\u{2019}".contains(c)
    };
    let words = shown.split(between).map(|word| word.trim_matches(|c| ".:!?*_~".contains(c)));
    let mut found: BTreeSet<String> =
        words.filter(|word| is_address(word) || is_url(word)).map(str::to_owned).collect();
    found.extend(numbers(&shown));
    found
}

/// Soft hyphens, joiners, marks of direction and of byte order.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Something, an at sign, and a host with a point in it.
fn is_address(word: &str) -> bool {
    let Some((name, host)) = word.rsplit_once('@') else { return false };
    !name.is_empty() && host.contains('.')
}

/// A scheme, `www.`, or a host, with a path or without.
fn is_url(word: &str) -> bool {
    if word.contains("://") {
        return true;
    }
    let lower = word.to_ascii_lowercase();
    let named = ["www.", "mailto:", "data:", "tel:"].iter().any(|start| lower.starts_with(start));
    named
        || match word.split_once(['/', '?', '#', ':']) {
            Some((host, _)) => is_host(host),
            None => is_host(word) && !is_file(&lower),
        }
}

/// Labels by points, the last of two letters or more, or in the ASCII form of other letters.
fn is_host(text: &str) -> bool {
    let label =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-');
    match text.rsplit_once('.') {
        Some((rest, last)) => {
            let letters = last.chars().count() >= 2 && last.chars().all(char::is_alphabetic);
            rest.split('.').all(label)
                && (letters || (last.to_ascii_lowercase().starts_with("xn--") && label(last)))
        }
        None => false,
    }
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

/// What looks like a number of somebody's: words and groups of words of letters and digits. Groups
/// that stand together are one number, so that it has one spelling; a date is none.
fn numbers(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = String::new();
    let mut before = None;
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (mark, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(from.len());
        // A date would lend its digits to the number that stands beside it.
        let dated = date_at(from);
        let (word, after) = from.split_at(dated.unwrap_or(end));
        rest = after;
        let groups = dated.is_none() && is_group(word);
        if !(groups && before.is_some_and(|last| continues(mark, last, word.len()))) {
            found.extend(is_account(&open).then(|| open.clone()));
            open.clear();
        }
        before = groups.then_some(word.len());
        if groups {
            open.push_str(word);
            // Each word by itself too: a number may stand beside another.
            found.extend(is_code(word).then(|| word.to_owned()));
        }
    }
    found.extend(is_account(&open).then_some(open));
    found
}

/// Two characters or more, with a digit.
fn is_group(word: &str) -> bool {
    word.len() >= 2 && word.bytes().any(|b| b.is_ascii_digit())
}

/// Whether two groups with this between them are one number: a space or dash; between groups of
/// three or more also what else people put there, which in pairs is a time or a date.
fn continues(mark: &str, last: usize, next: usize) -> bool {
    let mut marks = mark.chars();
    let (Some(mark), None) = (marks.next(), marks.next()) else { return false };
    let dash = mark == '-' || ('\u{2010}'..='\u{2015}').contains(&mark) || mark == '\u{2212}';
    dash || (mark.is_whitespace() && mark != '\n') || (last.min(next) >= 3 && "./_:".contains(mark))
}

/// The length of a date such as `2024-05-26` at the start of a text.
fn date_at(text: &str) -> Option<usize> {
    let date = text.get(..10).filter(|date| is_date(&date.replace('-', "")) && date.len() == 10)?;
    let marked = date.bytes().enumerate().all(|(at, b)| (b == b'-') == (at == 4 || at == 7));
    let ends = !text.get(10..).unwrap_or_default().starts_with(|c: char| c.is_ascii_alphanumeric());
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
    word.bytes().filter(u8::is_ascii_digit).count()
}

/// Groups together: eight digits or more, and at least as many as letters.
fn is_account(joined: &str) -> bool {
    digits(joined) >= 8 && digits(joined) * 2 >= joined.len() && !is_date(joined)
}

/// One word: a one-time code or passport (six digits or more, and at least as many as letters), or
/// a key (six characters or more whose letters and digits change places three times, or twenty).
fn is_code(word: &str) -> bool {
    let kinds = word.as_bytes().windows(2).filter(|pair| match pair {
        [a, b] => a.is_ascii_digit() != b.is_ascii_digit(),
        _ => false,
    });
    let long = word.len() >= 20 && word.bytes().any(|b| b.is_ascii_alphabetic());
    (digits(word) >= 6 && digits(word) * 2 >= word.len() && !is_date(word))
        || (word.len() >= 6 && kinds.count() >= 3)
        || long
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

    #[test]
    fn parameters_are_read_as_annotated() {
        let annotated = |rows: &[(&str, &str)]| {
            let rows = rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Reading::parse(&rows)
        };
        let reading = annotated(&[
            ("targets", "to, cc"),
            ("text", "body"),
            ("amount", "sum"),
            ("currency", "unit"),
            ("count", "items"),
            ("facts", "size,open"),
        ])
        .expect("reading");
        let read = |text: &str| {
            let value: Value = serde_json::from_str(text).expect("json");
            reading.read(value.as_object())
        };
        let all = read(
            r#"{"to":"a","cc":["b","c"],"body":"x@y.example","sum":"12.50","unit":"EUR","items":[1,2],"size":3,"open":true}"#,
        )
        .expect("read");
        assert_eq!(all.targets.into_iter().collect::<String>(), "abcx@y.example");
        assert_eq!(all.facts.into_iter().collect::<Vec<_>>(), ["open=true", "size=3"]);
        assert_eq!((all.amount, all.count), (Some(Amount(125_000)), Some(2)));
        assert_eq!(all.currency.as_deref(), Some("EUR"));
        for text in [
            "{}",
            r#"{"sum":-1}"#,
            r#"{"sum":"x"}"#,
            r#"{"sum":1,"to":7}"#,
            r#"{"sum":1,"cc":[1]}"#,
            r#"{"sum":1,"items":-1}"#,
            r#"{"sum":1,"size":[]}"#,
            r#"{"sum":1,"unit":1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        for row in [
            ("destructive", "yes"),
            ("amount", "a,b"),
            ("targets", ""),
            ("target", "to"),
            ("text", "a,a"),
        ] {
            assert!(annotated(&[row]).is_err(), "{row:?}");
        }
        let closed = annotated(&[("parameters", "a")]).expect("reading");
        assert!(closed.read(serde_json::json!({"b": 1}).as_object()).is_err());
    }
}
