//! Reading JSON objects member by member, with a path to whatever is wrong.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::json::quoted;
use serde_json::{Map, Value};

use crate::amount::Amount;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misread {
    pub(crate) at: String,
    pub(crate) what: String,
}

pub(crate) fn misread(at: impl Into<String>, what: impl Into<String>) -> Misread {
    Misread { at: at.into(), what: what.into() }
}

/// An object that is read member by member; members that nobody asks for are refused.
pub(crate) struct Members<'v> {
    map: &'v Map<String, Value>,
    at: String,
    asked: BTreeSet<&'static str>,
}

impl<'v> Members<'v> {
    pub(crate) fn of(value: &'v Value, at: &str) -> Result<Self, Misread> {
        let map = value.as_object().ok_or_else(|| misread(at, "write an object here"))?;
        Ok(Self { map, at: at.to_owned(), asked: BTreeSet::new() })
    }

    pub(crate) fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    /// A member; left out and null are the same.
    pub(crate) fn get(&mut self, name: &'static str) -> Option<&'v Value> {
        self.asked.insert(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A text of 1 to `cap` bytes, escapes included, or none.
    pub(crate) fn text(
        &mut self,
        name: &'static str,
        cap: usize,
    ) -> Result<Option<String>, Misread> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().filter(|text| !text.is_empty());
        // Escapes count: what is kept is the JSON text.
        let text = text.filter(|text| quoted(text).len() <= cap + 2);
        let what = || misread(self.path(name), format!("write a text of 1 to {cap} bytes"));
        text.map(|text| Some(text.to_owned())).ok_or_else(what)
    }

    /// A text that must be there.
    pub(crate) fn needed(&mut self, name: &'static str, cap: usize) -> Result<String, Misread> {
        let text = self.text(name, cap)?;
        text.ok_or_else(|| misread(self.path(name), "this is needed: write a text"))
    }

    /// An array, each item with its path; none for left out.
    pub(crate) fn items(
        &mut self,
        name: &'static str,
    ) -> Result<Vec<(String, &'v Value)>, Misread> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let path = self.path(name);
        let items = value.as_array().ok_or_else(|| misread(path.clone(), "write an array here"))?;
        Ok(items.iter().enumerate().map(|(i, item)| (format!("{path}[{i}]"), item)).collect())
    }

    /// An array of distinct texts.
    pub(crate) fn texts(
        &mut self,
        name: &'static str,
        cap: usize,
    ) -> Result<BTreeSet<String>, Misread> {
        let mut texts = BTreeSet::new();
        for (at, item) in self.items(name)? {
            let text = item.as_str().filter(|text| !text.is_empty() && text.len() <= cap);
            let text =
                text.ok_or_else(|| misread(&at, format!("write a text of 1 to {cap} bytes")))?;
            if !texts.insert(text.to_owned()) {
                return Err(misread(at, "this stands twice: write it once"));
            }
        }
        Ok(texts)
    }

    /// An array of amounts.
    pub(crate) fn amounts(&mut self, name: &'static str) -> Result<BTreeSet<Amount>, Misread> {
        let read = |(at, item): (String, &Value)| {
            let amount = item.as_str().and_then(Amount::parse);
            amount.ok_or_else(|| misread(at, "write a decimal text such as \"50.00\""))
        };
        self.items(name)?.into_iter().map(read).collect()
    }

    /// An inner object.
    pub(crate) fn inner(&mut self, name: &'static str) -> Result<Option<Members<'v>>, Misread> {
        let path = self.path(name);
        self.get(name).map(|value| Members::of(value, &path)).transpose()
    }

    /// Refuses the members that nobody asked for.
    pub(crate) fn done(self) -> Result<(), Misread> {
        let unknown = self.map.keys().find(|name| !self.asked.contains(name.as_str()));
        match unknown {
            Some(name) => Err(misread(self.path(&cut(name, 64)), "remove this: no such member")),
            None => Ok(()),
        }
    }
}

/// The beginning of a text, at most so many bytes of it.
pub(crate) fn cut(text: &str, bytes: usize) -> String {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

/// Puts a row into a table whose keys must differ.
pub(crate) fn put<K: Ord, V>(
    table: &mut BTreeMap<K, V>,
    key: K,
    row: V,
    at: &str,
) -> Result<(), Misread> {
    match table.insert(key, row) {
        Some(_) => Err(misread(at, "an id stands twice: write it once")),
        None => Ok(()),
    }
}
