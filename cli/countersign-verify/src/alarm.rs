//! `alarm`: proofs that a log misbehaved, as somebody verifies them who had no part in it.
//!
//! The words are the other way round than elsewhere: a VALID alarm is bad news about the log.

use std::path::PathBuf;

use countersign_core::alarm::{ALARM_BYTES_MAX, AlarmReport, Proves, Shown, verify_alarm};
use countersign_core::encoding::escaped;
use countersign_core::trust::Trust;
use countersign_core::verify::Verdict;
use serde_json::{Value, json};

use crate::files::read_capped;
use crate::report::result_text;
use crate::{Exit, Output};

struct FileReport {
    path: String,
    outcome: Result<AlarmReport, String>,
}

/// Verifies every file, and prints what they come to.
pub(crate) fn run(files: &[PathBuf], trust: Option<&Trust>, output: Output) -> Exit {
    let mut worst = if files.is_empty() { Exit::Indeterminate } else { Exit::Valid };
    let mut reports = Vec::new();
    for path in files {
        let (outcome, exit) = match read_capped(path, ALARM_BYTES_MAX) {
            Ok(bytes) => {
                let report = verify_alarm(&bytes, trust);
                let exit = Exit::of(report.result);
                (Ok(report), exit)
            }
            Err(problem) => (Err(problem.to_string()), Exit::Io),
        };
        if exit.rank() > worst.rank() {
            worst = exit;
        }
        reports.push(FileReport { path: path.display().to_string(), outcome });
    }
    match output {
        Output::Human => print_human(&reports, worst),
        Output::Json => {
            let files: Vec<Value> = reports.iter().map(file_json).collect();
            say!("{}", json!({ "result": result_text(worst), "files": files }));
        }
    }
    worst
}

fn print_human(files: &[FileReport], worst: Exit) {
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
    say!("RESULT {}{}", result_text(worst), reason(files, worst));
}

/// What stands behind the last line: what valid alarms prove, or the first code of the result.
fn reason(files: &[FileReport], worst: Exit) -> String {
    let of_worst = files.iter().filter_map(|file| file.outcome.as_ref().ok());
    let mut of_worst = of_worst.filter(|report| Exit::of(report.result) == worst);
    if worst == Exit::Valid {
        let mut said: Vec<String> = Vec::new();
        for report in of_worst {
            let (Some(proves), Some(origin)) = (report.proves, &report.origin) else { continue };
            let one = format!("{} by {}", proves.as_str(), escaped(origin));
            if !said.contains(&one) {
                said.push(one);
            }
        }
        return format!(" proves: {}", said.join(", "));
    }
    let code = of_worst.find_map(|report| report.fault).map(|fault| fault.code.as_str());
    match (worst, code) {
        (Exit::Invalid, Some(code)) => format!(" {code}: proves nothing"),
        (_, Some(code)) => format!(" {code}"),
        (_, None) => " nothing was verified".to_owned(),
    }
}

fn print_report(report: &AlarmReport) {
    let origin = report.origin.as_deref().map_or_else(|| "a log".to_owned(), escaped);
    let shown = report.shown.as_ref().map(Shown::sentence);
    match report.result {
        Verdict::Valid => {
            say!(
                "  This alarm is true: the log {origin} misbehaved, and its own signature proves it."
            );
        }
        Verdict::Indeterminate => {
            say!("  This alarm is not proved: whether the log {origin} misbehaved stays open.");
        }
        Verdict::Invalid => {
            say!("  This alarm proves nothing: it is no evidence against {origin}.");
        }
    }
    match (&shown, report.result) {
        (Some(sentence), Verdict::Valid) => say!("  {sentence}"),
        (Some(sentence), _) => say!("  What it claims, if the log signed it: {sentence}"),
        (None, _) => {}
    }
    if let Some(fault) = report.fault {
        say!("  {fault}");
    }
    if report.result == Verdict::Valid {
        say!("  Stop relying on this log, keep the alarm, and show it to others who rely on it.");
    }
}

fn file_json(file: &FileReport) -> Value {
    let Ok(report) = &file.outcome else {
        return json!({
            "path": file.path, "result": "INDETERMINATE", "code": "UNREADABLE", "origin": null,
            "proves": null, "shown": null,
        });
    };
    let valid = report.result == Verdict::Valid;
    json!({
        "path": file.path,
        "result": report.result.as_str(),
        "code": report.fault.map(|fault| fault.code.as_str()),
        "origin": report.origin,
        // What is not VALID proves nothing, whatever it claims.
        "proves": report.proves.filter(|_| valid).map(Proves::as_str),
        "shown": report.shown.as_ref().map(Shown::sentence),
    })
}
