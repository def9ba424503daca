//! What a gate reads from an intent's parameters, as the schema's annotations say (POL-7).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::amount::Amount;
use crate::free_text::targets_in;
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
    /// The amount may be left out.
    optional_amount: bool,
    currency: Option<String>,
    /// The largest counts.
    count: Vec<String>,
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
            "amount" | "optional_amount" if self.amount.is_some() => {
                return Err(format!("write @{key} without the other annotation of an amount"));
            }
            "amount" | "optional_amount" => {
                self.amount = Some(one_name(key, value)?);
                self.optional_amount = key == "optional_amount";
            }
            "currency" => self.currency = Some(one_name(key, value)?),
            "count" => self.count = names(key, value)?,
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
        read.amount = self.amount(get)?;
        if let Some((name, value)) = self.currency.as_ref().and_then(|n| Some((n, get(n)?))) {
            let text = value.as_str().ok_or_else(|| wrong(name, "a text"))?;
            read.currency = Some(text.to_owned());
        }
        for (name, value) in self.count.iter().filter_map(|name| Some((name, get(name)?))) {
            let count = match value {
                Value::Array(items) => Some(items.len() as u64),
                // One payee is written as a text, where several are an array.
                Value::String(_) if self.targets.contains(name) => Some(1),
                _ => countersign_core::json::as_u53(value),
            };
            let count = count.ok_or_else(|| wrong(name, "an integer or an array"))?;
            read.count = read.count.max(Some(count));
        }
        Ok(read)
    }

    fn amount<'v>(
        &self,
        get: impl Fn(&String) -> Option<&'v Value>,
    ) -> Result<Option<Amount>, String> {
        let Some(name) = &self.amount else { return Ok(None) };
        let given = get(name);
        if given.is_none() && self.optional_amount {
            return Ok(None);
        }
        let amount = given.and_then(|value| match value {
            Value::Number(n) => n.as_i64().and_then(Amount::whole),
            Value::String(text) => Amount::parse(text),
            _ => None,
        });
        // A negative amount would slip under every limit.
        let amount = amount.filter(|amount| *amount >= Amount::default());
        let what = || wrong(name, "an integer or a decimal text, not negative");
        amount.map(Some).ok_or_else(what)
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

#[cfg(test)]
mod tests {
    use super::*;

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
            ("optional_amount", "a,b"),
        ] {
            assert!(annotated(&[row]).is_err(), "{row:?}");
        }
        assert!(annotated(&[("amount", "a"), ("optional_amount", "a")]).is_err());
        let may = annotated(&[("optional_amount", "sum")]).expect("reading");
        let amount = |value: Value| may.read(value.as_object()).map(|read| read.amount);
        assert_eq!(amount(serde_json::json!({"sum": null})), Ok(None));
        assert_eq!(amount(serde_json::json!({"sum": 2})), Ok(Amount::whole(2)));
        assert!(amount(serde_json::json!({"sum": -2})).is_err());
        // Who says one and pays two pays two.
        let paid = annotated(&[("count", "n,to"), ("targets", "to")]).expect("reading");
        for (value, count) in [
            (serde_json::json!({"n": 1, "to": ["a", "b"]}), Some(2)),
            (serde_json::json!({"n": 3, "to": "a"}), Some(3)),
            (serde_json::json!({"to": "a"}), Some(1)),
            (serde_json::json!({}), None),
        ] {
            assert_eq!(paid.read(value.as_object()).map(|read| read.count), Ok(count), "{value}");
        }
        assert!(paid.read(serde_json::json!({"n": "3"}).as_object()).is_err());
        let closed = annotated(&[("parameters", "a")]).expect("reading");
        assert!(closed.read(serde_json::json!({"b": 1}).as_object()).is_err());
    }
}
