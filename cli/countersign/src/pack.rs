//! `pack`: evidence in a folder, with what proves it and, where asked, that nothing is missing.
//!
//! Everything is proven under one head, records come in the order of the log, and nothing depends on
//! when or by whom the pack was made: the same log, question, head and trust file give the same
//! bytes. The folder is `OUT.partial` until it has been verified as a whole; then it gets its name.

mod check;
mod folder;
mod plan;
mod readme;
mod reduce;

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_client::{Client, ClientError};
use countersign_core::cert::Certificate;
use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, escaped, from_hex_array};
use countersign_core::entry::Entry;
use countersign_core::hash::TreeSize;
use countersign_core::kinds::{Kind, parse_ranges};
use countersign_core::pack::{Contents, PackFile, PackReport};
use countersign_core::query::Answer;
use countersign_core::trust::Trust;
use countersign_core::verify::{Verdict, verify};
use countersign_proto::convert::RecordRef;

use self::folder::Folder;
use self::plan::Plan;
use self::reduce::{reduced, telling};
use crate::args::EvidencePackArgs;
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::fetch::{Fetch, Fetched, fetch};
use crate::files::shown;
use crate::gate_link::trust_of;
use crate::progress::progress;
use crate::query::{PAGE, Pages};
use crate::report::{self, Gathered};

/// Policies and certificates that a pack holds at most, far beyond what one tenant has.
const SIDE_FILES_MAX: usize = 4_096;

pub(crate) async fn run(args: EvidencePackArgs) -> Result<Exit, Failure> {
    if args.out.exists() {
        return Err(Failure::usage(format!(
            "{} exists, and what is there is not overwritten. Name another folder with --out.",
            shown(&args.out)
        )));
    }
    let query = args.asked.query()?;
    let (identity, client) = connect(&args.connection).await?;
    let trust = trust_of(&identity, args.trust.as_ref())?;
    if trust.is_none() {
        eprintln!(
            "countersign: without a trust file nothing is verified, and the pack can't come out \
             VALID here. Name one with --trust, or put it into the identity's folder."
        );
    }
    let tenant = identity.spiffe.tenant().to_owned();
    let question = plan::question(&args, client.origin(), &tenant, &query);
    let mut folder = Folder::open(&args.out, &question)?;
    let made = async {
        let plan = plan::make(&args, &client, tenant, query, (&folder, &question)).await?;
        let packer = Packer { args: &args, client: &client, trust: Arc::new(trust), plan: &plan };
        let filled = packer.fill(&mut folder).await?;
        client.settle().await?;
        let checked = packer.finish(&mut folder, &filled)?;
        Ok::<_, Failure>((filled, checked))
    };
    // Boxed: it holds all that a pack is made of.
    let made = Box::pin(made).await;
    let (filled, checked) = made.map_err(|failure| folder.left(failure))?;
    tell(&args, &filled, &checked);
    Ok(match checked.report.result {
        Verdict::Valid => Exit::Success,
        Verdict::Indeterminate => Exit::Indeterminate,
        Verdict::Invalid => Exit::Invalid,
    })
}

/// What a pack was filled with.
#[derive(Default)]
struct Packed {
    gathered: Gathered,
    /// Digests of the policies that its verdicts name.
    policies: BTreeSet<[u8; 32]>,
    policies_absent: usize,
    /// Certificates that were written.
    pems: BTreeSet<String>,
    erased_unmatched: u64,
    records: u64,
}

/// What came of it.
struct Checked {
    report: PackReport,
    /// SHA-256 of the manifest, in hex.
    manifest: String,
}

struct Packer<'p> {
    args: &'p EvidencePackArgs,
    client: &'p Client,
    trust: Arc<Option<Trust>>,
    plan: &'p Plan,
}

impl Packer<'_> {
    /// Everything but the manifest, README.txt and the report.
    async fn fill(&self, folder: &mut Folder) -> Result<Packed, Failure> {
        let plan = self.plan;
        let mut packed = Packed::default();
        for head in plan.heads() {
            let file = PackFile::Head(head.size().0);
            folder.put(file, head.checkpoint().as_str().as_bytes())?;
        }
        for old in plan.older() {
            let proof = self.client.consistency(old, &plan.head).await?;
            let file = PackFile::Consistency(old.size().0, plan.head.size().0);
            folder.put(file, proof.to_string().as_bytes())?;
        }
        let size = plan.head.size();
        let mut taking = Taking {
            fetch: Fetch::new(self.client, &self.trust, size, self.args.in_flight),
            beside: plan.beside.iter().copied().collect(),
            bar: progress("records"),
            packed: &mut packed,
        };
        if plan.claims.is_some() {
            self.complete(folder, &mut taking).await?;
        } else {
            self.listed(folder, &mut taking).await?;
        }
        self.drain(folder, &mut taking, 0).await?;
        taking.bar.finish_and_clear();
        if !self.args.minimal {
            self.policies(folder, &mut packed).await?;
        }
        Ok(packed)
    }

    /// Every entry of the range; of those under the claimed keys, the evidence.
    async fn complete(&self, folder: &mut Folder, taking: &mut Taking<'_>) -> Result<(), Failure> {
        let plan = self.plan;
        let mut reader = self.client.entries(plan.from.as_deref(), &plan.to).await?;
        let peaks: Vec<u8> = reader.start().peaks().iter().flatten().copied().collect();
        folder.put(PackFile::Peaks, &peaks)?;
        let mut writer = folder.begin(&PackFile::Entries.to_string())?;
        let mut index = plan.begin();
        let mut begun = BTreeSet::new();
        while let Some(chunk) = reader.next().await? {
            for bytes in chunk {
                writer.add(&bytes)?;
                let entry = Entry::from_bytes(&bytes).map_err(ClientError::Answer)?;
                let prefix = entry.stream.0.first_chunk::<12>();
                if prefix.is_some_and(|prefix| plan.prefixes.contains(prefix)) {
                    if begun.insert(entry.stream) {
                        self.goes_on(folder, taking.packed, &entry).await?;
                    }
                    self.ask(folder, taking, index).await?;
                }
                index += 1;
            }
        }
        folder.listed(PackFile::Entries, writer.finish()?);
        self.beside(folder, taking, u64::MAX).await
    }

    /// The record that a stream goes on from where the range begins, so that none can be left out
    /// there (PACK-25).
    async fn goes_on(
        &self,
        folder: &mut Folder,
        packed: &mut Packed,
        first: &Entry,
    ) -> Result<(), Failure> {
        let Some(seq) = first.seq.checked_sub(1).filter(|_| self.plan.begin() > 0) else {
            return Ok(());
        };
        let (record, size) = (RecordRef::StreamSeq(first.stream, seq), self.plan.head.size());
        let fetched = fetch(self.client, record, size, self.trust.as_ref().as_ref()).await?;
        if self.plan.beside.contains(&fetched.index) {
            return Ok(());
        }
        self.take(folder, packed, fetched)
    }

    /// What the ledger lists as the answer.
    async fn listed(&self, folder: &mut Folder, taking: &mut Taking<'_>) -> Result<(), Failure> {
        let plan = self.plan;
        let mut pages = Pages::of(self.client, &plan.query, Some(plan.to.size()));
        while let Some(rows) = pages.next(PAGE).await? {
            for row in rows {
                taking.beside.remove(&row.index.0);
                self.ask(folder, taking, row.index.0).await?;
            }
        }
        taking.packed.erased_unmatched = pages.erased_unmatched;
        self.beside(folder, taking, u64::MAX).await
    }

    /// Asks for a record, after those beside it that come before.
    async fn ask(
        &self,
        folder: &mut Folder,
        taking: &mut Taking<'_>,
        index: u64,
    ) -> Result<(), Failure> {
        self.beside(folder, taking, index).await?;
        taking.beside.remove(&index);
        taking.fetch.ask(index, folder.leftover(index));
        self.drain(folder, taking, usize::MAX).await
    }

    async fn beside(
        &self,
        folder: &mut Folder,
        taking: &mut Taking<'_>,
        before: u64,
    ) -> Result<(), Failure> {
        while let Some(index) = taking.beside.first().copied().filter(|index| *index < before) {
            taking.beside.remove(&index);
            taking.fetch.ask(index, folder.leftover(index));
            self.drain(folder, taking, usize::MAX).await?;
        }
        Ok(())
    }

    /// Takes in what arrives: with 0, all that is on its way; otherwise no more than makes room.
    async fn drain(
        &self,
        folder: &mut Folder,
        taking: &mut Taking<'_>,
        leave: usize,
    ) -> Result<(), Failure> {
        while leave == 0 || taking.fetch.is_full() {
            let Some(fetched) = taking.fetch.next().await? else { break };
            self.take(folder, taking.packed, fetched)?;
            taking.bar.inc(1);
        }
        Ok(())
    }

    /// Writes one record: as it is where it answers the question or stands beside, and otherwise
    /// reduced.
    fn take(
        &self,
        folder: &mut Folder,
        packed: &mut Packed,
        fetched: Fetched,
    ) -> Result<(), Failure> {
        let Fetched { index, mut evidence, mut report } = fetched;
        let facts = &report.facts;
        let (Some(view), Some(entry)) = (&facts.view, &facts.entry) else {
            return Err(Failure::invalid(format!("the record at index {index} can't be read.")));
        };
        let beside = self.plan.beside.contains(&index);
        let answers = self.plan.query.ask(entry, view);
        // What stands in front of the range is there for what goes on from it.
        let before = self.plan.claims.is_some() && index < self.plan.begin();
        let asked = beside || (answers != Answer::No && !before);
        if self.plan.claims.is_some() && !asked {
            let query = (!before).then_some(&self.plan.query);
            let told = query.and_then(|query| telling(&evidence, query, entry, view));
            packed.gathered.tell_by(told);
            evidence = reduced(evidence, told).map_err(ClientError::Answer)?;
            report = verify(&evidence, self.trust.as_ref().as_ref());
        } else if !self.args.minimal {
            let digest = view.get("policy").and_then(|policy| policy.get("digest"));
            let digest = digest.and_then(serde_json::Value::as_str).or(view.str("digest"));
            if packed.policies.len() < SIDE_FILES_MAX && view.kind() != Kind::Intent {
                packed.policies.extend(digest.and_then(from_hex_array::<32>));
            }
        }
        folder.put(PackFile::Evidence(index), &evidence.to_bytes())?;
        if !self.args.minimal {
            let chains = std::iter::once(&evidence.gate_chain).chain(&evidence.people_chains);
            // The same few certificates come with every record: each is parsed once.
            for pem in chains.flatten() {
                if packed.pems.len() >= SIDE_FILES_MAX || !packed.pems.insert(pem.clone()) {
                    continue;
                }
                let certificate = Certificate::from_pem(pem)
                    .map_err(|error| Failure::invalid(error.to_string()))?;
                folder.put(PackFile::Certificate(certificate.digest()), pem.as_bytes())?;
            }
        }
        packed.records += 1;
        packed.gathered.take(&evidence, &report, &self.plan.erased, asked);
        Ok(())
    }

    /// The texts of the policies, as far as the ledger has them.
    async fn policies(&self, folder: &mut Folder, packed: &mut Packed) -> Result<(), Failure> {
        for digest in &packed.policies {
            match self.client.policy_content(*digest).await {
                Ok(content) => folder.put(PackFile::Policy(*digest), &content)?,
                // An engine of its owner's, whose texts are held elsewhere.
                Err(ClientError::Refused(refusal)) if refusal.code == Code::NotFound => {
                    packed.policies_absent += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Verifies the folder, adds the report of that, and gives the folder its name.
    fn finish(&self, folder: &mut Folder, packed: &Packed) -> Result<Checked, Failure> {
        let mut subject = self.plan.subject(&packed.gathered);
        let readme = readme::text(&subject, folder.files());
        folder.put(PackFile::Readme, readme.as_bytes())?;
        let report = {
            // In the form that a verifier will read.
            let mut manifest = Vec::new();
            let written = self.plan.contents(folder.files().clone()).write(&mut manifest);
            written.map_err(|error| Failure::internal(error.to_string()))?;
            let contents = Contents::parse(&manifest).map_err(|fault| {
                Failure::internal(format!("the manifest is not as it must be: {fault}"))
            })?;
            drop(manifest);
            check::folder(folder, contents, self.trust.as_ref().as_ref())?
        };
        if report.result == Verdict::Invalid {
            for finding in report.findings.iter().take(check::TOLD) {
                eprintln!("countersign: {}", check::told(finding));
            }
            return Err(Failure::invalid("the pack does not verify: see above."));
        }
        subject.findings = report::Findings::of(&report);
        folder.put(PackFile::Report, report::html(&subject).as_bytes())?;
        let contents = self.plan.contents(folder.files().clone());
        let manifest = folder.finish(&contents, &self.args.out)?;
        Ok(Checked { report, manifest })
    }
}

/// Records on their way into a folder.
struct Taking<'t> {
    fetch: Fetch,
    /// Indexes beside the question that are still to come.
    beside: BTreeSet<u64>,
    bar: indicatif::ProgressBar,
    packed: &'t mut Packed,
}

fn tell(args: &EvidencePackArgs, packed: &Packed, checked: &Checked) {
    let out = shown(&args.out);
    tell!("{out}  manifest.json SHA-256 {}", checked.manifest);
    if let Some(line) = checked.report.question() {
        eprintln!("countersign: {}", escaped(&line));
    }
    for line in checked.report.statement(20) {
        eprintln!("countersign: {}", escaped(&line));
    }
    if packed.erased_unmatched > 0 {
        eprintln!(
            "countersign: {} erased records can't be asked for this any more; they may or may not \
             be among those meant. A complete pack shows each of them.",
            packed.erased_unmatched
        );
    }
    if packed.policies_absent > 0 {
        eprintln!(
            "countersign: {} policies are not in the pack: the ledger does not hold their texts.",
            packed.policies_absent
        );
    }
    if let Some(found) = checked.report.decisive() {
        eprintln!("countersign: {}", check::told(found));
    }
    for line in check::warned(&checked.report) {
        eprintln!("countersign: {line}");
    }
    eprintln!(
        "countersign: {} records, {}. Look at {out}/report.html; verify it anywhere: \
         countersign-verify pack {out} --trust TRUST",
        packed.records,
        checked.report.result.as_str()
    );
}

/// The ranges of an erasure's record; one that is not as it must be names none.
fn ranges(entries: &str) -> Vec<(u64, u64)> {
    parse_ranges(entries).unwrap_or_default()
}

/// When a head was signed by the clock.
fn signed_at(seconds: Option<u64>) -> Option<Micros> {
    seconds.map(|seconds| Micros(seconds.saturating_mul(1_000_000)))
}

/// A size that was given, or that of a kept head.
fn size_of(text: &str) -> Option<TreeSize> {
    countersign_core::encoding::from_decimal(text).map(TreeSize)
}
