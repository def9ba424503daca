//! The rules of the lifecycle (`countersign_core::lifecycle`), as the log asks them: with every
//! record of the action in full, so that nothing is left in doubt.

use countersign_core::cert::Certificate;
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_core::hash::RecordRoot;
use countersign_core::lifecycle::History;
use countersign_core::record::FullRecord;

pub(crate) use countersign_core::lifecycle::{
    ACTION_RECORDS_MAX, Fact, action_of, check_without_action, uuid_bytes,
};

/// What is asked of a record that carries the chain of `people`.
pub(crate) fn fact(
    root: RecordRoot,
    logged_at: Micros,
    record: &FullRecord,
    people: &[Certificate],
) -> Fact {
    let key = people.first().map(Certificate::public_key_bytes);
    Fact::of(root, logged_at, record.view(), key.and_then(|key| key.try_into().ok()))
}

/// Whether `new`, which is about to be logged, may follow `logged`, the records that the log holds
/// of the same tenant's action, in index order.
pub(crate) fn check(new: &Fact, logged: &[Fact]) -> Result<(), Fault> {
    let doubts = countersign_core::lifecycle::check(new, &History::whole(logged))?;
    // Values are missing from what is stored in one case only.
    if doubts.is_empty() { Ok(()) } else { Err(Code::Erased.into()) }
}
