//! Showing less under the same root (EVID-11 to EVID-13).

use countersign_core::codes::Code;
use countersign_core::disclose::{Selection, unchecked_without};
use countersign_core::evidence::Evidence;
use countersign_core::hash::Context;
use countersign_core::kinds::Kind;
use countersign_core::record::Field;
use countersign_core::verify::{Verdict, verify};

use super::scene::Scene;

fn release(scene: &Scene) -> Evidence {
    scene.log.evidence(&scene.world, scene.release, scene.log.size())
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
    let withheld: Vec<&str> = report.facts.view.as_ref().unwrap().withheld().collect();
    assert!(withheld.contains(&"actor") && !withheld.contains(&"reasons"), "{withheld:?}");
    for name in ["action_id", "action_digest", "outcome", "mode", "parent", "seq"] {
        assert!(!withheld.contains(&name), "{name} is never withheld");
    }
    let some = whole.withhold(&Selection::Withhold(&["context", "actor"])).unwrap();
    let report = verify(&some, Some(&trust));
    assert_eq!(report.result, Verdict::Valid, "{report:?}");
    assert!(report.not_checked.contains(&"field:actor".to_owned()));
    assert!(report.not_checked.contains(&"action_digest".to_owned()));
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

/// A withheld field of few possible values: who has only its leaf can try every value, and every
/// salt that comes to mind, and learns nothing; with the salt the same search finds it at once.
#[test]
fn a_guess_at_a_withheld_field_cannot_be_confirmed() {
    const GUESSES: u32 = 1 << 20;
    let scene = Scene::new();
    let whole = release(&scene);
    let at = Kind::Verdict.fields().iter().position(|field| field.name == "loss_class").unwrap();
    let Field::Shown(shown) = &whole.record.fields[at] else { panic!("it is shown") };
    let less = whole.withhold(&Selection::Withhold(&["loss_class"])).unwrap();
    let Field::Withheld(leaf) = &less.record.fields[at] else { panic!("it is withheld") };
    let values = ["null", "\"low\"", "\"medium\"", "\"high\""];
    let found = |salt: &str| {
        values.iter().any(|value| {
            let bytes = format!("[\"{salt}\",\"loss_class\",{value}]");
            Context::Field.hash(&[bytes.as_bytes()]) == *leaf
        })
    };
    assert!(found(&shown[2..24]), "with its salt the search finds the value");
    for guess in 0..GUESSES / 4 {
        let mut salt = [0; 16];
        salt[12..].copy_from_slice(&guess.to_be_bytes());
        assert!(!found(&b64u(&salt)), "{guess}");
    }
}

fn b64u(bytes: &[u8]) -> String {
    countersign_core::encoding::b64u(bytes)
}
