//! One attempt to hand a signal to its receiver.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderName, Method, Request, StatusCode, header};
use countersign_mirror::source::chain;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::signature::{SIGNATURE, sign};
use super::{Signal, Webhook, body};
use crate::identity;

/// Bytes of an answer that are read, so that its connection can be used again (HOOK-7).
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// Bytes that the head of an answer may have; hyper takes nothing below 8 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long the rest of an answer may take, once its status is there.
const REST: Duration = Duration::from_millis(100);

/// How long a connection that is not used is kept.
const IDLE: Duration = Duration::from_secs(30);

/// The header of the index.
const INDEX: HeaderName = HeaderName::from_static("countersign-index");

/// Speaks HTTP/1.1 to the receiver. It follows no redirect (HOOK-6), and knows of no proxy.
pub(super) type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Makes it.
pub(super) fn client(tls: ClientConfig, plain: bool) -> Client {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
    let builder = if plain { builder.https_or_http() } else { builder.https_only() };
    legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .build(builder.enable_http1().wrap_connector(tcp))
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PostError {
    #[error("the receiver can't be reached: {0}")]
    Unreachable(String),
    #[error("the receiver did not answer in time")]
    Timeout,
    #[error("the receiver answered {0}, which is no 2xx")]
    Status(StatusCode),
    #[error("the request can't be made: {0}")]
    Request(String),
}

impl PostError {
    /// As the metrics name it.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Status(status) if status.is_redirection() => "redirect",
            Self::Status(_) => "status",
            Self::Request(_) => "request",
        }
    }
}

impl Webhook {
    /// Posts a signal; `Ok` when the receiver answered with a 2xx, and in time.
    pub(super) async fn post(&self, signal: &Signal) -> Result<(), PostError> {
        // Of now, at each attempt: a receiver tells a late repeat from a replay by the index.
        let at = identity::now().seconds();
        let body = body(signal);
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .header(INDEX, signal.index)
            .header(SIGNATURE, sign(&self.secret, at, body.as_bytes()))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| PostError::Request(error.to_string()))?;
        let attempt = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| PostError::Unreachable(chain(&error)))?;
            let status = response.status();
            if !status.is_success() {
                return Err(PostError::Status(status));
            }
            Ok(response)
        };
        let response = timeout(self.timeout, attempt).await.map_err(|_| PostError::Timeout)??;
        // The word was given with the status. Reading on only saves the next connection, and an
        // answer that is long or slow isn't worth it: then the connection is dropped.
        let rest = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let _ = timeout(REST, rest).await;
        Ok(())
    }
}
