//! What became of an action: reports, and the action's whole life.

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, from_hex_array};
use countersign_core::hash::TreeSize;
use countersign_core::json;
use countersign_core::kinds::{Kind, is_uuid_v7};
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

/// A report, read.
struct Report {
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
    Replayed,
    /// Of nothing that a verdict covers.
    Orphan,
}

impl Report {
    fn parse(wire: v1::ReportOutcomeRequest) -> Result<Self, Refusal> {
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
            Some(text) => json::parse(&text).map_err(|_| wrong("detail"))?,
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
        // An approve stands in the log also once it is voided: its root is then the parent's, and
        // an effect all the same is one that no verdict covers.
        let approve = said.logged.as_ref().filter(|_| said.outcome == "approve");
        let given = said.permit.as_ref().map(|permit| permit.id.as_str());
        let Some(approve) = approve else {
            return if self.permit.is_some() { Err(unknown()) } else { Ok(Fit::Orphan) };
        };
        if self.permit.as_deref() != given {
            return Err(unknown());
        }
        let of_permit = |each: &&OutcomeRow| each.matches != "orphan" && each.permit == self.permit;
        let same_effect = |each: &OutcomeRow| each.effect_digest == self.effect_digest;
        let Some(last) = row.outcomes.iter().rfind(of_permit) else {
            return Ok(Fit::Of { verdict: approve.root.clone(), supersedes: None });
        };
        let same = |each: &&OutcomeRow| {
            each.permit == self.permit && same_effect(each) && each.result == self.result
        };
        let orphaned = |each: &&OutcomeRow| {
            each.matches == "orphan" && same_effect(each) && each.result == self.result
        };
        if let Some(known) = row.outcomes.iter().find(same) {
            return Ok(Fit::Repeat(known.clone()));
        }
        // An effect that was not known becomes known, or a result changes: the report corrects the
        // earlier one. Another effect is another use of the permit.
        let corrects = same_effect(last) || last.effect_digest.is_none();
        if corrects && row.outcomes.len() < OUTCOMES_MAX {
            let supersedes = last.logged.as_ref().map(|at| at.root.clone());
            return Ok(Fit::Of { verdict: approve.root.clone(), supersedes });
        }
        // Told and logged once.
        let told = row.outcomes.iter().any(|each| orphaned(&each));
        let full = row.outcomes.len() >= OUTCOMES_MAX;
        if told || full { Err(Code::PermitReplayed.into()) } else { Ok(Fit::Replayed) }
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
    /// Records what became of an action. Errors: those of `GateService.ReportOutcome`.
    pub async fn report_outcome(
        &self,
        request: v1::ReportOutcomeRequest,
    ) -> Result<v1::ReportOutcomeResponse, Refusal> {
        let deadline = Instant::now() + self.shared.settings.answer_timeout();
        let action_id = request.action_id.clone();
        let report = Report::parse(request)?;
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
            Fit::Repeat(known) => Ok(v1::ReportOutcomeResponse {
                r#match: known.matches,
                evidence: known.logged.map(|at| at.evidence).unwrap_or_default(),
            }),
            Fit::Replayed => {
                let fit = Fit::Replayed;
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
        // What permit an orphan claimed is no permit of its record (LIFE-13), and worth knowing.
        let detail = match (&fit, &report.permit) {
            (Fit::Replayed, Some(permit)) => {
                json!({ "replayed_permit": permit, "reported": report.detail })
            }
            _ => report.detail.clone(),
        };
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
        };
        let about = About::Outcome { action_id: action_id.map(str::to_owned), outcome };
        let at = self.log(outbox_row(&draft, about), deadline).await?;
        Ok(v1::ReportOutcomeResponse { r#match: matches.to_owned(), evidence: at.evidence })
    }

    /// An action's life as the log holds it, and what is still waited for. Errors: `NOT_FOUND`,
    /// `EVIDENCE_UNAVAILABLE` (the ledger does not answer).
    pub async fn get_action(&self, action_id: &str) -> Result<v1::GetActionResponse, Refusal> {
        if !is_uuid_v7(action_id) {
            return Err(Code::NotFound.into());
        }
        let deadline = Instant::now() + self.shared.settings.answer_timeout();
        let unavailable = || Refusal::from(Code::EvidenceUnavailable);
        let client = self.shared.client().ok_or_else(unavailable)?;
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
    let outcome = views().rfind(|view| view.kind() == Kind::Outcome);
    let verdict = views().rfind(|view| view.kind() == Kind::Verdict);
    let code = |view: &countersign_core::record::View| {
        let first = view.get("reasons")?.as_array()?.first()?;
        Some(first.get("code")?.as_str()?.to_owned())
    };
    match verdict.and_then(|view| view.str("outcome")) {
        Some("approve") if outcome.is_some_and(|o| o.str("match") == Some("mismatch")) => {
            ActionState::Diverged.as_str()
        }
        Some("approve") if outcome.is_some_and(|o| o.str("result") == Some("executed")) => {
            ActionState::Executed.as_str()
        }
        Some("approve") => ActionState::Approved.as_str(),
        Some("supervise") => ActionState::Waiting.as_str(),
        _ => match verdict.and_then(code).as_deref() {
            Some("SUPERVISION_DENIED") => ActionState::Denied.as_str(),
            Some("SUPERVISION_EXPIRED") => ActionState::Expired.as_str(),
            _ => ActionState::Refused.as_str(),
        },
    }
}
