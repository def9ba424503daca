//! `report.html` of a pack: one file without scripts or outside requests, for a general counsel
//! first and for an expert behind that.
//!
//! A pure function of verified records: no clock, no randomness, so that the same pack gives the same
//! bytes. All that came from a file is escaped by construction (`page.rs`).

mod actions;
mod annex;
mod first;
mod gather;
mod page;
mod proof;

use countersign_core::encoding::Micros;
use countersign_core::hash::Hash;
use countersign_core::pack::{PackFinding, PackReport};
use countersign_core::verify::Verdict;

pub(crate) use self::annex::commands;
pub(crate) use self::first::{asked, telling};
pub(crate) use self::gather::Gathered;
#[cfg(test)]
use self::gather::ROWS_MAX;

use self::page::Page;

/// Indexes that a sentence of the annex lists at most, and one of the first page.
const INDEXES: usize = 40;
const INDEXES_FIRST: usize = 8;
/// Findings that the annex names, and the first page.
const FINDINGS: usize = 20;
const FINDINGS_FIRST: usize = 3;

/// A head of the log.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Records that it covers.
    pub(crate) size: u64,
    /// Its root.
    pub(crate) root: Hash,
    /// The operator's clock, where it cosigned.
    pub(crate) time: Option<Micros>,
}

/// What a pack claims to be complete for.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Tenant, gate and sealing key in hex.
    pub(crate) keys: Vec<(String, String, String)>,
    /// The first index that it is about.
    pub(crate) from: u64,
    /// The first index after it.
    pub(crate) to: u64,
}

/// What verifying the pack as a whole came to.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    /// The result.
    pub(crate) result: Verdict,
    /// Things that somebody should look at though nothing is wrong.
    pub(crate) warnings: u64,
    /// What was found, in sentences short enough for the first page.
    pub(crate) brief: Vec<String>,
    /// The same in full.
    pub(crate) words: Vec<String>,
    /// What it does not say, in sentences.
    pub(crate) limits: Vec<String>,
    /// What was not checked, and for how many records.
    pub(crate) not_checked: Vec<(String, u64)>,
}

impl Findings {
    /// Of a pack that was not verified yet.
    pub(crate) fn none() -> Self {
        Self {
            result: Verdict::Indeterminate,
            warnings: 0,
            brief: Vec::new(),
            words: Vec::new(),
            limits: Vec::new(),
            not_checked: Vec::new(),
        }
    }

    /// Of a pack's verification.
    pub(crate) fn of(report: &PackReport) -> Self {
        let [.., warnings] = report.counts;
        Self {
            result: report.result,
            warnings,
            brief: words(report, INDEXES_FIRST, FINDINGS_FIRST, "the annex names more"),
            words: words(report, INDEXES, FINDINGS, "countersign-verify pack lists them"),
            limits: report.limits(),
            not_checked: report.not_checked.iter().map(|(what, n)| (what.clone(), *n)).collect(),
        }
    }
}

fn words(report: &PackReport, indexes: usize, findings: usize, rest: &str) -> Vec<String> {
    let mut words = report.statement(indexes);
    let told = |finding: &PackFinding| {
        let at = finding.place.index.map(|index| format!(" (record {index})"));
        format!("{}: {}{}", finding.weight.as_str(), finding.fault, at.unwrap_or_default())
    };
    words.extend(report.findings.iter().take(findings).map(told));
    let all: u64 = report.counts.iter().sum();
    let more = all.saturating_sub(findings as u64);
    if more > 0 {
        words.push(format!("{more} more findings: {rest}."));
    }
    words
}

/// What a report is about.
#[derive(Clone, Debug)]
pub(crate) struct Subject<'a> {
    /// The log.
    pub(crate) origin: String,
    /// Whose records they are.
    pub(crate) tenant: String,
    /// What was asked: fields and values.
    pub(crate) filters: Vec<(String, String)>,
    /// Logged then or later.
    pub(crate) from: Option<Micros>,
    /// Logged before.
    pub(crate) to: Option<Micros>,
    /// The head that everything is proven under.
    pub(crate) head: Head,
    /// All heads of the pack, the smallest first.
    pub(crate) heads: Vec<Head>,
    /// Sizes that are joined by consistency proofs.
    pub(crate) links: Vec<(u64, u64)>,
    /// What it claims to be complete for.
    pub(crate) claim: Option<Claim>,
    /// What verifying came to.
    pub(crate) findings: Findings,
    /// The records.
    pub(crate) gathered: &'a Gathered,
}

/// The page.
pub(crate) fn html(subject: &Subject<'_>) -> String {
    let title = format!("Evidence report: {} in {}", subject.tenant, subject.origin);
    let mut page = Page::new(&title);
    page.raw("<main>\n");
    first::write(&mut page, subject);
    actions::write(&mut page, subject);
    annex::write(&mut page, subject);
    page.raw("</main>\n");
    page.finish()
}

#[cfg(test)]
mod tests;
