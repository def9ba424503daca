//! Defects of a pack: of each of its files, of the list of them, and of its entries.

use countersign_core::codes::Code;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::pack::PackFile;

use super::super::scene::Scene;
use super::super::stage::Pack;

pub(super) type Attack = (String, Pack, Code);

pub(super) fn attacks(scene: &Scene) -> Vec<Attack> {
    let good = scene.pack(5);
    let mut attacks = Vec::new();
    for file in good.files.keys().copied() {
        of_each_file(&good, file, &mut attacks);
    }
    let evidence: Vec<PackFile> =
        good.files.keys().copied().filter(|file| matches!(file, PackFile::Evidence(_))).collect();
    for pair in evidence.windows(2) {
        let [one, other] = pair else { continue };
        let mut pack = good.clone();
        let (first, second) = (good.files[one].clone(), good.files[other].clone());
        pack.put(*one, second);
        pack.put(*other, first);
        attacks.push((format!("{one} and {other} exchanged"), pack, Code::PackEvidenceName));
    }
    for file in &evidence {
        let PackFile::Evidence(index) = *file else { continue };
        let mut pack = good.clone();
        pack.put(PackFile::Evidence(index + 1_000), good.files[file].clone());
        let name = format!("{file} once more under a later index");
        attacks.push((name, pack, Code::PackEvidenceName));
        let claimed =
            scene.log.rows[usize::try_from(index).unwrap()].entry.stream == scene.gate.stream;
        if claimed && index >= 5 {
            let mut pack = good.clone();
            pack.remove(*file);
            attacks.push((format!("{file} held back"), pack, Code::PackRecordWithheld));
        }
    }
    of_entries(&good, &mut attacks);
    attacks
}

/// What can be done to any file by somebody who leaves the manifest as it was, and the reverse.
fn of_each_file(good: &Pack, file: PackFile, attacks: &mut Vec<Attack>) {
    let mut add = |name: &str, pack: Pack, code: Code| {
        attacks.push((format!("{file} {name}"), pack, code));
    };
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut pack = good.clone();
        change(pack.files.get_mut(&file).unwrap());
        pack
    };
    add("with a flipped bit", changed(&|bytes| bytes[0] ^= 1), Code::PackFileHash);
    let last = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 0x80;
    add("with a flipped bit at its end", changed(&last), Code::PackFileHash);
    add("cut by a byte", changed(&|bytes| bytes.truncate(bytes.len() - 1)), Code::PackFileHash);
    add("emptied", changed(&|bytes| bytes.clear()), Code::PackFileHash);
    let mut pack = good.clone();
    pack.files.remove(&file);
    add("removed", pack, Code::PackFileMissing);
    let mut pack = good.clone();
    pack.manifest.files.get_mut(&file).unwrap()[31] ^= 1;
    add("under another digest", pack, Code::PackFileHash);
    let mut pack = good.clone();
    pack.manifest.files.remove(&file);
    let code = match file {
        PackFile::Readme => Code::PackManifest,
        PackFile::Entries | PackFile::Peaks => Code::PackClaims,
        PackFile::Head(_) => Code::PackHeadMissing,
        _ => Code::PackUnlisted,
    };
    add("not listed", pack, code);
    if file.cap() < 100_000 {
        let mut pack = good.clone();
        pack.put(file, vec![b'x'; file.cap() + 1]);
        add("larger than it may be", pack, Code::PackOversized);
    }
}

fn of_entries(good: &Pack, attacks: &mut Vec<Attack>) {
    let entries = &good.files[&PackFile::Entries];
    for at in 0..entries.len() / ENTRY_BYTES {
        let range = at * ENTRY_BYTES..(at + 1) * ENTRY_BYTES;
        let mut add = |name: &str, bytes: Vec<u8>, code: Code| {
            let mut pack = good.clone();
            pack.put(PackFile::Entries, bytes);
            attacks.push((format!("entry {at} {name}"), pack, code));
        };
        let mut bytes = entries.clone();
        bytes[range.end - 1] ^= 1;
        add("commits to another record", bytes, Code::PackEntriesRoot);
        let mut bytes = entries.clone();
        bytes.drain(range.clone());
        add("left out", bytes, Code::PackEntriesLength);
        let mut bytes = entries.clone();
        let copy = bytes[range.clone()].to_vec();
        bytes.splice(range.end..range.end, copy);
        add("twice", bytes, Code::PackEntriesLength);
        let mut bytes = entries.clone();
        bytes[range.start + 10] ^= 1;
        add("moved to another stream", bytes, Code::PackEntriesRoot);
    }
}
