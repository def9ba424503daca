//! Which heads were seen, and which of them are proven to continue each other. Pure state: the
//! calls that prove are made in [`crate::prove`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_core::codes::Code;
use countersign_core::hash::RootHash;
use tokio::time::Instant;

use crate::error::{ClientError, HeadConflict};
use crate::heads::VerifiedHead;

/// Older heads that are remembered as proven, so that many repeats of one batch cost one call.
const PROVEN_MAX: usize = 1_024;

/// Heads that are proven together with the newest one. A ledger that answers on a private branch
/// for a while must get past a choice it can't foresee.
const HELD_MAX: usize = 8;
/// Check intervals for which a ledger may be too busy to prove its newest head.
const OVERDUE_INTERVALS: u32 = 30;

#[derive(Debug, Default)]
struct State {
    /// The newest head that is proven to continue every one before it.
    joined: Option<Arc<VerifiedHead>>,
    /// The newest head seen.
    newest: Option<Arc<VerifiedHead>>,
    /// Heads seen since the joined one and before the newest: all of them while they are few, and
    /// otherwise as many at random.
    held: Vec<Arc<VerifiedHead>>,
    /// How many such heads there were.
    held_count: u64,
    /// When the newest head was last proven; `None` since connecting.
    checked_at: Option<Instant>,
    /// Older heads that are proven to be prefixes.
    proven: BTreeMap<u64, RootHash>,
    /// What was found once holds for ever.
    conflict: Option<Arc<HeadConflict>>,
}

impl State {
    /// Reservoir sampling: each of the heads so far is among those kept with the same chance.
    fn hold(&mut self, head: Arc<VerifiedHead>) {
        self.held_count += 1;
        if self.held.len() < HELD_MAX {
            self.held.push(head);
            return;
        }
        let mut bytes = [0; 8];
        // Without random bytes the first ones are kept, which is still some of them.
        let drawn = getrandom::fill(&mut bytes).map(|()| u64::from_le_bytes(bytes));
        let place = drawn.map_or(u64::MAX, |drawn| drawn % self.held_count);
        if let Some(slot) = usize::try_from(place).ok().and_then(|at| self.held.get_mut(at)) {
            *slot = head;
        }
    }
}

/// Heads to prove.
#[derive(Debug)]
pub(crate) struct Due {
    /// Each must be a prefix of the newest. Empty at the very first head.
    pub(crate) older: Vec<Arc<VerifiedHead>>,
    /// The newest one.
    pub(crate) newest: Arc<VerifiedHead>,
}

/// What is still to be proven of a head.
#[derive(Debug)]
pub(crate) enum Standing {
    /// Nothing more, for now.
    Held,
    /// It is older than `newer`, and not known to be a prefix of it.
    Behind {
        /// The head that it must be a prefix of.
        newer: Arc<VerifiedHead>,
    },
}

/// The heads of one client.
#[derive(Debug)]
pub(crate) struct Tracker {
    state: Mutex<State>,
    check_interval: Duration,
}

/// The head that was the newest one seen when a call was made. What the ledger says afterwards
/// must not be smaller.
pub(crate) type Floor = Option<Arc<VerifiedHead>>;

impl Tracker {
    pub(crate) fn new(remembered: Option<Arc<VerifiedHead>>, check_interval: Duration) -> Self {
        let state = State { joined: remembered.clone(), newest: remembered, ..State::default() };
        Self { state: Mutex::new(state), check_interval }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is a plain assignment, so a poisoned lock still guards whole values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be asked before each call: an error once the ledger has contradicted itself.
    pub(crate) fn floor(&self) -> Result<Floor, ClientError> {
        let state = self.state();
        match &state.conflict {
            Some(conflict) => Err(ClientError::Head(Arc::clone(conflict))),
            None => Ok(state.newest.clone()),
        }
    }

    /// Takes in a head that is no older than the call it answers: its size must not lie below that
    /// call's floor.
    pub(crate) fn observe(
        &self,
        head: &Arc<VerifiedHead>,
        floor: &Floor,
    ) -> Result<Standing, ClientError> {
        if let Some(floor) = floor
            && head.size() < floor.size()
        {
            return Err(self.conflict(Code::HeadRollback, floor, head));
        }
        self.observe_any(head)
    }

    /// Takes in a head that may be an old one.
    pub(crate) fn observe_any(&self, head: &Arc<VerifiedHead>) -> Result<Standing, ClientError> {
        let mut state = self.state();
        let twins = [&state.joined, &state.newest];
        let twin = twins.into_iter().flatten().find(|known| known.size() == head.size());
        if let Some(twin) = twin.cloned() {
            drop(state);
            return if twin.root() == head.root() {
                Ok(Standing::Held)
            } else {
                Err(self.conflict(Code::HeadFork, &twin, head))
            };
        }
        match state.newest.clone() {
            Some(newer) if newer.size() > head.size() => {
                let proven = state.proven.get(&head.size().0) == Some(&head.root());
                Ok(if proven { Standing::Held } else { Standing::Behind { newer } })
            }
            overtaken => {
                state.newest = Some(Arc::clone(head));
                if let Some(overtaken) = overtaken
                    && state.joined.as_ref().is_none_or(|it| it.size() != overtaken.size())
                {
                    state.hold(overtaken);
                }
                Ok(Standing::Held)
            }
        }
    }

    /// Keeps a head, that newer ones have overtaken, for the next proof.
    pub(crate) fn hold(&self, head: &Arc<VerifiedHead>) {
        self.state().hold(Arc::clone(head));
    }

    /// What is to be proven now: `None` when there is nothing to prove or when it is not yet time.
    pub(crate) fn due(&self, at_once: bool) -> Option<Due> {
        let mut state = self.state();
        let newest = state.newest.clone()?;
        if !at_once && state.checked_at.is_some_and(|at| at.elapsed() < self.check_interval) {
            return None;
        }
        let joined = state.joined.as_ref().is_some_and(|joined| joined.size() == newest.size());
        if joined && state.held.is_empty() {
            state.checked_at = Some(Instant::now());
            return None;
        }
        let older = state.joined.iter().chain(&state.held).cloned().collect();
        Some(Due { older, newest })
    }

    /// Whether the ledger has failed to prove its heads for longer than an honest one would.
    pub(crate) fn overdue(&self) -> bool {
        let allowed = self.check_interval * OVERDUE_INTERVALS;
        self.state().checked_at.is_none_or(|at| at.elapsed() > allowed)
    }

    /// All that was due is proven.
    pub(crate) fn join(&self, due: &Due) {
        let mut state = self.state();
        state.checked_at = Some(Instant::now());
        if state.joined.as_ref().is_none_or(|joined| joined.size() < due.newest.size()) {
            state.joined = Some(Arc::clone(&due.newest));
        }
        state.held.retain(|held| !due.older.contains(held) && *held != due.newest);
        state.held_count = state.held.len() as u64;
    }

    /// An older head was proven to be a prefix.
    pub(crate) fn note_prefix(&self, head: &VerifiedHead) {
        let mut state = self.state();
        if state.proven.len() == PROVEN_MAX {
            state.proven.pop_first();
        }
        state.proven.insert(head.size().0, head.root());
    }

    /// The newest head that is proven to continue all before it.
    pub(crate) fn joined(&self) -> Option<Arc<VerifiedHead>> {
        self.state().joined.clone()
    }

    /// Remembers that the ledger contradicted itself, and gives the error. The first one stands.
    pub(crate) fn conflict(
        &self,
        code: Code,
        kept: &VerifiedHead,
        shown: &VerifiedHead,
    ) -> ClientError {
        let found = HeadConflict {
            code,
            kept: kept.checkpoint().clone(),
            shown: shown.checkpoint().clone(),
        };
        let mut state = self.state();
        let conflict = state.conflict.get_or_insert_with(|| Arc::new(found));
        ClientError::Head(Arc::clone(conflict))
    }
}
