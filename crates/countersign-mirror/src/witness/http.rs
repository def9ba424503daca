//! The witness on HTTP: `POST /add-checkpoint`, and `GET /<origin hash>/checkpoint` for monitors.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt as _, Limited};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::request::REQUEST_BYTES_MAX;
use super::{Heads, Refusal, Witness};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// The type of a 409's body, as the protocol has it.
const SIZE: HeaderValue = HeaderValue::from_static("text/x.tlog.size");

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    status: u16,
}

struct Served<H> {
    witness: Arc<Witness<H>>,
    now: fn() -> u64,
    requests: Family<Labels, Counter>,
}

/// The routes, whose counters are registered in `registry`. `now` gives seconds since the epoch.
pub fn router<H: Heads>(
    witness: Arc<Witness<H>>,
    now: fn() -> u64,
    registry: &mut Registry,
) -> axum::Router {
    let requests = Family::<Labels, Counter>::default();
    registry.register(
        "countersign_witness_requests",
        "Requests of add-checkpoint, by the HTTP status",
        requests.clone(),
    );
    registry.register_collector(Box::new(Sizes(Arc::clone(&witness))));
    axum::Router::new()
        .route("/add-checkpoint", post(add_checkpoint::<H>))
        .route("/{origin_hash}/checkpoint", get(checkpoint::<H>))
        .with_state(Arc::new(Served { witness, now, requests }))
}

async fn add_checkpoint<H: Heads>(State(served): State<Arc<Served<H>>>, body: Body) -> Response {
    let response = match answer(&served, body).await {
        Ok(line) => ([(header::CONTENT_TYPE, TEXT)], line).into_response(),
        Err(refusal) => refused(refusal),
    };
    let status = response.status().as_u16();
    served.requests.get_or_create(&Labels { status }).inc();
    response
}

async fn answer<H: Heads>(served: &Arc<Served<H>>, body: Body) -> Result<String, Refusal> {
    let body = Limited::new(body, REQUEST_BYTES_MAX).collect().await;
    let body = body.map_err(|_| Refusal::Malformed("the request is too large, or was cut off"))?;
    let (body, served) = (body.to_bytes(), Arc::clone(served));
    // It waits for the disk. The caller may hang up: what was begun is finished all the same.
    let judged = tokio::task::spawn_blocking(move || {
        let now = (served.now)();
        served.witness.add_checkpoint(&body, now)
    });
    judged.await.unwrap_or(Err(Refusal::Unavailable))
}

fn refused(refusal: Refusal) -> Response {
    let status =
        StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (kind, body) = match refusal {
        Refusal::Conflict(size) | Refusal::Differs(size) => (SIZE, format!("{}\n", size.0)),
        other => (TEXT, format!("{other}\n")),
    };
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

async fn checkpoint<H: Heads>(
    State(served): State<Arc<Served<H>>>,
    Path(origin_hash): Path<String>,
) -> Response {
    let cache = HeaderValue::from_static("no-cache");
    let headers = [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, cache)];
    match served.witness.checkpoint(&origin_hash) {
        Some(cosigned) => (headers, cosigned.note).into_response(),
        None => (StatusCode::NOT_FOUND, headers, "nothing was cosigned\n").into_response(),
    }
}

/// The last cosigned size of each log, read when it is scraped.
struct Sizes<H>(Arc<Witness<H>>);

impl<H> fmt::Debug for Sizes<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sizes")
    }
}

impl<H: Heads> Collector for Sizes<H> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sizes = Family::<[(&str, String); 1], Gauge>::default();
        for origin in self.0.origins() {
            if let Some(cosigned) = self.0.cosigned(origin) {
                let size = i64::try_from(cosigned.size.0).unwrap_or(i64::MAX);
                sizes.get_or_create(&[("origin", origin.to_owned())]).set(size);
            }
        }
        sizes.encode(encoder.encode_descriptor(
            "countersign_witness_size",
            "Entries that the last cosigned head of each log covers",
            None,
            <Gauge as TypedMetric>::TYPE,
        )?)
    }
}
