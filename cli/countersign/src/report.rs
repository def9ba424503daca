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
pub(crate) use self::first::asked;
pub(crate) use self::gather::Gathered;
#[cfg(test)]
use self::gather::ROWS_MAX;

use self::page::Page;

/// Indexes that a sentence lists at most.
const INDEXES: usize = 40;
/// Findings that the first page names.
const FINDINGS: usize = 20;

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
    /// Tenant, gate and sealing key in base64.
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
    /// What was found, in sentences.
    pub(crate) words: Vec<String>,
    /// What it does not say, in sentences.
    pub(crate) limits: Vec<String>,
}

impl Findings {
    /// Of a pack's verification.
    pub(crate) fn of(report: &PackReport) -> Self {
        let mut words = report.statement(INDEXES);
        let told = |finding: &PackFinding| {
            let at = finding.place.index.map(|index| format!(" (record {index})"));
            format!("{}: {}{}", finding.weight.as_str(), finding.fault, at.unwrap_or_default())
        };
        words.extend(report.findings.iter().take(FINDINGS).map(told));
        let more = report.counts.iter().sum::<u64>().saturating_sub(FINDINGS as u64);
        if more > 0 {
            words.push(format!("{more} more findings: countersign-verify pack lists them."));
        }
        Self { result: report.result, words, limits: report.limits() }
    }
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
