//! The real `countersign witness`, killed without warning again and again while its log asks for
//! cosignatures: what it gave out, it still holds.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use countersign_core::codes::Code;
use countersign_core::encoding::{b64, hex};
use countersign_core::hash::{Hash, TreeSize, sha256};
use countersign_core::merkle::{
    HashReader, LogTree, NodeId, leaf_hash, prove_consistency, root_at, root_of,
};
use countersign_core::note::{KeyType, SignedCheckpoint, VerifierKey, checkpoint_body, sign_body};
use countersign_core::quorum::WitnessPolicy;
use countersign_tests::http::call;
use countersign_tests::{Installation, ORIGIN, Random, await_until};
use ed25519_dalek::SigningKey;

use crate::process::Folder;

/// Leaves that the log has, of which every size has a head.
const LEAVES: u64 = 400;
/// How often the witness is killed.
const KILLS: u32 = 8;

/// A log whose history forks after so many leaves.
struct Log {
    key: SigningKey,
    vkey: VerifierKey,
    leaves: Vec<Hash>,
}

impl HashReader for Log {
    type Error = Infallible;

    fn read(&self, nodes: &[NodeId]) -> Result<Vec<Hash>, Infallible> {
        let node = |id: &NodeId| {
            let width = 1_usize << id.level;
            let first = usize::try_from(id.index).unwrap() * width;
            root_of::<LogTree>(&self.leaves[first..first + width]).unwrap()
        };
        Ok(nodes.iter().map(node).collect())
    }
}

impl Log {
    fn new(fork_at: u64) -> Self {
        let key = SigningKey::from_bytes(&[1; 32]);
        let vkey = VerifierKey::new(ORIGIN, KeyType::Note, key.verifying_key().to_bytes()).unwrap();
        let leaf = |n: u64| leaf_hash(&[u64::from(n >= fork_at), n].map(u64::to_be_bytes).concat());
        Self { key, vkey, leaves: (0..LEAVES).map(|n| leaf(n).0).collect() }
    }

    fn note(&self, size: u64) -> String {
        let Ok(root) = root_at(TreeSize(size), self);
        let body = checkpoint_body(ORIGIN, TreeSize(size), &root);
        format!("{body}\n{}", sign_body(&self.vkey, &self.key, &body))
    }

    fn request(&self, old: u64, new: u64) -> String {
        let proof = if old == 0 || old > new {
            Vec::new()
        } else {
            prove_consistency(TreeSize(old), TreeSize(new), self).unwrap()
        };
        let lines = proof.iter().fold(String::new(), |lines, hash| lines + &b64(hash) + "\n");
        format!("old {old}\n{lines}\n{}", self.note(new))
    }
}

/// The size that the witness says it cosigned last: it is asked with an old size that no head has.
fn held(addr: SocketAddr, log: &Log) -> u64 {
    match call(addr, "POST", "/add-checkpoint", &log.request(LEAVES, LEAVES)).unwrap() {
        (409, body) => body.trim_end().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// WITN-5, WITN-9: killed in the middle of whatever it does, at random.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_witness_holds_what_it_gave_out() {
    let installation = Installation::new();
    let folder = Folder::of(&installation, "witness");
    let (log, fork) = (Arc::new(Log::new(LEAVES)), Log::new(0));
    let witness = folder.init("witness.example/w1", &log.vkey.to_string());
    let policy = WitnessPolicy::parse(&format!("witness W {witness}\nquorum W\n")).unwrap();
    let mut random = Random::new(3);
    let mut given = 0_u64;
    for _ in 0..KILLS {
        let mut process = folder.start(0).await;
        let addr = process.addr;
        let at = held(addr, &log);
        assert!(at >= given, "it gave out a head of {given} and holds {at}");
        // Nothing of another history on top of it, and nothing smaller.
        if at > 0 {
            let (status, _) =
                call(addr, "POST", "/add-checkpoint", &fork.request(at, at + 1)).unwrap();
            assert_eq!(status, 422);
            let (status, body) = call(addr, "POST", "/add-checkpoint", &log.request(0, 1)).unwrap();
            assert_eq!((status, body), (409, format!("{at}\n")));
            let path = format!("/{}/checkpoint", hex(&sha256(ORIGIN.as_bytes())));
            let (_, note) = call(addr, "GET", &path, "").unwrap();
            let note = SignedCheckpoint::parse(&note).unwrap();
            assert_eq!((note.size.0, note.as_str().contains(log.note(at).trim_end())), (at, true));
        }
        let answers = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let asking = {
            let (log, answers, stop) = (Arc::clone(&log), Arc::clone(&answers), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut at = at;
                while !stop.load(Ordering::SeqCst) && at < LEAVES - 1 {
                    let request = log.request(at, at + 1);
                    let Some((200, line)) = call(addr, "POST", "/add-checkpoint", &request) else {
                        return;
                    };
                    at += 1;
                    answers.lock().unwrap().push((at, line));
                }
            })
        };
        // Killed after a random number of answers, while the next one is under way.
        let enough = 1 + usize::from(random.bytes::<1>()[0] % 12);
        await_until("some cosignatures", || {
            (answers.lock().unwrap().len() >= enough || asking.is_finished()).then_some(())
        })
        .await;
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        stop.store(true, Ordering::SeqCst);
        asking.join().unwrap();
        for (size, line) in answers.lock().unwrap().iter() {
            let note = SignedCheckpoint::parse(&log.note(*size)).unwrap().with_line(line).unwrap();
            assert!(policy.evaluate(&note, &[], None).unwrap().is_some());
            assert!(note.cosigned_at(&witness, Code::WitnessSignature).unwrap().is_some());
            given = given.max(*size);
        }
    }
    assert!(given > u64::from(KILLS), "{given}");
}

/// One process a folder, a key that nobody else may read, a head that nobody altered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_refuses_to_start_on_what_it_can_not_trust() {
    use std::os::unix::fs::PermissionsExt as _;
    let installation = Installation::new();
    let folder = Folder::of(&installation, "witness");
    let log = Log::new(LEAVES);
    folder.init("witness.example/w1", &log.vkey.to_string());
    let process = folder.start(0).await;
    let (status, _) = call(process.addr, "POST", "/add-checkpoint", &log.request(0, 9)).unwrap();
    assert_eq!(status, 200);
    let metrics = call(process.addr, "GET", "/metrics", "").unwrap().1;
    assert!(metrics.contains("countersign_witness_requests_total{status=\"200\"} 1"), "{metrics}");
    let refuses = |why: &str| {
        let said = folder.command(0).0.output().unwrap();
        let text = String::from_utf8(said.stderr).unwrap();
        assert!(!said.status.success() && text.contains(why), "{why:?} in {text}");
    };
    refuses("another witness has this folder");
    drop(process);
    let key = installation.beside("witness/witness.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refuses("chmod 600");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let name = format!("witness/heads/{}.note", hex(&sha256(ORIGIN.as_bytes())));
    let path = installation.beside(&name);
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replacen("\n9\n", "\n8\n", 1)).unwrap();
    refuses("not one that this key cosigned");
    std::fs::write(&path, &good).unwrap();
    assert_eq!(held(folder.start(0).await.addr, &log), 9);
}
