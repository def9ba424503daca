//! Selective disclosure: a file that shows less, under the same root, seal and receipt (EVID-11 to
//! EVID-16), and what nobody can check of it any more.
//!
//! A withheld field's own leaf is salted. Other hashes and signatures over the same value are not:
//! with them, and a list of likely values, whoever has the file finds out which one it was. So they
//! go along with what is withheld ([`closure`], ADR 016).

mod repeated;

use std::collections::BTreeSet;

use crate::codes::{Code, Fault};
use crate::entry::Entry;
use crate::evidence::Evidence;
use crate::kinds::Kind;
use crate::record::View;

pub use repeated::{Place, Repeated};

/// Fields of an intent or verdict that go into its action digest (DIG-3), beside the nonce and what
/// is never withheld.
pub const DIGESTED: [&str; 4] = ["action", "actor", "parameters", "resource"];

/// Fields of a supervise verdict that stand in the text that people are shown before they approve
/// (APR-5), beside what is never withheld.
pub const DISPLAYED: [&str; 12] = [
    "action",
    "action_class",
    "actor",
    "destructive",
    "loss_class",
    "parameters",
    "policy",
    "reasons",
    "requires",
    "resource",
    "task",
    "urgency",
];

/// Fields of an opened stream's record that its name and its certificate's digest are over (STR-1).
const STREAM_NAMED: [&str; 3] = ["gate_key", "subject_gate", "subject_tenant"];

/// Which fields of an evidence file stay, in its record and in those that it rests on.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'a> {
    /// These, and those that are never withheld.
    Keep(&'a [&'a str]),
    /// All but these.
    Withhold(&'a [&'a str]),
}

impl Selection<'_> {
    fn withholds(&self, name: &str) -> bool {
        match self {
            Self::Keep(names) => !names.contains(&name),
            Self::Withhold(names) => names.contains(&name),
        }
    }
}

/// A record, and the names of its kind that it withholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The record's kind.
    pub kind: Kind,
    /// What it withholds.
    pub names: BTreeSet<&'static str>,
}

impl Withheld {
    fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.names.contains(name))
    }
}

/// The same records with what has to go along withheld too, so that no hash and no signature that
/// they still show confirms a guess at what they withhold (EVID-14).
///
/// The records are those that one reader gets to see of one action: of a file, or of a pack. No name
/// of REC-8 is ever added.
pub fn closure(mut records: Vec<Withheld>) -> Vec<Withheld> {
    let of_action = |names: &[&str]| {
        let mut asked = records.iter().filter(|r| matches!(r.kind, Kind::Intent | Kind::Verdict));
        asked.any(|record| record.any(names))
    };
    let (digested, displayed) = (of_action(&DIGESTED), of_action(&DISPLAYED));
    for record in &mut records {
        let along: &[&'static str] = match record.kind {
            // Without its nonce the digest, which is never withheld, is over 16 unknown bytes.
            Kind::Intent | Kind::Verdict if digested => &["nonce"],
            // The text has no nonce of its own.
            Kind::Approval if displayed => &["displayed_digest"],
            // What was done may be told by a digest that its teller made without a nonce.
            Kind::Outcome if digested || record.any(&["detail"]) => &["effect_digest"],
            Kind::Stream if record.any(&STREAM_NAMED) => &["certificate", "subject_stream"],
            _ => &[],
        };
        record.names.extend(along);
        // One public key and the rest of what was signed: a signature tells a right guess.
        if record.any(signed(record.kind)) {
            record.names.insert("signature");
        }
    }
    records
}

/// Fields that the check of a person's signature needs (KIND-15, KIND-16), beside the signature and
/// what is never withheld.
fn signed(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Approval => &["approver", "displayed_digest", "justification", "nonce"],
        Kind::Policy => &["digest", "owner", "policy_id", "version"],
        Kind::Grant => &["owner", "terms"],
        Kind::Erasure => &["entries", "reason", "requested_by"],
        _ => &[],
    }
}

impl Evidence {
    /// The same evidence with less shown: what is selected, and what has to go along with it
    /// ([`closure`]), even where the selection would keep it. Nothing that is withheld already can
    /// be shown again.
    ///
    /// # Errors
    ///
    /// `WITHHOLD_NEVER` where a name that is to be withheld is never withheld in one of the file's
    /// records; `WITHHOLD_UNKNOWN` where no record of the file has a field of that name, or none
    /// shows it; `KIND_UNKNOWN`, `ENTRY_LENGTH` and the like where the file's records can't be
    /// read.
    pub fn withhold(&self, selection: &Selection<'_>) -> Result<Self, Fault> {
        let views = views(self)?;
        let (Selection::Keep(names) | Selection::Withhold(names)) = selection;
        for name in *names {
            known(name, &views, matches!(selection, Selection::Withhold(_)))?;
        }
        let chosen = |view: &View| {
            let names = view.kind().fields().iter().map(|field| field.name);
            let goes = |name: &&str| {
                view.is_withheld(name)
                    || (selection.withholds(name) && !view.kind().never_withheld(name))
            };
            Withheld { kind: view.kind(), names: names.filter(goes).collect() }
        };
        Ok(self.without(&closure(views.iter().map(chosen).collect())))
    }

    /// The same evidence without what has to go along with what it withholds already ([`closure`]).
    ///
    /// # Errors
    ///
    /// As of [`Evidence::withhold`], where the file's records can't be read.
    pub fn closed(&self) -> Result<Self, Fault> {
        self.withhold(&Selection::Withhold(&[]))
    }

    /// What `less`, made of this evidence by [`Evidence::withhold`], withholds although the selection
    /// did not ask for it: each name once, with the kind of its record.
    ///
    /// # Errors
    ///
    /// As of [`Evidence::withhold`], where a file's records can't be read.
    pub fn taken_along(
        &self,
        less: &Self,
        selection: &Selection<'_>,
    ) -> Result<BTreeSet<(Kind, &'static str)>, Fault> {
        let mut along = BTreeSet::new();
        for (before, after) in views(self)?.iter().zip(&views(less)?) {
            let new = after.withheld().filter(|name| !before.is_withheld(name));
            let unasked = new.filter(|name| !selection.withholds(name));
            along.extend(unasked.map(|name| (after.kind(), name)));
        }
        Ok(along)
    }

    /// The same with these names withheld, record by record.
    fn without(&self, withheld: &[Withheld]) -> Self {
        let mut out = self.clone();
        let all = std::iter::once(&mut out.record);
        let all = all.chain(out.supporting.iter_mut().map(|of| &mut of.record));
        for (record, withheld) in all.zip(withheld) {
            for (field, spec) in record.fields.iter_mut().zip(withheld.kind.fields()) {
                if withheld.names.contains(spec.name) {
                    *field = field.withheld();
                }
            }
        }
        out
    }
}

/// The values of a file's records: its own, then those that it rests on, in the file's order.
fn views(evidence: &Evidence) -> Result<Vec<View>, Fault> {
    std::iter::once(evidence).chain(&evidence.supporting).map(view_of).collect()
}

fn view_of(evidence: &Evidence) -> Result<View, Fault> {
    let kind = match evidence.record.type_shown() {
        Some(name) => Kind::from_type(&name).ok_or(Code::KindUnknown)?,
        None => Entry::from_bytes(&evidence.entry)?.kind,
    };
    // Every name in its place, so that a position says which field it is.
    evidence.record.view(kind)
}

/// Whether a name may be chosen: some record shows it, and where it is to go, none needs it.
fn known(name: &str, views: &[View], goes: bool) -> Result<(), Fault> {
    let mut shown = false;
    for view in views {
        let specs = view.kind().fields().iter().filter(|spec| spec.name == name);
        for spec in specs {
            if goes && view.kind().never_withheld(name) {
                return Err(Code::WithholdNever.at_field(spec.name));
            }
            shown |= !view.is_withheld(name);
        }
    }
    // The name is the caller's own text, so the fault can't hold it; who calls names it.
    if shown { Ok(()) } else { Err(Code::WithholdUnknown.into()) }
}

/// What can't be checked of a record of this kind where this name is withheld; `None` where no
/// check needs it (EVID-13).
pub fn unchecked_without(kind: Kind, name: &str) -> Option<&'static str> {
    const DIGEST: &str = "that the action digest is the action's";
    const PERSON: &str = "the person's signature";
    const ENOUGH: &str = "whether the people who approved were enough and the right ones";
    const REPLAY: &str = "whether the policy decides the same again";
    const STREAM: &str = "that the stream is the gate's";
    Some(match (kind, name) {
        (_, name) if kind.never_withheld(name) => "where the record belongs",
        (Kind::Verdict | Kind::Intent, "actor" | "resource" | "parameters") => {
            "that the action digest is the action's, and whether the policy decides the same again"
        }
        (Kind::Verdict | Kind::Intent, "action" | "action_digest" | "nonce") => DIGEST,
        (Kind::Verdict, "requires" | "approvals") => ENOUGH,
        (Kind::Verdict, "permit") => {
            "which outcome used the permit, and whether a void was in time"
        }
        (Kind::Verdict, "policy") => "under which policy version it was decided",
        (Kind::Verdict, "context" | "entities" | "reasons" | "errors" | "task") => REPLAY,
        (Kind::Approval, "approver") => {
            "the person's signature, and whether the people who approved were enough"
        }
        (Kind::Approval, "nonce" | "displayed_digest" | "justification" | "signature")
        | (Kind::Policy, "digest" | "policy_id" | "version" | "owner" | "signature")
        | (Kind::Grant, "terms" | "owner" | "signature")
        | (Kind::Erasure, "reason" | "requested_by" | "signature") => PERSON,
        (Kind::Erasure, "entries") => "the person's signature, and which records were erased",
        (Kind::Outcome, "action_digest") => "that what was done is what was asked",
        (Kind::Outcome, "match") => "whether the outcome is an orphan",
        (Kind::Stream, "subject_stream" | "subject_tenant" | "subject_gate" | "gate_key") => STREAM,
        (Kind::Genesis, "origin" | "ledger_key") => "that the log is the one it says",
        (Kind::Notice, "about" | "detail") => "how long a silence was promised",
        _ => return None,
    })
}
