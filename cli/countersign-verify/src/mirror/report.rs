//! The report on a mirror: plain sentences for people, one JSON object for programs
//! (spec/mirror-report.schema.json).

use std::path::Path;

use countersign_core::encoding::{Micros, escaped};
use countersign_core::mirror::{MirrorCounts, MirrorFinding, MirrorReport, Weight};
use serde_json::{Value, json};

use crate::report::result_text;
use crate::{Exit, Output};

/// Findings of one log that are printed for people; JSON has more.
const PRINTED_MAX: usize = 50;

/// Prints what the logs of a mirror come to, and gives the worst of them (MIRR-14).
pub(super) fn print(dir: &Path, logs: &[(String, MirrorReport)], output: Output) -> Exit {
    let mut worst = if logs.is_empty() { Exit::Indeterminate } else { Exit::Valid };
    for (_, report) in logs {
        let exit = Exit::of(report.result);
        if exit.rank() > worst.rank() {
            worst = exit;
        }
    }
    match output {
        Output::Human => print_human(dir, logs, worst),
        Output::Json => say!("{}", mirror_json(dir, logs, worst)),
    }
    worst
}

/// Prints the result of a folder that could not be read: standard error says why.
pub(super) fn print_unread(dir: &Path, output: Output) {
    match output {
        Output::Human => say!("RESULT INDETERMINATE nothing was verified"),
        Output::Json => {
            let mut report = mirror_json(dir, &[], Exit::Indeterminate);
            if let Some(code) = report.get_mut("code") {
                *code = "UNREADABLE".into();
            }
            say!("{report}");
        }
    }
}

fn print_human(dir: &Path, logs: &[(String, MirrorReport)], worst: Exit) {
    say!("{}", escaped(&dir.display().to_string()));
    for (folder, report) in logs {
        say!("  {folder}");
        for sentence in report.statement() {
            say!("    {}", escaped(&sentence));
        }
        for finding in report.findings.iter().take(PRINTED_MAX) {
            say!("    {}", finding_sentence(finding));
        }
        let found: u64 = report.found.iter().sum();
        let left = found.saturating_sub(report.findings.len().min(PRINTED_MAX) as u64);
        if left > 0 {
            say!("    {left} more findings; --output json lists the first thousand of each kind.");
        }
        if !report.witnesses.is_empty() {
            say!("    Witnessed by {}.", escaped(&report.witnesses.join(", ")));
        }
        if !report.not_checked.is_empty() {
            say!("    Not checked: {}.", report.not_checked.join(", "));
        }
        for limit in report.limits() {
            say!("    Limit: {limit}");
        }
        say!("    {}", report.result.as_str());
    }
    if logs.is_empty() {
        say!("  No folder here is named by a log's <hex SHA-256 of origin>: this is no mirror.");
    }
    say!("RESULT {}{}", result_text(worst), reason(logs, worst));
}

/// The log that decides the result, and what decided it there.
fn decisive(logs: &[(String, MirrorReport)], worst: Exit) -> Option<&MirrorFinding> {
    logs.iter().find(|(_, report)| Exit::of(report.result) == worst)?.1.decisive()
}

fn reason(logs: &[(String, MirrorReport)], worst: Exit) -> String {
    if logs.is_empty() {
        return " nothing was verified".to_owned();
    }
    if let Some(finding) = decisive(logs, worst) {
        let place = place(finding);
        let place = if place.is_empty() { place } else { format!(" {place}") };
        return format!(" {}{place}", finding.fault.code.as_str());
    }
    let warnings: u64 = logs.iter().map(|(_, report)| report.found[2]).sum();
    let first = logs.iter().find_map(|(_, report)| report.findings.first());
    match first {
        Some(warning) => format!(" with warning {} ({warnings})", warning.fault.code.as_str()),
        None => String::new(),
    }
}

fn place(finding: &MirrorFinding) -> String {
    let place = &finding.place;
    let parts = [
        place.file.as_ref().map(|file| escaped(file)),
        place.index.map(|index| format!("index {index}")),
        place.stream.map(|stream| format!("stream {}", stream.hex())),
        place.seq.map(|seq| format!("seq {seq}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn finding_sentence(finding: &MirrorFinding) -> String {
    let what = match finding.weight {
        Weight::Fault => "Fault",
        Weight::Doubt => "Not certain",
        Weight::Warning => "Warning",
    };
    let place = place(finding);
    let place = if place.is_empty() { place } else { format!(", {place}") };
    format!("{what}{place}: {}", finding.fault)
}

fn mirror_json(dir: &Path, logs: &[(String, MirrorReport)], worst: Exit) -> Value {
    json!({
        "mirror": dir.display().to_string(),
        "result": result_text(worst),
        "code": decisive(logs, worst).map(|finding| finding.fault.code.as_str()),
        "logs": logs.iter().map(|(folder, report)| log_json(folder, report)).collect::<Vec<_>>(),
    })
}

fn log_json(folder: &str, report: &MirrorReport) -> Value {
    let [faults, doubts, warnings] = report.found;
    let times = report.times;
    json!({
        "folder": folder,
        "origin": report.origin,
        "result": report.result.as_str(),
        "code": report.decisive().map(|finding| finding.fault.code.as_str()),
        "head": report.head.0,
        "resumed": report.resumed,
        "verified": counts(&report.counts),
        "first": times.map(|(first, _)| Micros::format(first)),
        "last": times.map(|(_, last)| Micros::format(last)),
        "witnesses": report.witnesses,
        "not_checked": report.not_checked,
        "statement": report.statement(),
        "limits": report.limits(),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "counts": { "faults": faults, "doubts": doubts, "warnings": warnings },
    })
}

fn counts(counts: &MirrorCounts) -> Value {
    json!({
        "entries": counts.entries, "unread": counts.unread, "bundles": counts.bundles,
        "tiles": counts.tiles, "partials": counts.partials, "heads": counts.heads,
        "streams": counts.streams, "alarms": counts.alarms, "evidence": counts.evidence,
    })
}

fn finding_json(finding: &MirrorFinding) -> Value {
    let place = &finding.place;
    json!({
        "weight": finding.weight.as_str(),
        "code": finding.fault.code.as_str(),
        "what": finding.fault.code.what(),
        "file": place.file,
        "index": place.index,
        "stream": place.stream.map(|stream| stream.hex()),
        "seq": place.seq,
    })
}
