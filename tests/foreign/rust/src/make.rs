//! A log that is made.

use std::fmt::Write as _;
use std::path::Path;

use ed25519_dalek::SigningKey;
use signed_note::{Note, Signer as _, StandardSigner};
use tlog_tiles::{Checkpoint, Error, Hash, HashReader, Tile, prove_tree, stored_hashes, tree_hash};

use crate::Outcome;
use crate::read::{bundle_path, static_path};

/// Every hash of the tree, by its storage index.
#[derive(Default)]
struct Stored(Vec<Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        let read = |index: &u64| {
            let found = usize::try_from(*index).ok().and_then(|index| self.0.get(index));
            found.copied().ok_or(Error::IndexesNotInTree)
        };
        indexes.iter().map(read).collect()
    }
}

/// Entries of any length, not this project's.
fn record(origin: &str, n: u64) -> String {
    format!("record {n} of {origin}{}", "!".repeat(usize::try_from(n % 30).unwrap_or(0)))
}

pub(crate) fn run(dir: &Path, origin: &str, sizes: &[&str]) -> Outcome {
    let key = SigningKey::from_bytes(&[7; 32]);
    let vkey = signed_note::new_ed25519_verifier_key(origin, &key.verifying_key());
    let signer = signer(origin, &key, &vkey)?;
    let mut stored = Stored::default();
    let mut old = 0;
    for size in sizes {
        let size: u64 = size.parse()?;
        for n in old..size {
            let hashes = stored_hashes(n, record(origin, n).as_bytes(), &stored)?;
            stored.0.extend(hashes);
        }
        for tile in Tile::new_tiles(8, old, size) {
            put(&dir.join("tiles").join(static_path(&tile)), &tile.read_data(&stored)?)?;
        }
        for bundle in old / 256..size.div_ceil(256) {
            let width = 256.min(size - bundle * 256);
            let entries = (bundle * 256..).take(usize::try_from(width)?);
            let bytes: Vec<u8> = entries.flat_map(|n| framed(&record(origin, n))).collect();
            put(&dir.join("tiles").join(bundle_path(bundle, width)), &bytes)?;
        }
        let head = Checkpoint::new(origin, size, tree_hash(size, &stored)?, "");
        let head = head.map_err(|error| error.to_string())?;
        let mut note = Note::new(&head.to_bytes(), &[])?;
        note.add_sigs(&[&signer])?;
        put(&dir.join(format!("heads/{size:020}.note")), &note.to_bytes())?;
        put(&dir.join("tiles/checkpoint"), &note.to_bytes())?;
        if old > 0 {
            let proof = prove_tree(size, old, &stored)?;
            let lines = proof.iter().fold(String::new(), |mut lines, hash| {
                let _ = writeln!(lines, "{hash}");
                lines
            });
            put(&dir.join(format!("proofs/{old}-{size}")), lines.as_bytes())?;
        }
        old = size;
    }
    put(&dir.join("vkey"), vkey.as_bytes())
}

fn signer(
    origin: &str,
    key: &SigningKey,
    vkey: &str,
) -> Result<StandardSigner, Box<dyn std::error::Error>> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let id = vkey.split('+').nth(1).ok_or("a vkey without a key ID")?;
    let secret = BASE64_STANDARD.encode([&[1], key.as_bytes().as_slice()].concat());
    let signer = StandardSigner::new(&format!("PRIVATE+KEY+{origin}+{id}+{secret}"))?;
    if format!("{:08x}", signer.key_id()) == id { Ok(signer) } else { Err("another key".into()) }
}

fn framed(record: &str) -> Vec<u8> {
    let length = u16::try_from(record.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), record.as_bytes()].concat()
}

fn put(path: &Path, bytes: &[u8]) -> Outcome {
    std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
    Ok(std::fs::write(path, bytes)?)
}
