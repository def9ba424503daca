//! `export-tiles`: a log's static read path as plain files, for any web server or object storage.
//!
//! From the top down, so that no byte reaches the disk that was not proved: the head is signed by
//! the log's key; the tiles that are not full give its root; each full tile hashes into the one
//! above, each bundle into its tile. What an earlier run left is checked in the same way and kept,
//! or fetched again. An earlier head must be one that this log continues. The checkpoint comes last,
//! after everything under it is durable (TILE-9).

use countersign_core::encoding::escaped;
use countersign_core::hash::TreeSize;
use countersign_core::note::{NOTE_BYTES_MAX, SignedCheckpoint};
use countersign_core::trust::Trust;
use countersign_mirror::source::{Fetch as _, FetchError, HttpSource, SourceError};
use countersign_mirror::storage::{Place, StorageError};
use countersign_mirror::tree::{Files, Tree, TreeError};
use serde_json::json;

use crate::args::{ExportTilesArgs, Output};
use crate::exit::{Exit, Failure};
use crate::files::{read_trust, shown};
use crate::progress::drawn;

/// The file that says that everything under it is there.
const CHECKPOINT: &str = "checkpoint";

pub(crate) async fn run(args: ExportTilesArgs) -> Result<Exit, Failure> {
    let trust = read_trust(&args.trust)?;
    let source = HttpSource::new(&args.from)?;
    let note = source.fetch(CHECKPOINT, NOTE_BYTES_MAX).await?;
    let head = believed(note, &trust)
        .map_err(|why| Failure::invalid(format!("{}/checkpoint {why}", escaped(&args.from))))?;
    let place = Place::folder(&args.dir)?;
    let earlier = earlier_head(&place, &trust, &head).await?;
    let files = Files::into_place(source, place.clone(), TreeSize(0), true);
    let mut tree = Tree::open(files, head.size, &head.root).await?;
    if let Some(earlier) = earlier.filter(|earlier| earlier.size.0 > 0) {
        continues(&mut tree, &earlier, &place).await?;
    }
    tree.keep_from_now_on();
    let bar = drawn(Some(head.size.0), "{wide_bar} {human_pos}/{human_len} entries {eta}");
    tree.copy(TreeSize(0), |first, entries| bar.set_position(first + entries.len() as u64)).await?;
    bar.finish_and_clear();
    let tally = tree.tally();
    // Whoever finds a checkpoint finds all that it covers, whatever moment the machine stops at.
    place.barrier().await?;
    place.put(CHECKPOINT, head.as_str().as_bytes()).await?;
    place.barrier().await?;
    match args.output {
        Output::Human => tell!(
            "{} entries of {} are in {}: {} files written, {} kept.",
            head.size.0,
            escaped(&head.origin),
            shown(&args.dir),
            tally.written,
            tally.kept
        ),
        Output::Jsonl => {
            let (origin, size) = (&head.origin, head.size.0);
            let (written, kept) = (tally.written, tally.kept);
            tell!(
                "{}",
                json!({ "origin": origin, "size": size, "written": written, "kept": kept })
            );
        }
    }
    Ok(Exit::Success)
}

/// A head that a log of the trust file signed; otherwise what is wrong, as the end of a sentence.
fn believed(note: Vec<u8>, trust: &Trust) -> Result<SignedCheckpoint, String> {
    let note = String::from_utf8(note).map_err(|_| "is no text.".to_owned())?;
    let head = SignedCheckpoint::parse(&note).map_err(|fault| format!("is no head: {fault}"))?;
    let logs: Vec<_> = trust.logs_of(&head.origin).collect();
    if logs.is_empty() {
        let origin = escaped(&head.origin);
        return Err(format!("is of {origin}, which the trust file does not name."));
    }
    let mut fault = None;
    for log in logs {
        match head.verify_log(&log.vkey) {
            Ok(()) => return Ok(head),
            Err(error) => fault = Some(error),
        }
    }
    let fault = fault.map(|fault| fault.to_string()).unwrap_or_default();
    Err(format!("is not signed by the log that it names: {fault}"))
}

/// The head of an export that is there already, which must be of the same log and not larger.
async fn earlier_head(
    place: &Place,
    trust: &Trust,
    head: &SignedCheckpoint,
) -> Result<Option<SignedCheckpoint>, Failure> {
    let path = place.shown(CHECKPOINT);
    let Some(bytes) = place.read(CHECKPOINT, NOTE_BYTES_MAX).await? else { return Ok(None) };
    let earlier = believed(bytes, trust).map_err(|why| {
        Failure::invalid(format!("{path} {why} Name a new folder, or look into who changed it."))
    })?;
    if earlier.origin != head.origin {
        let (there, asked) = (escaped(&earlier.origin), escaped(&head.origin));
        return Err(Failure::usage(format!(
            "{path} holds {there} and not {asked}. Name a folder of its own."
        )));
    }
    if earlier.size > head.size {
        return Err(Failure::invalid(format!(
            "the log shows {} entries, and {path} already covers {}: it went back, or an old copy \
             answers. Nothing was changed; keep that file, it is the log's signed word.",
            head.size.0, earlier.size.0
        )));
    }
    Ok(Some(earlier))
}

/// The head of an earlier export is the root of a prefix of these tiles, or nothing is touched.
async fn continues(
    tree: &mut Tree<HttpSource>,
    earlier: &SignedCheckpoint,
    place: &Place,
) -> Result<(), Failure> {
    if tree.root_at(earlier.size).await? == earlier.root {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "the log does not continue the head of {} entries that {} holds, though its key signed \
         both: one history was rewritten. Keep both heads, they prove it.",
        earlier.size.0,
        place.shown(CHECKPOINT)
    )))
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Url(_) => Self::usage(error.to_string()),
            SourceError::Roots(_) => Self::io(error.to_string()),
            _ => Self::internal(error.to_string()),
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::io(format!(
            "{error}. Check the URL and that the ledger runs; called again, this goes on where it \
             stopped."
        ))
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unknown(_) => Self::usage(error.to_string()),
            _ => Self::io(error.to_string()),
        }
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Fetch(error) => error.into(),
            TreeError::Storage(error) => error.into(),
            TreeError::Altered { .. } => Self::invalid(error.to_string()),
            _ => Self::internal(error.to_string()),
        }
    }
}
