//! Showing less under the same root (EVID-11 to EVID-15).

mod guesses;

use std::collections::BTreeSet;

use countersign_core::action;
use countersign_core::codes::{Code, Culprit};
use countersign_core::disclose::{
    DIGESTED, Place, Selection, Withheld, closure, unchecked_without,
};
use countersign_core::encoding::hex;
use countersign_core::evidence::Evidence;
use countersign_core::kinds::Kind;
use countersign_core::record::DisclosedRecord;
use countersign_core::verify::{Finding, Report, Verdict, person_signed_bytes, verify};
use serde_json::{Value, json};

use super::scene::{Scene, approval};
use super::stage::{ORIGIN, verdict};

fn release(scene: &Scene) -> Evidence {
    scene.log.evidence(&scene.world, scene.release, scene.log.size())
}

fn withheld(report: &Report) -> Vec<&'static str> {
    report.facts.view.as_ref().unwrap().withheld().collect()
}

fn doubts(report: &Report) -> Vec<Code> {
    report.doubts.iter().map(|finding| finding.fault.code).collect()
}

#[test]
fn the_same_root_seal_and_receipt_with_less_shown() {
    let scene = Scene::new();
    let (whole, trust) = (release(&scene), scene.world.trust());
    let kept = whole.withhold(&Selection::Keep(&["reasons", "policy"])).unwrap();
    assert_eq!(kept.record.root(), whole.record.root());
    assert_eq!((&kept.seal, &kept.receipt), (&whole.seal, &whole.receipt));
    let report = verify(&kept, Some(&trust));
    // Of people who signed for it there is nothing left to check, and that is said.
    assert_eq!(report.result, Verdict::Indeterminate);
    let withheld = withheld(&report);
    assert!(withheld.contains(&"actor") && !withheld.contains(&"reasons"), "{withheld:?}");
    for name in ["action_id", "action_digest", "outcome", "mode", "parent", "seq"] {
        assert!(!withheld.contains(&name), "{name} is never withheld");
    }
    let some = whole.withhold(&Selection::Withhold(&["context", "consent"])).unwrap();
    let report = verify(&some, Some(&trust));
    assert_eq!(report.result, Verdict::Valid, "{report:?}");
    assert!(report.not_checked.contains(&"field:context".to_owned()));
    assert!(!report.not_checked.contains(&"action_digest".to_owned()));
    // What is withheld stays so, and a file says no more after it was read again.
    let again = Evidence::parse(&some.to_bytes()).unwrap();
    let refused = again.withhold(&Selection::Keep(&["context"])).unwrap_err();
    assert_eq!(refused.code, Code::WithholdUnknown);
}

#[test]
fn what_is_never_withheld_is_refused_by_name() {
    let scene = Scene::new();
    let whole = release(&scene);
    for name in ["outcome", "seq", "tenant", "parent", "verdict", "decision", "not_after"] {
        let refused = whole.withhold(&Selection::Withhold(&[name])).unwrap_err();
        assert_eq!(refused.code, Code::WithholdNever, "{name}");
    }
    for selection in [Selection::Withhold(&["colour"]), Selection::Keep(&["colour"])] {
        assert_eq!(whole.withhold(&selection).unwrap_err().code, Code::WithholdUnknown);
    }
}

#[test]
fn what_nobody_can_check_any_more_is_said_of_every_name_that_a_check_needs() {
    assert!(unchecked_without(Kind::Verdict, "actor").unwrap().contains("action digest"));
    assert!(unchecked_without(Kind::Approval, "signature").unwrap().contains("signature"));
    assert_eq!(unchecked_without(Kind::Verdict, "urgency"), None);
    for kind in Kind::ALL {
        for field in kind.fields() {
            let said = unchecked_without(kind, field.name);
            assert!(said.is_some() || !kind.never_withheld(field.name), "{kind:?} {}", field.name);
        }
    }
}

/// EVID-14: what goes along with a withheld input of the action digest and of the displayed text, and
/// what that costs, which the verifier says with its cause.
#[test]
fn what_would_confirm_a_guess_is_withheld_along() {
    let scene = Scene::new();
    let (whole, trust) = (release(&scene), scene.world.trust());
    // Even where it is asked to be kept.
    let keep = ["action", "resource", "actor", "nonce", "displayed_digest", "signature"];
    for selection in [Selection::Withhold(&["parameters"]), Selection::Keep(&keep)] {
        let less = whole.withhold(&selection).unwrap();
        let along = whole.taken_along(&less, &selection).unwrap();
        let of = [
            (Kind::Verdict, "nonce"),
            (Kind::Approval, "displayed_digest"),
            (Kind::Approval, "signature"),
        ];
        assert_eq!(along, BTreeSet::from(of), "{selection:?}");
        let report = verify(&less, Some(&trust));
        assert_eq!(report.result, Verdict::Indeterminate);
        assert!(doubts(&report).contains(&Code::PersonUnchecked), "{:?}", report.doubts);
        for report in std::iter::once(&report).chain(&report.supporting) {
            let (withheld, kind) = (withheld(report), report.facts.view.as_ref().unwrap().kind());
            let gone: &[&str] =
                if kind == Kind::Verdict { &["nonce"] } else { &["displayed_digest", "signature"] };
            assert!(gone.iter().all(|name| withheld.contains(name)), "{kind:?} {withheld:?}");
        }
        // A file of an earlier program, which left them, is mended in the same way.
        let mended = less.closed().unwrap();
        assert_eq!(mended, less);
        assert_eq!(naive(&whole, "parameters").closed().unwrap(), {
            whole.withhold(&Selection::Withhold(&["parameters"])).unwrap()
        });
    }
    let less = whole.withhold(&Selection::Withhold(&["justification"])).unwrap();
    let report = verify(&less, Some(&trust));
    let approvals: Vec<&Report> = report.supporting.iter().skip(1).collect();
    assert!(approvals.iter().all(|of| withheld(of) == ["justification", "signature"]));
    let named = |index: u64| {
        let of = |finding: &Finding| finding.fault == Code::PersonUnchecked.at_index(index);
        report.doubts.iter().filter(|finding| of(finding)).count()
    };
    assert!(approvals.iter().all(|of| named(of.facts.index) == 1), "{:?}", report.doubts);
    assert_eq!(report.doubts.len(), 2, "each approval is named once: {:?}", report.doubts);
}

/// The table of what goes along is that of what is hashed and signed: every name without which a
/// digest or a signed text can't be made takes the digest's nonce, or the signature, along.
#[test]
fn everything_that_is_hashed_or_signed_takes_along_what_it_is_hashed_or_signed_into() {
    let scene = Scene::new();
    let closed = |kind, name: &'static str| {
        let names = BTreeSet::from([name]);
        closure(vec![Withheld { kind, names }]).remove(0).names
    };
    for kind in Kind::ALL {
        let row = scene.log.rows.iter().find(|row| row.record.kind() == kind);
        for field in kind.fields().iter().filter(|field| !kind.never_withheld(field.name)) {
            let along = closed(kind, field.name);
            assert!(!along.iter().any(|name| kind.never_withheld(name)), "{kind:?} {along:?}");
            let Some(row) = row else { continue };
            let mut part = DisclosedRecord::clone(&row.disclosed);
            let at = kind.fields().iter().position(|other| other.name == field.name).unwrap();
            part.fields[at] = part.fields[at].withheld();
            let view = part.view(kind).unwrap();
            if matches!(kind, Kind::Verdict | Kind::Intent) && field.name != "nonce" {
                let needed = action::digest(&view).unwrap().is_none();
                assert_eq!(needed, along.contains("nonce"), "{kind:?} {}", field.name);
                // An intent's digest may be withheld: it is no input of itself.
                assert_eq!(needed, DIGESTED.contains(&field.name), "{kind:?} {}", field.name);
            }
            if kind.signed_by_person() && person_signed_bytes(&view, ORIGIN, [0; 32]).is_none() {
                assert!(along.contains("signature"), "{kind:?} {}", field.name);
            }
        }
        // REC-10: what an erasure leaves of a record confirms nothing.
        let names = kind.fields().iter().map(|field| field.name);
        let names: BTreeSet<_> = names.filter(|name| !kind.never_withheld(name)).collect();
        let erased = vec![Withheld { kind, names }];
        assert_eq!(closure(erased.clone()), erased);
    }
}

/// EVID-15: a value that is withheld and stands somewhere else too is found there.
#[test]
fn what_is_told_elsewhere_is_found() {
    let mut scene = Scene::new();
    let say = json!({
        "context": { "task": { "ticket": "OPS-1711" }, "session": "s-1", "amount": 250_000 },
        "entities": [{ "uid": { "type": "Human", "id": "carol" } }],
        "errors": ["no such host: billing-db-7"],
        "task": {
            "ticket": "OPS-1711", "grant": null, "scope_digest": null,
            "justification": "the environment is old",
        },
        "parameters": { "host": "Billing-DB-7", "amount": "250000", "count": 12 },
        "consent": { "by": "carol" },
        "urgency": "seldom",
    });
    let at = scene.log.say(&mut scene.gate, Kind::Verdict, &verdict(20, "refuse", &say));
    let bare = verdict(21, "refuse", &json!({ "nonce": null }));
    let bare = scene.log.say(&mut scene.gate, Kind::Verdict, &bare);
    let release = scene.release;
    scene.log.settle();
    let told = |at: usize, names: &[&str]| {
        let whole = scene.log.evidence(&scene.world, at, scene.log.size());
        let less = whole.withhold(&Selection::Withhold(names)).unwrap();
        let told = whole.repeated(&less).unwrap();
        told.into_iter().map(|told| (told.name, told.place)).collect::<Vec<_>>()
    };
    let field = |name| Place::Field(Kind::Verdict, name);
    assert_eq!(told(at, &["task"]), [("task", field("context"))]);
    assert_eq!(
        told(at, &["parameters"]),
        [("parameters", field("context")), ("parameters", field("errors"))]
    );
    assert_eq!(told(at, &["actor"]), [("actor", field("context"))]);
    assert_eq!(told(at, &["consent"]), [("consent", field("entities"))]);
    assert_eq!(told(at, &["urgency"]), []);
    // The policy is named as the environment is. A type's name in a sentence is a word like others.
    assert_eq!(told(at, &["resource"]), [("resource", field("policy"))]);
    // What context alone holds is its own; the fields that it was copied from have their own names.
    assert_eq!(told(at, &["context"]), []);
    assert_eq!(told(at, &["task", "context"]), []);
    // A withheld approver is named by the certificate, and the role by what was required.
    let found = told(release, &["approver"]);
    assert!(found.contains(&("approver", Place::Certificate(Kind::Approval))), "{found:?}");
    assert!(found.contains(&("approver", field("requires"))), "{found:?}");
    // Without a nonce the digest, which is never withheld, confirms guesses.
    assert!(told(bare, &["parameters"]).contains(&("parameters", Place::Digest)));
    assert_eq!(told(bare, &["urgency"]), []);
}

/// What lacks is the trust file, or its section: that is said once, and never that something was
/// withheld.
#[test]
fn a_person_who_was_not_checked_is_told_with_the_true_cause() {
    let scene = Scene::new();
    let whole = release(&scene);
    assert_eq!(doubts(&verify(&whole, None)), [Code::NoTrust]);
    let mut trust = scene.world.trust();
    trust.people = None;
    assert_eq!(doubts(&verify(&whole, Some(&trust))), [Code::PeopleAbsent]);
    let less = whole.withhold(&Selection::Withhold(&["approver"])).unwrap();
    let report = verify(&less, Some(&scene.world.trust()));
    let said = |finding: &&Finding| finding.fault.code == Code::PersonUnchecked;
    let said: Vec<_> = report.doubts.iter().filter(said).map(|f| f.fault.culprit).collect();
    assert_eq!(said, [Culprit::Field("approver")]);
}

/// The same file with one name withheld and nothing else, as if hashes and signatures were no matter.
fn naive(whole: &Evidence, name: &str) -> Evidence {
    let mut out = whole.clone();
    let all = std::iter::once(&mut out.record);
    for record in all.chain(out.supporting.iter_mut().map(|of| &mut of.record)) {
        let kind = Kind::from_type(&record.type_shown().unwrap()).unwrap();
        if let Some(at) = kind.fields().iter().position(|field| field.name == name) {
            record.fields[at] = record.fields[at].withheld();
        }
    }
    out
}

/// A released action of these values, with a text that its approvers were shown.
fn released(scene: &mut Scene, change: &Value) -> Evidence {
    let expires = json!({ "approvals": 1, "roles": ["on-call"], "expires_at": null });
    let mut say = json!({ "requires": expires, "nonce": "0af9c3d1e2b7485596a1b2c3d4e5f607" });
    for (name, value) in change.as_object().unwrap() {
        say[name] = value.clone();
    }
    let asks = verdict(30, "supervise", &say);
    let supervise = scene.log.say(&mut scene.gate, Kind::Verdict, &asks);
    let view = scene.log.rows[supervise].record.view();
    let text = guesses::displayed(view, &scene.log.root_of(supervise).hex());
    let mut grant = approval(&scene.log, supervise, &scene.alice, "alice", "grant");
    grant["displayed_digest"] = hex(&guesses::digest_of_displayed(&text)).into();
    for name in ["justification", "nonce"] {
        if let Some(value) = change.get("approval").and_then(|of| of.get(name)) {
            grant[name] = value.clone();
        }
    }
    let grant = scene.log.signed(&mut scene.gate, Kind::Approval, grant, &scene.alice);
    say["requires"] = Value::Null;
    say["parent"] = scene.log.root_of(supervise).hex().into();
    say["approvals"] = json!([scene.log.root_of(grant).hex()]);
    let rests = vec![supervise, grant];
    let approve = verdict(30, "approve", &say);
    let at = scene.log.say_with(&mut scene.gate, Kind::Verdict, &approve, Vec::new(), rests);
    evidence(scene, at)
}

fn evidence(scene: &mut Scene, at: usize) -> Evidence {
    scene.log.settle();
    scene.log.evidence(&scene.world, at, scene.log.size())
}
