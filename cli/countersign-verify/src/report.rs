//! The report: plain sentences for people, one JSON object for programs (spec/report.schema.json).

use countersign_core::disclose::unchecked_without;
use countersign_core::encoding::{b64, escaped};
use countersign_core::kinds::Kind;
use countersign_core::pack::time_text;
use countersign_core::record::View;
use countersign_core::stream::StreamId;
use countersign_core::verify::{Facts, Report, Verdict};
use serde_json::{Value, json};

use crate::Exit;

/// One file's report, or why there is none.
pub(crate) struct FileReport {
    path: String,
    outcome: Result<Report, String>,
}

impl FileReport {
    /// A file that was read and verified.
    pub(crate) fn verified(path: String, report: Report) -> Self {
        Self { path, outcome: Ok(report) }
    }

    /// A file that could not be read.
    pub(crate) fn unread(path: String, problem: String) -> Self {
        Self { path, outcome: Err(problem) }
    }

    /// The file's name, as it was given.
    #[cfg(feature = "replay")]
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The report, where the file could be read.
    #[cfg(feature = "replay")]
    pub(crate) fn report(&self) -> Option<&Report> {
        self.outcome.as_ref().ok()
    }
}

/// Prints plain sentences; the last line is the result of all.
pub(crate) fn print_human(files: &[FileReport], worst: Exit) {
    print_files(files);
    print_result(files, worst);
}

/// Prints what is to be said of each file.
pub(crate) fn print_files(files: &[FileReport]) {
    for file in files {
        say!("{}", escaped(&file.path));
        match &file.outcome {
            Ok(report) => print_report(report),
            Err(problem) => say!("  {problem}"),
        }
    }
    if files.is_empty() {
        say!("No file was given, and nothing verified is never success.");
    }
}

/// Prints the last line.
pub(crate) fn print_result(files: &[FileReport], worst: Exit) {
    let decisive = files.iter().find_map(|file| {
        let report = file.outcome.as_ref().ok()?;
        (Exit::of(report.result) == worst).then(|| report.decisive()).flatten()
    });
    let reason = decisive.map_or_else(String::new, |finding| {
        format!(" step {} {}", finding.step, finding.fault.code.as_str())
    });
    say!("RESULT {}{reason}", result_text(worst));
}

pub(crate) fn result_text(exit: Exit) -> &'static str {
    match exit {
        Exit::Valid => Verdict::Valid.as_str(),
        Exit::Invalid => Verdict::Invalid.as_str(),
        _ => Verdict::Indeterminate.as_str(),
    }
}

fn print_report(report: &Report) {
    // What an invalid file says is not repeated as if it had been said.
    if report.result != Verdict::Invalid
        && let Some(sentence) = sentence(&report.facts)
    {
        say!("  {sentence}");
    }
    if report.facts.late {
        say!("  LATE: it was logged long after the gate recorded it, which is no fault.");
    }
    if let Some(finding) = report.fault {
        say!("  Step {}: {}", finding.step, finding.fault);
    }
    for finding in &report.doubts {
        say!("  Step {}, not certain: {}", finding.step, finding.fault);
    }
    if report.result != Verdict::Invalid && !report.supporting.is_empty() {
        say!("  It rests on {} supporting records in this file.", report.supporting.len());
    }
    if !report.not_checked.is_empty() {
        say!("  Not checked: {}.", report.not_checked.join(", "));
    }
    for (_, name, lost) in withheld(report) {
        match lost {
            Some(lost) => say!("  {name} is withheld, so this can't be checked: {lost}."),
            None => say!("  {name} is withheld; no check needs it."),
        }
    }
    say!("  {}", report.result.as_str());
}

/// The fields that a record withholds, and what nobody can check without each (EVID-13).
fn withheld(report: &Report) -> Vec<(Kind, &'static str, Option<&'static str>)> {
    let Some(view) = &report.facts.view else { return Vec::new() };
    let kind = view.kind();
    view.withheld().map(|name| (kind, name, unchecked_without(kind, name))).collect()
}

/// The withheld fields of a record and of those that it rests on.
fn withheld_json(report: &Report) -> Vec<Value> {
    let all = std::iter::once(report).chain(&report.supporting);
    let rows = all.flat_map(|report| {
        withheld(report).into_iter().map(|(kind, name, lost)| {
            json!({
                "index": report.facts.index, "kind": kind.as_str(), "field": name,
                "unchecked": lost,
            })
        })
    });
    rows.collect()
}

fn sentence(facts: &Facts) -> Option<String> {
    let view = facts.view.as_ref()?;
    let entry = facts.entry?;
    let said = |name: &str| view.str(name).map_or_else(|| "(withheld)".to_owned(), escaped);
    let what = match view.kind() {
        Kind::Verdict => verdict_sentence(view, &said),
        Kind::Intent => {
            format!("Gate {} of {} was asked for {}", said("gate"), said("tenant"), said("action"))
        }
        Kind::Approval => {
            let who = member(view, "approver", "id");
            let verb = if view.str("decision") == Some("deny") { "denied" } else { "granted" };
            format!("{who} of {} {verb} action {}", said("tenant"), said("action_id"))
        }
        Kind::Outcome => format!(
            "The outcome of action {} of {} was reported as {}",
            said("action_id"),
            said("tenant"),
            said("result")
        ),
        Kind::Stream => format!(
            "The ledger opened a stream for gate {} of {}",
            said("subject_gate"),
            said("subject_tenant")
        ),
        Kind::Genesis => format!("The log {} began", said("origin")),
        kind => format!("A {} record of {}", kind.as_str(), said("tenant")),
    };
    let recorded = said("recorded_at");
    let sealed_by = match (facts.sealed_by, entry.stream == StreamId::LEDGER) {
        (Some(key), true) => format!("the ledger's key {}", b64(&key)),
        (Some(key), false) => format!("the gate's key {}", b64(&key)),
        (None, _) => "(not verified)".to_owned(),
    };
    Some(format!(
        "{what} at {recorded}; sealed by {sealed_by}; logged at {}; in log {} at index {} of {}.",
        time_text(entry.logged_at),
        escaped(&facts.origin),
        facts.index,
        facts.size
    ))
}

fn verdict_sentence(view: &View, said: &dyn Fn(&str) -> String) -> String {
    let verb = match view.str("outcome") {
        Some("approve") => "approved",
        Some("refuse") => "refused",
        Some("supervise") => "asked people about",
        _ => "decided (withheld) on",
    };
    let shadow = if view.str("mode") == Some("shadow") { " (in shadow mode)" } else { "" };
    format!(
        "Gate {} of {} {verb}{shadow} {} on {} ({})",
        said("gate"),
        said("tenant"),
        said("action"),
        member(view, "resource", "id"),
        member(view, "resource", "environment"),
    )
}

fn member(view: &View, field: &str, name: &str) -> String {
    match view.get(field) {
        None => "(withheld)".into(),
        Some(value) => {
            value.get(name).and_then(Value::as_str).map_or_else(|| "(not said)".into(), escaped)
        }
    }
}

/// Prints `{result, files: […]}` and nothing after it.
pub(crate) fn print_json(files: &[FileReport], worst: Exit) {
    let files: Vec<Value> = files.iter().map(file_json).collect();
    say!("{}", json!({ "result": result_text(worst), "files": files }));
}

pub(crate) fn file_json(file: &FileReport) -> Value {
    let Ok(report) = &file.outcome else {
        return json!({
            "path": file.path, "result": "INDETERMINATE", "step": null, "code": "UNREADABLE",
            "index": null, "size": null, "kind": null, "outcome": null, "not_checked": [],
        });
    };
    let finding = report.decisive();
    let facts = &report.facts;
    let view = facts.view.as_ref();
    let mut told = json!({
        "path": file.path,
        "result": report.result.as_str(),
        "step": finding.map(|f| f.step),
        "code": finding.map(|f| f.fault.code.as_str()),
        "index": (facts.size > 0).then_some(facts.index),
        "size": (facts.size > 0).then_some(facts.size),
        "kind": view.map(|v| v.kind().as_str()),
        "outcome": view.and_then(|v| v.str("outcome")),
        "not_checked": report.not_checked,
    });
    // A record that shows everything has nothing to say here.
    let withheld = withheld_json(report);
    if !withheld.is_empty()
        && let Some(members) = told.as_object_mut()
    {
        members.insert("withheld".to_owned(), withheld.into());
    }
    told
}
