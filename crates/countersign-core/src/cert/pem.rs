//! Strict PEM: RFC 7468 with 64 columns, LF, and nothing around the block.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{CertError, Certificate};

/// The longest PEM block, in bytes.
pub const MAX_PEM: usize = 16 * 1024;

/// The most certificates in one PEM bundle.
pub const MAX_BUNDLE: usize = 64;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const END: &str = "-----END CERTIFICATE-----\n";
const COLUMNS: usize = 64;

impl Certificate {
    /// Parses exactly one strict PEM block of at most [`MAX_PEM`] bytes, its final newline
    /// included; then as [`Certificate::from_der`].
    pub fn from_pem(text: &str) -> Result<Self, CertError> {
        let (certificate, rest) = first_block(text)?;
        if rest.is_empty() { Ok(certificate) } else { Err(CertError::PemTrailing) }
    }

    /// The certificate as strict PEM, the one spelling that [`Certificate::from_pem`] accepts.
    pub fn pem(&self) -> String {
        let body = STANDARD.encode(self.der());
        let mut text = String::with_capacity(BEGIN.len() + body.len() * 66 / 64 + END.len());
        text.push_str(BEGIN);
        let mut rest = body.as_str();
        while let Some((line, tail)) = rest.split_at_checked(COLUMNS) {
            text.push_str(line);
            text.push('\n');
            rest = tail;
        }
        if !rest.is_empty() {
            text.push_str(rest);
            text.push('\n');
        }
        text.push_str(END);
        text
    }
}

/// Parses a file of 1 to [`MAX_BUNDLE`] strict PEM blocks that follow one another directly:
/// trusted roots, or a chain with its leaf first.
pub fn split_pem_bundle(text: &str) -> Result<Vec<Certificate>, CertError> {
    if text.is_empty() {
        return Err(CertError::BundleEmpty);
    }
    let mut certificates = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if certificates.len() == MAX_BUNDLE {
            return Err(CertError::BundleTooLong);
        }
        let (certificate, tail) = first_block(rest)?;
        certificates.push(certificate);
        rest = tail;
    }
    Ok(certificates)
}

/// The certificate at the head of `text`, and what follows it.
fn first_block(text: &str) -> Result<(Certificate, &str), CertError> {
    let body = text.strip_prefix(BEGIN).ok_or(CertError::PemMalformed)?;
    let (body, rest) = body.split_once(END).ok_or(CertError::PemMalformed)?;
    let length = text.len() - rest.len();
    if length > MAX_PEM {
        return Err(CertError::TooLarge);
    }
    let base64: String = body.split('\n').collect();
    let der = STANDARD.decode(base64).map_err(|_| CertError::PemMalformed)?;
    let certificate = Certificate::from_der(&der)?;
    // One spelling: whatever columns, line ends, padding or stray bits the text had, it is what we
    // would have written ourselves.
    if text.get(..length) != Some(certificate.pem().as_str()) {
        return Err(CertError::PemMalformed);
    }
    Ok((certificate, rest))
}
