//! Erasure through the log: what goes, what stays, and who may not ask for it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, hex, lp};
use countersign_core::hash::{LeafIndex, RecordRoot, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::query::{Field, Filter, Query, Row};
use countersign_core::verify::Verdict;
use countersign_log::api::{Erasure, ErasureRequest, PageRequest, ProveAt, RecordAt};
use countersign_log::ledger::Ledger;
use countersign_testkit::checker::check_whole_log;
use countersign_testkit::faults::{Faults, Injected, Write};
use countersign_testkit::memory::MemoryStore;
use ed25519_dalek::Signer as _;
use serde_json::{Value, json};

use support::{Gate, Holder, NOON, ORIGIN, World, action, only, verdict};

const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;
/// What nobody may read any more.
const PLANTED: &str = "ms-jane-roe-born-1984";

struct Stage {
    world: World,
    store: Arc<MemoryStore>,
    ledger: Ledger<MemoryStore>,
    gate: Gate,
    admin: Holder,
}

/// The values of a verdict about a person.
fn about(n: u64, outcome: &str) -> Value {
    let say = json!({
        "actor": {
            "kind": "agent", "id": PLANTED, "class": null, "session": "s-1", "model": null,
            "on_behalf_of": null,
        },
    });
    verdict(n, outcome, &say)
}

impl Stage {
    /// Ten refusals at 3 to 12, a supervise at 13, an approve with a permit at 14; a day later.
    async fn new() -> Self {
        let world = World::new();
        let store = Arc::new(MemoryStore::new(Faults::none()));
        let ledger = world.open(&store).await;
        let mut gate = world.gate("acme", "prod-1");
        gate.open(&ledger).await;
        gate.register(&world, &ledger).await;
        let admin = world.person("tenant-admin", "theo");
        let mut stage = Self { world, store, ledger, gate, admin };
        for n in 0..10 {
            stage.say(Kind::Verdict, &about(n, "refuse")).await;
        }
        let requires = json!({ "approvals": 1, "roles": [], "expires_at": null });
        let mut supervise = about(20, "supervise");
        supervise["requires"] = requires;
        stage.say(Kind::Verdict, &supervise).await;
        let mut approve = about(21, "approve");
        let ends = Micros(NOON.0 + 2 * DAY_US).format();
        approve["permit"] = json!({ "id": "p-1", "audience": null, "not_after": ends });
        stage.say(Kind::Verdict, &approve).await;
        stage.world.host.advance_us(DAY_US);
        stage
    }

    async fn say(&mut self, kind: Kind, value: &Value) -> RecordRoot {
        self.gate.say(&self.ledger, kind, value, Vec::new()).await.unwrap().0
    }

    fn request(&self, entries: &str) -> ErasureRequest {
        let floor = Micros(NOON.0 + DAY_US / 2).format();
        self.signed(entries, &format!("asked by the person\nretention floor: {floor}"))
    }

    fn signed(&self, entries: &str, reason: &str) -> ErasureRequest {
        let parts = [ORIGIN, entries, reason].map(|part| lp(part).unwrap()).concat();
        let signed = [b"countersign/v1 erasure\n", parts.as_slice()].concat();
        ErasureRequest {
            tenant: "acme".to_owned(),
            entries: entries.to_owned(),
            reason: reason.to_owned(),
            chain: self.admin.chain.clone(),
            signature: self.admin.key.sign(&signed).to_bytes(),
            retention_us: 0,
        }
    }

    async fn erase(&self, request: ErasureRequest) -> Result<Erasure, Code> {
        self.ledger.erase(request).await.map_err(|refused| refused.fault.code)
    }

    async fn rows(&self, filters: &[(Field, &str)]) -> (Vec<Row>, u64) {
        let filters = filters.iter().map(|(field, value)| Filter::new(*field, value).unwrap());
        let query = Query::new(filters.collect(), None, None).unwrap();
        let tenant = "acme".to_owned();
        let (size, cursor, limit) = (None, None, 1_000);
        let asked = PageRequest { tenant, query, size, cursor, limit, newest_first: false };
        let page = self.ledger.query(&asked).await.unwrap();
        assert_eq!(page.next, None);
        (page.rows, page.erased_unmatched)
    }

    /// Everything that is stored, as text.
    fn holds(&self, planted: &str) -> bool {
        self.store.with_disk(|disk| {
            let payloads = disk.payloads.values().chain(&disk.remains);
            let mut stored = payloads.chain(disk.batches.values()).chain(disk.blobs.values());
            stored.any(|bytes| String::from_utf8_lossy(bytes).contains(planted))
        })
    }
}

#[tokio::test]
async fn what_is_erased_is_gone_and_everything_else_is_as_it_was() {
    let mut stage = Stage::new().await;
    let size = stage.ledger.head().size;
    let at = |index: u64| RecordAt::Index(LeafIndex(index));
    let exactly = ProveAt::Exactly(size);
    let head = stage.ledger.head_at(size).await.unwrap();
    let before = stage.ledger.evidence(None, at(5), exactly).await.unwrap().1;
    let receipt = stage.ledger.receipt(None, at(5), exactly).await.unwrap();
    let (rows, _) = stage.rows(&[]).await;
    assert!(stage.holds(PLANTED));

    let erasure = stage.erase(stage.request("3-12")).await.unwrap();
    assert_eq!(erasure, Erasure { index: LeafIndex(size.0), erased: 10 });
    let (after, _) = stage.rows(&[]).await;
    assert_eq!(after.len(), rows.len() + 1, "the erasure itself");
    for (before, after) in rows.iter().zip(&after) {
        let erased = (3..=12).contains(&after.index.0);
        assert_eq!(after.erased, erased);
        assert_eq!((after.index, after.root, after.seq), (before.index, before.root, before.seq));
        assert_eq!(after.outcome, before.outcome, "what is never withheld stays");
        assert_eq!(after.action_id, before.action_id);
        assert_eq!(after.actor.is_empty(), erased || before.actor.is_empty());
    }
    // What can't be asked any more is said.
    let (found, unmatched) = stage.rows(&[(Field::Actor, PLANTED)]).await;
    assert_eq!((found.len(), unmatched), (2, 10));
    let (found, unmatched) = stage.rows(&[(Field::Actor, "nobody"), (Field::Mode, "shadow")]).await;
    assert_eq!((found.len(), unmatched), (0, 0), "what stays still says no");
    let (found, unmatched) = stage.rows(&[(Field::Outcome, "refuse")]).await;
    assert_eq!((found.len(), unmatched), (10, 0));
    let (found, _) = stage.rows(&[(Field::Kind, "erasure"), (Field::Approver, "theo")]).await;
    assert_eq!((found.len(), found[0].about.as_str()), (1, "3-12"));

    // The same head, the same proof, the same root; the file withholds, and says so.
    assert_eq!(stage.ledger.head_at(size).await.unwrap(), head);
    assert_eq!(stage.ledger.receipt(None, at(5), exactly).await.unwrap(), receipt);
    let shown = stage.ledger.evidence(None, at(5), exactly).await.unwrap().1;
    assert_eq!(shown.record.root(), before.record.root());
    assert_eq!((&shown.seal, &shown.entry), (&before.seal, &before.entry));
    assert!(!String::from_utf8(shown.to_bytes()).unwrap().contains(PLANTED));
    let report = stage.world.verify(&stage.ledger, 5).await;
    // Nothing that must be shown is missing; what is, is named as not checked (REC-8, DIG-1).
    assert_eq!(report.result, Verdict::Valid, "{report:?}");
    assert!(report.not_checked.iter().any(|what| what == "action_digest"), "{report:?}");
    let view = report.facts.view.unwrap();
    for name in view.withheld() {
        assert!(!Kind::Verdict.never_withheld(name), "{name}");
    }
    assert_eq!(view.withheld().count(), 33 - 12);
    let report = stage.world.verify(&stage.ledger, erasure.index.0).await;
    assert_eq!(report.result, Verdict::Valid, "{report:?}");

    // The values of the two that were not named are still there, and nothing else.
    stage.store.with_disk(|disk| {
        disk.payloads.remove(&13);
        disk.payloads.remove(&14);
    });
    assert!(!stage.holds(PLANTED));
    let seed = stage.gate.record(5, RecordRoot([0; 32]), Kind::Verdict, &about(2, "refuse"));
    assert!(!stage.holds(&hex(seed.seed())));
}

#[tokio::test]
async fn the_log_is_whole_after_an_erasure_and_after_a_restart() {
    let stage = Stage::new().await;
    stage.erase(stage.request("4,6-7")).await.unwrap();
    let (rows, _) = stage.rows(&[]).await;
    stage.ledger.stop().await;
    let store = Arc::new(stage.store.reopen());
    let vkey = &stage.world.trust().logs[0].vkey;
    let whole = check_whole_log(&*store, ORIGIN, vkey).await.unwrap();
    assert_eq!(whole.size, TreeSize(16));
    let ledger = stage.world.open(&store).await;
    let again = Stage { store, ledger, ..stage };
    assert_eq!(again.rows(&[]).await.0, rows);
}

#[tokio::test]
async fn the_same_request_again_is_answered_with_the_first() {
    let stage = Stage::new().await;
    let first = stage.erase(stage.request("3-5")).await.unwrap();
    assert_eq!(stage.erase(stage.request("3-5")).await, Ok(first));
    assert_eq!(stage.ledger.head().size.0, first.index.0 + 1, "and nothing is logged for it");
    assert_eq!(stage.erase(stage.request("3-6")).await, Err(Code::Erased));
    assert_eq!(stage.erase(stage.request("2-3")).await, Err(Code::ErasureKind));
    assert_eq!(stage.erase(stage.request("5")).await, Err(Code::Erased));
}

#[tokio::test]
async fn an_erased_record_is_repeated_and_not_built_upon() {
    let mut stage = Stage::new().await;
    let outcome = |of: RecordRoot| {
        json!({
            "action_id": action(1), "attested_by": "executor", "match": "match",
            "observed_at": NOON.format(), "result": "not_executed", "verdict": of.hex(),
        })
    };
    let (seq, prev) = (stage.gate.next_seq, stage.gate.prev);
    let mut twin = Gate::new(
        "acme",
        "prod-1",
        Holder { key: stage.gate.holder.key.clone(), chain: stage.gate.holder.chain.clone() },
    );
    let logged = stage.gate.record(seq, prev, Kind::Verdict, &about(50, "refuse"));
    let batch = stage.gate.seal(seq, vec![(logged.clone(), Vec::new())]);
    let first = only(stage.ledger.submit(batch.clone()).await.unwrap()).unwrap();
    (stage.gate.next_seq, stage.gate.prev) = (seq + 1, logged.root());
    stage.world.host.advance_us(DAY_US);
    let floor = Micros(NOON.0 + 3 * DAY_US / 2).format();
    let request = stage.signed("4,15", &format!("why\nretention floor: {floor}"));
    stage.erase(request).await.unwrap();

    let repeated = only(stage.ledger.submit(batch).await.unwrap()).unwrap();
    assert_eq!((repeated.index, &repeated.entry), (first.index, &first.entry));
    assert!(repeated.first.is_some());
    // Another record under the number of an erased one is what it always was.
    twin.next_seq = seq;
    let other = twin.record(seq, prev, Kind::Verdict, &about(51, "refuse"));
    let batch = twin.seal(seq, vec![(other, Vec::new())]);
    let refused = only(stage.ledger.submit(batch).await.unwrap()).unwrap_err();
    assert_eq!(refused.fault.code, Code::Equivocation);
    // And nothing more is said of an action of which something is erased.
    let (rows, _) = stage.rows(&[]).await;
    let of = rows.iter().find(|row| row.index.0 == 4).unwrap().root;
    let said = stage.gate.say(&stage.ledger, Kind::Outcome, &outcome(of), Vec::new()).await;
    assert_eq!(said.unwrap_err().fault.code, Code::Erased);
}

#[tokio::test]
async fn what_may_not_be_erased_is_refused() {
    let mut stage = Stage::new().await;
    let mut other = stage.world.gate("globex", "prod-1");
    other.open(&stage.ledger).await;
    other
        .say(&stage.ledger, Kind::Verdict, &verdict(1, "refuse", &json!({})), Vec::new())
        .await
        .unwrap();
    let size = stage.ledger.head().size.0;
    for (entries, code) in [
        ("", Code::RequestMalformed),
        ("4,5", Code::RequestMalformed),
        ("7-6", Code::RequestMalformed),
        ("0-1024", Code::ErasureOversized),
        ("0-18446744073709551615", Code::ErasureOversized),
        ("0", Code::ErasureKind),
        ("1", Code::ErasureKind),
        ("2", Code::ErasureKind),
        ("13", Code::ErasureOpen),
        ("14", Code::ErasureOpen),
        ("16", Code::NotFound),
        ("900", Code::NotFound),
        ("18446744073709551615", Code::NotFound),
        ("3,16", Code::NotFound),
    ] {
        assert_eq!(stage.erase(stage.request(entries)).await, Err(code), "{entries}");
    }
    let floor = |at: u64| format!("why\nretention floor: {}", Micros(NOON.0 + at).format());
    for (reason, code) in [
        (floor(0), Code::ErasureFloor),
        (floor(DAY_US + 1), Code::ErasureFloor),
        ("why".to_owned(), Code::ErasureFloor),
        ("retention floor: yesterday".to_owned(), Code::ErasureFloor),
        (format!("\n{}", floor(1).split_once('\n').unwrap().1), Code::RequestMalformed),
        (floor(1) + "\n", Code::ErasureFloor),
        ("w".repeat(4_096) + &floor(1), Code::RequestMalformed),
    ] {
        assert_eq!(stage.erase(stage.signed("3", &reason)).await, Err(code), "{reason:.80}");
    }
    let kept = ErasureRequest { retention_us: DAY_US, ..stage.request("3") };
    assert_eq!(stage.erase(kept).await, Err(Code::ErasureFloor));
    let forged = ErasureRequest { signature: [7; 64], ..stage.request("3") };
    assert_eq!(stage.erase(forged).await, Err(Code::PersonSignature));
    let widened = ErasureRequest { entries: "3-4".to_owned(), ..stage.request("3") };
    assert_eq!(stage.erase(widened).await, Err(Code::PersonSignature));
    let foreign = ErasureRequest { tenant: "globex".to_owned(), ..stage.request("3") };
    assert_eq!(stage.erase(foreign).await, Err(Code::PersonCertificate));
    stage.admin = stage.world.person("policy-admin", "pia");
    assert_eq!(stage.erase(stage.request("3")).await, Err(Code::PersonCertificate));
    assert_eq!(stage.ledger.head().size.0, size, "a refused erasure leaves nothing");
    assert!(stage.rows(&[]).await.0.iter().all(|row| !row.erased));
}

/// The permit has ended, and the supervise is resolved: nothing can become of either any more.
#[tokio::test]
async fn a_closed_action_can_be_erased() {
    let mut stage = Stage::new().await;
    let supervised = stage.rows(&[]).await.0[12].root;
    let mut refuse = about(20, "refuse");
    refuse["parent"] = supervised.hex().into();
    stage.say(Kind::Verdict, &refuse).await;
    stage.world.host.advance_us(3 * DAY_US);
    let floor = Micros(NOON.0 + 3 * DAY_US).format();
    let request = stage.signed("13-15", &format!("why\nretention floor: {floor}"));
    assert_eq!(stage.erase(request).await.map(|done| done.erased), Ok(3));
    // The child's file carries its parent still, and both withhold what was erased.
    let report = stage.world.verify(&stage.ledger, 15).await;
    assert_eq!(report.result, Verdict::Valid, "{report:?}");
    assert_eq!(report.supporting.len(), 1);
    assert!(report.supporting[0].not_checked.iter().any(|what| what == "field:actor"));
}

/// Whatever write fails, and however: an erasure is on record and done, or neither.
#[tokio::test]
async fn an_erasure_is_whole_under_every_fault() {
    for write in [Write::Commit, Write::Publish, Write::Scrub, Write::Acquire] {
        for fault in Injected::ALL {
            let stage = Stage::new().await;
            stage.store.set_faults(Faults::none().and_on(write, 0, fault));
            let done = stage.erase(stage.request("3-12")).await;
            let store = Arc::new(stage.store.reopen());
            let ledger = stage.world.open(&store).await;
            let again = Stage { store, ledger, ..stage };
            let (rows, _) = again.rows(&[]).await;
            let erased = rows.iter().filter(|row| row.erased).count();
            let on_record = rows.iter().filter(|row| row.kind == Kind::Erasure).count();
            let what = format!("{write:?} {fault:?} {done:?}");
            assert!((erased, on_record) == (10, 1) || (erased, on_record) == (0, 0), "{what}");
            assert!(done.is_err() || on_record == 1, "{what}");
            again.store.with_disk(|disk| assert!(disk.remains.is_empty(), "{what}"));
            // Asked again, it is done, once.
            again.erase(again.request("3-12")).await.unwrap();
            let (rows, _) = again.rows(&[(Field::Kind, "erasure")]).await;
            assert_eq!(rows.len(), 1, "{what}");
        }
    }
}
