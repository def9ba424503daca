//! Queries through the log: every index answers as reading all records would.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::query::{Field, Filter, Query, Row};
use countersign_log::api::{Page, PageRequest, ProveAt, RecordAt};
use countersign_log::ledger::Ledger;
use countersign_log::store::{Store, Term};
use countersign_testkit::faults::Faults;
use countersign_testkit::memory::MemoryStore;
use serde_json::json;

use support::{Gate, NOON, World, action, verdict};

const MINUTE_US: u64 = 60_000_000;

struct Stage {
    world: World,
    store: Arc<MemoryStore>,
    ledger: Ledger<MemoryStore>,
    gate: Gate,
    other: Gate,
}

impl Stage {
    /// Two tenants with 60 records each, a minute apart, of values that overlap.
    async fn new() -> Self {
        let world = World::new();
        let store = Arc::new(MemoryStore::new(Faults::none()));
        let ledger = world.open(&store).await;
        let mut gate = world.gate("acme", "prod-1");
        gate.open(&ledger).await;
        gate.register(&world, &ledger).await;
        let mut other = world.gate("globex", "prod-1");
        other.open(&ledger).await;
        let mut stage = Self { world, store, ledger, gate, other };
        stage.grow(0..60).await;
        stage
    }

    async fn grow(&mut self, numbers: std::ops::Range<u64>) {
        for n in numbers {
            self.world.host.advance_us(MINUTE_US);
            let outcome = ["refuse", "approve", "refuse"][usize::try_from(n % 3).unwrap()];
            let action = ["ec2:Stop", "ec2:Start"][usize::from(n % 2 == 0)];
            let mode = ["enforce", "shadow"][usize::from(n % 7 == 0)];
            let environment = ["prod", "test"][usize::from(n % 4 == 1)];
            let say = json!({
                "action": action,
                "mode": mode,
                "actor": {
                    "kind": "agent", "id": format!("agent-{}", n % 4), "class": null,
                    "session": format!("s-{}", n / 10), "model": null, "on_behalf_of": null,
                },
                "resource": {
                    "type": "vm", "id": format!("vm-{}", n % 5), "environment": environment,
                    "domain": null,
                },
                "task": {
                    "ticket": format!("OPS-{}", n / 15), "grant": null, "scope_digest": null,
                    "justification": null,
                },
                "reasons": [
                    { "code": "NO_PERMIT", "policy": null, "text": null },
                    { "code": format!("R-{}", n % 6), "policy": "p", "text": null },
                ],
            });
            let value = verdict(n, outcome, &say);
            self.gate.say(&self.ledger, Kind::Verdict, &value, Vec::new()).await.unwrap();
            let value = verdict(n, "refuse", &say);
            self.other.say(&self.ledger, Kind::Verdict, &value, Vec::new()).await.unwrap();
        }
    }

    async fn page(&self, request: &PageRequest) -> Page {
        self.ledger.query(request).await.unwrap()
    }

    /// All pages of a query.
    async fn all(&self, mut request: PageRequest) -> Vec<Row> {
        let mut rows = Vec::new();
        loop {
            let page = self.page(&request).await;
            assert!(page.rows.len() <= request.limit);
            rows.extend(page.rows);
            request.size = Some(page.head.size);
            request.cursor = page.next;
            if page.next.is_none() {
                return rows;
            }
        }
    }
}

fn query(filters: &[(Field, &str)]) -> Query {
    window(filters, None, None)
}

fn window(filters: &[(Field, &str)], from: Option<u64>, to: Option<u64>) -> Query {
    let filter = |(field, value): &(Field, &str)| Filter::new(*field, value).unwrap();
    let at = |minutes: u64| Micros(NOON.0 + minutes * MINUTE_US);
    Query::new(filters.iter().map(filter).collect(), from.map(at), to.map(at)).unwrap()
}

fn ask(query: Query) -> PageRequest {
    let tenant = "acme".to_owned();
    PageRequest { tenant, query, size: None, cursor: None, limit: 1_000, newest_first: false }
}

#[tokio::test]
async fn every_index_answers_as_reading_everything_would() {
    let stage = Stage::new().await;
    let everything = stage.all(ask(query(&[]))).await;
    // The opening of the stream, the policy, the verdicts.
    assert_eq!(everything.len(), 62);
    assert_eq!((everything[0].kind, everything[0].gate.as_str()), (Kind::Stream, "prod-1"));
    let one = action(7);
    let queries = [
        query(&[(Field::Kind, "verdict")]),
        query(&[(Field::Kind, "policy"), (Field::Kind, "stream")]),
        query(&[(Field::ActionId, &one)]),
        query(&[(Field::Action, "ec2:Stop"), (Field::Actor, "agent-3")]),
        query(&[(Field::Actor, "agent-1"), (Field::Actor, "agent-2"), (Field::Session, "s-2")]),
        query(&[(Field::Ticket, "OPS-1"), (Field::Resource, "vm-2")]),
        query(&[(Field::Environment, "test"), (Field::Outcome, "approve")]),
        query(&[(Field::Reason, "R-5"), (Field::Reason, "R-2"), (Field::Mode, "shadow")]),
        query(&[(Field::Policy, "1")]),
        query(&[(Field::PolicyDigest, &"d1".repeat(32)), (Field::Kind, "verdict")]),
        query(&[(Field::Gate, "prod-1"), (Field::Approver, "pia")]),
        query(&[(Field::Session, "nobody")]),
        query(&[(Field::Actor, "agent-1"), (Field::Resource, "vm-1"), (Field::Action, "none")]),
        window(&[], Some(10), Some(20)),
        window(&[(Field::Outcome, "refuse")], Some(30), None),
        window(&[(Field::Actor, "agent-0")], None, Some(5)),
        window(&[], Some(999), None),
    ];
    for asked in queries {
        let mut expected: Vec<Row> = Vec::new();
        for row in &everything {
            let at = RecordAt::Index(row.index);
            let (_, evidence) = stage.ledger.evidence(None, at, TreeSize(0)).await.unwrap();
            let entry = countersign_core::entry::Entry::from_bytes(&evidence.entry).unwrap();
            if asked.matches(&entry, &evidence.record.view(entry.kind).unwrap()) {
                expected.push(row.clone());
            }
        }
        for limit in [1, 3, 1_000] {
            let request = PageRequest { limit, ..ask(asked.clone()) };
            assert_eq!(stage.all(request.clone()).await, expected, "{asked:?}");
            let mut found = stage.all(PageRequest { newest_first: true, ..request }).await;
            found.reverse();
            assert_eq!(found, expected, "newest first: {asked:?}");
        }
    }
    let row = &stage.all(ask(query(&[(Field::ActionId, &one)]))).await[0];
    assert_eq!((row.actor.as_str(), row.session.as_str()), ("agent-3", "s-0"));
    assert_eq!(row.reasons, ["NO_PERMIT", "R-1"]);
    assert!(!row.erased);
}

#[tokio::test]
async fn pages_are_stable_while_the_log_grows() {
    let mut stage = Stage::new().await;
    for newest_first in [false, true] {
        let asked = query(&[(Field::Kind, "verdict")]);
        let whole = PageRequest { newest_first, ..ask(asked) };
        let before = stage.all(whole.clone()).await;
        let size = stage.ledger.head().size;
        let first = stage.page(&PageRequest { limit: 25, ..whole.clone() }).await;
        assert_eq!(first.rows, before[..25]);
        let grown = if newest_first { 70..75 } else { 60..70 };
        stage.grow(grown).await;
        let rest = PageRequest {
            size: Some(first.head.size),
            cursor: first.next,
            limit: 20,
            ..whole.clone()
        };
        assert_eq!(stage.all(rest).await, before[25..]);
        let pinned = PageRequest { size: Some(size), ..whole.clone() };
        assert_eq!(stage.all(pinned.clone()).await, before, "the first page may be pinned too");
        assert_eq!(stage.page(&pinned).await, stage.page(&pinned).await);
        assert!(stage.all(whole).await.len() > before.len());
    }
}

#[tokio::test]
async fn cursors_and_sizes_are_checked() {
    let stage = Stage::new().await;
    let code = async |size: Option<u64>, cursor: Option<u64>| {
        let (size, cursor) = (size.map(TreeSize), cursor.map(LeafIndex));
        let asked = PageRequest { size, cursor, ..ask(query(&[])) };
        stage.ledger.query(&asked).await.map(drop).map_err(|refused| refused.fault.code)
    };
    let size = stage.ledger.head().size.0;
    assert_eq!(code(Some(size), Some(size - 1)).await, Ok(()));
    assert_eq!(code(None, Some(0)).await, Err(Code::CursorMalformed));
    assert_eq!(code(Some(size), Some(size)).await, Err(Code::CursorMalformed));
    assert_eq!(code(Some(size), Some(u64::MAX)).await, Err(Code::CursorMalformed));
    assert_eq!(code(Some(size + 1), None).await, Err(Code::SizeUnknown));
    assert_eq!(code(Some(u64::MAX), Some(3)).await, Err(Code::SizeUnknown));
}

/// What an index says is only where one looks: rows that were planted show nothing, and nobody
/// else's record.
#[tokio::test]
async fn indexes_are_not_believed() {
    let stage = Stage::new().await;
    let before = stage.all(ask(query(&[(Field::Actor, "agent-1")]))).await;
    let size = stage.ledger.head().size.0;
    stage.store.with_disk(|disk| {
        let lists: Vec<(String, Term)> =
            disk.lists.iter().map(|(tenant, term, _)| (tenant.clone(), *term)).collect();
        for (tenant, term) in lists {
            disk.lists.extend((0..size).map(|index| (tenant.clone(), term, index)));
        }
    });
    assert_eq!(stage.all(ask(query(&[(Field::Actor, "agent-1")]))).await, before);
    let mut all = stage.all(ask(query(&[]))).await;
    // The genesis is for everybody; nothing of globex is for acme.
    all.retain(|row| row.kind != Kind::Genesis);
    assert_eq!(all.len(), 62);
}

#[tokio::test]
async fn an_equivocation_shows_to_whom_it_is_about() {
    let mut stage = Stage::new().await;
    let gate = &mut stage.gate;
    let record = gate.record(0, gate.prev, Kind::Verdict, &verdict(999, "refuse", &json!({})));
    let batch = gate.seal(0, vec![(record, Vec::new())]);
    let answer = stage.ledger.submit(batch).await.unwrap();
    assert_eq!(support::only(answer).unwrap_err().fault.code, Code::Equivocation);
    let rows = stage.all(ask(query(&[(Field::Kind, "notice")]))).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].about, "equivocation");
    let others = PageRequest { tenant: "globex".into(), ..ask(query(&[(Field::Kind, "notice")])) };
    assert_eq!(stage.all(others).await, []);
    let nobody = PageRequest { tenant: "initech".into(), ..ask(query(&[])) };
    assert_eq!(stage.all(nobody).await, []);
}

#[tokio::test]
async fn evidence_at_a_size_is_the_same_for_ever() {
    let mut stage = Stage::new().await;
    let size = stage.ledger.head().size;
    let at = RecordAt::Index(LeafIndex(5));
    let before = stage.ledger.evidence(None, at, ProveAt::Exactly(size)).await.unwrap();
    let receipt = stage.ledger.receipt(None, at, ProveAt::Exactly(size)).await.unwrap();
    stage.grow(60..70).await;
    assert_eq!(stage.ledger.evidence(None, at, ProveAt::Exactly(size)).await.unwrap(), before);
    assert_eq!(stage.ledger.receipt(None, at, ProveAt::Exactly(size)).await.unwrap(), receipt);
    assert_ne!(stage.ledger.evidence(None, at, TreeSize(0)).await.unwrap(), before);
    assert_eq!(stage.ledger.head_at(size).await.unwrap().size, size);
    for exact in [4, stage.ledger.head().size.0 + 1] {
        let refused = stage.ledger.receipt(None, at, ProveAt::Exactly(TreeSize(exact))).await;
        assert_eq!(refused.unwrap_err().fault.code, Code::SizeUnknown, "{exact}");
    }
    let entries = stage.ledger.entries(LeafIndex(3), 1_000).await.unwrap();
    assert_eq!(entries.len() as u64, stage.ledger.head().size.0 - 3);
    let kept = stage.store.entries(LeafIndex(3), 1_000).await.unwrap();
    assert_eq!(entries, kept);
    let peaks = stage.ledger.peaks(size).await.unwrap();
    let mut range = countersign_core::merkle::CompactRange::from_peaks(size, peaks).unwrap();
    let start = usize::try_from(size.0 - 3).unwrap();
    for entry in &entries[start..] {
        range.append(&countersign_core::merkle::leaf_hash(entry));
    }
    assert_eq!(range.root(), stage.ledger.head().root);
}
