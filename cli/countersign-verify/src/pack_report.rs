//! The report on a pack: plain sentences for people, one JSON object for programs
//! (spec/pack-report.schema.json).

use std::path::Path;

use countersign_core::disclose::unchecked_without;
use countersign_core::encoding::{Micros, escaped, hex};
use countersign_core::kinds::Kind;
use countersign_core::pack::{Asked, Complete, Counts, Gap, PackFinding, PackReport, Weight};
use countersign_core::verify::Verdict;
use serde_json::{Value, json};

use crate::Output;

/// Runs of indexes that a sentence lists; JSON has them all.
const INDEXES_MAX: usize = 40;
/// Findings that are printed for people; JSON has more.
const PRINTED_MAX: usize = 50;

/// Prints plain sentences; the last line is the result.
pub(crate) fn print_human(dir: &Path, report: &PackReport) {
    say!("{}", escaped(&dir.display().to_string()));
    for sentence in report.statement(INDEXES_MAX) {
        say!("  {}", escaped(&sentence));
    }
    for finding in report.findings.iter().take(PRINTED_MAX) {
        say!("  {}", finding_sentence(finding));
    }
    let found: u64 = report.counts.iter().sum();
    let left = found.saturating_sub(report.findings.len().min(PRINTED_MAX) as u64);
    if left > 0 {
        say!("  {left} more findings; --output json lists the first thousand of each kind.");
    }
    if !report.witnesses.is_empty() {
        say!("  Witnessed by {}.", escaped(&report.witnesses.join(", ")));
    }
    for (what, count) in &report.not_checked {
        say!("  Not checked: {}{}.", escaped(&unchecked(what)), times(*count));
    }
    for gap in report.complete.iter().flat_map(|complete| &complete.gaps).take(PRINTED_MAX) {
        say!(
            "  Silent for longer than {} s: stream {} after index {}, from {} to {}.",
            gap.interval_s,
            gap.stream.hex(),
            gap.after,
            gap.from.format(),
            gap.to.format()
        );
    }
    for limit in report.limits() {
        say!("  Limit: {}", escaped(&limit));
    }
    say!("RESULT {}{}", report.result.as_str(), reason(report));
}

/// What stands behind the result: the deciding finding's code and place, or the warnings' codes.
fn reason(report: &PackReport) -> String {
    if let Some(finding) = report.decisive() {
        let step = finding.step.map_or_else(String::new, |step| format!(" step {step}"));
        let file = finding.place.file.as_ref().map(|file| format!(" {}", escaped(file)));
        return format!("{step} {}{}", finding.fault.code.as_str(), file.unwrap_or_default());
    }
    let [.., warnings] = report.counts;
    match report.findings.first() {
        Some(warning) => format!(" with warning {} ({warnings})", warning.fault.code.as_str()),
        None => String::new(),
    }
}

fn finding_sentence(finding: &PackFinding) -> String {
    let what = match finding.weight {
        Weight::Fault => "Fault",
        Weight::Doubt => "Not certain",
        Weight::Warning => "Warning",
    };
    let place = &finding.place;
    let parts = [
        place.file.as_ref().map(|file| escaped(file)),
        place.index.filter(|_| place.file.is_none()).map(|index| format!("index {index}")),
        place.stream.map(|stream| format!("stream {}", stream.hex())),
        place.seq.map(|seq| format!("seq {seq}")),
        finding.step.map(|step| format!("step {step}")),
    ];
    let place = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let place = if place.is_empty() { place } else { format!(", {place}") };
    format!("{what}{place}: {}", finding.fault)
}

/// What a withheld field leaves unchecked, or what else was not.
fn unchecked(what: &str) -> String {
    let Some((kind, name)) = what.strip_prefix("field:").and_then(|rest| rest.split_once('.'))
    else {
        return what.to_owned();
    };
    let lost = Kind::from_type(kind).and_then(|kind| unchecked_without(kind, name));
    match lost {
        Some(lost) => format!("{name} of a {kind} is withheld, so {lost}"),
        None => format!("{name} of a {kind} is withheld; no check needs it"),
    }
}

fn times(count: u64) -> String {
    if count > 1 { format!(" ({count} times)") } else { String::new() }
}

/// Prints the result of a folder that could not be read: standard error says why.
pub(crate) fn print_unread(dir: &Path, output: Output) {
    match output {
        Output::Human => say!("RESULT INDETERMINATE nothing was verified"),
        Output::Json => {
            say!("{}", report_json(dir, &PackReport::unread(), Some("UNREADABLE")));
        }
    }
}

/// Prints one object and nothing after it.
pub(crate) fn print_json(dir: &Path, report: &PackReport) {
    let code = report.decisive().map(|finding| finding.fault.code.as_str());
    say!("{}", report_json(dir, report, code));
}

fn report_json(dir: &Path, report: &PackReport, code: Option<&str>) -> Value {
    let [faults, doubts, warnings] = report.counts;
    json!({
        "pack": dir.display().to_string(),
        "result": report.result.as_str(),
        "code": code,
        "origin": report.origin,
        "asked": report.asked.as_ref().map(asked),
        "head": report.head.0,
        "statement": report.statement(usize::MAX),
        "limits": report.limits(),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "counts": { "faults": faults, "doubts": doubts, "warnings": warnings },
        "records": counts(&report.records),
        // PACK-32: what an invalid pack claims is not repeated.
        "complete": report
            .complete
            .as_ref()
            .filter(|_| report.result != Verdict::Invalid)
            .map(complete),
        "not_checked": report.not_checked.iter().map(|(what, count)| json!({
            "what": what, "said": unchecked(what), "records": count,
        })).collect::<Vec<_>>(),
        "witnesses": report.witnesses,
        "policies_absent": report.policies_absent.iter().map(|d| hex(d)).collect::<Vec<_>>(),
    })
}

fn asked(asked: &Asked) -> Value {
    let filters = asked.query.filters().iter();
    let filters =
        filters.map(|filter| json!({ "field": filter.field().as_str(), "value": filter.value() }));
    json!({
        "tenant": asked.tenant,
        "filters": filters.collect::<Vec<_>>(),
        "from": asked.query.from().map(Micros::format),
        "to": asked.query.to().map(Micros::format),
    })
}

fn finding_json(finding: &PackFinding) -> Value {
    let place = &finding.place;
    json!({
        "weight": finding.weight.as_str(),
        "code": finding.fault.code.as_str(),
        "what": finding.fault.code.what(),
        "step": finding.step,
        "file": place.file,
        "index": place.index,
        "stream": place.stream.map(|stream| stream.hex()),
        "seq": place.seq,
    })
}

fn counts(counts: &Counts) -> Value {
    json!({
        "records": counts.records, "intents": counts.intents, "verdicts": counts.verdicts,
        "approve": counts.approve, "refuse": counts.refuse, "supervise": counts.supervise,
        "shadow": counts.shadow, "approvals": counts.approvals, "outcomes": counts.outcomes,
        "policies": counts.policies, "grants": counts.grants, "notices": counts.notices,
        "late": counts.late,
    })
}

fn complete(complete: &Complete) -> Value {
    let claims = &complete.claims;
    let keys = claims.keys.iter();
    let keys = keys.map(|k| json!({ "tenant": k.tenant, "gate": k.gate, "key": hex(&k.key) }));
    let unclaimed = complete.unclaimed.iter();
    let unclaimed = unclaimed.map(|(gate, key)| json!({ "gate": gate, "key": hex(key) }));
    json!({
        "keys": keys.collect::<Vec<_>>(),
        "from": claims.from.0,
        "to": claims.to.0,
        "head_seconds": complete.head_seconds,
        "records": counts(&complete.records),
        "refusals": complete.refusals,
        "voids": complete.voids,
        "diverged": complete.diverged,
        "matching": complete.matching,
        "erased": complete.erased,
        "streams": complete.streams,
        "unbounded": complete.unbounded,
        "gaps": complete.gaps.iter().map(gap).collect::<Vec<_>>(),
        "unclaimed": unclaimed.collect::<Vec<_>>(),
        "openings_unshown": complete.openings_unshown,
    })
}

fn gap(gap: &Gap) -> Value {
    json!({
        "stream": gap.stream.hex(), "after": gap.after, "from": gap.from.format(),
        "to": gap.to.format(), "interval_s": gap.interval_s,
    })
}
