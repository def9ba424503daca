//! What stands beside the rows that were asked for: what decided an action, and what a notice says
//! in full.

use std::collections::{BTreeMap, BTreeSet};

use countersign_client::Client;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::query::{FILTERS_MAX, Field, Filter, Query, Row};
use countersign_proto::convert::{EvidenceQuery, RecordRef};

use super::words::{notice_in_full, says_more};
use super::{PAGE, Pages};
use crate::exit::Failure;

/// What decides an action and tells of it.
const KINDS: [Kind; 3] = [Kind::Verdict, Kind::Approval, Kind::Outcome];
/// Actions that one query asks for, besides the kinds.
const ACTIONS: usize = FILTERS_MAX - KINDS.len();
/// Notices that are read in full for one answer; of others the row's own words are shown.
const NOTICES_MAX: usize = 200;

/// Rows with all that decided their actions.
pub(super) struct Answers<'c> {
    client: &'c Client,
    newest_first: bool,
    /// Actions that were shown already, with everything.
    shown: BTreeSet<String>,
}

impl<'c> Answers<'c> {
    pub(super) fn new(client: &'c Client, newest_first: bool) -> Self {
        Self { client, newest_first, shown: BTreeSet::new() }
    }

    /// The rows in their order; where the first one of an action stands, all of that action stand
    /// together.
    pub(super) async fn beside(
        &mut self,
        rows: Vec<Row>,
        size: TreeSize,
    ) -> Result<Vec<Row>, Failure> {
        let ids: BTreeSet<&str> = rows
            .iter()
            .map(|row| row.action_id.as_str())
            .filter(|id| !id.is_empty() && !self.shown.contains(*id))
            .collect();
        let mut actions: BTreeMap<String, BTreeMap<LeafIndex, Row>> = BTreeMap::new();
        for ids in ids.into_iter().collect::<Vec<_>>().chunks(ACTIONS) {
            for row in self.of(ids, size).await? {
                actions.entry(row.action_id.clone()).or_default().insert(row.index, row);
            }
        }
        // What was asked for is shown though it be of another kind, such as an intent.
        for row in rows.iter().filter(|row| !self.shown.contains(&row.action_id)) {
            if let Some(action) = actions.get_mut(&row.action_id) {
                action.insert(row.index, row.clone());
            }
        }
        let mut all = Vec::new();
        for row in rows {
            if let Some(action) = actions.remove(&row.action_id) {
                self.shown.insert(row.action_id);
                let ordered = action.into_values();
                if self.newest_first { all.extend(ordered.rev()) } else { all.extend(ordered) }
            } else if !self.shown.contains(&row.action_id) {
                all.push(row);
            }
        }
        Ok(all)
    }

    async fn of(&self, ids: &[&str], size: TreeSize) -> Result<Vec<Row>, Failure> {
        let ids = ids.iter().map(|id| Filter::new(Field::ActionId, id));
        let kinds = KINDS.iter().map(|kind| Filter::new(Field::Kind, kind.as_str()));
        let query = ids.chain(kinds).collect::<Result<_, _>>();
        let query = query.and_then(|filters| Query::new(filters, None, None));
        let query = query.map_err(|fault| Failure::internal(fault.to_string()))?;
        let mut pages = Pages::of(self.client, &query, Some(size));
        let mut rows = Vec::new();
        while let Some(page) = pages.next(PAGE).await? {
            rows.extend(page);
        }
        Ok(rows)
    }
}

/// What the notices among the rows say, by index: from their records, each verified under the log's
/// own keys as of this size.
pub(super) async fn in_full(
    client: &Client,
    rows: &[Row],
    size: TreeSize,
) -> Result<BTreeMap<u64, String>, Failure> {
    let mut words = BTreeMap::new();
    for row in rows.iter().filter(|row| says_more(row)).take(NOTICES_MAX) {
        let query = EvidenceQuery::Record(RecordRef::Index(row.index));
        let items = client.evidence_at(query, size, None).await?;
        let view = items.first().and_then(|item| item.report.facts.view.as_ref());
        if let Some(said) = view.and_then(notice_in_full) {
            words.insert(row.index.0, said);
        }
    }
    Ok(words)
}
