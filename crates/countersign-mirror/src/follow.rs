//! A mirror: follows a log, proves every step of it, and keeps it in the tenant's own storage
//! (spec/follow.md).
//!
//! [`Follower::round`] is the whole of it: it asks for the newest head, believes it or not
//! ([`Head`]), joins it to the last one, proves and keeps what is new ([`crate::tree`]), reads every
//! entry ([`Seen`]), and only then moves on. What can't be true is a [`Finding`]: it is written
//! down, with a proof for others where there can be one, and that log is followed no more, by no
//! later run either, until a person has looked.
//!
//! What is durable after each step, and what a crash there means (FOL-4):
//!
//! 1. `state/<size>.json`, empty: files of a head of this size may be there. Swept at the next start.
//! 2. Tiles and bundles of the new head. Nobody reads beyond `checkpoint`; the next run finds them,
//!    proves them again and goes on.
//! 3. `state/<size>.json`, whole, and with a finding `alarms/…` and `stopped`. The next run says so.
//! 4. `heads/<size>.note`. The next run moves to this head before it asks for another.
//! 5. `checkpoint`. The new head is held.
//! 6. Partial tiles and state of the head before are removed. The next run does the rest.

mod claims;
pub mod config;
mod error;
mod evidence;
mod finding;
mod head;
pub mod metrics;
mod run;
mod seen;
mod stored;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use countersign_core::codes::Code;
use countersign_core::encoding::hex;
use countersign_core::hash::{TreeSize, sha256};
use countersign_core::note::NOTE_BYTES_MAX;
use countersign_core::trust::Trust;

pub use self::claims::Claims;
pub use self::error::FollowError;
pub use self::evidence::{EVIDENCE, EvidenceError, EvidencePuller};
pub(crate) use self::finding::contradiction;
pub use self::finding::{ALARMS, Finding, STOPPED, Stopped};
pub use self::head::Head;
pub use self::metrics::Status;
pub use self::run::{Pace, follow};
pub use self::seen::{Breach, Seen};

use self::stored::{head_name, state_name};
use crate::source::Fetch;
use crate::storage::{Place, StorageError, Version};
use crate::tree::{Files, Tree, TreeError};

/// The newest head that is held.
pub const CHECKPOINT: &str = "checkpoint";
/// The folder of heads.
pub const HEADS: &str = "heads";
/// Looks at a smaller head, which an old copy may show, before the log is held to have gone back.
const LOOKS_BACK: u32 = 5;

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// The newest head is the one that is held.
    Unchanged,
    /// A newer head is held now.
    Moved {
        /// Entries of the one before.
        from: TreeSize,
        /// Entries of the new one.
        to: TreeSize,
    },
    /// A smaller head was shown, which an old copy may do.
    Behind,
}

/// Whose log it is, and whose keys are believed.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The log's name.
    pub origin: String,
    /// All that is believed.
    pub trust: Arc<Trust>,
    /// Seconds, by the log's own clock, within which a head that was signed for somebody must be
    /// covered by those that are published (FOL-9).
    pub branch_grace_s: u64,
}

impl Followed {
    /// The folder of a log in a mirror: the hex SHA-256 of its origin (MIRR-1).
    pub fn folder(&self) -> String {
        hex(&sha256(self.origin.as_bytes()))
    }
}

#[derive(Debug)]
struct Held {
    head: Head,
    seen: Seen,
}

/// Follows one log into one place.
#[derive(Debug)]
pub struct Follower<F> {
    log: Followed,
    source: F,
    place: Place,
    held: Option<Held>,
    checkpoint: Version,
    // The newest time of a head, which the stored ones may not have.
    newest: Option<Head>,
    // Whether files beyond the held head may be there.
    look: bool,
    looks_back: u32,
    /// Heads that the log signed elsewhere, to be joined.
    pub claims: Claims,
    /// What is told outside.
    pub status: Arc<Status>,
}

impl<F: Fetch> Follower<F> {
    /// Begins, or goes on from what the place holds. `place` is the whole mirror's.
    ///
    /// # Errors
    ///
    /// [`FollowError::Stopped`] where an earlier run found something; [`FollowError::Held`] where
    /// what is held can't be believed: on top of nothing, a second history could be followed.
    pub async fn open(log: Followed, source: F, place: &Place) -> Result<Self, FollowError> {
        let place = place.below(&log.folder());
        let mut follower = Self {
            log,
            source,
            place,
            held: None,
            checkpoint: Version::default(),
            newest: None,
            look: true,
            looks_back: 0,
            claims: Claims::default(),
            status: Arc::default(),
        };
        follower.load().await?;
        Ok(follower)
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.log.origin
    }

    /// Whose log it is, and whose keys are believed.
    pub fn followed(&self) -> &Followed {
        &self.log
    }

    /// Where the log is kept.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The head that is held.
    pub fn head(&self) -> Option<&Head> {
        self.held.as_ref().map(|held| &held.head)
    }

    fn held_size(&self) -> TreeSize {
        self.head().map_or(TreeSize(0), Head::size)
    }

    /// One step: asks for the newest head and moves to it, if it continues the one that is held.
    ///
    /// # Errors
    ///
    /// See [`FollowError`]. After any of them nothing was moved, and the next round begins with what
    /// the storage says.
    pub async fn round(&mut self) -> Result<Round, FollowError> {
        let made = Box::pin(self.try_round()).await;
        if let Err(error) = &made {
            if error.is_passing() {
                self.status.failures.fetch_add(1, Ordering::Relaxed);
                // What was written and what was not is for the storage to say.
                self.load().await?;
            }
        } else {
            self.status.rounds.fetch_add(1, Ordering::Relaxed);
        }
        made
    }

    async fn try_round(&mut self) -> Result<Round, FollowError> {
        let bytes = self.source.fetch(CHECKPOINT, NOTE_BYTES_MAX).await?;
        let note =
            String::from_utf8(bytes).map_err(|_| FollowError::Head(Code::NoteMalformed.into()))?;
        let head =
            Head::believe(&note, &self.log.origin, &self.log.trust).map_err(FollowError::Head)?;
        self.status.seen.store(head.size().0, Ordering::Relaxed);
        let last = self.head().cloned();
        let round = match &last {
            Some(last) if head.size() < last.size() => self.smaller(&head, last).await?,
            Some(last) if head.size() == last.size() => self.equal(head, last).await?,
            _ => self.larger(head).await?,
        };
        if round != Round::Behind {
            self.looks_back = 0;
        }
        self.join_claims().await?;
        Ok(round)
    }

    /// A smaller head: another history, a log that went back, or an old copy (FOL-7).
    async fn smaller(&mut self, head: &Head, last: &Head) -> Result<Round, FollowError> {
        let mut tree = self.own_tree(last).await?;
        let alarm = contradiction(head.checkpoint(), last.checkpoint(), &mut tree).await?;
        if let Some(alarm) = alarm {
            return Err(self.stop(Finding::of_alarm(Code::HeadFork, alarm)).await?);
        }
        self.looks_back += 1;
        if !head.is_later_than(last) && self.looks_back < LOOKS_BACK {
            return Ok(Round::Behind);
        }
        let sentence = format!(
            "It shows {} entries, and had signed {}: it went back, though nothing before was changed.",
            head.size().0,
            last.size().0
        );
        let heads = [last.checkpoint(), head.checkpoint()];
        Err(self.stop(Finding::local(Code::HeadRollback, sentence, &heads)).await?)
    }

    /// The same size again: another root is a fork, a later time or another witness's line is news.
    async fn equal(&mut self, head: Head, last: &Head) -> Result<Round, FollowError> {
        if head.root() != last.root() {
            let mut tree = self.own_tree(last).await?;
            let alarm = contradiction(head.checkpoint(), last.checkpoint(), &mut tree).await?;
            let alarm = alarm.ok_or(TreeError::Broken("a fork is none"))?;
            return Err(self.stop(Finding::of_alarm(Code::HeadFork, alarm)).await?);
        }
        let lines = |head: &Head| head.checkpoint().as_str().lines().count();
        if head.is_later_than(last) && lines(&head) >= lines(last) {
            let (size, note) = (head.size(), head.checkpoint().as_str().as_bytes().to_vec());
            self.place.put(&head_name(size), &note).await?;
            self.place.barrier().await?;
            self.place.replace(CHECKPOINT, &note, &mut self.checkpoint).await?;
            self.place.barrier().await?;
            if let Some(held) = &mut self.held {
                held.head = head;
            }
            self.tell();
        } else if head.is_later_than(last) {
            self.newest = Some(head);
        }
        Ok(Round::Unchanged)
    }

    /// A larger head: joined, proved, read, kept, and then held.
    async fn larger(&mut self, head: Head) -> Result<Round, FollowError> {
        let from = self.held_size();
        let files = Files::into_place(self.source.clone(), self.place.clone(), from, self.look);
        let mut tree = Tree::open(files, head.size(), head.root()).await?;
        // FOL-2: joined to the last one, or not moved to. Every tree begins with the empty one.
        if let Some(last) = self.head().filter(|_| from.0 > 0).cloned() {
            let alarm = contradiction(last.checkpoint(), head.checkpoint(), &mut tree).await?;
            if let Some(alarm) = alarm {
                return Err(self.stop(Finding::of_alarm(Code::HeadFork, alarm)).await?);
            }
        }
        let backwards = self.time_went_back(&head);
        self.place.put(&state_name(head.size()), b"{}\n").await?;
        self.place.barrier().await?;
        let mut seen = self.held.as_ref().map(|held| held.seen.clone()).unwrap_or_default();
        tree.keep_from_now_on();
        let (mut breach, status) = (None, Arc::clone(&self.status));
        tree.copy(from, |first, entries| {
            breach = breach.or(seen.take(first, entries));
            status.copied.store(first + entries.len() as u64, Ordering::Relaxed);
        })
        .await?;
        self.status.bytes.fetch_add(tree.tally().fetched, Ordering::Relaxed);
        let finding = match breach {
            Some(breach) => Some(finding::of_breach(breach, head.checkpoint(), &mut tree).await?),
            None => backwards.or_else(|| clock_behind(&head, &seen)),
        };
        self.place.put(&state_name(head.size()), &seen.to_bytes()).await?;
        self.place.barrier().await?;
        let stopped = match finding {
            Some(finding) => Some(self.stop(finding).await?),
            None => None,
        };
        self.hold(head, seen).await?;
        match stopped {
            // The head is held all the same: it is joined, and its entries show what was found.
            Some(stopped) => Err(stopped),
            None => Ok(Round::Moved { from, to: self.held_size() }),
        }
    }

    /// A larger head with an earlier time than a smaller one had.
    fn time_went_back(&self, head: &Head) -> Option<Finding> {
        let last = self.newest.as_ref().into_iter().chain(self.head());
        let last = last.max_by_key(|head| head.seconds())?;
        if !last.is_later_than(head) {
            return None;
        }
        let seconds = |head: &Head| head.seconds().unwrap_or_default();
        let sentence = format!(
            "Its clock said {} for {} entries, and then {} for {} entries (seconds since 1970).",
            seconds(last),
            last.size().0,
            seconds(head),
            head.size().0
        );
        let heads = [last.checkpoint(), head.checkpoint()];
        Some(Finding::local(Code::HeadTime, sentence, &heads))
    }

    /// Steps 4 to 6.
    async fn hold(&mut self, head: Head, seen: Seen) -> Result<(), FollowError> {
        let (before, size) = (self.head().map(Head::size), head.size());
        let note = head.checkpoint().as_str().as_bytes().to_vec();
        self.place.put(&head_name(size), &note).await?;
        self.place.barrier().await?;
        self.place.replace(CHECKPOINT, &note, &mut self.checkpoint).await?;
        self.place.barrier().await?;
        self.held = Some(Held { head, seen });
        self.newest = None;
        self.look = false;
        self.tell();
        match before {
            Some(before) => self.sweep(before, size).await,
            None => Ok(()),
        }
    }

    async fn own_tree(&self, held: &Head) -> Result<Tree<Place>, FollowError> {
        let files = Files::read_only(self.place.clone());
        Ok(Tree::open(files, held.size(), held.root()).await?)
    }

    /// FOL-9: each head that the log signed for somebody is one that the held head continues.
    async fn join_claims(&mut self) -> Result<(), FollowError> {
        let Some(held) = self.head().cloned() else { return Ok(()) };
        let due = self.claims.due(&held, self.log.branch_grace_s);
        if due.is_empty() {
            return Ok(());
        }
        let mut tree = self.own_tree(&held).await?;
        for claim in due {
            if claim.size() > held.size() {
                let sentence = format!(
                    "It signed {} entries for somebody, and later publishes only {}.",
                    claim.size().0,
                    held.size().0
                );
                let heads = [claim.checkpoint(), held.checkpoint()];
                let finding = Finding::local(Code::PrivateBranch, sentence, &heads);
                return Err(self.stop(finding).await?);
            }
            let alarm = contradiction(claim.checkpoint(), held.checkpoint(), &mut tree).await?;
            if let Some(alarm) = alarm {
                let finding = Finding::of_alarm(Code::PrivateBranch, alarm);
                return Err(self.stop(finding).await?);
            }
            self.claims.joined(&claim);
        }
        Ok(())
    }

    /// Keeps a finding; gives the error that ends the following.
    async fn stop(&mut self, mut finding: Finding) -> Result<FollowError, StorageError> {
        finding.keep(&self.place, &self.log.trust).await?;
        self.status.stopped.store(true, Ordering::Relaxed);
        self.status.alarms.fetch_add(1, Ordering::Relaxed);
        Ok(FollowError::Stopped(finding.told()))
    }

    fn tell(&self) {
        let status = &self.status;
        status.held.store(self.held_size().0, Ordering::Relaxed);
        status.copied.store(self.held_size().0, Ordering::Relaxed);
        status.seen.fetch_max(self.held_size().0, Ordering::Relaxed);
        let seconds = self.head().and_then(Head::seconds).unwrap_or(0);
        status.head_seconds.store(seconds, Ordering::Relaxed);
        let unread = self.held.as_ref().map_or(0, |held| held.seen.unread());
        status.unread.store(unread, Ordering::Relaxed);
    }
}

/// A head whose clock says an earlier time than its entries do: nothing under it is dated (NOTE-10).
fn clock_behind(head: &Head, seen: &Seen) -> Option<Finding> {
    let clock = head.seconds().filter(|clock| *clock < seen.time().seconds())?;
    let sentence = format!(
        "Its clock said {clock} for {} entries, of which the last says {} (seconds since 1970).",
        head.size().0,
        seen.time().seconds()
    );
    Some(Finding::local(Code::ClockBeforeEntry, sentence, &[head.checkpoint()]))
}
