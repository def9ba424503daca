//! A log over a store in memory: streams, repeats, refusals, receipts, evidence, restarts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, hex};
use countersign_core::hash::{Context, LeafIndex, RecordRoot, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::merkle::{verify_consistency, verify_inclusion};
use countersign_core::note::SignedCheckpoint;
use countersign_core::verify::Verdict;
use countersign_log::api::{LogState, Logged, RecordAt, Refused, StreamRequest};
use countersign_testkit::faults::Faults;
use countersign_testkit::memory::MemoryStore;
use serde_json::json;

use support::{Gate, NOON, World, only, signed, verdict};

fn refused(outcome: Result<Logged, Refused>) -> Code {
    outcome.unwrap_err().fault.code
}

#[tokio::test]
async fn a_log_begins_with_its_genesis_and_its_evidence_is_valid() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    assert_eq!(ledger.head().size, TreeSize(1));
    let report = world.verify(&ledger, 0).await;
    assert_eq!(report.result, Verdict::Valid, "{report:?}");
}

#[tokio::test]
async fn a_submitted_verdict_is_answered_with_its_proof() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let mut gate = world.gate("acme", "prod-1");
    let status = gate.open(&ledger).await;
    assert_eq!((status.next_seq, status.prev), (0, RecordRoot([0; 32])));
    let batch = gate.batch(&[
        (Kind::Verdict, verdict(1, "refuse", &json!({}))),
        (Kind::Verdict, verdict(2, "refuse", &json!({}))),
    ]);
    let answer = ledger.submit(batch).await.unwrap();
    let head = answer.head.unwrap();
    for (seq, outcome) in &answer.records {
        let logged = outcome.as_ref().unwrap();
        assert_eq!((logged.entry.seq, logged.entry.stream), (*seq, gate.stream));
        let leaf = logged.entry.leaf();
        verify_inclusion(logged.index, head.size, &leaf, &logged.path, &head.root).unwrap();
        let report = world.verify(&ledger, logged.index.0).await;
        assert_eq!(report.result, Verdict::Valid, "{report:?}");
    }
    // The stream's own record is evidence too.
    assert_eq!(world.verify(&ledger, 1).await.result, Verdict::Valid);
}

#[tokio::test]
async fn a_repeat_is_answered_with_the_first_receipt_and_the_first_seal() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    let says: Vec<_> = (1..=3).map(|n| (Kind::Verdict, verdict(n, "refuse", &json!({})))).collect();
    let batch = gate.batch(&says);
    let first = ledger.submit(batch.clone()).await.unwrap();
    let first_note = first.head.as_ref().unwrap().note.clone();
    gate.say(&ledger, Kind::Verdict, &verdict(9, "refuse", &json!({})), vec![]).await.unwrap();
    // The second record again, alone, under another seal.
    let again = batch.records[1].record.clone();
    let answer = ledger.submit(gate.seal(1, vec![(again, vec![])])).await.unwrap();
    assert_eq!(answer.head, None, "nothing new");
    let logged = only(answer).unwrap();
    let original = first.records[1].1.as_ref().unwrap();
    assert_eq!((logged.index, logged.entry), (original.index, original.entry));
    assert_eq!(logged.path, original.path);
    let repeat = logged.first.unwrap();
    assert_eq!(repeat.note, first_note);
    assert_eq!((repeat.seal.size, repeat.seal.index), (3, 1));
    repeat.seal.verify(&batch.sealed.roots[1]).unwrap();
    assert_eq!(ledger.head().size, TreeSize(6), "a repeat adds nothing");
}

#[tokio::test]
async fn a_second_record_for_one_number_is_refused_and_noted_once() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    gate.say(&ledger, Kind::Verdict, &verdict(1, "refuse", &json!({})), vec![]).await.unwrap();
    let zero = RecordRoot([0; 32]);
    let other = gate.record(0, zero, Kind::Verdict, &verdict(1, "approve", &json!({})));
    let twice = gate.seal(0, vec![(other, vec![])]);
    let size = ledger.head().size.0;
    for _ in 0..2 {
        let answer = ledger.submit(twice.clone()).await.unwrap();
        assert_eq!(refused(only(answer)), Code::Equivocation);
        assert_eq!(ledger.head().size.0, size + 1, "noted once");
    }
    let at = RecordAt::Index(LeafIndex(size));
    let (_, evidence) = ledger.evidence(Some("acme"), at, TreeSize(0)).await.unwrap();
    let view = evidence.record.view(Kind::Notice).unwrap();
    assert_eq!(view.str("about"), Some("equivocation"));
    assert_eq!(world.verify(&ledger, size).await.result, Verdict::Valid);
    let foreign = ledger.evidence(Some("globex"), at, TreeSize(0)).await;
    assert_eq!(foreign.unwrap_err().fault.code, Code::NotFound, "not theirs to see");
}

#[tokio::test]
async fn a_refused_record_halts_its_stream_for_the_call_until_it_goes_on_from_there() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    let ahead = Micros(NOON.0 + 301_000_000).format();
    let batch = gate.batch(&[
        (Kind::Verdict, verdict(1, "refuse", &json!({}))),
        (Kind::Verdict, verdict(2, "refuse", &json!({ "recorded_at": ahead }))),
        (Kind::Verdict, verdict(3, "refuse", &json!({}))),
    ]);
    let next = gate.batch(&[(Kind::Verdict, verdict(4, "refuse", &json!({})))]);
    let answer = ledger.submit(batch.clone()).await.unwrap();
    assert!(answer.records[0].1.is_ok());
    assert_eq!(refused(answer.records[1].1.clone()), Code::RecordedAhead);
    let halted = answer.records[2].1.clone().unwrap_err();
    assert_eq!((halted.fault.code, halted.expected_seq), (Code::StreamHalted, Some(1)));
    let halted = only(ledger.submit(next.clone()).await.unwrap()).unwrap_err();
    assert_eq!((halted.fault.code, halted.expected_seq), (Code::StreamHalted, Some(1)));
    // Another call sees a gap, not a halt.
    let mut other_call = next;
    other_call.call = 2;
    let gap = only(ledger.submit(other_call).await.unwrap()).unwrap_err();
    assert_eq!((gap.fault.code, gap.expected_seq), (Code::SeqGap, Some(1)));
    // Sealed again from the expected seq, the call goes on.
    (gate.next_seq, gate.prev) = (1, batch.sealed.roots[0]);
    gate.say(&ledger, Kind::Verdict, &verdict(5, "refuse", &json!({})), vec![]).await.unwrap();
    gate.say(&ledger, Kind::Verdict, &verdict(6, "refuse", &json!({})), vec![]).await.unwrap();
}

#[tokio::test]
async fn what_does_not_belong_is_refused_each_with_its_own_code() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let mut gate = world.gate("acme", "prod-1");
    let unknown = gate.batch(&[(Kind::Verdict, verdict(1, "refuse", &json!({})))]);
    assert_eq!(ledger.submit(unknown.clone()).await.unwrap_err().fault.code, Code::StreamUnknown);
    gate.open(&ledger).await;
    let good = verdict(1, "refuse", &json!({}));

    let mut stolen = unknown.clone();
    stolen.tenant = "globex".to_owned();
    assert_eq!(ledger.submit(stolen).await.unwrap_err().fault.code, Code::StreamForeign);
    let mut forged = unknown.clone();
    forged.sealed.signature[0] ^= 1;
    assert_eq!(ledger.submit(forged).await.unwrap_err().fault.code, Code::SealSignature);

    let cases = [
        (json!({ "prev": hex(&[1; 32]) }), Code::PrevMismatch),
        (json!({ "tenant": "globex" }), Code::RecordForeign),
        (json!({ "gate": "prod-2" }), Code::RecordForeign),
        (json!({ "seq": 7 }), Code::RecordForeign),
        (json!({ "stream": hex(&[1; 16]) }), Code::RecordForeign),
        (json!({ "action_digest": hex(&[1; 32]) }), Code::ActionDigest),
        (json!({ "parent": hex(&[1; 32]) }), Code::ParentUnknown),
    ];
    for (say, code) in cases {
        let mut value = good.clone();
        for (name, new) in say.as_object().unwrap() {
            value[name] = new.clone();
        }
        let outcome = gate.say(&ledger, Kind::Verdict, &value, vec![]).await;
        assert_eq!(outcome.unwrap_err().fault.code, code, "{say}");
    }
    let own = json!({ "event": "open", "subject_tenant": "acme", "subject_gate": "x",
        "gate_key": hex(&[1; 32]), "subject_stream": hex(&[1; 16]), "certificate": hex(&[1; 32]) });
    let outcome = gate.say(&ledger, Kind::Stream, &own, vec![]).await;
    assert_eq!(outcome.unwrap_err().fault.code, Code::StreamKind);
    let person = world.person("approver", "ada");
    let outcome = gate.say(&ledger, Kind::Verdict, &good, person.chain).await;
    assert_eq!(outcome.unwrap_err().fault.code, Code::PeopleChains);
    gate.say(&ledger, Kind::Verdict, &good, vec![]).await.unwrap();
}

#[tokio::test]
async fn a_stream_is_opened_by_its_own_gate_with_a_certificate_that_counts() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let gate = world.gate("acme", "prod-1");
    let open = async |request| ledger.open_stream(request).await.map(|s| s.stream);
    let code = |result: Result<_, Refused>| result.unwrap_err().fault.code;
    let mut foreign = gate.opening();
    foreign.tenant = "globex".to_owned();
    assert_eq!(code(open(foreign).await), Code::StreamForeign);
    // An enforcement point's certificate is of the gates' authority, and no gate's (CERT-10).
    for role in ["pep", "approver", "policy-admin"] {
        let uri = format!("spiffe://acme.example/tenant/acme/{role}/prod-1");
        let caller = Gate::new("acme", "prod-1", world.gates.issue(&uri, 2030));
        assert_eq!(code(open(caller.opening()).await), Code::StreamForeign, "{role}");
    }
    let mut other_key = gate.opening();
    other_key.seal_key = [1; 32];
    assert_eq!(code(open(other_key).await), Code::SealerUntrusted);
    let mut rootless = gate.opening();
    rootless.chain = support::World::new().gate("acme", "prod-1").holder.chain;
    // Its root has the name of ours, and another key.
    assert_eq!(code(open(rootless).await), Code::CertSignature);
    let mut many = gate.opening();
    many.instance = 1_024;
    assert_eq!(code(open(many).await), Code::RequestMalformed);
    world.host.set(Micros(NOON.0 + 10 * 365 * 86_400 * 1_000_000));
    assert_eq!(code(open(gate.opening()).await), Code::CertExpired);
    world.host.set(NOON);
    assert_eq!(open(gate.opening()).await, Ok(gate.stream));
    let size = ledger.head().size;
    assert_eq!(open(gate.opening()).await, Ok(gate.stream));
    assert_eq!(ledger.head().size, size, "opened once");
}

#[tokio::test]
async fn expired_and_revoked_seals_are_refused_after_repeats_were_answered() {
    let world = World::new();
    let store = Arc::new(MemoryStore::new(Faults::none()));
    let ledger = world.open(&store).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    let first = gate.batch(&[(Kind::Verdict, verdict(1, "refuse", &json!({})))]);
    only(ledger.submit(first.clone()).await.unwrap()).unwrap();
    let second = gate.batch(&[(Kind::Verdict, verdict(2, "refuse", &json!({})))]);

    world.host.set(Micros(NOON.0 + 10 * 365 * 86_400 * 1_000_000));
    assert!(only(ledger.submit(first.clone()).await.unwrap()).unwrap().first.is_some());
    assert_eq!(refused(only(ledger.submit(second.clone()).await.unwrap())), Code::CertExpired);
    ledger.stop().await;

    world.host.set(NOON);
    let mut config = world.config();
    config.revoked = vec![(gate.holder.key.verifying_key().to_bytes().to_vec(), NOON)];
    let ledger = world.open_with(&store, config).await;
    assert!(only(ledger.submit(first).await.unwrap()).unwrap().first.is_some());
    assert_eq!(refused(only(ledger.submit(second.clone()).await.unwrap())), Code::KeyRevoked);
    ledger.stop().await;
    let ledger = world.open(&store).await;
    only(ledger.submit(second).await.unwrap()).unwrap();
}

#[tokio::test]
async fn a_restart_continues_where_the_log_was() {
    let world = World::new();
    let store = Arc::new(MemoryStore::new(Faults::none()));
    let ledger = world.open(&store).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    let mut heads = vec![ledger.head()];
    for round in 0..40_u64 {
        let says: Vec<_> = (0..=round)
            .map(|n| (Kind::Verdict, verdict(round * 100 + n, "refuse", &json!({}))))
            .collect();
        ledger.submit(gate.batch(&says)).await.unwrap();
        heads.push(ledger.head());
    }
    ledger.stop().await;
    let late = gate.batch(&[(Kind::Verdict, verdict(9_999, "refuse", &json!({})))]);
    assert_eq!(ledger.submit(late.clone()).await.unwrap_err().fault.code, Code::LedgerStopping);
    let ledger = world.open(&store).await;
    let last = heads.last().unwrap();
    assert_eq!((ledger.head().size, ledger.head().root), (last.size, last.root));
    let status = gate.open(&ledger).await;
    assert_eq!(status.next_seq, (1..=40).sum::<u64>());
    only(ledger.submit(late.clone()).await.unwrap()).unwrap();
    (gate.next_seq, gate.prev) = (late.first_seq + 1, late.sealed.roots[0]);
    gate.say(&ledger, Kind::Verdict, &verdict(9_998, "refuse", &json!({})), vec![]).await.unwrap();
    let newest = ledger.head();
    for head in &heads {
        let (size, proof) = ledger.consistency(head.size, None).await.unwrap();
        verify_consistency(head.size, size, &head.root, &newest.root, &proof).unwrap();
    }
    for index in (0..newest.size.0).step_by(37) {
        assert_eq!(world.verify(&ledger, index).await.result, Verdict::Valid);
    }
    let beyond = ledger.consistency(TreeSize(1), Some(TreeSize(newest.size.0 + 1))).await;
    assert_eq!(beyond.unwrap_err().fault.code, Code::SizeUnknown);
}

#[tokio::test]
async fn tenants_see_their_own_records_and_no_others() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let mut gate = world.gate("acme", "prod-1");
    let mut other = world.gate("globex", "prod-1");
    gate.open(&ledger).await;
    other.open(&ledger).await;
    let say = verdict(1, "refuse", &json!({}));
    let (_, mine) = gate.say(&ledger, Kind::Verdict, &say, vec![]).await.unwrap();
    // The same action id of another tenant is another action.
    let (_, theirs) = other.say(&ledger, Kind::Verdict, &say, vec![]).await.unwrap();
    assert_eq!(ledger.action("acme", &support::action(1)).await.unwrap(), vec![mine.index]);
    assert_eq!(ledger.action("globex", &support::action(1)).await.unwrap(), vec![theirs.index]);
    let at = RecordAt::Index(theirs.index);
    let hidden = ledger.receipt(Some("acme"), at, TreeSize(0)).await.unwrap_err();
    assert_eq!(hidden.fault.code, Code::NotFound);
    let at = RecordAt::Seq(other.stream, 0);
    let hidden = ledger.evidence(Some("acme"), at, TreeSize(0)).await.unwrap_err();
    assert_eq!(hidden.fault.code, Code::NotFound);
    ledger.receipt(Some("globex"), at, TreeSize(0)).await.unwrap();
    let none = ledger.action("acme", &support::action(2)).await.unwrap_err();
    assert_eq!(none.fault.code, Code::NotFound);
    let early = ledger.receipt(Some("globex"), at, TreeSize(99)).await.unwrap_err();
    assert_eq!(early.fault.code, Code::SizeUnknown);
    // Each tenant sees the opening of its own stream.
    let opened = RecordAt::Index(LeafIndex(1));
    ledger.evidence(Some("acme"), opened, TreeSize(0)).await.unwrap();
    let hidden = ledger.evidence(Some("globex"), opened, TreeSize(0)).await.unwrap_err();
    assert_eq!(hidden.fault.code, Code::NotFound);
}

#[tokio::test]
async fn heads_are_cosigned_again_while_nothing_happens() {
    let world = World::new();
    let mut config = world.config();
    (config.head_interval_ms, config.head_republish_ms) = (5, 5);
    let ledger = world.open_with(&Arc::new(MemoryStore::new(Faults::none())), config).await;
    let mut heads = ledger.heads();
    world.host.set(Micros(NOON.0 + 61_000_000));
    // One head may have been on its way with the time of before.
    heads.changed().await.unwrap();
    heads.changed().await.unwrap();
    let clock = countersign_core::note::VerifierKey::new(
        &format!("{}/clock", support::ORIGIN),
        countersign_core::note::KeyType::Cosignature,
        world.keys.clock.verifying_key().to_bytes(),
    )
    .unwrap();
    let head = heads.borrow_and_update().clone();
    let note = SignedCheckpoint::parse(&head.note).unwrap();
    let times = note.cosigned_at(&clock, Code::ClockSignature).unwrap().unwrap();
    assert_eq!(times.0, NOON.seconds() + 61);
    assert_eq!(ledger.head().size, head.size);
    assert_eq!(*ledger.state().borrow(), LogState::Ready);
}

#[tokio::test]
async fn a_policy_names_texts_that_the_ledger_holds() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    let text = b"permit(principal, action, resource);";
    let mut blob = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    blob.extend_from_slice(text);
    blob.extend_from_slice(&[0; 4]);
    let digest = Context::Policy.hash(&[&blob]);
    let owner = world.person("policy-admin", "pia");
    let policy = |length: usize| {
        let value = json!({
            "activated_at": NOON.format(), "digest": hex(&digest), "engine": "cedar 4",
            "length": length, "owner": { "id": "pia", "certificate": hex(&owner.chain[0].digest()) },
            "policy_id": "prod", "version": "1",
        });
        signed(Kind::Policy, value, &owner)
    };
    let chain = || owner.chain.clone();
    let outcome = gate.say(&ledger, Kind::Policy, &policy(text.len()), chain()).await;
    assert_eq!(outcome.unwrap_err().fault.code, Code::BlobUnknown);
    let wrong = ledger.put_blob("acme", [1; 32], blob.clone()).await.unwrap_err();
    assert_eq!(wrong.fault.code, Code::BlobDigest);
    let longer = [blob.as_slice(), b"x"].concat();
    let of_longer = Context::Policy.hash(&[&longer]);
    let wrong = ledger.put_blob("acme", of_longer, longer).await.unwrap_err();
    assert_eq!(wrong.fault.code, Code::BlobDigest);
    // Another tenant's texts are not this one's: neither to register nor to read (ADR 014).
    assert_eq!(ledger.put_blob("umbra", digest, blob.clone()).await, Ok(true));
    let outcome = gate.say(&ledger, Kind::Policy, &policy(text.len()), chain()).await;
    assert_eq!(outcome.unwrap_err().fault.code, Code::BlobUnknown);
    assert_eq!(ledger.policy("umbra", digest).await.as_ref(), Ok(&blob));
    // An external engine's version has no texts here, and opens none.
    gate.say(&ledger, Kind::Policy, &policy(0), chain()).await.unwrap();
    assert_eq!(ledger.policy("acme", digest).await.unwrap_err().fault.code, Code::NotFound);
    assert_eq!(ledger.put_blob("acme", digest, blob.clone()).await, Ok(true));
    assert_eq!(ledger.put_blob("acme", digest, blob.clone()).await, Ok(false));
    assert_eq!(ledger.policy("acme", digest).await, Ok(blob));
    let outcome = gate.say(&ledger, Kind::Policy, &policy(text.len() + 1), chain()).await;
    assert_eq!(outcome.unwrap_err().fault.code, Code::BlobDigest);
    let (_, logged) = gate.say(&ledger, Kind::Policy, &policy(text.len()), chain()).await.unwrap();
    assert_eq!(world.verify(&ledger, logged.index.0).await.result, Verdict::Valid);
    // Signed by somebody whose role it isn't.
    let point = world.person("pep", "pia");
    let value = signed(Kind::Policy, policy(0), &point);
    let outcome = gate.say(&ledger, Kind::Policy, &value, point.chain.clone()).await;
    assert_eq!(outcome.unwrap_err().fault.code, Code::PersonCertificate);
    let approver = world.person("approver", "pia");
    let value = signed(Kind::Policy, policy(0), &approver);
    let outcome = gate.say(&ledger, Kind::Policy, &value, approver.chain).await;
    assert_eq!(outcome.unwrap_err().fault.code, Code::PersonCertificate);
}

/// A writer that has nothing to do begins at once: only what comes while it commits is grouped.
#[tokio::test]
async fn a_batch_alone_waits_for_nobody() {
    let world = World::new();
    let mut config = world.config();
    config.group_wait_us = 3_600 * 1_000_000;
    let ledger = world.open_with(&Arc::new(MemoryStore::new(Faults::none())), config).await;
    let mut gate = world.gate("acme", "prod-1");
    let whole = async {
        gate.open(&ledger).await;
        for n in 1..=3 {
            let batch = gate.batch(&[(Kind::Verdict, verdict(n, "refuse", &json!({})))]);
            only(ledger.submit(batch).await.unwrap()).unwrap();
        }
        // Those that come together are answered too, whichever group they are in.
        let batches =
            [4, 5, 6].map(|n| gate.batch(&[(Kind::Verdict, verdict(n, "refuse", &json!({})))]));
        let [a, b, c] = batches.map(|batch| ledger.submit(batch));
        let answers = tokio::join!(a, b, c);
        for answer in [answers.0, answers.1, answers.2] {
            only(answer.unwrap()).unwrap();
        }
    };
    let done = tokio::time::timeout(std::time::Duration::from_mins(1), whole).await;
    assert!(done.is_ok(), "a group waited for company that did not come");
}

/// Answers that nobody reads hold the room of their batches, so that they can't add up.
#[tokio::test]
async fn an_answer_keeps_its_room_until_it_is_delivered() {
    let world = World::new();
    let mut config = world.config();
    config.queue_bytes_max = 4_096;
    let ledger = world.open_with(&Arc::new(MemoryStore::new(Faults::none())), config).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    let says = [1, 2].map(|n| (Kind::Verdict, verdict(n, "refuse", &json!({}))));
    let pending = ledger.enqueue(gate.batch(&says)).await.unwrap();
    let (answer, room) = pending.answer_and_room().await;
    assert!(answer.unwrap().head.is_some());
    let next = gate.batch(&[(Kind::Verdict, verdict(3, "refuse", &json!({})))]);
    let refused = ledger.submit(next.clone()).await.unwrap_err();
    assert_eq!(refused.fault.code, Code::Overloaded);
    drop(room);
    only(ledger.submit(next).await.unwrap()).unwrap();
}

/// A new certificate of a stream's key is recorded once; an older one shown after it is not.
#[tokio::test]
async fn only_a_later_certificate_renews_a_stream() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let uri = "spiffe://acme.example/tenant/acme/gate/prod-1";
    let [older, newer] = world.gates.issue_twice(uri, [2027, 2030]);
    let mut gate = world.gate("acme", "prod-1");
    gate.holder = older;
    let opening = |chain: &Vec<countersign_core::cert::Certificate>| {
        let seal_key = gate.holder.key.verifying_key().to_bytes();
        StreamRequest { seal_key, chain: chain.clone(), ..gate.opening() }
    };
    let mut sizes = Vec::new();
    for holder in [&gate.holder, &newer, &gate.holder, &newer] {
        ledger.open_stream(opening(&holder.chain)).await.unwrap();
        sizes.push(ledger.head().size.0);
    }
    assert_eq!(sizes, [2, 3, 3, 3]);
    let at = RecordAt::Index(LeafIndex(2));
    let (_, evidence) = ledger.evidence(Some("acme"), at, TreeSize(0)).await.unwrap();
    assert_eq!(evidence.record.view(Kind::Stream).unwrap().str("event"), Some("renew"));
    assert_eq!(world.verify(&ledger, 2).await.result, Verdict::Valid);
}

/// The kinds of a gate's stream that no other test submits: a grant, an attempt, a heartbeat.
#[tokio::test]
async fn grants_attempts_and_notices_are_logged_and_proven() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    let owner = world.person("tenant-admin", "tia");
    let terms = json!({
        "grantee": "infra-agent-7", "allowed": ["ec2:DescribeInstances"], "forbidden": [],
        "ticket": "OPS-1", "session": "s-1", "not_before": null, "expires_at": null,
        "limits": null,
    });
    let grant = json!({
        "grant_id": "g-1", "terms": terms.to_string(),
        "owner": { "id": "tia", "certificate": hex(&owner.chain[0].digest()) },
    });
    let grant = signed(Kind::Grant, grant, &owner);
    let mut attempt = verdict(1, "refuse", &json!({}));
    for name in ["mode", "outcome"] {
        attempt.as_object_mut().unwrap().remove(name);
    }
    let heartbeat = json!({ "about": "heartbeat", "detail": null });
    let says = [
        (Kind::Grant, grant.clone(), owner.chain.clone()),
        (Kind::Intent, attempt, vec![]),
        (Kind::Notice, heartbeat, vec![]),
    ];
    for (kind, value, people) in says {
        let (_, logged) = gate.say(&ledger, kind, &value, people).await.unwrap();
        let report = world.verify(&ledger, logged.index.0).await;
        assert_eq!(report.result, Verdict::Valid, "{kind:?}: {report:?}");
    }
    // Terms that the owner didn't sign.
    let mut other = grant;
    other["terms"] = terms.to_string().replace("OPS-1", "OPS-2").into();
    let refused = gate.say(&ledger, Kind::Grant, &other, owner.chain).await;
    assert_eq!(refused.unwrap_err().fault.code, Code::PersonSignature);
}
