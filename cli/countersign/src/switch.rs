//! `halt`, `resume`, `mode` and `status`: how the gate answers.

use countersign_client::{Scope, Switch};
use countersign_core::encoding::escaped;
use countersign_proto::v1;
use serde_json::{Value, json};

use crate::args::{ChangeArgs, HaltArgs, Mode, ModeArgs, Output, ScopeArgs, StatusArgs};
use crate::exit::{Exit, Failure};
use crate::gate_link::{call, tell_recorded, trust_of};
use crate::identity::Identity;

pub(crate) async fn halt(args: HaltArgs) -> Result<Exit, Failure> {
    let (scope, said) = scope(&args.scope)?;
    change_to(Switch::Halt(scope), &format!("{said} is halted"), &args.change).await
}

pub(crate) async fn resume(args: HaltArgs) -> Result<Exit, Failure> {
    let (scope, said) = scope(&args.scope)?;
    change_to(Switch::Resume(scope), &format!("{said} goes on"), &args.change).await
}

pub(crate) async fn mode(args: ModeArgs) -> Result<Exit, Failure> {
    let (name, said) = match args.mode {
        Mode::Enforce => ("enforce", "verdicts bind"),
        Mode::Shadow => ("shadow", "verdicts are recorded and bind nobody"),
    };
    change_to(Switch::Mode(name.to_owned()), said, &args.change).await
}

pub(crate) async fn end_emergency(args: &ChangeArgs) -> Result<Exit, Failure> {
    change_to(Switch::EndEmergency, "the emergency is over", args).await
}

fn scope(args: &ScopeArgs) -> Result<(Scope, String), Failure> {
    match (&args.actor, &args.session, args.tenant) {
        (Some(actor), None, false) => {
            Ok((Scope::Actor(actor.clone()), format!("actor {}", escaped(actor))))
        }
        (None, Some(session), false) => {
            Ok((Scope::Session(session.clone()), format!("session {}", escaped(session))))
        }
        (None, None, true) => Ok((Scope::Tenant, "the whole tenant".to_owned())),
        _ => Err(Failure::usage("give one of --actor, --session and --tenant.")),
    }
}

async fn change_to(change: Switch, said: &str, args: &ChangeArgs) -> Result<Exit, Failure> {
    let ChangeArgs { reason, connection, out } = args;
    if reason.trim().is_empty() {
        return Err(Failure::usage("the reason is empty. Say why; it is recorded."));
    }
    let identity = Identity::read(&connection.identity)?;
    let trust = trust_of(&identity, connection.trust.as_ref())?;
    let client = call(&identity, &connection.gate, trust).await?;
    let switched = client.switch(change, reason).await?;
    if !switched.note.is_empty() {
        eprintln!("countersign: {}", escaped(&switched.note));
    }
    let Some(notice) = switched.evidence else {
        tell!("{said}, not yet recorded");
        eprintln!(
            "countersign: it holds already. The gate can't reach the ledger, and logs it when it \
             can."
        );
        return Ok(Exit::Indeterminate);
    };
    tell_recorded(&format!("{said}, recorded"), &notice, out.as_ref())?;
    Ok(Exit::Success)
}

pub(crate) async fn status(args: StatusArgs) -> Result<Exit, Failure> {
    let identity = Identity::read(&args.connection.identity)?;
    let trust = trust_of(&identity, args.connection.trust.as_ref())?;
    let client = call(&identity, &args.connection.gate, trust).await?;
    let status = client.status().await?;
    match args.output {
        Output::Human => tell_raw!("{}", human(&status)),
        Output::Jsonl => tell!("{}", jsonl(&status)),
    }
    Ok(Exit::Success)
}

fn halts(status: &v1::GateStatus) -> Vec<String> {
    use v1::scope::Of;
    let said = |scope: &v1::Scope| match &scope.of {
        Some(Of::Actor(id)) => format!("actor {id}"),
        Some(Of::Session(id)) => format!("session {id}"),
        Some(Of::Tenant(_)) => "tenant".to_owned(),
        None => "(not said)".to_owned(),
    };
    status.halts.iter().map(said).collect()
}

/// What the gate says of itself, for people: its word, so escaped.
fn human(status: &v1::GateStatus) -> String {
    let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { escaped(text) };
    let policy = match status.policy_id.as_str() {
        "" => "none: everything is refused".to_owned(),
        id => format!("{id} {} {}", status.policy_version, status.policy_digest),
    };
    let mut rows = vec![
        ("gate", format!("{} of {}", status.gate, status.tenant)),
        ("mode", status.mode.clone()),
        ("policy", policy),
        ("emergency until", or_none(&status.emergency_until)),
        ("waiting for people", status.waiting.to_string()),
        ("not yet recorded", status.outbox.to_string()),
        ("ledger", if status.ledger_reachable { "answers" } else { "does not answer" }.to_owned()),
    ];
    // One a line: a name with a comma in it must not pass for two halts.
    match halts(status).as_slice() {
        [] => rows.push(("halted", "nothing".to_owned())),
        halts => rows.extend(halts.iter().map(|halt| ("halted", halt.clone()))),
    }
    let lines: Vec<String> =
        rows.iter().map(|(name, value)| format!("{name:<20}{}", escaped(value))).collect();
    lines.join("\n") + "\n"
}

fn jsonl(status: &v1::GateStatus) -> Value {
    json!({
        "tenant": status.tenant,
        "gate": status.gate,
        "mode": status.mode,
        "policy_id": status.policy_id,
        "policy_version": status.policy_version,
        "policy_digest": status.policy_digest,
        "halts": halts(status),
        "emergency_until": status.emergency_until,
        "outbox": status.outbox,
        "waiting": status.waiting,
        "ledger_reachable": status.ledger_reachable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gate_says_of_itself_is_printed_escaped() {
        let status = v1::GateStatus {
            gate: "prod-1\u{202e}".to_owned(),
            halts: ["a\nmode  enforce", "b, tenant"]
                .map(|id| v1::Scope { of: Some(v1::scope::Of::Actor(id.to_owned())) })
                .to_vec(),
            ..v1::GateStatus::default()
        };
        let text = human(&status);
        assert_eq!(text.lines().count(), 9, "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("halted ")).count(), 2, "{text}");
        assert!(text.contains("prod-1\\u{202e}") && text.contains("does not answer"), "{text}");
        assert!(text.contains("none: everything is refused"), "{text}");
    }
}
