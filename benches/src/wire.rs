//! The whole way: a real `countersign serve`, mTLS over loopback, `SubmitStream`, every receipt
//! verified by the client. The load generator shares the machine's cores with the ledger.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_client::Gate;
use countersign_core::encoding::hex;
use countersign_core::kinds::Kind;

use crate::core::{start, text};
use crate::figure::{Figure, number, percentile};
use crate::house;
use crate::sample::{Actions, POLICY};

const ORIGIN: &str = "bench.example/wire";
/// Records of one batch under full load.
const BATCH: u64 = 512;
/// Batches that wait for their answers on one call.
const IN_FLIGHT: usize = 8;
/// Streams that load the ledger at once: instances of one gate.
const STREAMS: u32 = 2;
/// Bytes of a payload row that are no values: seed, batch, lengths (spec of the log's rows).
const PAYLOAD_FRAMING: f64 = 82.0;

/// A ledger's process; it ends with this value.
struct Ledger {
    child: Child,
    dir: PathBuf,
    grpc: String,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ledger {
    /// `countersign init` and `serve`, from the folder of this program.
    async fn start(dir: &Path) -> Result<Self, String> {
        let this = std::env::current_exe().map_err(text)?;
        let program = this.with_file_name("countersign");
        let dir = dir.join("wire");
        let init = Command::new(&program)
            .args(["init", "--origin", ORIGIN, "--tenant", "bench", "--gate", "load-1", "--dir"])
            .arg(&dir)
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        if !init.success() {
            return Err("countersign init failed".to_owned());
        }
        let ready = dir.join("ready.json");
        let child = Command::new(&program)
            .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dir"])
            .arg(&dir)
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .spawn()
            .map_err(text)?;
        let mut ledger = Self { child, dir, grpc: String::new() };
        for _ in 0..600 {
            if let Ok(found) = std::fs::read_to_string(&ready) {
                let found: serde_json::Value = serde_json::from_str(&found).map_err(text)?;
                let grpc = found.get("grpc").and_then(serde_json::Value::as_str);
                grpc.ok_or("the ready file names no port")?.clone_into(&mut ledger.grpc);
                ledger.register(&program)?;
                return Ok(ledger);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("the ledger was not ready within 30 s".to_owned())
    }

    /// The policy that the verdicts are under, with `countersign policy register`.
    fn register(&self, program: &Path) -> Result<(), String> {
        let identities = self.dir.join("identities");
        let status = Command::new(program)
            .args(["policy", "register", "--policy-id", "prod", "--version", "41"])
            .args(["--engine", "cedar 4", "--digest", &hex(&POLICY), "--server", &self.grpc])
            .arg("--identity")
            .arg(identities.join("gate"))
            .arg("--owner")
            .arg(identities.join("policy-admin"))
            .stdout(Stdio::null())
            .status()
            .map_err(text)?;
        if status.success() { Ok(()) } else { Err("countersign policy register failed".to_owned()) }
    }

    async fn gate(&self, instance: u32) -> Result<Gate, String> {
        house::gate(&self.dir, &self.grpc, instance).await
    }

    /// A line of `/proc/PID/status`, in MiB.
    fn memory(&self, line: &str) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let value = status.lines().find_map(|found| found.strip_prefix(line))?;
        let kib: u64 = value.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok()?;
        Some(number(kib) / 1_024.0)
    }

    /// Lets it end by itself, so that what it holds in memory is on the disk.
    async fn stop(mut self) -> Result<PathBuf, String> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().map_err(text)?;
        for _ in 0..600 {
            if self.child.try_wait().map_err(text)?.is_some() {
                return Ok(self.dir.clone());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("the ledger did not stop within 30 s".to_owned())
    }
}

/// Streams `verdicts` of them, then 1,000 a second for `seconds`.
pub(crate) async fn verdicts(
    dir: &Path,
    actions: &Arc<Actions>,
    verdicts: u64,
    seconds: u64,
) -> Result<Vec<Figure>, String> {
    let ledger = Ledger::start(dir).await?;
    let mut tasks = Vec::new();
    let begun = start();
    for instance in 0..STREAMS {
        let gate = ledger.gate(instance).await?;
        let share = verdicts / u64::from(STREAMS);
        let actions = Arc::clone(actions);
        tasks.push(tokio::spawn(stream(gate, actions, u64::from(instance) * share, share)));
    }
    let mut bytes = 0;
    for task in tasks {
        bytes += task.await.map_err(text)??;
    }
    let took = begun.elapsed().as_secs_f64();
    let logged = verdicts / u64::from(STREAMS) * u64::from(STREAMS);
    let resident = ledger.memory("VmHWM").unwrap_or(f64::NAN);
    let mut figures = vec![
        Figure::at_least("streamed_verdicts", number(logged) / took, "verdicts/s", 25_000.0),
        Figure::plain("streamed_verdicts_logged", number(logged), "verdicts"),
        Figure::plain("values_per_verdict", number(bytes) / number(logged), "bytes"),
        Figure::at_most("resident_memory_peak", resident, "MiB", 512.0),
    ];
    figures.extend(paced(&ledger, actions, seconds, verdicts).await?);
    let dir = ledger.stop().await?;
    figures.extend(disk(&dir.join("data"), logged + seconds * 1_000)?);
    Ok(figures)
}

/// One stream of calls; gives the bytes of the values that it sent.
async fn stream(gate: Gate, actions: Arc<Actions>, from: u64, count: u64) -> Result<u64, String> {
    let (sender, mut receiver) = gate.client().submit_stream(IN_FLIGHT);
    let sending = tokio::spawn(async move {
        let mut last: Option<Arc<countersign_client::PreparedBatch>> = None;
        let mut bytes = 0;
        let mut at = from;
        while at < from + count {
            let end = (at + BATCH).min(from + count);
            let drafts = (at..end)
                .map(|n| gate.draft(Kind::Verdict, &actions.verdict(n)).map_err(text))
                .collect::<Result<Vec<_>, _>>()?;
            let batch = match &last {
                None => gate.prepare(&drafts),
                Some(last) => gate.prepare_after(last, &drafts),
            };
            let batch = batch.map_err(text)?;
            let values = batch.records().iter().flat_map(|record| record.record.values());
            bytes += values.map(|value| value.len() as u64).sum::<u64>();
            sender.send(Arc::clone(&batch)).await.map_err(text)?;
            last = Some(batch);
            at = end;
        }
        Ok::<u64, String>(bytes)
    });
    let mut logged = 0_u64;
    while let Some(outcome) = receiver.next().await.map_err(text)? {
        for record in outcome.records {
            record.result.map_err(text)?;
            logged += 1;
        }
    }
    let bytes = sending.await.map_err(text)??;
    if logged == count { Ok(bytes) } else { Err(format!("{logged} of {count} were answered")) }
}

/// One verdict each millisecond, sealed by itself: from before it is built until its receipt is
/// verified.
async fn paced(
    ledger: &Ledger,
    actions: &Arc<Actions>,
    seconds: u64,
    from: u64,
) -> Result<Vec<Figure>, String> {
    let gate = ledger.gate(STREAMS).await?;
    let (sender, mut receiver) = gate.client().submit_stream(256);
    let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let actions = Arc::clone(actions);
    let sending = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        // Who was late catches up: the load stays 1,000 a second, and lateness counts.
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut last: Option<Arc<countersign_client::PreparedBatch>> = None;
        for n in from..from + seconds * 1_000 {
            let due = tick.tick().await.into_std();
            let draft = gate.draft(Kind::Verdict, &actions.verdict(n)).map_err(text)?;
            let batch = match &last {
                None => gate.prepare(&[draft]),
                Some(last) => gate.prepare_after(last, &[draft]),
            };
            let batch = batch.map_err(text)?;
            began.send(due).map_err(text)?;
            sender.send(Arc::clone(&batch)).await.map_err(text)?;
            last = Some(batch);
        }
        Ok::<(), String>(())
    });
    let mut took = Vec::new();
    let mut waiting = VecDeque::new();
    while let Some(outcome) = receiver.next().await.map_err(text)? {
        while let Ok(due) = begins.try_recv() {
            waiting.push_back(due);
        }
        for record in outcome.records {
            record.result.map_err(text)?;
            let due: Instant = waiting.pop_front().ok_or("an answer without a question")?;
            took.push(due.elapsed().as_secs_f64() * 1e3);
        }
    }
    sending.await.map_err(text)??;
    took.sort_by(f64::total_cmp);
    Ok(vec![
        Figure::at_most("receipt_at_1000_per_s_p50", percentile(&took, 0.5), "ms", 5.0),
        Figure::at_most("receipt_at_1000_per_s_p99", percentile(&took, 0.99), "ms", 25.0),
        Figure::plain("receipt_at_1000_per_s_samples", number(took.len() as u64), "verdicts"),
    ])
}

/// What the database takes on the disk, and how much of it is not the values.
pub(crate) fn disk(data: &Path, verdicts: u64) -> Result<Vec<Figure>, String> {
    let db = data.join("db");
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, &db).map_err(text)?;
    // The filters of one family need its own options to be read; sizes do not.
    let live = rocksdb::DB::open_cf_for_read_only(&options, &db, &families, false).map_err(text)?;
    let mut rest = 0;
    for name in families.iter().filter(|name| *name != "payloads") {
        let family = live.cf_handle(name).ok_or("a family is gone")?;
        let size = live.property_int_value_cf(family, "rocksdb.total-sst-files-size");
        rest += size.map_err(text)?.unwrap_or(0);
    }
    let total = folder_bytes(&db)?;
    let beyond = number(rest) / number(verdicts) + PAYLOAD_FRAMING;
    Ok(vec![
        Figure::plain("disk_per_verdict", number(total) / number(verdicts), "bytes"),
        Figure::at_most("disk_per_verdict_beyond_values", beyond, "bytes", 250.0),
    ])
}

fn folder_bytes(folder: &Path) -> Result<u64, String> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder).map_err(text)? {
        total += entry.and_then(|entry| entry.metadata()).map_err(text)?.len();
    }
    Ok(total)
}
