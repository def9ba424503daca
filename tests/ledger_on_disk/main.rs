//! The log on a real database: derived rows that are damaged and made again, and erased bytes that
//! are looked for in every file.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod damaged;
mod erasing;
mod rebuilding;
// The same gates, people and keys as the log's own tests.
#[path = "../../crates/countersign-log/tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;

use countersign_core::query::{Field, Filter, Query, Row};
use countersign_log::api::PageRequest;
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use countersign_rocksdb::{Options, RocksStore};

/// Opens the database of a folder.
fn store(dir: &Path) -> Arc<RocksStore> {
    Arc::new(RocksStore::open(dir, &Options::default()).unwrap())
}

/// All of acme's rows that match.
async fn rows<S: Store>(ledger: &Ledger<S>, filters: &[(Field, &str)]) -> (Vec<Row>, u64) {
    let filters = filters.iter().map(|(field, value)| Filter::new(*field, value).unwrap());
    let query = Query::new(filters.collect(), None, None).unwrap();
    let tenant = "acme".to_owned();
    let (size, cursor, limit) = (None, None, 1_000);
    let asked = PageRequest { tenant, query, size, cursor, limit, newest_first: false };
    let page = ledger.query(&asked).await.unwrap();
    assert_eq!(page.next, None);
    (page.rows, page.erased_unmatched)
}
