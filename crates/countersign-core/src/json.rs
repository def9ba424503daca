//! Strict JSON: RFC 8259 without duplicate keys, lone surrogates or a byte order mark, at most 16
//! containers deep (CONV-6). One parser for evidence files, field values and grant terms.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::codes::{Code, Fault};
use crate::encoding::{escaped, hex};

/// Containers that one JSON text may nest.
pub const DEPTH_MAX: usize = 16;

const DUPLICATE: &str = "countersign: duplicate key";
const DEEP: &str = "countersign: too deep";

/// Parses one JSON text; spaces around it are part of JSON and allowed.
pub fn parse(text: &str) -> Result<Value, Fault> {
    parse_within(text, DEPTH_MAX)
}

/// Parses the value of a record's field: no space around it, and one level less deep, since the
/// field's own array holds it (REC-2).
pub fn parse_field_value(text: &str) -> Result<Value, Fault> {
    let is_space = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t' | b'\n' | b'\r'));
    let bytes = text.as_bytes();
    if is_space(bytes.first()) || is_space(bytes.last()) {
        return Err(Code::FieldSpelling.into());
    }
    parse_within(text, DEPTH_MAX - 1)
}

fn parse_within(text: &str, depth: usize) -> Result<Value, Fault> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { depth }.deserialize(&mut deserializer).map_err(|error| {
        let said = error.to_string();
        if said.starts_with(DUPLICATE) {
            Code::JsonDuplicateKey
        } else if said.starts_with(DEEP) {
            Code::JsonTooDeep
        } else {
            Code::JsonMalformed
        }
    })?;
    deserializer.end().map_err(|_| Code::JsonMalformed)?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom(DEEP))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.inside()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.inside()?;
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(inner)?;
            if members.insert(key, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(members))
    }
}

/// Writes a string as JSON does.
pub fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// The same JSON text with every character that is invisible, turns the direction of writing, or ends
/// a line for somebody (U+0085, U+2028, U+2029) as `\uXXXX`: what a person or a reader of lines may be
/// shown (XCH-1). It parses to the same value. `text` is JSON as this program writes it.
pub fn spelt_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let mut bytes = [0; 4];
        let same: &str = c.encode_utf8(&mut bytes);
        // Between values JSON has only ASCII, and in strings ASCII's controls are escaped already,
        // but for DEL: line ends and indentation stay.
        if c < '\u{7f}' || escaped(same) == same {
            out.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            out.push_str("\\u");
            out.push_str(&hex(&unit.to_be_bytes()));
        }
    }
    out
}

/// An object that has exactly the members named, in any order.
pub struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    /// Refuses what is no object, or has other members than these.
    pub fn exact(value: &'a Value, names: &[&'static str]) -> Result<Self, Fault> {
        let map = value.as_object().ok_or(Code::JsonShape)?;
        for name in names {
            if !map.contains_key(*name) {
                return Err(Code::MemberMissing.at_field(name));
            }
        }
        if map.len() != names.len() {
            return Err(Code::MemberUnknown.into());
        }
        Ok(Self(map))
    }

    /// A member's value; one that was not named reads as null.
    pub fn get(&self, name: &str) -> &'a Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// A member that must be a string.
    pub fn str(&self, name: &'static str) -> Result<&'a str, Fault> {
        self.get(name).as_str().ok_or(Code::JsonShape.at_field(name))
    }

    /// A member that must be a whole number of at most 2^53 - 1.
    pub fn u64(&self, name: &'static str) -> Result<u64, Fault> {
        as_u53(self.get(name)).ok_or(Code::JsonShape.at_field(name))
    }

    /// A member that must be an array.
    pub fn array(&self, name: &'static str) -> Result<&'a [Value], Fault> {
        self.get(name).as_array().map(Vec::as_slice).ok_or(Code::JsonShape.at_field(name))
    }
}

/// A whole number from 0 to 2^53 - 1, which every JSON implementation reads alike.
pub fn as_u53(value: &Value) -> Option<u64> {
    value.as_u64().filter(|n| *n < 1 << 53)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<Code> {
        parse(text).err().map(|fault| fault.code)
    }

    #[test]
    fn what_json_allows_and_we_do_not() {
        assert_eq!(code(r#"{"a":1,"a":2}"#), Some(Code::JsonDuplicateKey));
        assert_eq!(code(r#"[{"a":1,"\u0061":2}]"#), Some(Code::JsonDuplicateKey));
        assert_eq!(code(r#""\ud800""#), Some(Code::JsonMalformed));
        assert_eq!(code("\u{feff}1"), Some(Code::JsonMalformed));
        assert_eq!(code("1 2"), Some(Code::JsonMalformed));
        assert_eq!(code("1e400"), Some(Code::JsonMalformed));
        assert_eq!(code("NaN"), Some(Code::JsonMalformed));
        assert_eq!(code("\"\n\""), Some(Code::JsonMalformed));
        assert_eq!(code(""), Some(Code::JsonMalformed));
    }

    /// XCH-1: nothing in it ends a line for anybody or hides, and it means the same.
    #[test]
    fn what_is_invisible_is_spelt_out_and_means_the_same() {
        let hostile =
            "a\u{7f}\u{85}\u{ad}\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}\u{e0041}\n\"\\é\u{1f600}";
        let value = serde_json::json!({ hostile: [hostile, 1, null], "b": {} });
        for text in [value.to_string(), format!("{value:#}")] {
            let spelt = spelt_out(&text);
            assert_eq!(parse(&spelt).unwrap(), value);
            assert!(spelt.contains(r"\u0085\u00ad\u2028\u2029\u202e\u2066\ufeff\udb40\udc41"));
            assert_eq!(spelt.lines().count(), text.lines().count());
            let shown = spelt.replace('\n', "");
            assert_eq!(crate::encoding::escaped(&shown), shown);
            assert!(shown.contains("é\u{1f600}"), "what is visible stays as it is");
        }
    }

    #[test]
    fn sixteen_containers_and_no_more() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert_eq!(code(&nested(16)), None);
        assert_eq!(code(&nested(17)), Some(Code::JsonTooDeep));
        assert_eq!(code(&nested(100_000)), Some(Code::JsonTooDeep));
        assert!(parse_field_value(&nested(15)).is_ok());
        assert!(parse_field_value(&nested(16)).is_err());
        assert!(parse_field_value(" 1").is_err());
        assert!(parse_field_value("1\n").is_err());
    }
}
