//! Policy set, intent and approvals in, one of three outcomes out (spec/policy.md).
//!
//! A tenant's policy is Cedar text. Authority only ever comes from a permit; a refusal is a forbid; a
//! supervision is a forbid that verified approvals discharge. So every mistake falls to refuse.
//!
//! What is absent: clocks, random numbers, network and files. Every function here is total, and the
//! same inputs give the same bytes, so that a verifier can make a decision again ([`replay`]).

mod amount;
mod approval;
mod contradiction;
mod datum;
mod decide;
mod directory;
mod evaluate;
mod fold;
mod free_text;
mod grant;
mod index;
mod intent;
mod lint;
mod nesting;
pub mod packs;
mod policy;
mod prefix;
mod reader;
mod reading;
mod reason;
mod replay;
mod scene;
mod schema;
mod tree;
mod verdict;
mod world;

pub use amount::Amount;
pub use approval::{Answer, Approval, Asked, Counted, check_approval, display};
pub use decide::{Approver, Decision, Facts, GrantHeld, Halt, Outcome, Requires, decide};
pub use directory::{Directory, DirectoryFault};
pub use free_text::targets_in;
pub use grant::{Scope, Terms, TermsFault, Used};
pub use intent::{Actor, ActorKind, Class, Intent, Resource, Task};
pub use lint::{PolicyFault, PolicyFaults};
pub use policy::{ENGINE, Effect, Policy, Rule, RuleOutcome, assemble};
pub use reason::{GateCode, Reason};
pub use replay::{Replay, not_compared, reconsider, replay};
pub use verdict::{PermitSaid, PolicyName, Sealing, intent_json, verdict_json};
