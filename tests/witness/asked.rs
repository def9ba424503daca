//! A ledger asks its witnesses through restarts, death, sleep and lies.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_core::hash::RootHash;
use countersign_core::note::{
    KeyType, SignedCheckpoint, VerifierKey, checkpoint_body, cosign_body,
};
use countersign_core::quorum::WitnessPolicy;
use countersign_core::trust::Trust;
use countersign_core::verify::{Verdict, verify_file};
use countersign_tests::http::get;
use countersign_tests::{Installation, await_until};
use ed25519_dalek::SigningKey;

use crate::process::Folder;
use crate::stand_in::{Manner, StandIn};

/// The key of a witness that lies: only its words are false, not its key.
fn liars_key() -> SigningKey {
    SigningKey::from_bytes(&[66; 32])
}

fn liars_vkey() -> VerifierKey {
    let public = liars_key().verifying_key().to_bytes();
    VerifierKey::new("witness.example/liar", KeyType::Cosignature, public).unwrap()
}

/// The log's own key, as `init` left it.
pub(crate) fn log_vkey(installation: &Installation) -> String {
    let path = format!("{}/log.vkey", installation.identity("gate"));
    std::fs::read_to_string(path).unwrap().trim_end().to_owned()
}

/// Has the ledger ask the witnesses of this policy, quickly, and the verifier demand it.
pub(crate) fn demand(installation: &Installation, policy: &str) {
    let dir = installation.dir();
    std::fs::write(dir.join("witness-policy.txt"), policy).unwrap();
    let path = dir.join("countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("head_interval_ms = 1000", "head_interval_ms = 50");
    let section =
        "\n[witnesses]\npolicy = \"witness-policy.txt\"\ntimeout_ms = 700\nstart_wait_s = 2\n";
    std::fs::write(&path, text + section).unwrap();
    let path = dir.join("trust.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[witnesses]\npolicy = '''\n{policy}'''\n")).unwrap();
}

/// Every head that the ledger publishes, as a monitor sees them.
struct Watch {
    notes: Arc<Mutex<Vec<SignedCheckpoint>>>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    /// Looks at the ledger's checkpoint until it is dropped; `at` says where it is served now.
    fn of(at: &Arc<Mutex<SocketAddr>>) -> Self {
        let (notes, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, stop, at) = (Arc::clone(&notes), Arc::clone(&ended), Arc::clone(at));
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let addr = *at.lock().unwrap();
                if let Some((200, note)) =
                    countersign_tests::http::call(addr, "GET", "/checkpoint", "")
                {
                    let note = SignedCheckpoint::parse(&note).unwrap();
                    let mut kept: std::sync::MutexGuard<'_, Vec<SignedCheckpoint>> =
                        kept.lock().unwrap();
                    if kept.last() != Some(&note) {
                        kept.push(note);
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { notes, ended }
    }

    /// No line that fails, nothing smaller after something larger; gives the notes.
    fn judged(&self, policy: &WitnessPolicy) -> Vec<SignedCheckpoint> {
        let notes = self.notes.lock().unwrap().clone();
        for pair in notes.windows(2) {
            assert!(pair[0].size <= pair[1].size, "{} after {}", pair[1].size.0, pair[0].size.0);
        }
        for note in &notes {
            // An error would be a known witness's line that does not verify.
            policy.evaluate(note, &[], None).unwrap();
        }
        notes
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

/// The newest head that is published, as soon as it is as asked for.
async fn published(
    addr: SocketAddr,
    wanted: impl Fn(&SignedCheckpoint) -> bool,
) -> SignedCheckpoint {
    await_until("such a head", || {
        let note = SignedCheckpoint::parse(&get(addr, "/checkpoint")).unwrap();
        wanted(&note).then_some(note)
    })
    .await
}

/// A figure of `/metrics` by the beginning of its line; 0 where there is none.
fn figure(addr: SocketAddr, line: &str) -> f64 {
    let metrics = get(addr, "/metrics");
    let found = metrics.lines().find_map(|found| found.strip_prefix(line));
    found.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// `countersign evidence INDEX --witnessed`; its exit code and words, and whether the file it left
/// is VALID for who demands the quorum.
fn witnessed(installation: &Installation, index: u64, wait: &str) -> (Option<i32>, String, bool) {
    let out = installation.beside("witnessed");
    let _ = std::fs::remove_dir_all(&out);
    let (server, identity) = (installation.ledger_address(), installation.identity("gate"));
    let (index, folder) = (index.to_string(), out.to_str().unwrap());
    let call = ["evidence", &index, "--witnessed", "--wait", wait, "--server", &server];
    let said = installation.run(&[&call[..], &["--identity", &identity, "--out", folder]].concat());
    let file = std::fs::read(out.join(format!("{:020}.evidence", index.parse::<u64>().unwrap())));
    let trust = trust_of(&installation.dir());
    let valid = |bytes: Vec<u8>| verify_file(&bytes, Some(&trust)).result == Verdict::Valid;
    (said.status.code(), said.stderr, file.is_ok_and(valid))
}

fn trust_of(dir: &Path) -> Trust {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    Trust::parse(&read("trust.toml"), |name| Ok(read(name))).unwrap()
}

/// COSI-1, COSI-3 to COSI-7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_witnesses_die_sleep_and_come_back_and_no_head_is_lost_or_overstated() {
    let mut installation = Installation::new();
    let log = log_vkey(&installation);
    let names = ["one", "two"];
    let vkeys = names
        .map(|name| Folder::of(&installation, name).init(&format!("witness.example/{name}"), &log));
    let stand_ins = [(); 2].map(|()| StandIn::new(Manner::Dead));
    let [one, two] = [0, 1].map(|n| format!("{} http://{}", vkeys[n], stand_ins[n].addr));
    let policy = format!("witness W1 {one}\nwitness W2 {two}\ngroup both 2 W1 W2\nquorum both\n");
    demand(&installation, &policy);
    let policy = WitnessPolicy::parse(&policy).unwrap();
    let quorum = |note: &SignedCheckpoint| policy.evaluate(note, &[], None).unwrap().is_some();

    // Nobody answers at the start.
    let said = installation.ledger_refuses(&[]);
    assert!(said.stderr.contains("WITNESS_SILENT"), "{}", said.stderr);
    assert!(said.stderr.contains("Witness W2: it can't be reached"), "{}", said.stderr);

    let first = Folder::of(&installation, names[0]).start(0).await;
    let second = Folder::of(&installation, names[1]).start(0).await;
    let to = [first.addr, second.addr];
    stand_ins[0].be(Manner::HandOn(to[0]));
    stand_ins[1].be(Manner::HandOn(to[1]));
    installation.start_ledger().await;
    let http = Arc::new(Mutex::new(installation.ledger_http()));
    let watch = Watch::of(&http);
    let at = || *http.lock().unwrap();
    installation.submit(5, 0);
    let whole = published(at(), |note| quorum(note) && note.size.0 >= 6).await;
    assert_eq!(witnessed(&installation, 3, "20"), (Some(0), String::new(), true));

    // One is killed: heads go on with the other's line, short of the quorum and saying so.
    drop(second);
    stand_ins[1].be(Manner::Dead);
    installation.submit(5, 100);
    let short =
        published(at(), |note| note.size > whole.size && note.as_str().contains("/one ")).await;
    assert!(!quorum(&short) && !short.as_str().contains("/two "), "{}", short.as_str());
    await_until("a second failure", || {
        let refused = "countersign_cosign_requests_total{witness=\"W2\",result=\"unreachable\"}";
        (figure(at(), refused) >= 2.0).then_some(())
    })
    .await;
    // It rests for longer and longer, and the quorum is not claimed.
    assert!(figure(at(), "countersign_cosign_rest_seconds{witness=\"W2\"}") > 1.0);
    assert!(figure(at(), "countersign_cosign_rest_seconds{witness=\"W1\"}") == 0.0);
    assert!(figure(at(), "countersign_cosign_quorum") == 0.0);
    let (code, words, _) = witnessed(&installation, short.size.0 - 1, "1");
    assert!(code == Some(3) && words.contains("NOT_WITNESSED"), "{code:?}: {words}");
    assert_eq!(witnessed(&installation, 3, "1").0, Some(0), "what was witnessed still is");

    // The ledger is killed and comes back, which it does not without being told to.
    installation.kill_ledger();
    let said = installation.ledger_refuses(&[]);
    assert!(said.stderr.contains("WITNESS_SILENT") && said.stderr.contains("Witness W2"));
    installation.start_ledger_with(&["--without-witnesses"]).await;
    *http.lock().unwrap() = installation.ledger_http();
    assert_eq!(
        witnessed(&installation, 3, "1").0,
        Some(0),
        "a witnessed head outlives the process"
    );

    // The other one comes back, slow: the next head has both lines again.
    let second = Folder::of(&installation, names[1]).start(0).await;
    stand_ins[1].be(Manner::Slow(Duration::from_millis(200), second.addr));
    let again = published(at(), &quorum).await;
    assert!(again.size >= short.size);
    assert_eq!(witnessed(&installation, short.size.0 - 1, "20"), (Some(0), String::new(), true));

    // Too slow, and then silent: neither holds a head back.
    for manner in [Manner::Slow(Duration::from_secs(20), second.addr), Manner::Silent] {
        stand_ins[1].be(manner);
        let before = published(at(), |_| true).await.size;
        installation.submit(3, 1_000 + u32::try_from(before.0).unwrap());
        let late = published(at(), |note| note.size.0 >= before.0 + 3).await;
        assert!(late.as_str().contains("/one "), "{}", late.as_str());
    }
    await_until("lateness to show", || {
        let late = "countersign_cosign_requests_total{witness=\"W2\",result=\"late\"}";
        (figure(at(), late) >= 1.0).then_some(())
    })
    .await;
    stand_ins[1].be(Manner::HandOn(second.addr));
    let last = published(at(), |note| quorum(note) && note.size > again.size).await;
    assert!(figure(at(), "countersign_cosign_heads_total{quorum=\"yes\"}") >= 1.0);

    await_until("the monitor to see the last one", || {
        watch.judged(&policy).contains(&last).then_some(())
    })
    .await;
    assert!(watch.judged(&policy).iter().any(|note| !quorum(note)));
    installation.stop_ledger().await;
}

/// How the metrics name a lie, the status that it comes with, and the body, made of the request.
type Lie = (&'static str, u16, fn(&str) -> String);

const LIES: [Lie; 8] = [
    ("false_cosignature", 200, |_| String::new()),
    ("false_cosignature", 200, |_| "\u{2014} witness.example/liar AAAA\n".to_owned()),
    // A signature that it once made, of another head.
    ("false_cosignature", 200, |_| {
        let body = checkpoint_body(
            "other.example/log",
            countersign_core::hash::TreeSize(9),
            &RootHash([7; 32]),
        );
        cosign_body(&liars_vkey(), &liars_key(), 1_700_000_000, &body)
    }),
    // Somebody else's signature of this very head under the liar's name.
    ("false_cosignature", 200, |request| {
        let other = SigningKey::from_bytes(&[67; 32]);
        let vkey = VerifierKey::new(
            "witness.example/liar",
            KeyType::Cosignature,
            other.verifying_key().to_bytes(),
        );
        cosign_body(&vkey.unwrap(), &other, 1_700_000_000, body_of(request))
    }),
    ("ahead", 409, |_| "18446744073709551615\n".to_owned()),
    ("unproven", 409, |_| "another root was cosigned for this size\n".to_owned()),
    ("unproven", 422, |_| "no\n".to_owned()),
    ("refused", 301, |_| "elsewhere\n".to_owned()),
];

/// The text that is to be cosigned.
fn body_of(request: &str) -> &str {
    let (_, note) = request.split_once("\n\n").unwrap();
    &note[..=note.find("\n\n").unwrap()]
}

/// COSI-2, COSI-3: a false line is a failure like any other, and never published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_witness_gets_no_line_under_a_head() {
    let mut installation = Installation::new();
    let truth: fn(&str) -> String =
        |request| cosign_body(&liars_vkey(), &liars_key(), 1_800_000_000, body_of(request));
    let stand_in = StandIn::new(Manner::Says(200, truth));
    let line = format!("witness L {} http://{}/prefix/\n", liars_vkey(), stand_in.addr);
    demand(&installation, &format!("{line}quorum L\n"));
    let policy = WitnessPolicy::parse(&format!("{line}quorum L\n")).unwrap();
    installation.start_ledger().await;
    let addr = installation.ledger_http();
    let quorum = |note: &SignedCheckpoint| policy.evaluate(note, &[], None).unwrap().is_some();
    let watch = Watch::of(&Arc::new(Mutex::new(addr)));
    let mut counted = std::collections::BTreeMap::<&str, f64>::new();
    for (number, (result, status, lie)) in (0_u32..).zip(LIES) {
        stand_in.be(Manner::Says(status, lie));
        installation.submit(1, number);
        let name =
            format!("countersign_cosign_requests_total{{witness=\"L\",result=\"{result}\"}}");
        let before = counted.get(result).copied().unwrap_or_default();
        await_until(result, || (figure(addr, &name) > before).then_some(())).await;
        let short = published(addr, |note| note.size.0 > u64::from(number) + 2).await;
        assert!(!quorum(&short) && !short.as_str().contains("liar"), "{}", short.as_str());
        assert_eq!(witnessed(&installation, short.size.0 - 1, "0").0, Some(3), "{result}");
        // It tells the truth again, after its rest, and is believed.
        stand_in.be(Manner::Says(200, truth));
        published(addr, quorum).await;
        counted.insert(result, figure(addr, &name));
    }
    watch.judged(&policy);
}
