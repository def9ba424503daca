//! What a record itself contradicts in the context and entities that its engine was given (POL-10).
//!
//! A gate that lies to its engine decides by its policy, and wrongly. What the record's other fields
//! say is compared here; a withheld field gives nothing to compare with.

use std::collections::BTreeSet;

use countersign_core::encoding::Micros;
use countersign_core::hash::RecordRoot;
use countersign_core::record::View;
use serde_json::Value;

use crate::datum::{Datum, NAMESPACE, Uid};
use crate::decide::{Outcome, principal_type, seconds};
use crate::fold::is_blank;
use crate::intent::ActorKind;
use crate::schema::Action;

/// Fields that a context is compared with, and that a file may withhold. Those without which nothing
/// can be made again at all are not among them.
pub(crate) const COMPARED: [&str; 7] =
    ["approvals", "consent", "evaluated_at", "loss_class", "parameters", "task", "urgency"];

/// How far a calendar may be from UTC, in minutes (DIR-1).
const OFFSET_MAX: i64 = 1440;
const DAY: i64 = 1440;

/// The first member that the record's own fields contradict, or the approvals that it rests on.
pub(crate) fn contradicted(
    verdict: &View,
    approvals: &[(RecordRoot, &View)],
    action: &Action,
) -> Option<&'static str> {
    let record = Record { verdict, action };
    let found = record.action().or_else(|| record.said()).or_else(|| record.parameters());
    let found = found.or_else(|| record.clock()).or_else(|| record.entities());
    found.or_else(|| record.approvals(approvals))
}

struct Record<'a> {
    verdict: &'a View,
    action: &'a Action,
}

impl Record<'_> {
    fn is_shown(&self, field: &str) -> bool {
        !self.verdict.is_withheld(field)
    }

    /// A member of a field; none where it is null or absent.
    fn member(&self, field: &str, name: &str) -> Option<&Value> {
        self.verdict.get(field)?.get(name).filter(|value| !value.is_null())
    }

    /// A text of a field's member.
    fn text(&self, field: &str, name: &str) -> Option<Datum> {
        self.member(field, name)?.as_str().map(Datum::text)
    }

    fn in_context(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self.verdict.get("context")?, |inner, name| inner.get(name))
    }

    /// Whether the context has exactly this there, spelled as a gate spells it.
    fn has(&self, path: &[&str], wanted: Option<&Datum>) -> bool {
        match (self.in_context(path), wanted) {
            (None, None) => true,
            (Some(found), Some(wanted)) => Datum::from_json(found).as_ref() == Some(wanted),
            _ => false,
        }
    }

    /// What the schema and the record say of the action.
    fn action(&self) -> Option<&'static str> {
        let reading = &self.action.reading;
        let destructive = self.verdict.get("destructive").and_then(Value::as_bool);
        let verb = self.verdict.str("action").map(Datum::text);
        let irreversible = Datum::Bool(reading.irreversible);
        if !self.has(&["verb"], verb.as_ref()) {
            Some("context.verb")
        } else if !self.has(&["destructive"], destructive.map(Datum::Bool).as_ref()) {
            Some("context.destructive")
        } else if reading.destructive && destructive != Some(true) {
            Some("destructive")
        } else if !self.has(&["irreversible"], Some(&irreversible)) {
            Some("context.irreversible")
        } else {
            None
        }
    }

    /// What was asked: session, model, urgency, consent, task.
    fn said(&self) -> Option<&'static str> {
        let field = |name: &str| self.verdict.str(name).map(Datum::text);
        // Texts of nothing that is seen are left out (INT-3).
        let seen = |name: &str| {
            let text = self.member("task", name).and_then(Value::as_str);
            text.filter(|text| !is_blank(text))
        };
        let justified = Datum::Bool(seen("justification").is_some());
        let rows: [(&str, &[&str], Option<Datum>, &'static str); 8] = [
            ("actor", &["session"], self.text("actor", "session"), "context.session"),
            ("actor", &["model"], self.text("actor", "model"), "context.model"),
            ("urgency", &["urgency"], field("urgency"), "context.urgency"),
            ("consent", &["consent"], field("consent"), "context.consent"),
            ("task", &["task", "ticket"], seen("ticket").map(Datum::text), "context.task.ticket"),
            (
                "task",
                &["task", "scope_digest"],
                seen("scope_digest").map(Datum::text),
                "context.task.scope_digest",
            ),
            ("task", &["task", "justified"], Some(justified), "context.task.justified"),
            ("task", &["grant", "id"], self.text("task", "grant"), "context.grant.id"),
        ];
        let wrong = |(field, path, wanted, _): &&(&str, &[&str], Option<Datum>, &'static str)| {
            self.is_shown(field) && !self.has(path, wanted.as_ref())
        };
        if let Some((_, _, _, member)) = rows.iter().find(wrong) {
            return Some(member);
        }
        // GRT-3: a grant for a ticket is that ticket's.
        let ticket = self.text("task", "ticket");
        let other = self.in_context(&["grant", "ticket"]).is_some()
            && !self.has(&["grant", "ticket"], ticket.as_ref());
        (self.is_shown("task") && other).then_some("context.grant.ticket")
    }

    /// What the schema reads from the parameters (POL-7).
    fn parameters(&self) -> Option<&'static str> {
        if !self.is_shown("parameters") {
            return None;
        }
        let parameters = self.verdict.get("parameters").and_then(Value::as_object);
        let Ok(read) = self.action.reading.read(parameters) else { return Some("parameters") };
        let count = read.count.map(|n| Datum::Long(i64::try_from(n).unwrap_or(i64::MAX)));
        let rows = [
            ("targets", Some(Datum::texts(&read.targets)), "context.targets"),
            ("facts", Some(Datum::texts(&read.facts)), "context.facts"),
            ("amount", read.amount.map(Datum::decimal), "context.amount"),
            ("currency", read.currency.as_deref().map(Datum::text), "context.currency"),
            ("count", count, "context.count"),
        ];
        let wrong = rows.iter().find(|(name, wanted, _)| !self.has(&[name], wanted.as_ref()));
        wrong.map(|(_, _, member)| *member)
    }

    /// What time it was (POL-11). The calendar is the directory's, so that any that may be will do.
    fn clock(&self) -> Option<&'static str> {
        if !self.is_shown("evaluated_at") {
            return None;
        }
        let at = self.verdict.str("evaluated_at").and_then(Micros::parse);
        let now = at.map(|at| Datum::Made("datetime", seconds(at)));
        if !self.has(&["now"], now.as_ref()) {
            return Some("context.now");
        }
        let minutes = i64::try_from(at?.seconds() / 60).unwrap_or(i64::MAX / 2);
        let number = |name| self.in_context(&[name]).and_then(Value::as_i64);
        let (weekday, minute) = (number("weekday")?, number("minute_of_day")?);
        if !(0..DAY).contains(&minute) {
            return Some("context.minute_of_day");
        }
        let today = minutes.div_euclid(DAY);
        let is_near = |day: &i64| {
            let local = day.saturating_mul(DAY).saturating_add(minute);
            local.abs_diff(minutes) <= OFFSET_MAX.unsigned_abs()
        };
        // 1970-01-01 was a Thursday.
        let mut days = (today.saturating_sub(2)..=today.saturating_add(2)).filter(is_near);
        let fits = days.any(|day| (day.saturating_add(3)).rem_euclid(7) + 1 == weekday);
        (!fits).then_some("context.weekday")
    }

    /// Who acts, for whom, and where the resource is.
    fn entities(&self) -> Option<&'static str> {
        let named = |field: &str, name: &str| self.member(field, name).and_then(Value::as_str);
        let (kind, id) = (named("actor", "kind")?, named("actor", "id")?);
        let kind = ActorKind::from_text(kind)?;
        let principal = self.entity(&Uid::new(principal_type(kind), id))?;
        let class = named("actor", "class");
        let of_class = match kind {
            ActorKind::Human => class.is_none(),
            ActorKind::Agent | ActorKind::Service => {
                parents(principal, "AgentClass").into_iter().eq(class)
            }
        };
        if !of_class {
            return Some("actor.class");
        }
        if let Some(person) = named("actor", "on_behalf_of")
            && self.entity(&Uid::new("Human", person)).is_none()
        {
            return Some("actor.on_behalf_of");
        }
        let (kind, id) = (named("resource", "type")?, named("resource", "id")?);
        let resource = self.entity(&Uid::new(kind, id))?;
        let place = |name: &str| resource.get("attrs")?.get(name)?.get("__entity")?.get("id");
        for (attribute, member, path) in [
            ("env", "environment", "resource.environment"),
            ("domain", "domain", "resource.domain"),
        ] {
            if place(attribute) != self.member("resource", member) {
                return Some(path);
            }
        }
        None
    }

    /// Who released it: the people in the context are those whose approvals the record names.
    fn approvals(&self, supporting: &[(RecordRoot, &View)]) -> Option<&'static str> {
        let people: BTreeSet<&str> =
            self.in_context(&["approvals", "by"]).map_or_else(BTreeSet::new, |by| {
                by.as_array().into_iter().flatten().filter_map(id_of).collect()
            });
        let count = self.in_context(&["approvals", "count"]).and_then(Value::as_u64);
        if count != Some(people.len() as u64) {
            return Some("context.approvals.count");
        }
        let roles: BTreeSet<&str> = people
            .iter()
            .filter_map(|id| self.entity(&Uid::new("Human", id)))
            .flat_map(|person| parents(person, "Role"))
            .collect();
        let roles = roles.into_iter().map(|role| Datum::entity("Role", role)).collect();
        if !self.has(&["approvals", "distinct_roles"], Some(&Datum::Set(roles))) {
            return Some("context.approvals.distinct_roles");
        }
        if self.verdict.get("parent").is_none_or(Value::is_null) {
            return (!people.is_empty()).then_some("context.approvals.count");
        }
        if !self.is_shown("approvals") {
            return None;
        }
        let named: BTreeSet<&str> = self
            .verdict
            .get("approvals")
            .and_then(Value::as_array)
            .map_or_else(BTreeSet::new, |all| all.iter().filter_map(Value::as_str).collect());
        // A refuse rests on no approval, and need not name those that came too late to matter.
        let refused = self.verdict.str("outcome") == Some(Outcome::Refuse.as_str());
        if refused && named.is_empty() {
            return None;
        }
        if named.len() != people.len() {
            return Some("context.approvals.count");
        }
        let theirs = supporting.iter().filter(|(root, _)| named.contains(root.hex().as_str()));
        let mut ids = theirs.filter_map(|(_, view)| view.get("approver")?.get("id")?.as_str());
        ids.any(|id| !people.contains(id)).then_some("context.approvals.by")
    }

    fn entity(&self, uid: &Uid) -> Option<&Value> {
        let type_name = format!("{NAMESPACE}::{}", uid.type_name);
        let is_it = |entity: &&Value| {
            let of = |name: &str| entity.get("uid").and_then(|found| found.get(name)?.as_str());
            of("type") == Some(&type_name) && of("id") == Some(&uid.id)
        };
        self.verdict.get("entities")?.as_array()?.iter().find(is_it)
    }
}

/// The id of an entity in its explicit form.
fn id_of(value: &Value) -> Option<&str> {
    value.get("__entity")?.get("id")?.as_str()
}

/// What an entity is in, of one type.
fn parents<'v>(entity: &'v Value, type_name: &str) -> Vec<&'v str> {
    let full = format!("{NAMESPACE}::{type_name}");
    let all = entity.get("parents").and_then(Value::as_array).into_iter().flatten();
    let of_type = all.filter(|uid| uid.get("type").and_then(Value::as_str) == Some(&full));
    of_type.filter_map(|uid| uid.get("id")?.as_str()).collect()
}
