//! Intents: what an enforcement point says somebody is about to do (INT-1).

use countersign_core::action::canonical;
use countersign_core::json;
use countersign_core::kinds::is_uuid_v7;
use serde_json::{Map, Value, json};

use crate::fold::is_seen;
use crate::reader::{Members, Misread, misread};
use crate::reason::{GateCode, Reason};

/// Bytes that an intent may have (INT-1).
const BYTES_MAX: usize = 48 * 1024;
/// Bytes of one text of it, escapes included.
const TEXT_MAX: usize = 256;
/// Bytes of its justification, escapes included.
const JUSTIFICATION_MAX: usize = 4096;
/// Bytes of its parameters: they must fit one field of a record beside everything else.
const PARAMETERS_MAX: usize = 15 * 1024;

/// The class of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Looks, and changes nothing.
    Read,
    /// Makes something new.
    Create,
    /// Changes what is there.
    Modify,
    /// Takes away what is there.
    Delete,
    /// Tells somebody something.
    Send,
    /// Hands something to an authority.
    File,
    /// Agrees to something in somebody's name.
    Approve,
    /// Moves money.
    MoveMoney,
    /// Changes who may do what.
    Permissions,
    /// Runs something.
    Execute,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 10] = [
        Self::Read,
        Self::Create,
        Self::Modify,
        Self::Delete,
        Self::Send,
        Self::File,
        Self::Approve,
        Self::MoveMoney,
        Self::Permissions,
        Self::Execute,
    ];

    /// As records and schemas write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Modify => "modify",
            Self::Delete => "delete",
            Self::Send => "send",
            Self::File => "file",
            Self::Approve => "approve",
            Self::MoveMoney => "move_money",
            Self::Permissions => "permissions",
            Self::Execute => "execute",
        }
    }

    /// The class with this name.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

/// What an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActorKind {
    /// A model that acts by itself.
    Agent,
    /// A person.
    Human,
    /// A program.
    Service,
}

impl ActorKind {
    /// As records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Human => "human",
            Self::Service => "service",
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        [Self::Agent, Self::Human, Self::Service].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Who wants to act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// What it says it is; the directory must agree.
    pub kind: ActorKind,
    /// Its id in the directory.
    pub id: String,
    /// The session that it acts in.
    pub session: Option<String>,
    /// The model that it is.
    pub model: Option<String>,
    /// The person for whom it acts.
    pub on_behalf_of: Option<String>,
}

/// On what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its entity type in the schema, without the namespace.
    pub type_name: String,
    /// Its id in the directory.
    pub id: String,
    /// What the caller says of it; the directory must agree (INT-2).
    pub environment: Option<String>,
    /// What the caller says of it; the directory must agree (INT-2).
    pub domain: Option<String>,
}

/// What for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// The ticket.
    pub ticket: Option<String>,
    /// The grant under which it acts.
    pub grant: Option<String>,
    /// A digest of the task's scope.
    pub scope_digest: Option<String>,
    /// Why, in words.
    pub justification: Option<String>,
    /// The source repository.
    pub repository: Option<String>,
    /// Its branch.
    pub branch: Option<String>,
}

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    pub(crate) action_id: Option<String>,
    pub(crate) verb: String,
    pub(crate) class: Option<Class>,
    pub(crate) destructive: Option<bool>,
    pub(crate) actor: Option<Actor>,
    pub(crate) resource: Option<Resource>,
    pub(crate) parameters: Option<Map<String, Value>>,
    pub(crate) task: Task,
    pub(crate) urgency: Option<String>,
    pub(crate) consent: Option<String>,
}

impl Intent {
    /// Reads an intent (INT-1). What is wrong with it is a reason to refuse.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        if text.len() > BYTES_MAX {
            return Err(invalid("the intent has more than 48 KiB: send large values as digests"));
        }
        let value = json::parse(text).map_err(|fault| invalid(fault.to_string()))?;
        let mut members = Members::of(&value, "")?;
        let intent = Self {
            action_id: members.text("action_id", TEXT_MAX)?,
            verb: members.needed("verb", TEXT_MAX)?,
            class: Some(class(&mut members)?),
            destructive: flag(&mut members)?,
            actor: members.inner("actor")?.map(actor).transpose()?,
            resource: members.inner("resource")?.map(resource).transpose()?,
            parameters: parameters(&mut members)?,
            task: members.inner("task")?.map(task).transpose()?.unwrap_or_default(),
            urgency: members.text("urgency", TEXT_MAX)?,
            consent: members.text("consent", TEXT_MAX)?,
        };
        members.done()?;
        if intent.action_id.as_deref().is_some_and(|id| !is_uuid_v7(id)) {
            return Err(misread("action_id", "write a lower-case UUID of version 7").into());
        }
        if intent.actor.is_none() {
            return Err(misread("actor", "this is needed: say who acts").into());
        }
        if intent.resource.is_none() {
            return Err(misread("resource", "this is needed: say on what").into());
        }
        // INT-4: names are compared to the letter, and read by people.
        if let Some((at, _)) = intent.names().into_iter().find(|(_, name)| !is_seen(name)) {
            return Err(misread(at, "remove what nobody sees of this name").into());
        }
        Ok(intent)
    }

    /// What it names, and where it does.
    fn names(&self) -> Vec<(&'static str, &str)> {
        let actor = self.actor.as_ref();
        let resource = self.resource.as_ref();
        let names = [
            ("verb", Some(&self.verb)),
            ("actor.id", actor.map(|actor| &actor.id)),
            ("actor.session", actor.and_then(|actor| actor.session.as_ref())),
            ("actor.model", actor.and_then(|actor| actor.model.as_ref())),
            ("actor.on_behalf_of", actor.and_then(|actor| actor.on_behalf_of.as_ref())),
            ("resource.type", resource.map(|resource| &resource.type_name)),
            ("resource.id", resource.map(|resource| &resource.id)),
            ("resource.environment", resource.and_then(|resource| resource.environment.as_ref())),
            ("resource.domain", resource.and_then(|resource| resource.domain.as_ref())),
            ("task.grant", self.task.grant.as_ref()),
        ];
        names.into_iter().filter_map(|(at, name)| Some((at, name?.as_str()))).collect()
    }

    /// What can be read of an intent that [`Intent::parse`] refuses, so that the refusal is recorded
    /// with it. It is never judged: what it lacks is null in the record.
    pub fn salvage(text: &str) -> Self {
        let value = if text.len() > BYTES_MAX { None } else { json::parse(text).ok() };
        let value = value.filter(Value::is_object).unwrap_or_else(|| Value::Object(Map::new()));
        let inner = |name: &str| value.get(name).unwrap_or(&Value::Null);
        // Whatever can be read by itself is kept; `done` is not asked, so that a surplus member does
        // not cost the rest.
        let read = |name: &'static str| {
            Members::of(&value, "").ok().and_then(|mut m| m.text(name, TEXT_MAX).ok()).flatten()
        };
        let of = |name: &str| Members::of(inner(name), name).ok();
        Self {
            action_id: read("action_id").filter(|id| is_uuid_v7(id)),
            verb: read("verb").unwrap_or_default(),
            class: inner("class").as_str().and_then(Class::from_text),
            destructive: inner("destructive").as_bool(),
            actor: of("actor").and_then(|members| actor(members).ok()),
            resource: of("resource").and_then(|members| resource(members).ok()),
            parameters: Members::of(&value, "")
                .ok()
                .and_then(|mut m| parameters(&mut m).ok())
                .flatten(),
            task: of("task").and_then(|members| task(members).ok()).unwrap_or_default(),
            urgency: read("urgency"),
            consent: read("consent"),
        }
    }

    /// The intent with the environment and domain that a decision took from the directory. A
    /// supervised action is decided again with it, so that its digest can't drift (INT-2).
    #[must_use]
    pub fn settled(&self, decision: &crate::Decision) -> Self {
        let mut settled = self.clone();
        if let Some(resource) = &mut settled.resource {
            resource.environment =
                resource.environment.take().or_else(|| decision.environment.clone());
            resource.domain = resource.domain.take().or_else(|| decision.domain.clone());
        }
        settled
    }

    /// The intent as JSON text, members sorted: equal intents have equal texts, and
    /// [`Intent::parse`] reads it again.
    pub fn to_json(&self) -> String {
        let actor = self.actor.as_ref().map(|actor| {
            json!({
                "kind": actor.kind.as_str(),
                "id": actor.id,
                "session": actor.session,
                "model": actor.model,
                "on_behalf_of": actor.on_behalf_of,
            })
        });
        let resource = self.resource.as_ref().map(|resource| {
            json!({
                "type": resource.type_name,
                "id": resource.id,
                "environment": resource.environment,
                "domain": resource.domain,
            })
        });
        let Task { ticket, grant, scope_digest, justification, repository, branch } = &self.task;
        json!({
            "action_id": self.action_id,
            "verb": self.verb,
            "class": self.class.map(Class::as_str),
            "destructive": self.destructive,
            "actor": actor,
            "resource": resource,
            "parameters": self.parameters,
            "task": {
                "ticket": ticket,
                "grant": grant,
                "scope_digest": scope_digest,
                "justification": justification,
                "repository": repository,
                "branch": branch,
            },
            "urgency": self.urgency,
            "consent": self.consent,
        })
        .to_string()
    }

    /// The action's UUIDv7, where the caller chose it.
    pub fn action_id(&self) -> Option<&str> {
        self.action_id.as_deref()
    }
    /// What is to be done, as the schema or its system names it. Empty in what was salvaged without.
    pub fn verb(&self) -> &str {
        &self.verb
    }
    /// The class that the caller claims; the schema's word counts (POL-8).
    pub fn class(&self) -> Option<Class> {
        self.class
    }
    /// Whether the caller says that it destroys; without a word it does, unless it reads (POL-8).
    pub fn destructive(&self) -> Option<bool> {
        self.destructive
    }
    /// Who. None only in what was salvaged.
    pub fn actor(&self) -> Option<&Actor> {
        self.actor.as_ref()
    }
    /// The actor's session.
    pub fn session(&self) -> Option<&str> {
        self.actor.as_ref()?.session.as_deref()
    }
    /// On what. None only in what was salvaged.
    pub fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }
    /// What the call would carry.
    pub fn parameters(&self) -> Option<&Map<String, Value>> {
        self.parameters.as_ref()
    }
    /// What for.
    pub fn task(&self) -> &Task {
        &self.task
    }
    /// The grant that it names.
    pub fn grant(&self) -> Option<&str> {
        self.task.grant.as_deref()
    }
    /// How urgent the caller says it is.
    pub fn urgency(&self) -> Option<&str> {
        self.urgency.as_deref()
    }
    /// A reference to somebody's consent.
    pub fn consent(&self) -> Option<&str> {
        self.consent.as_deref()
    }
}

impl From<Misread> for Reason {
    fn from(Misread { at, what }: Misread) -> Self {
        invalid(if at.is_empty() { what } else { format!("{at}: {what}") })
    }
}

fn invalid(text: impl Into<String>) -> Reason {
    Reason::because(GateCode::InputInvalid, text)
}

fn class(members: &mut Members<'_>) -> Result<Class, Misread> {
    let named = members.get("class").and_then(Value::as_str).and_then(Class::from_text);
    named.ok_or_else(|| {
        let known = Class::ALL.map(Class::as_str).join(", ");
        misread("class", format!("this is needed: write one of {known}"))
    })
}

fn flag(members: &mut Members<'_>) -> Result<Option<bool>, Misread> {
    let what = || misread("destructive", "write true, false or null");
    members.get("destructive").map(|value| value.as_bool().ok_or_else(what)).transpose()
}

fn actor(mut members: Members<'_>) -> Result<Actor, Misread> {
    let kind = ActorKind::from_text(&members.needed("kind", TEXT_MAX)?);
    let actor = Actor {
        kind: kind.ok_or_else(|| misread("actor.kind", "write agent, human or service"))?,
        id: members.needed("id", TEXT_MAX)?,
        session: members.text("session", TEXT_MAX)?,
        model: members.text("model", TEXT_MAX)?,
        on_behalf_of: members.text("on_behalf_of", TEXT_MAX)?,
    };
    members.done()?;
    Ok(actor)
}

fn resource(mut members: Members<'_>) -> Result<Resource, Misread> {
    let resource = Resource {
        type_name: members.needed("type", TEXT_MAX)?,
        id: members.needed("id", TEXT_MAX)?,
        environment: members.text("environment", TEXT_MAX)?,
        domain: members.text("domain", TEXT_MAX)?,
    };
    members.done()?;
    Ok(resource)
}

fn task(mut members: Members<'_>) -> Result<Task, Misread> {
    let task = Task {
        ticket: members.text("ticket", TEXT_MAX)?,
        grant: members.text("grant", TEXT_MAX)?,
        scope_digest: members.text("scope_digest", TEXT_MAX)?,
        justification: members.text("justification", JUSTIFICATION_MAX)?,
        repository: members.text("repository", TEXT_MAX)?,
        branch: members.text("branch", TEXT_MAX)?,
    };
    members.done()?;
    Ok(task)
}

/// DIG-2: whatever goes into the action digest has one canonical spelling.
fn parameters(members: &mut Members<'_>) -> Result<Option<Map<String, Value>>, Misread> {
    let Some(value) = members.get("parameters") else { return Ok(None) };
    let map = value.as_object().ok_or_else(|| misread("parameters", "write an object here"))?;
    let text = canonical(value).map_err(|fault| misread("parameters", fault.to_string()))?;
    if text.len() > PARAMETERS_MAX {
        let what = "they have more than 15 KiB: put large values as {digest, length}";
        return Err(misread("parameters", what));
    }
    Ok(Some(map.clone()))
}
