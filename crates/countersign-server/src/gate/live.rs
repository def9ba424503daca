//! What the gate holds in memory to decide by: policy, directory, halts, mode, emergency, clock,
//! and what of grants and sessions is under way.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use countersign_core::encoding::Micros;
use countersign_core::json;
use countersign_gate::{
    Amount, Directory, GateCode, Halt, Intent, Policy, PolicyName, Terms, Used,
};

use super::host::GateHost;
use super::rows::{About, Charge, EmergencyRow, PolicyRow, ScopeRow, UsedRow};
use super::state::{State, StateError};
use super::tables;
use crate::config::read_text;

/// Bytes that a directory may have (DIR-1).
const DIRECTORY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The policy version that decides.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) policy: Policy,
    pub(crate) name: PolicyName,
}

impl Loaded {
    /// Loads the texts of a row; `POLICY_INVALID` where this version finds faults in them.
    pub(crate) fn of(row: &PolicyRow) -> Result<Arc<Self>, GateCode> {
        let policy = Policy::load(&row.policy_text, &row.schema_text).map_err(|faults| {
            tracing::error!(%faults, policy = row.id, version = row.version, "policy refused");
            GateCode::PolicyInvalid
        })?;
        let (id, version) = (row.id.clone(), row.version.clone());
        let name = PolicyName { id, version, digest: policy.digest() };
        Ok(Arc::new(Self { policy, name }))
    }
}

/// The directory as it was read last, and the file that it was read from.
struct DirectoryRead {
    seen: Option<FileSeen>,
    found: Result<Arc<Directory>, GateCode>,
    /// The ids of everybody who can act by it.
    actors: Arc<BTreeSet<String>>,
}

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileSeen {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileSeen {
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// A grant of which something is under way.
struct GrantLive {
    used: Used,
    /// Taken by approves that are not known to be in the log.
    reserved: Vec<Charge>,
}

/// A session with actions that are being judged.
#[derive(Default)]
struct SessionLive {
    actions: u64,
    judged: usize,
}

/// See the module.
pub(crate) struct Live {
    policy: RwLock<Result<Arc<Loaded>, GateCode>>,
    mode: RwLock<Arc<str>>,
    halts: RwLock<Arc<Vec<Halt>>>,
    /// Halts that hold and are not durable yet. Whoever takes halts from the state holds this lock,
    /// and keeps them.
    uncommitted: Mutex<Vec<Halt>>,
    emergency: RwLock<Option<EmergencyRow>>,
    clock: Mutex<u64>,
    directory_path: PathBuf,
    directory: Mutex<DirectoryRead>,
    grants: Mutex<HashMap<String, GrantLive>>,
    sessions: Mutex<HashMap<String, SessionLive>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// What an earlier process left.
    pub(crate) fn open(state: &State, directory_path: PathBuf) -> Result<Self, StateError> {
        let policy = match state.read(tables::policy)? {
            Some(row) => Loaded::of(&row),
            None => Err(GateCode::PolicyMissing),
        };
        let live = Self {
            policy: RwLock::new(policy),
            mode: RwLock::new(Arc::from("enforce")),
            halts: RwLock::default(),
            uncommitted: Mutex::default(),
            emergency: RwLock::new(None),
            clock: Mutex::new(state.read(tables::last_time)?.unwrap_or(0)),
            directory_path,
            directory: Mutex::new(DirectoryRead {
                seen: None,
                found: Err(GateCode::DirectoryMissing),
                actors: Arc::default(),
            }),
            grants: Mutex::default(),
            sessions: Mutex::default(),
        };
        live.reload(state)?;
        for (_, row) in state.read(|tx| tables::outbox(tx, 0, usize::MAX))? {
            if let About::Verdict(about) = row.about
                && let Some(charge) = about.charge
            {
                live.reserve(state, charge)?;
            }
        }
        Ok(live)
    }

    /// Takes halts, mode and emergency from the state.
    pub(crate) fn reload(&self, state: &State) -> Result<(), StateError> {
        let uncommitted = lock(&self.uncommitted);
        let (mode, halts, emergency) =
            state.read(|tx| Ok((tables::mode(tx)?, tables::halts(tx)?, tables::emergency(tx)?)))?;
        let mut halts: Vec<Halt> = halts.into_iter().map(halt).collect();
        halts.extend(uncommitted.iter().cloned());
        halts.sort();
        halts.dedup();
        *self.mode.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::from(mode.as_deref().unwrap_or("enforce"));
        *self.halts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(halts);
        *self.emergency.write().unwrap_or_else(PoisonError::into_inner) = emergency;
        Ok(())
    }

    pub(crate) fn policy(&self) -> Result<Arc<Loaded>, GateCode> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_policy(&self, policy: Result<Arc<Loaded>, GateCode>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    pub(crate) fn mode(&self) -> Arc<str> {
        Arc::clone(&self.mode.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn halts(&self) -> Arc<Vec<Halt>> {
        Arc::clone(&self.halts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a halt in force at once, before it is durable.
    pub(crate) fn halt(&self, scope: ScopeRow) {
        let mut uncommitted = lock(&self.uncommitted);
        uncommitted.push(halt(scope.clone()));
        let mut halts = self.halts.write().unwrap_or_else(PoisonError::into_inner);
        let mut with: Vec<Halt> = halts.as_ref().clone();
        with.push(halt(scope));
        with.sort();
        with.dedup();
        *halts = Arc::new(with);
    }

    /// The halt is durable: from here on the state tells of it.
    pub(crate) fn halt_is_durable(&self, scope: ScopeRow) {
        let settled = halt(scope);
        let mut uncommitted = lock(&self.uncommitted);
        if let Some(at) = uncommitted.iter().position(|each| *each == settled) {
            uncommitted.remove(at);
        }
    }

    /// Ends the emergency that is open, before that is durable.
    pub(crate) fn close_emergency(&self) {
        *self.emergency.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn emergency(&self) -> Option<EmergencyRow> {
        self.emergency.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a kill switch covers who asks.
    pub(crate) fn is_halted(&self, intent: &Intent) -> bool {
        let actor = intent.actor().map(|actor| actor.id.as_str());
        self.halts().iter().any(|halt| match halt {
            Halt::Actor(id) => actor == Some(id.as_str()),
            Halt::Session(name) => intent.session() == Some(name.as_str()),
            Halt::Tenant => true,
        })
    }

    /// The time, and whether it has not stepped back behind what was recorded. Read under a lock,
    /// so that two callers see it in the order in which they compare it.
    pub(crate) fn tick(&self, host: &dyn GateHost) -> (Micros, Result<(), GateCode>) {
        let mut last = lock(&self.clock);
        let now = host.now();
        if now.0 < *last {
            return (now, Err(GateCode::ClockSteppedBack));
        }
        *last = now.0;
        (now, Ok(()))
    }

    /// The directory as the file has it now. One that can't be read leaves none: what was true
    /// before is not what its owner wants to be true now.
    pub(crate) fn directory(&self) -> Result<Arc<Directory>, GateCode> {
        self.look_up(|read| read.found.clone())
    }

    /// Whether the directory knows an actor of this id; why not, where there is none.
    pub(crate) fn knows_actor(&self, id: &str) -> Result<bool, GateCode> {
        self.look_up(|read| read.found.as_ref().map(|_| read.actors.contains(id)).map_err(|e| *e))
    }

    fn look_up<T>(&self, look: impl FnOnce(&DirectoryRead) -> T) -> T {
        let mut read = lock(&self.directory);
        let seen = FileSeen::of(&self.directory_path);
        if seen.is_none() || seen != read.seen {
            let found = self.read_directory();
            (read.found, read.actors) = match found {
                Ok((directory, actors)) => (Ok(directory), Arc::new(actors)),
                Err(code) => (Err(code), Arc::default()),
            };
            read.seen = seen;
        }
        look(&read)
    }

    fn read_directory(&self) -> Result<(Arc<Directory>, BTreeSet<String>), GateCode> {
        let told = |fault: &dyn std::fmt::Display| {
            tracing::error!(path = %self.directory_path.display(), %fault, "no directory");
            GateCode::DirectoryMissing
        };
        let text =
            read_text(&self.directory_path, DIRECTORY_BYTES_MAX).map_err(|error| told(&error))?;
        let directory = Directory::parse(&text).map(Arc::new).map_err(|fault| told(&fault))?;
        Ok((directory, actors_of(&text)))
    }

    /// Runs `decide` with what is left of a grant, and reserves what it takes, before anybody else
    /// can look: of two actions under a limit of one, one is refused (GRT-4).
    pub(crate) fn with_grant<T>(
        &self,
        state: &State,
        id: &str,
        decide: impl FnOnce(Option<(&Terms, Used)>) -> (T, Option<Charge>),
    ) -> Result<T, StateError> {
        let mut grants = lock(&self.grants);
        let row = state.read(|tx| tables::grant(tx, id))?;
        // One that does not parse was never taken; it is as if there were none.
        let held = row.and_then(|row| Some((Terms::parse(&row.terms).ok()?, row.used)));
        let Some((terms, used)) = held else { return Ok(decide(None).0) };
        let used = used_of(used);
        let (value, charge) = decide(Some((&terms, grants.get(id).map_or(used, GrantLive::all))));
        if let Some(charge) = charge {
            add(&mut grants, charge, used);
        }
        Ok(value)
    }

    fn reserve(&self, state: &State, charge: Charge) -> Result<(), StateError> {
        let row = state.read(|tx| tables::grant(tx, &charge.grant))?;
        let used = row.map(|row| used_of(row.used)).unwrap_or_default();
        add(&mut lock(&self.grants), charge, used);
        Ok(())
    }

    /// Ends a reservation: it was spent, durably, or it is given back.
    pub(crate) fn release(&self, charge: &Charge, spent: bool) {
        let mut grants = lock(&self.grants);
        let Some(live) = grants.get_mut(&charge.grant) else { return };
        if let Some(at) = live.reserved.iter().position(|each| each == charge) {
            live.reserved.swap_remove(at);
            if spent {
                live.used = plus(live.used, charge);
            }
        }
        if live.reserved.is_empty() {
            grants.remove(&charge.grant);
        }
    }

    /// Counts an action of a session as asked for, and gives how many there were before.
    pub(crate) fn enter_session(&self, state: &State, name: &str) -> Result<u64, StateError> {
        let mut sessions = lock(&self.sessions);
        if !sessions.contains_key(name) {
            let actions = state.read(|tx| tables::session(tx, name))?.map_or(0, |row| row.actions);
            sessions.insert(name.to_owned(), SessionLive { actions, judged: 0 });
        }
        let live = sessions.entry(name.to_owned()).or_default();
        let before = live.actions;
        live.actions = live.actions.saturating_add(1);
        live.judged += 1;
        Ok(before)
    }

    /// An action of a session has left its count in the state, or was not judged after all.
    pub(crate) fn leave_session(&self, name: &str) {
        let mut sessions = lock(&self.sessions);
        if let Some(live) = sessions.get_mut(name) {
            live.judged = live.judged.saturating_sub(1);
            if live.judged == 0 {
                sessions.remove(name);
            }
        }
    }

    /// Whether a session has asked for something that is not in the state yet.
    pub(crate) fn has_entered(&self, name: &str) -> bool {
        lock(&self.sessions).contains_key(name)
    }
}

/// The ids of a directory's agents, services and people (DIR-1).
fn actors_of(text: &str) -> BTreeSet<String> {
    let Ok(value) = json::parse(text) else { return BTreeSet::new() };
    let lists = ["agents", "services", "people"].into_iter().filter_map(|name| value.get(name));
    let rows = lists.filter_map(|list| list.as_array()).flatten();
    rows.filter_map(|row| Some(row.get("id")?.as_str()?.to_owned())).collect()
}

impl GrantLive {
    fn all(&self) -> Used {
        self.reserved.iter().fold(self.used, plus)
    }
}

fn add(grants: &mut HashMap<String, GrantLive>, charge: Charge, used: Used) {
    let name = charge.grant.clone();
    let live = grants.entry(name).or_insert_with(|| GrantLive { used, reserved: Vec::new() });
    live.reserved.push(charge);
}

/// Sums stop at the largest number: a limit that is passed stays passed.
fn plus(used: Used, charge: &Charge) -> Used {
    Used {
        actions: used.actions.saturating_add(1),
        amount: Amount(used.amount.0.saturating_add(charge.amount)),
        count: used.count.saturating_add(charge.count),
    }
}

fn used_of(row: UsedRow) -> Used {
    Used { actions: row.actions, amount: Amount(row.amount), count: row.count }
}

fn row_used(used: Used) -> UsedRow {
    UsedRow { actions: used.actions, amount: used.amount.0, count: used.count }
}

/// What a grant's row says once a charge was spent.
pub(crate) fn spent(used: UsedRow, charge: &Charge) -> UsedRow {
    row_used(plus(used_of(used), charge))
}

fn halt(scope: ScopeRow) -> Halt {
    match scope {
        ScopeRow::Actor(id) => Halt::Actor(id),
        ScopeRow::Session(name) => Halt::Session(name),
        ScopeRow::Tenant => Halt::Tenant,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use super::*;

    // A resume that was on its way once took a halt with it that was not durable yet.
    #[test]
    fn a_halt_outlives_whatever_else_is_taken_from_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let live = Live::open(&state, folder.path().join("directory.json")).unwrap();
        live.halt(ScopeRow::Tenant);
        live.reload(&state).unwrap();
        assert_eq!(*live.halts(), [Halt::Tenant]);
        // Once it is durable, the state says whether it holds.
        live.halt_is_durable(ScopeRow::Tenant);
        live.reload(&state).unwrap();
        assert!(live.halts().is_empty());
    }
}
