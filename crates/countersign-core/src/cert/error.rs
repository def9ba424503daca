//! What can be wrong with a certificate or a chain.

/// One variant per fault. `index` counts from the leaf, which is 0; the trust anchor, where the
/// chain leaves it out, has the index after the last certificate given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// The text is not one strict PEM block; whoever wrote the file can rewrite it.
    #[error(
        "the certificate is not strict PEM: write one CERTIFICATE block with LF line ends, \
         64 columns and a final newline"
    )]
    PemMalformed,
    /// Something follows the PEM block where exactly one was expected.
    #[error("text follows the certificate's PEM block: leave exactly one block")]
    PemTrailing,
    /// A PEM bundle holds no certificate at all.
    #[error("the PEM bundle is empty: put at least one certificate into it")]
    BundleEmpty,
    /// A PEM bundle holds more than `MAX_BUNDLE` certificates.
    #[error("the PEM bundle holds more than 64 certificates: leave out those not needed")]
    BundleTooLong,
    /// The bytes are not a certificate in canonical DER; its issuer must encode it anew.
    #[error("the certificate is not canonical DER: have it issued anew")]
    DerMalformed,
    /// The certificate is longer than `MAX_DER` or `MAX_PEM`.
    #[error("the certificate is longer than 16 KiB of PEM: have a smaller one issued")]
    TooLarge,
    /// The certificate is X.509 v1 or v2, which cannot carry extensions or whose use is over.
    #[error("the certificate is not X.509 version 3: have a version 3 certificate issued")]
    VersionNotV3,
    /// The signed part names another signature algorithm than the certificate around it.
    #[error(
        "the certificate names two different signature algorithms: it was altered or badly \
         issued, get it from its issuer again"
    )]
    SignatureAlgorithmsDiffer,
    /// One extension appears twice, so that two readers could obey different ones.
    #[error("extension {oid} appears twice in the certificate: have it issued with one")]
    DuplicateExtension {
        /// The extension, dotted.
        oid: String,
    },
    /// An extension that path validation must read has a malformed value.
    #[error("extension {oid} of the certificate is malformed: have it issued anew")]
    ExtensionMalformed {
        /// The extension, dotted.
        oid: String,
    },
    /// The leaf names no URI in its subjectAltName, so it says nothing about who holds it.
    #[error(
        "the certificate has no URI among its alternative names: have one issued with a \
         spiffe:// identity"
    )]
    NoUriSan,
    /// The leaf names several URIs; which of them would be meant is anyone's guess.
    #[error("the certificate has more than one URI name: have one issued with exactly one")]
    ManyUriSans,
    /// The leaf has an alternative name that is neither a URI nor a DNS name.
    #[error("the certificate has an alternative name other than a URI or DNS name: drop it")]
    OtherSan,
    /// The identity is not spelled as this system spells identities.
    #[error(
        "the identity is not of the form spiffe://<trust domain>/tenant/<tenant>/<role>/<name>: \
         spell it so, without escapes, ports, queries or empty parts"
    )]
    SpiffeMalformed,
    /// The identity's role is none of those known.
    #[error(
        "the identity names an unknown role: use gate, auditor, responder, approver, \
         policy-admin, tenant-admin, mirror or operator"
    )]
    RoleUnknown,
    /// A chain without any certificate.
    #[error("the certificate chain is empty: give the leaf first, then its issuers")]
    ChainEmpty,
    /// A chain of more than `MAX_CHAIN` certificates.
    #[error("the certificate chain is longer than 8: leave out what does not lead to the root")]
    ChainTooLong,
    /// The leaf is itself a trust anchor; an anchor vouches for others, never for itself.
    #[error("the leaf certificate is itself a trusted root: present one that the root issued")]
    LeafIsAnchor,
    /// The leaf is a CA; seals and signatures are made with end-entity keys only.
    #[error("the leaf certificate is a CA: present an end-entity certificate, leaf first")]
    LeafIsCa,
    /// The leaf's keyUsage lacks digitalSignature or has keyCertSign.
    #[error(
        "the leaf certificate's key usage must have digitalSignature and not keyCertSign: have \
         it issued so"
    )]
    LeafKeyUsage,
    /// The leaf's key is not an Ed25519 key that strict verification accepts.
    #[error("the leaf certificate's key is not a sound Ed25519 key: make one and certify it")]
    LeafKey,
    /// The validity of a certificate had ended at the time asked for.
    #[error("certificate {index} of the chain had expired at that time: renew it")]
    Expired {
        /// Position in the chain, the leaf being 0.
        index: usize,
    },
    /// The validity of a certificate had not begun at the time asked for.
    #[error(
        "certificate {index} of the chain was not yet valid at that time: check the clocks, or \
         wait until it is"
    )]
    NotYetValid {
        /// Position in the chain, the leaf being 0.
        index: usize,
    },
    /// A certificate names another issuer than the one that follows it.
    #[error(
        "certificate {index} of the chain was not issued by the one after it: order the chain \
         leaf first, each followed by its issuer"
    )]
    IssuerMismatch {
        /// Position of the certificate issued, the leaf being 0.
        index: usize,
    },
    /// A certificate's signature does not verify under its issuer's key.
    #[error(
        "the signature on certificate {index} of the chain does not verify under its issuer's \
         key: it was altered, or another key bears the issuer's name"
    )]
    SignatureInvalid {
        /// Position of the certificate signed, the leaf being 0.
        index: usize,
    },
    /// A certificate is signed with an algorithm that is not accepted, or that its issuer's kind
    /// of key cannot make.
    #[error(
        "certificate {index} of the chain is signed in a way that is not accepted: use Ed25519, \
         or ECDSA with SHA-256 or SHA-384, by a key of that kind"
    )]
    SignatureAlgorithm {
        /// Position of the certificate signed, the leaf being 0.
        index: usize,
    },
    /// An issuer in the chain is not a CA.
    #[error("certificate {index} of the chain issued another but is not a CA (CA:TRUE is missing)")]
    NotCa {
        /// Position of the issuer.
        index: usize,
    },
    /// An issuer in the chain may not sign certificates.
    #[error(
        "certificate {index} of the chain issued another but its key usage lacks keyCertSign: \
         have the CA issued with it"
    )]
    NoKeyCertSign {
        /// Position of the issuer.
        index: usize,
    },
    /// More intermediates stand below an issuer than it allows.
    #[error(
        "certificate {index} of the chain allows fewer intermediates below it than there are: \
         shorten the chain or have the CA issued with a larger path length"
    )]
    PathLen {
        /// Position of the issuer; the chain's length for an anchor that is not in the chain.
        index: usize,
    },
    /// A critical extension that path validation does not know.
    #[error(
        "certificate {index} of the chain has the critical extension {oid}, which is not \
         understood here: have it issued without"
    )]
    CriticalExtension {
        /// Position in the chain, the leaf being 0.
        index: usize,
        /// The extension, dotted.
        oid: String,
    },
    /// An issuer's key is of a kind that is not accepted, or malformed.
    #[error(
        "the key of certificate {index} of the chain is not a sound Ed25519, P-256 or P-384 key \
         (uncompressed): use a CA that has one"
    )]
    KeyAlgorithm {
        /// Position of the issuer.
        index: usize,
    },
    /// The chain leads to no trust anchor.
    #[error(
        "the chain does not lead to a trusted root: add its root to the trust file if you trust \
         it, or complete the chain"
    )]
    UntrustedRoot,
    /// A certificate that is to be trusted as a root is not a CA.
    #[error("the root certificate is not a CA (CA:TRUE is missing): name a CA as root")]
    AnchorNotCa,
    /// A certificate that is to be trusted as a root may not sign certificates.
    #[error("the root certificate's key usage lacks keyCertSign: name a CA that has it")]
    AnchorNoKeyCertSign,
    /// A certificate that is to be trusted as a root has a critical extension not known here.
    #[error(
        "the root certificate has the critical extension {oid}, which is not understood here: \
         name a root without it"
    )]
    AnchorCriticalExtension {
        /// The extension, dotted.
        oid: String,
    },
    /// A certificate that is to be trusted as a root has a key that is not accepted.
    #[error(
        "the root certificate's key is not a sound Ed25519, P-256 or P-384 key (uncompressed): \
         name a root that has one"
    )]
    AnchorKey,
}

impl CertError {
    /// The stable code of the fault, as in the registry of codes: several faults that call for
    /// the same remedy share one, and the message tells them apart.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PemMalformed | Self::PemTrailing | Self::BundleEmpty | Self::BundleTooLong => {
                "CERT_PEM"
            }
            Self::DerMalformed
            | Self::TooLarge
            | Self::VersionNotV3
            | Self::SignatureAlgorithmsDiffer
            | Self::ExtensionMalformed { .. } => "CERT_MALFORMED",
            Self::DuplicateExtension { .. }
            | Self::CriticalExtension { .. }
            | Self::AnchorCriticalExtension { .. } => "CERT_EXTENSION",
            Self::NoUriSan
            | Self::ManyUriSans
            | Self::OtherSan
            | Self::SpiffeMalformed
            | Self::RoleUnknown => "CERT_IDENTITY",
            // A CA where the leaf belongs is, as a rule, a chain in the wrong order.
            Self::ChainEmpty
            | Self::ChainTooLong
            | Self::LeafIsAnchor
            | Self::LeafIsCa
            | Self::IssuerMismatch { .. } => "CERT_CHAIN",
            Self::UntrustedRoot => "CERT_UNTRUSTED_ROOT",
            Self::SignatureInvalid { .. } | Self::SignatureAlgorithm { .. } => "CERT_SIGNATURE",
            Self::Expired { .. } => "CERT_EXPIRED",
            Self::NotYetValid { .. } => "CERT_NOT_YET_VALID",
            Self::NotCa { .. }
            | Self::NoKeyCertSign { .. }
            | Self::PathLen { .. }
            | Self::AnchorNotCa
            | Self::AnchorNoKeyCertSign => "CERT_ISSUER",
            Self::LeafKeyUsage | Self::LeafKey | Self::KeyAlgorithm { .. } | Self::AnchorKey => {
                "CERT_KEY"
            }
        }
    }

    /// Which certificate of the chain is at fault, the leaf being 0; `None` where the fault is not
    /// that of one certificate in a chain.
    pub fn place(&self) -> Option<usize> {
        match self {
            Self::Expired { index }
            | Self::NotYetValid { index }
            | Self::IssuerMismatch { index }
            | Self::SignatureInvalid { index }
            | Self::SignatureAlgorithm { index }
            | Self::NotCa { index }
            | Self::NoKeyCertSign { index }
            | Self::PathLen { index }
            | Self::CriticalExtension { index, .. }
            | Self::KeyAlgorithm { index } => Some(*index),
            Self::LeafIsAnchor | Self::LeafIsCa | Self::LeafKeyUsage | Self::LeafKey => Some(0),
            _ => None,
        }
    }
}
