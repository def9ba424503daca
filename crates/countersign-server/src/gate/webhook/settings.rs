//! `[gate.webhook]`: where signals go and what signs them, checked before anything is sent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::Scheme;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::post::{self, Client};
use crate::private_file::{self, PrivateFileError};

/// Bytes that the secret must have (HOOK-4), and those that its file may have.
const SECRET_BYTES_MIN: usize = 32;
const SECRET_BYTES_MAX: usize = 4 * 1024;

/// The section `[gate.webhook]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSection {
    /// Where signals are posted: `https://…`, or `http://` to this machine.
    pub url: String,
    /// File of the secret that signs them: 32 bytes or more, readable by its owner alone. A line
    /// feed at its end does not count.
    pub secret_file: PathBuf,
    /// PEM file of the roots that issue the receiver's certificate; the system's unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Milliseconds that one attempt may take, from connecting to the answer.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

const fn default_timeout_ms() -> u64 {
    5_000
}

/// What is wrong with the section.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// Not a URL that signals may go to.
    #[error("gate.webhook.url is wrong: give https://host/path, or http:// to a loopback address")]
    Url,
    /// An attempt would take too long or no time.
    #[error("gate.webhook.timeout_ms is wrong: choose 100 to 60000 milliseconds")]
    Timeout,
    /// The secret can't be read.
    #[error("cannot read the secret {path}: {source}; check gate.webhook.secret_file")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others than its owner may read or write the secret.
    #[error(
        "the secret {path} is open to others than its owner (mode {mode:04o}); run: chmod 600 {path}"
    )]
    Permissive {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too short to be one, or no regular file of at most 4 KiB.
    #[error("the secret {path} is not 32 to 4096 bytes in a regular file; make one at random")]
    Secret {
        /// The file.
        path: PathBuf,
    },
    /// The roots can't be used.
    #[error("gate.webhook.ca_file cannot be used: {0}; name a PEM file with certificates")]
    Roots(String),
}

/// A checked section: who is called, what signs, over which TLS.
pub struct Webhook {
    pub(super) uri: Uri,
    pub(super) secret: Zeroizing<Vec<u8>>,
    pub(super) timeout: Duration,
    pub(super) client: Client,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the secret nor a path that may be one.
        f.debug_struct("Webhook").field("host", &self.uri.host()).finish_non_exhaustive()
    }
}

impl WebhookSection {
    /// Makes its paths relative to `dir`.
    pub fn resolve(&mut self, dir: &Path) {
        self.secret_file = dir.join(&self.secret_file);
        self.ca_file = self.ca_file.take().map(|path| dir.join(path));
    }

    /// Checks the values, and reads the secret and the roots.
    pub fn check(&self) -> Result<Webhook, WebhookError> {
        let uri: Uri = self.url.parse().map_err(|_| WebhookError::Url)?;
        let plain = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => false,
            // HOOK-1: what is neither encrypted nor authenticated stays on this machine.
            Some(scheme) if *scheme == Scheme::HTTP && is_loopback(&uri) => true,
            _ => return Err(WebhookError::Url),
        };
        let userinfo = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if uri.host().is_none_or(str::is_empty) || userinfo {
            return Err(WebhookError::Url);
        }
        if !(100..=60_000).contains(&self.timeout_ms) {
            return Err(WebhookError::Timeout);
        }
        let secret = read_secret(&self.secret_file)?;
        let tls = client_tls(self.ca_file.as_deref(), plain)?;
        let client = post::client(tls, plain);
        Ok(Webhook { uri, secret, timeout: Duration::from_millis(self.timeout_ms), client })
    }
}

/// Whether the host is an address of this machine's own, or its usual name.
fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, WebhookError> {
    let owned = path.to_owned();
    let mut secret = private_file::read(path, SECRET_BYTES_MAX).map_err(|error| match error {
        PrivateFileError::Unreadable(source) => WebhookError::Unreadable { path: owned, source },
        PrivateFileError::Permissive(mode) => WebhookError::Permissive { path: owned, mode },
        PrivateFileError::NotAFile | PrivateFileError::TooLarge => {
            WebhookError::Secret { path: owned }
        }
    })?;
    if secret.last() == Some(&b'\n') {
        secret.pop();
    }
    if secret.len() < SECRET_BYTES_MIN {
        return Err(WebhookError::Secret { path: path.to_owned() });
    }
    Ok(secret)
}

/// TLS towards the receiver. A plain URL needs none, and then no roots are looked for.
fn client_tls(ca_file: Option<&Path>, plain: bool) -> Result<ClientConfig, WebhookError> {
    let roots_error = |what: &dyn std::fmt::Display| WebhookError::Roots(what.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| roots_error(&error))?;
    if ca_file.is_none() && !plain {
        use hyper_rustls::ConfigBuilderExt as _;
        let builder = builder.with_native_roots().map_err(|error| roots_error(&error))?;
        return Ok(builder.with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let found = CertificateDer::pem_file_iter(path).map_err(|error| roots_error(&error))?;
        for root in found {
            let root = root.map_err(|error| roots_error(&error))?;
            roots.add(root).map_err(|error| roots_error(&error))?;
        }
        if roots.is_empty() {
            return Err(roots_error(&"it holds no certificate"));
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(dir: &Path, bytes: &[u8], mode: u32) -> PathBuf {
        let path = dir.join("secret");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn section(url: &str, secret_file: PathBuf) -> WebhookSection {
        WebhookSection { url: url.to_owned(), secret_file, ca_file: None, timeout_ms: 1_000 }
    }

    #[test]
    fn hook_1_signals_go_over_tls_or_stay_on_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let secret = write(dir.path(), &[b'k'; 32], 0o600);
        for url in ["http://127.0.0.1:9/x", "http://localhost/", "http://[::1]:9/"] {
            section(url, secret.clone()).check().unwrap();
        }
        for url in [
            "http://hooks.acme.example/",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example/",
            "https://user:pass@hooks.acme.example/",
            "ftp://127.0.0.1/",
            "/signals",
            "hooks.acme.example",
            "",
        ] {
            let error = section(url, secret.clone()).check().unwrap_err();
            assert!(matches!(error, WebhookError::Url), "{url}: {error}");
        }
        let slow = WebhookSection { timeout_ms: 0, ..section("http://[::1]/", secret.clone()) };
        assert!(matches!(slow.check().unwrap_err(), WebhookError::Timeout));
        let mut https = section("https://hooks.acme.example/", secret.clone());
        https.ca_file = Some(secret);
        assert!(matches!(https.check().unwrap_err(), WebhookError::Roots(_)));
    }

    #[test]
    fn hook_4_the_secret_is_long_enough_and_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let check = |bytes: &[u8], mode| {
            section("http://127.0.0.1/", write(dir.path(), bytes, mode)).check()
        };
        assert_eq!(check(&[b'k'; 33], 0o400).unwrap().secret.len(), 33);
        let mut line = vec![b'k'; 32];
        line.push(b'\n');
        assert_eq!(check(&line, 0o600).unwrap().secret.len(), 32);
        let mut short = vec![b'k'; 31];
        short.push(b'\n');
        for bytes in [&short[..], b"", &[b'k'; 5_000]] {
            let error = check(bytes, 0o600).unwrap_err();
            assert!(matches!(error, WebhookError::Secret { .. }), "{error}");
        }
        for mode in [0o640, 0o604, 0o620] {
            let error = check(&[b'k'; 32], mode).unwrap_err();
            assert!(matches!(error, WebhookError::Permissive { .. }), "{error}");
            assert!(!format!("{error:?}").contains("kkkk"));
        }
        assert!(!format!("{:?}", check(&[b'k'; 32], 0o600)).contains("kkkk"));
    }
}
