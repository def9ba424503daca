//! What lies in a log's folder besides the bundles and tiles that its head names.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use countersign_core::alarm::ALARM_BYTES_MAX;
use countersign_core::mirror::{FINDINGS_MAX, Given, MirrorCheck, MirrorFile, Plan};
use countersign_core::tiles::TilePath;

use super::tile;
use crate::folder::{Entry, Found, described, listing, read, unread};

/// Names in one folder of tiles: a thousand numbers, their partial ones, and the groups below.
const TILE_NAMES_MAX: usize = 4_096;
/// Folders with files beside the tiles.
const FLAT: [&str; 3] = ["alarms", "evidence", "state"];

/// What is in `heads/`.
pub(super) struct Heads {
    /// The sizes that have a file.
    pub(super) sizes: BTreeSet<u64>,
    strays: Strays,
}

/// Names that have no place, or are not what their place asks for: the first thousand of them, and
/// whether each is of the right kind.
#[derive(Default)]
struct Strays(BTreeSet<(String, bool)>);

impl Strays {
    fn insert(&mut self, path: String, right: bool) {
        self.0.insert((path, right));
        if self.0.len() > FINDINGS_MAX {
            self.0.pop_last();
        }
    }

    fn name(self, check: &mut MirrorCheck<'_>) {
        for (path, right) in self.0 {
            check.other(&path, right);
        }
    }
}

/// Goes through a folder one by one: there may be a million files in it.
fn each(log: &Path, folder: &str, mut take: impl FnMut(String, Entry)) -> Result<(), String> {
    let entries = match std::fs::read_dir(log.join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // What it is instead is found where its name is.
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(()),
        Err(error) => return Err(unread(log, folder, &error)),
    };
    for entry in entries {
        let (name, kind) = entry
            .and_then(|entry| described(&entry))
            .map_err(|error| unread(log, folder, &error))?;
        take(format!("{folder}/{name}"), kind);
    }
    Ok(())
}

/// The heads' sizes, and what else lies beside them.
pub(super) fn heads(log: &Path) -> Result<Heads, String> {
    let mut heads = Heads { sizes: BTreeSet::new(), strays: Strays::default() };
    if !is_folder(log, "heads") {
        return Ok(heads);
    }
    each(log, "heads", |path, kind| match MirrorFile::parse(&path) {
        Some(MirrorFile::Head(size)) => {
            heads.sizes.insert(size);
        }
        _ => heads.strays.insert(path, kind == Entry::Plain),
    })?;
    Ok(heads)
}

/// Links are not followed.
fn is_folder(log: &Path, name: &str) -> bool {
    std::fs::symlink_metadata(log.join(name)).is_ok_and(|found| found.is_dir())
}

/// Names what has no place, verifies alarms, and holds partial tiles against wider ones.
pub(super) fn others(
    log: &Path,
    plan: &Plan<'_>,
    heads: Heads,
    check: &mut MirrorCheck<'_>,
) -> Result<(), String> {
    heads.strays.name(check);
    for (name, kind) in listing(log, TILE_NAMES_MAX)? {
        let folder = name == "tile" || name == "heads" || FLAT.contains(&name.as_str());
        match (folder, kind) {
            (true, Entry::Folder) if name == "tile" => tiles(log, plan, check)?,
            (true, Entry::Folder) if name != "heads" => flat(log, &name, check)?,
            (true, Entry::Folder) => {}
            (true, _) => check.other(&name, false),
            (false, Entry::Plain) if name == "checkpoint" => {}
            (false, kind) => {
                let right = kind == Entry::Plain || MirrorFile::parse(&name).is_none();
                check.other(&name, right);
            }
        }
    }
    Ok(())
}

fn flat(log: &Path, folder: &str, check: &mut MirrorCheck<'_>) -> Result<(), String> {
    let mut strays = Strays::default();
    let mut alarms = BTreeSet::new();
    each(log, folder, |path, kind| match (MirrorFile::parse(&path), kind) {
        (Some(MirrorFile::Alarm(_)), Entry::Plain) => {
            alarms.insert(path);
            if alarms.len() > FINDINGS_MAX {
                alarms.pop_last();
            }
        }
        (Some(_), Entry::Plain) => check.other(&path, true),
        (place, kind) => strays.insert(path, kind == Entry::Plain || place.is_none()),
    })?;
    strays.name(check);
    for path in alarms {
        let Some(file) = MirrorFile::parse(&path) else { continue };
        if let Found::Bytes(bytes) = read(log, &path, ALARM_BYTES_MAX)? {
            check.alarm(&file, &bytes);
        }
    }
    Ok(())
}

/// Everything below `tile/`, each folder's names in their order.
fn tiles(log: &Path, plan: &Plan<'_>, check: &mut MirrorCheck<'_>) -> Result<(), String> {
    let mut folders = vec!["tile".to_owned()];
    while let Some(folder) = folders.pop() {
        let names = listing(&log.join(&folder), TILE_NAMES_MAX)?;
        if names.len() == TILE_NAMES_MAX {
            check.other(&folder, true);
        }
        let mut inner = Vec::new();
        // The widest tile of this place: all partial ones of a folder have the same.
        let mut widest: Option<(TilePath, Found)> = None;
        for (name, kind) in names {
            let path = format!("{folder}/{name}");
            let place = TilePath::parse(&path);
            if let Some(place) = place.filter(|place| place.exists_at(plan.size())) {
                // The widest itself was verified with the entries.
                let Some(wider) = plan.widest(&place) else { continue };
                if widest.as_ref().is_none_or(|(path, _)| *path != wider) {
                    widest = Some((wider, tile(log, &wider)?));
                }
                let found = if kind == Entry::Plain { tile(log, &place)? } else { Found::NotAFile };
                let wider = widest.as_ref().map_or(Given::Absent, |(_, found)| found.given());
                check.partial(place, found.given(), wider);
            } else if place.is_none() && is_tile_folder(&path) {
                match kind {
                    Entry::Folder => inner.push(path),
                    _ => check.other(&path, false),
                }
            } else {
                check.other(&path, true);
            }
        }
        folders.extend(inner.into_iter().rev());
    }
    Ok(())
}

/// Whether the path of some tile begins with this folder.
fn is_tile_folder(path: &str) -> bool {
    ["000", "1"].iter().any(|name| TilePath::parse(&format!("{path}/{name}")).is_some())
}
