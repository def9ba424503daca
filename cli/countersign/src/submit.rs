//! `submit`: verdicts of an external gate, one JSON object a line.
//!
//! Every line is answered once, in order. What is about to be sent is first written to a journal
//! and synced, so that a run which was killed is finished by running it again: the same bytes are
//! submitted, and the ledger answers what it has with the first receipt and seal.

mod answers;
mod journal;
mod lines;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use countersign_client::{Client, Draft, Gate, LoggedRecord, RecordOutcome, Retry};
use countersign_core::codes::Code;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Hash, TreeSize};
use countersign_core::kinds::Kind;
use countersign_proto::convert::{EvidenceQuery, RecordRef, SubmittedRecord};

use self::answers::{Answer, Printer, Status};
use self::journal::{Header, Journal, Kept};
use self::lines::{Lines, no_object};
use crate::args::SubmitArgs;
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, replace_unsynced, shown, sync_folder};
use crate::identity::Identity;

/// Times that what is left is sealed anew without a single line being settled.
const RESEALS_MAX: u32 = 8;

pub(crate) async fn run(args: SubmitArgs) -> Result<Exit, Failure> {
    if args.file.as_os_str() == "-" {
        return Err(Failure::usage(
            "standard input is not taken: after an interruption the same lines are submitted again, \
             and they must still be there. Write them to a file first. (A file of that name is \
             ./-)",
        ));
    }
    let mut lines = Lines::open(&args.file)?;
    if lines.is_empty()? {
        eprintln!("countersign: {} is empty: nothing was submitted.", shown(&args.file));
        return Ok(Exit::Indeterminate);
    }
    let identity = Identity::read(&args.connection.identity)?;
    let gate_identity = identity.gate()?;
    let _alone = lock(&identity)?;
    let (_, client) = connect(&args.connection).await?;
    let gate = Gate::open(client.clone(), gate_identity, Retry::default()).await?;
    // Only now: an attempt that reached no ledger leaves nothing behind.
    make_folder(&args.out)?;
    let header = Header {
        origin: identity.file.origin.clone(),
        tenant: identity.file.tenant.clone(),
        gate: identity.file.name.clone(),
        stream: gate.stream().hex(),
    };
    let path = args.journal.unwrap_or_else(|| args.out.join("submit.journal"));
    let (journal, kept) = Journal::open(&path, &header)?;
    let submission = Submission {
        gate,
        client: client.clone(),
        journal,
        out: args.out.clone(),
        chain: identity.chain_pem(),
        batch: usize::from(args.batch),
        settled: BTreeMap::new(),
    };
    let printer = Printer::new(args.output, lines.bytes());
    let exit = submission.run(lines, kept, printer).await?;
    client.settle().await?;
    Ok(exit)
}

/// Two writers of one stream would take each other's sequence numbers.
pub(crate) fn lock(identity: &Identity) -> Result<File, Failure> {
    let path = identity.path("submit.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| Failure::file(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failure::usage(format!(
            "{} is held: another submit runs with this identity. Wait for it, or use another \
             identity.",
            shown(&path)
        ))),
        Err(std::fs::TryLockError::Error(error)) => Err(Failure::file(&path, &error)),
    }
}

/// A line that is to become a record.
#[derive(Clone)]
struct Item {
    line: u64,
    digest: Hash,
    draft: Draft,
}

struct Submission {
    gate: Gate,
    client: Client,
    journal: Journal,
    out: PathBuf,
    chain: Vec<String>,
    batch: usize,
    /// Lines that are answered and not yet printed, with the digest of their text.
    settled: BTreeMap<u64, (Hash, Answer)>,
}

impl Submission {
    async fn run(
        mut self,
        mut lines: Lines,
        kept: journal::Contents,
        mut printer: Printer,
    ) -> Result<Exit, Failure> {
        // What an earlier run left comes first: its records have their places in the stream.
        self.finish_earlier(kept).await?;
        loop {
            let mut items = Vec::new();
            let mut first_line = None;
            let mut read = 0;
            while read < self.batch {
                let Some(line) = lines.next()? else { break };
                first_line.get_or_insert(line.number);
                read += 1;
                if let Some((digest, _)) = self.settled.get(&line.number) {
                    if *digest != line.digest {
                        return Err(changed(line.number, &self.out));
                    }
                    continue;
                }
                let drafted = line.text.and_then(|text| {
                    let drafted = self.gate.draft(Kind::Verdict, &text);
                    drafted.map_err(|error| no_object(&text).unwrap_or_else(|| error.to_string()))
                });
                match drafted {
                    Ok(draft) => {
                        items.push(Item { line: line.number, digest: line.digest, draft });
                    }
                    Err(reason) => {
                        let answer = Answer::malformed(line.number, line.action_id, reason);
                        self.settled.insert(line.number, (line.digest, answer));
                    }
                }
            }
            if read == 0 {
                break;
            }
            self.settle(items).await?;
            // All lines up to here are answered, so that they are printed in order.
            let last = first_line.unwrap_or(0).saturating_add(read as u64);
            while let Some(entry) = self.settled.first_entry()
                && *entry.key() < last
            {
                let (_, answer) = entry.remove();
                printer.print(&answer)?;
            }
            printer.read(lines.bytes_read());
        }
        self.journal.sync()?;
        sync_folder(&self.out)?;
        printer.finish()
    }

    /// Submits what an earlier run had sealed: the same records at the same places.
    async fn finish_earlier(&mut self, kept: journal::Contents) -> Result<(), Failure> {
        // A refusal that time or another submission may have cured is no answer for ever: such a
        // line is drafted and sealed anew when it is read.
        for refused in kept.refused.into_iter().filter(|refused| !refused.is_curable()) {
            let answer = Answer::refused(&refused);
            self.settled.insert(refused.line, (refused.digest, answer));
        }
        let mut pending = kept.pending;
        pending.sort_by_key(|kept| kept.seq);
        let mut anew = Vec::new();
        while !pending.is_empty() {
            let first_seq = pending.first().map_or(0, |kept| kept.seq);
            let seqs = first_seq..;
            let run = pending.iter().zip(seqs).take_while(|(kept, seq)| kept.seq == *seq).count();
            let drafts: Vec<Draft> =
                pending.iter().take(run.min(self.batch)).map(Kept::draft).collect();
            let rest = pending.split_off(Gate::fitting(&drafts));
            let group = std::mem::replace(&mut pending, rest);
            let (ours, others): (Vec<Kept>, Vec<Kept>) = self.tell_apart(group).await?;
            anew.extend(others.iter().map(Kept::item));
            anew.extend(self.resubmit(ours).await?);
        }
        self.settle(anew).await
    }

    /// Those of a group whose place is theirs or still free, and those whose place was taken by
    /// records that are not of this journal: to submit these would be noted as equivocation.
    async fn tell_apart(&self, group: Vec<Kept>) -> Result<(Vec<Kept>, Vec<Kept>), Failure> {
        let logged = group.iter().filter(|kept| kept.seq < self.gate.next_seq()).count();
        let Some(last) = logged.checked_sub(1).and_then(|at| group.get(at)) else {
            return Ok((group, Vec::new()));
        };
        // Each record names the one before it, so the last one that is ours speaks for all.
        if self.is_ours(last).await? {
            return Ok((group, Vec::new()));
        }
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for kept in group {
            // Behind a record that is not ours nothing chains on.
            if others.is_empty() && self.is_ours(&kept).await? {
                ours.push(kept);
            } else {
                others.push(kept);
            }
        }
        Ok((ours, others))
    }

    async fn is_ours(&self, kept: &Kept) -> Result<bool, Failure> {
        let place = RecordRef::StreamSeq(self.gate.stream(), kept.seq);
        let query = EvidenceQuery::Record(place);
        let files = self.client.evidence(query, TreeSize(0), None).await?;
        let root = files.first().and_then(|file| file.report.facts.root);
        Ok(root == Some(kept.record.root()))
    }

    /// Submits records at the places that they have; gives back those that need another one.
    async fn resubmit(&mut self, group: Vec<Kept>) -> Result<Vec<Item>, Failure> {
        let Some(first_seq) = group.first().map(|kept| kept.seq) else {
            return Ok(Vec::new());
        };
        let submitted =
            |kept: &Kept| SubmittedRecord { record: kept.record.clone(), people: Vec::new() };
        let batch = self.gate.seal(first_seq, group.iter().map(submitted).collect())?;
        let outcomes = self.gate.submit(&batch).await?;
        let items = group.iter().map(Kept::item).collect();
        self.take(items, outcomes).await
    }

    /// Gets new records into the log, sealing anew what a refusal halted.
    async fn settle(&mut self, mut items: Vec<Item>) -> Result<(), Failure> {
        let mut rounds_without = 0;
        while !items.is_empty() {
            let drafts: Vec<Draft> = items.iter().map(|item| item.draft.clone()).collect();
            let fitting = Gate::fitting(&drafts).min(self.batch);
            let behind = items.split_off(fitting);
            let batch = self.gate.prepare(drafts.get(..fitting).unwrap_or(&drafts))?;
            // Durable before it is sent: from here on a second run submits these very bytes.
            self.journal.batch(&items, &batch)?;
            let outcomes = self.gate.submit(&batch).await?;
            let mut again = self.take(items, outcomes).await?;
            rounds_without = if again.len() == fitting { rounds_without + 1 } else { 0 };
            if rounds_without == RESEALS_MAX {
                return Err(Failure::invalid(format!(
                    "the stream moved {RESEALS_MAX} times while this run tried to write there: \
                     another process uses the same gate key. Stop it and run this again."
                )));
            }
            again.extend(behind);
            items = again;
        }
        Ok(())
    }

    /// Takes in what became of some lines; gives back those that are to be sealed anew.
    async fn take(
        &mut self,
        items: Vec<Item>,
        outcomes: Vec<RecordOutcome>,
    ) -> Result<Vec<Item>, Failure> {
        let mut again = Vec::new();
        for (item, outcome) in items.into_iter().zip(outcomes) {
            let answer = match outcome.result {
                Ok(logged) => {
                    let evidence = self.write_evidence(&logged).await?;
                    let status = if logged.is_repeat() { Status::Repeated } else { Status::Logged };
                    Answer::logged(item.line, &item.draft, &logged, status, evidence)
                }
                Err(refusal) if Gate::reseals(refusal.code) => {
                    again.push(item);
                    continue;
                }
                Err(refusal) => {
                    let refused = journal::Refused {
                        line: item.line,
                        digest: item.digest,
                        action_id: answers::action_id(&item.draft),
                        code: refusal.code.as_str().to_owned(),
                        message: refusal.message,
                    };
                    self.journal.refused(&refused)?;
                    Answer::refused(&refused)
                }
            };
            self.settled.insert(item.line, (item.digest, answer));
        }
        Ok(again)
    }

    async fn write_evidence(&self, logged: &LoggedRecord) -> Result<PathBuf, Failure> {
        let path = self.out.join(format!("{:020}.evidence", logged.index().0));
        let has_parent = logged
            .record()
            .and_then(|record| record.view().get("parent"))
            .is_some_and(|parent| !parent.is_null());
        if has_parent {
            // The ledger has what this one rests on.
            let query = EvidenceQuery::Record(RecordRef::Index(logged.index()));
            let files = self.client.evidence(query, TreeSize(0), None).await?;
            let file = files.first().ok_or_else(|| Failure::internal("an answer lost its file"))?;
            replace_unsynced(&path, file.json.as_bytes())?;
        } else {
            let evidence: Result<Evidence, _> = logged.evidence(&self.chain);
            let evidence = evidence.map_err(|fault| Failure::internal(fault.to_string()))?;
            replace_unsynced(&path, &evidence.to_bytes())?;
        }
        Ok(path)
    }
}

fn changed(line: u64, out: &Path) -> Failure {
    Failure::usage(format!(
        "{} line {line}: it was submitted with another text by an earlier run into {}. What is \
         logged stands; give the changed file another --out.",
        Code::LineMalformed.as_str(),
        shown(out)
    ))
}
