//! Where a log's files come from: its static read path over HTTP (spec/tiles.md), or a copy of it.
//!
//! Nothing is believed here: an answer is so many bytes at most, within a time, and what they are
//! worth is for [`crate::tree`] to find out. What may pass is tried again, with growing waits.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{StatusCode, Uri};
use countersign_core::encoding::escaped;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{sleep, timeout};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a file is asked for before it is given up, and the first wait in between.
const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(200);

/// Why a file could not be had. Its texts are safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct FetchError {
    /// The file, with where it was looked for.
    pub place: String,
    /// What was met.
    pub why: String,
    /// Whether there is no such file.
    pub absent: bool,
}

/// Whoever can hand out a log's files by their names on the read path.
///
/// The contract: an answer is of at most `max` bytes, or it is an error; every call ends; dropping
/// the future changes nothing.
pub trait Fetch: Clone + Send + Sync + 'static {
    /// The bytes of a file.
    fn fetch(
        &self,
        name: &str,
        max: usize,
    ) -> impl Future<Output = Result<Vec<u8>, FetchError>> + Send;
}

/// Speaks HTTP/1.1 to whoever serves files, or cosigns.
pub(crate) type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why there is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No URL that files could be asked for under.
    #[error("{0} is no URL prefix. Give one such as http://127.0.0.1:7480.")]
    Url(String),
    /// The machine's root certificates are missing.
    #[error("the system's root certificates can't be read: {0}.")]
    Roots(String),
    /// The TLS library refuses its own defaults.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// A log's files over HTTP; clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpSource {
    client: Client,
    prefix: String,
}

/// Why a file could not be had.
enum Trouble {
    /// It may be there in a moment.
    Passing(String),
    /// It won't.
    Final(String),
    /// There is none.
    Absent,
}

impl HttpSource {
    /// Of this URL prefix, under which `/checkpoint` and `/tile/…` are.
    pub fn new(prefix: &str) -> Result<Self, SourceError> {
        let (client, prefix) = client_for(prefix)?;
        Ok(Self { client, prefix })
    }

    async fn get_once(&self, name: &str, max: usize) -> Result<Vec<u8>, Trouble> {
        let uri: Uri = format!("{}/{name}", self.prefix)
            .parse()
            .map_err(|_| Trouble::Final("the URL can't be called".to_owned()))?;
        let asked = async {
            let response = self.client.get(uri).await;
            let response = response.map_err(|error| Trouble::Passing(chain(&error)))?;
            let status = response.status();
            if status == StatusCode::NOT_FOUND {
                return Err(Trouble::Absent);
            }
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                return Err(Trouble::Passing(format!("the answer is {status}")));
            }
            if !status.is_success() {
                return Err(Trouble::Final(format!("the answer is {status}")));
            }
            if response.headers().contains_key("content-encoding") {
                let why = "the answer is compressed although nobody asked for that";
                return Err(Trouble::Final(why.to_owned()));
            }
            let body = Limited::new(response.into_body(), max).collect().await;
            let body = body.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Trouble::Final(format!("it has more than the {max} bytes of such a file"))
                } else {
                    Trouble::Passing(error.to_string())
                }
            })?;
            Ok(body.to_bytes().to_vec())
        };
        let late = || Trouble::Passing("no answer in time".to_owned());
        timeout(PATIENCE, asked).await.map_err(|_| late())?
    }
}

impl Fetch for HttpSource {
    async fn fetch(&self, name: &str, max: usize) -> Result<Vec<u8>, FetchError> {
        let mut wait = BACKOFF;
        let mut attempt = 1;
        let (why, absent) = loop {
            match self.get_once(name, max).await {
                Ok(bytes) => return Ok(bytes),
                Err(Trouble::Passing(_)) if attempt < ATTEMPTS => {
                    sleep(wait).await;
                    wait *= 2;
                    attempt += 1;
                }
                Err(Trouble::Absent) => break ("the answer is 404 Not Found".to_owned(), true),
                Err(Trouble::Passing(why) | Trouble::Final(why)) => break (escaped(&why), false),
            }
        };
        Err(FetchError { place: escaped(&format!("{}/{name}", self.prefix)), why, absent })
    }
}

/// A client for what stands under this URL prefix, and the prefix without a slash at its end.
pub(crate) fn client_for(prefix: &str) -> Result<(Client, String), SourceError> {
    let wrong = || SourceError::Url(escaped(prefix));
    let uri: Uri = prefix.parse().map_err(|_| wrong())?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong()),
    };
    if uri.query().is_some() {
        return Err(wrong());
    }
    Ok((client(secure)?, prefix.trim_end_matches('/').to_owned()))
}

/// A client that believes the system's roots where it speaks TLS. Who serves the files matters
/// little, since all of them are checked; so are cosignatures.
fn client(secure: bool) -> Result<Client, SourceError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let provider = aws_lc_rs::default_provider();
    let builder = HttpsConnectorBuilder::new();
    let connector = if secure {
        let builder = builder
            .with_provider_and_native_roots(provider)
            .map_err(|error| SourceError::Roots(escaped(&error.to_string())))?;
        builder.https_only().enable_http1().wrap_connector(tcp)
    } else {
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|error| SourceError::Tls(escaped(&error.to_string())))?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        builder.with_tls_config(config).https_or_http().enable_http1().wrap_connector(tcp)
    };
    Ok(legacy::Client::builder(TokioExecutor::new()).build(connector))
}

/// An error with its causes, since the outermost says nothing.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
