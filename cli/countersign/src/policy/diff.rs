//! `policy diff`: which recorded verdicts a candidate version would give otherwise.

use countersign_client::reconcile::Known;
use countersign_core::encoding::{Micros, escaped};
use countersign_core::kinds::Kind;
use countersign_gate::{Outcome, Policy, Replay, reconsider};
use serde_json::{Value, json};

use crate::args::{DiffArgs, Output};
use crate::clock::given;
use crate::exit::{Exit, Failure};
use crate::policy::lint::load_whole;
use crate::records::load;

pub(crate) async fn run(args: DiffArgs) -> Result<Exit, Failure> {
    let candidate = load_whole(&args.candidate)?;
    let from = given(args.from.as_ref(), Micros(0))?;
    let to = given(args.to.as_ref(), Micros(u64::MAX))?;
    let loaded = load(&args.records).await?;
    let within = |known: &&Known| {
        let recorded = known.view.str("recorded_at").and_then(Micros::parse);
        recorded.is_some_and(|at| from <= at && at < to)
    };
    let compared = compare(loaded.records.iter().filter(within), &candidate);
    for flip in &compared.flips {
        tell!("{}", flip.told(args.output));
    }
    if args.output == Output::Jsonl {
        tell!("{}", compared.counts());
    }
    eprintln!("countersign: {}", compared.summary());
    let exit = match compared.count(Change::NewApproval) {
        _ if compared.replayed() == 0 => Exit::Indeterminate,
        0 => Exit::Success,
        _ => Exit::Invalid,
    };
    Ok(loaded.exit(exit))
}

/// How a verdict would change, what is asked about first coming first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    NewApproval,
    NewSupervise,
    NewRefusal,
    OtherReasons,
}

impl Change {
    fn of(before: &str, after: Outcome) -> Self {
        match after {
            after if after.as_str() == before => Self::OtherReasons,
            Outcome::Approve => Self::NewApproval,
            Outcome::Supervise => Self::NewSupervise,
            Outcome::Refuse => Self::NewRefusal,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::NewApproval => "NEW_APPROVAL",
            Self::NewSupervise => "NEW_SUPERVISE",
            Self::NewRefusal => "NEW_REFUSAL",
            Self::OtherReasons => "OTHER_REASONS",
        }
    }
}

/// One verdict that would be another.
#[derive(Debug)]
struct Flip {
    change: Change,
    index: u64,
    action_id: String,
    action: String,
    resource: String,
    before: String,
    after: Outcome,
    codes: Vec<String>,
}

impl Flip {
    fn told(&self, output: Output) -> String {
        let Self { change, index, action_id, action, resource, before, after, codes } = self;
        match output {
            Output::Human => format!(
                "{}  index {index}: {} on {}: {before} -> {} ({}), action {action_id}",
                change.as_str(),
                escaped(action),
                escaped(resource),
                after.as_str(),
                escaped(&codes.join(", "))
            ),
            Output::Jsonl => json!({
                "change": change.as_str(),
                "index": index,
                "action_id": action_id,
                "action": action,
                "resource": resource,
                "recorded": before,
                "candidate": after.as_str(),
                "codes": codes,
            })
            .to_string(),
        }
    }
}

/// What came of all.
#[derive(Debug, Default)]
struct Compared {
    flips: Vec<Flip>,
    same: usize,
    /// The gate's own refusals, and verdicts of engines that can't be asked again.
    not_by_policy: usize,
    /// Something that is needed is withheld.
    withheld: usize,
}

impl Compared {
    fn count(&self, change: Change) -> usize {
        self.flips.iter().filter(|flip| flip.change == change).count()
    }

    fn replayed(&self) -> usize {
        self.same + self.flips.len()
    }

    fn counts(&self) -> Value {
        json!({
            "replayed": self.replayed(),
            "same": self.same,
            "new_approvals": self.count(Change::NewApproval),
            "new_supervises": self.count(Change::NewSupervise),
            "new_refusals": self.count(Change::NewRefusal),
            "other_reasons": self.count(Change::OtherReasons),
            "not_by_policy": self.not_by_policy,
            "withheld": self.withheld,
        })
    }

    fn summary(&self) -> String {
        format!(
            "{} verdicts replayed: {} new approvals, {} new supervises, {} new refusals, {} with \
             other reasons, {} the same. Not replayed: {} that no policy made, {} with something \
             withheld.",
            self.replayed(),
            self.count(Change::NewApproval),
            self.count(Change::NewSupervise),
            self.count(Change::NewRefusal),
            self.count(Change::OtherReasons),
            self.same,
            self.not_by_policy,
            self.withheld
        )
    }
}

/// Makes every verdict again under the candidate, from its own context and entities.
fn compare<'k>(records: impl Iterator<Item = &'k Known>, candidate: &Policy) -> Compared {
    let mut compared = Compared::default();
    for known in records.filter(|known| known.view.kind() == Kind::Verdict) {
        let view = &known.view;
        let engine = view.get("policy").and_then(|policy| policy.get("engine"));
        let by_cedar = engine.and_then(Value::as_str).map(|name| name.starts_with("cedar-policy/"));
        if by_cedar != Some(true) {
            let withheld = view.is_withheld("policy");
            let count = if withheld { &mut compared.withheld } else { &mut compared.not_by_policy };
            *count += 1;
            continue;
        }
        match reconsider(view, candidate) {
            Replay::Same => compared.same += 1,
            Replay::Different { outcome, reasons } => {
                let text = |value: Option<&Value>| {
                    value.and_then(Value::as_str).unwrap_or_default().to_owned()
                };
                let before = text(view.get("outcome"));
                compared.flips.push(Flip {
                    change: Change::of(&before, outcome),
                    index: known.index,
                    action_id: text(view.get("action_id")),
                    action: text(view.get("action")),
                    resource: text(view.get("resource").and_then(|each| each.get("id"))),
                    before,
                    after: outcome,
                    codes: reasons.into_iter().map(|reason| reason.code).collect(),
                });
            }
            Replay::Withheld { .. } => compared.withheld += 1,
            Replay::NotByPolicy { .. }
            | Replay::Contradicted { .. }
            | Replay::DifferentEngine { .. }
            | Replay::OtherPolicy => compared.not_by_policy += 1,
        }
    }
    compared.flips.sort_by_key(|flip| (flip.change, flip.index));
    compared
}

#[cfg(test)]
mod tests;
