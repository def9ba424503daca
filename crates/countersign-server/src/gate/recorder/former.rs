//! Rows that were placed under a seal key which is not this gate's any more.

use std::sync::Arc;

use countersign_client::EvidenceItem;
use countersign_core::codes::Code;
use countersign_core::encoding::from_hex_array;
use countersign_core::hash::TreeSize;
use countersign_core::stream::StreamId;
use countersign_proto::convert::{EvidenceQuery, RecordRef};

use super::{Halted, Recorder, record_of};
use crate::gate::closing::{Logged, close};
use crate::gate::host::Step;
use crate::gate::rows::{OutboxRow, PlaceRow};
use crate::gate::tables;
use crate::gate::ticket::Fate;

impl Recorder {
    /// Finds out what became of a record that was placed in the stream of a former key.
    pub(super) async fn former(&mut self, number: u64, row: OutboxRow) -> Result<(), Halted> {
        let client = self.gate()?.client().clone();
        let found = match row.place.as_ref().and_then(|place| Some((place, stream_of(place)?))) {
            Some((place, stream)) => {
                let record = EvidenceQuery::Record(RecordRef::StreamSeq(stream, place.seq));
                let root = record_of(&row, place).map(|sent| sent.record.root());
                match client.evidence(record, TreeSize(0), None).await {
                    // Another record at its place: this one is not in the log.
                    Ok(items) => items
                        .into_iter()
                        .find(|item| item.report.facts.root == root && root.is_some()),
                    Err(error) if matches!(error.code(), Code::NotFound | Code::StreamUnknown) => {
                        None
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            None => None,
        };
        if let Some(item) = found {
            return self.close_found(number, row, item).await;
        }
        let unplaced = OutboxRow { place: None, ..row };
        let write = move |tx: &redb::WriteTransaction| tables::put_outbox(tx, number, &unplaced);
        Ok(self.shared.state.write(write).await?)
    }

    /// Closes a record that the ledger was found to hold.
    async fn close_found(
        &self,
        number: u64,
        row: OutboxRow,
        item: EvidenceItem,
    ) -> Result<(), Halted> {
        let shared = Arc::clone(&self.shared);
        let write = move |tx: &redb::WriteTransaction| {
            let Some(logged) = Logged::found(number, &row, &item) else { return Ok(None) };
            close(&shared, tx, &logged).map(Some)
        };
        // Its file was verified: only a defect makes it none.
        let closed = self.shared.state.write(write).await?.ok_or(Halted::Open(number))?;
        self.shared.reached(Step::Closed)?;
        self.apply(closed.1)?;
        self.shared.tickets.end(number, Fate::Logged(closed.0));
        Ok(())
    }
}

fn stream_of(place: &PlaceRow) -> Option<StreamId> {
    from_hex_array(&place.stream).map(StreamId)
}
