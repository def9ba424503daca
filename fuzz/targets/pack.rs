//! Hostile manifests and packs: never a panic, one spelling, and never VALID, whatever is given
//! where files are wanted.
#![no_main]

use countersign_core::pack::{Given, Manifest, PackCheck, PackFile, Want};
use countersign_core::verify::Verdict;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(path) = std::str::from_utf8(bytes)
        && let Some(file) = PackFile::parse(path)
    {
        assert_eq!(file.to_string(), path);
    }
    // The manifest, an empty line, and what every file of it holds.
    let at = bytes.windows(2).position(|pair| pair == b"\n\n").map_or(bytes.len(), |at| at + 1);
    let (manifest, content) = bytes.split_at(at);
    let Ok(manifest) = Manifest::parse(manifest) else { return };
    assert_eq!(manifest.to_bytes(), bytes[..at]);
    let mut check = PackCheck::new(manifest, None);
    while let Some(want) = check.want() {
        match want {
            Want::File(_) => check.give(Given::Bytes(content)),
            Want::Entries(count) => check.give(Given::Bytes(&content[..count.min(content.len())])),
        }
        if content.len() > 1 << 20 {
            break;
        }
    }
    assert_ne!(check.finish().result, Verdict::Valid);
});
