//! Hostile mirrors: whatever is given where heads, bundles and tiles are wanted, never a panic and
//! never VALID.
#![no_main]

use std::collections::BTreeSet;

use countersign_core::mirror::{BundleFiles, Given, MirrorCheck, Start};
use countersign_core::verify::Verdict;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The checkpoint, a line of its own, and what every other file holds.
    let at = bytes.windows(3).position(|part| part == b"\n~\n").unwrap_or(bytes.len());
    let (note, rest) = bytes.split_at(at);
    let rest = rest.get(3..).unwrap_or_default();
    let note = [note, b"\n"].concat();
    let origin = note.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let folder = countersign_core::mirror::log_folder(&String::from_utf8_lossy(origin));
    let mut start = Start::new(&folder, None);
    start.checkpoint(Given::Bytes(&note));
    let sizes: BTreeSet<u64> = rest.iter().take(8).map(|size| u64::from(*size)).collect();
    for size in sizes.iter().rev() {
        if start.wants_head() {
            start.head(*size, Given::Bytes(&note));
        }
    }
    let Ok(plan) = start.plan(&sizes, None) else { return };
    let mut check = MirrorCheck::new(&plan);
    for index in 0..plan.bundles().min(8) {
        let heads = plan.heads_in(index).iter().map(|size| plan.head(*size, Given::Bytes(rest)));
        let files = BundleFiles { entries: Given::Bytes(rest), hashes: Given::Bytes(rest) };
        check.take(plan.bundle(index, files, heads.collect(), |_| Some(rest.to_vec())));
        while check.due().is_some() {
            check.tile(Given::Bytes(rest));
        }
    }
    check.end();
    while check.due().is_some() {
        check.tile(Given::Bytes(rest));
    }
    assert_ne!(check.finish().result, Verdict::Valid);
});
