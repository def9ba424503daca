//! Erasure: who may ask for it, what may be erased, and what is left (ADR 010).
//!
//! Entry, proofs, the leaf of every field, and the fields that are never withheld stay (REC-10).
//! The seed goes with the values, so that no guess at a value can be confirmed. The record that
//! says so, the new payloads and the index rows that go are one commit.

use std::collections::HashSet;

use countersign_core::cert::{Certificate, verify_chain};
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, b64, from_hex_array};
use countersign_core::hash::{LeafIndex, RecordRoot};
use countersign_core::kinds::{Kind, parse_ranges};
use countersign_core::query::Field;
use countersign_core::stream::StreamId;
use serde_json::Value;

use crate::api::{Erasure, ErasureRequest, LogConfig, LogKeys};
use crate::derive::{term, terms_left};
use crate::evidence::Stored;
use crate::lifecycle::{ACTION_RECORDS_MAX, Fact, action_of};
use crate::own::Saying;
use crate::people::check_person;
use crate::shared::{Shared, store_fault};
use crate::state::{State, Unsettled};
use crate::store::{Commit, Erased, IndexRow, Store, Term};

/// Records that one erasure takes: what one commit replaces.
const RECORDS_MAX: u64 = 1_024;
/// Bytes of the reason.
const REASON_BYTES_MAX: usize = 4_096;
/// What the last line of the reason begins with.
const FLOOR: &str = "retention floor: ";
/// Erasures of a tenant, newest first, among which a repeated request is looked for.
const REPEATS_MAX: usize = 1_024;

/// The kinds that can be erased: those that say what people and agents did.
pub(crate) const ERASABLE: [Kind; 5] =
    [Kind::Grant, Kind::Intent, Kind::Verdict, Kind::Approval, Kind::Outcome];

/// An erasure whose request is signed by somebody who may ask for it.
#[derive(Debug)]
pub(crate) struct Erasing {
    /// The tenant whose records they must be.
    pub(crate) tenant: String,
    /// What the log is to say.
    pub(crate) saying: Saying,
    /// The chain of the person who asks.
    pub(crate) people: Vec<Certificate>,
    ranges: Vec<(u64, u64)>,
    floor: Micros,
    /// Until when the person's certificate counts.
    until: Micros,
}

/// A record to be erased, and its action.
pub(crate) type Erasable = (Option<[u8; 16]>, Erased);

/// What a look at the records came to.
pub(crate) enum Found {
    /// The same request was carried out before.
    Done(Erasure),
    /// They may be erased.
    Erasable(Vec<Erasable>),
}

impl Erasing {
    /// Checks what needs no order: spelling, sizes, the floor's age, the person's chain and
    /// signature.
    pub(crate) fn check(
        request: ErasureRequest,
        keys: &LogKeys,
        config: &LogConfig,
        now: Micros,
    ) -> Result<Self, Fault> {
        let ranges = parse_ranges(&request.entries);
        let ranges = ranges.ok_or(Code::RequestMalformed.at_field("entries"))?;
        if count(&ranges) > RECORDS_MAX {
            return Err(Code::ErasureOversized.at_field("entries"));
        }
        if request.reason.len() > REASON_BYTES_MAX {
            return Err(Code::RequestMalformed.at_field("reason"));
        }
        let (why, last) = request.reason.rsplit_once('\n').unwrap_or(("", &request.reason));
        let floor = last.strip_prefix(FLOOR).and_then(Micros::parse);
        let floor = floor.ok_or(Code::ErasureFloor.at_field("reason"))?;
        if why.trim().is_empty() {
            return Err(Code::RequestMalformed.at_field("reason"));
        }
        if floor.0 > now.0.saturating_sub(request.retention_us) {
            return Err(Code::ErasureFloor.at_field("reason"));
        }
        if config.people_roots.is_empty() {
            return Err(Code::PeopleAbsent.into());
        }
        let chain = verify_chain(&request.chain, &config.people_roots, now.0)?;
        let saying = Saying::Erasure {
            entries: request.entries,
            reason: request.reason,
            person: chain.identity().name().to_owned(),
            certificate: chain.leaf_digest(),
            signature: request.signature,
        };
        // Its place in the ledger's stream is not known yet, and nobody signs that.
        let record = saying.record(keys, [0; 32], 0, RecordRoot([0; 32]), now)?;
        let (people, origin) = (request.chain, &keys.origin);
        let until = check_person(&record, &people, &request.tenant, origin, config, now)?;
        Ok(Self { tenant: request.tenant, saying, people, ranges, floor, until })
    }

    /// Whether every record may be erased, now and in this order of things.
    pub(crate) async fn look<S: Store>(
        &self,
        shared: &Shared<S>,
        state: &State,
        now: Micros,
    ) -> Result<Found, Fault> {
        if now > self.until {
            return Err(Code::CertExpired.into());
        }
        let mut found = Vec::new();
        let mut closed: HashSet<[u8; 16]> = HashSet::new();
        let unsettled = [&state.committing, &state.preparing];
        for index in self.ranges.iter().flat_map(|(from, to)| *from..=*to).map(LeafIndex) {
            if index.0 >= shared.published().head.size.0 {
                return Err(Code::NotFound.at_index(index.0));
            }
            let stored = self.erasable(shared, index).await?;
            let view = stored.payload.record.view();
            if stored.payload.record.is_erased() {
                return match self.done(shared).await? {
                    Some(erasure) if found.is_empty() => Ok(Found::Done(erasure)),
                    _ => Err(Code::Erased.at_index(index.0)),
                };
            }
            if unsettled.iter().any(|unsettled| unsettled.erased_at.contains(&index)) {
                return Err(Code::EvidenceUnavailable.at_index(index.0));
            }
            let action = action_of(view);
            if let Some(action) = action.filter(|action| !closed.contains(action)) {
                let key = (self.tenant.clone(), action);
                let coming = unsettled.iter().filter_map(|unsettled| unsettled.facts.get(&key));
                let coming: Vec<RecordRoot> = coming.flatten().map(Fact::root).collect();
                if is_open(&*shared.store, &key, &coming, now).await? {
                    return Err(Code::ErasureOpen.at_index(index.0));
                }
                closed.insert(action);
            }
            let erased = Erased {
                index,
                payload: stored.payload.encode_erased()?,
                tenant: self.tenant.clone(),
                leaves: terms_left(view),
                leaves_action: action.filter(|_| !Field::ActionId.survives_erasure(view.kind())),
            };
            found.push((action, erased));
        }
        Ok(Found::Erasable(found))
    }

    /// Reads a record of this tenant that is of a kind that can be erased and old enough.
    async fn erasable<S: Store>(
        &self,
        shared: &Shared<S>,
        index: LeafIndex,
    ) -> Result<Stored, Fault> {
        let entry = shared.entry(index).await?;
        if entry.stream == StreamId::LEDGER {
            return Err(Code::ErasureKind.at_index(index.0));
        }
        if shared.owner(entry.stream).is_none_or(|owner| owner.tenant != self.tenant) {
            return Err(Code::NotFound.at_index(index.0));
        }
        if !ERASABLE.contains(&entry.kind) {
            return Err(Code::ErasureKind.at_index(index.0));
        }
        if entry.logged_at >= self.floor {
            return Err(Code::ErasureFloor.at_index(index.0));
        }
        Stored::read(&*shared.store, index).await
    }

    /// The erasure that this very request led to before, if it did: what was signed is the same.
    async fn done<S: Store>(&self, shared: &Shared<S>) -> Result<Option<Erasure>, Fault> {
        let Saying::Erasure { entries, reason, signature, .. } = &self.saying else {
            return Ok(None);
        };
        let erasures = term(Field::Kind, Kind::Erasure.as_str());
        let range = 0..u64::MAX;
        let listed = shared.store.listed(&self.tenant, erasures, range, REPEATS_MAX, true).await;
        for index in listed.map_err(store_fault)? {
            let stored = Stored::read(&*shared.store, index).await?;
            let view = stored.payload.record.view();
            if view.str("entries") == Some(entries)
                && view.str("reason") == Some(reason)
                && view.str("signature") == Some(&b64(signature))
            {
                return Ok(Some(Erasure { index, erased: count(&self.ranges) }));
            }
        }
        Ok(None)
    }
}

fn count(ranges: &[(u64, u64)]) -> u64 {
    let lengths = ranges.iter().map(|(from, to)| (to - from).saturating_add(1));
    lengths.fold(0, u64::saturating_add)
}

/// Adds what is erased to the commit that says so.
pub(crate) fn write(found: Vec<Erasable>, commit: &mut Commit, preparing: &mut Unsettled) {
    for (action, erased) in found {
        let (tenant, terms) = (erased.tenant.clone(), vec![Term::ERASED]);
        preparing.erased.extend(action.map(|action| (tenant.clone(), action)));
        preparing.erased_at.insert(erased.index);
        commit.rows.push(IndexRow::Lists { tenant, terms, index: erased.index });
        commit.erased.push(erased);
    }
}

/// Whether something can still become of an action: a supervise that nobody resolved, or an approve
/// whose permit is neither used, nor voided, nor past. `coming` are the roots of records that are
/// logged just now; while the store lacks one of them, something does.
async fn is_open<S: Store>(
    store: &S,
    (tenant, action): &(String, [u8; 16]),
    coming: &[RecordRoot],
    now: Micros,
) -> Result<bool, Fault> {
    let records =
        store.by_action(tenant, *action, ACTION_RECORDS_MAX).await.map_err(store_fault)?;
    let (mut verdicts, mut answered, mut held) = (Vec::new(), HashSet::new(), HashSet::new());
    for index in records {
        let stored = Stored::read(store, index).await?;
        held.insert(stored.root);
        let record = &stored.payload.record;
        let name = match record.view().kind() {
            // It was closed when the first of its verdicts was erased, and takes no record since.
            Kind::Verdict if record.is_erased() => return Ok(false),
            Kind::Verdict => "parent",
            Kind::Outcome => "verdict",
            _ => continue,
        };
        answered.extend(record.view().str(name).and_then(from_hex_array).map(RecordRoot));
        verdicts.extend((name == "parent").then_some(stored));
    }
    let waits = |stored: &Stored| {
        let view = stored.payload.record.view();
        let permit = view.get("permit").filter(|permit| !permit.is_null());
        let ends = permit.and_then(|permit| permit.get("not_after")).and_then(Value::as_str);
        let waits = match view.str("outcome") {
            Some("supervise") => true,
            Some("approve") => {
                permit.is_some() && ends.and_then(Micros::parse).is_none_or(|ends| ends >= now)
            }
            _ => false,
        };
        waits && !answered.contains(&stored.root)
    };
    Ok(coming.iter().any(|root| !held.contains(root)) || verdicts.iter().any(waits))
}
