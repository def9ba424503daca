//! Between who waits for a record and who gets it into the log: exactly one of them ends the wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_core::codes::Code;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::rows::LoggedRow;

/// What became of a record.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It is in the log, proven, and what it led to is kept.
    Logged(LoggedRow),
    /// The ledger refused it for good.
    Rejected(Code),
}

/// Where a wait stands.
#[derive(Debug)]
enum Wait {
    Waiting(oneshot::Sender<Fate>),
    /// The recorder has it: an answer comes as soon as it is durable.
    Taken(oneshot::Sender<Fate>),
    /// Nobody waits any more.
    Over,
}

/// The recorder's end of a wait.
#[derive(Debug, Clone)]
pub(crate) struct Ticket(Arc<Mutex<Wait>>);

/// The caller's end of a wait. Dropped, it gives up.
#[derive(Debug)]
pub(crate) struct Stub {
    wait: Arc<Mutex<Wait>>,
    told: oneshot::Receiver<Fate>,
}

/// Both ends of a new wait.
pub(crate) fn ticket() -> (Ticket, Stub) {
    let (tell, told) = oneshot::channel();
    let wait = Arc::new(Mutex::new(Wait::Waiting(tell)));
    (Ticket(Arc::clone(&wait)), Stub { wait, told })
}

impl Ticket {
    /// Takes the right to end the wait; false where the caller has given up. Whoever takes it tells.
    pub(crate) fn take(&self) -> bool {
        let mut wait = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *wait, Wait::Over) {
            Wait::Waiting(tell) | Wait::Taken(tell) => {
                *wait = Wait::Taken(tell);
                true
            }
            Wait::Over => false,
        }
    }

    /// Whether somebody waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        !matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Wait::Over)
    }

    /// Ends the wait with an answer.
    pub(crate) fn tell(&self, fate: Fate) {
        let mut wait = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Wait::Waiting(tell) | Wait::Taken(tell) = std::mem::replace(&mut *wait, Wait::Over) {
            // Fails only when the caller is gone.
            let _ = tell.send(fate);
        }
    }
}

impl Stub {
    /// The record's fate, if it is known by `deadline`. If not, the recorder learns that nobody
    /// waits, unless it has the answer already and only its sync is under way.
    pub(crate) async fn fate(mut self, deadline: Instant) -> Option<Fate> {
        if let Ok(told) = tokio::time::timeout_at(deadline, &mut self.told).await {
            return told.ok();
        }
        if self.give_up() {
            return None;
        }
        (&mut self.told).await.ok()
    }

    /// Gives up; false where the recorder has taken the right to end the wait.
    fn give_up(&self) -> bool {
        let mut wait = self.wait.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*wait, Wait::Taken(_)) {
            return false;
        }
        *wait = Wait::Over;
        true
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// The tickets of the outbox's records, by their numbers there. Those of an earlier process have
/// none.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<HashMap<u64, Ticket>>);

impl Tickets {
    pub(crate) fn insert(&self, number: u64, ticket: Ticket) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, ticket);
    }

    pub(crate) fn of(&self, number: u64) -> Option<Ticket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// Ends the wait for a record that has left the outbox.
    pub(crate) fn end(&self, number: u64, fate: Fate) {
        let ticket = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        if let Some(ticket) = ticket {
            ticket.tell(fate);
        }
    }

    /// Ends every wait without an answer: the gate is at its end.
    pub(crate) fn clear(&self) {
        for (_, ticket) in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            *ticket.0.lock().unwrap_or_else(PoisonError::into_inner) = Wait::Over;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use super::*;

    fn logged() -> Fate {
        let (root, evidence) = (String::new(), String::new());
        Fate::Logged(LoggedRow { index: 1, root, evidence })
    }

    #[tokio::test]
    async fn a_wait_is_ended_by_one_side_alone() {
        let past = Instant::now();
        // The caller gives up first: the recorder can't take it any more.
        let (ticket, stub) = ticket();
        assert!(stub.fate(past).await.is_none());
        assert!(!ticket.take() && !ticket.is_waited_for());
        // The recorder takes it first: the caller waits on, past its deadline.
        let (ticket, stub) = super::ticket();
        assert!(ticket.take());
        let (fate, ()) = tokio::join!(stub.fate(past), async { ticket.tell(logged()) });
        assert!(matches!(fate, Some(Fate::Logged(_))));
        // A caller that is gone has given up.
        let (ticket, stub) = super::ticket();
        drop(stub);
        assert!(!ticket.take());
    }
}
