//! Requests and answers of the AuthZEN port: one handler, decode → ask → encode.
//!
//! An answer is a decision, with status 200, or an error, with another status and a sentence as
//! plain text. No error has the form of a decision (AZN-12).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use countersign_core::cert::SpiffeId;
use countersign_core::codes::Code;
use countersign_core::json;
use countersign_proto::errors::{Refusal, grpc_code};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::request::{Asked, Entities, Malformed, note_unknown};
use super::{BODY_BYTES_MAX, EVALUATIONS_MAX, Judge, Settings, answer};
use crate::authz::{GateRpc, authorize_gate};
use crate::identity::{self, Peer};
use crate::metrics::EdgeMetrics;

/// Seconds after which to try again what did not fit.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A request's name for itself, given back with the answer (AZN-2).
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The members that AuthZEN has for one evaluation.
const ENTITIES: [&str; 4] = ["subject", "action", "resource", "context"];

/// What the handler knows besides the request.
pub(super) struct App<J> {
    judge: Arc<J>,
    tenant: String,
    base_url: String,
    room: Semaphore,
    request_timeout: Duration,
    metrics: EdgeMetrics,
}

impl<J> App<J> {
    pub(super) fn new(
        settings: &Settings,
        base_url: String,
        judge: Arc<J>,
        metrics: EdgeMetrics,
    ) -> Self {
        Self {
            judge,
            tenant: settings.tenant.clone(),
            base_url,
            room: Semaphore::new(settings.limits.calls_in_flight_max),
            request_timeout: Duration::from_millis(settings.limits.request_timeout_ms),
            metrics,
        }
    }
}

/// The service of a connection; its layer says who is at the other end.
pub(super) fn router<J: Judge>(app: App<J>) -> Router {
    Router::new().fallback(handle::<J>).with_state(Arc::new(app))
}

/// The paths of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Evaluation,
    Evaluations,
    Metadata,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/access/v1/evaluation" => Some(Self::Evaluation),
            "/access/v1/evaluations" => Some(Self::Evaluations),
            "/.well-known/authzen-configuration" => Some(Self::Metadata),
            _ => None,
        }
    }

    /// As the metrics name it, beside the names of RPCs.
    fn name(endpoint: Option<Self>) -> &'static str {
        match endpoint {
            Some(Self::Evaluation) => "authzen evaluation",
            Some(Self::Evaluations) => "authzen evaluations",
            Some(Self::Metadata) => "authzen metadata",
            None => "authzen other",
        }
    }

    fn method(self) -> Method {
        if self == Self::Metadata { Method::GET } else { Method::POST }
    }
}

/// Why there is no decision.
#[derive(Debug)]
enum Failure {
    /// A status, a word for the metrics, and a sentence.
    Http(StatusCode, &'static str, String),
    /// No caller that may ask, or a gate that could not judge.
    Refused(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Malformed> for Failure {
    fn from(fault: Malformed) -> Self {
        let message = format!("{fault}; compare the request with spec/authzen.md.");
        Self::Http(StatusCode::BAD_REQUEST, Code::RequestMalformed.as_str(), message)
    }
}

async fn handle<J: Judge>(
    State(app): State<Arc<App<J>>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let arrived = Instant::now();
    let request_id = request.headers().get(&REQUEST_ID).cloned();
    let endpoint = Endpoint::of(request.uri().path());
    let (mut response, code) = match respond(&app, &peer, endpoint, request).await {
        Ok(body) => {
            let kind = (header::CONTENT_TYPE, "application/json");
            // A decision is for this request at this time (the metadata rarely change, and are
            // not worth a second rule).
            let fresh = (header::CACHE_CONTROL, "no-store");
            (([kind, fresh], body.to_string()).into_response(), "OK")
        }
        Err(failure) => failure.into_parts(endpoint),
    };
    if let Some(id) = request_id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    app.metrics.call(Endpoint::name(endpoint), code, arrived.elapsed());
    response
}

/// What can be said before the body is read is said first.
async fn respond<J: Judge>(
    app: &App<J>,
    peer: &Peer,
    endpoint: Option<Endpoint>,
    request: Request,
) -> Result<Value, Failure> {
    let caller = peer.identity(identity::now())?;
    if caller.tenant() != app.tenant {
        return Err(Refusal::from(Code::OtherTenant).into());
    }
    let Some(endpoint) = endpoint else {
        let message = "There is nothing under this path; see spec/authzen.md.".to_owned();
        return Err(Failure::Http(StatusCode::NOT_FOUND, Code::NotFound.as_str(), message));
    };
    if request.method() != endpoint.method() {
        let message = format!("This path takes {} only.", endpoint.method());
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Failure::Http(status, Code::RequestMalformed.as_str(), message));
    }
    if endpoint == Endpoint::Metadata {
        return Ok(metadata(&app.base_url));
    }
    // By the table that gRPC asks (AZN-1).
    let permit = authorize_gate(caller, GateRpc::Evaluate, &app.tenant)?;
    let caller = permit.caller();
    if !is_json(request.headers()) {
        return Err(Malformed::new("the Content-Type must be application/json").into());
    }
    let _place = app.room.try_acquire().map_err(|_| Refusal::from(Code::Overloaded))?;
    // One time for all of it: the body, and whatever it asks.
    let deadline = Instant::now() + app.request_timeout;
    let body = read(request.into_body(), deadline).await?;
    let members = parse(&body)?;
    drop(body);
    match (endpoint, members.get("evaluations")) {
        // Passed over, it would be a batch of which one was judged.
        (Endpoint::Evaluation, Some(_)) => {
            Err(Malformed::new("evaluations are for /access/v1/evaluations").into())
        }
        (_, None) => one(app, caller, &members, deadline).await,
        (_, Some(Value::Array(items))) if items.is_empty() => {
            one(app, caller, &members, deadline).await
        }
        (_, Some(Value::Array(items))) => many(app, caller, &members, items, deadline).await,
        (_, Some(_)) => Err(Malformed::new("evaluations must be an array").into()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Reads the whole body, no more than fits and no longer than it may take (AZN-3).
async fn read(body: Body, deadline: Instant) -> Result<Bytes, Failure> {
    let malformed = Code::RequestMalformed.as_str();
    let body = Limited::new(body, BODY_BYTES_MAX).collect();
    let read = timeout_at(deadline.into(), body).await;
    let Ok(read) = read else {
        let message = "The body did not come in time.".to_owned();
        return Err(Failure::Http(StatusCode::REQUEST_TIMEOUT, malformed, message));
    };
    match read {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("The body is larger than {BODY_BYTES_MAX} bytes.");
            Err(Failure::Http(StatusCode::PAYLOAD_TOO_LARGE, malformed, message))
        }
        Err(_) => Err(Malformed::new("the body could not be read").into()),
    }
}

/// Strict JSON, and an object (AZN-3).
fn parse(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Malformed::new("the body is not UTF-8"))?;
    let value = json::parse(text).map_err(|fault| {
        let code = fault.code;
        Malformed::new(format!("{}: {}", code.as_str(), code.what().trim_end_matches('.')))
    })?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(Malformed::new("the body must be an object").into()),
    }
}

async fn one<J: Judge>(
    app: &App<J>,
    caller: &SpiffeId,
    members: &Map<String, Value>,
    deadline: Instant,
) -> Result<Value, Failure> {
    let mut asked = Entities::of(members, None).ask()?;
    let known = [&ENTITIES[..], &["evaluations", "options"]].concat();
    note_unknown("", members, &known, &mut asked.ignored);
    Ok(judge(app, caller, &asked, deadline).await?)
}

/// One after the other, in the order in which they were asked, until the semantic has enough
/// (AZN-9, AZN-10).
async fn many<J: Judge>(
    app: &App<J>,
    caller: &SpiffeId,
    members: &Map<String, Value>,
    items: &[Value],
    deadline: Instant,
) -> Result<Value, Failure> {
    if items.len() > EVALUATIONS_MAX {
        let message = format!("there are more than {EVALUATIONS_MAX} evaluations; send several");
        return Err(Malformed::new(message).into());
    }
    let stop_at = stop_at(members.get("options"))?;
    let mut unknown = Vec::new();
    let known = [&ENTITIES[..], &["evaluations", "options"]].concat();
    note_unknown("", members, &known, &mut unknown);
    let mut decisions = Vec::with_capacity(items.len());
    for item in items {
        let asked = item
            .as_object()
            .ok_or_else(|| Malformed::new("an evaluation must be an object"))
            .and_then(|own| {
                let mut asked = Entities::of(own, Some(members)).ask()?;
                asked.ignored.extend(unknown.iter().cloned());
                note_unknown("evaluations.", own, &ENTITIES, &mut asked.ignored);
                Ok(asked)
            });
        let decision = match asked {
            Err(fault) => answer::malformed(&fault),
            Ok(asked) => judge(app, caller, &asked, deadline).await.unwrap_or_else(|refusal| {
                let (status, message) = shown(&refusal);
                answer::failed(status.as_u16(), &message)
            }),
        };
        let said = decision.get("decision").and_then(Value::as_bool);
        decisions.push(decision);
        if stop_at.is_some() && said == stop_at {
            break;
        }
    }
    Ok(json!({ "evaluations": decisions }))
}

/// The decision after which the rest of a batch is not asked any more.
fn stop_at(options: Option<&Value>) -> Result<Option<bool>, Malformed> {
    let Some(options) = options else { return Ok(None) };
    let options = options.as_object().ok_or_else(|| Malformed::new("options must be an object"))?;
    match options.get("evaluations_semantic").map(Value::as_str) {
        None | Some(Some("execute_all")) => Ok(None),
        Some(Some("deny_on_first_deny")) => Ok(Some(false)),
        Some(Some("permit_on_first_permit")) => Ok(Some(true)),
        Some(_) => Err(Malformed::new(
            "options.evaluations_semantic must be execute_all, deny_on_first_deny or \
             permit_on_first_permit",
        )),
    }
}

/// Asks the gate, and gives up when the request's time is over: the gate settles by itself what
/// becomes of an approve that nobody waited for.
async fn judge<J: Judge>(
    app: &App<J>,
    caller: &SpiffeId,
    asked: &Asked,
    deadline: Instant,
) -> Result<Value, Refusal> {
    let judging = app.judge.judge(caller, &asked.intent, &asked.audience);
    let said = timeout_at(deadline.into(), judging).await;
    let said = said.map_err(|_| {
        let message = "The gate did not answer in time. Ask again with the same action_id.";
        Refusal::new(Code::EvidenceUnavailable, message)
    })??;
    Ok(answer::decision(&said, &asked.ignored))
}

/// AuthZEN's metadata; what is not there can't be called (AZN-13).
fn metadata(base_url: &str) -> Value {
    json!({
        "policy_decision_point": base_url,
        "access_evaluation_endpoint": format!("{base_url}/access/v1/evaluation"),
        "access_evaluations_endpoint": format!("{base_url}/access/v1/evaluations"),
    })
}

/// A refusal as a status and a sentence. What went wrong inside is for the gate's own log.
fn shown(refusal: &Refusal) -> (StatusCode, String) {
    use tonic::Code as Grpc;
    let status = match grpc_code(refusal.code) {
        Grpc::Unauthenticated => StatusCode::UNAUTHORIZED,
        Grpc::PermissionDenied => StatusCode::FORBIDDEN,
        Grpc::ResourceExhausted | Grpc::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Grpc::Internal | Grpc::DataLoss | Grpc::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%refusal, "an AuthZEN request could not be judged");
        return (status, format!("{}: {}", refusal.code.as_str(), refusal.code.what()));
    }
    (status, refusal.to_string())
}

impl Failure {
    fn into_parts(self, endpoint: Option<Endpoint>) -> (Response, &'static str) {
        let (status, code, message) = match self {
            Self::Http(status, code, message) => (status, code, format!("{code}: {message}")),
            Self::Refused(refusal) => {
                let (status, message) = shown(&refusal);
                (status, refusal.code.as_str(), message)
            }
        };
        let mut response = (status, format!("{message}\n")).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if let (StatusCode::METHOD_NOT_ALLOWED, Some(endpoint)) = (status, endpoint) {
            let allowed = if endpoint == Endpoint::Metadata { "GET" } else { "POST" };
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        (response, code)
    }
}
