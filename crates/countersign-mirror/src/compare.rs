//! Two copies of one log held against each other: who was shown another history than the other has
//! both heads to prove it (FOL-10).

use countersign_core::codes::Code;
use countersign_core::hash::TreeSize;
use countersign_core::note::NOTE_BYTES_MAX;

use crate::follow::{CHECKPOINT, Finding, FollowError, Followed, HEADS, Head, contradiction};
use crate::source::Fetch;
use crate::storage::Place;
use crate::tree::{Files, Tree};

/// Heads of a mirror that are looked at.
const HEADS_MAX: usize = 10_000_000;

/// A copy of a log, as it is compared.
#[derive(Clone, Debug)]
pub struct Copy<F> {
    source: F,
    head: Head,
    /// Heads that it held before.
    earlier: Vec<Head>,
}

/// What comparing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Entries of the two newest heads.
    pub sizes: [TreeSize; 2],
    /// Heads that were held against the larger one.
    pub heads: usize,
    /// The two histories, where there are two.
    pub finding: Option<Finding>,
}

impl<F: Fetch> Copy<F> {
    /// A copy of which only the newest head is known, such as a log's own tiles.
    pub async fn newest(log: &Followed, source: F) -> Result<Self, FollowError> {
        let bytes = source.fetch(CHECKPOINT, NOTE_BYTES_MAX).await?;
        let head = believe(log, bytes)?;
        Ok(Self { source, head, earlier: Vec::new() })
    }

    /// The same copy, whose files come from somewhere else.
    pub fn map_source<G: Fetch>(self, source: impl FnOnce(F) -> G) -> Copy<G> {
        Copy { source: source(self.source), head: self.head, earlier: self.earlier }
    }
}

impl Copy<Place> {
    /// A mirror, with every head that it held. `place` is the log's folder.
    pub async fn mirror(log: &Followed, place: Place) -> Result<Self, FollowError> {
        let mut copy = Self::newest(log, place).await?;
        for name in copy.source.names(HEADS, HEADS_MAX).await? {
            let name = format!("{HEADS}/{name}");
            if let Some(bytes) = copy.source.read(&name, NOTE_BYTES_MAX).await? {
                copy.earlier.push(believe(log, bytes)?);
            }
        }
        Ok(copy)
    }
}

fn believe(log: &Followed, bytes: Vec<u8>) -> Result<Head, FollowError> {
    let note =
        String::from_utf8(bytes).map_err(|_| FollowError::Head(Code::NoteMalformed.into()))?;
    Head::believe(&note, &log.origin, &log.trust).map_err(FollowError::Head)
}

/// Holds every head of both against the tree of the larger.
///
/// # Errors
///
/// Where a copy can't be read or believed: then nothing is said about either.
pub async fn compare<F: Fetch, G: Fetch>(
    one: &Copy<F>,
    other: &Copy<G>,
) -> Result<Compared, FollowError> {
    let sizes = [one.head.size(), other.head.size()];
    let mut compared = if sizes[0] >= sizes[1] {
        against(one, &other.head, &other.earlier).await?
    } else {
        against(other, &one.head, &one.earlier).await?
    };
    compared.sizes = sizes;
    Ok(compared)
}

/// Every head of the smaller copy, and those of the larger that came before its newest.
async fn against<F: Fetch>(
    larger: &Copy<F>,
    newest: &Head,
    earlier: &[Head],
) -> Result<Compared, FollowError> {
    let files = Files::read_only(larger.source.clone());
    let mut tree = Tree::open(files, larger.head.size(), larger.head.root()).await?;
    let mut compared = Compared { sizes: [TreeSize(0); 2], heads: 0, finding: None };
    let all = std::iter::once(newest).chain(earlier).chain(&larger.earlier);
    for head in all.filter(|head| head.size() <= larger.head.size() && head.size().0 > 0) {
        compared.heads += 1;
        let (small, large) = (head.checkpoint(), larger.head.checkpoint());
        if let Some(alarm) = contradiction(small, large, &mut tree).await? {
            compared.finding = Some(Finding::of_alarm(Code::SplitView, alarm));
            break;
        }
    }
    Ok(compared)
}
