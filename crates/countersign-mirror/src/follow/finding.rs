//! What a follower finds the log guilty of, and how it is kept (FOL-6).

use countersign_core::alarm::{
    Alarm, ProvenEntry, ProvenRun, RUN_ENTRIES_MAX, RewritePlan, verify_alarm,
};
use countersign_core::codes::Code;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::merkle::ProofPlan;
use countersign_core::note::SignedCheckpoint;
use countersign_core::trust::Trust;
use countersign_core::verify::Verdict;
use serde::{Deserialize, Serialize};

use super::seen::Breach;
use crate::source::Fetch;
use crate::storage::{Place, StorageError};
use crate::tree::{Tree, TreeError};

/// The file that says that a log is not followed any more.
pub const STOPPED: &str = "stopped";
/// The folder of alarms.
pub const ALARMS: &str = "alarms";
/// Bytes of that file.
const STOPPED_BYTES_MAX: usize = 1024 * 1024;
const VERSION: &str = "mirror-stopped/v1";

/// Something that no honest log does, or that this mirror can't go on after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub code: Code,
    /// One sentence with the particulars; no text from outside.
    pub sentence: String,
    /// The heads that show it, as signed notes.
    pub heads: Vec<String>,
    /// The proof for others; none where there can't be one, which is when only this mirror saw it.
    pub alarm: Option<Alarm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    countersign: String,
    code: String,
    what: String,
    sentence: String,
    alarm: Option<String>,
    heads: Vec<String>,
}

/// A finding of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// What was found.
    pub code: Code,
    /// The particulars.
    pub sentence: String,
    /// The alarm's name in `alarms/`.
    pub alarm: Option<String>,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words())?;
        match &self.alarm {
            Some(name) => write!(f, " The proof, for anybody: {ALARMS}/{name}."),
            None => f.write_str(" Nobody else can check it: it is this mirror's own observation."),
        }
    }
}

impl Stopped {
    /// What was found and what to do, without a word on where the proof is.
    pub fn words(&self) -> String {
        let (code, what, remedy) = (self.code.as_str(), self.code.what(), self.code.remedy());
        format!("{code}: {what} {} {remedy}", self.sentence)
    }
}

impl Finding {
    /// Two heads of which one can't be true.
    pub(crate) fn of_alarm(code: Code, alarm: Alarm) -> Self {
        let sentence = alarm.shown().map(|shown| shown.sentence()).unwrap_or_default();
        let heads = alarm.heads().iter().map(|head| head.as_str().to_owned()).collect();
        Self { code, sentence, heads, alarm: Some(alarm) }
    }

    /// What only this mirror saw.
    pub(super) fn local(code: Code, sentence: String, heads: &[&SignedCheckpoint]) -> Self {
        let heads = heads.iter().map(|head| head.as_str().to_owned()).collect();
        Self { code, sentence, heads, alarm: None }
    }

    /// The same as it is told.
    pub fn told(&self) -> Stopped {
        Stopped {
            code: self.code,
            sentence: self.sentence.clone(),
            alarm: self.alarm.as_ref().map(Alarm::file_name),
        }
    }

    /// Writes the alarm, and the file that keeps every later run from following; both are durable
    /// when this returns. An alarm that does not verify is not written: the finding stands then as
    /// this mirror's own.
    pub(super) async fn keep(&mut self, place: &Place, trust: &Trust) -> Result<(), StorageError> {
        if let Some(alarm) = &self.alarm {
            let bytes = alarm.to_bytes();
            let report = verify_alarm(&bytes, Some(trust));
            if report.result == Verdict::Valid {
                place.put(&format!("{ALARMS}/{}", alarm.file_name()), &bytes).await?;
            } else {
                let fault = report.fault.map(|fault| fault.to_string());
                tracing::error!(fault, "an alarm does not verify under the trust file");
                self.alarm = None;
            }
        }
        let told = self.told();
        let stored = Stored {
            countersign: VERSION.to_owned(),
            code: told.code.as_str().to_owned(),
            what: told.code.what().to_owned(),
            sentence: told.sentence,
            alarm: told.alarm,
            heads: self.heads.clone(),
        };
        // Writing to memory can't fail.
        let mut bytes = serde_json::to_vec_pretty(&stored).unwrap_or_default();
        bytes.push(b'\n');
        place.put(STOPPED, &bytes).await?;
        place.barrier().await
    }
}

impl Stopped {
    /// Reads what an earlier run found. A file that can't be read stops as well.
    pub async fn read(place: &Place) -> Result<Option<Self>, StorageError> {
        let Some(bytes) = place.read(STOPPED, STOPPED_BYTES_MAX).await? else { return Ok(None) };
        let stored: Option<Stored> = serde_json::from_slice(&bytes).ok();
        let unread = || Self {
            code: Code::MirrorStopped,
            sentence: "The file stopped can't be read.".to_owned(),
            alarm: None,
        };
        let found = stored.and_then(|stored| {
            let code = Code::from_text(&stored.code)?;
            Some(Self { code, sentence: stored.sentence, alarm: stored.alarm })
        });
        Ok(Some(found.unwrap_or_else(unread)))
    }
}

/// The alarm of two heads, the larger of which is this tree's: none where the one continues the
/// other.
pub(crate) async fn contradiction<F: Fetch>(
    smaller: &SignedCheckpoint,
    larger: &SignedCheckpoint,
    tree: &mut Tree<F>,
) -> Result<Option<Alarm>, TreeError> {
    let broken = || TreeError::Broken("two heads contradict each other, and no alarm can be made");
    if smaller.size == larger.size {
        if smaller.root == larger.root {
            return Ok(None);
        }
        return Alarm::fork(smaller.clone(), larger.clone()).map(Some).map_err(|_| broken());
    }
    if tree.root_at(smaller.size).await? == smaller.root {
        return Ok(None);
    }
    let plan = RewritePlan::new(smaller.size, larger.size).ok_or_else(broken)?;
    let hashes = tree.nodes(&plan.nodes()).await?;
    let (seed, hashes) = plan.finish(&hashes).ok_or_else(broken)?;
    let alarm = Alarm::rewrite(smaller.clone(), larger.clone(), seed, hashes);
    alarm.map(Some).map_err(|_| broken())
}

/// What a breach shows of the head whose tree has it.
pub(super) async fn of_breach<F: Fetch>(
    breach: Breach,
    head: &SignedCheckpoint,
    tree: &mut Tree<F>,
) -> Result<Finding, TreeError> {
    let (code, alarm, at) = match breach {
        Breach::Genesis(at) => {
            let sentence =
                format!("Entry {} is, or is not, a genesis record: only entry 0 is one.", at.0);
            return Ok(Finding::local(Code::GenesisPlace, sentence, &[head]));
        }
        Breach::Times(first, second) => {
            let (one, other) = (proven(first, tree).await?, proven(second, tree).await?);
            (Code::LogTimes, Alarm::order(head.clone(), one, other).ok(), second)
        }
        Breach::Numbers(first, second) => {
            (Code::LogNumbers, numbers(first, second, head, tree).await?, second)
        }
    };
    let Some(alarm) = alarm else {
        let sentence = format!(
            "Entry {} shows it, beside entries too far apart for one file; the mirror as a whole \
             shows it to whoever has it (countersign-verify mirror).",
            at.0
        );
        return Ok(Finding::local(code, sentence, &[head]));
    };
    Ok(Finding::of_alarm(code, alarm))
}

/// The small alarm where two entries say it all, and otherwise all entries between them.
async fn numbers<F: Fetch>(
    first: Option<LeafIndex>,
    second: LeafIndex,
    head: &SignedCheckpoint,
    tree: &mut Tree<F>,
) -> Result<Option<Alarm>, TreeError> {
    if let Some(first) = first {
        let (one, other) = (proven(first, tree).await?, proven(second, tree).await?);
        if let Ok(alarm) = Alarm::stream(head.clone(), one, other) {
            return Ok(Some(alarm));
        }
    }
    let from = first.unwrap_or(LeafIndex(0));
    if (second.0 - from.0) >= RUN_ENTRIES_MAX as u64 {
        return Ok(None);
    }
    let end = TreeSize(second.0 + 1);
    let entries = tree.entries(from, end).await?.into_iter().map(TryInto::try_into);
    let Ok(entries) = entries.collect::<Result<Vec<_>, _>>() else { return Ok(None) };
    let peaks = tree.nodes(ProofPlan::root(TreeSize(from.0)).nodes()).await?;
    let hashes = if end == head.size { Vec::new() } else { tree.consistency(end).await? };
    Ok(Alarm::gap(head.clone(), ProvenRun { from, peaks, entries, hashes }).ok())
}

async fn proven<F: Fetch>(index: LeafIndex, tree: &mut Tree<F>) -> Result<ProvenEntry, TreeError> {
    let (bytes, path) = (tree.entry(index).await?, tree.inclusion(index).await?);
    Ok(ProvenEntry { index, bytes, path })
}
