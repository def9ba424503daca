//! `outcome`: what became of an action.

use countersign_client::EffectReport;
use countersign_core::action::canonical;
use countersign_core::encoding::{escaped, from_hex_array};
use countersign_core::hash::{Context, Hash};
use countersign_core::json::{self, Object};
use serde_json::{Value, json as object};

use crate::args::{AttestedBy, EffectResult, OutcomeArgs, Output};
use crate::clock::{given, now};
use crate::exit::{Exit, Failure};
use crate::files::{SMALL_FILE_BYTES_MAX, read_text, shown};
use crate::gate_link::{call, keep, trust_of};
use crate::identity::Identity;

/// Bytes that the detail may have.
const DETAIL_BYTES_MAX: usize = 8 * 1024;

pub(crate) async fn run(args: OutcomeArgs) -> Result<Exit, Failure> {
    let report = report(&args)?;
    let identity = Identity::read(&args.connection.identity)?;
    let trust = trust_of(&identity, args.connection.trust.as_ref())?;
    let client = call(&identity, &args.connection.gate, trust).await?;
    let reported = client.report_outcome(&report).await?;
    let index = reported.evidence.index.0;
    let path = args.out.as_ref().map(|out| keep(&reported.evidence, out)).transpose()?;
    let matched = reported.r#match.as_str();
    match args.output {
        Output::Human => {
            let at = path.map(|path| format!(", {}", shown(&path))).unwrap_or_default();
            let codes = reported.codes.join(", ");
            let codes = if codes.is_empty() { codes } else { format!(", {}", escaped(&codes)) };
            tell!("{matched}{codes} at index {index}{at}");
        }
        Output::Jsonl => tell!(
            "{}",
            object!({
                "match": matched,
                "codes": reported.codes,
                "index": index,
                "evidence": path.map(|path| path.display().to_string()),
            })
        ),
    }
    match matched {
        "match" | "indeterminate" if reported.codes.is_empty() => Ok(Exit::Success),
        "match" | "indeterminate" => Err(Failure::invalid(format!(
            "what was done is as approved, but not by whom or when (countersign explain {}), and \
             is recorded so.",
            escaped(&reported.codes.join(", "))
        ))),
        "mismatch" => Err(Failure::invalid(
            "what was done is not what was approved, and is recorded so (countersign explain \
             DIGEST_MISMATCH).",
        )),
        _ => Err(Failure::invalid(
            "no verdict covers this effect, and it is recorded as an orphan (countersign explain \
             ORPHAN_EFFECT).",
        )),
    }
}

fn report(args: &OutcomeArgs) -> Result<EffectReport, Failure> {
    let effect_digest = match (&args.effect, &args.effect_digest) {
        (Some(path), _) => {
            let text = read_text(path, SMALL_FILE_BYTES_MAX)?;
            let digest = effect_digest(&text);
            Some(digest.map_err(|what| Failure::usage(format!("{}: {what}", shown(path))))?)
        }
        (None, Some(hex)) => Some(from_hex_array(hex).ok_or_else(|| {
            let hex = escaped(hex);
            Failure::usage(format!("{hex} is no digest: give 64 lower-case hex digits."))
        })?),
        (None, None) => None,
    };
    let detail = args.detail.clone().unwrap_or_default();
    if detail.len() > DETAIL_BYTES_MAX {
        return Err(Failure::usage(format!(
            "the detail is longer than {DETAIL_BYTES_MAX} bytes. Shorten it."
        )));
    }
    if !detail.is_empty() {
        json::parse(&detail).map_err(|fault| Failure::usage(format!("--detail: {fault}")))?;
    }
    let result = match args.result {
        EffectResult::Executed => "executed",
        EffectResult::Failed => "failed",
        EffectResult::NotExecuted => "not_executed",
        EffectResult::Unknown => "unknown",
        EffectResult::Reverted => "reverted",
    };
    let attested_by = match args.attested_by {
        AttestedBy::Executor => "executor",
        AttestedBy::SystemOfRecord => "system_of_record",
    };
    Ok(EffectReport {
        action_id: args.action.clone().unwrap_or_default(),
        permit: args.permit.clone().unwrap_or_default(),
        result: result.to_owned(),
        effect_digest,
        attested_by: attested_by.to_owned(),
        observed_at: given(args.observed_at.as_ref(), now())?,
        detail,
    })
}

/// The digest of what was done (DIG-1 to DIG-4), or what is wrong with how it is told.
fn effect_digest(text: &str) -> Result<Hash, String> {
    let effect = json::parse(text).map_err(|fault| fault.to_string())?;
    let names = ["action", "actor", "nonce", "on_behalf_of", "parameters", "resource", "tenant"];
    let members = Object::exact(&effect, &names).map_err(|fault| fault.to_string())?;
    let resource = ["domain", "environment", "id", "type"];
    Object::exact(members.get("resource"), &resource).map_err(|fault| fault.to_string())?;
    let texts =
        ["action", "nonce", "tenant"].into_iter().find(|name| !members.get(name).is_string());
    if let Some(name) = texts {
        return Err(format!("{name} must be a text."));
    }
    if !matches!(members.get("actor"), Value::String(_) | Value::Null) {
        return Err("actor must be the actor's id, a text.".to_owned());
    }
    let canonical = canonical(&effect).map_err(|fault| fault.to_string())?;
    Ok(Context::Action.hash(&[canonical.as_bytes()]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

    use countersign_core::encoding::hex;

    use super::effect_digest;

    /// The worked example of spec/kinds.md, in another order and spacing.
    const EFFECT: &str = r#"{"tenant": "acme", "action": "elasticbeanstalk:TerminateEnvironment",
        "actor": "infra-assistant-7", "on_behalf_of": null,
        "nonce": "7e47af158e9db54fc5e4902996f5360a",
        "parameters": {"environment-name": "cost-explorer"},
        "resource": {"id": "cost-explorer", "type": "System", "domain": "billing",
            "environment": "prod"}}"#;

    /// DIG-1, DIG-3: the executor's digest is the gate's.
    #[test]
    fn the_digest_of_what_was_done_is_that_of_the_record() {
        let expected = "3413fd0f68edd2f47051d5acd2ae844fae5a4cd7562537c95443059809115eb0";
        assert_eq!(hex(&effect_digest(EFFECT).unwrap()), expected);
        let other = EFFECT.replace("cost-explorer\"}", "cost-explorer-2\"}");
        assert_ne!(hex(&effect_digest(&other).unwrap()), expected);
    }

    #[test]
    fn an_effect_that_is_told_otherwise_is_no_effect() {
        for (from, to) in [
            ("\"tenant\": \"acme\",", ""),
            ("\"tenant\"", "\"tenants\""),
            ("\"domain\": \"billing\",", ""),
            ("null", "null, \"more\": 1"),
            ("\"acme\"", "7"),
            ("\"infra-assistant-7\"", "{\"id\":\"infra-assistant-7\"}"),
            ("\"cost-explorer\"}", "1.5}"),
        ] {
            let text = EFFECT.replacen(from, to, 1);
            assert_ne!(text, EFFECT);
            assert!(effect_digest(&text).is_err(), "{text}");
        }
    }
}
