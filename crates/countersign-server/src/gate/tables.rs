//! The tables of the gate's state, and what may be done to them. Every write keeps these true:
//!
//! - an action that waits for people, and no other, stands among the expiries;
//! - an action with a permit that may still be answered for stands among the open permits, and is
//!   not forgotten (`settled`);
//! - an action that is settled and has none, and no other, stands among the settled, oldest first,
//!   of which only the newest are kept;
//! - the outbox holds at most as many records as it may, and its numbers only grow.

mod settled;

use redb::{
    Database, ReadTransaction, ReadableTable, ReadableTableMetadata as _, TableDefinition,
    WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::rows::{
    ActionRow, ActionState, EmergencyRow, GrantRow, OutboxRow, PolicyRow, ScopeRow, SessionRow,
    Signal, SilenceRow,
};
use super::state::StateError;
pub(crate) use settled::{give_up_permits, has_overdue, open_permits};

type ByName = TableDefinition<'static, &'static str, &'static [u8]>;
type ByNumber = TableDefinition<'static, u64, &'static [u8]>;

const META: ByName = TableDefinition::new("meta");
const ACTIONS: ByName = TableDefinition::new("actions");
const GRANTS: ByName = TableDefinition::new("grants");
const HALTS: ByName = TableDefinition::new("halts");
const SESSIONS: ByName = TableDefinition::new("sessions");
const OUTBOX: ByNumber = TableDefinition::new("outbox");
const SETTLED: ByNumber = TableDefinition::new("settled");
const SIGNALS: ByNumber = TableDefinition::new("signals");
/// The digest of each policy version that was logged, by its id and version.
const VERSIONS: ByName = TableDefinition::new("versions");
type ByTime = TableDefinition<'static, (u64, &'static str), ()>;
const EXPIRIES: ByTime = TableDefinition::new("expiries");
/// Approved actions whose permits have no outcome, by when that is no longer waited for.
const PERMITS: ByTime = TableDefinition::new("permits");

/// Settled actions that are kept, for callers who ask again and executors who report. Older ones
/// live in the ledger alone.
const SETTLED_MAX: u64 = 20_000;
/// Signals that are kept for a receiver that is away.
const SIGNALS_MAX: u64 = 100_000;
/// Records beyond `outbox_max` for what the gate itself has to say: halts, voids, final verdicts.
const OUTBOX_SPARE: u64 = 2_000;

/// What can be looked up, in a read or in a write.
pub(crate) trait Rows {
    /// A row by its name.
    fn named(&self, table: ByName, key: &str) -> Result<Option<Vec<u8>>, StateError>;
    /// At most `count` rows from number `from` on, in order.
    fn numbered(
        &self,
        table: ByNumber,
        from: u64,
        count: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StateError>;
    /// How many rows there are.
    fn count(&self, table: ByNumber) -> Result<u64, StateError>;
}

macro_rules! rows {
    ($transaction:ty) => {
        impl Rows for $transaction {
            fn named(&self, table: ByName, key: &str) -> Result<Option<Vec<u8>>, StateError> {
                let found = self.open_table(table)?.get(key)?.map(|row| row.value().to_vec());
                Ok(found)
            }

            fn numbered(
                &self,
                table: ByNumber,
                from: u64,
                count: usize,
            ) -> Result<Vec<(u64, Vec<u8>)>, StateError> {
                let table = self.open_table(table)?;
                let mut rows = Vec::new();
                for row in table.range(from..)?.take(count) {
                    let (number, bytes) = row?;
                    rows.push((number.value(), bytes.value().to_vec()));
                }
                Ok(rows)
            }

            fn count(&self, table: ByNumber) -> Result<u64, StateError> {
                Ok(self.open_table(table)?.len()?)
            }
        }
    };
}
rows!(ReadTransaction);
rows!(WriteTransaction);

/// Makes the tables that are not there yet, so that reads find them.
pub(super) fn create(database: &Database) -> Result<(), StateError> {
    let transaction = database.begin_write()?;
    for table in [META, ACTIONS, GRANTS, HALTS, SESSIONS, VERSIONS] {
        transaction.open_table(table)?;
    }
    for table in [OUTBOX, SETTLED, SIGNALS] {
        transaction.open_table(table)?;
    }
    for table in [EXPIRIES, PERMITS] {
        transaction.open_table(table)?;
    }
    Ok(transaction.commit()?)
}

fn get<R: DeserializeOwned>(
    tx: &impl Rows,
    table: ByName,
    key: &str,
) -> Result<Option<R>, StateError> {
    Ok(tx.named(table, key)?.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
}

fn put<R: Serialize>(
    tx: &WriteTransaction,
    table: ByName,
    key: &str,
    row: &R,
) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(row)?;
    tx.open_table(table)?.insert(key, bytes.as_slice())?;
    Ok(())
}

fn remove(tx: &WriteTransaction, table: ByName, key: &str) -> Result<(), StateError> {
    tx.open_table(table)?.remove(key)?;
    Ok(())
}

/// The action of this id.
pub(crate) fn action(tx: &impl Rows, id: &str) -> Result<Option<ActionRow>, StateError> {
    get(tx, ACTIONS, id)
}

/// Keeps an action, and where it stands among those that wait, have a permit out or are settled.
pub(crate) fn put_action(
    tx: &WriteTransaction,
    id: &str,
    row: &ActionRow,
) -> Result<(), StateError> {
    let waits = matches!(row.state, ActionState::Waiting | ActionState::Deciding);
    if let Some(supervise) = &row.supervise {
        let mut expiries = tx.open_table(EXPIRIES)?;
        let key = (supervise.requires.expires_at, id);
        if waits {
            expiries.insert(key, ())?;
        } else {
            expiries.remove(key)?;
        }
    }
    settled::keep(tx, id, action(tx, id)?.as_ref(), row)?;
    put(tx, ACTIONS, id, row)
}

/// Actions that wait for people: when each expires, soonest first, from this time on.
pub(crate) fn waiting(
    tx: &ReadTransaction,
    from: (u64, &str),
    count: usize,
) -> Result<Vec<(u64, String)>, StateError> {
    let table = tx.open_table(EXPIRIES)?;
    let mut found = Vec::new();
    for row in table.range(from..)?.take(count) {
        let (key, _) = row?;
        let (expires_at, id) = key.value();
        found.push((expires_at, id.to_owned()));
    }
    Ok(found)
}

/// How many actions wait for people.
pub(crate) fn waiting_count(tx: &ReadTransaction) -> Result<u64, StateError> {
    Ok(tx.open_table(EXPIRIES)?.len()?)
}

/// Who may take the spare room of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// A caller's record: it is refused when the outbox is full.
    Caller(u64),
    /// The gate's own word.
    Own(u64),
}

/// Puts a record into the outbox, and gives its number there; none where it is full.
pub(crate) fn enqueue(
    tx: &WriteTransaction,
    row: &OutboxRow,
    room: Room,
) -> Result<Option<u64>, StateError> {
    let max = match room {
        Room::Caller(max) => max,
        Room::Own(max) => max.saturating_add(OUTBOX_SPARE),
    };
    if tx.count(OUTBOX)? >= max {
        return Ok(None);
    }
    // Numbers are not used again: a ticket of an earlier record must not meet a later one.
    let number = outbox_next(tx)?.unwrap_or(0);
    put_outbox_next(tx, Some(&number.saturating_add(1)))?;
    put_outbox(tx, number, row)?;
    Ok(Some(number))
}

/// Keeps a record of the outbox as it is now.
pub(crate) fn put_outbox(
    tx: &WriteTransaction,
    number: u64,
    row: &OutboxRow,
) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(row)?;
    tx.open_table(OUTBOX)?.insert(number, bytes.as_slice())?;
    Ok(())
}

/// Takes a record out of the outbox.
pub(crate) fn remove_outbox(tx: &WriteTransaction, number: u64) -> Result<(), StateError> {
    tx.open_table(OUTBOX)?.remove(number)?;
    Ok(())
}

/// The oldest records of the outbox.
pub(crate) fn outbox(
    tx: &impl Rows,
    from: u64,
    count: usize,
) -> Result<Vec<(u64, OutboxRow)>, StateError> {
    let rows = tx.numbered(OUTBOX, from, count)?;
    rows.into_iter().map(|(number, bytes)| Ok((number, serde_json::from_slice(&bytes)?))).collect()
}

/// How many records wait.
pub(crate) fn outbox_count(tx: &impl Rows) -> Result<u64, StateError> {
    tx.count(OUTBOX)
}

macro_rules! meta {
    ($($(#[$doc:meta])* $get:ident $put:ident $key:literal $row:ty;)*) => { $(
        $(#[$doc])*
        pub(crate) fn $get(tx: &impl Rows) -> Result<Option<$row>, StateError> {
            get(tx, META, $key)
        }

        /// Keeps it, or with none forgets it.
        pub(crate) fn $put(tx: &WriteTransaction, row: Option<&$row>) -> Result<(), StateError> {
            match row {
                Some(row) => put(tx, META, $key, row),
                None => remove(tx, META, $key),
            }
        }
    )* };
}

meta! {
    /// The number of the outbox's next record.
    outbox_next put_outbox_next "outbox_next" u64;
    /// The last time that was recorded, microseconds since the epoch.
    last_time put_last_time "last_time" u64;
    /// enforce or shadow.
    mode put_mode "mode" String;
    /// The active policy version.
    policy put_policy "policy" PolicyRow;
    /// The emergency that is open.
    emergency put_emergency "emergency" EmergencyRow;
    /// Intents that were refused for want of room and are not yet told of.
    silence put_silence "silence" SilenceRow;
    /// The log index up to which signals were delivered, that one included.
    delivered put_delivered "delivered" u64;
}

fn version_key(id: &str, version: &str) -> Result<String, StateError> {
    Ok(serde_json::to_string(&(id, version))?)
}

/// The digest in hex that this version of a policy has in the log, if this gate put it there.
pub(crate) fn version(
    tx: &impl Rows,
    id: &str,
    version: &str,
) -> Result<Option<String>, StateError> {
    get(tx, VERSIONS, &version_key(id, version)?)
}

/// Keeps what a version is; the first that was logged stays.
pub(crate) fn put_version(
    tx: &WriteTransaction,
    id: &str,
    version: &str,
    digest: &String,
) -> Result<(), StateError> {
    let key = version_key(id, version)?;
    if tx.named(VERSIONS, &key)?.is_none() {
        put(tx, VERSIONS, &key, digest)?;
    }
    Ok(())
}

/// The grant of this name.
pub(crate) fn grant(tx: &impl Rows, id: &str) -> Result<Option<GrantRow>, StateError> {
    get(tx, GRANTS, id)
}

/// Keeps a grant.
pub(crate) fn put_grant(tx: &WriteTransaction, row: &GrantRow) -> Result<(), StateError> {
    put(tx, GRANTS, &row.id, row)
}

/// A session that has asked for something.
pub(crate) fn session(tx: &impl Rows, name: &str) -> Result<Option<SessionRow>, StateError> {
    get(tx, SESSIONS, name)
}

/// Counts an action of a session.
pub(crate) fn count_session(tx: &WriteTransaction, name: &str, now: u64) -> Result<(), StateError> {
    let before = session(tx, name)?.unwrap_or_default();
    let row = SessionRow { actions: before.actions.saturating_add(1), last: now.max(before.last) };
    put(tx, SESSIONS, name, &row)
}

/// Forgets sessions that have asked for nothing since `before`.
pub(crate) fn forget_sessions(tx: &WriteTransaction, before: u64) -> Result<(), StateError> {
    let mut table = tx.open_table(SESSIONS)?;
    let old = |bytes: &[u8]| {
        serde_json::from_slice::<SessionRow>(bytes).is_ok_and(|row| row.last < before)
    };
    table.retain(|_, bytes| !old(bytes))?;
    Ok(())
}

/// Every halt in force.
pub(crate) fn halts(tx: &ReadTransaction) -> Result<Vec<ScopeRow>, StateError> {
    let table = tx.open_table(HALTS)?;
    let mut halts = Vec::new();
    for row in table.iter()? {
        halts.push(serde_json::from_str(row?.0.value())?);
    }
    Ok(halts)
}

/// Puts a halt in force, or lifts it.
pub(crate) fn set_halt(
    tx: &WriteTransaction,
    scope: &ScopeRow,
    holds: bool,
) -> Result<(), StateError> {
    let key = serde_json::to_string(scope)?;
    if holds { put(tx, HALTS, &key, &()) } else { remove(tx, HALTS, &key) }
}

/// Keeps a signal, and of them all the newest.
pub(crate) fn put_signal(tx: &WriteTransaction, signal: &Signal) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(signal)?;
    let mut table = tx.open_table(SIGNALS)?;
    table.insert(signal.index, bytes.as_slice())?;
    while table.len()? > SIGNALS_MAX {
        table.pop_first()?;
    }
    Ok(())
}

/// Signals behind this log index, in order.
pub(crate) fn signals_after(
    tx: &ReadTransaction,
    after: Option<u64>,
    count: usize,
) -> Result<Vec<Signal>, StateError> {
    let from = after.map_or(0, |index| index.saturating_add(1));
    let rows = tx.numbered(SIGNALS, from, count)?;
    rows.into_iter().map(|(_, bytes)| Ok(serde_json::from_slice(&bytes)?)).collect()
}

/// Forgets the signals up to this log index, that one included.
pub(crate) fn forget_signals(tx: &WriteTransaction, up_to: u64) -> Result<(), StateError> {
    let mut table = tx.open_table(SIGNALS)?;
    table.retain_in(..=up_to, |_, _| false)?;
    Ok(())
}
