//! Heads that the log signed and that somebody else was shown: in receipts, over gRPC, to another
//! mirror. Each must be continued by the heads that are followed (FOL-9).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_core::hash::{RootHash, TreeSize};

use super::head::Head;

/// Heads that may wait to be joined. More are forgotten, and that is said.
const WAITING_MAX: usize = 10_000;

/// Heads that wait to be joined; clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Claims(Arc<Mutex<BTreeMap<(TreeSize, RootHash), Head>>>);

impl Claims {
    // Every change is a plain insertion or removal, so a poisoned lock still guards a whole map.
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<(TreeSize, RootHash), Head>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A head that was shown to somebody. Of the same size and root, the earliest is kept.
    pub fn add(&self, head: Head) {
        if head.size().0 == 0 {
            return;
        }
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            tracing::error!("too many heads wait to be joined; one more is not looked at");
            return;
        }
        let known = waiting.entry((head.size(), *head.root())).or_insert_with(|| head.clone());
        if known.is_later_than(&head) {
            *known = head;
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that the held head covers, and those that it should, since it was signed so many
    /// seconds later.
    pub(super) fn due(&self, held: &Head, grace_s: u64) -> Vec<Head> {
        let late = |head: &&Head| {
            let times = head.seconds().zip(held.seconds());
            times.is_some_and(|(then, now)| now > then.saturating_add(grace_s))
        };
        let waiting = self.waiting();
        waiting.values().filter(|head| head.size() <= held.size() || late(head)).cloned().collect()
    }

    /// This one is continued.
    pub(super) fn joined(&self, head: &Head) {
        self.waiting().remove(&(head.size(), *head.root()));
    }
}
