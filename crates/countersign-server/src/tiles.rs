//! The static read path on the HTTP port: `/checkpoint` and `/tile/…` (spec/tiles.md; C2SP
//! tlog-tiles).
//!
//! Everything here is public by design and names nobody, so nobody is asked who they are. Bytes
//! come from the log, checked; this module adds what HTTP wants: types, caching, conditions.

use std::sync::Arc;

use axum::body::{Bytes, HttpBody as _};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use countersign_core::encoding::hex;
use countersign_core::hash::sha256;
use countersign_core::tiles::{TileKind, TilePath};
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

/// A tile never changes (TILE-7).
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// The checkpoint does, about every second.
const SHORT: HeaderValue = HeaderValue::from_static("public, max-age=1, must-revalidate");
/// What isn't there may be there in a moment.
const NEVER: HeaderValue = HeaderValue::from_static("no-store");

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    what: &'static str,
    status: u16,
}

#[derive(Clone, Default)]
struct Metrics {
    requests: Family<Labels, Counter>,
    bytes: Counter,
}

struct Tiles<S> {
    ledger: Ledger<S>,
    metrics: Metrics,
}

/// The routes, whose counters are registered in `registry`.
pub fn router<S: Store>(ledger: Ledger<S>, registry: &mut Registry) -> axum::Router {
    let metrics = Metrics::default();
    registry.register(
        "countersign_tile_requests",
        "Requests of the static read path, by what was asked for and the HTTP status",
        metrics.requests.clone(),
    );
    registry.register_with_unit(
        "countersign_tile_sent",
        "Bodies sent by the static read path",
        Unit::Bytes,
        metrics.bytes.clone(),
    );
    axum::Router::new()
        .route("/checkpoint", get(checkpoint::<S>))
        .route("/tile/{*path}", get(tile::<S>))
        .with_state(Arc::new(Tiles { ledger, metrics }))
}

async fn checkpoint<S: Store>(State(tiles): State<Arc<Tiles<S>>>, headers: HeaderMap) -> Response {
    let note = Bytes::from(tiles.ledger.checkpoint().note.clone());
    tiles.counted("checkpoint", found(note, TEXT, SHORT, &headers))
}

async fn tile<S: Store>(
    State(tiles): State<Arc<Tiles<S>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    // The path as it was sent: decoded, it would have more than one spelling.
    let path = uri.path().strip_prefix('/').and_then(TilePath::parse);
    let Some(path) = path.filter(|_| uri.query().is_none()) else {
        return tiles.counted("malformed", refused(StatusCode::BAD_REQUEST, "no path of a tile\n"));
    };
    let what = match path.kind() {
        TileKind::Hashes(_) => "tile",
        TileKind::Entries => "entries",
    };
    let response = match tiles.ledger.tile(path).await {
        Ok(Some(bytes)) => found(bytes.into(), BINARY, IMMUTABLE, &headers),
        Ok(None) => refused(StatusCode::NOT_FOUND, "not in the published tree\n"),
        Err(refusal) => {
            tracing::error!(%path, ?refusal, "a tile can't be served");
            refused(StatusCode::INTERNAL_SERVER_ERROR, "the store failed\n")
        }
    };
    tiles.counted(what, response)
}

impl<S> Tiles<S> {
    /// `HEAD` is counted as the `GET` that it stands for.
    fn counted(&self, what: &'static str, response: Response) -> Response {
        let labels = Labels { what, status: response.status().as_u16() };
        self.metrics.requests.get_or_create(&labels).inc();
        self.metrics.bytes.inc_by(response.body().size_hint().exact().unwrap_or(0));
        response
    }
}

fn refused(status: StatusCode, why: &'static str) -> Response {
    let headers = [(header::CACHE_CONTROL, NEVER), (header::CONTENT_TYPE, TEXT)];
    (status, headers, why).into_response()
}

/// What was asked for, or word that the caller has it.
fn found(bytes: Bytes, kind: HeaderValue, cache: HeaderValue, asked: &HeaderMap) -> Response {
    // Strong: it is of the very bytes. Half a SHA-256 is enough to tell one from another.
    let digest = hex(sha256(&bytes).first_chunk::<16>().map_or(&[], <[u8; 16]>::as_slice));
    let etag = format!("\"{digest}\"");
    let had = is_named(asked, &etag);
    let Ok(etag) = HeaderValue::from_str(&etag) else {
        unreachable!("hex and quotes are a header's value")
    };
    let headers = [(header::ETAG, etag), (header::CACHE_CONTROL, cache)];
    if had {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, [(header::CONTENT_TYPE, kind)], bytes).into_response()
    }
}

/// Whether `If-None-Match` names this tag, compared weakly (RFC 9110 section 13.1.2).
fn is_named(asked: &HeaderMap, etag: &str) -> bool {
    let values = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(if_none_match: Option<&'static str>) -> Response {
        let mut asked = HeaderMap::new();
        if let Some(value) = if_none_match {
            asked.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
        }
        found(Bytes::from_static(b"tile"), BINARY, IMMUTABLE, &asked)
    }

    /// TILE-7: the tag is that of the bytes, and who has them gets none.
    #[test]
    fn who_names_the_tag_gets_no_body() {
        let response = answer(None);
        assert_eq!(response.status(), StatusCode::OK);
        let etag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(etag, format!("\"{}\"", &hex(&sha256(b"tile"))[..32]));
        assert_eq!(answer(Some("*")).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer(Some("\"other\", W/\"x\"")).status(), StatusCode::OK);
        for text in [etag.clone(), format!("W/{etag}"), format!("\"x\",  {etag}")] {
            let mut asked = HeaderMap::new();
            asked.insert(header::IF_NONE_MATCH, HeaderValue::from_str(&text).unwrap());
            let response = found(Bytes::from_static(b"tile"), BINARY, IMMUTABLE, &asked);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{text}");
            assert_eq!(response.headers()[header::CACHE_CONTROL], IMMUTABLE);
            assert_eq!(response.headers()[header::ETAG].to_str().unwrap(), etag);
        }
    }
}
