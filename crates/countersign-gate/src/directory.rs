//! The tenant's directory: who and what there is (DIR-1).

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::encoding::Micros;
use countersign_core::hash::{Hash, sha256};
use countersign_core::json;
use serde_json::Value;

use crate::datum::Datum;
use crate::prefix::is_under;
use crate::reader::{Members, Misread, misread, put};

/// Bytes that a directory may have.
const BYTES_MAX: usize = 4 << 20;
/// Bytes of an id, a class, a role.
pub(crate) const NAME_MAX: usize = 256;
/// Attributes that the gate itself fills in.
const OWN_ATTRIBUTES: [&str; 4] = ["env", "domain", "owner", "labels"];

/// Why a directory can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the directory is not as spec/policy.md DIR-1 has it, at {at}: {what}")]
pub struct DirectoryFault {
    /// Where: a path such as `people[3].roles`.
    pub at: String,
    /// What is wrong and what to write instead.
    pub what: String,
}

impl From<Misread> for DirectoryFault {
    fn from(Misread { at, what }: Misread) -> Self {
        Self { at, what }
    }
}

/// An agent or a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) class: String,
    pub(crate) owner: String,
}

/// Something that is acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Thing {
    pub(crate) environment: String,
    pub(crate) domain: String,
    pub(crate) owner: String,
    pub(crate) labels: BTreeSet<String>,
    pub(crate) attributes: BTreeMap<String, Datum>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Calendar {
    utc_offset_minutes: i64,
    freezes: Vec<(Micros, Micros)>,
}

/// Who and what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    agents: BTreeMap<String, Machine>,
    services: BTreeMap<String, Machine>,
    people: BTreeMap<String, BTreeSet<String>>,
    /// By type, then by id.
    things: BTreeMap<String, BTreeMap<String, Thing>>,
    /// By type, then by what stands before the `*`.
    prefixes: BTreeMap<String, BTreeMap<String, Thing>>,
    roles: BTreeSet<String>,
    classes: BTreeSet<String>,
    calendar: Calendar,
    digest: Hash,
}

impl Directory {
    /// Reads a directory's JSON text of at most 4 MiB (DIR-1).
    pub fn parse(text: &str) -> Result<Self, DirectoryFault> {
        if text.len() > BYTES_MAX {
            return Err(
                misread("", "it has more than 4 MiB: leave out what is never asked for").into()
            );
        }
        let value = json::parse(text).map_err(|fault| misread("", fault.to_string()))?;
        let mut members = Members::of(&value, "")?;
        let mut directory = Self { digest: sha256(text.as_bytes()), ..Self::default() };
        for (at, item) in members.items("agents")? {
            let (id, machine) = machine(item, &at)?;
            put(&mut directory.agents, id, machine, &at)?;
        }
        for (at, item) in members.items("services")? {
            let (id, machine) = machine(item, &at)?;
            put(&mut directory.services, id, machine, &at)?;
        }
        for (at, item) in members.items("people")? {
            let mut person = Members::of(item, &at)?;
            let (id, roles) = (person.needed("id", NAME_MAX)?, person.texts("roles", NAME_MAX)?);
            person.done()?;
            put(&mut directory.people, id, roles, &at)?;
        }
        for (at, item) in members.items("resources")? {
            directory.thing(item, &at)?;
        }
        if let Some(inner) = members.inner("calendar")? {
            directory.calendar = calendar(inner)?;
        }
        members.done()?;
        directory.one_actor_an_id()?;
        directory.roles = directory.people.values().flatten().cloned().collect();
        let machines = directory.agents.values().chain(directory.services.values());
        directory.classes = machines.map(|machine| machine.class.clone()).collect();
        Ok(directory)
    }

    fn thing(&mut self, item: &Value, at: &str) -> Result<(), Misread> {
        let mut row = Members::of(item, at)?;
        let (id, type_name) = (row.needed("id", NAME_MAX)?, row.needed("type", NAME_MAX)?);
        let thing = Thing {
            environment: row.needed("environment", NAME_MAX)?,
            domain: row.needed("domain", NAME_MAX)?,
            owner: row.needed("owner", NAME_MAX)?,
            labels: row.texts("labels", NAME_MAX)?,
            attributes: attributes(&mut row)?,
        };
        row.done()?;
        let (table, key) = match id.strip_suffix('*') {
            Some(prefix) => (&mut self.prefixes, prefix.to_owned()),
            None => (&mut self.things, id),
        };
        put(table.entry(type_name).or_default(), key, thing, at)
    }

    /// Halts, grants and action digests name an actor by its id alone.
    fn one_actor_an_id(&self) -> Result<(), Misread> {
        let twice = |id: &&String| self.people.contains_key(*id) || self.agents.contains_key(*id);
        let agent = self.agents.keys().find(|id| self.people.contains_key(*id));
        match agent.or_else(|| self.services.keys().find(twice)) {
            Some(id) => Err(misread(
                json::quoted(id),
                "two actors have this id: give agents, services and people ids that differ",
            )),
            None => Ok(()),
        }
    }

    /// SHA-256 of its text: what is kept of one directory is never used for another.
    pub(crate) fn digest(&self) -> Hash {
        self.digest
    }

    /// The roles of a person; none where there is no such person.
    pub fn roles(&self, person: &str) -> Option<&BTreeSet<String>> {
        self.people.get(person)
    }

    /// Everybody, by id.
    pub fn people(&self) -> impl Iterator<Item = (&String, &BTreeSet<String>)> {
        self.people.iter()
    }

    pub(crate) fn agent(&self, id: &str) -> Option<&Machine> {
        self.agents.get(id)
    }

    pub(crate) fn service(&self, id: &str) -> Option<&Machine> {
        self.services.get(id)
    }

    /// Somebody holds this role.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.roles.contains(role)
    }

    /// Some agent or service is of this class.
    pub(crate) fn has_class(&self, class: &str) -> bool {
        self.classes.contains(class)
    }

    /// What the directory says of a resource: its own row, or that of the longest prefix.
    pub(crate) fn resource(&self, type_name: &str, id: &str) -> Option<&Thing> {
        if let Some(thing) = self.things.get(type_name).and_then(|things| things.get(id)) {
            return Some(thing);
        }
        let prefixes = self.prefixes.get(type_name)?;
        let mut ends = (0..=id.len()).rev().filter_map(|end| id.get(..end));
        // A part that leads out of one prefix leads out of every shorter one too.
        let found = ends.find_map(|prefix| Some((prefix, prefixes.get(prefix)?)));
        found.filter(|(prefix, _)| is_under(id, prefix)).map(|(_, thing)| thing)
    }

    /// Whether changes are frozen.
    pub(crate) fn frozen(&self, now: Micros) -> bool {
        self.calendar.freezes.iter().any(|(from, to)| *from <= now && now < *to)
    }

    /// The day of the week (1 is Monday) and the minute of the day, where the tenant is (POL-11).
    pub(crate) fn local_time(&self, now: Micros) -> (i64, i64) {
        let minutes = i64::try_from(now.seconds() / 60).unwrap_or(i64::MAX / 2);
        let local = minutes + self.calendar.utc_offset_minutes;
        // 1970-01-01 was a Thursday.
        ((local.div_euclid(1440) + 3).rem_euclid(7) + 1, local.rem_euclid(1440))
    }
}

fn machine(item: &Value, at: &str) -> Result<(String, Machine), Misread> {
    let mut row = Members::of(item, at)?;
    let id = row.needed("id", NAME_MAX)?;
    let (class, owner) = (row.needed("class", NAME_MAX)?, row.needed("owner", NAME_MAX)?);
    row.done()?;
    Ok((id, Machine { class, owner }))
}

fn attributes(row: &mut Members<'_>) -> Result<BTreeMap<String, Datum>, Misread> {
    let path = row.path("attributes");
    let Some(value) = row.get("attributes") else { return Ok(BTreeMap::new()) };
    let map = value.as_object().ok_or_else(|| misread(&path, "write an object here"))?;
    let read = |(name, value): (&String, &Value)| {
        let at = format!("{path}.{name}");
        if OWN_ATTRIBUTES.contains(&name.as_str()) {
            return Err(misread(at, "the gate fills this in: remove it"));
        }
        let datum = Datum::from_json(value);
        let what = "write Cedar's JSON: texts, integers, true, false, arrays, objects, \
                    {\"__entity\":{\"type\":\"Gate::…\",\"id\":…}} or {\"__extn\":{\"fn\":…,\"arg\":…}}";
        datum.map(|datum| (name.clone(), datum)).ok_or_else(|| misread(at, what))
    };
    map.iter().map(read).collect()
}

fn calendar(mut members: Members<'_>) -> Result<Calendar, Misread> {
    let path = members.path("utc_offset_minutes");
    let offset = members.get("utc_offset_minutes").map_or(Some(0), Value::as_i64);
    let offset = offset.filter(|minutes| (-1440..=1440).contains(minutes));
    let utc_offset_minutes =
        offset.ok_or_else(|| misread(path, "write minutes from -1440 to 1440"))?;
    let mut freezes = Vec::new();
    for (at, item) in members.items("freezes")? {
        let mut freeze = Members::of(item, &at)?;
        let (from, to) = (freeze.needed("from", 27)?, freeze.needed("to", 27)?);
        freeze.done()?;
        let times = Micros::parse(&from).zip(Micros::parse(&to)).filter(|(from, to)| from < to);
        let what = "write two times such as 2026-12-20T00:00:00.000000Z, the earlier first";
        freezes.push(times.ok_or_else(|| misread(at, what))?);
    }
    members.done()?;
    Ok(Calendar { utc_offset_minutes, freezes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weekday_and_minute_follow_the_calendar() {
        let of = |offset: i64, time: &str| {
            let text = format!("{{\"calendar\":{{\"utc_offset_minutes\":{offset}}}}}");
            let directory = Directory::parse(&text).expect("directory");
            directory.local_time(Micros::parse(time).expect("time"))
        };
        // 2026-11-23 is a Monday.
        assert_eq!(of(0, "2026-11-23T06:30:59.000000Z"), (1, 390));
        assert_eq!(of(60, "2026-11-23T23:30:00.000000Z"), (2, 30));
        assert_eq!(of(-60, "2026-11-23T00:30:00.000000Z"), (7, 1410));
        assert_eq!(of(-1440, "1970-01-01T00:00:00.000000Z"), (3, 0));
    }

    #[test]
    fn the_longest_prefix_counts_and_an_exact_id_before_it() {
        let row = |id: &str, env: &str| {
            format!(
                r#"{{"id":"{id}","type":"System","environment":"{env}","domain":"web","owner":"bob"}}"#
            )
        };
        let rows = [row("*", "dev"), row("prod-*", "prod"), row("prod-x", "test")].join(",");
        let directory =
            Directory::parse(&format!("{{\"resources\":[{rows}]}}")).expect("directory");
        let env =
            |id: &str| directory.resource("System", id).map(|thing| thing.environment.as_str());
        assert_eq!(env("prod-x"), Some("test"));
        assert_eq!(env("prod-y"), Some("prod"));
        assert_eq!(env("prod-é"), Some("prod"));
        assert_eq!(env("other"), Some("dev"));
        assert_eq!(env(""), None);
        assert_eq!(env("prod-/../other"), None);
        assert!(directory.resource("Database", "prod-x").is_none());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let at = |text: &str| Directory::parse(text).expect_err(text).at;
        assert_eq!(at(r#"{"people":[{"id":"a","roles":["x","x"]}]}"#), "people[0].roles[1]");
        assert_eq!(at(r#"{"people":[{"id":"a"},{"id":"a"}]}"#), "people[1]");
        assert_eq!(at(r#"{"persons":[]}"#), "persons");
        assert_eq!(at(r#"{"agents":[{"id":"a","class":"c"}]}"#), "agents[0].owner");
        assert_eq!(
            at(r#"{"agents":[{"id":"a","class":"c","owner":"o"}],"people":[{"id":"a"}]}"#),
            "\"a\""
        );
        let thing = |attributes: &str| {
            format!(
                r#"{{"resources":[{{"id":"x","type":"T","environment":"e","domain":"d","owner":"o","attributes":{attributes}}}]}}"#
            )
        };
        assert_eq!(at(&thing(r#"{"env":"prod"}"#)), "resources[0].attributes.env");
        assert_eq!(at(&thing(r#"{"a":null}"#)), "resources[0].attributes.a");
        assert_eq!(at(&thing(r#"{"a":1.5}"#)), "resources[0].attributes.a");
    }
}
