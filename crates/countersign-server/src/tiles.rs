//! The static read path on the HTTP port: `/checkpoint` and `/tile/…` (spec/tiles.md; C2SP
//! tlog-tiles).
//!
//! Everything here is public by design and names nobody, so nobody is asked who they are. Bytes
//! come from the log, checked; this module adds what HTTP wants: types, caching, conditions.

use std::io::Write as _;
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
use flate2::Compression;
use flate2::write::GzEncoder;
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
    tiles.counted("checkpoint", found(note.into(), TEXT, SHORT, &headers))
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
        Ok(Some(bytes)) => {
            let body = match path.kind() {
                // Hashes don't get smaller.
                TileKind::Hashes(_) => Body::from(Bytes::from(bytes)),
                TileKind::Entries => Body::negotiated(bytes.into(), &headers),
            };
            found(body, BINARY, IMMUTABLE, &headers)
        }
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

/// What is sent, and how it is encoded.
struct Body {
    bytes: Bytes,
    gzip: bool,
    /// Another caller may get it encoded in another way.
    varies: bool,
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, gzip: false, varies: false }
    }
}

impl Body {
    /// Compressed where the caller takes that, and it helps.
    fn negotiated(bytes: Bytes, asked: &HeaderMap) -> Self {
        let smaller = takes_gzip(asked).then(|| gzip(&bytes)).flatten();
        match smaller.filter(|smaller| smaller.len() < bytes.len()) {
            Some(smaller) => Self { bytes: smaller.into(), gzip: true, varies: true },
            None => Self { varies: true, ..bytes.into() },
        }
    }
}

fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

/// Whether `Accept-Encoding` takes gzip (RFC 9110 section 12.5.3): by its name, or by `*` where its
/// name isn't there. A weight of 0 is a no.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    let mut any = false;
    for coding in values.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let taken = weight.is_none_or(|q| q.parse::<f32>().is_ok_and(|q| q > 0.0));
        match name.as_str() {
            "gzip" | "x-gzip" => return taken,
            "*" => any = taken,
            _ => {}
        }
    }
    any
}

/// What was asked for, or word that the caller has it.
fn found(body: Body, kind: HeaderValue, cache: HeaderValue, asked: &HeaderMap) -> Response {
    // Strong: it is of the very bytes. Half a SHA-256 is enough to tell one from another.
    let digest = hex(sha256(&body.bytes).first_chunk::<16>().map_or(&[], <[u8; 16]>::as_slice));
    let etag = format!("\"{digest}\"");
    let had = is_named(asked, &etag);
    let Ok(etag) = HeaderValue::from_str(&etag) else {
        unreachable!("hex and quotes are a header's value")
    };
    let mut response = if had {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, kind)], body.bytes).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::CACHE_CONTROL, cache);
    if body.varies {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if body.gzip && !had {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
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
        found(Bytes::from_static(b"tile").into(), BINARY, IMMUTABLE, &asked)
    }

    fn encoded(bytes: &'static [u8], accept: Option<&str>) -> Response {
        let mut asked = HeaderMap::new();
        if let Some(value) = accept {
            asked.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
        }
        let body = Body::negotiated(Bytes::from_static(bytes), &asked);
        found(body, BINARY, IMMUTABLE, &asked)
    }

    /// TILE-7: bundles are compressed for who takes that, and tagged apart.
    #[tokio::test]
    async fn gzip_is_sent_to_those_who_take_it() {
        use std::io::Read as _;
        const BYTES: &[u8] = &[7; 66 * 256];
        let is_gzip = |accept| {
            let response = encoded(BYTES, accept);
            assert_eq!(response.headers()[header::VARY], "accept-encoding", "{accept:?}");
            response.headers().get(header::CONTENT_ENCODING).is_some_and(|v| v == "gzip")
        };
        for no in ["", "br", "identity", "gzip;q=0", "gzip; q=0.0, *", "*;q=0", "gzip;q=x"] {
            assert!(!is_gzip(Some(no)), "{no}");
        }
        assert!(!is_gzip(None));
        for yes in ["gzip", "GZIP", "br, gzip;q=0.5", "*", "x-gzip", "deflate;q=0, *;q=0.1"] {
            assert!(is_gzip(Some(yes)), "{yes}");
        }
        let tag = |response: &Response| response.headers()[header::ETAG].clone();
        let (plain, packed) = (encoded(BYTES, None), encoded(BYTES, Some("gzip")));
        assert_ne!(tag(&plain), tag(&packed));
        let body = axum::body::to_bytes(packed.into_body(), 1 << 20).await.unwrap();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(body.as_ref()).read_to_end(&mut back).unwrap();
        assert_eq!(back, BYTES);
        // What would grow is sent as it is.
        assert!(!encoded(b"tile", Some("gzip")).headers().contains_key(header::CONTENT_ENCODING));
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
            let response = found(Bytes::from_static(b"tile").into(), BINARY, IMMUTABLE, &asked);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{text}");
            assert_eq!(response.headers()[header::CACHE_CONTROL], IMMUTABLE);
            assert_eq!(response.headers()[header::ETAG].to_str().unwrap(), etag);
        }
    }
}
