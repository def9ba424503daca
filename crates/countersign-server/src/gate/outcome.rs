//! What became of an action: reports, and the action's whole life.
//!
//! A permit covers one effect (LIFE-9). What is the same report again is answered with the first
//! one's record. What tells more of the same effect supersedes: a result after none was known or
//! nothing was done, a `reverted` after an `executed`, and the word of the other side, executor or
//! system of record. Anything else that was done is a second effect, which no verdict covers.
//!
//! `match` compares digests and nothing else (KIND-7). What else is wrong stands in the record's
//! `detail`, beside who reported and what they said, and in the answer's codes.

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, from_hex_array, hex};
use countersign_core::hash::{TreeSize, sha256};
use countersign_core::json;
use countersign_core::kinds::{Kind, is_uuid_v7};
use countersign_core::record::View;
use countersign_proto::convert::EvidenceQuery;
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::core::{GateCore, requires_to_wire};
use super::rows::{About, ActionRow, ActionState, OutcomeRow};
use super::shared::outbox_row;
use super::supervise::drafted;

/// Bytes of a report's detail.
const DETAIL_BYTES_MAX: usize = 8 * 1024;
/// Reports of one action that are kept; far fewer than the ledger takes records of it (LIFE-12).
const OUTCOMES_MAX: usize = 32;
const RESULTS: [&str; 5] = ["executed", "failed", "not_executed", "unknown", "reverted"];

/// The effect was observed after the permit's end.
pub(crate) const LATE: &str = "LATE";
/// The effect is another one than the one that was reported for its permit.
const SECOND_EFFECT: &str = "SECOND_EFFECT";
/// An executor reported that is not the one that the permit is for.
const OTHER_REPORTER: &str = "OTHER_REPORTER";

/// A report, read.
struct Report {
    /// Whose certificate the caller showed.
    reporter: String,
    permit: Option<String>,
    result: String,
    effect_digest: Option<String>,
    attested_by: String,
    observed_at: Micros,
    detail: Value,
}

/// What a report is to the action that it names.
enum Fit {
    /// It was reported before.
    Repeat(OutcomeRow),
    /// Of the verdict with this root.
    Of { verdict: String, supersedes: Option<String> },
    /// Of another effect than the one that was reported for its permit.
    Second,
    /// Of nothing that a verdict covers.
    Orphan,
}

impl Report {
    fn parse(reporter: &str, wire: v1::ReportOutcomeRequest) -> Result<Self, Refusal> {
        let wrong = |name| Refusal::from(Code::RequestMalformed.at_field(name));
        let some = |text: String| (!text.is_empty()).then_some(text);
        if !RESULTS.contains(&wire.result.as_str()) {
            return Err(wrong("result"));
        }
        if !["executor", "system_of_record"].contains(&wire.attested_by.as_str()) {
            return Err(wrong("attested_by"));
        }
        if wire.detail.len() > DETAIL_BYTES_MAX {
            return Err(wrong("detail"));
        }
        let detail = match some(wire.detail) {
            // As deep as it stands in the record.
            Some(text) => {
                let inside = json::parse(&format!("{{\"reported\":{text}}}"));
                let mut inside = inside.map_err(|_| wrong("detail"))?;
                inside.get_mut("reported").map(Value::take).ok_or_else(|| wrong("detail"))?
            }
            None => Value::Null,
        };
        let effect_digest = some(wire.effect_digest);
        if effect_digest.as_deref().is_some_and(|text| from_hex_array::<32>(text).is_none()) {
            return Err(wrong("effect_digest"));
        }
        if wire.permit.len() > 128 {
            return Err(wrong("permit"));
        }
        Ok(Self {
            reporter: reporter.to_owned(),
            permit: some(wire.permit),
            result: wire.result,
            effect_digest,
            attested_by: wire.attested_by,
            observed_at: Micros::parse(&wire.observed_at).ok_or_else(|| wrong("observed_at"))?,
            detail,
        })
    }

    /// What it is to this action.
    fn fit(&self, row: &ActionRow) -> Result<Fit, Refusal> {
        let unknown = || Refusal::from(Code::PermitUnknown);
        let said = &row.said;
        let identity = self.identity();
        if let Some(known) = row.outcomes.iter().find(|each| each.report == identity) {
            return Ok(Fit::Repeat(known.clone()));
        }
        // An approve stands in the log also once it is voided: its root is then the parent's, and
        // an effect all the same is one that no verdict covers.
        let approve = said.logged.as_ref().filter(|_| said.outcome == "approve");
        let given = said.permit.as_ref().map(|permit| permit.id.as_str());
        let Some(approve) = approve else {
            return match (&self.permit, row.outcomes.len() < OUTCOMES_MAX) {
                (Some(_), _) => Err(unknown()),
                (None, true) => Ok(Fit::Orphan),
                (None, false) => Err(Code::ActionFull.into()),
            };
        };
        if self.permit.as_deref() != given {
            return Err(unknown());
        }
        let verdict = approve.root.clone();
        let of_permit = |each: &&OutcomeRow| each.matches != "orphan" && each.permit == self.permit;
        let Some(last) = row.outcomes.iter().rfind(of_permit) else {
            return Ok(Fit::Of { verdict, supersedes: None });
        };
        if row.outcomes.len() >= OUTCOMES_MAX {
            return Err(Code::ActionFull.into());
        }
        let own = |each: &&OutcomeRow| of_permit(each) && each.attested_by == self.attested_by;
        if self.follows(last, row.outcomes.iter().rfind(own)) {
            let supersedes = last.logged.as_ref().map(|at| at.root.clone());
            return Ok(Fit::Of { verdict, supersedes });
        }
        // Nothing was done a second time by this; what it takes back was said, and stays said.
        if self.result == "not_executed" { Err(Code::PermitUsed.into()) } else { Ok(Fit::Second) }
    }

    /// Whether it tells more of the effect that `last` told of, the newest for its permit; `own` is
    /// the newest by its own side.
    fn follows(&self, last: &OutcomeRow, own: Option<&OutcomeRow>) -> bool {
        let same_effect = |each: &OutcomeRow| each.effect_digest == self.effect_digest;
        let nothing_known = |each: &OutcomeRow| {
            each.result == "not_executed"
                || (matches!(each.result.as_str(), "unknown" | "failed")
                    && (same_effect(each) || each.effect_digest.is_none()))
        };
        match own {
            // The other side's word of it.
            None => same_effect(last) || nothing_known(last),
            Some(own) => {
                nothing_known(own)
                    || (same_effect(own) && own.result == "executed" && self.result == "reverted")
            }
        }
    }

    /// What is wrong with it besides its effect.
    fn codes(&self, fit: &Fit, row: Option<&ActionRow>) -> Vec<&'static str> {
        let permit = row.and_then(|row| row.said.permit.as_ref());
        let permit = permit.filter(|permit| self.permit.as_ref() == Some(&permit.id));
        // That nothing was done, or that it was undone, may be seen at any time.
        let acts = !matches!(self.result.as_str(), "not_executed" | "reverted");
        let late = permit.is_some_and(|permit| acts && self.observed_at.0 > permit.not_after);
        let other = self.attested_by == "executor"
            && permit.is_some_and(|permit| permit.audience != self.reporter);
        let found =
            [(late, LATE), (other, OTHER_REPORTER), (matches!(fit, Fit::Second), SECOND_EFFECT)];
        found.into_iter().filter_map(|(is, code)| is.then_some(code)).collect()
    }

    /// What makes it the same as another report: all but `observed_at`, which a caller that tries
    /// again may have read anew.
    fn identity(&self) -> String {
        let said = json!([
            self.reporter,
            self.attested_by,
            self.permit,
            self.result,
            self.effect_digest,
            self.detail
        ]);
        hex(&sha256(said.to_string().as_bytes()))
    }

    fn matches(&self, row: &ActionRow) -> &'static str {
        match &self.effect_digest {
            None => "indeterminate",
            Some(effect) if *effect == row.digest => "match",
            Some(_) => "mismatch",
        }
    }
}

impl GateCore {
    /// Records what became of an action, as `reporter` says. Errors: those of
    /// `GateService.ReportOutcome`.
    pub async fn report_outcome(
        &self,
        reporter: &str,
        request: v1::ReportOutcomeRequest,
    ) -> Result<v1::ReportOutcomeResponse, Refusal> {
        self.shared.check_running()?;
        let deadline = Instant::now() + self.shared.settings.answer_timeout();
        let action_id = request.action_id.clone();
        let report = Report::parse(reporter, request)?;
        if action_id.is_empty() {
            if report.permit.is_some() {
                return Err(Code::PermitUnknown.into());
            }
            return self.log_outcome(None, None, &report, Fit::Orphan, deadline).await;
        }
        if !is_uuid_v7(&action_id) {
            return Err(Code::RequestMalformed.at_field("action_id").into());
        }
        let turn = self.turn(&action_id, deadline).await;
        let _turn = turn.ok_or_else(|| Refusal::from(Code::EvidenceUnavailable))?;
        let row = self.action(&action_id)?.ok_or_else(|| Refusal::from(Code::NotFound))?;
        if matches!(row.state, ActionState::Judged | ActionState::Voiding) {
            return Err(Code::EvidenceUnavailable.into());
        }
        match report.fit(&row)? {
            Fit::Repeat(known) if known.codes.iter().any(|code| code == SECOND_EFFECT) => {
                Err(Code::PermitReplayed.into())
            }
            Fit::Repeat(known) => Ok(v1::ReportOutcomeResponse {
                r#match: known.matches,
                evidence: known.logged.map(|at| at.evidence).unwrap_or_default(),
                codes: known.codes,
            }),
            Fit::Second => {
                let fit = Fit::Second;
                self.log_outcome(Some(&action_id), Some(&row), &report, fit, deadline).await?;
                Err(Code::PermitReplayed.into())
            }
            fit => self.log_outcome(Some(&action_id), Some(&row), &report, fit, deadline).await,
        }
    }

    async fn log_outcome(
        &self,
        action_id: Option<&str>,
        row: Option<&ActionRow>,
        report: &Report,
        fit: Fit,
        deadline: Instant,
    ) -> Result<v1::ReportOutcomeResponse, Refusal> {
        let covered = match (&fit, row) {
            (Fit::Of { verdict, supersedes }, Some(row)) => Some((verdict, supersedes, row)),
            _ => None,
        };
        let matches = covered.map_or("orphan", |(_, _, row)| report.matches(row));
        let permit = covered.and(report.permit.clone());
        let codes = report.codes(&fit, row);
        // What permit an orphan claimed is no permit of its record (LIFE-13), and worth knowing.
        let claimed = report.permit.as_ref().filter(|_| permit.is_none());
        let detail = json!({
            "claimed_permit": claimed,
            "codes": codes,
            "reported": report.detail,
            "reporter": report.reporter,
        });
        let json = json!({
            "action_digest": covered.map(|(_, _, row)| &row.digest),
            "action_id": action_id,
            "attested_by": report.attested_by,
            "detail": detail,
            "effect_digest": report.effect_digest,
            "match": matches,
            "observed_at": report.observed_at.format(),
            "permit": permit,
            "result": report.result,
            "supersedes": covered.and_then(|(_, supersedes, _)| supersedes.as_ref()),
            "verdict": covered.map(|(verdict, _, _)| verdict),
        });
        let draft = self.shared.draft(Kind::Outcome, &json, Vec::new());
        let draft = draft.map_err(|error| drafted(&error))?;
        let outcome = OutcomeRow {
            permit,
            result: report.result.clone(),
            effect_digest: report.effect_digest.clone(),
            matches: matches.to_owned(),
            logged: None,
            attested_by: report.attested_by.clone(),
            report: report.identity(),
            codes: codes.into_iter().map(str::to_owned).collect(),
        };
        let codes = outcome.codes.clone();
        let about = About::Outcome { action_id: action_id.map(str::to_owned), outcome };
        let at = self.log(outbox_row(&draft, about), deadline).await?;
        Ok(v1::ReportOutcomeResponse { r#match: matches.to_owned(), evidence: at.evidence, codes })
    }

    /// An action's life as the log holds it, and what is still waited for. Errors: `NOT_FOUND`,
    /// `EVIDENCE_UNAVAILABLE` (the ledger does not answer).
    pub async fn get_action(&self, action_id: &str) -> Result<v1::GetActionResponse, Refusal> {
        if !is_uuid_v7(action_id) {
            return Err(Code::NotFound.into());
        }
        let deadline = Instant::now() + self.shared.settings.answer_timeout();
        let unavailable = || Refusal::from(Code::EvidenceUnavailable);
        let client = self.shared.client_by(deadline).await.ok_or_else(unavailable)?;
        let query = EvidenceQuery::Action(action_id.to_owned());
        let asked = timeout_at(deadline, client.evidence(query, TreeSize(0), None)).await;
        let items = asked.map_err(|_| unavailable())?.map_err(|error| {
            if error.code() == Code::NotFound {
                return Refusal::from(Code::NotFound);
            }
            tracing::warn!(%error, "the ledger gave no evidence of an action");
            unavailable()
        })?;
        let row = self.action(action_id)?;
        let waits = row.as_ref().filter(|row| row.state.as_str() == "waiting");
        let requires = waits.and_then(|row| Some(&row.supervise.as_ref()?.requires));
        let granted = waits.map_or(0, |row| row.approvals.iter().filter(|a| !a.denies).count());
        // One that this gate no longer keeps is over: its last verdict says how.
        let state = row.as_ref().map_or_else(|| last_state(&items), |row| row.state.as_str());
        let requires = requires.map(requires_to_wire);
        Ok(v1::GetActionResponse {
            state: state.to_owned(),
            requires,
            approvals: u32::try_from(granted).unwrap_or(u32::MAX),
            files: items
                .into_iter()
                .map(|item| v1::EvidenceFile { index: item.index.0, json: item.json })
                .collect(),
        })
    }
}

/// The state of an action by its files alone.
fn last_state(items: &[countersign_client::EvidenceItem]) -> &'static str {
    let views = || items.iter().filter_map(|item| item.report.facts.view.as_ref());
    let outcomes = views().filter(|view| view.kind() == Kind::Outcome);
    let executed = |view: &View| view.str("result") == Some("executed");
    let verdict = views().rfind(|view| view.kind() == Kind::Verdict);
    let code = |view: &View| {
        let first = view.get("reasons")?.as_array()?.first()?;
        Some(first.get("code")?.as_str()?.to_owned())
    };
    match verdict.and_then(|view| view.str("outcome")) {
        Some("approve") if outcomes.clone().any(diverges) => ActionState::Diverged.as_str(),
        Some("approve") if outcomes.clone().any(executed) => ActionState::Executed.as_str(),
        Some("approve") => ActionState::Approved.as_str(),
        Some("supervise") => ActionState::Waiting.as_str(),
        _ => match verdict.and_then(code).as_deref() {
            Some("SUPERVISION_DENIED") => ActionState::Denied.as_str(),
            Some("SUPERVISION_EXPIRED") => ActionState::Expired.as_str(),
            _ => ActionState::Refused.as_str(),
        },
    }
}

/// Whether an outcome is of something that was not approved, or not then.
fn diverges(view: &View) -> bool {
    let codes = view.get("detail").and_then(|detail| detail.get("codes")?.as_array());
    let late = codes.is_some_and(|codes| codes.iter().any(|code| code == LATE));
    late || matches!(view.str("match"), Some("mismatch" | "orphan"))
}
