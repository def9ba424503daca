//! Whether the log holds the policy version that a verdict was made under (LIFE-14).
//!
//! The store's rows say it; what was asked for of late is kept in memory, since a gate judges under
//! the same version for days. A record that is logged stays logged, so nothing is ever forgotten
//! but for room.

use std::collections::HashSet;

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::from_hex_array;
use countersign_core::hash::Hash;
use countersign_core::kinds::Kind;
use countersign_core::record::View;

use crate::shared::store_fault;
use crate::state::State;
use crate::store::Store;

/// A tenant and the digest of one of its policy versions.
pub(crate) type PolicyKey = (String, Hash);

/// Versions that the store is known to hold, in two generations: when the younger is full it
/// becomes the older, so that what is asked for stays.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    young: HashSet<PolicyKey>,
    old: HashSet<PolicyKey>,
}

impl Policies {
    /// Versions in one generation, of at most 160 bytes each with the tenant's name.
    const MAX: usize = 4_096;

    fn contains(&mut self, key: &PolicyKey) -> bool {
        if self.young.contains(key) {
            return true;
        }
        let kept = self.old.take(key);
        let found = kept.is_some();
        if let Some(key) = kept {
            self.insert(key);
        }
        found
    }

    fn insert(&mut self, key: PolicyKey) {
        if self.young.len() >= Self::MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key);
    }
}

/// The digest of the version that a policy record is about.
pub(crate) fn digest_of(policy: &View) -> Option<Hash> {
    policy.str("digest").and_then(from_hex_array)
}

/// LIFE-14: the policy of a verdict is one that the log holds for its tenant, or is about to hold
/// before it; only a refuse may name none. The outer error is the store's.
pub(crate) async fn check<S: Store>(
    store: &S,
    state: &mut State,
    tenant: &str,
    view: &View,
) -> Result<Result<(), Fault>, Fault> {
    if view.kind() != Kind::Verdict {
        return Ok(Ok(()));
    }
    let unknown = Code::PolicyUnknown.at_field("policy");
    let Some(policy) = view.get("policy").filter(|policy| !policy.is_null()) else {
        let refuses = view.str("outcome") == Some("refuse");
        return Ok(if refuses { Ok(()) } else { Err(unknown) });
    };
    let digest = policy.get("digest").and_then(|digest| digest.as_str()).and_then(from_hex_array);
    let Some(digest) = digest else { return Ok(Err(unknown)) };
    let key = (tenant.to_owned(), digest);
    let held = [&state.committing, &state.preparing].iter().any(|of| of.policies.contains(&key));
    if held || state.policies.contains(&key) {
        return Ok(Ok(()));
    }
    if store.by_policy(tenant, digest).await.map_err(store_fault)?.is_none() {
        return Ok(Err(unknown));
    }
    state.policies.insert(key);
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_room_has_an_end() {
        let key = |n: usize| (format!("tenant-{n}"), [7; 32]);
        let mut policies = Policies::default();
        policies.insert(key(0));
        for n in 1..3 * Policies::MAX {
            policies.insert(key(n));
            assert!(policies.contains(&key(0)), "{n}");
            assert!(policies.young.len() + policies.old.len() <= 2 * Policies::MAX, "{n}");
        }
        assert!(!policies.contains(&key(1)), "what nobody asks for makes room");
        assert!(!policies.contains(&("tenant-0".to_owned(), [8; 32])));
    }
}
