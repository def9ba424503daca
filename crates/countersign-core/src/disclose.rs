//! Selective disclosure: a file that shows less, under the same root, seal and receipt (EVID-11 to
//! EVID-13), and what nobody can check of it any more.

use crate::codes::{Code, Fault};
use crate::entry::Entry;
use crate::evidence::Evidence;
use crate::kinds::Kind;
use crate::record::{DisclosedRecord, Field};

/// Which fields of an evidence file stay, in its record and in those that it rests on.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'a> {
    /// These, and those that are never withheld.
    Keep(&'a [&'a str]),
    /// All but these.
    Withhold(&'a [&'a str]),
}

impl Evidence {
    /// The same evidence with less shown. Nothing that is withheld already can be shown again.
    ///
    /// # Errors
    ///
    /// `WITHHOLD_NEVER` where a name that is to be withheld is never withheld in one of the file's
    /// records; `WITHHOLD_UNKNOWN` where no record of the file has a field of that name, or none
    /// shows it; `KIND_UNKNOWN`, `ENTRY_LENGTH` and the like where the file's records can't be
    /// read.
    pub fn withhold(&self, selection: &Selection<'_>) -> Result<Self, Fault> {
        let kinds = std::iter::once(self).chain(&self.supporting).map(kind_of);
        let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
        let records = std::iter::once(self).chain(&self.supporting).map(|of| &of.record);
        let records: Vec<(Kind, &DisclosedRecord)> = kinds.iter().copied().zip(records).collect();
        let (Selection::Keep(names) | Selection::Withhold(names)) = selection;
        for name in *names {
            known(name, &records, matches!(selection, Selection::Withhold(_)))?;
        }
        let mut out = self.clone();
        let all = std::iter::once(&mut out.record);
        let all = all.chain(out.supporting.iter_mut().map(|of| &mut of.record));
        for (record, kind) in all.zip(kinds) {
            for (field, spec) in record.fields.iter_mut().zip(kind.fields()) {
                let goes = match selection {
                    Selection::Keep(names) => !names.contains(&spec.name),
                    Selection::Withhold(names) => names.contains(&spec.name),
                };
                if goes && !kind.never_withheld(spec.name) {
                    *field = field.withheld();
                }
            }
        }
        Ok(out)
    }
}

fn kind_of(evidence: &Evidence) -> Result<Kind, Fault> {
    let kind = match evidence.record.type_shown() {
        Some(name) => Kind::from_type(&name).ok_or(Code::KindUnknown)?,
        None => Entry::from_bytes(&evidence.entry)?.kind,
    };
    // Every name in its place, so that a position says which field it is.
    evidence.record.view(kind)?;
    Ok(kind)
}

/// Whether a name may be chosen: some record shows it, and where it is to go, none needs it.
fn known(name: &str, records: &[(Kind, &DisclosedRecord)], goes: bool) -> Result<(), Fault> {
    let mut shown = false;
    for (kind, record) in records {
        let fields = kind.fields().iter().zip(&record.fields);
        for (spec, field) in fields.filter(|(spec, _)| spec.name == name) {
            if goes && kind.never_withheld(name) {
                return Err(Code::WithholdNever.at_field(spec.name));
            }
            shown |= matches!(field, Field::Shown(_));
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
