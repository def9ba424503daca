//! `replay`: a recorded verdict made again, from what its record says that the engine was given.
//!
//! The evidence is verified first, as `evidence` does: what is not proved to be on record is not
//! made again. That a verdict comes out the same proves that this policy gives it for these facts,
//! and that the record's other fields don't contradict them; the rest of the facts is the gate's word.

use std::path::{Path, PathBuf};

use countersign_core::encoding::{escaped, from_hex_array, hex};
use countersign_core::hash::{Context, RecordRoot};
use countersign_core::kinds::Kind;
use countersign_core::record::View;
use countersign_core::trust::Trust;
use countersign_core::verify::{Report, Verdict};
use countersign_gate::{ENGINE, Outcome, Policy, Reason, Replay, assemble, not_compared, replay};
use serde_json::{Value, json};

use crate::files::read_capped;
use crate::report::{self, FileReport};
use crate::{Exit, Output};

/// Bytes that one file of a policy set may have: as much as the whole set (POL-6).
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a version in one file, as packs hold them: two texts and their lengths (PACK-2).
const BLOB_BYTES_MAX: usize = 4 * 1024 * 1024 + 8;

/// Verifies files, makes their verdicts again, and prints both.
pub(crate) fn run(
    files: &[PathBuf],
    policies: &Path,
    trust: Option<&Trust>,
    output: Output,
) -> Exit {
    let versions = match versions(policies) {
        Ok(versions) => versions,
        Err((exit, problem)) => {
            eprintln!("countersign-verify: {problem}");
            return exit;
        }
    };
    let (reports, verified) = crate::verify_all(files, trust);
    let made: Vec<Made> = reports.iter().map(|report| Made::of(report, &versions)).collect();
    let worst = worst(&made, verified);
    match output {
        Output::Human => print_human(&reports, &made, verified, worst),
        Output::Json => print_json(&reports, &made, worst),
    }
    worst
}

/// What evidence and replay come to together. Files without a verdict count for nothing; where there
/// is no other, nothing was made again, and that is never success.
fn worst(made: &[Made], verified: Exit) -> Exit {
    let again = made.iter().filter_map(Made::exit).max_by_key(|exit| exit.rank());
    let again = again.unwrap_or(Exit::Indeterminate);
    if verified.rank() > again.rank() { verified } else { again }
}

/// What came of one file.
enum Made {
    /// Its evidence is no proof, so that there is nothing to make again.
    NotProved,
    /// It is proved, and a record of another kind: there is no verdict in it.
    NotAVerdict(Kind),
    /// It was made again, or could not be; with the fields that were withheld and so not compared.
    Again(Replay, Vec<&'static str>),
}

impl Made {
    fn of(report: &FileReport, versions: &[Policy]) -> Self {
        let report = report.report().filter(|report| report.result != Verdict::Invalid);
        let view = report.and_then(|report| report.facts.view.as_ref());
        // Without a version there is none that the record could name.
        let Some((view, policy)) = view.and_then(|view| Some((view, pick(view, versions)?))) else {
            return Self::NotProved;
        };
        if view.kind() != Kind::Verdict {
            return Self::NotAVerdict(view.kind());
        }
        let approvals: Vec<(RecordRoot, &View)> = report.map_or_else(Vec::new, approvals);
        Self::Again(replay(view, &approvals, policy), not_compared(view).collect())
    }

    /// What it makes of the result; nothing, where there is no verdict.
    fn exit(&self) -> Option<Exit> {
        match self {
            Self::NotAVerdict(_) => None,
            Self::Again(Replay::Same, _) => Some(Exit::Valid),
            Self::Again(Replay::Different { .. } | Replay::Contradicted { .. }, _) => {
                Some(Exit::Invalid)
            }
            Self::NotProved | Self::Again(..) => Some(Exit::Indeterminate),
        }
    }

    /// One word, stable, for programs.
    fn word(&self) -> &'static str {
        match self {
            Self::NotProved => "NOT_PROVED",
            Self::NotAVerdict(_) => "NOT_A_VERDICT",
            Self::Again(Replay::Same, _) => "SAME",
            Self::Again(Replay::Different { .. }, _) => "DIFFERENT",
            Self::Again(Replay::Contradicted { .. }, _) => "CONTRADICTED",
            Self::Again(Replay::DifferentEngine { .. }, _) => "DIFFERENT_ENGINE",
            Self::Again(Replay::OtherPolicy, _) => "OTHER_POLICY",
            Self::Again(Replay::NotByPolicy { .. }, _) => "NOT_BY_POLICY",
            Self::Again(Replay::Withheld { .. }, _) => "WITHHELD",
        }
    }

    /// A sentence for people.
    fn said(&self) -> String {
        match self {
            Self::NotProved => {
                "the evidence does not prove the record, so nothing is made again.".into()
            }
            Self::NotAVerdict(kind) => {
                format!("it is a record of kind {}: no policy made it.", kind.as_str())
            }
            Self::Again(Replay::Same, withheld) if withheld.is_empty() => {
                "the policy gives the same outcome for the same reasons again, and the record's \
                 other fields agree with what the policy was told."
                    .into()
            }
            Self::Again(Replay::Same, withheld) => format!(
                "the policy gives the same outcome for the same reasons again. Not checked against \
                 what the policy was told, being withheld: {}.",
                withheld.join(", ")
            ),
            Self::Again(Replay::Contradicted { member }, _) => format!(
                "the record contradicts itself: {member} is not what its other fields give. The \
                 gate that sealed it told its policy, or the log, something untrue; ask its \
                 operator why."
            ),
            Self::Again(Replay::Different { outcome, reasons }, _) => format!(
                "the policy gives another verdict: {} for {}. The gate that sealed this one did \
                 not decide by this policy; ask its operator why.",
                outcome.as_str(),
                codes(reasons).join(", ")
            ),
            Self::Again(Replay::DifferentEngine { recorded }, _) => format!(
                "the record was made by {}, and this program decides with {ENGINE}: nothing is \
                 proved either way. Replay it with a countersign-verify that has that engine.",
                escaped(recorded)
            ),
            Self::Again(Replay::OtherPolicy, _) => {
                "the record names a policy version of another digest. Give the folder that holds \
                 the version which decided."
                    .into()
            }
            Self::Again(Replay::NotByPolicy { code }, _) => format!(
                "no policy made this verdict: the gate refused of its own accord, {}.",
                escaped(code)
            ),
            Self::Again(Replay::Withheld { name }, _) => {
                format!("the field {name} is withheld. Ask for a file that shows it.")
            }
        }
    }

    fn json(&self) -> Value {
        let (outcome, reasons): (Option<Outcome>, &[Reason]) = match self {
            Self::Again(Replay::Different { outcome, reasons }, _) => (Some(*outcome), reasons),
            _ => (None, &[]),
        };
        let (member, withheld): (Option<&str>, &[&str]) = match self {
            Self::Again(Replay::Contradicted { member }, withheld) => (Some(member), withheld),
            Self::Again(_, withheld) => (None, withheld),
            Self::NotProved | Self::NotAVerdict(_) => (None, &[]),
        };
        json!({
            "result": self.word(),
            "outcome": outcome.map(Outcome::as_str),
            "codes": codes(reasons),
            "contradicted": member,
            "not_checked": withheld,
            "engine": ENGINE,
        })
    }
}

fn codes(reasons: &[Reason]) -> Vec<String> {
    reasons.iter().map(|reason| escaped(&reason.code)).collect()
}

/// The approvals that came with a file and are proved as it is, by their roots.
fn approvals(report: &Report) -> Vec<(RecordRoot, &View)> {
    let proved = report.supporting.iter().filter(|each| each.result != Verdict::Invalid);
    let rooted = proved.filter_map(|each| Some((each.facts.root?, each.facts.view.as_ref()?)));
    rooted.filter(|(_, view)| view.kind() == Kind::Approval).collect()
}

/// The version that a verdict names, or any, which then says itself that it is another.
fn pick<'p>(view: &View, versions: &'p [Policy]) -> Option<&'p Policy> {
    let digest = view.get("policy").and_then(|policy| policy.get("digest"));
    let digest = digest.and_then(Value::as_str);
    let named = versions.iter().find(|version| Some(hex(&version.digest()).as_str()) == digest);
    named.or(versions.first())
}

fn print_human(reports: &[FileReport], made: &[Made], verified: Exit, worst: Exit) {
    report::print_files(reports);
    for (report, made) in reports.iter().zip(made) {
        say!("{}: replay {}: {}", escaped(report.path()), made.word(), made.said());
    }
    let others = made.iter().filter(|made| made.exit().is_none()).count();
    if others > 0 {
        say!("{others} of {} files hold no verdict, and were only verified.", made.len());
    }
    // The evidence's own fault is named first: a replay rests on it.
    if verified == worst {
        report::print_result(reports, worst);
        return;
    }
    let decisive = made.iter().find(|made| made.exit() == Some(worst)).or(made.first());
    let word = decisive.map_or("NOT_A_VERDICT", Made::word);
    say!("RESULT {} REPLAY_{word}", report::result_text(worst));
}

/// The report of `evidence`, each file with a member `replay` besides, and nothing after it.
fn print_json(reports: &[FileReport], made: &[Made], worst: Exit) {
    let files = reports.iter().zip(made).map(|(report, made)| {
        let mut file = report::file_json(report);
        if let Some(members) = file.as_object_mut() {
            members.insert("replay".to_owned(), made.json());
        }
        file
    });
    let files: Vec<Value> = files.collect();
    let others = made.iter().filter(|made| made.exit().is_none()).count();
    say!(
        "{}",
        json!({
            "result": report::result_text(worst), "not_verdicts": others, "files": files,
        })
    );
}

type Unusable = (Exit, String);

/// The versions of a folder: itself, or each of the folders in it that holds a schema, and each of
/// the files in it that holds a version as packs do, under its digest.
fn versions(folder: &Path) -> Result<Vec<Policy>, Unusable> {
    if let Some(version) = version(folder)? {
        return Ok(vec![version]);
    }
    let mut versions = Vec::new();
    for path in entries(folder)? {
        let found = if path.is_dir() { version(&path)? } else { packed(&path)? };
        versions.extend(found);
    }
    if versions.is_empty() {
        let name = escaped(&folder.display().to_string());
        let what = "holds no policy version that can be used: no *.cedarschema is in it, nor in a \
                    folder of it, nor a version under its digest, as packs hold them.";
        return Err((Exit::Usage, format!("{name} {what} Name the folder of one.")));
    }
    Ok(versions)
}

/// The version in one file that is named by its digest, as in a pack's `policies`; `None` where the
/// name is no digest, or the texts are not for this engine, which is said and no fault: a pack holds
/// what its verdicts name, whoever decides by it.
fn packed(path: &Path) -> Result<Option<Policy>, Unusable> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(digest) = name.and_then(from_hex_array::<32>) else { return Ok(None) };
    let shown = escaped(&path.display().to_string());
    let bytes = read_capped(path, BLOB_BYTES_MAX);
    let bytes = bytes.map_err(|problem| (Exit::Io, problem.to_string()))?;
    if Context::Policy.hash(&[&bytes]) != digest {
        let what = "is not what its name says: its digest is another.";
        return Err((Exit::Usage, format!("{shown} {what} Take it from the pack again.")));
    }
    let loaded = texts(&bytes).and_then(|(policy, schema)| Policy::load(policy, schema).ok());
    if loaded.is_none() {
        eprintln!(
            "countersign-verify: {shown} is no policy version of {ENGINE}, so its verdicts can't \
             be made again. Verify them with the engine that they name."
        );
    }
    Ok(loaded)
}

/// Policy and schema: each a length and a text, and nothing behind them (KIND-8).
fn texts(bytes: &[u8]) -> Option<(&str, &str)> {
    let length = |bytes: &[u8]| {
        bytes.first_chunk().and_then(|length| usize::try_from(u32::from_be_bytes(*length)).ok())
    };
    let (policy, rest) = bytes.get(4..)?.split_at_checked(length(bytes)?)?;
    let schema = rest.get(4..).filter(|schema| length(rest) == Some(schema.len()))?;
    Some((std::str::from_utf8(policy).ok()?, std::str::from_utf8(schema).ok()?))
}

/// The version that the files of a folder make; `None` where there is no schema among them.
fn version(folder: &Path) -> Result<Option<Policy>, Unusable> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !matches!(extension, Some("cedar" | "cedarschema")) {
            continue;
        }
        let bytes = read_capped(&path, FILE_BYTES_MAX);
        let bytes = bytes.map_err(|problem| (Exit::Io, problem.to_string()))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let text = String::from_utf8(bytes).map_err(|_| {
            (Exit::Usage, format!("{} is no text.", escaped(&path.display().to_string())))
        })?;
        files.push((name.unwrap_or_default(), text));
    }
    if files.is_empty() {
        return Ok(None);
    }
    let loaded = assemble(&files).and_then(|(policy, schema)| Policy::load(&policy, &schema));
    loaded.map(Some).map_err(|faults| {
        let name = escaped(&folder.display().to_string());
        let faults: Vec<String> = faults.0.iter().map(|each| escaped(&each.to_string())).collect();
        (Exit::Usage, format!("{name} is no policy version:\n{}", faults.join("\n")))
    })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Unusable> {
    let failed = |error: std::io::Error| {
        let name = escaped(&folder.display().to_string());
        (Exit::Io, format!("{name} can't be read: {error}. Check the path and its permissions."))
    };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests;
