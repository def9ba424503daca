//! The file of `--resume`: one line a log, written beside and put in place at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use countersign_core::encoding::escaped;
use countersign_core::mirror::{MirrorState, STATE_BYTES_MAX, log_folder};

use crate::files::read_capped;

/// The states that an earlier run left, and where the next go.
pub(super) struct States {
    path: Option<PathBuf>,
    /// By the log's folder.
    known: BTreeMap<String, MirrorState>,
}

impl States {
    /// Reads the file; where there is none, one will be written.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, String> {
        let mut states = Self { path: path.map(Path::to_owned), known: BTreeMap::new() };
        let Some(path) = path else { return Ok(states) };
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(states),
            _ => {}
        }
        let shown = || escaped(&path.display().to_string());
        let bytes = read_capped(path, STATE_BYTES_MAX).map_err(|problem| problem.to_string())?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{} is no text.", shown()))?;
        for line in text.lines() {
            let state =
                MirrorState::parse(line).map_err(|fault| format!("{}: {fault}", shown()))?;
            states.known.insert(log_folder(state.origin()), state);
        }
        Ok(states)
    }

    /// What an earlier run left of the log in this folder.
    pub(super) fn of(&self, folder: &str) -> Option<MirrorState> {
        self.known.get(folder).cloned()
    }

    /// Writes the file anew, where there is something to keep.
    pub(super) fn save(&mut self, state: Option<MirrorState>) -> Result<(), String> {
        let (Some(path), Some(state)) = (&self.path, state) else { return Ok(()) };
        self.known.insert(log_folder(state.origin()), state);
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        let written = File::create(&beside).and_then(|mut file| {
            for state in self.known.values() {
                file.write_all(state.to_line().as_bytes())?;
            }
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&beside, path)).map_err(|error| {
            let path = escaped(&path.display().to_string());
            format!(
                "{path} can't be written: {error}. Name a file that can be, or leave --resume out."
            )
        })
    }
}
