//! Task-scoped grants: their terms, and an intent held against them (GRT-1 to GRT-4).

use std::collections::BTreeSet;

use countersign_core::encoding::Micros;
use countersign_core::json;
use serde_json::Value;

use crate::amount::Amount;
use crate::datum::Datum;
use crate::intent::{Class, Intent};
use crate::prefix::is_under;
use crate::reader::{Members, Misread, misread};
use crate::reading::Read;
use crate::reason::GateCode;

/// Bytes of the terms' text: it must fit one field of a record.
const BYTES_MAX: usize = 12 * 1024;
/// Bytes of one text among them.
const TEXT_MAX: usize = 1024;

/// Why terms can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the grant's terms are not as spec/policy.md GRT-1 has them, at {at}: {what}")]
pub struct TermsFault {
    /// Where.
    pub at: String,
    /// What is wrong and what to write instead.
    pub what: String,
}

impl From<Misread> for TermsFault {
    fn from(Misread { at, what }: Misread) -> Self {
        Self { at, what }
    }
}

/// What a grant allows or forbids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Verbs, classes or `*`.
    pub actions: BTreeSet<String>,
    /// Ids, or prefixes that end in `*`.
    pub resources: BTreeSet<String>,
    /// Who or what may be reached.
    pub targets: BTreeSet<String>,
    /// Amounts.
    pub amounts: BTreeSet<Amount>,
}

/// The terms of a grant (GRT-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whose it is: an actor's id.
    pub grantee: String,
    /// What it allows.
    pub allowed: Scope,
    /// What it forbids, whatever it allows.
    pub forbidden: Scope,
    /// The ticket that an intent must name.
    pub ticket: Option<String>,
    /// The session that it is for.
    pub session: Option<String>,
    /// From when.
    pub not_before: Micros,
    /// Until when, that instant not included.
    pub expires_at: Micros,
    /// How many actions it covers.
    pub actions_limit: Option<u64>,
    /// What they may move together.
    pub amount_limit: Option<Amount>,
    /// How many things they may touch together.
    pub count_limit: Option<u64>,
}

/// What was approved under a grant so far, in enforce mode (GRT-4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Actions.
    pub actions: u64,
    /// Sum of their amounts.
    pub amount: Amount,
    /// Sum of their counts; an action that says no count counts as one.
    pub count: u64,
}

impl Used {
    /// With one more action, as a decision names its amount and count. Sums stop at their ends.
    #[must_use]
    pub fn with(self, amount: Option<Amount>, count: Option<u64>) -> Self {
        let amount = self.amount.plus(amount.unwrap_or_default()).unwrap_or(Amount(i64::MAX));
        let count = self.count.saturating_add(count.unwrap_or(1));
        Self { actions: self.actions.saturating_add(1), amount, count }
    }
}

impl Scope {
    fn read(mut members: Members<'_>) -> Result<Self, Misread> {
        let scope = Self {
            actions: members.texts("actions", TEXT_MAX)?,
            resources: members.texts("resources", TEXT_MAX)?,
            targets: members.texts("targets", TEXT_MAX)?,
            amounts: members.amounts("amounts")?,
        };
        members.done()?;
        Ok(scope)
    }

    fn has_action(&self, verb: &str, class: Class) -> bool {
        ["*", verb, class.as_str()].into_iter().any(|name| self.actions.contains(name))
    }

    /// What is under a prefix stays under it, where something is allowed; what is forbidden is
    /// forbidden wherever it leads.
    fn has_resource(&self, id: &str, under: fn(&str, &str) -> bool) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => under(id, prefix),
            None => id == pattern,
        };
        self.resources.iter().any(fits)
    }

    /// What is forbidden stays so in any case.
    fn has_target(&self, target: &str) -> bool {
        self.targets.iter().any(|each| each.eq_ignore_ascii_case(target))
    }
}

impl Terms {
    /// Reads the JSON text of a grant's terms (GRT-1).
    pub fn parse(text: &str) -> Result<Self, TermsFault> {
        if text.len() > BYTES_MAX {
            return Err(misread("", "they have more than 12 KiB: issue more than one grant").into());
        }
        let value = json::parse(text).map_err(|fault| misread("", fault.to_string()))?;
        let mut members = Members::of(&value, "")?;
        let grantee = members.needed("grantee", TEXT_MAX)?;
        let mut scope = |name| members.inner(name)?.map_or(Ok(Scope::default()), Scope::read);
        let (allowed, forbidden) = (scope("allowed")?, scope("forbidden")?);
        let (ticket, session) =
            (members.text("ticket", TEXT_MAX)?, members.text("session", TEXT_MAX)?);
        let mut time = |name| {
            let what = || misread(name, "write a time such as 2026-11-23T08:00:00.000000Z");
            Micros::parse(&members.needed(name, 27)?).ok_or_else(what)
        };
        let (not_before, expires_at) = (time("not_before")?, time("expires_at")?);
        if not_before >= expires_at {
            return Err(misread("expires_at", "write a time after not_before").into());
        }
        let mut terms = Self {
            grantee,
            allowed,
            forbidden,
            ticket,
            session,
            not_before,
            expires_at,
            actions_limit: None,
            amount_limit: None,
            count_limit: None,
        };
        if let Some(limits) = members.inner("limits")? {
            terms.limits(limits)?;
        }
        members.done()?;
        // KIND-9: the record's own list of names is closed and complete.
        json::Object::exact(&value, countersign_core::kinds::TERMS)
            .map_err(|fault| misread("", fault.to_string()))?;
        Ok(terms)
    }

    fn limits(&mut self, mut members: Members<'_>) -> Result<(), Misread> {
        let mut whole = |name| {
            let what = || misread(format!("limits.{name}"), "write an integer or null");
            members.get(name).map(|n| json::as_u53(n).ok_or_else(what)).transpose()
        };
        (self.actions_limit, self.count_limit) = (whole("actions")?, whole("count")?);
        let amount = members.get("amount").map(|value: &Value| {
            let amount = value.as_str().and_then(Amount::parse);
            let what = "write a decimal text such as \"500.00\", or null";
            amount.ok_or_else(|| misread("limits.amount", what))
        });
        self.amount_limit = amount.transpose()?;
        members.done()
    }

    /// Holds an intent against the terms (GRT-3): the first of these in order is the reason.
    pub(crate) fn check(
        &self,
        intent: &Intent,
        class: Class,
        read: &Read,
        used: &Used,
        now: Micros,
    ) -> Result<(), GateCode> {
        let actor = intent.actor().map(|actor| actor.id.as_str());
        if actor != Some(self.grantee.as_str()) {
            return Err(GateCode::GrantOtherActor);
        }
        if self.session.is_some() && self.session.as_deref() != intent.session() {
            return Err(GateCode::GrantOtherSession);
        }
        if self.ticket.is_some() && self.ticket != intent.task().ticket {
            return Err(GateCode::GrantOtherTicket);
        }
        if now < self.not_before {
            return Err(GateCode::GrantNotYet);
        }
        if now >= self.expires_at {
            return Err(GateCode::GrantExpired);
        }
        let resource = intent.resource().map_or("", |resource| resource.id.as_str());
        let forbidden = &self.forbidden;
        if forbidden.has_action(intent.verb(), class)
            || forbidden.has_resource(resource, |id, prefix| id.starts_with(prefix))
            || read.targets.iter().any(|target| forbidden.has_target(target))
            || read.amount.is_some_and(|amount| forbidden.amounts.contains(&amount))
        {
            return Err(GateCode::GrantForbids);
        }
        let allowed = &self.allowed;
        if !allowed.has_action(intent.verb(), class) || !allowed.has_resource(resource, is_under) {
            return Err(GateCode::GrantNotAllowed);
        }
        if self.within_limits(read, used) { Ok(()) } else { Err(GateCode::GrantLimit) }
    }

    fn within_limits(&self, read: &Read, used: &Used) -> bool {
        let actions = used.actions.checked_add(1);
        let amount = used.amount.plus(read.amount.unwrap_or_default());
        let count = used.count.checked_add(read.count.unwrap_or(1));
        // A sum that is out of range is past every limit.
        let whole = |limit: Option<u64>, sum: Option<u64>| {
            limit.is_none_or(|limit| sum.is_some_and(|sum| sum <= limit))
        };
        whole(self.actions_limit, actions)
            && whole(self.count_limit, count)
            && self.amount_limit.is_none_or(|limit| amount.is_some_and(|sum| sum <= limit))
    }

    /// What policies see of the grant.
    pub(crate) fn context(&self, id: &str, used: &Used) -> Datum {
        let mut members = vec![
            ("id", Datum::text(id)),
            ("targets", Datum::texts(&self.allowed.targets)),
            (
                "amounts",
                Datum::Set(self.allowed.amounts.iter().copied().map(Datum::decimal).collect()),
            ),
        ];
        members.extend(self.ticket.iter().map(|ticket| ("ticket", Datum::text(ticket))));
        if let Some(limit) = self.actions_limit {
            let left = i64::try_from(limit.saturating_sub(used.actions)).unwrap_or(i64::MAX);
            members.push(("actions_left", Datum::Long(left)));
        }
        if let Some(limit) = self.amount_limit {
            let left = limit.minus(used.amount).unwrap_or_default();
            members.push(("amount_left", Datum::decimal(left)));
        }
        Datum::record(members)
    }
}
