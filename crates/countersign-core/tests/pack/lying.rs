//! Ledgers and gates that lie together, with all their keys at hand: whatever they sign again, the
//! pack shows it. What a ledger does alone is in countersign-log's `lying.rs`.

mod cuts;

use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::pack::{PackFile, PackReport};
use countersign_core::query::Query;
use countersign_core::verify::Verdict;
use serde_json::{Value, json};

use super::overlooked::withhold;
use super::scene::{Scene, approval, outcome, permit};
use super::stage::{NOON, Pack, SECOND, verdict};

/// A lie about what is in the log, before it is hashed and signed.
type Lie = fn(&mut Scene);

fn pack_of(scene: &mut Scene, lie: Lie) -> Pack {
    lie(scene);
    scene.log.settle();
    scene.pack(0)
}

fn refuse(scene: &mut Scene, n: u64, say: &Value) -> usize {
    scene.log.say(&mut scene.gate, Kind::Verdict, &verdict(n, "refuse", say))
}

const LIES: &[(&str, Lie, Code)] = &[
    (
        "a heartbeat in the middle is omitted",
        |s| {
            s.log.say(&mut s.gate, Kind::Verdict, &verdict(30, "refuse", &json!({})));
            s.log.forget(s.heartbeat);
        },
        Code::PackSeqGap,
    ),
    (
        "another tenant's stream is forked",
        |s| {
            let mut twin = s.foreign.clone();
            s.log.say(&mut s.foreign, Kind::Verdict, &verdict(31, "refuse", &json!({})));
            s.log.say(&mut twin, Kind::Verdict, &verdict(32, "refuse", &json!({})));
        },
        Code::PackSeqRepeated,
    ),
    (
        "a number is skipped by gate and ledger together",
        |s| {
            s.gate.seq += 1;
            refuse(s, 31, &json!({}));
        },
        Code::PackSeqGap,
    ),
    (
        "a second genesis",
        |s| {
            let say = s.log.rows[0].record.view().clone();
            let say = say.shown().map(|(field, value)| (field.name.to_owned(), value.clone()));
            let mut say: serde_json::Map<String, Value> = say.collect();
            say.remove("seq");
            say.remove("prev");
            s.log.own(&s.world, Kind::Genesis, &Value::Object(say), Vec::new());
        },
        Code::GenesisPlace,
    ),
    // The lifecycle, which a lying ledger let through.
    (
        "an action gets a second first verdict",
        |s| {
            refuse(s, 2, &json!({}));
        },
        Code::DuplicateVerdict,
    ),
    (
        "a supervised action is resolved twice",
        |s| {
            let parent = s.log.root_of(s.supervise).hex();
            let say = verdict(3, "refuse", &json!({ "parent": parent }));
            s.log.say_with(&mut s.gate, Kind::Verdict, &say, Vec::new(), vec![s.supervise]);
        },
        Code::ParentAnswered,
    ),
    (
        "an approve is voided after its permit was used",
        |s| {
            let parent = s.log.root_of(s.approve).hex();
            let say = verdict(2, "refuse", &json!({ "parent": parent }));
            s.log.say_with(&mut s.gate, Kind::Verdict, &say, Vec::new(), vec![s.approve]);
        },
        Code::VoidTooLate,
    ),
    (
        "an approve is voided after its permit ended",
        |s| {
            let at =
                s.log.say(&mut s.gate, Kind::Verdict, &verdict(33, "approve", &permit("p-33")));
            s.log.now = Micros(NOON.0 + 7_200 * SECOND);
            let say = verdict(33, "refuse", &json!({ "parent": s.log.root_of(at).hex() }));
            s.log.say_with(&mut s.gate, Kind::Verdict, &say, Vec::new(), vec![at]);
        },
        Code::VoidTooLate,
    ),
    (
        "a permit is used twice",
        |s| {
            let say = outcome(&s.log, 2, s.approve, "p-2");
            s.log.say(&mut s.gate, Kind::Outcome, &say);
        },
        Code::PermitUsed,
    ),
    (
        "an outcome names another permit",
        |s| {
            let say = outcome(&s.log, 4, s.voided, "p-2");
            s.log.say(&mut s.gate, Kind::Outcome, &say);
        },
        Code::PermitUnknown,
    ),
    (
        "an outcome is corrected twice",
        |s| {
            for result in ["failed", "reverted"] {
                let mut say = outcome(&s.log, 2, s.approve, "p-2");
                say["supersedes"] = s.log.root_of(s.outcome).hex().into();
                say["result"] = result.into();
                s.log.say(&mut s.gate, Kind::Outcome, &say);
            }
        },
        Code::SupersedesUnknown,
    ),
    (
        "an approval answers a verdict that asks for none",
        |s| {
            let say = approval(&s.log, s.approve, &s.alice, "alice", "grant");
            let alice = s.alice.clone();
            s.log.signed(&mut s.gate, Kind::Approval, say, &alice);
        },
        Code::ApprovalOtherVerdict,
    ),
    (
        "an action is released though somebody denied it",
        |s| {
            let asks = json!({ "requires": { "approvals": 1, "roles": [], "expires_at": null } });
            let asks = s.log.say(&mut s.gate, Kind::Verdict, &verdict(34, "supervise", &asks));
            let answer = |s: &mut Scene, who: &str, decision: &str| {
                let person = if who == "alice" { s.alice.clone() } else { s.bob.clone() };
                let say = approval(&s.log, asks, &person, who, decision);
                s.log.signed(&mut s.gate, Kind::Approval, say, &person)
            };
            let granted = answer(s, "alice", "grant");
            answer(s, "bob", "deny");
            let listed = [s.log.root_of(granted).hex()];
            let say = json!({ "parent": s.log.root_of(asks).hex(), "approvals": listed });
            let say = verdict(34, "approve", &say);
            let rests = vec![asks, granted];
            s.log.say_with(&mut s.gate, Kind::Verdict, &say, Vec::new(), rests);
        },
        Code::ActionDenied,
    ),
    (
        "an outcome without an action uses a permit",
        |s| {
            let mut say = outcome(&s.log, 2, s.approve, "p-2");
            say["action_id"] = Value::Null;
            s.log.say(&mut s.gate, Kind::Outcome, &say);
        },
        Code::VerdictUnknown,
    ),
    (
        "an action has more records than one may have",
        |s| {
            for _ in 0..257 {
                let say = super::scene::intent(40);
                s.log.say(&mut s.gate, Kind::Intent, &say);
            }
        },
        Code::ActionFull,
    ),
    (
        "the gate of another tenant writes acme's record",
        |s| {
            let mut forged = s.foreign.clone();
            "acme".clone_into(&mut forged.tenant);
            forged.stream = s.gate.stream;
            (forged.seq, forged.prev) = (s.gate.seq, s.gate.prev);
            s.log.say(&mut forged, Kind::Verdict, &verdict(35, "refuse", &json!({})));
        },
        Code::SealerUntrusted,
    ),
    (
        "the ledger seals a gate's record itself",
        |s| {
            let key = s.world.ledger_key.clone();
            s.gate.holder.key = key;
            refuse(s, 36, &json!({}));
        },
        Code::SealerUntrusted,
    ),
    (
        "a record is dated an hour ahead",
        |s| {
            let at = Micros(s.log.now.0 + 3_600 * SECOND).format();
            refuse(s, 37, &json!({ "recorded_at": at }));
        },
        Code::RecordedAhead,
    ),
];

#[test]
fn whatever_the_ledger_signs_again_its_lie_shows() {
    for (name, lie, code) in LIES {
        let mut scene = Scene::new();
        let trust = scene.world.trust();
        let report = pack_of(&mut scene, *lie).check(&trust);
        assert_eq!(report.result, Verdict::Invalid, "{name}");
        let codes: Vec<Code> = report.findings.iter().map(|found| found.fault.code).collect();
        assert!(codes.contains(code), "{name}: {codes:?}");
        assert!(report.statement(9).is_empty(), "{name}: what is wrong is not repeated");
        for finding in &report.findings {
            let place = &finding.place;
            assert!(place.file.is_some() || place.index.is_some(), "{name}: a culprit is named");
        }
    }
}

/// Without a claim there are no entries to compare with; what the files show of the order must fit
/// all the same.
#[test]
fn a_pack_without_a_claim_shows_forks_and_backdating_too() {
    let cases: &[(&str, Lie, Code)] = &[
        (
            "fork",
            |s| {
                let mut twin = s.gate.clone();
                refuse(s, 31, &json!({}));
                s.log.say(&mut twin, Kind::Verdict, &verdict(32, "refuse", &json!({})));
            },
            Code::PackSeqRepeated,
        ),
        (
            "skipped",
            |s| {
                s.gate.seq += 5;
                refuse(s, 31, &json!({}));
            },
            Code::PackSeqGap,
        ),
        (
            "branch",
            |s| {
                s.gate.prev = RecordRoot([7; 32]);
                refuse(s, 31, &json!({}));
            },
            Code::PackPrev,
        ),
        (
            "backdated",
            |s| {
                refuse(s, 31, &json!({}));
                let last = s.log.rows.len() - 1;
                s.log.rows[last].entry.logged_at.0 -= 10 * SECOND;
            },
            Code::PackTimeOrder,
        ),
    ];
    for (name, lie, code) in cases {
        let mut scene = Scene::new();
        let from = scene.heartbeat;
        lie(&mut scene);
        scene.log.settle();
        let all: Vec<usize> = (from..scene.log.rows.len()).collect();
        let pack = scene.log.some(&scene.world, Query::default(), &all);
        let report = pack.check(&scene.world.trust());
        let found = report.decisive().map(|finding| finding.fault.code);
        assert_eq!(found, Some(*code), "{name}: {:#?}", report.findings);
    }
}

/// Whoever holds a pack could put a void, or a second verdict, among what supports an earlier
/// record: it then counted as seen, and was judged no more. Nothing stands there that the record
/// does not rest on (EVID-6).
#[test]
fn what_supports_an_earlier_record_hides_no_later_one() {
    let moved = |scene: &Scene, into: usize, what: &[usize]| {
        let (log, world) = (&scene.log, &scene.world);
        let mut pack = scene.pack(0);
        let mut evidence = log.evidence(world, into, log.size());
        for at in what {
            let mut inner = log.evidence(world, *at, log.size());
            inner.supporting.clear();
            evidence.supporting.push(inner);
        }
        pack.put(PackFile::Evidence(into as u64), evidence.to_bytes());
        pack.check(&world.trust())
    };
    let found = |report: &PackReport| report.decisive().map(|finding| finding.fault.code);
    let scene = Scene::new();
    let report = moved(&scene, scene.voided, &[scene.void]);
    assert_eq!(found(&report), Some(Code::SupportingUnrelated), "{:#?}", report.findings);

    let mut scene = Scene::new();
    let again = refuse(&mut scene, 1, &json!({}));
    scene.log.settle();
    let attempt = scene.refusal - 1;
    let report = moved(&scene, attempt, &[scene.refusal, again]);
    assert_eq!(found(&report), Some(Code::SupportingUnrelated), "{:#?}", report.findings);

    // A denial is of the approve's own action, and yet it came later and is judged by itself.
    let mut scene = Scene::new();
    let bob = scene.bob.clone();
    let say = approval(&scene.log, scene.supervise, &bob, "bob", "deny");
    let denied = scene.log.signed(&mut scene.gate, Kind::Approval, say, &bob);
    scene.log.settle();
    let release = scene.release;
    let report = moved(&scene, release, &[denied]);
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    assert_eq!(report.complete.unwrap().records.approvals, 3);
}

/// PACK-26: what a record rests on is of its own tenant, though its gate names another's.
#[test]
fn what_a_record_rests_on_is_of_its_tenant() {
    let build = || {
        let mut scene = Scene::new();
        let foreign = scene.refusal + 1;
        let mut say = outcome(&scene.log, 1, foreign, "p-1");
        say["permit"] = Value::Null;
        let at =
            scene.log.say_with(&mut scene.gate, Kind::Outcome, &say, Vec::new(), vec![foreign]);
        (scene, at)
    };
    let (mut scene, _) = build();
    scene.log.settle();
    let report = scene.pack(0).check(&scene.world.trust());
    let found = report.decisive().map(|finding| finding.fault);
    assert_eq!(found, Some(Code::ParentMismatch.at_field("tenant")), "{:#?}", report.findings);
    // Its own tenant withheld, the pack says whose it must be.
    let (mut scene, at) = build();
    withhold(&mut scene, at, "tenant");
    scene.log.settle();
    let report = scene.pack(0).check(&scene.world.trust());
    let found = report.decisive().map(|finding| finding.fault.code);
    assert_eq!(found, Some(Code::PackForeign), "{:#?}", report.findings);
}
