//! The policy packs that ship with the gate: whole policies to start from, each with a directory that
//! shows what it assumes and a table of intents that shows what it does.

/// A pack, as its files have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pack {
    /// The name of its folder.
    pub name: &'static str,
    /// `policy.cedar`.
    pub policy: &'static str,
    /// `schema.cedarschema`.
    pub schema: &'static str,
    /// `directory.json`: the people, agents and resources of its table, to be replaced by one's own.
    pub directory: &'static str,
    /// `table.jsonl`: one intent a line, with what the gate knows and what it must answer.
    pub table: &'static str,
    /// `README.md`.
    pub readme: &'static str,
}

macro_rules! packs {
    ($($name:literal)*) => {
        /// Every pack, by name.
        pub const ALL: &[Pack] = &[$(Pack {
            name: $name,
            policy: include_str!(concat!("../packs/", $name, "/policy.cedar")),
            schema: include_str!(concat!("../packs/", $name, "/schema.cedarschema")),
            directory: include_str!(concat!("../packs/", $name, "/directory.json")),
            table: include_str!(concat!("../packs/", $name, "/table.jsonl")),
            readme: include_str!(concat!("../packs/", $name, "/README.md")),
        },)*];
    };
}

// One line a pack; tests/packs.rs fails when a folder is not named here, and runs every table.
packs! {
    "finance"
    "health"
    "infrastructure"
    "legal"
    "workplace"
}

/// The vocabulary that every schema contains (POL-3), to begin a schema with.
pub const BASE_SCHEMA: &str = include_str!("../schema/base.cedarschema");

/// The pack of this name.
pub fn find(name: &str) -> Option<&'static Pack> {
    ALL.iter().find(|pack| pack.name == name)
}
