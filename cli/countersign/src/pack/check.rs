//! The pack verified as whoever receives it will, from the files as they stand in the folder.

use std::fs::File;
use std::io::{ErrorKind, Read as _};

use countersign_core::encoding::escaped;
use countersign_core::pack::{
    Contents, Given, PackCheck, PackFile, PackFinding, PackReport, Want, Weight,
};
use countersign_core::trust::Trust;

use super::folder::Folder;
use crate::exit::Failure;
use crate::progress::progress;

/// Findings of a kind that are printed; countersign-verify prints them all.
pub(super) const TOLD: usize = 20;

/// Verifies the files that the manifest lists. What else lies in the folder is taken away later.
pub(super) fn folder(
    folder: &Folder,
    contents: Contents,
    trust: Option<&Trust>,
) -> Result<PackReport, Failure> {
    let mut entries = None;
    let mut bytes = Vec::new();
    let mut check = PackCheck::new(contents, trust);
    let bar = progress("verifying");
    bar.set_length(check.progress().1);
    while let Some(want) = check.want() {
        let (file, most) = match want {
            Want::File(file) => (file, file.cap().saturating_add(1)),
            Want::Entries(most) => (PackFile::Entries, most),
        };
        let path = folder.path().join(file.to_string());
        let failed = |error: std::io::Error| Failure::file(&path, &error);
        bytes.clear();
        let limit = u64::try_from(most).unwrap_or(u64::MAX);
        let read = match want {
            Want::File(_) => {
                File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
            }
            Want::Entries(_) => {
                if entries.is_none() {
                    entries = Some(File::open(&path).map_err(failed)?);
                }
                entries.as_mut().map_or(Ok(0), |file| file.take(limit).read_to_end(&mut bytes))
            }
        };
        match read {
            Ok(_) => check.give(Given::Bytes(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => check.give(Given::Absent),
            Err(error) => return Err(failed(error)),
        }
        bar.set_position(check.progress().0);
    }
    bar.finish_and_clear();
    Ok(check.finish())
}

/// A finding as a line.
pub(super) fn told(finding: &PackFinding) -> String {
    let place = &finding.place;
    let mut at = Vec::new();
    at.extend(place.file.as_ref().map(|file| escaped(file)));
    at.extend(place.index.filter(|_| place.file.is_none()).map(|index| format!("index {index}")));
    at.extend(place.stream.map(|stream| format!("stream {}", stream.hex())));
    at.extend(place.seq.map(|seq| format!("seq {seq}")));
    at.extend(finding.step.map(|step| format!("step {step}")));
    let at = if at.is_empty() { String::new() } else { format!("{}: ", at.join(", ")) };
    format!("{}: {at}{}", finding.weight.as_str(), finding.fault)
}

/// What somebody should look at though nothing is wrong with the pack, a line each.
pub(super) fn warned(report: &PackReport) -> Vec<String> {
    let warnings = report.findings.iter().filter(|found| found.weight == Weight::Warning);
    let mut lines: Vec<String> = warnings.take(TOLD).map(told).collect();
    let [.., all] = report.counts;
    let more = all.saturating_sub(TOLD as u64);
    if more > 0 {
        lines.push(format!("{more} more warnings: countersign-verify pack lists them."));
    }
    lines
}

#[cfg(test)]
mod tests {
    use countersign_core::codes::Code;
    use countersign_core::pack::Place;

    use super::*;

    #[test]
    fn warnings_are_told_and_the_rest_counted() {
        let finding = |weight: Weight, index: u64| PackFinding {
            weight,
            fault: Code::GateSilent.at_index(index),
            step: None,
            place: Place { index: Some(index), ..Place::default() },
        };
        let mut report = PackReport::unread();
        assert!(warned(&report).is_empty());
        report.findings = vec![finding(Weight::Doubt, 1)];
        report.findings.extend((2..27).map(|index| finding(Weight::Warning, index)));
        report.counts = [0, 1, 25];
        let lines = warned(&report);
        assert_eq!(lines.len(), TOLD + 1);
        assert!(lines[0].starts_with("warning: index 2: GATE_SILENT"), "{}", lines[0]);
        assert!(lines[TOLD].starts_with("5 more warnings"), "{}", lines[TOLD]);
    }
}
