//! Step 11, a record by itself: the action digest and the person's signature (DIG, KIND-15 to 17).

use super::{Run, Step};
use crate::action;
use crate::cert::Role;
use crate::codes::Code;
use crate::encoding::{Micros, from_b64_array, from_hex_array, lp};
use crate::evidence::Evidence;
use crate::hash::Context;
use crate::kinds::Kind;
use crate::record::View;
use crate::seal::verify_signature;
use crate::stream::StreamId;

/// What the record's values say of each other and of its place.
pub(super) fn values(run: &mut Run<'_, '_>, evidence: &Evidence) -> Step {
    // Lent and given back, since what is found out is noted in the run.
    let view = run.facts.view.take().ok_or(Code::KindUnknown)?;
    let outcome = values_of(run, evidence, &view);
    run.facts.view = Some(view);
    outcome
}

fn values_of(run: &mut Run<'_, '_>, evidence: &Evidence, view: &View) -> Step {
    match view.kind() {
        Kind::Intent | Kind::Verdict => {
            match (action::digest(view)?, view.str("action_digest")) {
                (Some(found), Some(shown)) if from_hex_array(shown) != Some(found) => {
                    return Err(Code::ActionDigest.into());
                }
                (Some(_), Some(_)) => {}
                _ => run.not_checked.push("action_digest".into()),
            }
            if view.str("outcome") == Some("approve") {
                run.not_checked.push("voided later".into());
            }
        }
        Kind::Genesis => {
            let origin = &evidence.receipt.checkpoint.origin;
            if view.str("origin").is_some_and(|said| said != origin) {
                return Err(Code::GenesisPlace.at_field("origin").into());
            }
            let key = view.str("ledger_key").and_then(from_hex_array::<32>);
            if key.is_some_and(|key| key != evidence.seal.key) {
                return Err(Code::GenesisPlace.at_field("ledger_key").into());
            }
        }
        Kind::Stream => stream_opened(view, &evidence.receipt.checkpoint.origin)?,
        Kind::Approval => {
            // LIFE-6, as far as the approval alone shows it.
            let not_after = view.str("not_after").and_then(Micros::parse);
            let logged_at = run.read_entry()?.logged_at;
            if not_after.is_some_and(|limit| logged_at > limit) {
                return Err(Code::ApprovalExpired.at_field("not_after").into());
            }
            run.not_checked.push("the verdict it answers".into());
        }
        _ => {}
    }
    Ok(())
}

/// KIND-14: the stream that was opened is the one that its gate and key give.
fn stream_opened(view: &View, origin: &str) -> Step {
    let parts = (|| {
        Some((
            StreamId::from_hex(view.str("subject_stream")?)?,
            view.str("subject_tenant")?,
            view.str("subject_gate")?,
            from_hex_array::<32>(view.str("gate_key")?)?,
        ))
    })();
    match parts {
        Some((stream, tenant, gate, key)) if !stream.is_derived(origin, tenant, gate, &key) => {
            Err(Code::StreamDerivation.at_field("subject_stream").into())
        }
        _ => Ok(()),
    }
}

/// The person's chain and signature, in the kinds that a person signs; none elsewhere.
pub(super) fn person(run: &mut Run<'_, '_>, evidence: &Evidence) -> Step {
    if !run.view()?.kind().signed_by_person() {
        let none = evidence.people_chains.is_empty();
        return if none { Ok(()) } else { Err(Code::PeopleChains.into()) };
    }
    let view = run.view()?.clone();
    let kind = view.kind();
    let at = run.read_entry()?.logged_at;
    let chain = run.person_chain(evidence, at)?;
    let Some(chain) = chain else {
        return Ok(());
    };
    let field = match kind {
        Kind::Approval => "approver",
        Kind::Erasure => "requested_by",
        _ => "owner",
    };
    let identity = chain.identity();
    let role_fits = match kind {
        Kind::Approval => identity.role() == Role::Approver,
        Kind::Policy => identity.role() == Role::PolicyAdmin,
        Kind::Erasure => identity.role() == Role::TenantAdmin,
        _ => matches!(identity.role(), Role::PolicyAdmin | Role::TenantAdmin),
    };
    // An erasure stands in the ledger's own stream, so the tenant is the trust file's word.
    let gates = run.trust.and_then(|trust| trust.gates.as_ref());
    let tenant_fits = match kind {
        Kind::Erasure => {
            gates.is_none_or(|g| g.tenants.iter().any(|tenant| tenant == identity.tenant()))
        }
        _ => view.str("tenant").is_none_or(|tenant| tenant == identity.tenant()),
    };
    let domain_fits = gates.is_none_or(|g| g.trust_domain == identity.trust_domain());
    if !role_fits || !tenant_fits || !domain_fits {
        return Err(Code::PersonCertificate.into());
    }
    let Some(person) = view.get(field) else {
        run.doubt(11, Code::PersonUnchecked.at_field(field));
        return Ok(());
    };
    let member = |name: &str| person.get(name).and_then(serde_json::Value::as_str);
    if member("id") != Some(identity.name())
        || member("certificate").and_then(from_hex_array) != Some(chain.leaf_digest())
    {
        return Err(Code::PersonCertificate.at_field(field).into());
    }
    let signature = view.str("signature").and_then(from_b64_array::<64>);
    let message = signed_bytes(&view, &evidence.receipt.checkpoint.origin, chain.leaf_digest());
    let (Some(signature), Some(message)) = (signature, message) else {
        run.doubt(11, Code::PersonUnchecked);
        return Ok(());
    };
    verify_signature(&chain.leaf_key(), &message, &signature, Code::PersonSignature)?;
    run.facts.person = Some((identity.name().to_owned(), chain.leaf_key()));
    run.facts.person_tenant = Some(identity.tenant().to_owned());
    run.rely_on(&chain);
    Ok(())
}

/// What a person signs (KIND-15): `None` where one of its inputs is withheld.
pub fn signed_bytes(view: &View, origin: &str, certificate: [u8; 32]) -> Option<Vec<u8>> {
    let hex32 = |name| view.str(name).and_then(from_hex_array::<32>);
    let mut out = Vec::new();
    match view.kind() {
        Kind::Approval => {
            out.extend_from_slice(b"countersign/v1 approval\n");
            out.extend_from_slice(&hex32("verdict")?);
            out.extend_from_slice(&hex32("action_digest")?);
            out.push(u8::from(view.str("decision")? == "grant"));
            out.extend_from_slice(&Micros::parse(view.str("not_after")?)?.0.to_be_bytes());
            out.extend_from_slice(&from_hex_array::<16>(view.str("nonce")?)?);
            out.extend_from_slice(&hex32("displayed_digest")?);
            out.extend_from_slice(&certificate);
            let text = view.str("justification")?;
            out.extend_from_slice(&Context::Justification.hash(&[text.as_bytes()]));
        }
        Kind::Policy => {
            out.extend_from_slice(b"countersign/v1 policy\n");
            out.extend_from_slice(&hex32("digest")?);
            out.extend_from_slice(&lp(view.str("policy_id")?)?);
            out.extend_from_slice(&lp(view.str("version")?)?);
        }
        Kind::Grant => {
            out.extend_from_slice(b"countersign/v1 grant\n");
            out.extend_from_slice(&Context::Grant.hash(&[view.str("terms")?.as_bytes()]));
        }
        Kind::Erasure => {
            out.extend_from_slice(b"countersign/v1 erasure\n");
            out.extend_from_slice(&lp(origin)?);
            out.extend_from_slice(&lp(view.str("entries")?)?);
            out.extend_from_slice(&lp(view.str("reason")?)?);
        }
        _ => return None,
    }
    Some(out)
}
