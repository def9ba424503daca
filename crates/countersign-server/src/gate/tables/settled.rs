//! How long the gate remembers an action: as long as something of it is under way, as long as its
//! permit may still be answered for, and then among the newest that are settled.

use redb::{ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};

use super::{ACTIONS, PERMITS, SETTLED, SETTLED_MAX};
use crate::gate::rows::ActionRow;
use crate::gate::state::StateError;

/// Microseconds behind a permit's end during which its outcome is still waited for: a report may be
/// on its way, and clocks differ.
const GRACE_US: u64 = 300 * 1_000_000;

/// When a permit that has no outcome need not be waited for any more.
fn due(row: &ActionRow) -> Option<u64> {
    Some(row.open_permit()?.not_after.saturating_add(GRACE_US))
}

/// Keeps where an action stands, which was `before` and is `row` now.
pub(super) fn keep(
    tx: &WriteTransaction,
    id: &str,
    before: Option<&ActionRow>,
    row: &ActionRow,
) -> Result<(), StateError> {
    let was_settled = before.is_some_and(|before| before.state.is_settled());
    let (was_due, is_due) = (before.and_then(due), due(row));
    let mut permits = tx.open_table(PERMITS)?;
    let was_open = match was_due {
        Some(at) => permits.remove((at, id))?.is_some(),
        None => false,
    };
    // One that was waited for in vain is not waited for again.
    let given_up = was_settled && was_due.is_some() && !was_open;
    let is_open = is_due.filter(|_| !given_up);
    if let Some(at) = is_open {
        permits.insert((at, id), ())?;
    }
    let stood_there = was_settled && !was_open;
    if row.state.is_settled() && is_open.is_none() && !stood_there {
        settle(tx, id)?;
    }
    Ok(())
}

/// Puts an action among the settled, and forgets the oldest of those.
fn settle(tx: &WriteTransaction, id: &str) -> Result<(), StateError> {
    let mut settled = tx.open_table(SETTLED)?;
    let next = settled.last()?.map_or(0, |(number, _)| number.value().saturating_add(1));
    settled.insert(next, id.as_bytes())?;
    while settled.len()? > SETTLED_MAX {
        let Some((_, oldest)) = settled.pop_first()? else { break };
        let oldest = String::from_utf8_lossy(oldest.value()).into_owned();
        tx.open_table(ACTIONS)?.remove(oldest.as_str())?;
    }
    Ok(())
}

/// How many permits are out, or on their way, without an outcome.
pub(crate) fn open_permits(tx: &WriteTransaction) -> Result<u64, StateError> {
    Ok(tx.open_table(PERMITS)?.len()?)
}

/// Whether some permit has waited for its outcome in vain at the time `now`.
pub(crate) fn has_overdue(tx: &redb::ReadTransaction, now: u64) -> Result<bool, StateError> {
    Ok(tx.open_table(PERMITS)?.first()?.is_some_and(|(key, _)| key.value().0 < now))
}

/// Settles at most `count` actions whose permits have waited in vain for their outcomes.
pub(crate) fn give_up_permits(
    tx: &WriteTransaction,
    now: u64,
    count: usize,
) -> Result<(), StateError> {
    for _ in 0..count {
        let first = {
            let permits = tx.open_table(PERMITS)?;
            let first = permits.first()?.map(|(key, _)| {
                let (at, id) = key.value();
                (at, id.to_owned())
            });
            first.filter(|(at, _)| *at < now)
        };
        let Some((at, id)) = first else { break };
        tx.open_table(PERMITS)?.remove((at, id.as_str()))?;
        // One whose verdict is still on its way is settled once that is known.
        if super::action(tx, &id)?.is_some_and(|row| row.state.is_settled()) {
            settle(tx, &id)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use redb::Database;

    use super::super::{action, create, put_action};
    use super::*;
    use crate::gate::rows::{ActionState, OutcomeRow, PermitRow, SaidRow};

    fn row(state: ActionState, not_after: Option<u64>) -> ActionRow {
        let permit = not_after.map(|not_after| PermitRow {
            id: "p".to_owned(),
            audience: "pep-1".to_owned(),
            nonce: String::new(),
            not_after,
        });
        let said = SaidRow {
            outcome: "approve".to_owned(),
            reasons: Vec::new(),
            permit,
            requires: None,
            logged: None,
        };
        ActionRow {
            caller: String::new(),
            audience: String::new(),
            asked: String::new(),
            intent: String::new(),
            mode: "enforce".to_owned(),
            nonce: String::new(),
            digest: String::new(),
            state,
            said,
            supervise: None,
            approvals: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    fn outcome() -> OutcomeRow {
        serde_json::from_str(
            r#"{"permit":"p","result":"executed","effect_digest":null,"matches":"match","logged":null}"#,
        )
        .unwrap()
    }

    fn many_refused(tx: &WriteTransaction, from: u64) {
        let refused = row(ActionState::Refused, None);
        for n in from..=from + SETTLED_MAX {
            put_action(tx, &format!("r-{n}"), &refused).unwrap();
        }
    }

    // Permits were once forgotten behind 20,000 newer actions, used or not.
    #[test]
    fn an_open_permit_is_remembered_whatever_comes_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::create(folder.path().join("state.redb")).unwrap();
        create(&database).unwrap();
        let tx = database.begin_write().unwrap();
        for id in ["open", "used", "late"] {
            put_action(&tx, id, &row(ActionState::Judged, Some(1_000))).unwrap();
            put_action(&tx, id, &row(ActionState::Approved, Some(1_000))).unwrap();
        }
        assert_eq!(open_permits(&tx).unwrap(), 3);
        let mut used = row(ActionState::Executed, Some(1_000));
        used.outcomes.push(outcome());
        put_action(&tx, "used", &used).unwrap();
        many_refused(&tx, 0);
        assert!(action(&tx, "open").unwrap().is_some(), "its permit may still be used");
        assert!(action(&tx, "used").unwrap().is_none(), "it has its outcome");
        // In time for the permit's end and the grace behind it, and not a microsecond longer.
        give_up_permits(&tx, 1_000 + GRACE_US, 9).unwrap();
        assert_eq!(open_permits(&tx).unwrap(), 2);
        give_up_permits(&tx, 1_001 + GRACE_US, 9).unwrap();
        assert_eq!(open_permits(&tx).unwrap(), 0);
        // A report that comes then is still taken, and the action stands among the settled once.
        let mut late = row(ActionState::Diverged, Some(1_000));
        late.outcomes.push(outcome());
        put_action(&tx, "late", &late).unwrap();
        let settled = tx.open_table(SETTLED).unwrap();
        let of_late =
            settled.iter().unwrap().filter(|each| each.as_ref().unwrap().1.value() == b"late");
        assert_eq!(of_late.count(), 1);
        drop(settled);
        many_refused(&tx, 1_000_000);
        assert!(action(&tx, "open").unwrap().is_none());
    }
}
