//! `mirror`: recomputes a whole mirror from its entries, on all cores, in flat memory.
//!
//! Bundles are read and hashed by as many threads as there are cores, a round of them at a time;
//! while one round is read, this thread joins the one before, in the order of the log. So the
//! result is the same whatever the threads did first.

mod folder;
mod report;
mod resume;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_core::mirror::{
    BundleFacts, BundleFiles, Given, MirrorCheck, MirrorFile, MirrorReport, Plan, Start,
};
use countersign_core::note::NOTE_BYTES_MAX;
use countersign_core::tiles::{TILE_WIDTH, TileKind, TilePath};
use countersign_core::trust::Trust;

use self::resume::States;
use crate::folder::{Entry, Found, listing, read};
use crate::progress::Progress;
use crate::{Exit, Output};

/// Bundles of one round: 25 MB of files. Tests have several rounds of a small mirror.
const ROUND: u64 = if cfg!(test) { 2 } else { 1_024 };
/// Rounds after which the state is written: four million entries.
const SAVE_ROUNDS: u64 = if cfg!(test) { 1 } else { 16 };
/// Logs that a mirror may have.
const LOGS_MAX: usize = 4_096;
/// Bytes of the largest bundle: another log's entries may be as long as a u16 can say.
const BUNDLE_BYTES_MAX: usize = TILE_WIDTH as usize * (u16::MAX as usize + 2);
const TILE_BYTES_MAX: usize = TILE_WIDTH as usize * 32;

/// Verifies every log in this folder, and prints what they come to.
pub(crate) fn run(
    dir: &Path,
    trust: Option<&Trust>,
    resume: Option<&Path>,
    output: Output,
) -> Exit {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let outcome = States::open(resume).and_then(|mut states| {
        let logs = logs(dir)?;
        let verify = |(folder, whole): &(String, bool)| {
            let mut verify = || verify(dir, folder, trust, &mut states, threads);
            let report = if *whole { verify() } else { Ok(MirrorReport::not_a_folder(folder)) };
            report.map(|report| (folder.clone(), report))
        };
        logs.iter().map(verify).collect::<Result<Vec<_>, String>>()
    });
    match outcome {
        Ok(reports) => report::print(dir, &reports, output),
        Err(problem) => {
            eprintln!("countersign-verify: {problem}");
            report::print_unread(dir, output);
            Exit::Io
        }
    }
}

/// The folders that are named as logs' are; whether each is a folder.
fn logs(dir: &Path) -> Result<Vec<(String, bool)>, String> {
    let is_log = |name: &str| {
        name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut logs = listing(dir, LOGS_MAX)?;
    logs.retain(|(name, _)| is_log(name));
    Ok(logs.into_iter().map(|(name, kind)| (name, kind == Entry::Folder)).collect())
}

/// Verifies one log's mirror.
fn verify(
    dir: &Path,
    folder: &str,
    trust: Option<&Trust>,
    states: &mut States,
    threads: usize,
) -> Result<MirrorReport, String> {
    let log = dir.join(folder);
    let heads = folder::heads(&log)?;
    let mut start = Start::new(folder, trust);
    start.checkpoint(read(&log, "checkpoint", NOTE_BYTES_MAX)?.given());
    for size in heads.sizes.iter().rev() {
        if !start.wants_head() {
            break;
        }
        let file = MirrorFile::Head(*size).to_string();
        start.head(*size, read(&log, &file, NOTE_BYTES_MAX)?.given());
    }
    let plan = match start.plan(&heads.sizes, states.of(folder)) {
        Ok(plan) => plan,
        Err(report) => return Ok(*report),
    };
    let mut check = MirrorCheck::new(&plan);
    rounds(&log, &plan, &mut check, threads, |check| states.save(check.state()))?;
    states.save(check.state())?;
    check.end();
    tiles(&log, &mut check)?;
    folder::others(&log, &plan, heads, &mut check)?;
    Ok(check.finish())
}

/// Verifies the bundles, round by round.
fn rounds(
    log: &Path,
    plan: &Plan<'_>,
    check: &mut MirrorCheck<'_>,
    threads: usize,
    mut save: impl FnMut(&MirrorCheck<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut progress = Progress::new("bundles");
    let mut from = plan.first_bundle();
    let mut waiting = Vec::new();
    let mut done = 0_u64;
    while !check.hopeless() {
        let to = from.saturating_add(ROUND).min(plan.bundles());
        let at = AtomicU64::new(from);
        let joining = std::mem::take(&mut waiting);
        let (read, joined) = std::thread::scope(|scope| {
            let work = || worker(log, plan, &at, to);
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let joined = join(log, check, joining);
            let read = workers.into_iter().map(|worker| match worker.join() {
                Ok(facts) => facts,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            (read.collect::<Result<Vec<_>, String>>(), joined)
        });
        joined?;
        waiting = read?.into_iter().flatten().collect();
        waiting.sort_by_key(BundleFacts::index);
        progress.show((from, plan.bundles()));
        done += 1;
        if done.is_multiple_of(SAVE_ROUNDS) {
            save(check)?;
        }
        if from >= to {
            break;
        }
        from = to;
    }
    progress.end();
    Ok(())
}

/// Reads and hashes bundles until those of this round are all taken.
fn worker(
    log: &Path,
    plan: &Plan<'_>,
    at: &AtomicU64,
    to: u64,
) -> Result<Vec<BundleFacts>, String> {
    let mut facts = Vec::new();
    loop {
        let index = at.fetch_add(1, Ordering::Relaxed);
        if index >= to {
            return Ok(facts);
        }
        let file = |path: Option<TilePath>| match path {
            Some(path) => tile(log, &path),
            None => Ok(Found::Absent),
        };
        let (entries, hashes) = (file(plan.entries_path(index))?, file(plan.hashes_path(index))?);
        let heads = plan.heads_in(index).iter().map(|size| {
            let file = plan.file_of(*size).to_string();
            Ok(plan.head(*size, read(log, &file, NOTE_BYTES_MAX)?.given()))
        });
        let heads = heads.collect::<Result<Vec<_>, String>>()?;
        let files = BundleFiles { entries: entries.given(), hashes: hashes.given() };
        let above = |path: TilePath| match tile(log, &path) {
            Ok(Found::Bytes(bytes)) => Some(bytes),
            _ => None,
        };
        facts.push(plan.bundle(index, files, heads, above));
    }
}

/// Joins the bundles of a round.
fn join(log: &Path, check: &mut MirrorCheck<'_>, round: Vec<BundleFacts>) -> Result<(), String> {
    for facts in round {
        if check.hopeless() {
            break;
        }
        check.take(facts);
        tiles(log, check)?;
    }
    Ok(())
}

/// Hands over the tiles that are due.
fn tiles(log: &Path, check: &mut MirrorCheck<'_>) -> Result<(), String> {
    while let Some(path) = check.due() {
        check.tile(tile(log, &path)?.given());
    }
    Ok(())
}

fn tile(log: &Path, path: &TilePath) -> Result<Found, String> {
    let cap = match path.kind() {
        TileKind::Entries => BUNDLE_BYTES_MAX,
        TileKind::Hashes(_) => TILE_BYTES_MAX,
    };
    read(log, &path.to_string(), cap)
}

impl Found {
    fn given(&self) -> Given<'_> {
        match self {
            Self::Bytes(bytes) => Given::Bytes(bytes),
            Self::Absent => Given::Absent,
            Self::NotAFile => Given::NotAFile,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::files::read_trust;

    const LOG: &str = "ff1469ae3b160bc7cd63c166ad88f3ede6b1a07be043e151ff2d49baf2e236e3";

    fn vectors() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
    }

    /// The same report from one thread and from more than there are bundles.
    #[test]
    fn threads_change_nothing() {
        let trust = read_trust(&vectors().join("mirror-trust.toml")).expect("the trust file");
        let dir = tempfile::tempdir().expect("a folder");
        let copy = |path: &str, change: fn(&mut Vec<u8>)| {
            let mut bytes = std::fs::read(vectors().join("mirror").join(LOG).join(path))
                .expect("a file of the vectors");
            change(&mut bytes);
            let to = dir.path().join(LOG).join(path);
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("is made");
            std::fs::write(to, bytes).expect("is written");
        };
        let head = |size: u64| MirrorFile::Head(size).to_string();
        let same = |_: &mut Vec<u8>| {};
        for path in ["checkpoint", "tile/0/000", "tile/entries/000", "tile/entries/001"] {
            copy(path, same);
        }
        for path in [head(300), head(513), head(600), "tile/entries/002.p/88".to_owned()] {
            copy(&path, same);
        }
        copy("tile/0/002.p/88", same);
        copy("tile/1/000.p/2", |bytes| bytes[0] ^= 1);
        copy("tile/0/001", |bytes| bytes.truncate(40));
        let report = |threads| {
            let mut states = States::open(None).expect("no file");
            verify(dir.path(), LOG, Some(&trust), &mut states, threads).expect("can be read")
        };
        let one = report(1);
        let codes: Vec<_> = one.findings.iter().map(|f| f.fault.code.as_str()).collect();
        assert_eq!(codes, ["MIRROR_TILE", "MIRROR_TILE"]);
        assert_eq!((one.counts.heads, one.counts.entries), (3, 600));
        for threads in [2, 3, 8] {
            assert_eq!(report(threads), one);
        }
    }
}
