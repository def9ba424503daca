//! Answering a query: the lists of its values are read side by side, each record that all of them
//! name is read and asked, and what it answers is what counts. A list that names too much costs a
//! look; one that names too little is why the indexes can be rebuilt.
//!
//! Time never goes back along the log, so that a window of time is a range of indexes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::query::{Answer, Filter, Row};
use countersign_core::stream::StreamId;

use crate::api::{Page, PageRequest};
use crate::derive::{is_listed, term};
use crate::erase::ERASABLE;
use crate::evidence::Stored;
use crate::lifecycle::{ACTION_RECORDS_MAX, uuid_bytes};
use crate::shared::{Shared, store_fault};
use crate::store::{Store, Term};

/// Steps through lists and records that one page takes at most.
const STEPS_MAX: u64 = 20_000;
/// Bytes of text that one page carries at most, but for its first row.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Places that are read of a list at once.
const READ_AHEAD: usize = 256;

/// A place in the order of the page: the index, or its mirror image where the newest comes first.
/// So that everything below only ever goes up.
type Place = u64;

/// The largest index that has a mirror image: no log grows so far.
const MIRROR: u64 = u64::MAX / 2;

/// The place of an index, and the index of a place.
fn place(index: u64, newest_first: bool) -> Place {
    if newest_first { MIRROR.saturating_sub(index) } else { index }
}

/// The same for a range of them.
fn places(indexes: Range<u64>, newest_first: bool) -> Range<Place> {
    if newest_first {
        let after = |index: u64| (MIRROR + 1).saturating_sub(index);
        after(indexes.end)..after(indexes.start)
    } else {
        indexes
    }
}

/// One list, read as far as it was needed.
struct List {
    term: Term,
    ahead: VecDeque<Place>,
    /// Nothing comes after what is read ahead.
    ended: bool,
}

/// What one page reads.
struct Reader<'a, S> {
    store: &'a S,
    tenant: &'a str,
    newest_first: bool,
    /// Where the page may begin, and the first place that it may not reach.
    span: Range<Place>,
}

impl<S: Store> Reader<'_, S> {
    /// The first place of the list from `from` on.
    async fn seek(&self, list: &mut List, from: Place) -> Result<Option<Place>, Fault> {
        if list.ahead.back().is_some_and(|last| *last < from) {
            list.ahead.clear();
        }
        while list.ahead.front().is_some_and(|first| *first < from) {
            list.ahead.pop_front();
        }
        if list.ahead.is_empty() && !list.ended && from < self.span.end {
            let newest_first = self.newest_first;
            let range = places(from..self.span.end, newest_first);
            let read = self.store.listed(self.tenant, list.term, range, READ_AHEAD, newest_first);
            let read = read.await.map_err(store_fault)?;
            list.ended = read.len() < READ_AHEAD;
            list.ahead = read.iter().map(|index| place(index.0, newest_first)).collect();
        }
        Ok(list.ahead.front().copied())
    }

    /// The first place from `from` on that any of these lists names.
    async fn seek_any(&self, lists: &mut [List], from: Place) -> Result<Option<Place>, Fault> {
        let mut first = None;
        for list in lists {
            let found = self.seek(list, from).await?;
            first = [first, found].into_iter().flatten().min();
        }
        Ok(first)
    }

    /// The lists of the values of one field.
    async fn lists(&self, filters: &[Filter]) -> Result<Vec<List>, Fault> {
        let mut lists = Vec::with_capacity(filters.len());
        for filter in filters {
            let mut list = List {
                term: term(filter.field(), filter.value()),
                ahead: VecDeque::new(),
                ended: false,
            };
            if !is_listed(filter.field()) {
                let action = uuid_bytes(filter.value()).ok_or(Code::QueryMalformed)?;
                let found = self.store.by_action(self.tenant, action, ACTION_RECORDS_MAX).await;
                let found = found.map_err(store_fault)?;
                let places = found.iter().map(|index| place(index.0, self.newest_first));
                let mut places: Vec<Place> =
                    places.filter(|place| self.span.contains(place)).collect();
                places.sort_unstable();
                (list.ahead, list.ended) = (places.into(), true);
            }
            lists.push(list);
        }
        Ok(lists)
    }
}

/// How a step through the lists ended.
enum Step {
    /// All lists name this place.
    At(Place),
    /// They go on here.
    On(Place),
    /// No place is left that all of them name.
    End,
}

/// Everything that names a page's records.
struct Lists {
    /// Of each field that is asked for, its values' lists: a record stands in one of each.
    all_of: Vec<Vec<List>>,
    /// The erased ones, where an erased record may be unable to answer.
    erased: Vec<List>,
}

impl Lists {
    /// One step of the lists that must agree.
    async fn step<S: Store>(&mut self, reader: &Reader<'_, S>, from: Place) -> Result<Step, Fault> {
        let mut target = from;
        for lists in &mut self.all_of {
            match reader.seek_any(lists, target).await? {
                None => return Ok(Step::End),
                Some(found) => target = found,
            }
        }
        Ok(if target == from { Step::At(from) } else { Step::On(target) })
    }
}

/// What was found so far.
struct Pages<'a> {
    request: &'a PageRequest,
    rows: Vec<Row>,
    bytes: usize,
    erased_unmatched: u64,
}

impl Pages<'_> {
    fn is_full(&self) -> bool {
        self.rows.len() >= self.request.limit.max(1) || self.bytes > PAGE_BYTES_MAX
    }

    fn take(&mut self, row: Row) {
        let texts = [&row.justification, &row.action, &row.actor, &row.resource, &row.about];
        let reasons = row.reasons.iter().map(String::len).sum::<usize>();
        self.bytes += texts.into_iter().map(String::len).sum::<usize>() + reasons + 1_024;
        self.rows.push(row);
    }
}

impl<S: Store> Shared<S> {
    /// A page of the records that a query asks for.
    pub(crate) async fn page(&self, request: &PageRequest) -> Result<Page, Fault> {
        let head = match (request.size, request.cursor) {
            (None, Some(_)) => return Err(Code::CursorMalformed.at_field("size")),
            (None, None) => self.published().head,
            (Some(size), _) => self.committed(size).await?,
        };
        if request.cursor.is_some_and(|cursor| cursor.0 >= head.size.0) {
            return Err(Code::CursorMalformed.at_field("cursor"));
        }
        let newest_first = request.newest_first;
        let span = self.span(request, head.size).await?;
        let (store, tenant) = (&*self.store, request.tenant.as_str());
        let reader = Reader { store, tenant, newest_first, span };
        let lists = self.lists(request, &reader).await?;
        let found = Pages { request, rows: Vec::new(), bytes: 0, erased_unmatched: 0 };
        let (found, next) = self.walk(&reader, lists, found).await?;
        Ok(Page {
            rows: found.rows,
            next: next.map(|next| LeafIndex(place(next, newest_first))),
            head: Arc::clone(&head),
            erased_unmatched: found.erased_unmatched,
        })
    }

    /// The places of the page: the window of time, from the cursor on, under the head.
    async fn span(&self, request: &PageRequest, size: TreeSize) -> Result<Range<Place>, Fault> {
        let (from, to) = (request.query.from(), request.query.to());
        let mut first = self.first_at(from, size).await?.unwrap_or(0);
        let mut end = self.first_at(to, size).await?.unwrap_or(size.0);
        match request.cursor {
            Some(cursor) if request.newest_first => end = end.min(cursor.0.saturating_add(1)),
            Some(cursor) => first = first.max(cursor.0),
            None => {}
        }
        Ok(places(first..end.max(first), request.newest_first))
    }

    /// The first index that was logged at this time or later: a search by halves.
    async fn first_at(&self, at: Option<Micros>, size: TreeSize) -> Result<Option<u64>, Fault> {
        let Some(at) = at else { return Ok(None) };
        let (mut low, mut high) = (0, size.0);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(LeafIndex(middle)).await?.logged_at < at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(Some(low))
    }

    async fn lists(&self, request: &PageRequest, reader: &Reader<'_, S>) -> Result<Lists, Fault> {
        let whole = |term| List { term, ahead: VecDeque::new(), ended: false };
        let mut lists = Lists { all_of: Vec::new(), erased: Vec::new() };
        for filters in request.query.by_field() {
            lists.all_of.push(reader.lists(filters).await?);
        }
        if lists.all_of.is_empty() {
            lists.all_of.push(vec![whole(Term::ALL)]);
        }
        let may_be_erased = |filter: &Filter| {
            !ERASABLE.into_iter().all(|kind| filter.field().survives_erasure(kind))
        };
        if request.query.filters().iter().any(may_be_erased) {
            lists.erased.push(whole(Term::ERASED));
        }
        Ok(lists)
    }

    /// Goes through the places until the page is full, its work is done, or nothing is left. Gives
    /// the place to go on at.
    async fn walk<'a>(
        &self,
        reader: &Reader<'_, S>,
        mut lists: Lists,
        mut found: Pages<'a>,
    ) -> Result<(Pages<'a>, Option<Place>), Fault> {
        let mut at = reader.span.start;
        for _ in 0..STEPS_MAX {
            if at >= reader.span.end {
                return Ok((found, None));
            }
            if found.is_full() {
                break;
            }
            let erased = reader.seek_any(&mut lists.erased, at).await?;
            let step = lists.step(reader, at).await?;
            let (next, is_named) = match (step, erased) {
                (Step::At(place), _) => (place, true),
                (Step::On(place), Some(erased)) if erased < place => (erased, true),
                (Step::On(place), _) => (place, false),
                (Step::End, Some(erased)) => (erased, true),
                (Step::End, None) => return Ok((found, None)),
            };
            at = next;
            if is_named {
                self.ask(LeafIndex(place(at, reader.newest_first)), &mut found).await?;
                at = at.saturating_add(1);
            }
        }
        Ok((found, (at < reader.span.end).then_some(at)))
    }

    /// Reads a record that the lists name, and asks it.
    async fn ask(&self, index: LeafIndex, found: &mut Pages<'_>) -> Result<(), Fault> {
        let tenant = found.request.tenant.as_str();
        let entry = self.entry(index).await?;
        let may_see = if entry.stream == StreamId::LEDGER {
            self.own_record_is_for(tenant, index).await?
        } else {
            self.owner(entry.stream).is_some_and(|owner| owner.tenant == tenant)
        };
        if !may_see {
            return Ok(());
        }
        let stored = Stored::read(&*self.store, index).await?;
        let record = &stored.payload.record;
        match found.request.query.ask(&stored.entry, record.view()) {
            Answer::Yes => {
                let (entry, root) = (&stored.entry, stored.root);
                found.take(Row::of(entry, index, root, record.view(), record.is_erased()));
            }
            Answer::Withheld => found.erased_unmatched += 1,
            Answer::No => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_mirrored_and_come_back() {
        for range in [0..1, 0..10, 3..7, 5..5] {
            let mirrored = places(range.clone(), true);
            assert_eq!(mirrored.end - mirrored.start, range.end - range.start);
            assert_eq!(places(mirrored.clone(), true), range);
            for index in range {
                assert!(mirrored.contains(&place(index, true)), "{index}");
            }
        }
        assert!(place(4, true) < place(3, true));
    }
}
