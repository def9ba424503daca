//! The journal of a submission: what was sealed, written before it is sent.
//!
//! One JSON object a line. The first names log and stream; a `batch` holds records with their
//! places and seeds; a `refused` says that the ledger refused a line. For each line the last word
//! counts. A torn last line is what a crash leaves of a batch that was never sent, and is
//! cut off. The file holds seeds, and is its owner's alone.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use countersign_client::{Draft, PreparedBatch};
use countersign_core::codes::Code;
use countersign_core::encoding::{from_hex_array, hex};
use countersign_core::hash::Hash;
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_proto::convert::SubmittedRecord;
use serde::{Deserialize, Serialize};

use super::Item;
use crate::exit::Failure;
use crate::files::{shown, sync_folder};

/// Bytes that one line of the journal may have: 1,024 records of 60 KiB each, and then some.
const ENTRY_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Which log and stream the journal is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) origin: String,
    pub(super) tenant: String,
    pub(super) gate: String,
    pub(super) stream: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Entry {
    Journal(Header),
    Batch(Vec<KeptText>),
    Refused(RefusedText),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptText {
    line: u64,
    digest: String,
    seq: u64,
    seed: String,
    values: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusedText {
    line: u64,
    digest: String,
    action_id: Option<String>,
    code: String,
    message: String,
}

/// A record that was sealed for a line.
pub(super) struct Kept {
    pub(super) line: u64,
    pub(super) digest: Hash,
    pub(super) seq: u64,
    pub(super) record: FullRecord,
}

impl Kept {
    /// What it says, without its place.
    pub(super) fn draft(&self) -> Draft {
        Draft::of(&SubmittedRecord { record: self.record.clone(), people: Vec::new() })
    }

    pub(super) fn item(&self) -> Item {
        Item { line: self.line, digest: self.digest, draft: self.draft() }
    }
}

/// A line that the ledger refused.
pub(super) struct Refused {
    pub(super) line: u64,
    pub(super) digest: Hash,
    pub(super) action_id: Option<String>,
    pub(super) code: String,
    pub(super) message: String,
}

/// Refusals that are not about the line itself: a certificate is renewed, a clock set, what the line
/// rests on is logged later, a place was taken by another writer.
const CURABLE: [Code; 10] = [
    Code::RecordedAhead,
    Code::CertExpired,
    Code::CertNotYetValid,
    Code::KeyRevoked,
    Code::ParentUnknown,
    Code::VerdictUnknown,
    Code::ApprovalUnknown,
    Code::BlobUnknown,
    Code::PolicyUnknown,
    Code::Equivocation,
];

impl Refused {
    /// Whether the same line may be taken when it is submitted again.
    pub(super) fn is_curable(&self) -> bool {
        CURABLE.iter().any(|code| code.as_str() == self.code)
    }
}

/// What an earlier run left.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) pending: Vec<Kept>,
    pub(super) refused: Vec<Refused>,
}

/// The open journal.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens a journal, or begins one. One of another log or stream is refused.
    pub(super) fn open(path: &Path, header: &Header) -> Result<(Self, Contents), Failure> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| Failure::file(path, &error))?;
        let mut journal = Self { path: path.to_owned(), file };
        if let Some(contents) = journal.read(header)? {
            return Ok((journal, contents));
        }
        journal.append(&Entry::Journal(header.clone()), true)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        sync_folder(folder.unwrap_or(Path::new(".")))?;
        Ok((journal, Contents::default()))
    }

    /// Reads what is there, and cuts off a torn end; `None` where nothing was.
    fn read(&mut self, header: &Header) -> Result<Option<Contents>, Failure> {
        let failed = |error| Failure::file(&self.path, &error);
        let mut reader = BufReader::new(&self.file);
        let mut whole = 0_u64;
        let mut latest: BTreeMap<u64, Result<Kept, Refused>> = BTreeMap::new();
        let mut begun = false;
        loop {
            let mut line = Vec::new();
            let read = (&mut reader).take(ENTRY_BYTES_MAX).read_until(b'\n', &mut line);
            let read = read.map_err(failed)? as u64;
            if line.pop_if(|last| *last == b'\n').is_none() {
                break;
            }
            let entry = serde_json::from_slice(&line).map_err(|_| self.damaged(whole))?;
            match entry {
                Entry::Journal(found) if !begun => {
                    if found != *header {
                        return Err(self.of_another(&found));
                    }
                    begun = true;
                }
                Entry::Batch(records) if begun => {
                    for text in records {
                        let kept = kept(text).ok_or_else(|| self.damaged(whole))?;
                        latest.insert(kept.line, Ok(kept));
                    }
                }
                Entry::Refused(text) if begun => {
                    let refused = refused(text).ok_or_else(|| self.damaged(whole))?;
                    latest.insert(refused.line, Err(refused));
                }
                _ => return Err(self.damaged(whole)),
            }
            whole += read;
        }
        self.file.set_len(whole).map_err(failed)?;
        self.file.seek(SeekFrom::Start(whole)).map_err(failed)?;
        if !begun {
            return Ok(None);
        }
        let mut contents = Contents::default();
        for entry in latest.into_values() {
            match entry {
                Ok(kept) => contents.pending.push(kept),
                Err(refused) => contents.refused.push(refused),
            }
        }
        Ok(Some(contents))
    }

    fn damaged(&self, at: u64) -> Failure {
        Failure::usage(format!(
            "{} can't be read at byte {at}: something else wrote to it. Give another --out; what \
             was logged stays logged, and submitting it again there is refused as DUPLICATE_VERDICT.",
            shown(&self.path)
        ))
    }

    fn of_another(&self, found: &Header) -> Failure {
        let stream = countersign_core::encoding::escaped(&found.stream);
        let path = shown(&self.path);
        Failure::usage(format!(
            "{path} is the journal of another stream ({stream}). Give another --out, or the identity \
             that it was begun with."
        ))
    }

    /// Keeps a batch, durably: after this a second run submits these very records.
    pub(super) fn batch(&mut self, items: &[Item], batch: &PreparedBatch) -> Result<(), Failure> {
        let rows = items.iter().zip(batch.records()).zip(batch.first_seq()..);
        let records = rows.map(|((item, submitted), seq)| KeptText {
            line: item.line,
            digest: hex(&item.digest),
            seq,
            seed: hex(submitted.record.seed()),
            values: submitted.record.values().to_vec(),
        });
        self.append(&Entry::Batch(records.collect()), true)
    }

    /// Keeps a refusal; durable with the next batch, and before it.
    pub(super) fn refused(&mut self, refused: &Refused) -> Result<(), Failure> {
        let text = RefusedText {
            line: refused.line,
            digest: hex(&refused.digest),
            action_id: refused.action_id.clone(),
            code: refused.code.clone(),
            message: refused.message.clone(),
        };
        self.append(&Entry::Refused(text), false)
    }

    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| Failure::file(&self.path, &error))
    }

    fn append(&mut self, entry: &Entry, sync: bool) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(entry)
            .map_err(|error| Failure::internal(format!("the journal can't be written: {error}")))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| Failure::file(&self.path, &error))?;
        if sync { self.sync() } else { Ok(()) }
    }
}

fn kept(text: KeptText) -> Option<Kept> {
    let KeptText { line, digest, seq, seed, values } = text;
    let record = FullRecord::parse(Kind::Verdict, from_hex_array(&seed)?, values).ok()?;
    Some(Kept { line, digest: from_hex_array(&digest)?, seq, record })
}

fn refused(text: RefusedText) -> Option<Refused> {
    let RefusedText { line, digest, action_id, code, message } = text;
    Some(Refused { line, digest: from_hex_array(&digest)?, action_id, code, message })
}
