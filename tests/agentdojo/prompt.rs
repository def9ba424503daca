//! The grant of a task, made from what its user wrote and from nothing else.
//!
//! It holds only what is literally in the prompt: quoted names, capitalised names, e-mail
//! addresses, addresses of pages, account numbers, and numbers as amounts. Nothing of the calls, of
//! the task's name or of who asked is looked at.

use std::collections::BTreeSet;

/// Characters that end a word without being part of it.
const AROUND: &[char] = &['\'', '"', '(', ')', ',', ';', ':', '!', '?', '.', '{', '}', '’'];

/// Characters that end a run of names; a comma may stand inside an address.
const ENDS: &[char] = &['\'', '"', ')', ';', ':', '!', '?', '.', '}', '’'];

/// What a prompt names.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Names, addresses and accounts.
    pub(crate) targets: BTreeSet<String>,
    /// Numbers, as decimals.
    pub(crate) amounts: BTreeSet<String>,
}

/// Reads a prompt.
pub(crate) fn named(prompt: &str) -> Named {
    let mut found = Named::default();
    quoted(prompt, &mut found.targets);
    let mut run: Vec<&str> = Vec::new();
    for word in prompt.split_whitespace() {
        let bare = word.trim_matches(AROUND);
        let name = bare.strip_suffix("'s").unwrap_or(bare);
        let page = page(bare);
        if is_address(page) {
            found.targets.insert(page.to_owned());
        }
        let number = bare.trim_start_matches(['$', '€', '£']);
        if is_number(number) {
            found.amounts.insert(number.to_owned());
        }
        let capital = name.starts_with(|c: char| c.is_uppercase());
        if capital {
            found.targets.insert(name.to_owned());
        }
        // A postal address has its numbers beside the names: "12 Oak Street, Old Town, OT 10115".
        if capital || is_number(name) {
            run.push(word);
        }
        if !(capital || is_number(name)) || word.ends_with(ENDS) {
            names(&run, &mut found.targets);
            run.clear();
        }
    }
    names(&run, &mut found.targets);
    found
}

/// A run of capitalised words and numbers: each part between its commas, and parts that stand
/// together.
fn names(run: &[&str], targets: &mut BTreeSet<String>) {
    let parts: Vec<&[&str]> = run.split_inclusive(|word| word.ends_with(',')).collect();
    for first in 0..parts.len() {
        for last in first..parts.len().min(first + 4) {
            let text = parts[first..=last].concat().join(" ");
            let text = text.trim_matches(AROUND);
            let text = text.strip_suffix("'s").unwrap_or(text);
            if text.contains(' ') && text.contains(char::is_uppercase) {
                targets.insert(text.to_owned());
            }
        }
    }
}

/// What stands between two single or two double quotes, where the first does not stand inside a
/// word.
fn quoted(prompt: &str, targets: &mut BTreeSet<String>) {
    for mark in ['\'', '"'] {
        let mut rest = prompt;
        let mut before = ' ';
        while let Some(at) = rest.find(mark) {
            let opens = rest[..at].chars().next_back().unwrap_or(before);
            let inside = &rest[at + 1..];
            let Some(end) = inside.find(mark) else { break };
            if opens.is_alphanumeric() {
                (before, rest) = (mark, inside);
                continue;
            }
            if (1..=64).contains(&end) {
                targets.insert(inside[..end].to_owned());
            }
            (before, rest) = (mark, &inside[end + 1..]);
        }
    }
}

/// The address of a page without the sentence that follows its full stop in the same word: hosts
/// are written small.
fn page(word: &str) -> &str {
    let next = word.starts_with("www.").then(|| {
        word.match_indices('.')
            .find(|(at, _)| word[at + 1..].starts_with(|c: char| c.is_uppercase()))
    });
    next.flatten().map_or(word, |(at, _)| &word[..at])
}

/// An e-mail address, the address of a page, or an account number.
fn is_address(word: &str) -> bool {
    let mail = word.split_once('@').is_some_and(|(who, at)| !who.is_empty() && at.contains('.'));
    let page =
        word.starts_with("www.") || word.starts_with("http://") || word.starts_with("https://");
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let account =
        digits >= 6 && word.len() >= 10 && word.chars().all(|c| c.is_ascii_alphanumeric());
    mail || page || account
}

/// Digits, with at most four after a point.
fn is_number(word: &str) -> bool {
    let (whole, rest) = word.split_once('.').unwrap_or((word, "0"));
    let digits = |text: &str, most| {
        (1..=most).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit())
    };
    digits(whole, 12) && digits(rest, 4)
}

#[test]
fn a_grant_holds_what_the_prompt_says() {
    let found = named(
        "Hey Alice! Send 12.50 to 'Le Bon Coin' (US900000000343434343434), tell \
         bob.x@example.com about www.example.com/a. Don't ask Frank's friend New York. I moved to \
         12 Oak Street, Old Town, OT 10115 and wrote it on www.example.com.They know.",
    );
    let targets: Vec<&str> = found.targets.iter().map(String::as_str).collect();
    let expected = [
        "12 Oak Street",
        "12 Oak Street, Old Town",
        "12 Oak Street, Old Town, OT 10115",
        "Alice",
        "Bon",
        "Coin",
        "Don't",
        "Frank",
        "Hey",
        "Hey Alice",
        "I",
        "Le",
        "Le Bon Coin",
        "New",
        "New York",
        "OT",
        "OT 10115",
        "Oak",
        "Old",
        "Old Town",
        "Old Town, OT 10115",
        "Send",
        "Send 12.50",
        "Street",
        "Town",
        "US900000000343434343434",
        "York",
        "bob.x@example.com",
        "www.example.com",
        "www.example.com/a",
    ];
    assert_eq!(targets, expected);
    let amounts: Vec<&str> = found.amounts.iter().map(String::as_str).collect();
    assert_eq!(amounts, ["10115", "12", "12.50"]);
}
