//! Records of a complete pack that were not asked for: there in a reduced form, so that whoever checks
//! the pack can tell that nothing is missing, and that they are none of those that were.

use countersign_core::codes::Fault;
use countersign_core::disclose::Selection;
use countersign_core::entry::Entry;
use countersign_core::evidence::Evidence;
use countersign_core::kinds::Kind;
use countersign_core::query::{Answer, Query};
use countersign_core::record::{Field, View};

/// The field that a record which was not asked for has to show, so that whoever checks the pack can
/// tell that it was not (PACK-27): of those that say so, the shortest. `None` where what is never
/// withheld tells it as well.
pub(super) fn telling(
    evidence: &Evidence,
    query: &Query,
    entry: &Entry,
    view: &View,
) -> Option<&'static str> {
    let kind = view.kind();
    if is_signed(kind) {
        return None;
    }
    let fields = kind.fields().iter().zip(&evidence.record.fields);
    let length = |name: &str| {
        fields.clone().find_map(|(spec, field)| match field {
            Field::Shown(bytes) if spec.name == name => Some(bytes.len()),
            _ => None,
        })
    };
    let outside = Query::new(Vec::new(), query.from(), query.to())
        .is_ok_and(|window| window.ask(entry, view) == Answer::No);
    let mut found: Option<(usize, &'static str)> = None;
    for filters in query.by_field().filter(|_| !outside) {
        let alone = Query::new(filters.to_vec(), None, None).ok()?;
        if alone.ask(entry, view) != Answer::No {
            continue;
        }
        let name = filters.first()?.field().source(kind).filter(|name| !kind.never_withheld(name));
        let told = name.map(|name| (length(name).unwrap_or(usize::MAX), name))?;
        found = Some(found.map_or(told, |found| found.min(told)));
    }
    found.map(|(_, name)| name)
}

/// A record that was not asked for, with what it rests on: what never is withheld, what the order of
/// an action's records is checked by, and the field that tells that it was not asked for. What people
/// signed stays whole, since a signature over what nobody sees proves nothing.
pub(super) fn reduced(
    mut evidence: Evidence,
    told: Option<&'static str>,
) -> Result<Evidence, Fault> {
    let supporting = std::mem::take(&mut evidence.supporting);
    let shown = |evidence: &Evidence, name: &str, kind: Kind| {
        evidence.record.view(kind).is_ok_and(|view| view.get(name).is_some())
    };
    let entry = Entry::from_bytes(&evidence.entry)?;
    if is_signed(entry.kind) {
        return Ok(Evidence { supporting, ..evidence });
    }
    let kept: &[&str] = match entry.kind {
        Kind::Verdict => &["approvals", "permit", "requires"],
        Kind::Outcome => &["action_digest", "match"],
        Kind::Notice => &["about", "detail"],
        _ => &[],
    };
    let kept = kept.iter().copied().chain(told);
    let kept: Vec<&str> = kept.filter(|name| shown(&evidence, name, entry.kind)).collect();
    let mut less = evidence.withhold(&Selection::Keep(&kept))?;
    // They have none of their own (EVID-6), so this goes one level deep.
    let supporting = supporting.into_iter().map(|evidence| reduced(evidence, None));
    less.supporting = supporting.collect::<Result<_, _>>()?;
    Ok(less)
}

/// Whether a person signed what records of this kind say.
fn is_signed(kind: Kind) -> bool {
    matches!(kind, Kind::Policy | Kind::Grant | Kind::Approval | Kind::Erasure)
}

#[cfg(test)]
mod tests;
