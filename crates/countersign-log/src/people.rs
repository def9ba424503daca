//! The signatures of people: in every approval, policy and grant that a gate submits, and in every
//! erasure (KIND-15 to KIND-17).

use countersign_core::cert::{Certificate, Role, VerifiedChain, verify_chain};
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, from_b64_array, from_hex_array};
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_core::seal::verify_signature;
use countersign_core::verify::person_signed_bytes;

use crate::api::LogConfig;

/// Whether a key of this chain is revoked at this time.
pub(crate) fn check_revoked(
    chain: &VerifiedChain,
    config: &LogConfig,
    now: Micros,
) -> Result<(), Fault> {
    let revoked = |key: &Vec<u8>| config.revoked.iter().any(|(k, from)| k == key && *from <= now);
    if chain.keys().iter().any(revoked) { Err(Code::KeyRevoked.into()) } else { Ok(()) }
}

/// Verifies the person's chain and signature. Gives the time until which their certificate counts.
pub(crate) fn check_person(
    record: &FullRecord,
    people: &[Certificate],
    tenant: &str,
    origin: &str,
    config: &LogConfig,
    now: Micros,
) -> Result<Micros, Fault> {
    if config.people_roots.is_empty() {
        return Err(Code::PeopleAbsent.into());
    }
    let chain = verify_chain(people, &config.people_roots, now.0)?;
    check_revoked(&chain, config, now)?;
    let identity = chain.identity();
    let (field, role_fits) = match record.kind() {
        Kind::Approval => ("approver", identity.role() == Role::Approver),
        Kind::Policy => ("owner", identity.role() == Role::PolicyAdmin),
        Kind::Erasure => ("requested_by", identity.role() == Role::TenantAdmin),
        _ => ("owner", matches!(identity.role(), Role::PolicyAdmin | Role::TenantAdmin)),
    };
    let view = record.view();
    let named = |member: &str| view.get(field)?.get(member)?.as_str();
    if !role_fits
        || identity.tenant() != tenant
        || identity.trust_domain() != config.trust_domain
        || named("id") != Some(identity.name())
        || named("certificate").and_then(from_hex_array) != Some(chain.leaf_digest())
    {
        return Err(Code::PersonCertificate.at_field(field));
    }
    let signature = view.str("signature").and_then(from_b64_array::<64>);
    let message = person_signed_bytes(view, origin, chain.leaf_digest());
    let (Some(signature), Some(message)) = (signature, message) else {
        return Err(Code::PersonSignature.at_field("signature"));
    };
    verify_signature(&chain.leaf_key(), &message, &signature, Code::PersonSignature)?;
    Ok(Micros(chain.not_after_us()))
}
