//! What a report is made of: verified records, taken in one by one, with counts of all and the
//! first of them in full. Memory stays bounded however many come.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::cert::Certificate;
use countersign_core::encoding::{Micros, from_hex_array, hex};
use countersign_core::evidence::Evidence;
use countersign_core::hash::LeafIndex;
use countersign_core::kinds::Kind;
use countersign_core::query::Row;
use countersign_core::receipt::Receipt;
use countersign_core::stream::StreamId;
use countersign_core::verify::{Facts, Report, Verdict};
use countersign_gate::GateCode;
use serde_json::Value;

use crate::query::words::notice_in_full;

/// Records that a report shows one by one; of the others it gives counts, and says where they are.
pub(crate) const ROWS_MAX: usize = 1000;
/// Different values that are counted apart; the rest are counted together.
const VALUES_MAX: usize = 200;
/// Verdicts that the first page shows, those that are alike as one.
pub(super) const DECISIONS: usize = 5;

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
    /// Why, by code, with the sentence that the gate gave for it.
    pub(super) reasons: Vec<(String, String)>,
    /// What a notice says beyond its row.
    pub(super) words: Option<String>,
    pub(super) result: Verdict,
    /// Verdicts that say the same of the same, this one counted: the first page tells of them once.
    pub(super) alike: u64,
    /// The index of the last of these.
    pub(super) last_alike: u64,
}

impl Item {
    fn of(report: &Report, erased: bool) -> Option<Self> {
        let Facts { view, root, entry, index, .. } = &report.facts;
        let (view, root, entry) = (view.as_ref()?, (*root)?, entry.as_ref()?);
        let roles = view.get("approver").and_then(|person| person.get("roles"));
        let roles = roles.and_then(Value::as_array).into_iter().flatten();
        let reasons = view.get("reasons").filter(|_| view.kind() == Kind::Verdict);
        let reasons = reasons.and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            row: Row::of(entry, LeafIndex(*index), root, view, erased),
            withheld: view.withheld().collect(),
            roles: roles.filter_map(Value::as_str).map(str::to_owned).collect(),
            reasons: reasons.filter_map(reason).collect(),
            words: notice_in_full(view),
            result: report.result,
            alike: 1,
            last_alike: *index,
        })
    }

    /// Whether the first page would say the same of another verdict, but for when and where.
    fn is_like(&self, other: &Self) -> bool {
        let (one, two) = (&self.row, &other.row);
        let said: [fn(&Row) -> &String; 7] = [
            |row| &row.outcome,
            |row| &row.actor,
            |row| &row.action,
            |row| &row.resource,
            |row| &row.environment,
            |row| &row.policy_id,
            |row| &row.policy_version,
        ];
        self.rank() == other.rank()
            && said.iter().all(|value| value(one) == value(two))
            && self.reasons == other.reasons
            && self.withheld == other.withheld
    }

    /// A value that may be missing, and why it is.
    pub(super) fn said(&self, field: &str, value: &str) -> String {
        match value {
            "" => self.hidden(field).map_or_else(|| format!("no {field} given"), str::to_owned),
            value => value.to_owned(),
        }
    }

    /// Why a field is not shown; `None` where it is.
    pub(super) fn hidden(&self, field: &str) -> Option<&'static str> {
        let hidden = self.withheld.contains(&field);
        hidden.then_some(if self.row.erased { "(erased)" } else { "(withheld)" })
    }

    /// What was to be done, and on what.
    pub(super) fn deed(&self) -> String {
        let row = &self.row;
        match (self.hidden("action"), self.hidden("resource")) {
            (Some(why), Some(_)) => format!("{why}: neither the action nor what it is on is shown"),
            _ => format!("{} on {}", self.said("action", &row.action), self.target()),
        }
    }

    /// The resource with its environment.
    pub(super) fn target(&self) -> String {
        let resource = self.said("resource", &self.row.resource);
        match self.row.environment.as_str() {
            "" => resource,
            environment => format!("{resource} ({environment})"),
        }
    }

    /// How much a verdict asks to be looked at, the most first.
    fn rank(&self) -> u8 {
        match (self.row.mode.as_str(), self.row.outcome.as_str(), self.row.parent.as_str()) {
            ("shadow", ..) => 4,
            (_, "refuse", _) => 0,
            (_, "supervise", _) => 1,
            (_, _, "") => 3,
            // What people released.
            _ => 2,
        }
    }
}

/// A reason's code, and the sentence that goes with it: the record's, or else what the gate's own
/// code means.
fn reason(reason: &Value) -> Option<(String, String)> {
    let text = |name: &str| reason.get(name).and_then(Value::as_str);
    let code = text("code")?;
    let own = || GateCode::from_text(code).map(GateCode::what);
    Some((code.to_owned(), text("text").or_else(own).unwrap_or_default().to_owned()))
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
    /// Fields that records show only to tell that they were not asked for.
    pub(super) telling: BTreeSet<&'static str>,
    pub(super) late: u64,
    pub(super) shadow: u64,
    /// The verdicts that ask most to be looked at, of all that were asked for, in that order.
    pub(super) foremost: Vec<Item>,
    /// Approvals that bind and of which no report follows, by root, with their indexes.
    open: BTreeMap<[u8; 32], u64>,
    /// A sentence for each code that is counted apart.
    pub(super) texts: BTreeMap<String, String>,
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
    pub(super) doubts: Tally<(u8, String)>,
    pub(super) verdicts: Tally<String>,
    pub(super) span: Option<(Micros, Micros)>,
    pub(super) sample: Option<Sample>,
}

impl Gathered {
    /// Takes in a record with what verifying it gave, in the order of the log. `erased` are the
    /// ranges of indexes that erasures list; `asked` says that the record answers the query, and is
    /// not only there for completeness.
    pub(crate) fn take(
        &mut self,
        evidence: &Evidence,
        report: &Report,
        erased: &[(u64, u64)],
        asked: bool,
    ) {
        let is_erased = |report: &Report| {
            erased.iter().any(|(from, to)| (*from..=*to).contains(&report.facts.index))
        };
        let erased = is_erased(report);
        self.records += 1;
        self.erased += u64::from(erased);
        self.reduced += u64::from(!asked);
        self.late += u64::from(report.facts.late);
        for step in &report.steps {
            *self.passed.entry(*step).or_default() += 1;
        }
        for found in &report.doubts {
            self.doubts.add((found.step, found.fault.code.as_str().to_owned()));
        }
        self.verdicts.add(report.result.as_str().to_owned());
        for witness in &report.facts.witnesses {
            self.witnesses.add(witness.clone());
        }
        let Some(item) = Item::of(report, erased) else { return };
        self.seal(&item, report);
        self.follow(&item, report, asked);
        if asked {
            self.count(&item);
            self.put_foremost(&item);
        }
        self.know_certificates(evidence, &item);
        self.know_person(evidence, &item);
        self.consider_sample(evidence, &item, asked);
        if !asked || self.items.len() >= ROWS_MAX {
            return;
        }
        for inner in &report.supporting {
            if let Some(support) = Item::of(inner, is_erased(inner)) {
                self.supporting.entry(support.row.index.0).or_insert(support);
            }
        }
        self.items.push(item);
    }

    /// Notes a field that a reduced record shows to tell that it was not asked for.
    pub(crate) fn tell_by(&mut self, field: Option<&'static str>) {
        self.telling.extend(field);
    }

    /// Who sealed it.
    fn seal(&mut self, item: &Item, report: &Report) {
        let row = &item.row;
        if let Some(key) = report.facts.sealed_by {
            // The ledger's own records name the gate that they are about.
            let own = row.stream == StreamId::LEDGER;
            self.gates.add((if own { String::new() } else { row.gate.clone() }, hex(&key)));
        }
    }

    /// Follows approvals that were asked for until something says what became of them: a report, or
    /// the refusal that voids them. Both come later in the log, asked for or not, and name the
    /// approval by its root.
    fn follow(&mut self, item: &Item, report: &Report, asked: bool) {
        let row = &item.row;
        let told_of = match (row.kind, row.outcome.as_str()) {
            (Kind::Verdict, "approve") if row.mode != "shadow" => {
                if let Some(root) = report.facts.root.filter(|_| asked) {
                    self.open.insert(root.0, row.index.0);
                }
                return;
            }
            (Kind::Verdict, "refuse") => &row.parent,
            (Kind::Outcome, _) => &row.verdict,
            _ => return,
        };
        if let Some(root) = from_hex_array::<32>(told_of) {
            self.open.remove(&root);
        }
    }

    /// Indexes of the approvals in the pack of which it holds no report, ascending.
    pub(super) fn unreported(&self) -> Vec<u64> {
        let mut indexes: Vec<u64> = self.open.values().copied().collect();
        indexes.sort_unstable();
        indexes
    }

    fn count(&mut self, item: &Item) {
        let row = &item.row;
        self.kinds.add(row.kind.as_str().to_owned());
        self.span = Some(match self.span {
            None => (row.logged_at, row.logged_at),
            Some((first, last)) => (first.min(row.logged_at), last.max(row.logged_at)),
        });
        match row.kind {
            Kind::Verdict => {
                if row.mode == "shadow" {
                    self.shadow += 1;
                } else {
                    self.outcomes.add(row.outcome.clone());
                }
                for (code, text) in &item.reasons {
                    self.codes.add(code.clone());
                    if self.texts.len() < VALUES_MAX && !self.texts.contains_key(code) {
                        self.texts.insert(code.clone(), text.clone());
                    }
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

    fn put_foremost(&mut self, item: &Item) {
        if item.row.kind != Kind::Verdict {
            return;
        }
        if let Some(known) = self.foremost.iter_mut().find(|known| known.is_like(item)) {
            known.alike += 1;
            known.last_alike = item.row.index.0;
            return;
        }
        let at = self.foremost.partition_point(|known| known.rank() <= item.rank());
        if at < DECISIONS {
            self.foremost.insert(at, item.clone());
            self.foremost.truncate(DECISIONS);
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
                    key: hex(certificate.public_key_bytes()),
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
