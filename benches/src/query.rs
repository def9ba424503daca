//! Pages of records by each index, beside what checking as many evidence files takes at the least: a
//! strict Ed25519 verification each, and SHA-256 over their bytes.

use std::path::Path;

use countersign_core::encoding::hex;
use countersign_core::hash::{LeafIndex, sha256};
use countersign_core::kinds::Kind;
use countersign_core::query::{Field, Filter, Query};
use countersign_log::api::PageRequest;
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::core::{BATCH, LoadGate, open, start, text};
use crate::figure::{Figure, number, percentile};
use crate::sample::{Actions, POLICY, action_id};
use crate::wire::disk;

/// Records to fill the log with where the environment says nothing.
const RECORDS: u64 = 1_000_000;
/// What says how many.
const RECORDS_VARIABLE: &str = "COUNTERSIGN_QUERY_RECORDS";
/// Rows of a page.
const ROWS: usize = 100;
/// Pages that are asked for by each index.
const PAGES: u64 = 300;

/// An index, what its figures are called, and the value to ask for in the nth page.
type Index = (&'static str, &'static str, fn(u64, &Actions) -> Vec<(Field, String)>);

/// Values as `sample.rs` writes them.
const INDEXES: [Index; 16] = [
    ("query_everything_p50", "query_everything_p99", |_, _| Vec::new()),
    ("query_by_kind_p50", "query_by_kind_p99", |_, _| {
        vec![(Field::Kind, Kind::Verdict.as_str().to_owned())]
    }),
    ("query_by_action_p50", "query_by_action_p99", |n, actions| {
        let rows = actions.rows();
        let at = usize::try_from(n).unwrap_or(0) % rows.len().max(1);
        vec![(Field::Action, rows.get(at).map(|row| row.0.clone()).unwrap_or_default())]
    }),
    ("query_by_actor_p50", "query_by_actor_p99", |n, _| {
        vec![(Field::Actor, format!("infra-agent-{}", n % 7))]
    }),
    ("query_by_session_p50", "query_by_session_p99", |n, _| {
        vec![(Field::Session, format!("s-{n}"))]
    }),
    ("query_by_action_id_p50", "query_by_action_id_p99", |n, _| {
        vec![(Field::ActionId, action_id(n))]
    }),
    ("query_by_ticket_p50", "query_by_ticket_p99", |n, _| {
        vec![(Field::Ticket, format!("OPS-{n}"))]
    }),
    ("query_by_resource_p50", "query_by_resource_p99", |n, actions| {
        let rows = actions.rows();
        let at = usize::try_from(n).unwrap_or(0) % rows.len().max(1);
        let service = rows.get(at).and_then(|row| row.0.split(':').next()).unwrap_or_default();
        vec![(Field::Resource, format!("{service}-{n}"))]
    }),
    ("query_by_gate_p50", "query_by_gate_p99", |_, _| vec![(Field::Gate, "load-1".to_owned())]),
    ("query_by_policy_p50", "query_by_policy_p99", |_, _| vec![(Field::Policy, "41".to_owned())]),
    ("query_by_policy_digest_p50", "query_by_policy_digest_p99", |_, _| {
        vec![(Field::PolicyDigest, hex(&POLICY))]
    }),
    ("query_by_mode_p50", "query_by_mode_p99", |_, _| vec![(Field::Mode, "enforce".to_owned())]),
    // The log holds one policy record, of this owner, and no grant: an index of few rows, and none.
    ("query_by_approver_p50", "query_by_approver_p99", |_, _| {
        vec![(Field::Approver, "owner-1".to_owned())]
    }),
    ("query_by_environment_p50", "query_by_environment_p99", |n, _| {
        vec![(Field::Environment, if n.is_multiple_of(2) { "dev" } else { "prod" }.to_owned())]
    }),
    ("query_by_actor_and_session_p50", "query_by_actor_and_session_p99", |n, _| {
        vec![
            (Field::Actor, format!("infra-agent-{}", n % 7)),
            (Field::Session, format!("s-{}", n / 2)),
        ]
    }),
    ("query_by_outcome_and_reason_p50", "query_by_outcome_and_reason_p99", |n, _| {
        let even = n.is_multiple_of(2);
        let (outcome, reason) =
            if even { ("approve", "READ_ALLOWED") } else { ("refuse", "PRODUCTION_WRITE") };
        vec![(Field::Outcome, outcome.to_owned()), (Field::Reason, reason.to_owned())]
    }),
];

/// Fills a log and asks it.
pub(crate) async fn pages(dir: &Path, actions: &Actions) -> Result<Vec<Figure>, String> {
    let records = match std::env::var(RECORDS_VARIABLE) {
        Ok(said) => said.parse().map_err(|_| format!("{RECORDS_VARIABLE} is no number: {said}"))?,
        Err(_) => RECORDS,
    };
    eprintln!("pages of {ROWS} among {records} records");
    let mut gate = LoadGate::new()?;
    let policy = gate.policy()?;
    let ledger = open(dir, &gate, policy).await?;
    for from in (0..records).step_by(BATCH) {
        let batch = gate.batch(actions, from)?;
        let answer = ledger.submit(batch).await.map_err(|refused| text(refused.fault))?;
        if let Some(refused) = answer.records.into_iter().find_map(|(_, outcome)| outcome.err()) {
            return Err(text(refused.fault));
        }
    }
    let mut figures = vec![Figure::plain("query_log_size", number(records), "records")];
    let (signatures, digests) = peers(&ledger).await?;
    figures.push(Figure::plain("query_peer_100_ed25519_strict", signatures, "ms"));
    figures.push(Figure::plain("query_peer_sha256_of_100_records", digests, "ms"));
    for (p50, p99, ask) in INDEXES {
        let took = by_index(&ledger, actions, records, ask).await?;
        let reference = |figure: Figure| figure.with_reference(signatures);
        figures.push(reference(Figure::plain(p50, percentile(&took, 0.5), "ms")));
        figures.push(reference(Figure::plain(p99, percentile(&took, 0.99), "ms")));
    }
    ledger.stop().await;
    drop(ledger);
    figures.extend(disk(dir, records)?);
    Ok(figures)
}

/// How long each of the pages took, in milliseconds, ascending. They begin all over the log.
async fn by_index<S: Store>(
    ledger: &Ledger<S>,
    actions: &Actions,
    records: u64,
    ask: fn(u64, &Actions) -> Vec<(Field, String)>,
) -> Result<Vec<f64>, String> {
    let size = ledger.head().size;
    let mut took = Vec::new();
    for page in 0..PAGES {
        let n = page.wrapping_mul(0x9e37_79b9);
        let filters = ask(n % (records / 100).max(1), actions);
        let filters = filters.iter().map(|(field, value)| Filter::new(*field, value));
        let filters = filters.collect::<Result<_, _>>().map_err(text)?;
        let request = PageRequest {
            tenant: "bench".to_owned(),
            query: Query::new(filters, None, None).map_err(text)?,
            size: Some(size),
            cursor: page.is_multiple_of(2).then_some(LeafIndex(n % size.0)),
            limit: ROWS,
            newest_first: page.is_multiple_of(2),
        };
        let begun = start();
        let found = ledger.query(&request).await.map_err(|refused| text(refused.fault))?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        std::hint::black_box(found);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

/// Milliseconds for 100 strict verifications over records' bytes, and for their SHA-256.
async fn peers<S: Store>(ledger: &Ledger<S>) -> Result<(f64, f64), String> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key();
    let mut signed = Vec::new();
    for index in 0..ROWS as u64 {
        let at = countersign_log::api::RecordAt::Index(LeafIndex(3 + index));
        let evidence = ledger.evidence(None, at, countersign_core::hash::TreeSize(0)).await;
        let (_, evidence) = evidence.map_err(|refused| text(refused.fault))?;
        let record = evidence.to_bytes();
        let signature = key.sign(&record);
        signed.push((record, signature));
    }
    let begun = start();
    for (record, signature) in &signed {
        if public.verify_strict(record, signature).is_err() {
            return Err("a signature that was just made is wrong".to_owned());
        }
    }
    let signatures = begun.elapsed().as_secs_f64() * 1e3;
    let begun = start();
    for (record, _) in &signed {
        std::hint::black_box(sha256(record));
    }
    Ok((signatures, begun.elapsed().as_secs_f64() * 1e3))
}
