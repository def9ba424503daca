//! The trust file: all that a verifier believes (spec/trust.md).

use serde::Deserialize;

use crate::cert::{Certificate, TrustAnchor};
use crate::codes::{Code, Fault};
use crate::encoding::{Micros, escaped, from_b64, is_name};
use crate::note::{KeyType, SignedCheckpoint, VerifierKey};
use crate::quorum::WitnessPolicy;

/// Bytes that a trust file may have.
pub const TRUST_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    log: Vec<LogSection>,
    witnesses: Option<WitnessSection>,
    gates: Option<GateSection>,
    people: Option<PeopleSection>,
    limits: Option<LimitSection>,
    #[serde(default)]
    revoked: Vec<RevokedSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSection {
    vkey: String,
    clock: Option<Vec<String>>,
    ledger: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessSection {
    policy: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GateSection {
    trust_domain: String,
    roots: Vec<String>,
    tenants: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeopleSection {
    roots: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitSection {
    clock_skew_s: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedSection {
    key: String,
    from: String,
}

/// A log that is trusted to be the one it says.
#[derive(Clone, Debug)]
pub struct TrustedLog {
    /// The log's key; its name is the origin.
    pub vkey: VerifierKey,
    /// Keys of the operator's clock, where the file names them; any of them serves.
    pub clocks: Vec<VerifierKey>,
    /// Keys that seal the ledger's own records; any of them serves.
    pub ledgers: Vec<VerifierKey>,
}

/// Whose gates' evidence is accepted.
#[derive(Clone, Debug)]
pub struct TrustedGates {
    /// The SPIFFE trust domain.
    pub trust_domain: String,
    /// Roots of gates' certificates.
    pub roots: Vec<TrustAnchor>,
    /// Tenants whose evidence this verifier accepts.
    pub tenants: Vec<String>,
}

/// A key that is not to be relied on from some time on.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// The public key's bytes, as the certificate's or vkey's.
    pub key: Vec<u8>,
    /// From when.
    pub from: Micros,
}

/// A trust file, read and checked.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The logs.
    pub logs: Vec<TrustedLog>,
    /// The witness quorum, where one is required.
    pub witnesses: Option<WitnessPolicy>,
    /// The gates, where the file names them.
    pub gates: Option<TrustedGates>,
    /// Roots of people's certificates, where the file names them.
    pub people: Option<Vec<TrustAnchor>>,
    /// Microseconds that a record's own time may be ahead of the ledger's.
    pub skew_us: u64,
    /// Revoked keys.
    pub revoked: Vec<Revoked>,
}

fn vkeys(
    texts: Option<&Vec<String>>,
    key_type: KeyType,
    name: &str,
) -> Result<Vec<VerifierKey>, Fault> {
    let parse = |text: &String| {
        let vkey = VerifierKey::parse(text)?;
        if vkey.key_type != key_type {
            return Err(Code::VkeyType.into());
        }
        if vkey.name == name { Ok(vkey) } else { Err(Code::TrustKeyName.into()) }
    };
    texts.map_or_else(|| Ok(Vec::new()), |texts| texts.iter().map(parse).collect())
}

impl Trust {
    /// Parses a trust file. `read` gives the PEM text of a root by the name that the file says; the
    /// caller resolves it relative to the file, since this crate reads nothing itself.
    pub fn parse(
        text: &str,
        mut read: impl FnMut(&str) -> Result<String, Fault>,
    ) -> Result<Self, Fault> {
        if text.len() > TRUST_BYTES_MAX {
            return Err(Code::TrustMalformed.into());
        }
        let file: File = toml::from_str(text).map_err(|_| Code::TrustMalformed)?;
        if file.log.is_empty() {
            return Err(Code::TrustMalformed.at_field("log"));
        }
        let mut logs = Vec::new();
        for section in &file.log {
            let vkey = VerifierKey::parse(&section.vkey)?;
            if vkey.key_type != KeyType::Note {
                return Err(Code::VkeyType.at_field("vkey"));
            }
            let (clock, ledger) = (format!("{}/clock", vkey.name), format!("{}/ledger", vkey.name));
            let clocks = vkeys(section.clock.as_ref(), KeyType::Cosignature, &clock)?;
            let ledgers = vkeys(section.ledger.as_ref(), KeyType::Note, &ledger)?;
            logs.push(TrustedLog { vkey, clocks, ledgers });
        }
        let mut anchors = |names: &[String]| -> Result<Vec<TrustAnchor>, Fault> {
            let mut anchors = Vec::new();
            for name in names {
                let bundle = crate::cert::split_pem_bundle(&read(name)?).map_err(Fault::from)?;
                for certificate in bundle {
                    anchors.push(TrustAnchor::new(certificate).map_err(Fault::from)?);
                }
            }
            if anchors.is_empty() {
                Err(Code::TrustMalformed.at_field("roots"))
            } else {
                Ok(anchors)
            }
        };
        let gates = match file.gates {
            Some(section) => {
                if !section.tenants.iter().all(|tenant| is_name(tenant)) {
                    return Err(Code::NameMalformed.at_field("tenants"));
                }
                let roots = anchors(&section.roots)?;
                Some(TrustedGates {
                    trust_domain: section.trust_domain,
                    roots,
                    tenants: section.tenants,
                })
            }
            None => None,
        };
        let people = file.people.map(|section| anchors(&section.roots)).transpose()?;
        let witnesses = file.witnesses.map(|w| WitnessPolicy::parse(&w.policy)).transpose()?;
        let skew_s = file.limits.and_then(|limits| limits.clock_skew_s).unwrap_or(300);
        let revoked = file.revoked.iter().map(|section| {
            let key = from_b64(&section.key).ok_or(Code::Base64.at_field("key"))?;
            // A key that nothing can have would revoke nothing, and nobody would notice.
            if !is_public_key(&key) {
                return Err(Code::TrustMalformed.at_field("revoked.key"));
            }
            let from = Micros::parse(&section.from).ok_or(Code::TrustMalformed.at_field("from"))?;
            Ok::<_, Fault>(Revoked { key, from })
        });
        Ok(Self {
            logs,
            witnesses,
            gates,
            people,
            skew_us: skew_s.checked_mul(1_000_000).ok_or(Code::TrustMalformed)?,
            revoked: revoked.collect::<Result<_, _>>()?,
        })
    }

    /// Where a trust file breaks the shape of spec/trust.md, safe to print: line, column and key, for
    /// whoever has to mend it. `None` where the shape is right.
    pub fn shape_fault(text: &str) -> Option<String> {
        let error = toml::from_str::<File>(text).err()?;
        let said = escaped(error.message());
        let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
            return Some(said);
        };
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some(format!("line {line}, column {column}: {said}"))
    }

    /// The doubt that revoked keys leave, unless a witness quorum cosigned this checkpoint before
    /// the first of them was (VER-9). A cosignature's time is whole seconds: only a second that
    /// ended before T is before T.
    pub fn revocation_doubt(
        &self,
        keys: &[Vec<u8>],
        checkpoint: &SignedCheckpoint,
    ) -> Result<Option<Code>, Fault> {
        let first = keys.iter().filter_map(|key| self.revoked_from(key)).min();
        let Some(from) = first else { return Ok(None) };
        let seen_before = self.quorum(checkpoint, Some(from.seconds()))?;
        Ok((!seen_before).then_some(Code::KeyRevoked))
    }

    /// Whether a witness quorum that asks for anybody cosigned this checkpoint, before a second
    /// where one is given. A known witness's line that fails is a fault.
    pub(crate) fn quorum(
        &self,
        checkpoint: &SignedCheckpoint,
        before: Option<u64>,
    ) -> Result<bool, Fault> {
        match &self.witnesses {
            Some(policy) if !policy.is_none() => {
                Ok(policy.evaluate(checkpoint, &self.own_keys(), before)?.is_some())
            }
            _ => Ok(false),
        }
    }

    /// The trusted logs of this origin.
    pub fn logs_of<'a>(&'a self, origin: &str) -> impl Iterator<Item = &'a TrustedLog> {
        self.logs.iter().filter(move |log| log.vkey.name == origin)
    }

    /// The keys of all logs, their clocks and ledgers, which never count as a witness (TRUST-5).
    pub fn own_keys(&self) -> Vec<[u8; 32]> {
        let of = |log: &TrustedLog| {
            let others = log.clocks.iter().chain(&log.ledgers);
            std::iter::once(&log.vkey).chain(others).map(|vkey| vkey.key).collect::<Vec<_>>()
        };
        self.logs.iter().flat_map(of).collect()
    }

    /// From when a key is revoked, where it is.
    pub fn revoked_from(&self, key: &[u8]) -> Option<Micros> {
        self.revoked.iter().filter(|r| r.key == key).map(|r| r.from).min()
    }
}

/// Whether these can be the bytes of a key that this format knows (TRUST-10): Ed25519, or a point of
/// P-256 or P-384 as a certificate has it.
fn is_public_key(key: &[u8]) -> bool {
    matches!((key.len(), key.first()), (32, _) | (65 | 97, Some(4)) | (33 | 49, Some(2 | 3)))
}

/// Reads a chain of an evidence file: one strict PEM block each, leaf first.
pub(crate) fn read_chain(pems: &[String]) -> Result<Vec<Certificate>, Fault> {
    pems.iter().map(|pem| Certificate::from_pem(pem).map_err(Fault::from)).collect()
}
