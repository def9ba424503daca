//! Where tiles come from: a log's static read path over HTTP.

use std::time::Duration;

use countersign_core::encoding::escaped;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::note::NOTE_BYTES_MAX;
use countersign_core::tiles::{TileKind, TilePath};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{sleep, timeout};
use tonic::codegen::Bytes;
use tonic::codegen::http::Uri;

use crate::exit::Failure;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a file is asked for before it is given up, and the first wait in between.
const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(200);

type Client = legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// A log's files; clones share their connections.
#[derive(Clone)]
pub(super) struct Source {
    client: Client,
    prefix: String,
}

/// Why a file could not be had.
enum Trouble {
    /// It may be there in a moment.
    Passing(String),
    /// It won't.
    Final(String),
}

impl Source {
    /// Of this URL prefix.
    pub(super) fn new(prefix: &str) -> Result<Self, Failure> {
        let wrong = || {
            let shown = escaped(prefix);
            Failure::usage(format!(
                "{shown} is no URL prefix. Give one such as http://127.0.0.1:7480."
            ))
        };
        let uri: Uri = prefix.parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        if uri.query().is_some() {
            return Err(wrong());
        }
        Ok(Self { client: client(secure)?, prefix: prefix.trim_end_matches('/').to_owned() })
    }

    /// The newest checkpoint, not verified.
    pub(super) async fn checkpoint(&self) -> Result<String, Failure> {
        let bytes = self.get("checkpoint", NOTE_BYTES_MAX).await?;
        String::from_utf8(bytes)
            .map_err(|_| Failure::invalid(format!("{}/checkpoint is no text.", self.shown())))
    }

    /// A tile or bundle, not verified.
    pub(super) async fn tile(&self, path: &TilePath) -> Result<Vec<u8>, Failure> {
        let one = match path.kind() {
            TileKind::Hashes(_) => 32,
            // This log's entries, and the length before each.
            TileKind::Entries => ENTRY_BYTES + 2,
        };
        self.get(&path.to_string(), one * usize::from(path.width())).await
    }

    fn shown(&self) -> String {
        escaped(&self.prefix)
    }

    /// A file of at most `max` bytes; what may pass is tried again.
    async fn get(&self, name: &str, max: usize) -> Result<Vec<u8>, Failure> {
        let mut wait = BACKOFF;
        for attempt in 1.. {
            match self.get_once(name, max).await {
                Ok(bytes) => return Ok(bytes),
                Err(Trouble::Passing(_)) if attempt < ATTEMPTS => {
                    sleep(wait).await;
                    wait *= 2;
                }
                Err(Trouble::Passing(why) | Trouble::Final(why)) => {
                    let shown = self.shown();
                    return Err(Failure::io(format!(
                        "{shown}/{name}: {}. Check the URL and that the ledger runs; called again, \
                         this goes on where it stopped.",
                        escaped(&why)
                    )));
                }
            }
        }
        Err(Failure::internal("counting attempts came to an end"))
    }

    async fn get_once(&self, name: &str, max: usize) -> Result<Vec<u8>, Trouble> {
        let uri: Uri = format!("{}/{name}", self.prefix)
            .parse()
            .map_err(|_| Trouble::Final("the URL can't be called".to_owned()))?;
        let asked = async {
            let response = self.client.get(uri).await;
            let response = response.map_err(|error| Trouble::Passing(chain(&error)))?;
            let status = response.status();
            if status.is_server_error() {
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
            let body = body.map_err(|error| Trouble::Passing(error.to_string()))?;
            Ok(body.to_bytes().to_vec())
        };
        let late = || Trouble::Passing("no answer in time".to_owned());
        timeout(PATIENCE, asked).await.map_err(|_| late())?
    }
}

/// A client that believes the system's roots where it speaks TLS. Who serves the files matters
/// little, since all of them are checked.
fn client(secure: bool) -> Result<Client, Failure> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let provider = aws_lc_rs::default_provider();
    let builder = HttpsConnectorBuilder::new();
    let connector = if secure {
        let builder = builder.with_provider_and_native_roots(provider).map_err(|error| {
            let why = escaped(&error.to_string());
            Failure::io(format!("the system's root certificates can't be read: {why}."))
        })?;
        builder.https_only().enable_http1().wrap_connector(tcp)
    } else {
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::internal(format!("TLS can't be set up: {error}")))?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        builder.with_tls_config(config).https_or_http().enable_http1().wrap_connector(tcp)
    };
    Ok(legacy::Client::builder(TokioExecutor::new()).build(connector))
}

/// An error with its causes, since the outermost says nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
