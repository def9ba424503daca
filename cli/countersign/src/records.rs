//! Verified records to look at: of a folder of evidence files, or of whole streams of a ledger.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_client::reconcile::Known;
use countersign_client::{Client, ClientError};
use countersign_core::codes::Code;
use countersign_core::encoding::escaped;
use countersign_core::evidence::EVIDENCE_BYTES_MAX;
use countersign_core::hash::TreeSize;
use countersign_core::stream::StreamId;
use countersign_core::trust::Trust;
use countersign_core::verify::{Report, Verdict, verify_file};
use countersign_proto::convert::{EvidenceQuery, RecordRef};
use tokio::task::JoinHandle;

use crate::args::RecordsArgs;
use crate::exit::{Exit, Failure};
use crate::files::{read_capped, read_trust, shown};
use crate::gate_link::trust_of;
use crate::identity::Identity;
use crate::progress::bar;

/// What was read.
#[derive(Default)]
pub(crate) struct Loaded {
    /// The records that verified, by their place in the log.
    pub(crate) records: Vec<Known>,
    /// Files that are proved wrong.
    pub(crate) invalid: usize,
    /// Files of which something needed is missing, withheld or unknown, and erased records.
    pub(crate) doubtful: usize,
}

impl Loaded {
    /// How a command ends that would end with `exit`, had every record verified.
    pub(crate) fn exit(&self, exit: Exit) -> Exit {
        match exit {
            _ if self.invalid > 0 => Exit::Invalid,
            Exit::Success if self.doubtful > 0 || self.records.is_empty() => Exit::Indeterminate,
            exit => exit,
        }
    }

    /// Takes in a report, and says what is wrong with what is not taken in.
    fn take(&mut self, report: &Report, whole: bool, name: &str) {
        let fits = match report.result {
            Verdict::Valid => true,
            // Without a trust file the client has verified all that the log's own keys can show.
            Verdict::Indeterminate => !whole && report.facts.sealed_by.is_some(),
            Verdict::Invalid => false,
        };
        if fits {
            self.records.extend(Known::of(&report.facts));
            for inner in &report.supporting {
                self.records.extend(Known::of(&inner.facts));
            }
            return;
        }
        match report.result {
            Verdict::Invalid => self.invalid += 1,
            _ => self.doubtful += 1,
        }
        let why = report.decisive().map(|found| format!("step {}: {}", found.step, found.fault));
        eprintln!(
            "countersign: {name}: {}: {}",
            report.result.as_str(),
            why.unwrap_or_else(|| "it can't be relied on.".to_owned())
        );
    }

    /// Each record once, in the order of the log.
    fn in_order(mut self) -> Self {
        let origin = |known: &Known| (known.index, known.root.0);
        self.records.sort_by_key(origin);
        self.records.dedup_by_key(|known| origin(known));
        self
    }
}

/// Reads and verifies what the arguments name.
pub(crate) async fn load(args: &RecordsArgs) -> Result<Loaded, Failure> {
    let named = args.trust.as_deref().map(read_trust).transpose()?;
    let (Some(server), Some(identity)) = (&args.server, &args.identity) else {
        let folder = args.evidence.as_deref().ok_or_else(|| {
            Failure::usage("give --evidence DIR, or --server with --identity and --stream.")
        })?;
        return Ok(of_folder(folder, named.as_ref())?.in_order());
    };
    let identity = Identity::read(identity)?;
    let trust = match named {
        Some(trust) => Some(trust),
        None => trust_of(&identity, None)?,
    };
    let mut streams = BTreeSet::new();
    for text in &args.stream {
        streams.insert(StreamId::from_hex(text).ok_or_else(|| {
            Failure::usage(format!(
                "{} names no stream: give 32 hex digits, as a record's stream has them.",
                escaped(text)
            ))
        })?);
    }
    if let Some(folder) = &args.evidence {
        streams.extend(of_folder(folder, trust.as_ref())?.records.iter().map(|r| r.entry.stream));
        streams.remove(&StreamId::LEDGER);
    }
    let client = Client::connect(identity.client_config(server)).await?;
    let reader = Reader { client, trust: Arc::new(trust), in_flight: args.in_flight.into() };
    let mut loaded = Loaded::default();
    for stream in streams {
        reader.stream(stream, &mut loaded).await?;
    }
    reader.client.settle().await?;
    Ok(loaded.in_order())
}

/// The evidence files of a folder, each verified.
fn of_folder(folder: &Path, trust: Option<&Trust>) -> Result<Loaded, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| Failure::file(folder, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::file(folder, &error))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "evidence"));
    paths.sort();
    if trust.is_none() && !paths.is_empty() {
        eprintln!("countersign: without a trust file nothing is verified. Name one with --trust.");
    }
    let mut loaded = Loaded::default();
    for path in paths {
        let bytes = read_capped(&path, EVIDENCE_BYTES_MAX)?;
        loaded.take(&verify_file(&bytes, trust), true, &shown(&path));
    }
    say_gaps(&loaded.records);
    Ok(loaded)
}

/// Whoever looks at files alone should know which records are not among them.
fn say_gaps(records: &[Known]) {
    let mut streams: BTreeMap<StreamId, BTreeSet<u64>> = BTreeMap::new();
    for record in records {
        streams.entry(record.entry.stream).or_default().insert(record.entry.seq);
    }
    streams.remove(&StreamId::LEDGER);
    for (stream, seqs) in streams {
        let last = seqs.last().copied().unwrap_or(0);
        let missing = (last + 1).saturating_sub(seqs.len() as u64);
        if missing > 0 {
            eprintln!(
                "countersign: {missing} of the first {} records of stream {} are not in the \
                 folder, and what they say is not known here.",
                last + 1,
                stream.hex()
            );
        }
    }
}

struct Reader {
    client: Client,
    trust: Arc<Option<Trust>>,
    in_flight: usize,
}

type Reading = JoinHandle<Result<Option<Report>, ClientError>>;

impl Reader {
    /// A whole stream, from its first record to the last that the ledger has.
    async fn stream(&self, stream: StreamId, loaded: &mut Loaded) -> Result<(), Failure> {
        let bar = bar(None);
        bar.set_message(format!("records of {}", stream.hex()));
        let mut reading: VecDeque<(u64, Reading)> = VecDeque::new();
        let mut ended = false;
        for seq in 0_u64.. {
            if !ended {
                reading.push_back((seq, self.spawn(stream, seq)));
                if reading.len() < self.in_flight {
                    continue;
                }
            }
            let Some((at, next)) = reading.pop_front() else { break };
            let read = next.await.map_err(|error| Failure::internal(error.to_string()))?;
            match read {
                _ if ended => {}
                Ok(Some(report)) => {
                    bar.inc(1);
                    let name = format!("seq {at} of {}", stream.hex());
                    loaded.take(&report, self.trust.is_some(), &name);
                }
                Ok(None) => ended = true,
                Err(ClientError::Refused(refusal)) if refusal.code == Code::Erased => {
                    loaded.doubtful += 1;
                    eprintln!("countersign: seq {at} of {} was erased.", stream.hex());
                }
                // Proved wrong, which is the ledger's fault and not the end of what there is.
                Err(ClientError::Answer(fault)) => {
                    loaded.invalid += 1;
                    eprintln!("countersign: seq {at} of {}: {fault}", stream.hex());
                }
                Err(error) => return Err(error.into()),
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// One record; `None` where the stream has none there.
    fn spawn(&self, stream: StreamId, seq: u64) -> Reading {
        let (client, trust) = (self.client.clone(), Arc::clone(&self.trust));
        tokio::spawn(async move {
            let query = EvidenceQuery::Record(RecordRef::StreamSeq(stream, seq));
            match client.evidence(query, TreeSize(0), trust.as_ref().as_ref()).await {
                Ok(items) => Ok(items.into_iter().next().map(|item| item.report)),
                Err(ClientError::Refused(refusal)) if refusal.code == Code::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}
