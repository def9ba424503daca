//! What a report is made of: verified records, taken in one by one, with counts of all and the
//! first of them in full. Memory stays bounded however many come.

use std::collections::BTreeMap;

use countersign_core::cert::Certificate;
use countersign_core::encoding::{Micros, b64, hex};
use countersign_core::evidence::Evidence;
use countersign_core::hash::LeafIndex;
use countersign_core::kinds::Kind;
use countersign_core::query::Row;
use countersign_core::receipt::Receipt;
use countersign_core::stream::StreamId;
use countersign_core::verify::{Facts, Report, Verdict};
use serde_json::Value;

/// Records that a report shows one by one; of the others it gives counts, and says where they are.
pub(crate) const ROWS_MAX: usize = 1000;
/// Different values that are counted apart; the rest are counted together.
const VALUES_MAX: usize = 200;

/// Counts by value, bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally<K> {
    counts: BTreeMap<K, u64>,
    /// How many had values beyond those that are counted apart.
    pub(super) others: u64,
}

impl<K: Ord> Tally<K> {
    fn add(&mut self, key: K) {
        if self.counts.len() < VALUES_MAX || self.counts.contains_key(&key) {
            *self.counts.entry(key).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    /// Values with their counts, the most frequent first, then by value.
    pub(super) fn ranked(&self) -> Vec<(&K, u64)> {
        let mut rows: Vec<(&K, u64)> = self.counts.iter().map(|(key, n)| (key, *n)).collect();
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        rows
    }
}

impl Tally<String> {
    pub(super) fn of(&self, key: &str) -> u64 {
        self.counts.get(key).copied().unwrap_or(0)
    }
}

/// A policy version as verdicts name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PolicyName {
    pub(super) id: String,
    pub(super) version: String,
    pub(super) digest: String,
}

/// Somebody whose signature was verified.
#[derive(Clone, Debug, Default)]
pub(super) struct Person {
    /// What the certificate says that they are: `approver`, `policy-admin`, `tenant-admin`.
    pub(super) role: String,
    /// What else they were at the time, by the gate's word.
    pub(super) roles: Vec<String>,
    /// SHA-256 of the certificate, in hex.
    pub(super) certificate: String,
    /// What they signed, with counts.
    pub(super) signed: BTreeMap<&'static str, u64>,
}

/// The holder of a certificate.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) subject: String,
    pub(super) key: String,
    pub(super) records: u64,
}

/// One record as the report shows it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) row: Row,
    /// Names of the fields that are withheld.
    pub(super) withheld: Vec<&'static str>,
    /// Roles of the approver by the gate's word.
    pub(super) roles: Vec<String>,
    pub(super) result: Verdict,
}

impl Item {
    fn of(report: &Report, erased: bool) -> Option<Self> {
        let Facts { view, root, entry, index, .. } = &report.facts;
        let (view, root, entry) = (view.as_ref()?, (*root)?, entry.as_ref()?);
        let roles = view.get("approver").and_then(|person| person.get("roles"));
        let roles = roles.and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            row: Row::of(entry, LeafIndex(*index), root, view, erased),
            withheld: view.withheld().collect(),
            roles: roles.filter_map(Value::as_str).map(str::to_owned).collect(),
            result: report.result,
        })
    }

    /// A value that may be missing, and why it is.
    pub(super) fn said(&self, field: &str, value: &str) -> String {
        match value {
            "" if self.row.erased && self.withheld.contains(&field) => "(erased)".to_owned(),
            "" if self.withheld.contains(&field) => "(withheld)".to_owned(),
            "" => "none given".to_owned(),
            value => value.to_owned(),
        }
    }
}

/// The inclusion of one record, to be drawn.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) index: u64,
    pub(super) entry: Vec<u8>,
    pub(super) receipt: Receipt,
    /// Which record was chosen, the best first.
    rank: u8,
}

/// Verified records, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gathered {
    pub(super) items: Vec<Item>,
    /// Records that those rest on, by index.
    pub(super) supporting: BTreeMap<u64, Item>,
    pub(super) records: u64,
    pub(super) erased: u64,
    pub(super) reduced: u64,
    pub(super) late: u64,
    pub(super) shadow: u64,
    pub(super) kinds: Tally<String>,
    pub(super) outcomes: Tally<String>,
    pub(super) results: Tally<String>,
    pub(super) codes: Tally<String>,
    pub(super) actors: Tally<String>,
    pub(super) policies: Tally<PolicyName>,
    pub(super) gates: Tally<(String, String)>,
    pub(super) witnesses: Tally<String>,
    pub(super) people: BTreeMap<String, Person>,
    pub(super) certificates: BTreeMap<String, Holder>,
    /// Digests by the PEM that they are of.
    pems: BTreeMap<String, String>,
    /// How many records passed each step.
    pub(super) passed: BTreeMap<u8, u64>,
    pub(super) not_checked: Tally<String>,
    pub(super) doubts: Tally<(u8, String)>,
    pub(super) verdicts: Tally<String>,
    pub(super) span: Option<(Micros, Micros)>,
    pub(super) sample: Option<Sample>,
}

impl Gathered {
    /// Takes in a record with what verifying it gave. `erased` says that an erasure lists it, and
    /// `asked` that it answers the query, and is not only there for completeness.
    pub(crate) fn take(&mut self, evidence: &Evidence, report: &Report, erased: bool, asked: bool) {
        self.records += 1;
        self.erased += u64::from(erased);
        self.reduced += u64::from(!asked);
        self.late += u64::from(report.facts.late);
        for step in &report.steps {
            *self.passed.entry(*step).or_default() += 1;
        }
        for name in &report.not_checked {
            self.not_checked.add(name.clone());
        }
        for found in &report.doubts {
            self.doubts.add((found.step, found.fault.code.as_str().to_owned()));
        }
        self.verdicts.add(report.result.as_str().to_owned());
        for witness in &report.facts.witnesses {
            self.witnesses.add(witness.clone());
        }
        let Some(item) = Item::of(report, erased) else { return };
        self.count(&item, report);
        self.know_certificates(evidence, &item);
        self.know_person(evidence, &item);
        self.consider_sample(evidence, &item, asked);
        if !asked || self.items.len() >= ROWS_MAX {
            return;
        }
        for inner in &report.supporting {
            if let Some(support) = Item::of(inner, false) {
                self.supporting.entry(support.row.index.0).or_insert(support);
            }
        }
        self.items.push(item);
    }

    fn count(&mut self, item: &Item, report: &Report) {
        let row = &item.row;
        self.kinds.add(row.kind.as_str().to_owned());
        self.span = Some(match self.span {
            None => (row.logged_at, row.logged_at),
            Some((first, last)) => (first.min(row.logged_at), last.max(row.logged_at)),
        });
        if let Some(key) = report.facts.sealed_by {
            // The ledger's own records name the gate that they are about.
            let own = row.stream == StreamId::LEDGER;
            self.gates.add((if own { String::new() } else { row.gate.clone() }, hex(&key)));
        }
        match row.kind {
            Kind::Verdict => {
                if row.mode == "shadow" {
                    self.shadow += 1;
                } else {
                    self.outcomes.add(row.outcome.clone());
                }
                for code in &row.reasons {
                    self.codes.add(code.clone());
                }
                if !row.actor.is_empty() {
                    self.actors.add(row.actor.clone());
                }
                if !row.policy_version.is_empty() {
                    self.policies.add(PolicyName {
                        id: row.policy_id.clone(),
                        version: row.policy_version.clone(),
                        digest: row.policy_digest.clone(),
                    });
                }
            }
            Kind::Outcome => self.results.add(row.result.clone()),
            _ => {}
        }
    }

    fn know_certificates(&mut self, evidence: &Evidence, item: &Item) {
        let chains = std::iter::once(&evidence.gate_chain).chain(&evidence.people_chains);
        for leaf in chains.filter_map(|chain| chain.first()) {
            // The same few certificates come with every record: each is parsed once.
            if let Some(known) =
                self.pems.get(leaf).and_then(|digest| self.certificates.get_mut(digest))
            {
                known.records += 1;
                continue;
            }
            let Ok(certificate) = Certificate::from_pem(leaf) else { continue };
            let digest = hex(&certificate.digest());
            if self.pems.len() < VALUES_MAX {
                self.pems.insert(leaf.clone(), digest.clone());
            }
            if let Some(known) = self.certificates.get_mut(&digest) {
                known.records += 1;
            } else if self.certificates.len() < VALUES_MAX {
                let subject = certificate.identity().map(|id| id.to_string());
                let holder = Holder {
                    subject: subject.unwrap_or_else(|_| format!("holder in {}", item.row.gate)),
                    key: b64(certificate.public_key_bytes()),
                    records: 1,
                };
                self.certificates.insert(digest, holder);
            }
        }
    }

    fn know_person(&mut self, evidence: &Evidence, item: &Item) {
        let leaf = evidence.people_chains.first().and_then(|chain| chain.first());
        let Some(certificate) = leaf.and_then(|pem| Certificate::from_pem(pem).ok()) else {
            return;
        };
        let Ok(identity) = certificate.identity() else { return };
        let name = identity.name().to_owned();
        if self.people.len() >= VALUES_MAX && !self.people.contains_key(&name) {
            return;
        }
        let person = self.people.entry(name).or_default();
        person.role = identity.role().to_string();
        person.certificate = hex(&certificate.digest());
        for role in &item.roles {
            if !person.roles.contains(role) && person.roles.len() < VALUES_MAX {
                person.roles.push(role.clone());
            }
        }
        let what = match (item.row.kind, item.row.decision.as_str()) {
            (Kind::Approval, "deny") => "denied",
            (Kind::Approval, _) => "granted",
            (Kind::Policy, _) => "policy versions",
            (Kind::Grant, _) => "grants of authority",
            _ => "erasures",
        };
        *person.signed.entry(what).or_default() += 1;
    }

    /// A refusal is what this ledger is for; failing that, any verdict, and failing that anything.
    fn consider_sample(&mut self, evidence: &Evidence, item: &Item, asked: bool) {
        let rank = match (asked, item.row.kind, item.row.outcome.as_str()) {
            (true, Kind::Verdict, "refuse") => 0,
            (true, Kind::Verdict, _) => 1,
            (true, ..) => 2,
            (false, ..) => 3,
        };
        if self.sample.as_ref().is_none_or(|sample| rank < sample.rank) {
            self.sample = Some(Sample {
                index: item.row.index.0,
                entry: evidence.entry.clone(),
                receipt: evidence.receipt.clone(),
                rank,
            });
        }
    }
}
