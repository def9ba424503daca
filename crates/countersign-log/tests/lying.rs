//! A ledger that lies about what it logged: it omits, hides, reorders, backdates, forks a stream,
//! opens a second stream for a gate. It signs everything again, and the pack shows it offline.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::pack::{GateKey, PackFile, PackReport};
use countersign_core::stream::StreamId;
use countersign_core::verify::Verdict;
use countersign_log::ledger::Ledger;
use countersign_testkit::faults::Faults;
use countersign_testkit::liar::{Folder, Liar};
use countersign_testkit::memory::MemoryStore;
use serde_json::json;

use support::{Gate, NOON, ORIGIN, World, verdict};

const SECOND_US: u64 = 1_000_000;
/// Where the honest log has its records. 0 is the genesis, 1 and 2 open streams.
const INTENT: usize = 3;
const REFUSAL: usize = 4;
const FOREIGN: usize = 5;
const SHADOW: usize = 6;
const AGAIN: usize = 7;
const HEARTBEAT: usize = 8;

/// An honest log, somebody who took it over, and acme's gate.
struct Stage {
    world: World,
    ledger: Ledger<MemoryStore>,
    liar: Liar,
    gate: Gate,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new();
        let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
        let (mut gate, mut foreign) =
            (world.gate("acme", "prod-1"), world.gate("globex", "prod-1"));
        gate.open(&ledger).await;
        foreign.open(&ledger).await;
        let mut intent = verdict(1, "refuse", &json!({}));
        for name in ["mode", "outcome", "policy", "reasons"] {
            intent.as_object_mut().unwrap().remove(name);
        }
        let refusal = verdict(1, "refuse", &json!({}));
        say(&world, &ledger, &mut gate, Kind::Intent, &intent).await;
        say(&world, &ledger, &mut gate, Kind::Verdict, &refusal).await;
        say(&world, &ledger, &mut foreign, Kind::Verdict, &refusal).await;
        let shadow = verdict(2, "refuse", &json!({ "mode": "shadow" }));
        say(&world, &ledger, &mut gate, Kind::Verdict, &shadow).await;
        let again = verdict(3, "refuse", &json!({}));
        say(&world, &ledger, &mut gate, Kind::Verdict, &again).await;
        let beat = json!({ "about": "heartbeat", "detail": { "interval_s": 60 } });
        say(&world, &ledger, &mut gate, Kind::Notice, &beat).await;
        let liar = Liar::of(&ledger, &world.keys).await.unwrap();
        assert_eq!(liar.size(), HEARTBEAT as u64 + 1);
        Self { world, ledger, liar, gate }
    }

    /// The complete pack of the gate's key, as the liar tells it.
    fn pack(&self) -> Folder {
        self.liar.pack("acme", vec![claim(&self.gate)], 0)
    }

    fn check(&self, folder: &Folder) -> PackReport {
        folder.check(&self.world.trust())
    }

    /// A verdict that the gate seals at its stream's end, and the liar logs unasked.
    fn refuse(&mut self, n: u64) {
        let batch = self.gate.batch(&[(Kind::Verdict, verdict(n, "refuse", &json!({})))]);
        self.accept(&batch);
    }

    fn accept(&mut self, batch: &countersign_log::api::Batch) {
        self.liar.accept(batch, &chain(&self.gate));
    }
}

async fn say(
    world: &World,
    ledger: &Ledger<MemoryStore>,
    gate: &mut Gate,
    kind: Kind,
    value: &serde_json::Value,
) {
    world.host.advance_us(SECOND_US);
    gate.say(ledger, kind, value, Vec::new()).await.unwrap();
}

fn claim(gate: &Gate) -> GateKey {
    let key = gate.holder.key.verifying_key().to_bytes();
    GateKey { tenant: gate.tenant.clone(), gate: gate.name.clone(), key }
}

fn chain(gate: &Gate) -> Vec<String> {
    gate.holder.chain.iter().map(countersign_core::cert::Certificate::pem).collect()
}

/// What was found, but for the warning that globex's stream is not shown, which every pack of acme's
/// has.
fn codes(report: &PackReport) -> Vec<Code> {
    let all = report.findings.iter().map(|found| found.fault.code);
    all.filter(|code| *code != Code::PackStreamUnshown).collect()
}

/// What the ledger does to its log before it packs it.
type Lie = fn(&mut Stage);

const LIES: &[(&str, Lie, Code)] = &[
    ("omits a refusal", |s| s.liar.omit(REFUSAL), Code::PackSeqGap),
    ("omits the first record of a stream", |s| s.liar.omit(INTENT), Code::PackSeqGap),
    ("reorders two records", |s| s.liar.reorder(REFUSAL, SHADOW), Code::PackSeqGap),
    ("reorders the last two", |s| s.liar.reorder(AGAIN, HEARTBEAT), Code::PackSeqGap),
    ("backdates one entry", |s| s.liar.backdate([AGAIN], 3 * SECOND_US), Code::PackTimeOrder),
    (
        "backdates an entry of another tenant",
        |s| s.liar.backdate([FOREIGN], 3 * SECOND_US),
        Code::PackTimeOrder,
    ),
    (
        "backdates everything by an hour",
        |s| s.liar.backdate(0..=HEARTBEAT, 3_600 * SECOND_US),
        Code::RecordedAhead,
    ),
    ("logs a record twice", |s| s.liar.repeat(REFUSAL), Code::PackSeqRepeated),
    (
        "forks a stream into two of one number",
        |s| {
            let before = (s.gate.next_seq, s.gate.prev);
            s.refuse(31);
            (s.gate.next_seq, s.gate.prev) = before;
            s.refuse(32);
        },
        Code::PackSeqRepeated,
    ),
    (
        "continues a stream from another branch",
        |s| {
            s.gate.prev = RecordRoot([7; 32]);
            s.refuse(31);
        },
        Code::PackPrev,
    ),
    (
        "writes a second stream for a gate, and never opened it",
        |s| second_stream(s, 1),
        Code::PackStreamUnopened,
    ),
    (
        "opens a second stream for a gate, and drops its beginning",
        |s| {
            second_stream(s, 1);
            let last = usize::try_from(s.liar.size()).unwrap() - 2;
            s.liar.omit(last);
        },
        Code::PackSeqGap,
    ),
];

/// The gate's second instance: two refusals in a stream of its own.
fn second_stream(stage: &mut Stage, instance: u32) {
    let key = claim(&stage.gate).key;
    stage.gate.stream = StreamId::derive(ORIGIN, "acme", "prod-1", &key, instance).unwrap();
    (stage.gate.next_seq, stage.gate.prev) = (0, RecordRoot([0; 32]));
    stage.refuse(41);
    stage.refuse(42);
}

/// PACK-22 to PACK-25.
#[tokio::test]
async fn whatever_the_ledger_does_to_its_log_its_pack_shows() {
    let honest = Stage::new().await;
    let report = honest.check(&honest.pack());
    assert_eq!((report.result, codes(&report)), (Verdict::Valid, vec![]), "{report:#?}");
    assert_eq!(report.complete.unwrap().refusals, [REFUSAL as u64, AGAIN as u64]);
    for (name, lie, code) in LIES {
        let mut stage = Stage::new().await;
        lie(&mut stage);
        let report = stage.check(&stage.pack());
        assert_eq!(report.result, Verdict::Invalid, "{name}");
        assert!(codes(&report).contains(code), "{name}: {:?}", codes(&report));
        assert!(report.statement(9).is_empty(), "{name}: what is wrong is not repeated");
    }
}

/// What the ledger does in front of the range that it then claims, and from which size it claims.
type Beginning = fn(&mut Stage) -> usize;

const BEGINNINGS: &[(&str, Beginning, Verdict, Code)] = &[
    (
        "drops the first records of a stream, and claims from its opening on",
        |s| {
            s.liar.omit(REFUSAL);
            s.liar.omit(INTENT);
            1
        },
        Verdict::Invalid,
        Code::PackSeqGap,
    ),
    (
        "drops the first records of a stream, and claims from behind its opening",
        |s| {
            s.liar.omit(REFUSAL);
            s.liar.omit(INTENT);
            INTENT
        },
        Verdict::Invalid,
        Code::PackSeqGap,
    ),
    (
        "drops a refusal where one pack ends and the next begins",
        |s| {
            s.liar.omit(REFUSAL);
            REFUSAL
        },
        Verdict::Invalid,
        Code::PackSeqGap,
    ),
    (
        "drops one where there would have been room for it",
        |s| {
            s.liar.omit(SHADOW);
            SHADOW
        },
        Verdict::Indeterminate,
        Code::PackBeginningUnshown,
    ),
    (
        "goes on from another branch than it ended with",
        |s| {
            s.gate.prev = RecordRoot([7; 32]);
            let from = usize::try_from(s.liar.size()).unwrap();
            s.refuse(31);
            from
        },
        Verdict::Invalid,
        Code::PackPrev,
    ),
    (
        "forks the stream where the range begins",
        |s| {
            s.gate.next_seq -= 1;
            let from = usize::try_from(s.liar.size()).unwrap();
            s.refuse(31);
            from
        },
        Verdict::Invalid,
        Code::PackSeqRepeated,
    ),
];

/// PACK-23 and PACK-25, where a range begins behind the log's beginning.
#[tokio::test]
async fn whatever_the_ledger_drops_before_a_range_its_pack_shows() {
    let honest = Stage::new().await;
    for from in 1..=HEARTBEAT as u64 {
        let report = honest.check(&honest.liar.pack("acme", vec![claim(&honest.gate)], from));
        assert_eq!((report.result, codes(&report)), (Verdict::Valid, vec![]), "from {from}");
    }
    for (name, lie, result, code) in BEGINNINGS {
        let mut stage = Stage::new().await;
        let from = lie(&mut stage) as u64;
        let report = stage.check(&stage.liar.pack("acme", vec![claim(&stage.gate)], from));
        assert_eq!(report.result, *result, "{name}: {:#?}", report.findings);
        assert!(codes(&report).contains(code), "{name}: {:?}", codes(&report));
    }
}

/// PACK-24: what it logged it can't keep out of the pack, in whichever stream of the key it stands.
#[tokio::test]
async fn what_the_ledger_hides_is_named() {
    let mut stage = Stage::new().await;
    for index in [INTENT, REFUSAL, HEARTBEAT] {
        let mut folder = stage.pack();
        folder.hide(PackFile::Evidence(index as u64));
        let report = stage.check(&folder);
        assert_eq!(codes(&report), [Code::PackRecordWithheld]);
        assert_eq!(report.findings[0].place.index, Some(index as u64));
    }
    second_stream(&mut stage, 1);
    let whole = stage.pack();
    assert_eq!(stage.check(&whole).complete.unwrap().streams, 2);
    let mut folder = whole;
    for index in HEARTBEAT + 1..=HEARTBEAT + 2 {
        folder.hide(PackFile::Evidence(index as u64));
    }
    // Nor did it ever open that stream.
    let withheld = [Code::PackRecordWithheld, Code::PackRecordWithheld, Code::PackStreamUnopened];
    assert_eq!(codes(&stage.check(&folder)), withheld);
}

/// PACK-31: a stream under another key of the gate is outside of the claim, and is named.
#[tokio::test]
async fn a_second_stream_under_another_key_is_said_to_be_outside() {
    let stage = Stage::new().await;
    let mut other = stage.world.gate("acme", "prod-1");
    other.open(&stage.ledger).await;
    let liar = Liar::of(&stage.ledger, &stage.world.keys).await.unwrap();
    let report = stage.check(&liar.pack("acme", vec![claim(&stage.gate)], 0));
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    let unclaimed = &report.complete.as_ref().unwrap().unclaimed;
    assert_eq!(*unclaimed, [("prod-1".to_owned(), claim(&other).key)]);
    assert!(report.limits().iter().any(|limit| limit.contains("which is not claimed")));
}

/// PACK-11 and PACK-13: another history than the one that was shown before.
#[tokio::test]
async fn a_history_that_was_rewritten_does_not_join_the_heads_of_before() {
    let mut stage = Stage::new().await;
    let shown = stage.liar.clone();
    stage.liar.omit(HEARTBEAT);
    stage.liar.omit(AGAIN);
    stage.refuse(50);
    stage.refuse(51);
    let from = AGAIN as u64 + 1;
    let mut folder = stage.liar.pack("acme", vec![claim(&stage.gate)], from);
    // The reader has this head from before the rewriting.
    folder.put(PackFile::Head(from), shown.head(from).as_str().as_bytes().to_vec());
    let found = codes(&stage.check(&folder));
    assert!(found.contains(&Code::ConsistencyMismatch), "{found:?}");
    // A receipt of the history of before, among those of the new one.
    let mut folder = stage.pack();
    let evidence = shown.evidence(AGAIN as u64, shown.size());
    folder.put(PackFile::Evidence(AGAIN as u64), evidence.to_bytes());
    let found = codes(&stage.check(&folder));
    assert!(found.contains(&Code::PackReceiptHead), "{found:?}");
}

/// PACK-28: a tail that was cut leaves no gap; what the gate promised shows it.
#[tokio::test]
async fn a_tail_that_was_cut_is_a_silence() {
    let mut stage = Stage::new().await;
    let mut foreign = stage.world.gate("globex", "prod-2");
    foreign.open(&stage.ledger).await;
    stage.world.host.set(Micros(NOON.0 + 600 * SECOND_US));
    let refusal = verdict(9, "refuse", &json!({}));
    for gate in [&mut stage.gate, &mut foreign] {
        gate.say(&stage.ledger, Kind::Verdict, &refusal, Vec::new()).await.unwrap();
    }
    let mut liar = Liar::of(&stage.ledger, &stage.world.keys).await.unwrap();
    let last = usize::try_from(liar.size()).unwrap() - 1;
    liar.omit(last - 1);
    let report = stage.check(&liar.pack("acme", vec![claim(&stage.gate)], 0));
    assert_eq!(codes(&report), [Code::GateSilent], "{:#?}", report.findings);
    assert_eq!(report.counts[..2], [0, 0]);
    assert_eq!(report.result, Verdict::Valid);
}
