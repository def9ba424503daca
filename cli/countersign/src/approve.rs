//! `approve` and `deny`: a person sees exactly what they sign, and signs only what they saw.
//!
//! What is shown is made from the supervise verdict's evidence, after that was verified on this
//! machine under a trust file. Nothing that the gate says besides is part of it.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use countersign_client::{Answered, EvidenceItem, State};
use countersign_core::cert::{Certificate, Role};
use countersign_core::encoding::{Micros, b64, escaped, hex};
use countersign_core::hash::{Context, RecordRoot};
use countersign_core::kinds::{Kind, is_uuid_v7};
use countersign_core::record::View;
use countersign_core::verify::Verdict;
use serde_json::{Value, json};

use crate::args::{AnswerArgs, Output};
use crate::clock::now;
use crate::exit::{Exit, Failure};
use crate::gate_link::{call, keep, trust_of};
use crate::identity::Identity;
use crate::signing::{has_role, sign};

/// Bytes that a justification may have, far below what a field of a record takes.
const JUSTIFICATION_BYTES_MAX: usize = 4 * 1024;

/// What a person answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Grant,
    Deny,
}

impl Decision {
    fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Deny => "deny",
        }
    }

    /// Whether an action in this state goes the way that the person decided.
    fn holds_in(self, state: State) -> bool {
        let goes_on = matches!(state, State::Waiting | State::Approved | State::Executed);
        match self {
            Self::Grant => goes_on,
            Self::Deny => !goes_on,
        }
    }

    fn does(self) -> &'static str {
        match self {
            Self::Grant => {
                "You are about to GRANT it. With your approval the gate decides the action again; \
                 once enough people have granted, exactly this action with exactly these \
                 parameters may be done, once."
            }
            Self::Deny => {
                "You are about to DENY it. The action is refused for good, whoever else grants it."
            }
        }
    }
}

pub(crate) async fn run(args: AnswerArgs, decision: Decision) -> Result<Exit, Failure> {
    if !is_uuid_v7(&args.action_id) {
        return Err(Failure::usage(format!(
            "{} is no action's id. Give the lower-case UUID of version 7 that the verdict has.",
            escaped(&args.action_id)
        )));
    }
    let identity = Identity::read(&args.key)?;
    has_role(&identity, &[Role::Approver])?;
    let trust = trust_of(&identity, args.trust.as_ref())?.ok_or_else(|| {
        Failure::usage(
            "nothing is signed that was not verified, and that needs a trust file. Name one with \
             --trust, or put it into the identity's folder as trust.toml.",
        )
    })?;
    let client = call(&identity, &args.gate, Some(trust)).await?;
    let action = client.action(&args.action_id).await?;
    let shown = Shown::of(&args.action_id, action.state, &action.files, &identity, now())?;
    // The text is ASCII and its values are escaped by construction (APR-5).
    eprintln!("{}", shown.text);
    eprintln!("Digest of the action  {}", shown.action_digest);
    eprintln!("Digest of this text   {}", hex(&shown.displayed_digest()));
    eprintln!("\n{}", decision.does());
    let justification = confirm(&args, decision)?;
    let (approval, signed) = {
        // The person may have thought about it for long.
        let minutes = args.not_after_minutes.map(|minutes| minutes * 60_000_000);
        shown.sign(&identity, decision, &justification, now(), minutes)?
    };
    let answered = client.approve(&args.action_id, approval, &signed).await?;
    tell(&args, decision, &answered)
}

/// A supervised action that was verified, and the text that was made from it.
#[derive(Debug)]
struct Shown {
    action_id: String,
    action_digest: String,
    root: RecordRoot,
    expires_at: Micros,
    text: String,
}

impl Shown {
    /// Finds the verdict that waits for people, all of it shown and VALID.
    fn of(
        action_id: &str,
        state: State,
        files: &[EvidenceItem],
        identity: &Identity,
        at: Micros,
    ) -> Result<Self, Failure> {
        if state != State::Waiting {
            let state = state.as_str();
            return Err(Failure::invalid(format!(
                "the action waits for nobody: it is {state}. There is nothing to sign."
            )));
        }
        for item in files {
            if item.report.result != Verdict::Valid {
                let why = item.report.decisive().map(|found| found.fault.to_string());
                return Err(Failure::invalid(format!(
                    "the record at index {} does not verify, so nothing is signed: {}",
                    item.index.0,
                    why.unwrap_or_else(|| item.report.result.as_str().to_owned())
                )));
            }
        }
        let (view, root) = waiting(action_id, files)?;
        if view.str("tenant") != Some(&identity.file.tenant) {
            return Err(Failure::invalid(
                "the action is another tenant's. Sign for your own tenant only.",
            ));
        }
        if let Some(name) = view.withheld().next() {
            return Err(Failure::invalid(format!(
                "the field {name} is withheld from the verdict. Nobody signs what they can't see."
            )));
        }
        let expires_at = view.get("requires").and_then(|requires| requires.get("expires_at"));
        let expires_at = expires_at.and_then(Value::as_str).and_then(Micros::parse);
        let expires_at = expires_at.filter(|limit| at < *limit).ok_or_else(|| {
            Failure::invalid(
                "the time to answer is over. Have the action asked for again, if it is still \
                 wanted (countersign explain SUPERVISION_EXPIRED).",
            )
        })?;
        Ok(Self {
            action_id: action_id.to_owned(),
            action_digest: view.str("action_digest").unwrap_or_default().to_owned(),
            root,
            expires_at,
            text: countersign_gate::display(view, root),
        })
    }

    /// KIND-6, APR-1.
    fn displayed_digest(&self) -> [u8; 32] {
        Context::Displayed.hash(&[self.text.as_bytes()])
    }

    /// The members of the approval record as JSON, and the signature over them (KIND-15). It
    /// counts as long as the supervision is open, or for a shorter time.
    fn sign(
        &self,
        identity: &Identity,
        decision: Decision,
        justification: &str,
        at: Micros,
        for_us: Option<u64>,
    ) -> Result<(String, countersign_client::Authorised), Failure> {
        let not_after = for_us
            .map_or(self.expires_at, |us| Micros(at.0.saturating_add(us)).min(self.expires_at));
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| {
            Failure::internal(format!("the machine gives no random bytes: {error}"))
        })?;
        let leaf = identity.chain.first().map(Certificate::digest).unwrap_or_default();
        let (nonce, not_after) = (hex(&nonce), not_after.format());
        let (displayed, root) = (hex(&self.displayed_digest()), self.root.hex());
        let said = [
            ("action_digest", self.action_digest.as_str()),
            ("action_id", &self.action_id),
            ("decision", decision.as_str()),
            ("displayed_digest", &displayed),
            ("justification", justification),
            ("nonce", &nonce),
            ("not_after", &not_after),
            ("verdict", &root),
        ];
        let signed = sign(identity, Kind::Approval, &said)?;
        let mut members = serde_json::Map::new();
        for (name, value) in said {
            members.insert(name.to_owned(), value.into());
        }
        members.insert("signature".to_owned(), b64(&signed.signature).into());
        let approver = json!({ "id": identity.file.name, "certificate": hex(&leaf) });
        members.insert("approver".to_owned(), approver);
        Ok((Value::Object(members).to_string(), signed))
    }
}

/// The supervise verdict that no verdict has answered yet, and its root.
fn waiting<'f>(
    action_id: &str,
    files: &'f [EvidenceItem],
) -> Result<(&'f View, RecordRoot), Failure> {
    let verdicts = files.iter().filter_map(|item| {
        let facts = &item.report.facts;
        let view = facts.view.as_ref().filter(|view| view.kind() == Kind::Verdict)?;
        Some((view, facts.root?))
    });
    let supervise = verdicts.clone().find(|(view, _)| {
        view.str("outcome") == Some("supervise")
            && view.str("mode") == Some("enforce")
            && view.str("action_id") == Some(action_id)
    });
    let answered = |root: RecordRoot| {
        let root = root.hex();
        verdicts.clone().any(|(view, _)| view.str("parent") == Some(&root))
    };
    supervise.filter(|(_, root)| !answered(*root)).ok_or_else(|| {
        Failure::invalid(
            "the log holds no supervised verdict of this action that is still open. There is \
             nothing to sign, whatever the gate says of its state.",
        )
    })
}

/// Asks on the terminal, and returns the justification.
fn confirm(args: &AnswerArgs, decision: Decision) -> Result<String, Failure> {
    let mut justification = args.justification.clone().unwrap_or_default();
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(
                "standard input is no terminal, so that nobody can be asked. Read what is shown \
                 above, and give --yes to sign it.",
            ));
        }
        if args.justification.is_none() {
            justification = ask("Why, for the record: ")?;
        }
        let word = decision.as_str();
        if ask(&format!("Write {word} to sign: "))? != word {
            return Err(Failure::invalid("nothing was signed, as it was not confirmed."));
        }
    }
    if justification.len() > JUSTIFICATION_BYTES_MAX {
        return Err(Failure::usage(format!(
            "the justification is longer than {JUSTIFICATION_BYTES_MAX} bytes. Shorten it."
        )));
    }
    Ok(justification)
}

pub(crate) fn ask(question: &str) -> Result<String, Failure> {
    let unread = |error: std::io::Error| Failure::io(format!("the terminal: {error}"));
    eprint!("{question}");
    std::io::stderr().flush().map_err(unread)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(unread)?;
    Ok(line.trim().to_owned())
}

fn tell(args: &AnswerArgs, decision: Decision, answered: &Answered) -> Result<Exit, Failure> {
    let verdict = answered.verdict.as_ref();
    let mut kept = Vec::new();
    if let Some(out) = &args.out {
        let verdict = verdict.and_then(|verdict| verdict.evidence.as_ref());
        for item in std::iter::once(&answered.approval).chain(verdict) {
            kept.push(keep(item, out)?.display().to_string());
        }
    }
    let (state, have, need) = (answered.state.as_str(), answered.approvals, answered.needed);
    let codes: Vec<&str> = verdict.map_or_else(Vec::new, |verdict| {
        verdict.reasons.iter().map(|reason| reason.code.as_str()).collect()
    });
    match args.output {
        Output::Human => {
            let because = if codes.is_empty() || state == "approved" {
                String::new()
            } else {
                format!(" ({})", escaped(&codes.join(", ")))
            };
            tell!(
                "{state}{because}: {have} of {need} approvals; your answer is at index {}",
                answered.approval.index.0
            );
        }
        Output::Jsonl => tell!(
            "{}",
            json!({
                "action_id": args.action_id,
                "state": state,
                "approvals": have,
                "needed": need,
                "codes": codes,
                "index": answered.approval.index.0,
                "evidence": kept,
            })
        ),
    }
    if decision.holds_in(answered.state) {
        return Ok(Exit::Success);
    }
    let why = codes
        .first()
        .map_or_else(String::new, |code| format!(" (countersign explain {})", escaped(code)));
    Err(Failure::invalid(format!(
        "your answer is on record, and the action is {state} all the same{why}. It does not go the \
         way that you decided."
    )))
}

#[cfg(test)]
mod tests;
