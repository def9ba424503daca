//! What is cut from a pack, put into it or renamed in it, its manifest made to fit.

use countersign_core::codes::Code;
use countersign_core::pack::PackFile;
use countersign_core::verify::Verdict;

use super::super::scene::Scene;
use super::super::stage::{NOON, Pack, sign_head};

/// A lie about what is in the pack, whose manifest is then made to fit.
type Cut = fn(&Scene, &mut Pack);

const CUTS: &[(&str, Cut, Code)] = &[
    (
        "another tenant's record is put in",
        |s, p| {
            p.evidence(&s.log, &s.world, 7);
        },
        Code::PackForeign,
    ),
    (
        "the record of a gate that is not claimed is put in",
        |s, p| {
            p.evidence(&s.log, &s.world, 9);
        },
        Code::PackForeign,
    ),
    (
        "the opening of another tenant's stream is put in",
        |s, p| {
            p.evidence(&s.log, &s.world, 3);
        },
        Code::PackForeign,
    ),
    (
        "a record under another's name",
        |s, p| {
            let bytes = p.files[&PackFile::Evidence(s.refusal as u64)].clone();
            p.put(PackFile::Evidence(s.approve as u64), bytes);
        },
        Code::PackEvidenceName,
    ),
    (
        "an entry is left out",
        |_, p| {
            let mut bytes = p.files[&PackFile::Entries].clone();
            bytes.drain(66..132);
            p.put(PackFile::Entries, bytes);
        },
        Code::PackEntriesLength,
    ),
    (
        "an entry too many",
        |_, p| {
            let mut bytes = p.files[&PackFile::Entries].clone();
            bytes.extend_from_within(..66);
            p.put(PackFile::Entries, bytes);
        },
        Code::PackEntriesLength,
    ),
    (
        "half an entry at the end",
        |_, p| {
            let mut bytes = p.files[&PackFile::Entries].clone();
            bytes.truncate(bytes.len() - 33);
            p.put(PackFile::Entries, bytes);
        },
        Code::PackEntriesLength,
    ),
    (
        "two entries change places",
        |_, p| {
            let mut bytes = p.files[&PackFile::Entries].clone();
            let first = bytes[66..132].to_vec();
            bytes.copy_within(132..198, 66);
            bytes[132..198].copy_from_slice(&first);
            p.put(PackFile::Entries, bytes);
        },
        Code::PackEntriesRoot,
    ),
    ("no entries at all", |_, p| p.put(PackFile::Entries, Vec::new()), Code::PackEntriesLength),
    ("peaks where there are none", |_, p| p.put(PackFile::Peaks, vec![7; 32]), Code::PackPeaksRoot),
    ("half a peak", |_, p| p.put(PackFile::Peaks, vec![7; 16]), Code::PackPeaksRoot),
    (
        "a head that nothing joins",
        |s, p| {
            p.join(&s.log, &s.world, 5, s.log.size());
            p.remove(PackFile::Consistency(5, s.log.size()));
        },
        Code::PackHeadUnjoined,
    ),
    (
        "a proof of other sizes than its name's",
        |s, p| {
            p.join(&s.log, &s.world, 5, s.log.size());
            p.join(&s.log, &s.world, 6, s.log.size());
            let bytes = p.files[&PackFile::Consistency(6, s.log.size())].clone();
            p.put(PackFile::Consistency(5, s.log.size()), bytes);
        },
        Code::PackProofName,
    ),
    (
        "a proof without its head",
        |s, p| {
            p.join(&s.log, &s.world, 5, s.log.size());
            p.remove(PackFile::Head(5));
        },
        Code::PackHeadMissing,
    ),
    (
        "a head under another size's name",
        |s, p| {
            p.join(&s.log, &s.world, 5, s.log.size());
            let bytes = p.files[&PackFile::Head(5)].clone();
            p.put(PackFile::Head(6), bytes);
        },
        Code::PackHeadName,
    ),
    (
        "a policy under another's digest",
        |_, p| {
            p.put(PackFile::Policy([7; 32]), b"another".to_vec());
        },
        Code::BlobDigest,
    ),
    (
        "a certificate under another's digest",
        |s, p| {
            p.put(PackFile::Certificate([7; 32]), s.gate.holder.chain[0].clone().into_bytes());
        },
        Code::PackCertificate,
    ),
    (
        "a certificate that is none",
        |_, p| {
            p.put(PackFile::Certificate([7; 32]), b"none".to_vec());
        },
        Code::CertPem,
    ),
    (
        "a head of another history before the range",
        |s, p| {
            let mut other = s.log.clone();
            other.rows[1].entry.logged_at.0 += 1;
            other.settle();
            *p = s.pack(5);
            let fork = other.head(&s.world, 5).as_str().as_bytes().to_vec();
            p.put(PackFile::Head(5), fork);
        },
        Code::ConsistencyMismatch,
    ),
    (
        "a receipt under a fork's head",
        |s, p| {
            let mut other = s.log.clone();
            other.rows[1].entry.logged_at.0 += 1;
            other.settle();
            p.evidence(&other, &s.world, s.refusal);
        },
        Code::PackReceiptHead,
    ),
    (
        "what a record rests on is under a fork's head",
        |s, p| {
            let mut other = s.log.clone();
            other.rows[1].entry.logged_at.0 += 1;
            other.settle();
            let mut evidence = s.log.evidence(&s.world, s.void, s.log.size());
            evidence.supporting = vec![other.evidence(&s.world, s.voided, other.size())];
            p.put(PackFile::Evidence(s.void as u64), evidence.to_bytes());
        },
        Code::PackReceiptHead,
    ),
    (
        "the peaks of another tree",
        |s, p| {
            *p = s.pack(5);
            let mut bytes = p.files[&PackFile::Peaks].clone();
            bytes[0] ^= 1;
            p.put(PackFile::Peaks, bytes);
        },
        Code::PackPeaksRoot,
    ),
    (
        "the clock of the last head is behind its entries",
        |s, p| {
            let size = s.log.size();
            let root = s.log.head(&s.world, size).root;
            let head = sign_head(&s.world, size, &root, NOON.seconds());
            p.put(PackFile::Head(size), head.as_str().as_bytes().to_vec());
        },
        Code::ClockBeforeEntry,
    ),
];

#[test]
fn whatever_is_cut_from_a_pack_shows() {
    for (name, cut, code) in CUTS {
        let scene = Scene::new();
        let mut pack = scene.pack(0);
        cut(&scene, &mut pack);
        let report = pack.check(&scene.world.trust());
        assert_eq!(report.result, Verdict::Invalid, "{name}");
        let codes: Vec<Code> = report.findings.iter().map(|found| found.fault.code).collect();
        assert!(codes.contains(code), "{name}: {codes:?}");
    }
}
