//! `mirror compare`: two copies of one log, held against each other.

use std::path::Path;
use std::sync::Arc;

use countersign_core::alarm::{Alarm, verify_alarm};
use countersign_core::encoding::escaped;
use countersign_core::trust::Trust;
use countersign_core::verify::Verdict;
use countersign_mirror::compare::{Compared, Copy, compare};
use countersign_mirror::follow::config::BRANCH_GRACE_S;
use countersign_mirror::follow::{FollowError, Followed};
use countersign_mirror::source::{Fetch, FetchError, HttpSource};
use countersign_mirror::storage::Place;
use serde_json::json;

use super::failed;
use super::setup::origins;
use crate::args::{CompareArgs, Output};
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, read_trust, replace, shown};

/// A mirror, or a log's own tiles.
#[derive(Clone)]
enum Side {
    Mirror(Place),
    Tiles(Box<HttpSource>),
}

impl Fetch for Side {
    async fn fetch(&self, name: &str, max: usize) -> Result<Vec<u8>, FetchError> {
        match self {
            Self::Mirror(place) => place.fetch(name, max).await,
            Self::Tiles(source) => source.fetch(name, max).await,
        }
    }
}

pub(super) async fn run(args: CompareArgs) -> Result<Exit, Failure> {
    let trust = Arc::new(read_trust(&args.trust)?);
    let sides = [side(&args.one)?, side(&args.other)?];
    let (mut compared, mut exit) = (0, Exit::Success);
    for origin in origins(&trust) {
        let log = Followed { origin, trust: Arc::clone(&trust), branch_grace_s: BRANCH_GRACE_S };
        let [one, other] = &sides;
        let copies = (open(&log, one).await?, open(&log, other).await?);
        let (Some(one), Some(other)) = copies else { continue };
        compared += 1;
        let found = compare(&one, &other).await;
        let found = found.map_err(|error| failed(&escaped(&log.origin), &error))?;
        if found.finding.is_some() {
            exit = Exit::Invalid;
        }
        report(&log, &found, &args)?;
    }
    if compared == 0 {
        return Err(Failure {
            exit: Exit::Indeterminate,
            message: "no log of the trust file is in both. Name two copies of one log.".to_owned(),
        });
    }
    Ok(exit)
}

fn side(text: &str) -> Result<Side, Failure> {
    match text.split_once("://") {
        Some(("http" | "https", _)) => Ok(Side::Tiles(Box::new(HttpSource::new(text)?))),
        Some(_) => Ok(Side::Mirror(Place::named(text)?)),
        None => Ok(Side::Mirror(Place::folder_read_only(Path::new(text))?)),
    }
}

/// The copy of this log; none where there is none.
async fn open(log: &Followed, side: &Side) -> Result<Option<Copy<Side>>, Failure> {
    let opened = match side {
        Side::Mirror(place) => {
            let place = place.below(&log.folder());
            let mirror = Copy::mirror(log, place).await;
            mirror.map(|copy| copy.map_source(Side::Mirror))
        }
        Side::Tiles(source) => Copy::newest(log, Side::Tiles(source.clone())).await,
    };
    match opened {
        Ok(copy) => Ok(Some(copy)),
        Err(FollowError::Fetch(error)) if error.absent => Ok(None),
        Err(error) => Err(failed(&escaped(&log.origin), &error)),
    }
}

fn report(log: &Followed, found: &Compared, args: &CompareArgs) -> Result<(), Failure> {
    let alarm = found.finding.as_ref().and_then(|finding| finding.alarm.as_ref());
    let path = alarm.map(|alarm| keep(alarm, &log.trust, &args.out)).transpose()?;
    let [one, other] = found.sizes.map(|size| size.0);
    if let Some(finding) = &found.finding {
        eprintln!("countersign: {}: {}", escaped(&log.origin), finding.told().words());
    }
    match args.output {
        Output::Human => {
            let origin = escaped(&log.origin);
            match &path {
                Some(path) => tell!("{origin}: two histories. The proof is {path}."),
                None => tell!(
                    "{origin}: one history, by {} heads; one copy has {one} entries, the other \
                     {other}.",
                    found.heads
                ),
            }
        }
        Output::Jsonl => tell!(
            "{}",
            json!({ "origin": log.origin, "sizes": [one, other], "heads": found.heads,
                    "alarm": path })
        ),
    }
    Ok(())
}

/// Writes an alarm that verifies.
fn keep(alarm: &Alarm, trust: &Trust, out: &Path) -> Result<String, Failure> {
    let bytes = alarm.to_bytes();
    let verified = verify_alarm(&bytes, Some(trust));
    if verified.result != Verdict::Valid {
        return Err(Failure::internal("an alarm was made that does not verify"));
    }
    make_folder(out)?;
    let path = out.join(alarm.file_name());
    replace(&path, &bytes)?;
    Ok(shown(&path))
}
