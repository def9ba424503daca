//! `emergency declare`: an intent as any other, which a policy must let people approve. `emergency
//! end`: what was opened is closed before its time, by whoever may halt.

use countersign_core::encoding::escaped;
use serde_json::{Value, json};

use crate::args::{DeclareArgs, EmergencyArgs, EmergencyCommand};
use crate::exit::{Exit, Failure};
use crate::gate_link::{call, tell_recorded, trust_of};
use crate::identity::Identity;
use crate::switch;

pub(crate) async fn run(args: EmergencyArgs) -> Result<Exit, Failure> {
    match args.command {
        EmergencyCommand::Declare(args) => declare(&args).await,
        EmergencyCommand::End(args) => switch::end_emergency(&args).await,
    }
}

async fn declare(args: &DeclareArgs) -> Result<Exit, Failure> {
    let intent = intent(args)?.to_string();
    let identity = Identity::read(&args.connection.identity)?;
    let trust = trust_of(&identity, args.connection.trust.as_ref())?;
    let client = call(&identity, &args.connection.gate, trust).await?;
    let judged = client.evaluate(&intent, "").await?;
    let id = escaped(&judged.action_id);
    let codes: Vec<&str> = judged.reasons.iter().map(|reason| reason.code.as_str()).collect();
    let said = format!("{} {}: action {id}", judged.outcome, escaped(&codes.join(", ")));
    match &judged.evidence {
        Some(item) => tell_recorded(&said, item, args.out.as_ref())?,
        None => tell!("{said}, not yet recorded"),
    }
    match (judged.outcome.as_str(), judged.mode.as_str(), &judged.requires) {
        ("supervise", _, Some(requires)) => {
            eprintln!(
                "countersign: it is open once {} people with the roles {} approve it before {}:\n  \
                 countersign approve {id} --gate {} --key DIR/identities/NAME",
                requires.approvals,
                escaped(&requires.roles.join(", ")),
                escaped(&requires.expires_at),
                escaped(&args.connection.gate)
            );
            Ok(Exit::Success)
        }
        ("approve", "enforce", _) => {
            eprintln!("countersign: the emergency is open, and ends by itself.");
            Ok(Exit::Success)
        }
        _ => Err(Failure::invalid(
            "no emergency was opened. Have the policy's owner supervise gate:emergency for this \
             actor, or ask as somebody who may.",
        )),
    }
}

/// The intent (INT-1).
fn intent(args: &DeclareArgs) -> Result<Value, Failure> {
    let (kind, id) = args.resource.split_once(':').ok_or_else(|| {
        Failure::usage("--resource is TYPE:ID, such as System:production, as the directory has it.")
    })?;
    Ok(json!({
        "verb": "gate:emergency",
        "class": "approve",
        "destructive": false,
        "actor": { "kind": args.actor_kind, "id": args.actor },
        "resource": { "type": kind, "id": id },
        "parameters": { "minutes": args.minutes },
        "task": { "ticket": args.ticket, "justification": args.reason },
    }))
}
