//! Sigsum: its logs are C2SP logs under names of its own. `sigsum/hello.signature` is the example in
//! the documentation of the crate sigsum 0.3.0: a signature that the test log barreleye logged, and
//! eight witnesses cosigned; `sigsum/test-2025-3.policy` has the lines of that crate's policy for it.

use std::fmt::Write as _;
use std::path::Path;

use countersign_core::codes::Code;
use countersign_core::encoding::{b64, from_b64, from_hex_array, hex};
use countersign_core::hash::{Hash, LeafHash, LeafIndex, RootHash, TreeSize, sha256};
use countersign_core::merkle::{CompactRange, leaf_hash, verify_inclusion};
use countersign_core::note::{KeyType, SignedCheckpoint, VerifierKey, checkpoint_body, sign_body};
use countersign_core::quorum::WitnessPolicy;
use countersign_tests::Installation;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::process::{Served, add_checkpoint};
use crate::tools::Tool;

/// Who signed the example.
const SIGNER: &str = "99ed58583e8750b20548e69df4a4e1a592379a9a66c51cd32e42fbe4e1bde78a";
const HELLO: &str = include_str!("sigsum/hello.signature");
const POLICY: &str = include_str!("sigsum/test-2025-3.policy");
const MESSAGE: &str = include_str!("sigsum/hello.message");

/// The name under which a Sigsum log signs its heads.
fn origin(log: &[u8; 32]) -> String {
    format!("sigsum.org/v1/tree/{}", hex(&sha256(log)))
}

fn vkey(name: &str, key_type: KeyType, key: &[u8; 32]) -> VerifierKey {
    VerifierKey::new(name, key_type, *key).unwrap()
}

/// A note's signature line of these bytes.
fn line(vkey: &VerifierKey, signature: &[u8]) -> String {
    format!("\u{2014} {} {}\n", vkey.name, b64(&[&vkey.id(), signature].concat()))
}

/// What follows `name=` in each line that begins so.
fn values<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix('='))
}

fn value<'a>(text: &'a str, name: &'a str) -> &'a str {
    values(text, name).next().unwrap()
}

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    from_hex_array(text).unwrap()
}

/// The lines of Sigsum's policy, which has bare keys, as those of a tlog-policy, which has vkeys.
fn policy() -> (Vec<VerifierKey>, Vec<VerifierKey>, String) {
    let (mut logs, mut witnesses, mut text) = (Vec::new(), Vec::new(), String::new());
    for policy_line in POLICY.lines() {
        match policy_line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["log", key, ..] => {
                let key = bytes(key);
                let log = vkey(&origin(&key), KeyType::Note, &key);
                writeln!(text, "log {log}").unwrap();
                logs.push(log);
            }
            ["witness", name, key] => {
                let witness = vkey(name, KeyType::Cosignature, &bytes(key));
                writeln!(text, "witness {name} {witness}").unwrap();
                witnesses.push(witness);
            }
            _ => writeln!(text, "{policy_line}").unwrap(),
        }
    }
    (logs, witnesses, text)
}

/// The example as a signed note; `lost` cosignatures are left out.
fn hello(lost: usize) -> SignedCheckpoint {
    let (logs, witnesses, _) = policy();
    let by_hash = |keys: &[VerifierKey], hash: &str| {
        keys.iter().find(|vkey| hex(&sha256(&vkey.key)) == hash).unwrap().clone()
    };
    let log = by_hash(&logs, value(HELLO, "log"));
    let (size, root) = (value(HELLO, "size"), bytes(value(HELLO, "root_hash")));
    let body = checkpoint_body(&log.name, TreeSize(size.parse().unwrap()), &RootHash(root));
    let mut text = format!("{body}\n{}", line(&log, &bytes::<64>(value(HELLO, "signature"))));
    for cosignature in values(HELLO, "cosignature").skip(lost) {
        let parts: Vec<&str> = cosignature.split(' ').collect();
        let witness = by_hash(&witnesses, parts[0]);
        let time: u64 = parts[1].parse().unwrap();
        let signature = [&time.to_be_bytes()[..], &bytes::<64>(parts[2])].concat();
        text.push_str(&line(&witness, &signature));
    }
    SignedCheckpoint::parse(&text).unwrap()
}

/// The leaf of a Sigsum log.
fn leaf(message: &[u8], signature: &[u8; 64], signer: &[u8; 32]) -> LeafHash {
    leaf_hash(&[&sha256(&sha256(message))[..], signature, &sha256(signer)].concat())
}

/// A head of a public log, its eight witnesses, their quorum and a proof in its tree of 381,382
/// leaves, by this project's own code (NOTE-2, NOTE-12, TRUST-4, TRUST-5).
#[test]
fn a_public_logs_head_and_proof_verify() {
    let (logs, witnesses, text) = policy();
    let policy = WitnessPolicy::parse(&text).unwrap();
    let head = hello(0);
    for witness in &witnesses {
        let times = head.cosigned_at(witness, Code::WitnessSignature).unwrap();
        assert_eq!(times, Some((1_770_193_051, 1_770_193_051)), "{}", witness.name);
    }
    assert_eq!(witnesses.len(), 8);
    let log = logs.iter().find(|log| log.name == head.origin).unwrap();
    head.verify_log(log).unwrap();
    // 4 of 6, one of the six being itself 2 of 3.
    let met = |lost| policy.evaluate(&hello(lost), &[], None).unwrap().is_some();
    assert_eq!((met(0), met(8)), (true, false));
    assert!(!met(5), "three of eight are no four of six");

    let signer = bytes(SIGNER);
    let signature = value(HELLO, "leaf").split(' ').nth(1).unwrap();
    let leaf = leaf(MESSAGE.as_bytes(), &bytes(signature), &signer);
    let index = LeafIndex(value(HELLO, "leaf_index").parse().unwrap());
    let proof: Vec<Hash> = values(HELLO, "node_hash").map(bytes).collect();
    verify_inclusion(index, head.size, &leaf, &proof, &head.root).unwrap();
    let next = LeafIndex(index.0 - 1);
    assert!(verify_inclusion(next, head.size, &leaf, &proof, &head.root).is_err());
}

/// The crate on its own example, and on a log that this project's code keeps and this project's
/// witness cosigns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crate_verifies_what_our_witness_cosigned() {
    let Some(rust) = Tool::rust() else { return };
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/sigsum");
    let file = |name: &str| here.join(name).to_str().unwrap().to_owned();
    let example = [&file("test-2025-3.policy"), &file("hello.signature"), &file("hello.message")];
    let arguments = |files: [&String; 3], signer: &str| {
        let files = files.map(String::clone);
        ["sigsum".to_owned()]
            .into_iter()
            .chain(files)
            .chain([signer.to_owned()])
            .collect::<Vec<_>>()
    };
    assert_eq!(rust.says(&arguments(example, SIGNER)), "verified\n");

    let [key, signer] = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let log = key.verifying_key().to_bytes();
    let log_vkey = vkey(&origin(&log), KeyType::Note, &log);
    let installation = Installation::new();
    let (witness, own) = Served::witness(&installation, &[log_vkey.to_string()]).await;

    let public = signer.verifying_key().to_bytes();
    let logged = [b"sigsum.org/v1/tree-leaf\0", &sha256(&sha256(MESSAGE.as_bytes()))[..]].concat();
    let signature = signer.sign(&logged).to_bytes();
    let (other, leaf) = (leaf_hash(b"a leaf"), leaf(MESSAGE.as_bytes(), &signature, &public));
    let mut range = CompactRange::new();
    range.append(&other);
    range.append(&leaf);
    let body = checkpoint_body(&log_vkey.name, TreeSize(2), &range.root());
    let note = format!("{body}\n{}", sign_body(&log_vkey, &key, &body));
    let (status, cosignature) = add_checkpoint(witness.addr, &format!("old 0\n\n{note}"));
    assert_eq!(status, 200, "{cosignature}");
    let cosigned = cosignature.trim_end().rsplit(' ').next().and_then(from_b64).unwrap();
    let (time, by_witness) = cosigned[4..].split_first_chunk::<8>().unwrap();

    let text = format!(
        "version=2\nlog={}\nleaf={} {}\n\nsize=2\nroot_hash={}\nsignature={}\ncosignature={} {} {}\n\
         \nleaf_index=1\nnode_hash={}\n",
        hex(&sha256(&log)),
        hex(&sha256(&public)),
        hex(&signature),
        hex(&range.root().0),
        hex(&key.sign(body.as_bytes()).to_bytes()),
        hex(&sha256(&own.key)),
        u64::from_be_bytes(*time),
        hex(by_witness),
        hex(&other.0),
    );
    let rule = format!("log {}\nwitness w {}\nquorum w\n", hex(&log), hex(&own.key));
    let files = [("policy", rule), ("signature", text), ("message", MESSAGE.to_owned())];
    let files = files.map(|(name, text)| {
        let path = installation.beside(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let [rule, logged, message] = files.each_ref();
    assert_eq!(rust.says(&arguments([rule, logged, message], &hex(&public))), "verified\n");
    // The same with a cosignature of another second.
    let text = std::fs::read_to_string(logged).unwrap();
    let time = u64::from_be_bytes(*time);
    let later = text.replacen(&format!(" {time} "), &format!(" {} ", time + 1), 1);
    std::fs::write(logged, later).unwrap();
    rust.refuses(&arguments([rule, logged, message], &hex(&public)), "bad witness cosignature");
}
