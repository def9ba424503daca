//! The action digest: what a permit, an approval and an outcome are bound to (spec/kinds.md, DIG).
//!
//! This is the only place where JSON is canonicalised (RFC 8785), and it takes integers only: a
//! number that two implementations might write differently is refused.

use serde_json::Value;

use crate::codes::{Code, Fault};
use crate::hash::{Context, Hash};
use crate::record::View;

const INTEGER_MAX: i64 = (1 << 53) - 1;

/// The canonical form of a value (RFC 8785), integers within ±(2^53 - 1) only (DIG-2).
pub fn canonical(value: &Value) -> Result<String, Fault> {
    let mut out = String::new();
    write(value, &mut out)?;
    Ok(out)
}

// Recursion is bounded: values come from the strict parser, at most 16 containers deep.
fn write(value: &Value, out: &mut String) -> Result<(), Fault> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            let n = number.as_i64().ok_or(Code::NumberNotCanonical)?;
            if !(-INTEGER_MAX..=INTEGER_MAX).contains(&n) {
                return Err(Code::NumberNotCanonical.into());
            }
            out.push_str(&n.to_string());
        }
        // serde_json escapes as RFC 8785 section 3.2.2.2 does: \b \t \n \f \r \" \\ and \u00xx.
        Value::String(text) => out.push_str(&crate::json::quoted(text)),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            // Members are sorted by UTF-16 code units (RFC 8785 section 3.2.3).
            let mut rows: Vec<_> = members.iter().collect();
            rows.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (i, (name, inner)) in rows.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&crate::json::quoted(name));
                out.push(':');
                write(inner, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// The action digest of a verdict or intent: `None` where one of its inputs is withheld (DIG-1).
pub fn digest(view: &View) -> Result<Option<Hash>, Fault> {
    let shown = (|| {
        Some((
            view.get("action")?,
            view.get("actor")?,
            view.get("nonce")?,
            view.get("parameters")?,
            view.get("resource")?,
            view.get("tenant")?,
        ))
    })();
    let Some((action, actor, nonce, parameters, resource, tenant)) = shown else {
        return Ok(None);
    };
    let member = |of: &'_ Value, name: &str| of.get(name).cloned().unwrap_or(Value::Null);
    // The members of the two objects in the order of RFC 8785 section 3.2.3.
    let mut out = String::with_capacity(512);
    let parts: [(&str, &Value); 10] = [
        ("{\"action\":", action),
        (",\"actor\":", &member(actor, "id")),
        (",\"nonce\":", nonce),
        (",\"on_behalf_of\":", &member(actor, "on_behalf_of")),
        (",\"parameters\":", parameters),
        (",\"resource\":{\"domain\":", &member(resource, "domain")),
        (",\"environment\":", &member(resource, "environment")),
        (",\"id\":", &member(resource, "id")),
        (",\"type\":", &member(resource, "type")),
        ("},\"tenant\":", tenant),
    ];
    for (name, value) in parts {
        out.push_str(name);
        write(value, &mut out)?;
    }
    out.push('}');
    Ok(Some(Context::Action.hash(&[out.as_bytes()])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_is_rfc_8785_for_what_it_takes() {
        let value: Value = serde_json::from_str(
            r#"{"b":[1,-5,true,null],"a":"\u20ac\n\u0001","\ue000":1,"\ud83d\ude00":2}"#,
        )
        .expect("json");
        // U+1F600 is written with surrogates, which sort below U+E000.
        let expected = "{\"a\":\"€\\n\\u0001\",\"b\":[1,-5,true,null],\"😀\":2,\"\u{e000}\":1}";
        assert_eq!(canonical(&value).as_deref(), Ok(expected));
        for number in ["1.0", "1e3", "-0", "9007199254740992", "-9007199254740992", "1.5"] {
            let value: Value = serde_json::from_str(number).expect("json");
            assert_eq!(canonical(&value), Err(Code::NumberNotCanonical.into()), "{number}");
        }
        let value: Value = serde_json::from_str("9007199254740991").expect("json");
        assert_eq!(canonical(&value).as_deref(), Ok("9007199254740991"));
    }
}
