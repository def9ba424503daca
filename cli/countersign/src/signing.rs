//! What people sign, built by the same code that verifies it (KIND-15).

use countersign_client::Authorised;
use countersign_core::cert::{Certificate, Role};
use countersign_core::encoding::b64;
use countersign_core::json::quoted;
use countersign_core::kinds::{Kind, Shape};
use countersign_core::record::FullRecord;
use countersign_core::verify::person_signed_bytes;
use ed25519_dalek::Signer as _;

use crate::exit::Failure;
use crate::files::shown;
use crate::identity::Identity;

/// Signs a record of `kind` as this person. `said` holds the values that the signature covers;
/// the others are the gate's to fill in, and blank here.
pub(crate) fn sign(
    identity: &Identity,
    kind: Kind,
    said: &[(&str, &str)],
) -> Result<Authorised, Failure> {
    let given = |name: &str| said.iter().find(|(known, _)| *known == name);
    let values = kind.fields().iter().map(|field| match given(field.name) {
        Some((_, value)) => quoted(value),
        None => blank(&field.shape),
    });
    let record = FullRecord::parse(kind, [0; 32], values.collect())
        .map_err(|fault| Failure::usage(format!("this can't be signed: {fault}")))?;
    let leaf = identity.chain.first().map(Certificate::digest).unwrap_or_default();
    let message = person_signed_bytes(record.view(), &identity.file.origin, leaf);
    let message = message
        .ok_or_else(|| Failure::usage("a text of it is longer than 65,535 bytes. Shorten it."))?;
    let signature = identity.key()?.sign(&message).to_bytes();
    Ok(Authorised { signature, chain: identity.chain.clone() })
}

/// A value of this shape that says nothing.
fn blank(shape: &Shape) -> String {
    match shape {
        Shape::OrNull(_) | Shape::Any => "null".to_owned(),
        Shape::Whole => "0".to_owned(),
        Shape::Bool => "false".to_owned(),
        Shape::List(_) => "[]".to_owned(),
        Shape::Hex(bytes) => quoted(&"0".repeat(2 * bytes)),
        Shape::Signature => quoted(&b64(&[0; 64])),
        Shape::Time => quoted("2026-01-01T00:00:00.000000Z"),
        Shape::UuidV7 => quoted("00000000-0000-7000-8000-000000000000"),
        Shape::OneOf(allowed) => quoted(allowed.first().unwrap_or(&"")),
        Shape::Object(members) => {
            let member = |field: &countersign_core::kinds::FieldSpec| {
                format!("{}:{}", quoted(field.name), blank(&field.shape))
            };
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
        }
        Shape::Text | Shape::NameOrEmpty | Shape::Origin | Shape::Ranges | Shape::Terms => {
            quoted("")
        }
    }
}

/// Whether this identity may sign, by its role (KIND-17).
pub(crate) fn has_role(identity: &Identity, roles: &[Role]) -> Result<(), Failure> {
    let role = identity.spiffe.role();
    if roles.contains(&role) {
        return Ok(());
    }
    let wanted: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    Err(Failure::usage(format!(
        "{} is the identity of role {}, and this is signed by role {}. Name another folder.",
        shown(&identity.path("")),
        role.as_str(),
        wanted.join(" or "),
    )))
}
