//! The report on a pack: plain sentences for people, one JSON object for programs
//! (spec/pack-report.schema.json).

use std::path::Path;

use countersign_core::codes::Code;
use countersign_core::disclose::unchecked_without;
use countersign_core::encoding::{Micros, escaped, hex};
use countersign_core::kinds::Kind;
use countersign_core::pack::{
    Asked, Complete, Counts, Gap, GateKey, PackFinding, PackReport, Span, Weight, time_text,
};
use countersign_core::verify::Verdict;
use serde_json::{Value, json};

use crate::Output;

/// Runs of indexes that a sentence lists; JSON has them all.
const INDEXES_MAX: usize = 40;
/// Silences, and streams, that are printed for people; JSON has more.
const PRINTED_MAX: usize = 50;
/// Findings of one code that are printed for people, before the rest of them is counted.
const OF_A_CODE_MAX: u64 = 3;

/// Prints plain sentences; the last line is the result.
pub(crate) fn print_human(dir: &Path, report: &PackReport) {
    say!("{}", escaped(&dir.display().to_string()));
    if let Some(sentence) = report.question() {
        say!("  {}", escaped(&sentence));
    }
    let statement = report.statement(INDEXES_MAX);
    for sentence in &statement {
        say!("  {}", escaped(sentence));
    }
    if report.statement(usize::MAX) != statement {
        say!("  Every index is listed by --output json.");
    }
    spans(report);
    for line in findings(report) {
        say!("  {line}");
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
            time_text(gap.from),
            time_text(gap.to)
        );
    }
    for limit in report.limits() {
        say!("  Limit: {}", escaped(&limit));
    }
    say!("RESULT {}{}", report.result.as_str(), reason(report));
}

/// Where each claimed stream begins and ends, so that this pack can be joined to another.
fn spans(report: &PackReport) {
    let valid = report.complete.iter().filter(|_| report.result != Verdict::Invalid);
    let spans: &[Span] = valid.map(|complete| complete.spans.as_slice()).next().unwrap_or_default();
    for span in spans.iter().take(PRINTED_MAX) {
        say!("  {}", span.sentence());
    }
    if let Some(more @ 1..) = spans.len().checked_sub(PRINTED_MAX) {
        say!("  {more} streams more, listed by --output json.");
    }
}

/// What stands behind the result: the deciding finding's code and place, and the warnings' codes
/// with the number of each.
fn reason(report: &PackReport) -> String {
    let decisive = report.decisive().map(|finding| {
        let step = finding.step.map_or_else(String::new, |step| format!(" step {step}"));
        let file = finding.place.file.as_ref().map(|file| format!(" {}", escaped(file)));
        format!("{step} {}{}", finding.fault.code.as_str(), file.unwrap_or_default())
    });
    let warnings = report.by_code.iter().filter(|((weight, _), _)| *weight == Weight::Warning);
    let warnings: Vec<String> =
        warnings.map(|((_, code), count)| format!("{} ({count})", code.as_str())).collect();
    let mut said = decisive.unwrap_or_default();
    if !warnings.is_empty() {
        said.push_str(" with warning ");
        said.push_str(&warnings.join(", "));
    }
    said
}

/// The findings, code by code in the order in which each was found first: the first few in full, and
/// how many more there are. A flood of one kind hides no other.
fn findings(report: &PackReport) -> Vec<String> {
    let mut codes: Vec<(Weight, Code)> = Vec::new();
    for finding in &report.findings {
        let key = (finding.weight, finding.fault.code);
        if !codes.contains(&key) {
            codes.push(key);
        }
    }
    let mut lines = Vec::new();
    for key in codes {
        let of_code = report.findings.iter().filter(|f| (f.weight, f.fault.code) == key);
        lines.extend(of_code.zip(0..OF_A_CODE_MAX).map(|(finding, _)| finding_sentence(finding)));
        let found = report.by_code.get(&key).copied().unwrap_or_default();
        let (what, code) = (weight_word(key.0), key.1.as_str());
        if let Some(more @ 1..) = found.checked_sub(OF_A_CODE_MAX) {
            lines.push(format!(
                "{what}: {code} {more} times more, {found} in all; --output json lists the first \
                 thousand findings of each weight."
            ));
        }
    }
    // A code that was found only after a thousand others of its weight.
    let unlisted = report.by_code.iter().filter(|((weight, code), _)| {
        !report.findings.iter().any(|f| (f.weight, f.fault.code) == (*weight, *code))
    });
    lines.extend(unlisted.map(|((weight, code), count)| {
        format!("{}: {} {count} times, which no list has.", weight_word(*weight), code.as_str())
    }));
    lines
}

fn weight_word(weight: Weight) -> &'static str {
    match weight {
        Weight::Fault => "Fault",
        Weight::Doubt => "Not certain",
        Weight::Warning => "Warning",
    }
}

fn finding_sentence(finding: &PackFinding) -> String {
    let what = weight_word(finding.weight);
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
        "codes": report.by_code.iter().map(|((weight, code), count)| json!({
            "weight": weight.as_str(), "code": code.as_str(), "count": count,
        })).collect::<Vec<_>>(),
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
    let unclaimed = complete.unclaimed.iter();
    let unclaimed = unclaimed.map(|(gate, key)| json!({ "gate": gate, "key": hex(key) }));
    json!({
        "keys": claims.keys.iter().map(key).collect::<Vec<_>>(),
        "from": claims.from.0,
        "to": claims.to.0,
        "head_seconds": complete.head_seconds,
        "records": counts(&complete.records),
        "refusals": complete.refusals,
        "voids": complete.voids,
        "diverged": complete.diverged,
        "matching": complete.matching,
        "untold": complete.untold,
        "erased": complete.erased,
        "streams": complete.streams,
        "unbounded": complete.unbounded,
        "spans": complete.spans.iter().map(span).collect::<Vec<_>>(),
        "gaps": complete.gaps.iter().map(gap).collect::<Vec<_>>(),
        "unseen": complete.unseen.iter().map(key).collect::<Vec<_>>(),
        "unclaimed": unclaimed.collect::<Vec<_>>(),
        "openings_unshown": complete.openings_unshown,
        "streams_unshown": complete.streams_unshown,
    })
}

fn span(span: &Span) -> Value {
    json!({
        "stream": span.stream.hex(), "records": span.records,
        "first": span.first, "first_seq": span.first_seq, "prev": span.prev.hex(),
        "last": span.last, "last_seq": span.last_seq, "last_root": span.last_root.hex(),
        "interval_s": span.interval_s,
    })
}

fn key(key: &GateKey) -> Value {
    json!({ "tenant": key.tenant, "gate": key.gate, "key": hex(&key.key) })
}

fn gap(gap: &Gap) -> Value {
    json!({
        "stream": gap.stream.hex(), "after": gap.after, "from": time_text(gap.from),
        "to": time_text(gap.to), "interval_s": gap.interval_s,
    })
}
