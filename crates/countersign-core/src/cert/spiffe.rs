//! The identity in a certificate: who, of which tenant, in which role.

use std::fmt;
use std::str::FromStr;

use super::CertError;

/// The longest trust domain, tenant or name, in bytes.
pub const MAX_SEGMENT: usize = 128;

/// What the holder of a certificate may act as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Seals a tenant's records.
    Gate,
    /// Reads a tenant's evidence.
    Auditor,
    /// Answers when the log is silent or forked.
    Responder,
    /// Approves supervised actions by their own signature.
    Approver,
    /// Signs policies and grants.
    PolicyAdmin,
    /// Signs erasures.
    TenantAdmin,
    /// Follows the log and keeps its heads.
    Mirror,
    /// Runs the ledger.
    Operator,
    /// Asks a gate before it acts: an enforcement point (policy enforcement point, executor).
    Pep,
}

impl Role {
    /// Every role, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Gate,
        Self::Auditor,
        Self::Responder,
        Self::Approver,
        Self::PolicyAdmin,
        Self::TenantAdmin,
        Self::Mirror,
        Self::Operator,
        Self::Pep,
    ];

    /// The role as identities spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Auditor => "auditor",
            Self::Responder => "responder",
            Self::Approver => "approver",
            Self::PolicyAdmin => "policy-admin",
            Self::TenantAdmin => "tenant-admin",
            Self::Mirror => "mirror",
            Self::Operator => "operator",
            Self::Pep => "pep",
        }
    }
}

impl FromStr for Role {
    type Err = CertError;

    fn from_str(text: &str) -> Result<Self, CertError> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(CertError::RoleUnknown)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `spiffe://<trust domain>/tenant/<tenant>/<role>/<name>`, in this one spelling.
///
/// The trust domain is of `[a-z0-9.-_]`, tenant and name of `[A-Za-z0-9._-]`, each of 1 to
/// [`MAX_SEGMENT`] bytes and neither `.` nor `..`. There are no escapes, so what is compared is
/// what is shown. `Display` gives back the text that was parsed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: String,
    tenant: String,
    role: Role,
    name: String,
}

impl SpiffeId {
    /// Makes an identity of its parts, under the same rules as parsing one.
    pub fn new(
        trust_domain: &str,
        tenant: &str,
        role: Role,
        name: &str,
    ) -> Result<Self, CertError> {
        let domain_ok = is_segment(trust_domain) && !trust_domain.bytes().any(is_upper);
        if !(domain_ok && is_segment(tenant) && is_segment(name)) {
            return Err(CertError::SpiffeMalformed);
        }
        Ok(Self {
            trust_domain: trust_domain.to_owned(),
            tenant: tenant.to_owned(),
            role,
            name: name.to_owned(),
        })
    }

    /// Whose names these are.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The tenant that the holder belongs to.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// What the holder acts as.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The gate's name, the person's id, and so on.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for SpiffeId {
    type Err = CertError;

    fn from_str(text: &str) -> Result<Self, CertError> {
        let rest = text.strip_prefix("spiffe://").ok_or(CertError::SpiffeMalformed)?;
        let mut parts = rest.split('/');
        let mut next = || parts.next().ok_or(CertError::SpiffeMalformed);
        let (trust_domain, label, tenant, role, name) =
            (next()?, next()?, next()?, next()?, next()?);
        if label != "tenant" || parts.next().is_some() {
            return Err(CertError::SpiffeMalformed);
        }
        // The shape first: an unknown role is a fault of its own only in a well-formed identity.
        let id = Self::new(trust_domain, tenant, Role::Gate, name)?;
        if !is_segment(role) {
            return Err(CertError::SpiffeMalformed);
        }
        Ok(Self { role: role.parse()?, ..id })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, tenant, role, name } = self;
        write!(f, "spiffe://{trust_domain}/tenant/{tenant}/{role}/{name}")
    }
}

fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_SEGMENT).contains(&text.len())
        && text.bytes().all(allowed)
        && !matches!(text, "." | "..")
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase()
}
