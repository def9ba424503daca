//! Where a trust file breaks the shape of spec/trust.md: the line, the column and the key, for whoever
//! has to mend it. What is believed is decided by `countersign-core` alone; this only explains its
//! refusal.

use countersign_core::encoding::escaped;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct Shape {
    log: Vec<Log>,
    witnesses: Option<Witnesses>,
    gates: Option<Gates>,
    people: Option<People>,
    limits: Option<Limits>,
    revoked: Option<Vec<Revoked>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct Log {
    vkey: String,
    clock: Option<Vec<String>>,
    ledger: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct Witnesses {
    policy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct Gates {
    trust_domain: String,
    roots: Vec<String>,
    tenants: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct People {
    roots: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct Limits {
    clock_skew_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct Revoked {
    key: String,
    from: String,
}

/// What is wrong with the shape and where, safe to print; `None` where the shape is right.
pub(crate) fn fault(text: &str) -> Option<String> {
    let error = toml::from_str::<Shape>(text).err()?;
    let said = escaped(error.message());
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return Some(said);
    };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Some(format!("line {line}, column {column}: {said}"))
}
