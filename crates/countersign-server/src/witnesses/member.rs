//! One witness: what it cosigned last, and how long it is given a rest after it failed.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::codes::Fault;
use countersign_core::encoding::escaped;
use countersign_core::hash::TreeSize;
use countersign_core::note::SignedCheckpoint;
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use countersign_mirror::witness::ask::{AskError, RemoteWitness};
use tokio::time::{Instant, timeout};

use super::proof_from;

/// The rest after a first failure; each further one doubles it.
const REST: Duration = Duration::from_secs(1);
/// The longest rest.
const REST_MAX: Duration = Duration::from_mins(1);
/// Requests to one witness about one head: one with what is believed of it, one with what it says.
const ATTEMPTS: u32 = 2;

/// Why a witness gave no cosignature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// What it answered, or did not.
    #[error("{0}")]
    Asked(#[from] AskError),
    /// Nothing in time.
    #[error("it gave no answer in time")]
    Late,
    /// It says that it cosigned more than there is.
    #[error("it says that it has cosigned {} entries, more than are here", .0.0)]
    Ahead(TreeSize),
    /// No proof could be made for it.
    #[error("no consistency proof can be made: {0}")]
    Proof(Fault),
}

impl Trouble {
    /// As the metrics name it.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Asked(AskError::Unreachable(_)) => "unreachable",
            Self::Asked(AskError::Unproven) => "unproven",
            Self::Asked(AskError::False) => "false_cosignature",
            Self::Asked(_) => "refused",
            Self::Late => "late",
            Self::Ahead(_) => "ahead",
            Self::Proof(_) => "no_proof",
        }
    }
}

/// A witness, as the ledger knows it.
pub(super) struct Member {
    remote: RemoteWitness,
    /// The size that it is believed to have cosigned last.
    held: TreeSize,
    failures: u32,
    rests_until: Option<Instant>,
    /// How the last request ended.
    pub(super) last: Option<Result<TreeSize, &'static str>>,
}

/// A line, or why there is none; and the size that the witness itself said it had cosigned.
pub(super) type Answer = (Result<String, Trouble>, Option<TreeSize>);

impl Member {
    pub(super) fn new(remote: RemoteWitness) -> Self {
        Self { remote, held: TreeSize(0), failures: 0, rests_until: None, last: None }
    }

    pub(super) fn name(&self) -> &str {
        self.remote.name()
    }

    /// A guess that saves a request, and no more.
    pub(super) fn cosigned_at_least(&mut self, size: TreeSize) {
        self.held = size;
    }

    pub(super) fn may_be_asked(&self) -> bool {
        self.rests_until.is_none_or(|until| Instant::now() >= until)
    }

    /// How long it is still given a rest.
    pub(super) fn rest(&self) -> Duration {
        self.rests_until.map_or(Duration::ZERO, |until| until.duration_since(Instant::now()))
    }

    /// Asks for a cosignature of this head, for so long at most.
    pub(super) fn ask<S: Store>(
        &self,
        ledger: Ledger<S>,
        head: Arc<SignedCheckpoint>,
        patience: Duration,
    ) -> impl Future<Output = Answer> + Send + use<S> {
        let (remote, mut old) = (self.remote.clone(), self.held.min(head.size));
        async move {
            let mut said = None;
            let asking = async {
                let mut attempt = 1;
                loop {
                    let proof = proof_from(&ledger, old, head.size).await;
                    let proof = proof.map_err(Trouble::Proof)?;
                    match remote.add_checkpoint(old, &proof, &head).await {
                        Ok(line) => return Ok(line),
                        Err(AskError::Holds(size)) if size > head.size => {
                            return Err(Trouble::Ahead(size));
                        }
                        Err(AskError::Holds(size)) if attempt < ATTEMPTS => {
                            (old, said) = (size, Some(size));
                            attempt += 1;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            let answer = timeout(patience, asking).await.unwrap_or(Err(Trouble::Late));
            (answer, said)
        }
    }

    /// COSI-5: takes an answer in: after a failure it is given a rest, which doubles with each.
    pub(super) fn heard(&mut self, answer: Answer, size: TreeSize) -> Result<String, Trouble> {
        let (answer, said) = answer;
        self.held = said.unwrap_or(self.held);
        match &answer {
            Ok(_) => {
                if self.failures > 0 {
                    tracing::info!(witness = escaped(self.name()), "a witness cosigns again");
                }
                (self.held, self.failures, self.rests_until) = (size, 0, None);
                self.last = Some(Ok(size));
            }
            Err(trouble) => {
                let rest = REST.saturating_mul(1 << self.failures.min(10)).min(REST_MAX);
                self.failures = self.failures.saturating_add(1);
                self.rests_until = Some(Instant::now() + rest);
                self.last = Some(Err(trouble.why()));
                let (witness, url) = (escaped(self.name()), escaped(self.remote.url()));
                if matches!(
                    trouble,
                    Trouble::Ahead(_) | Trouble::Asked(AskError::Unproven | AskError::False)
                ) {
                    tracing::error!(witness, url, %trouble, "a witness contradicts this ledger");
                } else {
                    tracing::warn!(witness, url, %trouble, rest_s = rest.as_secs(), "no cosignature");
                }
            }
        }
        answer
    }
}
