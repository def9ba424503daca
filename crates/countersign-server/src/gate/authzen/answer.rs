//! What the gate said, as an AuthZEN decision (AZN-7, AZN-8).

use countersign_core::encoding::hex;
use countersign_core::evidence::Evidence;
use countersign_gate::GateCode;
use countersign_proto::v1::{EvaluateResponse, Permit, Reason, Requires};
use serde_json::{Map, Value, json};

use super::request::Malformed;

/// The key of a denial's reasons in `reason_admin` and `reason_user`, as in the standard's example.
const DENIED: &str = "403";

/// Whether to go ahead.
///
/// An enforcing gate: `true` for an approve that is in the log with its verified evidence, and
/// whose permit is still there to be used; for nothing else (AZN-7). A gate in shadow mode stands
/// in nobody's way: `true` for whatever it says, unless a kill switch says no (AZN-8).
pub(super) fn goes_ahead(answer: &EvaluateResponse) -> bool {
    if answer.mode == "shadow" {
        return !answer.reasons.iter().any(|reason| reason.code == GateCode::Halted.as_str());
    }
    has_authority(answer)
}

/// Whether the answer is leave to act.
fn has_authority(answer: &EvaluateResponse) -> bool {
    answer.mode == "enforce"
        && answer.outcome == "approve"
        && answer.recorded
        && !answer.evidence.is_empty()
        && answer.permit.is_some()
}

/// The decision, with all that the gate said in its context.
pub(super) fn decision(answer: &EvaluateResponse, ignored: &[String]) -> Value {
    let authority = has_authority(answer);
    let mut context = Map::new();
    let mut add = |name: &str, value: Value| {
        context.insert(name.to_owned(), value);
    };
    add("id", answer.action_id.clone().into());
    add("outcome", answer.outcome.clone().into());
    add("mode", answer.mode.clone().into());
    add("authority", authority.into());
    add("reasons", answer.reasons.iter().map(reason).collect());
    add("evidence", evidence(answer));
    if !answer.action_digest.is_empty() {
        add("action_digest", hex(&answer.action_digest).into());
    }
    if answer.outcome != "approve" {
        add("reason_admin", json!({ DENIED: for_administrators(&answer.reasons) }));
        if let Some(text) = for_users(&answer.reasons) {
            add("reason_user", json!({ DENIED: text }));
        }
    }
    // A permit says "may" wherever it stands: without authority it is not passed on.
    if let Some(permit) = answer.permit.as_ref().filter(|_| authority) {
        add("obligations", obligations(permit));
    }
    if let Some(requires) = answer.requires.as_ref().filter(|_| answer.outcome == "supervise") {
        add("access_request", access_request(&answer.action_id, requires));
    }
    if !ignored.is_empty() {
        add("ignored", json!(ignored));
    }
    json!({ "decision": goes_ahead(answer), "context": context })
}

/// A denial of one evaluation of a batch that could not be judged (AZN-9).
pub(super) fn failed(status: u16, message: &str) -> Value {
    json!({ "decision": false, "context": { "error": { "status": status, "message": message } } })
}

/// The same, where the caller is at fault.
pub(super) fn malformed(fault: &Malformed) -> Value {
    failed(400, &fault.to_string())
}

fn reason(reason: &Reason) -> Value {
    let or_null = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "code": reason.code,
        "policy": or_null(&reason.policy),
        "text": or_null(&reason.text),
    })
}

fn for_administrators(reasons: &[Reason]) -> String {
    let each = reasons.iter().map(|reason| match reason.policy.as_str() {
        "" => reason.code.clone(),
        policy => format!("{} ({policy})", reason.code),
    });
    each.collect::<Vec<_>>().join("; ")
}

/// The texts that policies have for people; the gate's own may name what is nobody's business.
fn for_users(reasons: &[Reason]) -> Option<String> {
    let by_policy = reasons.iter().filter(|reason| !reason.policy.is_empty());
    let texts: Vec<&str> =
        by_policy.map(|reason| reason.text.as_str()).filter(|text| !text.is_empty()).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

fn obligations(permit: &Permit) -> Value {
    json!([
        {
            "id": "use_permit",
            "permit": permit.id,
            "audience": permit.audience,
            "not_after": permit.not_after,
            "nonce": permit.nonce,
            "text": "Act once, before not_after, and only if the action digest recomputed with \
                     nonce from what is about to be done equals action_digest.",
        },
        {
            "id": "report_outcome",
            "permit": permit.id,
            "rpc": "countersign.v1.GateService/ReportOutcome",
            "text": "Report what became of it, also if it was not done.",
        },
    ])
}

/// What releases a supervised action. `requestable` is false as drafts of the AuthZEN access
/// request profile mean it: there is nothing left to submit, for the verdict is the request.
fn access_request(action_id: &str, requires: &Requires) -> Value {
    json!({
        "requestable": false,
        "state": "waiting",
        "requires": {
            "approvals": requires.approvals,
            "roles": requires.roles,
            "expires_at": requires.expires_at,
        },
        "approve": format!("countersign approve {action_id}"),
        "poll": { "context": { "action_id": action_id } },
        "text": "People approve it with their own keys. Send the same request with this \
                 context.action_id to learn of it; do not act before decision is true.",
    })
}

fn evidence(answer: &EvaluateResponse) -> Value {
    // It was verified by the gate; the index is told so that nobody has to look for it.
    let parsed = Evidence::parse(answer.evidence.as_bytes()).ok();
    json!({
        "recorded": answer.recorded,
        "index": parsed.map(|evidence| evidence.receipt.index.0),
        "file": (!answer.evidence.is_empty()).then_some(answer.evidence.as_str()),
    })
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may stop where it stands")]
mod tests {
    use super::*;

    /// Evidence that is in the repository.
    const REFUSAL: &str = include_str!("../../../../../spec/vectors/refusal.evidence");

    fn approve() -> EvaluateResponse {
        EvaluateResponse {
            action_id: "0193ad5e-7c00-7000-8000-000000000001".to_owned(),
            outcome: "approve".to_owned(),
            mode: "enforce".to_owned(),
            permit: Some(Permit { id: "p-1".to_owned(), ..Permit::default() }),
            action_digest: vec![7; 32].into(),
            recorded: true,
            evidence: REFUSAL.to_owned(),
            ..EvaluateResponse::default()
        }
    }

    #[test]
    fn azn_7_true_is_an_enforced_recorded_approve_with_its_permit_and_nothing_less() {
        assert_eq!(decision(&approve(), &[])["decision"], true);
        assert_eq!(decision(&approve(), &[])["context"]["authority"], true);
        let cases: [fn(&mut EvaluateResponse); 9] = [
            |a| a.outcome = "refuse".to_owned(),
            |a| a.outcome = "supervise".to_owned(),
            |a| a.outcome = "Approve".to_owned(),
            |a| a.outcome = String::new(),
            |a| a.mode = String::new(),
            |a| a.mode = "Shadow".to_owned(),
            |a| a.recorded = false,
            |a| a.evidence = String::new(),
            |a| a.permit = None,
        ];
        for change in cases {
            let mut answer = approve();
            change(&mut answer);
            let decision = decision(&answer, &[]);
            assert_eq!(decision["decision"], false, "{answer:?}");
            assert_eq!(decision["context"]["authority"], false, "{answer:?}");
            assert_eq!(decision["context"].get("obligations"), None, "{answer:?}");
        }
        assert_eq!(decision(&EvaluateResponse::default(), &[])["decision"], false);
    }

    #[test]
    fn azn_8_a_shadow_gate_stands_in_nobodys_way_and_has_no_authority() {
        for outcome in ["approve", "refuse", "supervise"] {
            let answer = EvaluateResponse {
                outcome: outcome.to_owned(),
                mode: "shadow".to_owned(),
                ..approve()
            };
            let said = decision(&answer, &[]);
            assert_eq!(said["decision"], true, "{outcome}");
            assert_eq!(said["context"]["authority"], false, "{outcome}");
            assert_eq!(said["context"]["mode"], "shadow");
            assert_eq!(said["context"]["outcome"], outcome);
            assert_eq!(said["context"].get("obligations"), None, "{outcome}");
        }
        let halted = Reason { code: "HALTED".to_owned(), ..Reason::default() };
        let answer = EvaluateResponse {
            outcome: "refuse".to_owned(),
            mode: "shadow".to_owned(),
            reasons: vec![halted],
            ..approve()
        };
        assert_eq!(decision(&answer, &[])["decision"], false, "a kill switch holds in every mode");
    }

    #[test]
    fn azn_11_the_context_says_all_that_the_gate_said() {
        let requires = Requires {
            approvals: 2,
            roles: vec!["sre-oncall".to_owned()],
            expires_at: "2026-11-23T13:00:00.000000Z".to_owned(),
        };
        let reason = Reason {
            code: "S_PROD".to_owned(),
            policy: "supervise.prod".to_owned(),
            text: "Production needs two people.".to_owned(),
        };
        let answer = EvaluateResponse {
            outcome: "supervise".to_owned(),
            permit: None,
            requires: Some(requires),
            reasons: vec![reason],
            ..approve()
        };
        let context = &decision(&answer, &["subject.x".to_owned()])["context"];
        assert_eq!(context["id"], answer.action_id);
        assert_eq!(context["action_digest"], "07".repeat(32));
        assert_eq!(context["reasons"][0]["policy"], "supervise.prod");
        assert_eq!(context["reason_admin"]["403"], "S_PROD (supervise.prod)");
        assert_eq!(context["reason_user"]["403"], "Production needs two people.");
        let request = &context["access_request"];
        assert_eq!(request["requires"]["approvals"], 2);
        assert_eq!(request["poll"]["context"]["action_id"], answer.action_id);
        assert_eq!(context["ignored"][0], "subject.x");
        assert_eq!(context["evidence"]["recorded"], true);
        assert_eq!(context["evidence"]["file"], REFUSAL);
        assert!(context["evidence"]["index"].is_u64(), "{context}");
        let approved = &decision(&approve(), &[])["context"];
        assert_eq!(approved["obligations"][0]["permit"], "p-1");
        assert_eq!(approved["obligations"][1]["id"], "report_outcome");
        assert_eq!(approved.get("access_request"), None);
    }
}
