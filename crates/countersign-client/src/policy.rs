//! Policy versions on record: a gate logs the one that it judges under before the first verdict
//! under it, since the ledger takes no other (LIFE-14).

use countersign_core::cert::Certificate;
use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, b64, hex};
use countersign_core::hash::{Context, Hash};
use countersign_core::json::quoted;
use countersign_core::kinds::Kind;
use countersign_core::verify::person_signed_bytes;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::answer::LoggedRecord;
use crate::draft::{Draft, DraftError};
use crate::error::ClientError;
use crate::gate::Gate;

/// A version of a tenant's policy, as its record says it (KIND-8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    /// The policy's name, the same for all its versions.
    pub policy_id: String,
    /// The version's name.
    pub version: String,
    /// The engine that decides by it.
    pub engine: String,
    /// What it consists of.
    pub texts: PolicyTexts,
    /// From when it decides.
    pub activated_at: Micros,
}

/// What a policy version consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyTexts {
    /// Both texts, which the ledger keeps under their digest.
    Given {
        /// Policies, in the engine's language.
        policy: String,
        /// Their schema.
        schema: String,
    },
    /// The digest of something that the ledger is not given.
    Digest(Hash),
}

impl PolicyTexts {
    /// The blob that holds both texts, each with its length; `None` where there are none, or one
    /// of them is of 4 GiB or more.
    pub fn blob(&self) -> Option<Vec<u8>> {
        let Self::Given { policy, schema } = self else { return None };
        let mut blob = Vec::with_capacity(policy.len() + schema.len() + 8);
        for text in [policy, schema] {
            blob.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
            blob.extend_from_slice(text.as_bytes());
        }
        Some(blob)
    }

    /// The version's digest (KIND-8).
    pub fn digest(&self) -> Hash {
        match self {
            Self::Given { .. } => Context::Policy.hash(&[&self.blob().unwrap_or_default()]),
            Self::Digest(digest) => *digest,
        }
    }

    /// The bytes of both texts together; 0 where they are not given.
    fn length(&self) -> usize {
        match self {
            Self::Given { policy, schema } => policy.len() + schema.len(),
            Self::Digest(_) => 0,
        }
    }
}

/// Who answers for a policy: a person of role `policy-admin`.
#[derive(Clone, Debug)]
pub struct PolicyOwner {
    /// The key that signs; it zeroes itself when dropped.
    pub key: SigningKey,
    /// The key's certificate, leaf first, up to but without the root.
    pub chain: Vec<Certificate>,
}

impl Gate {
    /// The record of a policy version, signed by its owner.
    ///
    /// # Errors
    ///
    /// `PERSON_CERTIFICATE` where the owner has no certificate with a name in it, and what is wrong
    /// with the version's own members.
    pub fn policy_draft(
        &self,
        version: &PolicyVersion,
        owner: &PolicyOwner,
    ) -> Result<Draft, DraftError> {
        let no_owner = DraftError::Fault(Code::PersonCertificate.at_field("owner"));
        let leaf = owner.chain.first().ok_or_else(|| no_owner.clone())?;
        let name = leaf.identity().map_err(|_| no_owner)?.name().to_owned();
        let draft = |signature: &[u8; 64]| {
            let json = format!(
                r#"{{"activated_at":{},"digest":{},"engine":{},"length":{},"owner":{{"certificate":{},"id":{}}},"policy_id":{},"signature":{},"version":{}}}"#,
                quoted(&version.activated_at.format()),
                quoted(&hex(&version.texts.digest())),
                quoted(&version.engine),
                version.texts.length(),
                quoted(&hex(&leaf.digest())),
                quoted(&name),
                quoted(&version.policy_id),
                quoted(&b64(signature)),
                quoted(&version.version),
            );
            self.signed_draft(Kind::Policy, &json, owner.chain.clone())
        };
        // What is signed is read from a record, by the one procedure that verifies it (KIND-15).
        let trial = draft(&[0; 64])?.placed(&hex(&[0; 16]), 0, &hex(&[0; 32]), [0; 32])?;
        let signed = person_signed_bytes(trial.view(), self.client().origin(), leaf.digest());
        let signed = signed.ok_or(DraftError::Fault(Code::PersonSignature.into()))?;
        draft(&owner.key.sign(&signed).to_bytes())
    }

    /// Gets a policy version into the log, its texts first where they are given. From then on the
    /// ledger takes verdicts under it, of every gate of this tenant. To log the same version again
    /// is harmless.
    ///
    /// # Errors
    ///
    /// Those of [`Gate::policy_draft`] as [`ClientError::Record`], those of
    /// [`crate::Client::put_blob`] and [`Gate::log`], and the ledger's refusal.
    pub async fn register_policy(
        &mut self,
        version: &PolicyVersion,
        owner: &PolicyOwner,
    ) -> Result<LoggedRecord, ClientError> {
        let draft = self.policy_draft(version, owner).map_err(|error| match error {
            DraftError::Fault(fault) => ClientError::Record(fault),
            DraftError::UnknownMember(_) => ClientError::Record(Code::MemberUnknown.into()),
        })?;
        if let Some(blob) = version.texts.blob() {
            self.client().put_blob(blob).await?;
        }
        let logged = self.log(&[draft]).await?.pop();
        let logged = logged.ok_or(ClientError::Answer(Code::AnswerMismatch.into()))?;
        logged.map_err(ClientError::Refused)
    }
}
