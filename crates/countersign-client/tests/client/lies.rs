//! A ledger that lies, one lie a test, each refused with its own code.

use std::sync::Arc;

use crate::ledger::{Ledger, ORIGIN, State, key};
use crate::stage::{batch, code, config, drafts, gate, identity, retry};
use countersign_client::{Client, ClientError, Gate};
use countersign_core::codes::Code;
use countersign_core::entry::Entry;
use countersign_core::hash::{RootHash, Sealed, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::stream::StreamId;
use countersign_proto::convert::RecordRef;
use countersign_proto::errors::Refusal;
use countersign_proto::v1::{SubmitResponse, answer::Outcome};

/// What the client says of one batch when the answer was changed so.
async fn lied(lie: impl FnMut(&mut SubmitResponse, &mut State) + Send + 'static) -> &'static str {
    let ledger = Ledger::start().await;
    let gate = gate(&ledger).await;
    let batch = batch(&gate, 0..3);
    ledger.on_submit(lie);
    let by_call = code(gate.client().submit(&batch).await);
    // The same lie in a stream of calls, on a fresh ledger's terms: the repeat's answer differs, so
    // only lies that a repeat can carry are compared by their being refused.
    let (sender, mut receiver) = gate.client().submit_stream(1);
    sender.send(batch).await.unwrap();
    assert!(receiver.next().await.is_err());
    by_call
}

fn accepted(response: &mut SubmitResponse, at: usize) -> &mut countersign_proto::v1::Accepted {
    match response.answers[at].outcome.as_mut().unwrap() {
        Outcome::Accepted(accepted) => accepted,
        Outcome::Rejected(_) => panic!("the stage accepts"),
    }
}

fn flipped(bytes: &[u8], at: usize) -> prost::bytes::Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

#[tokio::test]
async fn an_answer_about_something_else_is_refused() {
    assert_eq!(lied(|answer, _| answer.call_id += 1).await, "ANSWER_MISMATCH");
    assert_eq!(lied(|answer, _| drop(answer.answers.pop())).await, "ANSWER_MISMATCH");
    assert_eq!(
        lied(|answer, _| answer.answers.push(answer.answers[0].clone())).await,
        "ANSWER_MISMATCH"
    );
    assert_eq!(lied(|answer, _| answer.answers[1].seq += 1).await, "ANSWER_MISMATCH");
    assert_eq!(lied(|answer, _| answer.answers[1].outcome = None).await, "ANSWER_MISMATCH");
    assert_eq!(
        lied(|answer, _| {
            answer.checkpoint.clear();
            for at in 0..3 {
                accepted(answer, at).checkpoint.clear();
            }
        })
        .await,
        "ANSWER_MISMATCH"
    );
}

#[tokio::test]
async fn the_entry_of_another_record_is_refused() {
    let change = |at: usize| {
        lied(move |answer, _| {
            let entry = flipped(&accepted(answer, 1).entry, at);
            accepted(answer, 1).entry = entry;
        })
    };
    assert_eq!(change(0).await, "ENTRY_VERSION");
    assert_eq!(change(1).await, "TYPE_MISMATCH");
    assert_eq!(change(10).await, "ENTRY_STREAM");
    assert_eq!(change(33).await, "ENTRY_SEQ");
    assert_eq!(change(65).await, "ENTRY_SEALED");
    // A changed time leaves everything in place but the leaf: the first one's goes back, so that
    // their order stands.
    let earlier = |at: usize, us: u64| {
        lied(move |answer, _| {
            let mut entry = Entry::from_bytes(&accepted(answer, 0).entry).unwrap();
            entry.logged_at.0 -= us;
            let mut changed = Entry::from_bytes(&accepted(answer, at).entry).unwrap();
            changed.logged_at = entry.logged_at;
            accepted(answer, at).entry = changed.to_bytes().to_vec().into();
        })
    };
    assert_eq!(earlier(0, 1).await, "INCLUSION_ROOT_MISMATCH");
    assert_eq!(earlier(1, 1).await, "ANSWER_MISMATCH");
    let other = lied(|answer, _| {
        let entry = accepted(answer, 0).entry.clone();
        accepted(answer, 1).entry = entry;
    });
    assert_eq!(other.await, "ENTRY_SEQ");
    let short = lied(|answer, _| accepted(answer, 1).entry = vec![1; 65].into());
    assert_eq!(short.await, "ENTRY_LENGTH");
}

#[tokio::test]
async fn a_path_that_leads_elsewhere_is_refused() {
    let changed = lied(|answer, _| {
        let path = flipped(&accepted(answer, 0).inclusion, 3);
        accepted(answer, 0).inclusion = path;
    });
    assert_eq!(changed.await, "INCLUSION_ROOT_MISMATCH");
    let longer = lied(|answer, _| {
        let mut path = accepted(answer, 0).inclusion.to_vec();
        path.extend([0; 32]);
        accepted(answer, 0).inclusion = path.into();
    });
    assert_eq!(longer.await, "PROOF_LENGTH");
    assert_eq!(lied(|answer, _| accepted(answer, 1).index += 1).await, "PROOF_LENGTH");
    assert_eq!(lied(|answer, _| accepted(answer, 1).index = 999).await, "INDEX_OUT_OF_RANGE");
    assert_eq!(lied(|answer, _| accepted(answer, 1).index = 0).await, "ANSWER_MISMATCH");
}

#[tokio::test]
async fn a_checkpoint_that_the_log_did_not_sign_is_refused() {
    let resigned = |change: fn(&mut State) -> String| {
        lied(move |answer, state| {
            let note = change(state);
            answer.checkpoint.clone_from(&note);
            for at in 0..3 {
                if accepted(answer, at).repeat {
                    accepted(answer, at).checkpoint.clone_from(&note);
                }
            }
        })
    };
    let other_key = resigned(|state| {
        state.log_key = key(77);
        let note = state.note();
        state.log_key = key(1);
        note
    });
    assert_eq!(other_key.await, "LOG_SIGNATURE_MISSING");
    let forged = resigned(|state| {
        let size = state.size();
        let real = state.note();
        // The log's line of another root under this body.
        let lie = state.note_of(ORIGIN, size, &RootHash([4; 32]));
        let (body, _) = lie.split_once("\n\n").unwrap();
        let (_, lines) = real.split_once("\n\n").unwrap();
        format!("{body}\n\n{lines}")
    });
    assert_eq!(forged.await, "LOG_SIGNATURE");
    let other_log = resigned(|state| {
        let (size, root) = (state.size(), state.root(state.size()));
        state.note_of("ledger.evil.example/prod", size, &root)
    });
    assert_eq!(other_log.await, "ORIGIN_UNKNOWN");
    let no_clock = resigned(|state| {
        state.clock_offset_s = None;
        let note = state.note();
        state.clock_offset_s = Some(0);
        note
    });
    assert_eq!(no_clock.await, "CLOCK_ABSENT");
    let late_clock = resigned(|state| {
        state.clock_offset_s = Some(-10);
        let note = state.note();
        state.clock_offset_s = Some(0);
        note
    });
    assert_eq!(late_clock.await, "CLOCK_BEFORE_ENTRY");
    let forged_clock = resigned(|state| {
        let note = state.note();
        state.clock_key = key(88);
        let other = state.note();
        state.clock_key = key(2);
        // The other key's signature under the clock's own key ID.
        let of = |note: &str| {
            let line = note.lines().last().unwrap();
            countersign_core::encoding::from_b64(line.rsplit(' ').next().unwrap()).unwrap()
        };
        let (mut line, id) = (of(&other), of(&note));
        line[..4].copy_from_slice(&id[..4]);
        let (head, _) = note.trim_end().rsplit_once(' ').unwrap();
        format!("{head} {}\n", countersign_core::encoding::b64(&line))
    });
    assert_eq!(forged_clock.await, "CLOCK_SIGNATURE");
}

#[tokio::test]
async fn a_stream_of_another_name_is_refused() {
    let open = async |lie: fn(&mut countersign_proto::v1::OpenStreamResponse)| {
        let ledger = Ledger::start().await;
        let client = Client::connect(config(&ledger)).await.unwrap();
        ledger.with(|state| state.on_open = Some(Box::new(move |answer, _| lie(answer))));
        code(Gate::open(client, identity(), retry()).await)
    };
    assert_eq!(
        open(|answer| answer.stream = flipped(&answer.stream, 2)).await,
        "STREAM_DERIVATION"
    );
    assert_eq!(open(|answer| answer.stream = vec![1; 15].into()).await, "REQUEST_MALFORMED");
    assert_eq!(open(|answer| answer.origin.push('x')).await, "ANSWER_MISMATCH");
    assert_eq!(open(|answer| answer.next_seq = 3).await, "ANSWER_MISMATCH");
    assert_eq!(open(|answer| answer.checkpoint.clear()).await, "NOTE_MALFORMED");
}

#[tokio::test]
async fn a_repeat_is_believed_only_with_its_own_seal_and_head() {
    let repeat = async |lie: fn(&mut SubmitResponse, &mut State)| {
        let ledger = Ledger::start().await;
        let gate = gate(&ledger).await;
        let batch = batch(&gate, 0..3);
        gate.client().submit(&batch).await.unwrap();
        ledger.on_submit(lie);
        code(gate.client().submit(&batch).await)
    };
    assert_eq!(repeat(|_, _| ()).await, "no error");
    let foreign = repeat(|answer, _| {
        let seal = accepted(answer, 1).seal.as_mut().unwrap();
        seal.key = key(5).verifying_key().to_bytes().to_vec().into();
    });
    assert_eq!(foreign.await, "ANSWER_MISMATCH");
    let forged = repeat(|answer, _| {
        let seal = accepted(answer, 1).seal.as_mut().unwrap();
        seal.signature = flipped(&seal.signature, 8);
    });
    assert_eq!(forged.await, "SEAL_SIGNATURE");
    let of_another = repeat(|answer, _| {
        let seal = accepted(answer, 0).seal.clone();
        accepted(answer, 1).seal = seal;
    });
    assert_eq!(of_another.await, "SEAL_SIGNATURE");
    let short_path = repeat(|answer, _| {
        accepted(answer, 1).seal.as_mut().unwrap().path.pop();
    });
    assert_eq!(short_path.await, "SEAL_PATH");
    let not_said = repeat(|answer, _| accepted(answer, 1).repeat = false);
    assert_eq!(not_said.await, "ANSWER_MISMATCH");
    let other_head = repeat(|answer, state| {
        state.append(Kind::Notice, StreamId::LEDGER, 9, Sealed([1; 32]));
        accepted(answer, 1).checkpoint = state.note();
    });
    assert_eq!(other_head.await, "INCLUSION_ROOT_MISMATCH");
}

#[tokio::test]
async fn a_first_seal_of_another_batch_is_the_one_that_counts() {
    // The first answer was lost, and the gate seals what waits in another grouping.
    let ledger = Ledger::start().await;
    let gate = gate(&ledger).await;
    let whole = batch(&gate, 0..3);
    gate.client().submit(&whole).await.unwrap();
    let alone = gate.seal(1, vec![whole.records()[1].clone()]).unwrap();
    let outcome = gate.client().submit(&alone).await.unwrap();
    let logged = outcome.records[0].result.as_ref().unwrap();
    assert!(logged.is_repeat());
    let seal = logged.seal().unwrap();
    assert_eq!((seal.size, seal.index), (3, 1));
    seal.verify(&alone.roots()[0]).unwrap();
}

fn conflict<T>(result: Result<T, ClientError>) -> (Code, u64, u64) {
    match result.err().expect("the ledger lied") {
        ClientError::Head(found) => (found.code, found.kept.size.0, found.shown.size.0),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_smaller_head_is_a_rollback_and_stays_one() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    gate.log(&drafts(&gate, 0..3)).await.unwrap();
    ledger.with(|state| state.cut(3));
    assert_eq!(conflict(gate.client().head().await), (Code::HeadRollback, 5, 3));
    // Growing again does not make it good.
    ledger.with(|state| {
        for seq in 0..9 {
            state.append(Kind::Notice, StreamId::LEDGER, seq, Sealed([1; 32]));
        }
    });
    assert_eq!(conflict(gate.client().head().await), (Code::HeadRollback, 5, 3));
    assert_eq!(conflict(gate.client().settle().await), (Code::HeadRollback, 5, 3));
    assert_eq!(conflict(gate.log(&drafts(&gate, 3..4)).await), (Code::HeadRollback, 5, 3));
}

#[tokio::test]
async fn a_submit_under_a_smaller_head_is_a_rollback() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    gate.log(&drafts(&gate, 0..5)).await.unwrap();
    let next = batch(&gate, 5..6);
    ledger.with(|state| {
        // History is gone, and the stream's end pretends that it is not.
        let end = *state.streams.get(&gate.stream()).unwrap();
        state.cut(2);
        state.streams.insert(gate.stream(), end);
    });
    assert_eq!(conflict(gate.client().submit(&next).await), (Code::HeadRollback, 7, 3));
}

#[tokio::test]
async fn another_root_of_the_same_size_is_a_fork() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    gate.log(&drafts(&gate, 0..3)).await.unwrap();
    ledger.with(|state| state.rewrite(2));
    assert_eq!(conflict(gate.client().head().await), (Code::HeadFork, 5, 5));
}

#[tokio::test]
async fn a_larger_tree_that_does_not_continue_the_old_one_is_a_fork() {
    let ledger = Ledger::start().await;
    let gate = gate(&ledger).await;
    gate.client().submit(&batch(&gate, 0..3)).await.unwrap();
    ledger.with(|state| state.rewrite(1));
    // Held until the interval is over or somebody asks.
    let more = gate.prepare_after(&batch(&gate, 0..3), &drafts(&gate, 3..4)).unwrap();
    let _ = gate.client().submit(&more).await;
    ledger.with(|state| {
        state.append(Kind::Notice, StreamId::LEDGER, 9, Sealed([1; 32]));
    });
    let (found, kept, shown) = conflict(gate.client().head().await);
    assert_eq!((found, kept), (Code::HeadFork, 2));
    assert!(shown > 5);
}

#[tokio::test]
async fn a_ledger_without_a_proof_for_its_own_heads_has_forked() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    gate.log(&drafts(&gate, 0..3)).await.unwrap();
    ledger.with(|state| {
        state.on_consistency = Some(Box::new(|answer, _| {
            answer.hashes = vec![vec![0; 32].into(); answer.hashes.len()];
        }));
    });
    assert_eq!(conflict(gate.client().settle().await), (Code::HeadFork, 1, 5));

    let ledger = Ledger::start().await;
    let mut gate = crate::stage::gate(&ledger).await;
    gate.log(&drafts(&gate, 0..3)).await.unwrap();
    ledger.with(|state| {
        state.on_consistency = Some(Box::new(|answer, _| answer.new_size += 1));
    });
    assert_eq!(code(gate.client().settle().await), "CONSISTENCY_SIZES");
}

#[tokio::test]
async fn a_rollback_shows_after_a_restart_and_both_heads_are_kept() {
    let ledger = Ledger::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&ledger);
    config.head_memory = Some(dir.path().join("head.note"));
    let client = Client::connect(config.clone()).await.unwrap();
    let mut gate = Gate::open(client, identity(), retry()).await.unwrap();
    gate.log(&drafts(&gate, 0..4)).await.unwrap();
    gate.client().settle().await.unwrap();
    drop(gate);
    ledger.with(|state| state.cut(4));
    let result = Client::connect(config.clone()).await;
    assert_eq!(conflict(result), (Code::HeadRollback, 6, 4));
    let size = |name: &str| {
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
        text.lines().nth(1).unwrap().to_owned()
    };
    assert_eq!((size("head.note"), size("head.note.kept")), ("6".to_owned(), "6".to_owned()));
    assert_eq!(size("head.note.shown"), "4");
    // And a fork of the same size.
    ledger.with(|state| {
        for seq in 0..3 {
            state.append(Kind::Notice, StreamId::LEDGER, seq, Sealed([1; 32]));
        }
    });
    assert_eq!(conflict(Client::connect(config.clone()).await), (Code::HeadFork, 6, 7));
    // A head that somebody changed on disk is not believed either.
    std::fs::write(dir.path().join("head.note"), "x").unwrap();
    assert_eq!(code(Client::connect(config).await), "NOTE_MALFORMED");
}

#[tokio::test]
async fn receipts_and_evidence_of_something_else_are_refused() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    let logged = gate.log(&drafts(&gate, 0..3)).await.unwrap();
    let [first, second] = [0, 1].map(|at| logged[at].as_ref().unwrap());
    let client = gate.client();
    // Another record's receipt does not prove this entry.
    let wrong = RecordRef::StreamSeq(gate.stream(), 0);
    let result = client.receipt(wrong, second.entry(), TreeSize(0)).await;
    assert_eq!(code(result), "ANSWER_MISMATCH");
    let at = second.index();
    ledger.with(|state| {
        let other = state.note_of(ORIGIN, 5, &RootHash([9; 32]));
        state.on_receipt = Some(Box::new(move |answer, _| {
            let (proof, _) = answer.receipt.split_once("\n\n").unwrap();
            answer.receipt = format!("{proof}\n\n{other}");
        }));
    });
    let result = client.receipt(RecordRef::Index(at), second.entry(), TreeSize(0)).await;
    assert_eq!(code(result), "INCLUSION_ROOT_MISMATCH");
    let result = client.receipt(RecordRef::Index(at), second.entry(), TreeSize(99)).await;
    assert_eq!(code(result), "ANSWER_MISMATCH");
    let result = client.receipt(RecordRef::Index(first.index()), second.entry(), TreeSize(0)).await;
    assert_eq!(code(result), "INCLUSION_ROOT_MISMATCH");
}

#[tokio::test]
async fn a_refusal_keeps_the_codes_name_and_no_endpoint_leaks_an_identity() {
    let ledger = Ledger::start().await;
    let gate = gate(&ledger).await;
    let refused = batch(&gate, 0..1);
    ledger.with(|state| state.fail_before = vec![Refusal::from(Code::StreamForeign).into()]);
    assert_eq!(code(gate.client().submit(&refused).await), "STREAM_FOREIGN");
    let mut config = config(&ledger);
    config.identity =
        Some(countersign_client::TlsIdentity { cert_pem: String::new(), key_pem: String::new() });
    assert_eq!(code(Client::connect(config.clone()).await), "CONFIG_INVALID");
    config.endpoint = "https://127.0.0.1:1".to_owned();
    assert_eq!(code(Client::connect(config.clone()).await), "CONFIG_INVALID");
    config.identity = None;
    config.endpoint = "http://127.0.0.1:1".to_owned();
    assert_eq!(code(Client::connect(config).await), "UNREACHABLE");
    let _ = Arc::clone(&refused);
}
