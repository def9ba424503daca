//! Places in the stream, for what has none yet.

use countersign_client::{ClientError, Draft, Gate};
use countersign_core::encoding::hex;

use super::prepare::{Ready, prepared};
use super::{ROUND_MAX, Sent};
use crate::gate::rows::{OutboxRow, PlaceRow};
use crate::gate::shared::Shared;
use crate::gate::state::StateError;
use crate::gate::tables;

/// Gives records their places at the stream's end, as many as one batch takes.
pub(super) fn placed(
    gate: &Gate,
    mut rows: Vec<(u64, OutboxRow)>,
    mut drafts: Vec<Draft>,
) -> Result<Sent, ClientError> {
    let fitting = Gate::fitting(&drafts);
    drafts.truncate(fitting);
    rows.truncate(fitting);
    if drafts.is_empty() {
        return Ok(None);
    }
    let stream = gate.stream().hex();
    let batch = gate.prepare(&drafts)?;
    for (((_, row), submitted), seq) in
        rows.iter_mut().zip(batch.records()).zip(batch.first_seq()..)
    {
        row.values = submitted.record.values().to_vec();
        let seed = hex(submitted.record.seed());
        row.place = Some(PlaceRow { stream: stream.clone(), seq, seed });
    }
    Ok(Some((rows, batch)))
}

/// Keeps rows as they are now.
pub(super) fn keep(
    tx: &redb::WriteTransaction,
    rows: &[(u64, OutboxRow)],
) -> Result<(), StateError> {
    rows.iter().try_for_each(|(number, row)| tables::put_outbox(tx, *number, row))
}

/// Gives what stands first in the outbox its places, where nothing of it has one. What is to be
/// left out is the next round's to drop.
pub(super) fn place_next(
    shared: &Shared,
    tx: &redb::WriteTransaction,
    gate: &Gate,
) -> Result<Sent, StateError> {
    let (mut rows, mut drafts) = (Vec::new(), Vec::new());
    for (number, row) in tables::outbox(tx, 0, ROUND_MAX)? {
        if row.place.is_some() {
            break;
        }
        let Ready::Record(row, draft) = prepared(shared, number, row) else { break };
        rows.push((number, *row));
        drafts.push(*draft);
    }
    let next = placed(gate, rows, drafts).unwrap_or_else(|error| {
        tracing::error!(%error, "what waits can't be placed");
        None
    });
    if let Some((rows, _)) = &next {
        keep(tx, rows)?;
    }
    Ok(next)
}
