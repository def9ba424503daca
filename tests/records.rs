//! Evidence at work over real sockets: queries, watches, entries and erasures, as a client asks them
//! of a real process.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use countersign_client::{
    Client, ClientConfig, ClientError, Cursor, ErasureOrder, Gate, GateIdentity, Paging,
    PolicyOwner, PolicyTexts, PolicyVersion, Retry, TlsIdentity, erasure_reason,
};
use countersign_core::cert::Role;
use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_core::entry::Entry;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::query::{Field, Filter, Query, Row};
use countersign_core::verify::Verdict;
use countersign_proto::convert::{EvidenceQuery, RecordRef};
use countersign_proto::v1;
use countersign_server::identity;
use countersign_tests::pki::Holder;
use countersign_tests::{Server, Stage, refusal};

/// A verified client with this certificate.
async fn connect(stage: &Stage, server: &Server, holder: &Holder) -> Client {
    let endpoint = format!("https://{}", server.grpc);
    let mut config = ClientConfig::new(endpoint, stage.log_vkey.clone());
    config.server_name = Some("localhost".to_owned());
    config.server_roots = Some(stage.server_ca.pem.clone());
    config.clocks = vec![stage.clock_vkey.clone()];
    let (cert_pem, key_pem) = (holder.cert_pem.clone(), holder.key_pem.clone());
    config.identity = Some(TlsIdentity { cert_pem, key_pem });
    Client::connect(config).await.unwrap()
}

async fn auditor(stage: &Stage, server: &Server, tenant: &str) -> Client {
    connect(stage, server, &stage.holder(tenant, Role::Auditor, "ann")).await
}

async fn gate(stage: &Stage, server: &Server, tenant: &str) -> Gate {
    let holder = stage.gate(tenant, "prod-1");
    let client = connect(stage, server, &holder).await;
    let identity = GateIdentity {
        tenant: tenant.to_owned(),
        gate: "prod-1".to_owned(),
        seal_key: holder.key,
        chain: holder.chain,
        instance: 0,
        software: "countersign-tests".to_owned(),
    };
    Gate::open(client, identity, Retry::default()).await.unwrap()
}

/// Logs refusals; each has an actor of its own among three.
async fn log(gate: &mut Gate, numbers: std::ops::Range<u64>) {
    let drafts: Vec<_> = numbers
        .map(|n| {
            let json = format!(
                r#"{{"action":"ec2:Stop","action_id":"019ab000-0000-7000-8000-{n:012x}","mode":"enforce","outcome":"refuse","actor":{{"kind":"agent","id":"agent-{}","class":null,"session":"s-{}","model":null,"on_behalf_of":null}}}}"#,
                n % 3,
                n / 50
            );
            gate.draft(Kind::Verdict, &json).unwrap()
        })
        .collect();
    let logged = gate.log(&drafts).await.unwrap();
    assert!(logged.iter().all(Result::is_ok));
}

fn query(filters: &[(Field, &str)]) -> Query {
    let filters = filters.iter().map(|(field, value)| Filter::new(*field, value).unwrap());
    Query::new(filters.collect(), None, None).unwrap()
}

async fn all(client: &Client, query: &Query, mut paging: Paging) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let page = client.query(query, &paging).await.unwrap();
        rows.extend(page.rows);
        paging.cursor = page.next;
        if page.next.is_none() {
            return rows;
        }
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Code {
    result.unwrap_err().code()
}

#[tokio::test]
async fn pages_are_stable_and_every_row_is_proven_by_its_index() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let mut gate = gate(&stage, &server, "acme").await;
    log(&mut gate, 0..300).await;
    let ann = auditor(&stage, &server, "acme").await;
    let asked =
        query(&[(Field::Actor, "agent-1"), (Field::Session, "s-2"), (Field::Session, "s-4")]);
    let before = all(&ann, &asked, Paging::default()).await;
    assert_eq!(before.len(), 33);
    for newest_first in [false, true] {
        let paging = Paging { limit: 10, newest_first, ..Paging::default() };
        let first = ann.query(&asked, &paging).await.unwrap();
        log(&mut gate, if newest_first { 320..340 } else { 300..320 }).await;
        let rest = all(&ann, &asked, Paging { cursor: first.next, ..paging }).await;
        let mut found: Vec<Row> = first.rows.into_iter().chain(rest).collect();
        if newest_first {
            found.reverse();
        }
        assert_eq!(found, before);
        // One command away from its proof.
        let row = &found[7];
        let one = EvidenceQuery::Record(RecordRef::Index(row.index));
        let size = first.head.size();
        let items = ann.evidence_at(one.clone(), size, None).await.unwrap();
        assert_eq!(items[0].report.facts.root, Some(row.root));
        let view = items[0].report.facts.view.as_ref().unwrap();
        assert_eq!(view.str("action_id"), Some(row.action_id.as_str()));
        log(&mut gate, if newest_first { 340..341 } else { 350..351 }).await;
        assert_eq!(ann.evidence_at(one, size, None).await.unwrap()[0].json, items[0].json);
        assert_eq!(ann.head_at(size).await.unwrap().root(), first.head.root());
    }
    // Another tenant sees nothing of it.
    let bob = auditor(&stage, &server, "globex").await;
    assert_eq!(all(&bob, &query(&[]), Paging::default()).await, []);
    let one = EvidenceQuery::Record(RecordRef::Index(before[0].index));
    assert_eq!(code(bob.evidence(one, TreeSize(0), None).await), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn misuse_is_refused_by_name() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let mut gate = gate(&stage, &server, "acme").await;
    log(&mut gate, 0..20).await;
    let ann = auditor(&stage, &server, "acme").await;
    let size = ann.head().await.unwrap().size();
    let everything = query(&[]);
    let at = |at: u64, size| Paging {
        cursor: Some(Cursor { at: LeafIndex(at), size: TreeSize(size) }),
        ..Paging::default()
    };
    assert_eq!(code(ann.query(&everything, &at(size.0, size.0)).await), Code::CursorMalformed);
    assert_eq!(code(ann.query(&everything, &at(0, size.0 + 7)).await), Code::SizeUnknown);
    assert_eq!(code(ann.query(&everything, &at(0, 3)).await), Code::SizeUnknown);
    let large = Paging { limit: 1_001, ..Paging::default() };
    assert_eq!(code(ann.query(&everything, &large).await), Code::QueryMalformed);
    assert_eq!(code(ann.head_at(TreeSize(size.0 + 1)).await), Code::SizeUnknown);
    assert_eq!(code(ann.policy_content([7; 32]).await), Code::NotFound);

    let mut raw = stage.connect(&server, &stage.holder("acme", Role::Auditor, "ann")).await;
    let filter = |field: &str, value: &str| v1::Filter { field: field.into(), value: value.into() };
    let with = |filters| v1::QueryRequest { filters, ..v1::QueryRequest::default() };
    for (request, code) in [
        (with(vec![filter("nonsense", "x")]), Code::QueryMalformed),
        (with(vec![filter("outcome", "allow")]), Code::QueryMalformed),
        (with(vec![filter("actor", &"a".repeat(1_025))]), Code::QueryMalformed),
        (with(vec![filter("actor", "a"); 33]), Code::QueryMalformed),
        (
            v1::QueryRequest { from_us: Some(2), to_us: Some(1), ..with(Vec::new()) },
            Code::QueryMalformed,
        ),
        (v1::QueryRequest { cursor: Some(0), ..with(Vec::new()) }, Code::CursorMalformed),
        (v1::QueryRequest { tenant: "globex".into(), ..with(Vec::new()) }, Code::OtherTenant),
    ] {
        assert_eq!(refusal(&raw.query(request).await.unwrap_err()).code, code);
    }
    for (from, count, code) in [
        (0, 0, Code::QueryMalformed),
        (0, 16_385, Code::QueryMalformed),
        (u64::MAX, 1, Code::SizeUnknown),
    ] {
        let request = v1::GetEntriesRequest { from, count };
        assert_eq!(refusal(&raw.get_entries(request).await.unwrap_err()).code, code);
    }
    let beyond = v1::GetPeaksRequest { size: u64::MAX };
    assert_eq!(refusal(&raw.get_peaks(beyond).await.unwrap_err()).code, Code::SizeUnknown);
    let both = v1::GetReceiptRequest { which: None, min_size: 1, at_size: 1, witnessed: false };
    let said = refusal(&raw.get_receipt(both).await.unwrap_err()).code;
    assert_eq!(said, Code::RequestMalformed);
    server.stop().await;
}

#[tokio::test]
async fn entries_fold_from_one_head_to_another() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let mut gate = gate(&stage, &server, "acme").await;
    let owner = stage.people_ca.holder("acme.example", "acme", Role::PolicyAdmin, "pia");
    let policy = "permit(principal, action, resource);".to_owned();
    let version = PolicyVersion {
        policy_id: "prod".to_owned(),
        version: "1".to_owned(),
        engine: "cedar 4".to_owned(),
        texts: PolicyTexts::Given { policy, schema: String::new() },
        activated_at: identity::now(),
    };
    let owner = PolicyOwner { chain: owner.chain, key: owner.key };
    gate.register_policy(&version, &owner).await.unwrap();
    log(&mut gate, 0..150).await;
    let ann = auditor(&stage, &server, "acme").await;
    let first = ann.head().await.unwrap();
    log(&mut gate, 150..300).await;
    let second = ann.head().await.unwrap();
    for from in [None, Some(&*first)] {
        let mut reader = ann.entries(from, &second).await.unwrap();
        let mut size = reader.start().size().0;
        assert_eq!(size, from.map_or(0, |head| head.size().0));
        while let Some(entries) = reader.next().await.unwrap() {
            for entry in &entries {
                Entry::from_bytes(entry).unwrap();
            }
            size += entries.len() as u64;
        }
        assert_eq!(size, second.size().0);
    }
    assert_eq!(ann.peaks(&first).await.unwrap().root(), first.root());
    // The policy's texts, for the tenant whose policy it is.
    let content = ann.policy_content(version.texts.digest()).await.unwrap();
    assert_eq!(Some(content), version.texts.blob());
    let bob = auditor(&stage, &server, "globex").await;
    assert_eq!(code(bob.policy_content(version.texts.digest()).await), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_goes_on_where_another_ended() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let mut gate = gate(&stage, &server, "acme").await;
    log(&mut gate, 0..10).await;
    let ann = auditor(&stage, &server, "acme").await;
    let mut watch = ann.watch_records(LeafIndex(0), &[], true, None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 11 {
        let record = watch.next().await.unwrap().unwrap();
        let evidence = record.evidence.unwrap();
        assert_eq!(evidence.report.facts.root, Some(record.row.root));
        seen.push(record.row.index);
    }
    // The opening of the stream is about the tenant as well.
    assert_eq!(seen, (1..12).map(LeafIndex).collect::<Vec<_>>());
    log(&mut gate, 10..12).await;
    assert_eq!(watch.next().await.unwrap().unwrap().row.index, LeafIndex(12));
    assert_eq!(watch.next_index(), LeafIndex(13));
    drop(watch);

    let one = [Filter::new(Field::Actor, "agent-1").unwrap()];
    let mut again = ann.watch_records(LeafIndex(13), &one, false, None).await.unwrap();
    log(&mut gate, 12..16).await;
    let record = again.next().await.unwrap().unwrap();
    assert!(record.evidence.is_none());
    assert_eq!((record.row.actor.as_str(), record.row.index), ("agent-1", LeafIndex(15)));
    server.ask_to_end();
    let ended = loop {
        match again.next().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(code(ended), Code::LedgerStopping);
    server.ended().await;
}

#[tokio::test]
async fn a_tenants_admin_erases_and_nobody_else_does() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let mut gate = gate(&stage, &server, "acme").await;
    log(&mut gate, 0..10).await;
    let ann = auditor(&stage, &server, "acme").await;
    let before = ann.head().await.unwrap();
    let admin = stage.people_ca.holder("acme.example", "acme", Role::TenantAdmin, "theo");
    let theo = connect(&stage, &server, &stage.holder("acme", Role::TenantAdmin, "theo")).await;
    let reason = erasure_reason("asked by the person", identity::now());
    let order =
        ErasureOrder { entries: "2-4", reason: &reason, chain: &admin.chain, key: &admin.key };
    assert_eq!(code(ann.erase(&order, None).await), Code::PermissionDenied);
    let done = theo.erase(&order, None).await.unwrap();
    assert_eq!((done.erased, done.index.0), (3, before.size().0));
    assert_eq!(theo.erase(&order, None).await.unwrap().index, done.index, "asked again");
    let late = erasure_reason("why", Micros(identity::now().0 + 60_000_000));
    let late = ErasureOrder { reason: &late, ..order };
    assert_eq!(code(theo.erase(&late, None).await), Code::ErasureFloor);

    let rows = all(&ann, &query(&[]), Paging::default()).await;
    let erased: Vec<u64> = rows.iter().filter(|row| row.erased).map(|row| row.index.0).collect();
    assert_eq!(erased, [2, 3, 4]);
    let page = ann.query(&query(&[(Field::Actor, "agent-1")]), &Paging::default()).await.unwrap();
    assert_eq!((page.rows.len(), page.erased_unmatched), (2, 3));
    let one = EvidenceQuery::Record(RecordRef::Index(LeafIndex(3)));
    let item = &ann.evidence_at(one, before.size(), None).await.unwrap()[0];
    assert_eq!(item.report.result, Verdict::Indeterminate, "no trust was given");
    assert!(item.report.facts.view.as_ref().unwrap().is_withheld("actor"));
    assert_eq!(item.report.facts.root, Some(rows[2].root));
    server.stop().await;
}
