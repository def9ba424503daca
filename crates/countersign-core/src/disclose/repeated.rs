//! Where a file still shows, in another place, what it withholds (EVID-15).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{DIGESTED, views};
use crate::cert::Certificate;
use crate::codes::Fault;
use crate::encoding::Micros;
use crate::evidence::Evidence;
use crate::json;
use crate::kinds::{Kind, Shape};
use crate::record::View;

/// Characters of the shortest value that is looked for: shorter ones stand everywhere.
const VALUE_MIN: usize = 3;
/// Characters from which on a value is looked for within words too.
const WITHIN_WORDS_MIN: usize = 8;

/// Fields that say where a record belongs, in numbers, hashes and times of their own.
const PLACE: [&str; 5] = ["prev", "recorded_at", "seq", "stream", "type"];
/// Fields of copies: what they hold was taken from the other fields, or from the gate's directory.
const COPIES: [&str; 2] = ["context", "entities"];
/// Where what stands only in a copy may stand again. The fields that it was copied from are shown or
/// withheld by their own names.
const BESIDE_COPIES: [&str; 4] = ["context", "entities", "errors", "reasons"];

/// A withheld field, and where the file still tells its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repeated {
    /// The kind of the record that withholds it.
    pub kind: Kind,
    /// The withheld field.
    pub name: &'static str,
    /// Where it is told.
    pub place: Place,
}

/// Where a file tells what it withholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// This field of a record of this kind has the value, or a part of it.
    Field(Kind, &'static str),
    /// The certificate of the person who signed a record of this kind has it.
    Certificate(Kind),
    /// The action digest confirms a guess at it: the action was given no nonce.
    Digest,
}

impl Evidence {
    /// Where `less`, made of this evidence by [`Evidence::withhold`], still tells what it withholds:
    /// texts of at least 3 characters and numbers of at least 3 digits, found as words, or as a part
    /// of any text from 8 characters on; letters in either case.
    ///
    /// What is said in other words, in other units or in part is not found.
    ///
    /// # Errors
    ///
    /// As of [`Evidence::withhold`], where a file's records can't be read.
    pub fn repeated(&self, less: &Self) -> Result<BTreeSet<Repeated>, Fault> {
        let (before, after) = (views(self)?, views(less)?);
        let mut out = BTreeSet::new();
        for (whole, part) in before.iter().zip(&after) {
            let kind = whole.kind();
            for name in part.withheld() {
                let found = |place| Repeated { kind, name, place };
                let asked = matches!(kind, Kind::Intent | Kind::Verdict);
                let unsalted = whole.get("nonce").is_some_and(Value::is_null);
                if asked && unsalted && DIGESTED.contains(&name) {
                    out.insert(found(Place::Digest));
                }
                let spec = kind.fields().iter().find(|spec| spec.name == name);
                let (Some(spec), Some(value)) = (spec, whole.get(name)) else { continue };
                let mut needles = BTreeSet::new();
                needles_of(&spec.shape, value, &mut needles);
                for place in after.iter().flat_map(|view| fields_with(view, name, &needles)) {
                    out.insert(found(place));
                }
                let all = std::iter::once(less).chain(&less.supporting);
                let holders = all.zip(&after).filter(|(of, _)| is_named(of, &needles));
                out.extend(holders.map(|(_, view)| found(Place::Certificate(view.kind()))));
            }
        }
        Ok(out)
    }
}

/// The fields that a record shows and that hold one of these values.
fn fields_with<'v>(
    view: &'v View,
    name: &str,
    needles: &'v BTreeSet<Needle>,
) -> impl Iterator<Item = Place> + 'v {
    let copy = COPIES.contains(&name);
    let searched = move |field: &str| {
        if copy { BESIDE_COPIES.contains(&field) } else { !PLACE.contains(&field) }
    };
    view.shown()
        .filter(move |(spec, value)| searched(spec.name) && holds(value, needles))
        .map(|(spec, _)| Place::Field(view.kind(), spec.name))
}

/// Whether the certificate of the person who signed names one of these values.
fn is_named(evidence: &Evidence, needles: &BTreeSet<Needle>) -> bool {
    let leaves = evidence.people_chains.iter().filter_map(|chain| chain.first());
    let names = leaves.filter_map(|pem| Certificate::from_pem(pem).ok()?.identity().ok());
    names.into_iter().any(|identity| {
        let name = identity.name().to_lowercase();
        needles.iter().any(|needle| needle.is_in(&name))
    })
}

/// A value to look for, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needle {
    /// One of few words that a format or schema knows: only where it is all of a text.
    Whole(String),
    /// Between characters that are no part of a word.
    Word(String),
    /// Anywhere.
    Within(String),
}

impl Needle {
    fn is_in(&self, text: &str) -> bool {
        match self {
            Self::Whole(needle) => text == needle,
            Self::Within(needle) => text.contains(needle.as_str()),
            Self::Word(needle) => {
                let in_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
                text.match_indices(needle.as_str()).any(|(at, found)| {
                    let before = text.get(..at).and_then(|text| text.chars().next_back());
                    let after = text.get(at + found.len()..).and_then(|text| text.chars().next());
                    !before.is_some_and(in_word) && !after.is_some_and(in_word)
                })
            }
        }
    }
}

/// The texts and numbers of a value that are worth looking for, by its field's shape.
fn needles_of(shape: &Shape, value: &Value, out: &mut BTreeSet<Needle>) {
    match (shape, value) {
        // Every record has its times, which say much the same.
        (Shape::Time | Shape::Bool, _) => {}
        (Shape::OneOf(_), Value::String(word)) => {
            out.insert(Needle::Whole(word.to_lowercase()));
        }
        (Shape::OrNull(inner), _) => needles_of(inner, value, out),
        (Shape::List(inner), Value::Array(items)) => {
            for item in items {
                needles_of(inner, item, out);
            }
        }
        (Shape::Object(members), _) => {
            for member in *members {
                match value.get(member.name) {
                    // A type's name is an ordinary word.
                    Some(Value::String(word)) if member.name == "type" => {
                        out.insert(Needle::Whole(word.to_lowercase()));
                    }
                    Some(inner) => needles_of(&member.shape, inner, out),
                    None => {}
                }
            }
        }
        (Shape::Terms, Value::String(text)) => {
            if let Ok(terms) = json::parse(text) {
                each_leaf(&terms, &mut |_, leaf| out.extend(needle_of(leaf)));
            }
        }
        _ => each_leaf(value, &mut |_, leaf| out.extend(needle_of(leaf))),
    }
}

fn needle_of(leaf: &Value) -> Option<Needle> {
    match leaf {
        Value::String(text) if Micros::parse(text).is_none() => {
            let text = text.trim().to_lowercase();
            let length = text.chars().count();
            let needle = if length < WITHIN_WORDS_MIN { Needle::Word } else { Needle::Within };
            (length >= VALUE_MIN).then(|| needle(text))
        }
        Value::Number(number) => {
            let text = number.to_string();
            (text.trim_start_matches('-').len() >= VALUE_MIN).then_some(Needle::Word(text))
        }
        _ => None,
    }
}

/// Whether a shown value holds one of these, in a text, a number or the name of a member that is one.
fn holds(value: &Value, needles: &BTreeSet<Needle>) -> bool {
    let mut found = false;
    each_leaf(value, &mut |name, leaf| {
        let text = match leaf {
            Value::String(text) => text.to_lowercase(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let name = name.map(str::to_lowercase).unwrap_or_default();
        found |= needles.iter().any(|needle| needle.is_in(&text) || needle.is_in(&name));
    });
    found
}

/// Every value that is no container, with the name of its member where it has one. JSON of a record
/// is at most 16 containers deep (CONV-9).
fn each_leaf(value: &Value, visit: &mut dyn FnMut(Option<&str>, &Value)) {
    fn walk(name: Option<&str>, value: &Value, visit: &mut dyn FnMut(Option<&str>, &Value)) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(name, item, visit)),
            Value::Object(members) => {
                members.iter().for_each(|(name, inner)| walk(Some(name), inner, visit));
            }
            leaf => visit(name, leaf),
        }
    }
    walk(None, value, visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_are_words_and_long_ones_are_found_anywhere() {
        let found = |value: Value, text: &str| {
            let mut needles = BTreeSet::new();
            needles_of(&Shape::Any, &value, &mut needles);
            holds(&Value::String(text.to_owned()), &needles)
        };
        assert!(found("OPS-1".into(), "see ops-1, please"));
        assert!(!found("OPS-1".into(), "see OPS-12"));
        assert!(!found("prod".into(), "prod-1"));
        assert!(found("cost-explorer".into(), "terminate cost-explorer-2"));
        assert!(found(serde_json::json!({ "amount": 250_000 }), "pay 250000."));
        assert!(!found(serde_json::json!([12, "ab", null, true]), "12 ab null true"));
        assert!(!found("2026-11-23T12:00:00.000000Z".into(), "2026-11-23T12:00:00.000000Z"));
    }
}
