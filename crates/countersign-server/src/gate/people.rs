//! The signatures of people (KIND-15 to KIND-17), checked before anything is submitted: a record
//! that the ledger would refuse must not hold up those behind it.

use countersign_client::Draft;
use countersign_core::cert::{Certificate, Role, SpiffeId, verify_chain};
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, from_b64_array};
use countersign_core::seal::verify_signature;
use countersign_core::verify::person_signed_bytes;
use countersign_proto::errors::Refusal;

use super::shared::Shared;
use crate::config::is_revoked;

/// Certificates that a chain may have.
const CHAIN_MAX: usize = 8;

/// A chain as the wire has it: DER, leaf first.
pub(crate) fn chain_of<B: AsRef<[u8]>>(wire: &[B]) -> Result<Vec<Certificate>, Refusal> {
    if wire.is_empty() || wire.len() > CHAIN_MAX {
        return Err(Refusal::from(Code::RequestMalformed.at_field("chain")));
    }
    let read = |der: &B| Certificate::from_der(der.as_ref()).map_err(Fault::from);
    wire.iter().map(read).collect::<Result<_, Fault>>().map_err(Refusal::from)
}

/// The digest of a chain's leaf.
pub(crate) fn leaf_digest(chain: &[Certificate]) -> Result<[u8; 32], Refusal> {
    let leaf = chain.first().ok_or(Code::RequestMalformed.at_field("chain"));
    Ok(leaf.map_err(Refusal::from)?.digest())
}

/// Verifies that a draft is signed by the person who calls, in one of these roles, with the key
/// that their chain certifies now. Gives that key.
pub(crate) fn check_person(
    shared: &Shared,
    draft: &Draft,
    caller: &SpiffeId,
    roles: &[Role],
    field: &'static str,
    now: Micros,
) -> Result<[u8; 32], Fault> {
    let trusted = &shared.trusted;
    if trusted.people_roots.is_empty() {
        return Err(Code::PeopleAbsent.into());
    }
    let chain = verify_chain(draft.people(), &trusted.people_roots, now.0)?;
    if is_revoked(&trusted.revoked, chain.keys().iter().map(Vec::as_slice), now) {
        return Err(Code::KeyRevoked.into());
    }
    let identity = chain.identity();
    let view = draft.view()?;
    let named = |member: &str| view.get(field)?.get(member)?.as_str();
    let digest = named("certificate").and_then(countersign_core::encoding::from_hex_array);
    if !roles.contains(&identity.role())
        || identity.tenant() != shared.identity.tenant
        || identity.trust_domain() != trusted.trust_domain
        || identity.name() != caller.name()
        || named("id") != Some(identity.name())
        || digest != Some(chain.leaf_digest())
    {
        return Err(Code::PersonCertificate.at_field(field));
    }
    let signature = view.str("signature").and_then(from_b64_array::<64>);
    let message = person_signed_bytes(&view, &shared.ledger.log.name, chain.leaf_digest());
    let (Some(signature), Some(message)) = (signature, message) else {
        return Err(Code::PersonSignature.at_field("signature"));
    };
    verify_signature(&chain.leaf_key(), &message, &signature, Code::PersonSignature)?;
    Ok(chain.leaf_key())
}
