//! A log that is read.

use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Error, Hash, HashReader as _, Tile, TileHashReader, TileReader, check_record,
    check_tree, prove_record, prove_tree, record_hash, stored_hash_index, tree_hash,
};

use crate::Outcome;

/// Entries of a full bundle.
const WIDTH: u64 = 256;

/// A key of type 0x04, which signed_note lets its users add.
struct Cosigner {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl Cosigner {
    fn new(vkey: &str) -> Result<Self, Box<dyn std::error::Error>> {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("no vkey".into());
        };
        let id = u32::from_str_radix(id, 16)?;
        let key = BASE64_STANDARD.decode(key)?;
        if id != signed_note::key_id(name, &key) {
            return Err("the key ID is not the key's".into());
        }
        let (&4, key) = key.split_first().ok_or("an empty key")? else {
            return Err("not of type 4".into());
        };
        Ok(Self { name: name.to_owned(), id, key: VerifyingKey::try_from(key)? })
    }
}

impl Verifier for Cosigner {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, msg: &[u8], sig: &[u8]) -> bool {
        let Some((time, sig)) = sig.split_first_chunk::<8>() else { return false };
        let head = format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*time));
        let message = [head.as_bytes(), msg].concat();
        Signature::from_slice(sig).is_ok_and(|sig| self.key.verify(&message, &sig).is_ok())
    }
}

/// The files of tlog-tiles; these crates have the paths of the older sumdb, which name the height.
struct Folder(PathBuf);

impl TileReader for Folder {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile: &Tile| {
            std::fs::read(self.0.join(static_path(tile))).map_err(|_| Error::InvalidTile)
        };
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}

/// Where tlog-tiles has this tile.
pub(crate) fn static_path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

/// Where it has the entries of bundle `n`, of which `width` are there.
pub(crate) fn bundle_path(n: u64, width: u64) -> String {
    let tile = Tile::new(8, 0, n, u32::try_from(width).unwrap_or(u32::MAX), false);
    tile.path().replacen("tile/8/0/", "tile/entries/", 1)
}

pub(crate) fn run(dir: &Path, vkey: &str, clock: &str) -> Outcome {
    let note = Note::from_bytes(&std::fs::read(dir.join("checkpoint"))?)?;
    let log = StandardVerifier::new(vkey)?;
    let known = VerifierList::new(vec![Box::new(log), Box::new(Cosigner::new(clock)?)]);
    let (verified, unknown) = note.verify(&known)?;
    if verified.len() != 2 || !unknown.is_empty() {
        return Err(format!("{} signatures of 2 are known", verified.len()).into());
    }
    let head = Checkpoint::from_bytes(note.text()).map_err(|error| error.to_string())?;
    if head.to_bytes() != note.text() {
        return Err("the checkpoint is spelled otherwise".into());
    }
    let (size, root) = (head.size(), *head.hash());
    let tiles = Folder(dir.to_owned());
    let reader = TileHashReader::new(size, root, &tiles);
    if tree_hash(size, &reader)? != root {
        return Err("the tiles have another root".into());
    }
    let mut entries = 0;
    for bundle in 0..size.div_ceil(WIDTH) {
        let width = WIDTH.min(size - bundle * WIDTH);
        for entry in parse(&std::fs::read(dir.join(bundle_path(bundle, width)))?)? {
            let leaf = record_hash(&entry);
            if reader.read_hashes(&[stored_hash_index(0, entries)])? != [leaf] {
                return Err(format!("entry {entries} is not its leaf").into());
            }
            check_record(&prove_record(size, entries, &reader)?, size, root, entries, leaf)?;
            entries += 1;
        }
    }
    let prefixes = trees(size, root, &reader)?;
    println!("{size} {root} {entries} {prefixes}");
    Ok(())
}

/// Every smaller tree is the beginning of this one, and no other is.
fn trees(size: u64, root: Hash, reader: &TileHashReader<'_>) -> Result<u64, Error> {
    for old in 1..=size {
        let proof = prove_tree(size, old, reader)?;
        let mut old_root = tree_hash(old, reader)?;
        check_tree(&proof, size, root, old, old_root)?;
        old_root.0[0] ^= 1;
        if check_tree(&proof, size, root, old, old_root).is_ok() {
            return Err(Error::BadMath);
        }
    }
    Ok(size)
}

/// The entries of a bundle: each a length of two bytes, and so many bytes.
fn parse(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, rest) = rest.split_at_checked(length).ok_or("an entry is cut off")?;
        entries.push(entry.to_vec());
        bytes = rest;
    }
    if bytes.is_empty() { Ok(entries) } else { Err("a bundle ends within a length") }
}
