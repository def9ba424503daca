//! `evaluate`: intents in, verdicts out, each with its evidence.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use countersign_client::{GateCallError, GateClient, Judged};
use countersign_core::encoding::{escaped, hex};
use countersign_core::verify::Verdict;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::args::{EvaluateArgs, Output};
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, shown, sync_folder};
use crate::gate_link::{call, keep, trust_of};
use crate::identity::Identity;

/// Bytes that a line may have: an intent's 48 KiB (INT-1), and one more, so that the gate refuses
/// what is larger in its own words.
const LINE_BYTES_MAX: u64 = 48 * 1024 + 2;

type Asked = JoinHandle<Result<Judged, GateCallError>>;

pub(crate) async fn run(args: EvaluateArgs) -> Result<Exit, Failure> {
    let identity = Identity::read(&args.connection.identity)?;
    let trust = trust_of(&identity, args.connection.trust.as_ref())?;
    let mut lines = open(&args.file)?;
    make_folder(&args.out)?;
    let mut told = Told { trusted: trust.is_some(), ..Told::default() };
    let client = call(&identity, &args.connection.gate, trust).await?;
    let mut asked: VecDeque<(u64, Asked)> = VecDeque::new();
    let mut number = 0;
    loop {
        let line = next_line(&mut *lines, &args.file)?;
        let ended = line.is_none();
        if let Some(line) = line {
            number += 1;
            asked.push_back((number, ask(&client, line, &args.audience)));
        }
        while asked.len() >= usize::from(args.in_flight) || (ended && !asked.is_empty()) {
            let Some((number, answer)) = asked.pop_front() else { break };
            let answer = answer.await.map_err(|error| Failure::internal(error.to_string()))?;
            told.take(number, answer, &args)?;
        }
        if ended {
            break;
        }
    }
    sync_folder(&args.out)?;
    told.finish()
}

fn ask(client: &GateClient, intent: String, audience: &str) -> Asked {
    let (client, audience) = (client.clone(), audience.to_owned());
    tokio::spawn(async move { client.evaluate(&intent, &audience).await })
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path).map_err(|error| Failure::file(path, &error))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The next line that is not blank.
fn next_line(reader: &mut dyn BufRead, path: &Path) -> Result<Option<String>, Failure> {
    loop {
        let mut bytes = Vec::new();
        let read = reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        let read = read.map_err(|error| Failure::file(path, &error))?;
        if read == 0 {
            return Ok(None);
        }
        if bytes.last() != Some(&b'\n') && read as u64 == LINE_BYTES_MAX {
            return Err(Failure::usage(format!(
                "{}: a line is longer than the 48 KiB of an intent. Nothing from there on was \
                 asked.",
                shown(path)
            )));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::usage(format!("{} is no UTF-8 text.", shown(path))))?;
        if !text.trim().is_empty() {
            return Ok(Some(text.trim().to_owned()));
        }
    }
}

/// The answers so far.
#[derive(Default)]
struct Told {
    /// Whether there is a trust file, under which evidence is to be VALID.
    trusted: bool,
    recorded: u64,
    /// Recorded, with evidence that leaves a doubt under the trust file.
    doubtful: u64,
    /// Refusals that wait in the gate's outbox.
    unrecorded: u64,
    /// Calls that were refused: no intents at all.
    refused: u64,
    /// Calls whose fate is unknown.
    unanswered: u64,
}

impl Told {
    fn take(
        &mut self,
        line: u64,
        answer: Result<Judged, GateCallError>,
        args: &EvaluateArgs,
    ) -> Result<(), Failure> {
        let judged = match answer {
            Ok(judged) => judged,
            Err(error @ (GateCallError::Refused(_) | GateCallError::Unreachable { .. })) => {
                match error {
                    GateCallError::Refused(_) => self.refused += 1,
                    _ => self.unanswered += 1,
                }
                let code = error.code().as_str();
                match args.output {
                    Output::Human => tell!("line {line}: {error}"),
                    Output::Jsonl => {
                        eprintln!("countersign: line {line}: {error}");
                        tell!("{}", jsonl(line, &[code], None, None));
                    }
                }
                return Ok(());
            }
            // What can't be believed of one answer is believed of none.
            Err(error) => return Err(error.into()),
        };
        let evidence = judged.evidence.as_ref().map(|item| keep(item, &args.out)).transpose()?;
        match &judged.evidence {
            Some(item) if self.trusted && item.report.result != Verdict::Valid => {
                self.doubtful += 1;
                let why = item.report.decisive().map(|found| found.fault.to_string());
                eprintln!("countersign: line {line}: {}", why.unwrap_or_default());
            }
            Some(_) => self.recorded += 1,
            None => self.unrecorded += 1,
        }
        match args.output {
            Output::Human => tell!("{}", human(line, &judged, evidence.as_deref())),
            Output::Jsonl => {
                tell!("{}", jsonl(line, &codes(&judged), Some(&judged), evidence.as_deref()));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Exit, Failure> {
        let Self { recorded, doubtful, unrecorded, refused, unanswered, .. } = self;
        eprintln!(
            "countersign: {recorded} judged and recorded, {doubtful} with evidence that is not \
             certain, {unrecorded} refused and not yet recorded, {refused} calls refused, \
             {unanswered} without an answer."
        );
        if recorded + doubtful + unrecorded + refused + unanswered == 0 {
            eprintln!("countersign: no intent was given, and nothing asked is no success.");
        }
        match (recorded, doubtful + unrecorded, refused, unanswered) {
            (_, _, 1.., _) => Ok(Exit::Invalid),
            (0, 0, 0, 1..) => Err(Failure::io(
                "no call was answered. Look whether the gate runs, and at its address.",
            )),
            (1.., 0, 0, 0) => Ok(Exit::Success),
            _ => Ok(Exit::Indeterminate),
        }
    }
}

fn codes(judged: &Judged) -> Vec<&str> {
    judged.reasons.iter().map(|reason| reason.code.as_str()).collect()
}

fn human(line: u64, judged: &Judged, evidence: Option<&Path>) -> String {
    let shadow = if judged.mode == "shadow" { " (shadow)" } else { "" };
    let codes = escaped(&codes(judged).join(", "));
    let place = match (&judged.evidence, evidence) {
        (Some(item), Some(path)) => format!("index {}, {}", item.index.0, shown(path)),
        _ => "not yet recorded".to_owned(),
    };
    let permit = judged.permit.as_ref().map_or_else(String::new, |permit| {
        format!(", permit {} until {}", escaped(&permit.id), permit.not_after.format())
    });
    let requires = judged.requires.as_ref().map_or_else(String::new, |requires| {
        format!(
            ", needs {} approvals of {} until {}: countersign approve {}",
            requires.approvals,
            escaped(&requires.roles.join(", ")),
            escaped(&requires.expires_at),
            escaped(&judged.action_id)
        )
    });
    format!("line {line}: {}{shadow} {codes}: {place}{permit}{requires}", judged.outcome)
}

/// One line: of a call that gave no verdict, all that a verdict says is null.
fn jsonl(line: u64, codes: &[&str], judged: Option<&Judged>, evidence: Option<&Path>) -> Value {
    let permit = judged.and_then(|judged| judged.permit.as_ref()).map(|permit| {
        json!({
            "id": permit.id,
            "audience": permit.audience,
            "not_after": permit.not_after.format(),
            "nonce": hex(&permit.nonce),
        })
    });
    json!({
        "line": line,
        "action_id": judged.map(|judged| &judged.action_id),
        "outcome": judged.map(|judged| &judged.outcome),
        "mode": judged.map(|judged| &judged.mode),
        "codes": codes,
        "index": judged.and_then(|judged| Some(judged.evidence.as_ref()?.index.0)),
        "permit": permit,
        "evidence": evidence.map(|path| path.display().to_string()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that meets the unexpected should stop there"
    )]

    use super::*;

    /// Whoever reads the lines by name once found three of them where the call was refused.
    #[test]
    fn a_call_without_a_verdict_has_a_line_with_every_member() {
        let line = jsonl(7, &["REQUEST_MALFORMED"], None, None);
        let mut names: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected =
            ["action_id", "codes", "evidence", "index", "line", "mode", "outcome", "permit"];
        assert_eq!(names, expected);
        assert_eq!((&line["line"], &line["codes"][0]), (&json!(7), &json!("REQUEST_MALFORMED")));
        assert!(line["outcome"].is_null() && line["evidence"].is_null());
    }
}
