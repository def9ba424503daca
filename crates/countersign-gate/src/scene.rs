//! What decisions rest on, made once for each combination of what is asked for.
//!
//! Agents ask for the same few things of the same few resources. Who they are and what the directory
//! says of them changes only with the directory, so that loading, checking and writing it down is done
//! once. What is kept is a function of its key: a decision is the same with and without it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use cedar_policy::Entities;
use countersign_core::hash::Hash;

use crate::datum::{Uid, write_entities};
use crate::directory::Directory;
use crate::evaluate::with_actions;
use crate::index::Base;
use crate::policy::Policy;
use crate::reason::{GateCode, Reason};
use crate::schema::Action;
use crate::world::World;

/// Bytes of the entities as JSON: with everything else a record must hold 60 KiB at most (REC-3).
const TEXT_MAX: usize = 12 * 1024;

/// Scenes that are kept. Past this all are forgotten, and those in use are soon there again.
const SCENES_MAX: usize = 1_024;

/// Entities, all that a decision may look into.
#[derive(Debug)]
pub(crate) struct Scene {
    /// As the engine takes them, checked against the schema, with the actions that are looked at.
    pub(crate) entities: Entities,
    /// As the record keeps them, without those actions (POL-10).
    pub(crate) text: String,
}

/// What tells one scene from another under one policy version.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    directory: Hash,
    action: String,
    place: usize,
    needed: Vec<Uid>,
}

/// The scenes of one policy version.
#[derive(Debug, Default)]
pub(crate) struct Scenes(RwLock<HashMap<Key, Arc<Scene>>>);

impl Scenes {
    /// The scene of an action between `needed`, whose policies stand at `place`.
    pub(crate) fn find(
        &self,
        policy: &Policy,
        directory: &Directory,
        action: &Action,
        (place, base): (usize, &Base),
        needed: Vec<Uid>,
    ) -> Result<Arc<Scene>, Reason> {
        let key = Key { directory: directory.digest(), action: action.id.clone(), place, needed };
        // A panic while the lock was held can't leave the map half written: scenes are whole.
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(scene) = known {
            return Ok(scene);
        }
        let scene = Arc::new(made(policy, directory, action, base, &key.needed)?);
        let mut scenes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if scenes.len() >= SCENES_MAX {
            scenes.clear();
        }
        scenes.insert(key, Arc::clone(&scene));
        Ok(scene)
    }
}

fn made(
    policy: &Policy,
    directory: &Directory,
    action: &Action,
    base: &Base,
    needed: &[Uid],
) -> Result<Scene, Reason> {
    let mut world = World::new(&policy.schema, directory);
    for uid in needed {
        world.load(uid.clone())?;
    }
    world.require(base)?;
    let mut text = String::new();
    write_entities(&world.nodes, &mut text);
    if text.len() > TEXT_MAX {
        return Err(unrecordable());
    }
    Ok(Scene { entities: with_actions(policy, action, base, world.entities()?)?, text })
}

/// The reason where a record has no room for what a decision rests on.
pub(crate) fn unrecordable() -> Reason {
    let what = "what the decision rests on does not fit a record: ask for less at once";
    Reason::because(GateCode::InputInvalid, what)
}
