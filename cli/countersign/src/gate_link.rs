//! Calling a gate as an identity, and what its evidence is verified with.

use std::path::{Path, PathBuf};

use countersign_client::{EvidenceItem, GateCallError, GateClient};
use countersign_core::codes::Code;
use countersign_core::encoding::escaped;
use countersign_core::trust::Trust;

use crate::exit::{Exit, Failure};
use crate::files::{make_folder, read_trust, replace_unsynced, shown};
use crate::identity::Identity;

/// The trust file that an identity goes by: the one that was named, else one in its folder, else
/// that of the installation that the folder is in. It names the identity's log, or is refused.
pub(crate) fn trust_of(
    identity: &Identity,
    named: Option<&PathBuf>,
) -> Result<Option<Trust>, Failure> {
    let places = [identity.path("trust.toml"), identity.path("../../trust.toml")];
    let found = named.or_else(|| places.iter().find(|path| path.is_file()));
    let Some(path) = found else { return Ok(None) };
    let trust = read_trust(path)?;
    names_log(&trust, path, identity)?;
    Ok(Some(trust))
}

/// A trust file that was made for another log would blame the ledger for being itself.
fn names_log(trust: &Trust, path: &Path, identity: &Identity) -> Result<(), Failure> {
    let named: Vec<String> = trust.logs.iter().map(|log| escaped(&log.vkey.name)).collect();
    let origin = escaped(&identity.file.origin);
    if trust.logs_of(&identity.file.origin).next().is_none() {
        return Err(Failure::usage(format!(
            "{} does not name this log, {origin}: it names {}. Give the trust file of this log, or \
             add the log's vkey to it if you trust it.",
            shown(path),
            named.join(", ")
        )));
    }
    if !trust.logs.iter().any(|log| log.vkey == identity.log) {
        return Err(Failure::usage(format!(
            "{} names the log {origin} with another key than {} has. Ask the operator which one is \
             the log's, by a way that you trust.",
            shown(path),
            shown(&identity.path("log.vkey"))
        )));
    }
    Ok(())
}

/// Connects to a gate. Its evidence is verified under the trust file, where there is one.
pub(crate) async fn call(
    identity: &Identity,
    gate: &str,
    trust: Option<Trust>,
) -> Result<GateClient, Failure> {
    if trust.is_none() {
        eprintln!(
            "countersign: evidence is checked with the log's keys of the identity's folder, and \
             not against a trust file: who gave the gate its certificate is not checked. Name one \
             with --trust."
        );
    }
    Ok(GateClient::connect(identity.client_config(gate), trust).await?)
}

/// Writes evidence as `<index>.evidence` into a folder.
pub(crate) fn keep(item: &EvidenceItem, out: &std::path::Path) -> Result<PathBuf, Failure> {
    make_folder(out)?;
    let path = out.join(format!("{:020}.evidence", item.index.0));
    // It can be fetched again.
    replace_unsynced(&path, item.json.as_bytes())?;
    Ok(path)
}

/// Tells where a change stands in the log, and keeps its evidence where a folder is named.
pub(crate) fn tell_recorded(
    what: &str,
    item: &EvidenceItem,
    out: Option<&PathBuf>,
) -> Result<(), Failure> {
    let path = out.map(|out| keep(item, out)).transpose()?;
    let at = path.map(|path| format!(", {}", shown(&path))).unwrap_or_default();
    tell!("{what} at index {}{at}", item.index.0);
    Ok(())
}

impl From<GateCallError> for Failure {
    fn from(error: GateCallError) -> Self {
        let code = error.code();
        let exit = match &error {
            GateCallError::Unreachable { .. } => Exit::Io,
            GateCallError::Config(_) => Exit::Usage,
            GateCallError::Refused(_) if code == Code::Internal => Exit::Internal,
            _ => Exit::Invalid,
        };
        Self { exit, message: format!("{error}\n(countersign explain {})", code.as_str()) }
    }
}
