//! The witness's protocol, rule by rule: what it cosigns, what it refuses with which status, what
//! is on the disk by then.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response};
use countersign_core::codes::Code;
use countersign_core::encoding::{b64, hex};
use countersign_core::hash::{TreeSize, sha256};
use countersign_core::note::{
    KeyType, SignedCheckpoint, VerifierKey, checkpoint_body, cosign_body, sign_body,
};
use countersign_core::quorum::WitnessPolicy;
use countersign_mirror::witness::checkpoint::Checkpoint;
use countersign_mirror::witness::config::WitnessedLog;
use countersign_mirror::witness::http::router;
use countersign_mirror::witness::request::{AddCheckpoint, REQUEST_BYTES_MAX};
use countersign_mirror::witness::{HeadFolder, Heads, OpenError, Refusal, Witness};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use tower::ServiceExt as _;

use support::{
    Fate, History, MemoryHeads, NOON, ORIGIN, WITNESS, key, log_vkey, open, request, vkey,
};

fn add(witness: &Witness<MemoryHeads>, request: &str) -> Result<String, Refusal> {
    witness.add_checkpoint(request.as_bytes(), NOON)
}

/// NOTE-12: the verifier's own quorum takes the cosignature.
#[test]
fn a_cosignature_makes_the_verifiers_quorum() {
    let witness = open(MemoryHeads::default()).unwrap();
    let history = History::of(5, 0);
    for (old, new) in [(0, 3), (3, 3), (3, 5)] {
        let line = add(&witness, &history.request(old, new)).unwrap();
        let note = SignedCheckpoint::parse(&history.note(new)).unwrap().with_line(&line).unwrap();
        let policy = format!("witness W {}\nquorum W\n", witness.vkey());
        let policy = WitnessPolicy::parse(&policy).unwrap();
        let met = policy.evaluate(&note, &[log_vkey().key], None).unwrap().unwrap();
        assert_eq!(met.witnesses, ["W"]);
        let times = note.cosigned_at(witness.vkey(), Code::WitnessSignature).unwrap();
        assert_eq!(times, Some((NOON, NOON)));
        // What monitors get is that note, and another witness's quorum is not met by it.
        assert_eq!(witness.cosigned(ORIGIN).unwrap().note, note.as_str());
        let other = format!("witness W {}\nquorum W\n", vkey("w2", KeyType::Cosignature, 3));
        let other = WitnessPolicy::parse(&other).unwrap();
        assert_eq!(other.evaluate(&note, &[], None).unwrap(), None);
    }
}

/// WITN-4, in the order of the page: which fault is named when there are two.
#[test]
fn each_refusal_has_the_status_of_the_page() {
    let witness = open(MemoryHeads::default()).unwrap();
    let (history, fork) = (History::of(20, 0), History::of(20, 1));
    add(&witness, &history.request(0, 8)).unwrap();
    let other_origin = history.note(9).replace(ORIGIN, "other.example/log");
    let body = history.body(9);
    let unsigned =
        format!("{body}\n{}", sign_body(&vkey(ORIGIN, KeyType::Note, 7), &key(7), &body));
    let forged = format!("{body}\n{}", sign_body(&log_vkey(), &key(7), &body));
    let proof = history.proof(8, 9);
    let mut wrong = proof.clone();
    wrong[0][0] ^= 1;
    let mut long = proof.clone();
    long.push([0; 32]);
    let empty = checkpoint_body(ORIGIN, TreeSize(0), &history.root(1));
    let empty = format!("{empty}\n{}", sign_body(&log_vkey(), &key(1), &empty));
    let cases = [
        ("another origin", request(8, &proof, &other_origin), 404),
        ("an unknown key", request(8, &proof, &unsigned), 403),
        ("a known key that fails", request(8, &proof, &forged), 403),
        ("unsigned and an old size too large", request(10, &[], &unsigned), 403),
        ("an old size too large", request(10, &[], &history.note(9)), 400),
        ("an old size behind", request(7, &history.proof(7, 9), &history.note(9)), 409),
        ("an old size of zero", request(0, &[], &history.note(9)), 409),
        ("an old size ahead", request(9, &[], &history.note(9)), 409),
        ("a smaller head", history.request(4, 5), 409),
        ("no proof", request(8, &[], &history.note(9)), 422),
        ("a wrong proof", request(8, &wrong, &history.note(9)), 422),
        ("a longer proof", request(8, &long, &history.note(9)), 422),
        ("a fork of the same size", request(8, &[], &fork.note(8)), 409),
        ("a fork that grew", request(8, &fork.proof(8, 9), &fork.note(9)), 422),
        ("a proof between equal sizes", request(8, &proof, &history.note(8)), 422),
    ];
    for (what, request, status) in cases {
        let refusal = add(&witness, &request).unwrap_err();
        assert_eq!(refusal.status(), status, "{what}: {refusal:?}");
        if status == 409 {
            let same_size = what == "a fork of the same size";
            let told = if same_size { Refusal::Differs } else { Refusal::Conflict };
            assert_eq!(refusal, told(TreeSize(8)), "{what}");
        }
        assert_eq!(witness.cosigned(ORIGIN).unwrap().size, TreeSize(8), "{what}");
    }
    // None of these changed anything; and of a log that was never seen:
    add(&witness, &history.request(8, 9)).unwrap();
    let fresh = open(MemoryHeads::default()).unwrap();
    for (what, request, status) in [
        ("a proof from nothing", request(0, &[[0; 32]], &history.note(9)), 422),
        ("an empty tree's wrong root", request(0, &[], &empty), 422),
        ("an old size from elsewhere", history.request(8, 9), 409),
    ] {
        assert_eq!(add(&fresh, &request).unwrap_err().status(), status, "{what}");
    }
    assert_eq!(fresh.cosigned(ORIGIN), None);
    add(&fresh, &history.request(0, 0)).unwrap();
    assert_eq!(fresh.cosigned(ORIGIN).unwrap().size, TreeSize(0));
    add(&fresh, &history.request(0, 9)).unwrap();
}

/// WITN-2: one spelling, and caps.
#[test]
fn what_is_not_of_the_form_is_400() {
    let witness = open(MemoryHeads::default()).unwrap();
    let history = History::of(9, 0);
    let good = history.request(0, 9);
    let line = format!("{}\n", b64(&[7; 32]));
    let mut malformed = vec![
        String::new(),
        "\n".to_owned(),
        "old 0".to_owned(),
        "old 0\n\n".to_owned(),
        good.replacen("old 0", "old 00", 1),
        good.replacen("old 0", "old +0", 1),
        good.replacen("old 0", "old  0", 1),
        good.replacen("old 0", "old 0 ", 1),
        good.replacen("old 0", "Old 0", 1),
        good.replacen("old 0", "old 18446744073709551616", 1),
        good.replacen('\n', "\r\n", 1),
        good.replacen("\n\n", "\n", 1),
        good.replacen("\n\n", &format!("\n{}\n\n", b64(&[7; 31])), 1),
        good.replacen("\n\n", "\nAAAA\n\n", 1),
        good.replacen("\n\n", &format!("\n{}\n", line.repeat(64)), 1),
        good.replacen("\n9\n", "\n09\n", 1),
        good.replacen("\n9\n", "\n-9\n", 1),
        good.trim_end().to_owned(),
        format!("{good}\n"),
        format!("{good}text\n"),
        good.replace('\u{2014}', "-"),
        good.replacen(ORIGIN, "", 1),
        good.replacen(ORIGIN, "tab\there", 1),
        good.replacen("\n\n\u{2014}", "\n\n\n\u{2014}", 1),
    ];
    malformed.push(format!("{good}{}", "\u{2014} x AAAAAAA=\n".repeat(64)));
    malformed.push(format!("{good}\u{2014} x {}\n", "A".repeat(REQUEST_BYTES_MAX)));
    for request in malformed {
        let refusal = add(&witness, &request).unwrap_err();
        assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}: {request}");
    }
    let not_text = [good.as_bytes(), &[0xff]].concat();
    assert!(matches!(witness.add_checkpoint(&not_text, NOON), Err(Refusal::Malformed(_))));
    assert_eq!(witness.cosigned(ORIGIN), None);
    // 63 proof lines are of the form; 16 foreign signatures of post-quantum size fit beside.
    let most = good.replacen("\n\n", &format!("\n{}\n", line.repeat(63)), 1);
    assert_eq!(add(&witness, &most).unwrap_err().status(), 422);
    let foreign = format!("\u{2014} other.example/pq {}\n", b64(&[7; 4_900]));
    add(&witness, &format!("{good}{}", foreign.repeat(16))).unwrap();
    let stored = witness.cosigned(ORIGIN).unwrap().note;
    assert!(!stored.contains("other.example"), "only lines that were verified are kept");
}

/// The request that the C2SP page shows, though its key is nobody's here.
#[test]
fn the_pages_example_is_of_the_form() {
    let example = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
    let read = AddCheckpoint::parse(example.as_bytes()).unwrap();
    assert_eq!((read.old, read.proof.len()), (TreeSize(20_852_014), 4));
    assert_eq!(read.checkpoint.origin(), "example.com/behind-the-sofa");
    assert_eq!(read.checkpoint.size(), TreeSize(20_852_163));
}

/// Other logs have extension lines, origins with spaces, keys under another name.
#[test]
fn logs_of_other_makers_are_witnessed() {
    const TREE: &str = "go.sum database tree";
    let signer = vkey("sum.example", KeyType::Note, 1);
    let log = WitnessedLog { origin: TREE.to_owned(), keys: vec![signer.clone()] };
    let witness = Witness::open(WITNESS, key(2), vec![log], MemoryHeads::default()).unwrap();
    let history = History::of(9, 0);
    let body = format!(
        "{}extension one\n\u{2014} looks like a signature\n",
        checkpoint_body(TREE, TreeSize(9), &history.root(9))
    );
    let note = format!("{body}\n{}", sign_body(&signer, &key(1), &body));
    let line = add(&witness, &request(0, &[], &note)).unwrap();
    let cosigned = Checkpoint::parse(&format!("{note}{line}")).unwrap();
    assert_eq!(cosigned.body(), body, "extension lines are part of what is cosigned");
    assert_eq!(cosigned.cosigned_by(witness.vkey()), Some(NOON));
    let other = body.replace("one", "two");
    let other = Checkpoint::parse(&format!("{other}\n{line}")).unwrap();
    assert_eq!(other.cosigned_by(witness.vkey()), None);
    let hole = body.replace("extension one\n", "\n");
    let hole = format!("{hole}\n{}", sign_body(&signer, &key(1), &hole));
    assert_eq!(add(&witness, &request(9, &[], &hole)).unwrap_err().status(), 400);
}

/// WITN-6: a later cosignature never says an earlier time, and none says no time.
#[test]
fn a_clock_that_goes_back_does_not_take_the_time_back() {
    let witness = open(MemoryHeads::default()).unwrap();
    let history = History::of(9, 0);
    let at = |old, new, now| witness.add_checkpoint(history.request(old, new).as_bytes(), now);
    assert_eq!(at(0, 1, 0), Err(Refusal::Unavailable));
    assert_eq!(at(0, 1, u64::MAX), Err(Refusal::Unavailable));
    for (old, new, now, then) in [(0, 1, 50, 50), (1, 2, 40, 50), (2, 3, 0, 50), (3, 4, 51, 51)] {
        at(old, new, now).unwrap();
        assert_eq!(witness.cosigned(ORIGIN).unwrap().seconds, then);
    }
}

/// WITN-5: what could not be stored was never cosigned, and nothing is until a restart has looked.
#[test]
fn a_failed_write_ends_cosigning_until_a_restart() {
    let history = History::of(9, 0);
    for (fate, held) in [(Fate::Lost, 3), (Fate::Persisted, 5)] {
        let heads = MemoryHeads::default();
        let witness = open(heads.clone()).unwrap();
        add(&witness, &history.request(0, 3)).unwrap();
        heads.fail(fate);
        assert_eq!(add(&witness, &history.request(3, 5)), Err(Refusal::Unavailable));
        assert_eq!(add(&witness, &history.request(3, 4)), Err(Refusal::Unavailable));
        assert_eq!(witness.cosigned(ORIGIN), None, "what may not be there is shown to nobody");
        let witness = open(heads).unwrap();
        assert_eq!(witness.cosigned(ORIGIN).unwrap().size, TreeSize(held));
        add(&witness, &history.request(held, 9)).unwrap();
    }
}

/// WITN-7: disk bytes are input.
#[test]
fn a_stored_head_that_this_key_did_not_cosign_is_not_built_upon() {
    let history = History::of(9, 0);
    let heads = MemoryHeads::default();
    add(&open(heads.clone()).unwrap(), &history.request(0, 3)).unwrap();
    let good = heads.note(ORIGIN).unwrap();
    let body = history.body(2);
    let other = vkey(WITNESS, KeyType::Cosignature, 9);
    for note in [
        String::new(),
        "text\n".to_owned(),
        history.note(2),
        good.replacen("\n3\n", "\n2\n", 1),
        good.replace(ORIGIN, "ledger.other.example/prod"),
        format!("{}{}", history.note(2), cosign_body(&other, &key(9), NOON, &body)),
    ] {
        heads.set(ORIGIN, &note);
        assert!(matches!(open(heads.clone()), Err(OpenError::Foreign { .. })), "{note}");
    }
    heads.set(ORIGIN, &good);
    assert_eq!(open(heads).unwrap().cosigned(ORIGIN).unwrap().size, TreeSize(3));
    let own = vec![WitnessedLog {
        origin: ORIGIN.to_owned(),
        keys: vec![VerifierKey::new(ORIGIN, KeyType::Note, log_vkey().key).unwrap()],
    }];
    let reused = Witness::open(WITNESS, key(1), own, MemoryHeads::default());
    assert!(matches!(reused, Err(OpenError::KeyReused(_))));
}

/// A log that changes its key: either signs, and the last head still counts.
#[test]
fn a_log_may_have_an_old_key_and_a_new_one() {
    let history = History::of(9, 0);
    let heads = MemoryHeads::default();
    add(&open(heads.clone()).unwrap(), &history.request(0, 3)).unwrap();
    let new = vkey(ORIGIN, KeyType::Note, 5);
    let sign = |body: &str| format!("{body}\n{}", sign_body(&new, &key(5), body));
    let log = |keys| vec![WitnessedLog { origin: ORIGIN.to_owned(), keys }];
    let both = Witness::open(WITNESS, key(2), log(vec![log_vkey(), new.clone()]), heads).unwrap();
    add(&both, &request(3, &history.proof(3, 5), &sign(&history.body(5)))).unwrap();
    add(&both, &history.request(5, 9)).unwrap();
    // One of two known keys fails: the note is no note.
    let body = history.body(9);
    let half = format!("{}{}", history.note(9), sign_body(&new, &key(6), &body));
    assert_eq!(add(&both, &request(9, &[], &half)), Err(Refusal::Unsigned));
}

#[test]
fn a_folder_keeps_heads_and_has_one_witness() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("heads");
    let heads = HeadFolder::open(&path).unwrap();
    assert_eq!(heads.read("a").unwrap(), None);
    heads.replace("a", "one").unwrap();
    heads.replace("a/../b", "two").unwrap();
    heads.replace("a", "three").unwrap();
    let busy = HeadFolder::open(&path).unwrap_err();
    assert_eq!(busy.kind(), std::io::ErrorKind::ResourceBusy);
    drop(heads);
    // What a killed process left beside is no head.
    let name = hex(&sha256(b"a"));
    std::fs::write(path.join(format!("{name}.new")), "half").unwrap();
    let heads = HeadFolder::open(&path).unwrap();
    assert_eq!(heads.read("a").unwrap().unwrap(), b"three");
    assert_eq!(heads.read("a/../b").unwrap().unwrap(), b"two");
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 3);
}

/// Many clients at once, each with a head of its own: the log's heads come out as one line.
#[test]
fn of_requests_at_once_each_is_judged_by_what_the_one_before_left() {
    let dir = tempfile::tempdir().unwrap();
    let witness = Arc::new(open(HeadFolder::open(&dir.path().join("heads")).unwrap()).unwrap());
    let history = Arc::new(History::of(64, 0));
    let clients: Vec<_> = (0..8_u64)
        .map(|client| {
            let (witness, history) = (Arc::clone(&witness), Arc::clone(&history));
            std::thread::spawn(move || {
                let (mut old, mut steps) = (0, Vec::new());
                while old < 64 {
                    let new = (old + 1 + client % 3).min(64);
                    let request = history.request(old, new);
                    match witness.add_checkpoint(request.as_bytes(), NOON) {
                        Ok(_) => {
                            steps.push((old, new));
                            old = new;
                        }
                        Err(Refusal::Conflict(held)) => {
                            assert!(held.0 >= old, "it went back from {old} to {}", held.0);
                            old = held.0;
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
                steps
            })
        })
        .collect();
    let mut steps: Vec<(u64, u64)> =
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    steps.sort_unstable();
    let mut at = 0;
    for (old, new) in steps {
        assert_eq!(old, at, "two heads were cosigned on top of one");
        at = new;
    }
    assert_eq!(at, 64);
}

async fn call(router: &axum::Router, request: Request<Body>) -> (Response<()>, String) {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
}

/// WITN-8, and the statuses and types that the page asks for, over HTTP.
#[tokio::test]
async fn the_port_speaks_as_the_page_says() {
    let witness = Arc::new(open(MemoryHeads::default()).unwrap());
    let mut registry = Registry::default();
    let router = router(Arc::clone(&witness), || NOON, &mut registry);
    let history = History::of(9, 0);
    let post = |body: String| Request::post("/add-checkpoint").body(Body::from(body)).unwrap();
    let monitor = format!("/{}/checkpoint", hex(&sha256(ORIGIN.as_bytes())));
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(call(&router, get(&monitor)).await.0.status(), 404);
    let (response, line) = call(&router, post(history.request(0, 3))).await;
    assert_eq!(response.status(), 200);
    assert!(line.starts_with("\u{2014} witness.example/w1 ") && line.ends_with('\n'), "{line}");
    let (response, body) = call(&router, post(history.request(0, 3))).await;
    assert_eq!((response.status().as_u16(), body.as_str()), (409, "3\n"));
    assert_eq!(response.headers()["content-type"], "text/x.tlog.size");
    for (body, status) in [
        ("x".to_owned(), 400),
        ("x".repeat(REQUEST_BYTES_MAX + 1), 400),
        (history.request(3, 4).replace(ORIGIN, "x"), 404),
        (request(3, &[], &history.note(4)), 422),
    ] {
        assert_eq!(call(&router, post(body)).await.0.status(), status);
    }
    assert_eq!(call(&router, get("/add-checkpoint")).await.0.status(), 405);
    let (response, note) = call(&router, get(&monitor)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    let note = SignedCheckpoint::parse(&note).unwrap();
    note.verify_log(&log_vkey()).unwrap();
    assert!(note.cosigned_at(witness.vkey(), Code::WitnessSignature).unwrap().is_some());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "countersign_witness_requests_total{status=\"200\"} 1\n",
        "countersign_witness_requests_total{status=\"400\"} 2\n",
        "countersign_witness_size{origin=\"ledger.acme.example/prod\"} 3\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
