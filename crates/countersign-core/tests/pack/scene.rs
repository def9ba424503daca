//! What happened on the stage: two gates of acme and one of globex, a refusal, an approve with its
//! outcome, a supervised action with its people, and an approve that was voided.

use countersign_core::encoding::{Micros, hex};
use countersign_core::hash::Context;
use countersign_core::kinds::Kind;
use serde_json::{Value, json};

use super::stage::{Gate, Holder, Log, NOON, SECOND, World, policy_digest, verdict};

/// The scene, and where in the log each record stands.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) log: Log,
    pub(crate) gate: Gate,
    pub(crate) other: Gate,
    pub(crate) foreign: Gate,
    pub(crate) alice: Holder,
    pub(crate) bob: Holder,
    pub(crate) refusal: usize,
    pub(crate) approve: usize,
    pub(crate) outcome: usize,
    pub(crate) supervise: usize,
    pub(crate) grants: [usize; 2],
    pub(crate) release: usize,
    pub(crate) voided: usize,
    pub(crate) void: usize,
    pub(crate) heartbeat: usize,
}

pub(crate) fn permit(id: &str) -> Value {
    let not_after = Micros(NOON.0 + 3_600 * SECOND).format();
    json!({ "permit": { "id": id, "audience": null, "not_after": not_after } })
}

pub(crate) fn policy(owner: &Holder) -> Value {
    json!({
        "activated_at": NOON.format(), "digest": hex(&policy_digest()), "engine": "cedar 4",
        "length": 12, "owner": { "id": "pia", "certificate": hex(&owner.digest()) },
        "policy_id": "prod", "version": "1",
    })
}

pub(crate) fn heartbeat(interval_s: u64) -> Value {
    json!({ "about": "heartbeat", "detail": { "interval_s": interval_s, "mode": "enforce" } })
}

impl Scene {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let mut log = Log::new(&world);
        let (mut gate, mut other) = (world.gate("acme", "prod-1"), world.gate("acme", "prod-2"));
        let mut foreign = world.gate("globex", "prod-1");
        let (alice, bob) = (world.person("approver", "alice"), world.person("approver", "bob"));
        let pia = world.person("policy-admin", "pia");
        for opened in [&gate, &other, &foreign] {
            log.open(&world, opened);
        }
        log.signed(&mut gate, Kind::Policy, policy(&pia), &pia);
        log.say(&mut gate, Kind::Intent, &intent(1));
        let refusal = log.say(&mut gate, Kind::Verdict, &verdict(1, "refuse", &json!({})));
        log.say(&mut foreign, Kind::Verdict, &verdict(1, "refuse", &json!({})));
        let approve = log.say(&mut gate, Kind::Verdict, &verdict(2, "approve", &permit("p-2")));
        log.say(&mut other, Kind::Verdict, &verdict(7, "refuse", &json!({})));
        let done = outcome(&log, 2, approve, "p-2");
        let outcome = log.say(&mut gate, Kind::Outcome, &done);
        let expires = Micros(NOON.0 + 600 * SECOND).format();
        let requires = json!({ "approvals": 2, "roles": ["on-call"], "expires_at": expires });
        let asks = verdict(3, "supervise", &json!({ "requires": requires }));
        let supervise = log.say(&mut gate, Kind::Verdict, &asks);
        let grants = [(&alice, "alice"), (&bob, "bob")].map(|(person, id)| {
            let say = approval(&log, supervise, person, id, "grant");
            log.signed(&mut gate, Kind::Approval, say, person)
        });
        let listed = grants.map(|at| log.root_of(at).hex());
        let say = json!({ "parent": log.root_of(supervise).hex(), "approvals": listed });
        let rests = [supervise, grants[0], grants[1]].to_vec();
        let release =
            log.say_with(&mut gate, Kind::Verdict, &verdict(3, "approve", &say), Vec::new(), rests);
        let voided = log.say(&mut gate, Kind::Verdict, &verdict(4, "approve", &permit("p-4")));
        let say = json!({ "parent": log.root_of(voided).hex() });
        let voids = verdict(4, "refuse", &say);
        let void = log.say_with(&mut gate, Kind::Verdict, &voids, Vec::new(), vec![voided]);
        let heartbeat = log.say(&mut gate, Kind::Notice, &heartbeat(60));
        log.settle();
        Self {
            world,
            log,
            gate,
            other,
            foreign,
            alice,
            bob,
            refusal,
            approve,
            outcome,
            supervise,
            grants,
            release,
            voided,
            void,
            heartbeat,
        }
    }

    /// The complete pack of the first gate's key, from a size on.
    pub(crate) fn pack(&self, from: u64) -> super::stage::Pack {
        self.log.complete(&self.world, &[&self.gate], [from, self.log.size()])
    }
}

pub(crate) fn intent(n: u64) -> Value {
    let mut value = verdict(n, "refuse", &json!({}));
    let map = value.as_object_mut().unwrap();
    for name in ["mode", "outcome", "policy", "reasons"] {
        map.remove(name);
    }
    value
}

pub(crate) fn outcome(log: &Log, n: u64, of: usize, permit: &str) -> Value {
    json!({
        "action_id": super::stage::action(n), "attested_by": "executor", "match": "match",
        "observed_at": NOON.format(), "result": "executed", "permit": permit,
        "verdict": log.root_of(of).hex(),
    })
}

pub(crate) fn approval(log: &Log, of: usize, person: &Holder, id: &str, decision: &str) -> Value {
    let view = log.rows[of].record.view();
    json!({
        "action_id": view.str("action_id").unwrap(),
        "action_digest": view.str("action_digest").unwrap(),
        "approver": { "id": id, "roles": ["on-call"], "certificate": hex(&person.digest()) },
        "decision": decision,
        "displayed_digest": hex(&Context::Displayed.hash(&[b"shown"])),
        "justification": "seen",
        "nonce": hex(&[7; 16]),
        "not_after": Micros(NOON.0 + 600 * SECOND).format(),
        "verdict": log.root_of(of).hex(),
    })
}
