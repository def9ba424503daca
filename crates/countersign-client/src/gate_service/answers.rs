//! What a gate's answers prove. An answer that its evidence does not bear out is an error.

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, from_hex_array, hex};
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Hash, LeafIndex};
use countersign_core::json;
use countersign_core::kinds::{Kind, is_uuid_v7};
use countersign_core::record::View;
use countersign_core::trust::Trust;
use countersign_core::verify::{Verdict, verify_file};
use countersign_proto::v1;
use serde_json::Value;

use super::{Action, Answered, Judged, Permit, Reason, Reported, Requires, State};
use crate::client::{EvidenceItem, own_trust};
use crate::heads::Keyring;

/// Evidence files that one answer may bring: an action's records (LIFE-12).
const FILES_MAX: usize = 256;

/// Verifies evidence under the log's own keys, and under a trust file where one is given.
#[derive(Debug)]
pub(super) struct Verifier {
    keys: Keyring,
    trust: Trust,
}

impl Verifier {
    pub(super) fn new(keys: Keyring, trust: Option<Trust>) -> Self {
        let trust = trust.unwrap_or_else(|| own_trust(&keys));
        Self { keys, trust }
    }

    /// A file that is not proved wrong, and whose seal, entry, inclusion and head hold.
    pub(super) fn evidence(&self, text: String, kinds: &[Kind]) -> Result<EvidenceItem, Fault> {
        let report = verify_file(text.as_bytes(), Some(&self.trust));
        if report.result == Verdict::Invalid {
            return Err(report.fault.map_or(Code::EvidenceMalformed.into(), |found| found.fault));
        }
        let evidence = Evidence::parse(text.as_bytes())?;
        // The keys that this client was told, whatever else the trust file names.
        self.keys.verify(evidence.receipt.checkpoint.as_str())?;
        let facts = &report.facts;
        let kind = facts.view.as_ref().map(View::kind);
        if facts.sealed_by.is_none() || facts.entry.is_none() {
            return Err(Code::EvidenceMalformed.into());
        }
        if kind.is_none_or(|kind| !kinds.contains(&kind)) {
            return Err(Code::AnswerMismatch.at_field("type"));
        }
        Ok(EvidenceItem { index: LeafIndex(facts.index), json: text, report })
    }

    /// An answer to `intent`, where that is known, or else a verdict that came with something.
    pub(super) fn judged(
        &self,
        answer: v1::EvaluateResponse,
        intent: Option<&str>,
    ) -> Result<Judged, Fault> {
        let v1::EvaluateResponse { action_id, outcome, mode, permit, requires, evidence, .. } =
            answer;
        let permitted = outcome == "approve" && mode == "enforce";
        if !["approve", "refuse", "supervise"].contains(&outcome.as_str()) {
            return Err(Code::AnswerMismatch.at_field("outcome"));
        }
        // Alone a refusal may be told before it is on record.
        if !answer.recorded && outcome != "refuse" {
            return Err(Code::AnswerMismatch.at_field("recorded"));
        }
        let permit = permit.map(|permit| {
            Permit::parse(permit)
                .filter(|_| permitted)
                .ok_or(Code::AnswerMismatch.at_field("permit"))
        });
        let permit = permit.transpose()?;
        let requires = requires.map(Requires::from);
        let action_digest: Option<Hash> = answer.action_digest.as_ref().try_into().ok();
        let evidence = answer.recorded.then(|| self.evidence(evidence, &[Kind::Verdict]));
        let evidence = evidence.transpose()?;
        if let Some(view) = evidence.as_ref().and_then(|item| item.report.facts.view.as_ref()) {
            let digest = action_digest.map(|digest| hex(&digest)).unwrap_or_default();
            says(view, "action_id", &action_id)?;
            says(view, "outcome", &outcome)?;
            says(view, "mode", &mode)?;
            says(view, "action_digest", &digest)?;
            bears_out(view, permit.as_ref(), requires.as_ref())?;
            if let Some(intent) = intent.filter(|_| outcome != "refuse") {
                answers(view, intent)?;
            }
        }
        let reasons = answer.reasons.into_iter().map(Reason::from).collect();
        Ok(Judged { action_id, outcome, mode, reasons, permit, requires, action_digest, evidence })
    }

    /// An action's records, in the order of the log.
    pub(super) fn action(&self, id: &str, answer: v1::GetActionResponse) -> Result<Action, Fault> {
        let state = State::from_text(&answer.state);
        let state = state.ok_or(Code::AnswerMismatch.at_field("state"))?;
        if answer.files.is_empty() || answer.files.len() > FILES_MAX {
            return Err(Code::AnswerMismatch.at_field("files"));
        }
        let kinds = [Kind::Intent, Kind::Verdict, Kind::Approval, Kind::Outcome];
        let mut files: Vec<EvidenceItem> = Vec::with_capacity(answer.files.len());
        for file in answer.files {
            let item = self.evidence(file.json, &kinds)?;
            if item.index.0 != file.index
                || files.last().is_some_and(|last| last.index >= item.index)
            {
                return Err(Code::AnswerMismatch.at_field("index"));
            }
            if let Some(view) = &item.report.facts.view {
                says(view, "action_id", id)?;
            }
            files.push(item);
        }
        let requires = answer.requires.map(Requires::from);
        Ok(Action { state, files, approvals: answer.approvals, requires })
    }

    /// What became of the approval with this signature (base64) for this action.
    pub(super) fn answered(
        &self,
        action_id: &str,
        signature: &str,
        answer: v1::ApproveResponse,
    ) -> Result<Answered, Fault> {
        let approval = self.evidence(answer.approval_evidence, &[Kind::Approval])?;
        if let Some(view) = &approval.report.facts.view {
            says(view, "action_id", action_id)?;
            says(view, "signature", signature)?;
        }
        let state = State::from_text(&answer.state);
        let state = state.ok_or(Code::AnswerMismatch.at_field("state"))?;
        let verdict = answer.verdict.map(|verdict| self.judged(verdict, None)).transpose()?;
        // Nothing is released on the gate's word: a final state comes with its verdict.
        let released = verdict
            .as_ref()
            .filter(|verdict| verdict.action_id == action_id && verdict.outcome == "approve");
        if state == State::Approved && released.is_none() {
            return Err(Code::AnswerMismatch.at_field("verdict"));
        }
        Ok(Answered {
            approval,
            state,
            approvals: answer.approvals,
            needed: answer.needed,
            verdict,
        })
    }

    /// An outcome on record.
    pub(super) fn reported(
        &self,
        asked: &v1::ReportOutcomeRequest,
        answer: v1::ReportOutcomeResponse,
    ) -> Result<Reported, Fault> {
        let evidence = self.evidence(answer.evidence, &[Kind::Outcome])?;
        if let Some(view) = &evidence.report.facts.view {
            says(view, "match", &answer.r#match)?;
            says(view, "result", &asked.result)?;
            // A second effect under one permit is logged as an orphan, which names none.
            if answer.r#match != "orphan" {
                says(view, "action_id", &asked.action_id)?;
            }
            says(view, "effect_digest", &asked.effect_digest)?;
        }
        Ok(Reported { r#match: answer.r#match, codes: answer.codes, evidence })
    }
}

/// The record shows this value under this name, a null where the answer has the empty text.
pub(super) fn says(view: &View, name: &'static str, value: &str) -> Result<(), Fault> {
    let said = view.get(name).ok_or(Code::AnswerMismatch.at_field(name))?;
    let fits = if said.is_null() { value.is_empty() } else { said.as_str() == Some(value) };
    if fits { Ok(()) } else { Err(Code::AnswerMismatch.at_field(name)) }
}

/// Permit and requirements are those on record, the nonce included.
fn bears_out(
    view: &View,
    permit: Option<&Permit>,
    requires: Option<&Requires>,
) -> Result<(), Fault> {
    if let Some(permit) = permit {
        let wrong = Code::AnswerMismatch.at_field("permit");
        let recorded = view.get("permit").ok_or(wrong)?;
        let member = |name| recorded.get(name).and_then(Value::as_str);
        if member("id") != Some(&permit.id)
            || member("audience") != Some(&permit.audience)
            || member("not_after").and_then(Micros::parse) != Some(permit.not_after)
        {
            return Err(wrong);
        }
        says(view, "nonce", &hex(&permit.nonce))?;
    }
    let recorded = view.get("requires").filter(|value| !value.is_null());
    match (recorded, requires) {
        (None, None) => Ok(()),
        (Some(recorded), Some(requires)) if requires.is(recorded) => Ok(()),
        _ => Err(Code::AnswerMismatch.at_field("requires")),
    }
}

/// A release is of what was asked for: verb, actor and resource are those of the intent.
fn answers(view: &View, intent: &str) -> Result<(), Fault> {
    let asked = json::parse(intent)?;
    let inner = |value: Option<&Value>| value.and_then(|v| v.get("id")).cloned();
    if asked.get("verb") != view.get("action") {
        return Err(Code::AnswerMismatch.at_field("action"));
    }
    for name in ["actor", "resource"] {
        if inner(asked.get(name)) != inner(view.get(name)) {
            return Err(Code::AnswerMismatch.at_field("action"));
        }
    }
    match asked.get("action_id").and_then(Value::as_str) {
        Some(id) => says(view, "action_id", id),
        None => Ok(()),
    }
}

impl Requires {
    fn is(&self, recorded: &Value) -> bool {
        let roles = recorded.get("roles").and_then(Value::as_array);
        let roles = roles.map(|roles| roles.iter().filter_map(Value::as_str).collect::<Vec<_>>());
        let expires = recorded.get("expires_at").and_then(Value::as_str);
        recorded.get("approvals").and_then(Value::as_u64) == Some(u64::from(self.approvals))
            && roles.is_some_and(|roles| roles.iter().eq(&self.roles))
            && expires == Some(&self.expires_at)
    }
}

impl Permit {
    fn parse(permit: v1::Permit) -> Option<Self> {
        Some(Self {
            not_after: Micros::parse(&permit.not_after)?,
            nonce: from_hex_array(&permit.nonce)?,
            id: permit.id,
            audience: permit.audience,
        })
    }
}

/// Refuses what is no action's id before anything is asked.
pub(super) fn check_action_id(id: &str) -> Result<(), super::GateCallError> {
    if is_uuid_v7(id) {
        return Ok(());
    }
    Err(super::GateCallError::Config(
        "an action_id is a UUID of version 7 in lower case, as the verdict's record has it".into(),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test that meets the unexpected should stop there"
    )]

    use std::path::{Path, PathBuf};

    use countersign_core::encoding::b64;

    use super::*;

    fn vectors() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
    }

    fn vector(name: &str) -> String {
        std::fs::read_to_string(vectors().join(name)).unwrap()
    }

    fn verifier(with_trust: bool) -> Verifier {
        let root = |name: &str| Ok(vector(name));
        let trust = Trust::parse(&vector("trust.toml"), root).unwrap();
        let log = &trust.logs[0];
        let keys = Keyring::new(log.vkey.clone(), log.clocks.clone());
        Verifier::new(keys, with_trust.then_some(trust))
    }

    fn value(file: &str, name: &str) -> Value {
        let report = verify_file(file.as_bytes(), None);
        report.facts.view.unwrap().get(name).unwrap().clone()
    }

    /// The gate's answer that the evidence bears out.
    fn answer(file: &str) -> v1::EvaluateResponse {
        let text = |name: &str| value(file, name).as_str().unwrap().to_owned();
        let member = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
        let digest: [u8; 32] = from_hex_array(&text("action_digest")).unwrap();
        let (permit, requires) = (value(file, "permit"), value(file, "requires"));
        v1::EvaluateResponse {
            action_id: text("action_id"),
            outcome: text("outcome"),
            mode: text("mode"),
            reasons: Vec::new(),
            permit: (!permit.is_null()).then(|| v1::Permit {
                id: member(&permit, "id"),
                audience: member(&permit, "audience"),
                not_after: member(&permit, "not_after"),
                nonce: text("nonce"),
            }),
            requires: (!requires.is_null()).then(|| v1::Requires {
                approvals: u32::try_from(requires["approvals"].as_u64().unwrap()).unwrap(),
                roles: requires["roles"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|role| role.as_str().unwrap().to_owned())
                    .collect(),
                expires_at: member(&requires, "expires_at"),
            }),
            action_digest: digest.to_vec().into(),
            recorded: true,
            evidence: file.to_owned(),
        }
    }

    #[test]
    fn an_answer_is_what_its_evidence_says() {
        for name in ["refusal.evidence", "supervise-three-withheld.evidence"] {
            for with_trust in [true, false] {
                let file = vector(name);
                let judged = verifier(with_trust).judged(answer(&file), None).unwrap();
                assert_eq!(judged.evidence.unwrap().json, file, "{name}");
            }
        }
    }

    type Change = fn(&mut v1::EvaluateResponse);

    #[test]
    fn an_answer_that_its_evidence_does_not_bear_out_is_none() {
        let (refusal, supervise) =
            (vector("refusal.evidence"), vector("supervise-three-withheld.evidence"));
        let changes: [(&str, Change, Code); 11] = [
            (&refusal, |a| a.outcome = "approve".into(), Code::AnswerMismatch),
            (&refusal, |a| a.outcome = "maybe".into(), Code::AnswerMismatch),
            (&refusal, |a| a.mode = "shadow".into(), Code::AnswerMismatch),
            (&refusal, |a| a.action_digest = vec![7; 32].into(), Code::AnswerMismatch),
            (
                &refusal,
                |a| a.action_id = "019ab000-0000-7000-8000-00000000000f".into(),
                Code::AnswerMismatch,
            ),
            (&refusal, |a| a.permit = Some(v1::Permit::default()), Code::AnswerMismatch),
            (&refusal, |a| a.evidence = vector("tampered-refusal.evidence"), Code::SealSignature),
            (&refusal, |a| a.evidence = vector("genesis.evidence"), Code::AnswerMismatch),
            (&supervise, |a| a.recorded = false, Code::AnswerMismatch),
            (&supervise, |a| a.requires = None, Code::AnswerMismatch),
            (&supervise, |a| a.requires.as_mut().unwrap().approvals = 1, Code::AnswerMismatch),
        ];
        for (at, (file, change, code)) in changes.into_iter().enumerate() {
            let mut answer = answer(file);
            change(&mut answer);
            let judged = verifier(true).judged(answer, None);
            assert_eq!(judged.map(|judged| judged.outcome).unwrap_err().code, code, "{at}");
        }
    }

    /// DIG-4: the executor gets the recorded nonce, and only the recorded permit.
    #[test]
    fn a_permit_is_the_recorded_one() {
        let file = vector("approval.evidence");
        let recorded = answer(&file);
        // The vector names no audience, which every permit of a gate has.
        let unnamed = verifier(true).judged(recorded.clone(), None).unwrap_err();
        assert_eq!(unnamed.code, Code::AnswerMismatch);
        let mut without = recorded;
        without.permit = None;
        assert!(verifier(true).judged(without, None).unwrap().permit.is_none());
    }

    #[test]
    fn a_release_is_of_what_was_asked_for() {
        let file = vector("approval.evidence");
        let report = verify_file(file.as_bytes(), None);
        let view = report.facts.view.unwrap();
        let asked = |verb: &Value, resource: &str| {
            let actor = &value(&file, "actor")["id"];
            serde_json::json!({"verb": verb, "actor": {"id": actor}, "resource": {"id": resource}})
                .to_string()
        };
        let verb = value(&file, "action");
        let resource = value(&file, "resource")["id"].as_str().unwrap().to_owned();
        assert_eq!(answers(&view, &asked(&verb, &resource)), Ok(()));
        assert!(answers(&view, &asked(&verb, "another")).is_err());
        assert!(answers(&view, &asked(&"other:Verb".into(), &resource)).is_err());
    }

    #[test]
    fn an_action_is_its_own_records_in_order() {
        let (supervise, approval) =
            (vector("supervise-three-withheld.evidence"), vector("human-approval.evidence"));
        let file = |text: &str| v1::EvidenceFile {
            index: verify_file(text.as_bytes(), None).facts.index,
            json: text.to_owned(),
        };
        let answer = |files: Vec<v1::EvidenceFile>, state: &str| v1::GetActionResponse {
            state: state.to_owned(),
            files,
            approvals: 1,
            requires: None,
        };
        let id = value(&approval, "action_id").as_str().unwrap().to_owned();
        let both = vec![file(&supervise), file(&approval)];
        let action = verifier(true).action(&id, answer(both.clone(), "waiting")).unwrap();
        assert_eq!((action.state, action.files.len()), (State::Waiting, 2));
        let refused = |files, state| verifier(true).action(&id, answer(files, state)).is_err();
        assert!(refused(both.iter().rev().cloned().collect(), "waiting"));
        assert!(refused(both, "done"));
        assert!(refused(Vec::new(), "waiting"));
        assert!(refused(vec![file(&vector("refusal.evidence"))], "waiting"));
    }

    #[test]
    fn an_approval_comes_back_as_it_was_signed() {
        let approval = vector("human-approval.evidence");
        let id = value(&approval, "action_id").as_str().unwrap().to_owned();
        let signature = value(&approval, "signature").as_str().unwrap().to_owned();
        let answer = |state: &str| v1::ApproveResponse {
            approval_evidence: approval.clone(),
            state: state.to_owned(),
            approvals: 1,
            needed: 2,
            verdict: None,
        };
        assert!(verifier(true).answered(&id, &signature, answer("waiting")).is_ok());
        let other = b64(&[0; 64]);
        assert!(verifier(true).answered(&id, &other, answer("waiting")).is_err());
        // A release without its verdict is the gate's word alone.
        assert!(verifier(true).answered(&id, &signature, answer("approved")).is_err());
    }
}
