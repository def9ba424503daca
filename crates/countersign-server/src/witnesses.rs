//! The ledger's side of witnesses: each periodic head goes to those of its witness policy, and is
//! published with the cosignatures that came in time (spec/tiles.md, COSI-1 to COSI-8).
//!
//! The way of a head: signed anew with the time ([`Ledger::periodic`]) → sent to every witness that
//! is not being given a rest, with the proof from what it cosigned last → the verified lines put
//! under it → the quorum evaluated over the note as a stranger would → a note that has one made
//! durable → published.
//!
//! Invariants: a line is published only if it verifies under the policy's key over that very head;
//! a head counts as witnessed only if the policy says so of the note that is published; no witness
//! can hold a head back for longer than the time limit, nor stop one from being published; the
//! newest witnessed head survives a restart. Before the first round went well, no port is open: a
//! data folder that is older than what was signed once signs nothing more (COSI-8).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::escaped;
use countersign_core::hash::TreeSize;
use countersign_core::note::SignedCheckpoint;
use countersign_core::quorum::WitnessPolicy;
use countersign_log::api::Head;
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use countersign_mirror::witness::ask::AskError;
use countersign_mirror::witness::{HeadFolder, Heads as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::member::{Member, Trouble};
use self::metrics::Seen;
use self::settings::CheckedWitnesses;
use crate::config::Checked;
use crate::keys::PublicKeys;

mod member;
pub(crate) mod metrics;
pub mod settings;

/// The folder, beside the database, of the newest head that had a quorum.
const FOLDER: &str = "witnessed";

/// How long is waited between two attempts at the start.
const START_PAUSE: Duration = Duration::from_millis(250);

/// Why a ledger with witnesses does not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The policy can't be this ledger's.
    #[error("the witness policy does not suit this ledger: {0}")]
    Policy(&'static str),
    /// The folder of the newest witnessed head can't be used, or its head not be read.
    #[error("the newest witnessed head, kept in {folder}, can't be used: {why}")]
    Kept {
        /// The folder.
        folder: String,
        /// Why not.
        why: String,
    },
    /// What is here is not what was signed once: older, or another history.
    #[error("{who}: {} {}", code.what(), code.remedy())]
    Contradicted {
        /// `WITNESS_AHEAD` or `WITNESS_FORK`.
        code: Code,
        /// Who says so, and what.
        who: String,
    },
    /// Too few answered.
    #[error("{} {} {told}", Code::WitnessSilent.what(), Code::WitnessSilent.remedy())]
    Silent {
        /// What was heard of each that gave no cosignature.
        told: String,
    },
}

impl WitnessError {
    /// The code of the registry.
    pub fn code(&self) -> Code {
        match self {
            Self::Policy(_) => Code::ConfigInvalid,
            Self::Kept { .. } => Code::StoreCorrupt,
            Self::Contradicted { code, .. } => *code,
            Self::Silent { .. } => Code::WitnessSilent,
        }
    }
}

/// Those who are asked, and what they said.
pub(crate) struct Council<S> {
    ledger: Ledger<S>,
    // The newest head of the store.
    found: Arc<Head>,
    policy: WitnessPolicy,
    // Keys of the ledger, which never count as witnesses.
    own: Vec<[u8; 32]>,
    origin: String,
    kept: Arc<HeadFolder>,
    timeout: Duration,
    start_wait: Duration,
    members: Vec<Member>,
    /// The text that `lines` are of.
    body: String,
    /// Cosignatures of it, by the member's place in the policy: they stand as long as the tree does.
    lines: BTreeMap<usize, String>,
    quorum: bool,
    seen: Seen,
}

impl<S: Store> Council<S> {
    /// Of a ledger that is open. What was witnessed before is shown again.
    pub(crate) async fn new(
        checked: &Checked,
        witnesses: &CheckedWitnesses,
        keys: &PublicKeys,
        ledger: Ledger<S>,
    ) -> Result<Self, WitnessError> {
        let policy = witnesses.policy.clone();
        if !policy.accepts_log(&keys.log) {
            return Err(WitnessError::Policy(
                "it lists logs, and this ledger's key is not among them; add a log line with it",
            ));
        }
        let own = keys.own.to_vec();
        if policy.witnesses().any(|witness| own.contains(&witness.vkey.key)) {
            return Err(WitnessError::Policy(
                "one of its witnesses has a key of the ledger itself, which never counts; take it out",
            ));
        }
        let folder = checked.config().data_dir.join(FOLDER);
        let kept = HeadFolder::open(&folder).map_err(|error| unusable(&folder, &error))?;
        let origin = checked.config().origin.clone();
        let members: Vec<Member> = witnesses.remotes.iter().cloned().map(Member::new).collect();
        let seen = Seen::new(members.iter().map(Member::name));
        let (timeout, start_wait) = (witnesses.timeout, witnesses.start_wait);
        // As the store has it: without cosignatures of an earlier process, which say nothing of now.
        let found = ledger.head();
        let mut council = Self {
            ledger,
            found,
            policy,
            own,
            origin,
            kept: Arc::new(kept),
            timeout,
            start_wait,
            members,
            body: String::new(),
            lines: BTreeMap::new(),
            quorum: false,
            seen,
        };
        council.recall(keys, &folder).await?;
        Ok(council)
    }

    /// What its metrics show.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// Shows the head again that was witnessed last. The ledger must still have its tree.
    async fn recall(&mut self, keys: &PublicKeys, folder: &Path) -> Result<(), WitnessError> {
        let kept = self.kept.read(&self.origin).map_err(|error| unusable(folder, &error))?;
        let Some(kept) = kept else { return Ok(()) };
        let wrong = |why: &dyn std::fmt::Display| unusable(folder, why);
        let note = String::from_utf8(kept).map_err(|error| wrong(&error))?;
        let checkpoint = SignedCheckpoint::parse(&note).map_err(|fault| wrong(&fault))?;
        checkpoint.verify_log(&keys.log).map_err(|fault| wrong(&fault))?;
        let size = checkpoint.size;
        for member in &mut self.members {
            member.cosigned_at_least(size);
        }
        // A policy that changed meanwhile may ask for more than the head has.
        let quorum = self.has_quorum(&checkpoint);
        let shown = self.ledger.publish_cosigned(size, &note, quorum).await;
        shown.map_err(|refused| match refused.fault.code {
            code @ (Code::SizeUnknown | Code::StoreCorrupt) => WitnessError::Contradicted {
                code: if code == Code::SizeUnknown {
                    Code::WitnessAhead
                } else {
                    Code::WitnessFork
                },
                who: format!("the head of {} entries kept in {}", size.0, folder.display()),
            },
            _ => wrong(&refused.fault),
        })?;
        if quorum {
            self.seen.witnessed(size);
        }
        Ok(())
    }

    /// COSI-8: holds the newest head, which was signed before, against what the witnesses know, and gets it
    /// cosigned. Returns when the policy's quorum has agreed, or, `without` it, when all have had
    /// their time.
    ///
    /// # Errors
    ///
    /// [`WitnessError::Contradicted`] as soon as one witness contradicts, whatever the others say;
    /// [`WitnessError::Silent`].
    pub(crate) async fn begin(&mut self, without: bool) -> Result<(), WitnessError> {
        let deadline = Instant::now() + self.start_wait;
        loop {
            let head = Arc::clone(&self.found);
            let troubles = self.ask(&head, true).await;
            for (name, trouble) in &troubles {
                let code = match trouble {
                    Trouble::Ahead(_) => Code::WitnessAhead,
                    Trouble::Asked(AskError::Unproven) => Code::WitnessFork,
                    _ => continue,
                };
                let who = format!("witness {}: {trouble}", escaped(name));
                return Err(WitnessError::Contradicted { code, who });
            }
            self.publish(&head).await;
            if self.quorum {
                return Ok(());
            }
            if without || Instant::now() >= deadline {
                let told = troubles
                    .iter()
                    .map(|(name, trouble)| format!("Witness {}: {trouble}.", escaped(name)));
                let told = told.collect::<Vec<_>>().join(" ");
                if without {
                    tracing::warn!(told, "beginning without a quorum of witnesses, as told");
                    return Ok(());
                }
                return Err(WitnessError::Silent { told });
            }
            sleep(START_PAUSE).await;
        }
    }

    /// Publishes a head in each interval in which the log grew, now and then when it did not, and
    /// when a witness that is missing for the quorum may be asked again (COSI-6). Never returns.
    pub(crate) async fn run(mut self, head_interval: Duration, republish: Duration) {
        let mut tick = interval(head_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = (self.ledger.head().size, Instant::now());
        loop {
            tick.tick().await;
            let size = self.ledger.head().size;
            let missing = !self.quorum && self.anybody_to_ask();
            if size == last.0 && last.1.elapsed() < republish && !missing {
                continue;
            }
            let head = self.ledger.periodic();
            last = (head.size, Instant::now());
            self.ask(&head, false).await;
            self.publish(&head).await;
        }
    }

    fn anybody_to_ask(&self) -> bool {
        let silent = |(place, member): (usize, &Member)| {
            !self.lines.contains_key(&place) && member.may_be_asked()
        };
        self.members.iter().enumerate().any(silent)
    }

    /// COSI-1: asks all at once, except those who are given a rest, unless `all` are to be asked. Gives what
    /// went wrong with whom.
    async fn ask(&mut self, head: &Arc<Head>, all: bool) -> Vec<(String, Trouble)> {
        let checkpoint = match SignedCheckpoint::parse(&head.note) {
            Ok(checkpoint) => Arc::new(checkpoint),
            Err(fault) => {
                tracing::error!(%fault, "a head of this ledger's own does not parse");
                return Vec::new();
            }
        };
        if self.body != checkpoint.body() {
            checkpoint.body().clone_into(&mut self.body);
            self.lines.clear();
        }
        let mut asking = JoinSet::new();
        for (place, member) in self.members.iter().enumerate() {
            if all || member.may_be_asked() {
                let asked = member.ask(self.ledger.clone(), Arc::clone(&checkpoint), self.timeout);
                asking.spawn(async move { (place, asked.await) });
            }
        }
        let mut failed = Vec::new();
        while let Some(joined) = asking.join_next().await {
            let Ok((place, answer)) = joined else { continue };
            let Some(member) = self.members.get_mut(place) else { continue };
            match member.heard(answer, head.size) {
                Ok(line) => {
                    self.lines.insert(place, line);
                }
                Err(trouble) => failed.push((member.name().to_owned(), trouble)),
            }
            self.seen.heard_of(member);
        }
        failed
    }

    /// COSI-3: publishes a head with the lines that there are of it.
    async fn publish(&mut self, head: &Arc<Head>) {
        let lines: String = self.lines.values().map(String::as_str).collect();
        let note = format!("{}{lines}", head.note);
        let checkpoint = SignedCheckpoint::parse(&note);
        let quorum = checkpoint.is_ok_and(|checkpoint| self.has_quorum(&checkpoint));
        if self.quorum && !quorum {
            tracing::warn!(size = head.size.0, "fewer witnesses than the policy asks for cosigned");
        } else if quorum && !self.quorum {
            tracing::info!(size = head.size.0, "a quorum of witnesses cosigned");
        }
        self.quorum = quorum;
        let kept = quorum && self.keep(&note).await;
        match self.ledger.publish_cosigned(head.size, &note, kept).await {
            Ok(()) => self.seen.published(head.size, quorum, kept),
            Err(refused) => {
                let fault: Fault = refused.fault;
                tracing::error!(%fault, size = head.size.0, "a cosigned head can't be published");
            }
        }
    }

    /// Evaluates the policy as any verifier would. A note of which a line fails has none.
    fn has_quorum(&self, checkpoint: &SignedCheckpoint) -> bool {
        match self.policy.evaluate(checkpoint, &self.own, None) {
            Ok(met) => met.is_some(),
            Err(fault) => {
                tracing::error!(%fault, "a cosignature that was verified fails in its note");
                false
            }
        }
    }

    /// COSI-4: makes a witnessed head durable before anybody can rest on it.
    async fn keep(&self, note: &str) -> bool {
        let (kept, origin, note) = (Arc::clone(&self.kept), self.origin.clone(), note.to_owned());
        let written = tokio::task::spawn_blocking(move || kept.replace(&origin, &note)).await;
        match written {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "a witnessed head can't be kept, so no record is proven at it");
                false
            }
            Err(error) => {
                tracing::error!(%error, "keeping a witnessed head ended without a result");
                false
            }
        }
    }
}

fn unusable(folder: &Path, why: &dyn std::fmt::Display) -> WitnessError {
    let why = escaped(&why.to_string());
    WitnessError::Kept { folder: folder.display().to_string(), why }
}

/// The old size that a witness is told, and the proof from there.
async fn proof_from<S: Store>(
    ledger: &Ledger<S>,
    old: TreeSize,
    new: TreeSize,
) -> Result<Vec<countersign_core::hash::Hash>, Fault> {
    if old.0 == 0 || old == new {
        return Ok(Vec::new());
    }
    ledger.consistency(old, Some(new)).await.map(|(_, hashes)| hashes).map_err(|r| r.fault)
}
