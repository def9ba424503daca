//! What a pack is to hold, settled before anything is fetched: question, heads, keys.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use countersign_client::{Client, ClientError, VerifiedHead};
use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, from_hex_array, hex};
use countersign_core::hash::TreeSize;
use countersign_core::kinds::Kind;
use countersign_core::note::NOTE_BYTES_MAX;
use countersign_core::pack::{Asked, Claims, Contents, GateKey, Listing};
use countersign_core::query::{Field, Filter, Query, Row};
use countersign_core::stream::StreamId;
use countersign_proto::convert::{EvidenceQuery, RecordRef};

use super::folder::Folder;
use super::{ranges, signed_at, size_of};
use crate::args::EvidencePackArgs;
use crate::exit::Failure;
use crate::files::read_text;
use crate::query::{PAGE, Pages};
use crate::report::{Claim, Findings, Gathered, Head, Subject};

/// What goes into a pack.
pub(super) struct Plan {
    tenant: String,
    origin: String,
    pub(super) query: Query,
    /// Everything is proven under it.
    pub(super) head: Arc<VerifiedHead>,
    /// Up to where the log is asked: the same, but for records that were erased since.
    pub(super) to: Arc<VerifiedHead>,
    /// Where a complete pack begins, where that is not the log's beginning.
    pub(super) from: Option<Arc<VerifiedHead>>,
    pub(super) claims: Option<Claims>,
    /// The claimed keys' streams, by what their names have in common.
    pub(super) prefixes: BTreeSet<[u8; 12]>,
    /// Records that stand beside the question: openings of streams, erasures, earlier policies.
    pub(super) beside: BTreeSet<u64>,
    /// Ranges of records that were erased.
    pub(super) erased: Vec<(u64, u64)>,
}

/// Settles it; the folder of an earlier try keeps its head.
pub(super) async fn make(
    args: &EvidencePackArgs,
    client: &Client,
    tenant: String,
    query: Query,
    (folder, question): (&Folder, &str),
) -> Result<Plan, Failure> {
    let to = match (&args.to_head, folder.head()) {
        (Some(named), _) => head_of(client, named).await?,
        (None, Some(size)) => client.head_at(size).await?,
        (None, None) => client.head().await?,
    };
    let from = match &args.from_head {
        Some(named) if size_of(named) != Some(TreeSize(0)) => Some(head_of(client, named).await?),
        _ => None,
    };
    if from.as_ref().is_some_and(|from| from.size() >= to.size()) {
        return Err(Failure::usage(
            "the head to begin at is not before the head to end at. Give --from-head an older one.",
        ));
    }
    let origin = client.origin().to_owned();
    let mut plan = Plan {
        tenant,
        origin,
        query,
        head: Arc::clone(&to),
        to,
        from,
        claims: None,
        prefixes: BTreeSet::new(),
        beside: BTreeSet::new(),
        erased: Vec::new(),
    };
    plan.erasures(client).await?;
    folder.remember(question, plan.head.size())?;
    if args.complete {
        plan.claim(client).await?;
    }
    Ok(plan)
}

/// The question with all that decides what the pack holds but the newest head.
pub(super) fn question(
    args: &EvidencePackArgs,
    origin: &str,
    tenant: &str,
    query: &Query,
) -> String {
    let filters: Vec<String> = query
        .filters()
        .iter()
        .map(|filter| format!("{}={}", filter.field(), filter.value()))
        .collect();
    serde_json::json!({
        "origin": origin,
        "tenant": tenant,
        "filters": filters,
        "from": query.from().map(Micros::format),
        "to": query.to().map(Micros::format),
        "complete": args.complete,
        "from_head": args.from_head,
        "to_head": args.to_head,
        "minimal": args.minimal,
    })
    .to_string()
}

/// A head by its size, or from a file that it was kept in.
async fn head_of(client: &Client, named: &str) -> Result<Arc<VerifiedHead>, Failure> {
    if let Some(size) = size_of(named) {
        return Ok(client.head_at(size).await?);
    }
    let path = Path::new(named);
    let note = read_text(path, NOTE_BYTES_MAX)?;
    let kept = client.read_head(&note).map_err(|fault| Failure::content(path, fault))?;
    // The ledger must still know it, and under the same root.
    let known = client.head_at(kept.size()).await?;
    if known.root() == kept.root() {
        return Ok(known);
    }
    Err(Failure::invalid(format!(
        "the ledger shows another tree of {} records than the head in {} was signed for. Keep both: \
         this is proof that history was rewritten.",
        kept.size().0,
        crate::files::shown(path)
    )))
}

/// The head that was committed with the record at this index; where that one's commit was larger,
/// the newest. So the same question gives the same bytes until something more is erased.
async fn head_behind(client: &Client, index: u64) -> Result<Arc<VerifiedHead>, Failure> {
    match client.head_at(TreeSize(index.saturating_add(1))).await {
        Err(ClientError::Refused(refusal)) if refusal.code == Code::SizeUnknown => {
            Ok(client.head().await?)
        }
        head => Ok(head?),
    }
}

impl Plan {
    /// The ledger's lines for one kind, as of this size.
    async fn rows(
        &self,
        client: &Client,
        kind: Kind,
        size: Option<TreeSize>,
    ) -> Result<Vec<Row>, Failure> {
        let filter = Filter::new(Field::Kind, kind.as_str());
        let query = filter.and_then(|filter| Query::new(vec![filter], None, None));
        let query = query.map_err(|fault| Failure::internal(fault.to_string()))?;
        let mut pages = Pages::of(client, &query, size);
        let mut rows = Vec::new();
        while let Some(page) = pages.next(PAGE).await? {
            rows.extend(page);
        }
        Ok(rows)
    }

    /// Erasures go with every pack: what is erased must show as erased, and never as missing. One
    /// that came behind the range is proven under a later head, which then is the pack's.
    async fn erasures(&mut self, client: &Client) -> Result<(), Failure> {
        let rows = self.rows(client, Kind::Erasure, None).await?;
        let asked = self.to.size();
        let late = |row: &&Row| {
            row.index.0 >= asked.0 && ranges(&row.about).iter().any(|(from, _)| *from < asked.0)
        };
        if let Some(last) = rows.iter().filter(late).map(|row| row.index.0).max() {
            self.head = head_behind(client, last).await?;
        }
        for row in rows {
            if row.index.0 < self.head.size().0 {
                self.erased.extend(ranges(&row.about));
                self.beside.insert(row.index.0);
            }
        }
        Ok(())
    }

    /// The gate keys of the tenant, from the openings of its streams, each verified.
    async fn claim(&mut self, client: &Client) -> Result<(), Failure> {
        let gates: Vec<&str> = self
            .query
            .filters()
            .iter()
            .filter(|filter| filter.field() == Field::Gate)
            .map(Filter::value)
            .collect();
        let mut keys: BTreeSet<GateKey> = BTreeSet::new();
        let mut beside = BTreeSet::new();
        let to = self.to.size();
        for row in self.rows(client, Kind::Stream, Some(to)).await? {
            beside.insert(row.index.0);
            let query = EvidenceQuery::Record(RecordRef::Index(row.index));
            let items = client.evidence_at(query, self.head.size(), None).await?;
            let view = items.first().and_then(|item| item.report.facts.view.as_ref());
            let said = |name: &str| view.and_then(|view| view.str(name)).unwrap_or_default();
            let (tenant, gate) =
                (said("subject_tenant").to_owned(), said("subject_gate").to_owned());
            let key = from_hex_array::<32>(said("gate_key"));
            if let Some(key) = key
                && tenant == self.tenant
                && (gates.is_empty() || gates.contains(&gate.as_str()))
            {
                keys.insert(GateKey { tenant, gate, key });
            }
        }
        if keys.is_empty() {
            return Err(Failure::invalid(format!(
                "no gate of {} that was asked for had a stream in the log's first {} records, so \
                 that nothing can be claimed of it. Leave --complete out, or name another --gate.",
                self.tenant, to.0
            )));
        }
        for key in &keys {
            let stream = StreamId::derive(&self.origin, &key.tenant, &key.gate, &key.key, 0);
            let stream = stream.map_err(ClientError::Answer)?;
            self.prefixes.extend(stream.0.first_chunk::<12>());
        }
        let from = self.begin();
        // Rules that were in force when the range began were activated before it.
        for row in self.rows(client, Kind::Policy, Some(to)).await? {
            if row.index.0 < from {
                beside.insert(row.index.0);
            }
        }
        self.beside.extend(beside);
        let keys = keys.into_iter().collect();
        self.claims = Some(Claims { keys, from: TreeSize(from), to });
        Ok(())
    }

    /// The first index of a complete pack's range.
    pub(super) fn begin(&self) -> u64 {
        self.from.as_ref().map_or(0, |head| head.size().0)
    }

    /// The heads of the pack, the older first.
    pub(super) fn heads(&self) -> impl Iterator<Item = &Arc<VerifiedHead>> {
        self.older().chain(std::iter::once(&self.head))
    }

    /// Those that are joined to the pack's head.
    pub(super) fn older(&self) -> impl Iterator<Item = &Arc<VerifiedHead>> {
        let to = std::iter::once(&self.to).filter(|to| to.size() < self.head.size());
        self.from.iter().chain(to)
    }

    /// What the manifest says over these files.
    pub(super) fn contents(&self, files: Listing) -> Contents {
        Contents {
            origin: self.origin.clone(),
            asked: Asked { tenant: self.tenant.clone(), query: self.query.clone() },
            head: self.head.size(),
            claims: self.claims.clone(),
            files,
        }
    }

    /// What the report is about; what verifying comes to is not known yet.
    pub(super) fn subject<'g>(&self, gathered: &'g Gathered) -> Subject<'g> {
        let head = |head: &Arc<VerifiedHead>| Head {
            size: head.size().0,
            root: head.root().0,
            time: signed_at(head.clock_seconds()),
        };
        let heads: Vec<Head> = self.heads().map(head).collect();
        Subject {
            origin: self.origin.clone(),
            tenant: self.tenant.clone(),
            filters: self
                .query
                .filters()
                .iter()
                .map(|filter| (filter.field().to_string(), filter.value().to_owned()))
                .collect(),
            from: self.query.from(),
            to: self.query.to(),
            head: head(&self.head),
            heads,
            links: self.older().map(|old| (old.size().0, self.head.size().0)).collect(),
            claim: self.claims.as_ref().map(|claims| Claim {
                keys: claims
                    .keys
                    .iter()
                    .map(|key| (key.tenant.clone(), key.gate.clone(), hex(&key.key)))
                    .collect(),
                from: claims.from.0,
                to: claims.to.0,
            }),
            findings: Findings::none(),
            gathered,
        }
    }
}
