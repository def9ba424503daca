//! The verification of a pack, step by step, in one pass and one order (PACK-8 to PACK-29).

use std::collections::VecDeque;

use super::heads::Heads;
use super::range::{CHUNK_BYTES, Range};
use super::records::{Ended, Records, Standing};
use super::report::{Complete, Findings, PackFinding, PackReport, Place, Weight};
use super::streams::{self, Streams};
use super::{Contents, GateKey, PackFile};
use crate::cert::Certificate;
use crate::codes::{Code, Fault};
use crate::encoding::Micros;
use crate::evidence::Evidence;
use crate::hash::{Context, sha256};
use crate::kinds::Kind;
use crate::stream::StreamId;
use crate::trust::Trust;
use crate::verify::{Report, Verifier};

/// What a check wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// This whole file. One byte more than [`PackFile::cap`] is enough to see that it is too large.
    File(PackFile),
    /// The next so many bytes of `entries.bin`; fewer only at its end.
    Entries(usize),
}

/// What there was.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// No such file.
    Absent,
    /// Something that is no plain file.
    NotAFile,
}

/// Verifies a pack, file by file. It never waits and reads nothing: ask [`PackCheck::want`], hand
/// over with [`PackCheck::give`], until nothing is wanted; then [`PackCheck::finish`].
pub struct PackCheck<'t> {
    manifest: Contents,
    trust: Option<&'t Trust>,
    verifier: Verifier<'t>,
    /// Of the files themselves and the heads, which come first: the rest follows from these.
    findings: Findings,
    /// Of the records. Those of the range stand between the two.
    said: Findings,
    /// Files that are read before entries and evidence.
    first: VecDeque<PackFile>,
    /// The index whose evidence is next.
    next: Option<u64>,
    heads: Heads,
    range: Option<Range>,
    records: Records,
    streams: Streams,
    done: u64,
}

impl<'t> PackCheck<'t> {
    /// Begins with a manifest. `trust` is all that is believed; without it nothing is VALID.
    pub fn new(manifest: impl Into<Contents>, trust: Option<&'t Trust>) -> Self {
        let manifest = manifest.into();
        let others = manifest.files.others().filter(|file| *file != PackFile::Entries);
        let mut first: Vec<PackFile> = others.collect();
        // Proofs join heads that were read, and the peaks lead to one of them.
        first.sort_by_key(|file| match file {
            PackFile::Head(_) => 0,
            PackFile::Consistency(..) => 1,
            _ => 2,
        });
        let mut check = Self {
            trust,
            verifier: Verifier::new(trust),
            findings: Findings::default(),
            said: Findings::default(),
            first: first.into(),
            next: None,
            heads: Heads::new(&manifest),
            range: manifest.claims.as_ref().map(|claims| Range::new(claims, &manifest.origin)),
            records: Records::new(manifest.asked.clone()),
            streams: Streams::new(manifest.claims.as_ref().map(|claims| claims.from.0)),
            done: 0,
            manifest,
        };
        check.next = check.manifest.files.evidence_from(0);
        check
    }

    /// The manifest that is checked.
    pub fn manifest(&self) -> &Contents {
        &self.manifest
    }

    /// Files that were handed over, of how many.
    pub fn progress(&self) -> (u64, u64) {
        (self.done, self.manifest.files.len() as u64)
    }

    /// What is wanted next; nothing at the end.
    pub fn want(&self) -> Option<Want> {
        if let Some(file) = self.first.front() {
            return Some(Want::File(*file));
        }
        // Evidence follows the entries closely, so that few entries wait for theirs.
        let unread = self.range.as_ref().filter(|range| !range.ended() && self.measured(range));
        match (self.next, unread) {
            (Some(index), Some(range)) if index >= range.at() => Some(Want::Entries(CHUNK_BYTES)),
            (Some(index), _) => Some(Want::File(PackFile::Evidence(index))),
            (None, Some(_)) => Some(Want::Entries(CHUNK_BYTES)),
            (None, None) => None,
        }
    }

    /// Whether both ends of a range are known, so that its entries can be held against them. What
    /// nothing can be said of is not read, however much there is.
    fn measured(&self, range: &Range) -> bool {
        let to = self.manifest.claims.as_ref().map(|claims| claims.to.0);
        range.begun() && to.is_some_and(|to| self.heads.root(to).is_some())
    }

    /// Says how long `entries.bin` is, before it is read: one of another length than the range asks
    /// for is not wanted any more.
    pub fn entries_length(&mut self, bytes: u64) {
        if let Some(range) =
            self.range.as_mut().filter(|range| !range.ended() && !range.fits(bytes))
        {
            range.discard();
            self.done += 1;
            self.findings.fault(Code::PackEntriesLength, Place::file(PackFile::Entries));
        }
    }

    /// Takes what was wanted.
    pub fn give(&mut self, given: Given<'_>) {
        match self.want() {
            Some(Want::Entries(_)) => self.entries(given),
            Some(Want::File(file)) => {
                self.done += 1;
                match file {
                    PackFile::Evidence(index) => {
                        self.next = index.checked_add(1);
                        self.next =
                            self.next.and_then(|next| self.manifest.files.evidence_from(next));
                    }
                    _ => drop(self.first.pop_front()),
                }
                if let Some(bytes) = self.listed(file, given) {
                    self.file(file, bytes);
                }
            }
            None => {}
        }
    }

    /// Notes something in the folder that the manifest does not list, or that is no plain file.
    pub fn stray(&mut self, path: &str, plain: bool) {
        let code = if plain { Code::PackUnlisted } else { Code::PackFileKind };
        self.findings.fault(code, Place::path(path));
    }

    /// PACK-8 and PACK-9: the bytes, where they are those that the manifest lists.
    fn listed<'b>(&mut self, file: PackFile, given: Given<'b>) -> Option<&'b [u8]> {
        let code = match given {
            Given::Absent => Code::PackFileMissing,
            Given::NotAFile => Code::PackFileKind,
            Given::Bytes(bytes) if bytes.len() > file.cap() => Code::PackOversized,
            Given::Bytes(bytes) => {
                if self.manifest.files.get(&file) == Some(&sha256(bytes)) {
                    return Some(bytes);
                }
                Code::PackFileHash
            }
        };
        self.findings.fault(code, Place::file(file));
        None
    }

    fn file(&mut self, file: PackFile, bytes: &[u8]) {
        let outcome = match file {
            PackFile::Head(size) => {
                self.heads.take(size, bytes, self.trust, &mut self.findings);
                Ok(())
            }
            PackFile::Consistency(old, new) => self.heads.join(old, new, bytes),
            PackFile::Peaks => self.peaks(bytes),
            // PACK-14 and PACK-15.
            PackFile::Policy(digest) if Context::Policy.hash(&[bytes]) != digest => {
                Err(Code::BlobDigest.into())
            }
            PackFile::Certificate(digest) => certificate(&digest, bytes),
            PackFile::Evidence(index) => {
                self.evidence(index, bytes);
                Ok(())
            }
            PackFile::Policy(_) | PackFile::Readme | PackFile::Report | PackFile::Entries => Ok(()),
        };
        if let Err(fault) = outcome {
            self.findings.fault(fault, Place::file(file));
        }
    }

    fn peaks(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Some(range) = &mut self.range else { return Ok(()) };
        let from = self.manifest.claims.as_ref().map_or(0, |claims| claims.from.0);
        Ok(range.begin(bytes, self.heads.root(from))?)
    }

    fn entries(&mut self, given: Given<'_>) {
        let (Some(range), Some(claims)) = (&mut self.range, &self.manifest.claims) else { return };
        let listed = self.manifest.files.get(&PackFile::Entries);
        let root = self.heads.root(claims.to.0);
        let outcome = match given {
            Given::Bytes(bytes) => {
                let shown = |index| self.manifest.files.contains(&PackFile::Evidence(index));
                if range.feed(bytes, shown) {
                    return;
                }
                range.end(bytes.len(), listed, root)
            }
            Given::Absent => Err(Code::PackFileMissing),
            Given::NotAFile => Err(Code::PackFileKind),
        };
        self.done += 1;
        if let Err(code) = outcome {
            range.discard();
            self.findings.fault(code, Place::file(PackFile::Entries));
        }
    }

    fn evidence(&mut self, index: u64, bytes: &[u8]) {
        let place = Place::file(PackFile::Evidence(index));
        let parsed = Evidence::parse(bytes);
        let report = match &parsed {
            Ok(evidence) => self.verifier.verify(evidence),
            Err(fault) => self.verifier.refuse(*fault),
        };
        if let Some(finding) = report.fault {
            let (fault, step) = (finding.fault, Some(finding.step));
            self.said.note(PackFinding { weight: Weight::Fault, fault, step, place });
            return;
        }
        self.records.doubts(index, &report, &mut self.said);
        let Ok(evidence) = parsed else { return };
        if let Err(code) = self.placed(index, &evidence) {
            self.said.fault(code.at_index(index), place);
            return;
        }
        if let Some(range) = &mut self.range
            && range.differs(index, &evidence)
        {
            range.findings.fault(Code::PackEntryDiffers.at_index(index), place);
            return;
        }
        let standing = self.standing(index, &report);
        let Some(standing) = standing else {
            self.said.fault(Code::PackForeign.at_index(index), place);
            return;
        };
        self.follow(index, standing, &report);
        self.records.take(index, standing, &report, &mut self.said);
    }

    /// PACK-13 and PACK-17: the record is the one of its file's name, under the pack's heads.
    fn placed(&self, index: u64, evidence: &Evidence) -> Result<(), Code> {
        if evidence.receipt.index.0 != index {
            return Err(Code::PackEvidenceName);
        }
        let mut all = std::iter::once(evidence).chain(&evidence.supporting);
        if !all.all(|evidence| self.heads.has(&evidence.receipt.checkpoint)) {
            return Err(Code::PackReceiptHead);
        }
        Ok(())
    }

    /// Where a record stands to the claim; `None` where a complete pack has no place for it
    /// (PACK-19).
    fn standing(&self, index: u64, report: &Report) -> Option<Standing> {
        let Some(range) = &self.range else { return Some(Standing::Asked) };
        let Some(entry) = &report.facts.entry else { return Some(Standing::Beside) };
        let claims = range.claims(entry.stream);
        if claims && range.holds(index) {
            return Some(Standing::Claimed);
        }
        // In front of the range stands what a claimed stream goes on from (PACK-25).
        let beside = entry.stream == StreamId::LEDGER
            || (claims && range.is_after(index))
            || matches!(entry.kind, Kind::Policy | Kind::Grant);
        beside.then_some(Standing::Beside)
    }

    fn follow(&mut self, index: u64, standing: Standing, report: &Report) {
        let facts = &report.facts;
        let (Some(view), Some(root), Some(entry)) = (&facts.view, facts.root, &facts.entry) else {
            return;
        };
        let record = streams::Standing {
            index,
            entry,
            root,
            view,
            by_entries: self.range.as_ref().is_some_and(|range| range.holds(index)),
            claimed: standing == Standing::Claimed,
        };
        self.streams.take(&record, &mut self.said);
    }

    /// The report, once nothing is wanted.
    pub fn finish(mut self) -> PackReport {
        while self.want().is_some() {
            self.give(Given::Absent);
        }
        self.heads.unjoined(&mut self.findings);
        let nothing = self.records.all.records == 0 && self.range.is_none();
        if nothing {
            self.said.doubt(Code::PackEmpty, Place::default());
        }
        let ended = self.records.end(&mut self.said);
        if let Some(range) = &mut self.range {
            range.beginnings(&self.records.openings);
        }
        let complete = self.complete(ended);
        let held = |digest: &[u8; 32]| self.manifest.files.contains(&PackFile::Policy(*digest));
        let absent = self.records.policies().iter().filter(|digest| !held(digest));
        let policies_absent = absent.copied().collect();
        let mut not_checked = std::mem::take(&mut self.records.not_checked);
        not_checked.extend(self.heads.not_checked.iter().map(|what| ((*what).to_owned(), 1)));
        if let Some(range) = &mut self.range {
            self.findings.append(std::mem::take(&mut range.findings));
        }
        self.findings.append(self.said);
        let for_people = [PackFile::Readme, PackFile::Report];
        let for_people = for_people.into_iter().filter(|f| self.manifest.files.contains(f));
        PackReport {
            for_people: for_people.collect(),
            origin: self.manifest.origin.clone(),
            asked: Some(self.manifest.asked.clone()),
            head: self.manifest.head,
            records: self.records.all.clone(),
            complete,
            not_checked,
            witnesses: std::mem::take(&mut self.heads.witnesses),
            policies_absent,
            ..PackReport::of(self.findings)
        }
    }

    fn complete(&mut self, ended: Ended) -> Option<Complete> {
        let (range, claims) = (self.range.as_ref()?, self.manifest.claims.clone()?);
        let origin = &self.manifest.origin;
        // PACK-24: of a key that nobody used nothing is left out, and nothing follows from that.
        let is_unseen = |key: &&GateKey| {
            range.ended() && !range.has_seen(origin, key) && !self.records.opened(key)
        };
        let unseen: Vec<GateKey> = claims.keys.iter().filter(is_unseen).cloned().collect();
        for _ in &unseen {
            self.said.doubt(Code::PackKeyUnseen.at_field("keys"), Place::path("manifest.json"));
        }
        let head_seconds = self.heads.clock_seconds(claims.to.0);
        let last = range.last_time();
        if head_seconds.is_some_and(|clock| clock < last.seconds()) {
            let place = Place::file(PackFile::Head(claims.to.0));
            self.said.fault(Code::ClockBeforeEntry, place);
        }
        // Without a clock the newest entry says how late it was at least.
        let now = head_seconds
            .map_or(last, |seconds| last.max(Micros(seconds.saturating_mul(1_000_000))));
        let spans = self.streams.end(now, &mut self.said);
        let records = &mut self.records;
        let claimed = |(gate, key): &(String, [u8; 32])| {
            claims.keys.iter().any(|known| known.gate == *gate && known.key == *key)
        };
        let opened = std::mem::take(&mut records.opened);
        Some(Complete {
            head_seconds,
            records: records.claimed.clone(),
            refusals: std::mem::take(&mut records.refusals),
            voids: std::mem::take(&mut records.voids),
            diverged: std::mem::take(&mut records.diverged),
            matching: records.asked_for_some().then(|| std::mem::take(&mut records.matching)),
            untold: ended.untold,
            erased: ended.erased.into_iter().filter(|index| range.holds(*index)).collect(),
            unseen,
            streams: spans.len() as u64,
            unbounded: spans.iter().filter(|span| span.interval_s.is_none()).count() as u64,
            spans,
            gaps: std::mem::take(&mut self.streams.gaps),
            unclaimed: opened.into_iter().filter(|key| !claimed(key)).collect(),
            openings_unshown: range.openings_unshown(),
            streams_unshown: range.streams_unshown,
            claims,
        })
    }
}

/// PACK-15: one strict PEM, named by the digest of its DER.
fn certificate(digest: &[u8; 32], bytes: &[u8]) -> Result<(), Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Code::CertPem)?;
    let certificate = Certificate::from_pem(text).map_err(Fault::from)?;
    if certificate.digest() == *digest { Ok(()) } else { Err(Code::PackCertificate.into()) }
}
