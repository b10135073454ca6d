//! The frame of every request: who is it, how large is it, how long does it take, and what is written about it.
//!
//! ```text
//!  request id ──▶ endpoint ──▶ key ──▶ body ──▶ operation ──▶ headers, log line, metrics
//!                    │          │        │          │
//!                  404, 405    401    400, 413    panic: 500, slow: 504
//! ```
//!
//! The key is asked for before anything else is told: a request without one gets 401 on every path but the public ones.
//! No request is answered by the HTTP library, because its errors are no JSON, on which the SDKs fail. It answers only a head
//! that is no HTTP or too large, for which there is no request: 400 or 431, without a body.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::FutureExt as _;
use http::header::{CONNECTION, EXPECT, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument as _;
use uuid::Uuid;

use super::api::{Api, Call, Notes, now};
use super::dispatch;
use super::errors::{ApiError, Retry};
use super::keys::Caller;
use super::route::{self, Operation, Route};

/// The largest body. A Kubernetes object has at most 1.5 MiB.
const MOST_BYTES: usize = 1 << 20;

/// How much is read of a body that is refused.
const MOST_DISCARDED: usize = 8 << 20;

/// Time for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// Time for a body that is refused.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for an answer. The SDKs give up after 60 s, and then raise no error of theirs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(54);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CACHE_STALE: HeaderName = HeaderName::from_static("x-cache-stale");

/// The longest request id that is taken over from a client.
const LONGEST_REQUEST_ID: usize = 128;

/// The status in log and metrics of a request whose client has hung up.
const HUNG_UP: u16 = 499;

/// The server: the API, and what its stop needs to know.
#[derive(Clone)]
pub(super) struct Server {
    api: Arc<Api>,
    stopping: Arc<AtomicBool>,
    requests: TaskTracker,
}

impl Server {
    pub(super) fn new(api: Api) -> Self {
        Self { api: Arc::new(api), stopping: Arc::default(), requests: TaskTracker::new() }
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// Returns the routes. There is one handler: [`route`] chooses the operation.
    pub(super) fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    /// Refuses new requests, and waits for those that are under way.
    pub(super) async fn drain(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.requests.close();
        self.requests.wait().await;
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

async fn handle(State(server): State<Server>, request: Request) -> Response {
    let api = server.clone();
    framed(&server, request, async move |route, request, notes| answer(&api, route, request, &notes).await)
        .await
}

/// Puts the answer of a request into the frame: it has an id, comes in time, and is an answer also after a panic.
pub(super) async fn framed(
    server: &Server,
    request: Request,
    answer: impl AsyncFnOnce(Result<Route, ApiError>, Request, Arc<Notes>) -> Result<Response, ApiError>,
) -> Response {
    let (id, route) = (request_id(&request), route::resolve(request.method(), request.uri().path()));
    let mut record = Record::begin(server, &request, &route, id.clone());
    let span = tracing::info_span!("e2b", request_id = id, operation = record.operation());
    let answer = AssertUnwindSafe(answer(route, request, Arc::clone(&record.notes))).catch_unwind();
    let answer = match timeout(ANSWER_TIMEOUT, answer.instrument(span)).await {
        Ok(Ok(answer)) => answer,
        // The panic hook has written the message, which may repeat what the user has sent.
        Ok(Err(_)) => Err(ApiError::internal("internal error: a panic").retry(Retry::Never)),
        Err(_) => Err(ApiError::gateway_timeout("no answer in time")),
    };
    let mut response = answer.unwrap_or_else(|error| {
        record.failed(&error);
        error.into_response()
    });
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if server.is_stopping() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    record.answered(response.status());
    response
}

/// Returns the id that the client has sent, if it is one, or a new one.
fn request_id(request: &Request) -> String {
    let is_id = |text: &&str| {
        (1..=LONGEST_REQUEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let sent = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(is_id);
    sent.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

async fn answer(
    server: &Server,
    route: Result<Route, ApiError>,
    request: Request,
    notes: &Notes,
) -> Result<Response, ApiError> {
    let api = server.api();
    if let Ok(route) = &route
        && route.operation.is_public()
    {
        return Ok(dispatch::answer_public(route.operation));
    }
    let (parts, body) = request.into_parts();
    let (caller, route) = match admit(server, &parts.headers, route, notes) {
        Ok(admitted) => admitted,
        Err(error) => {
            // A client that asks before it sends its body is told, and sends none.
            if !parts.headers.contains_key(EXPECT) {
                discard(body).await;
            }
            return Err(error);
        }
    };
    let body = read(body).await?;
    let (operation, query) = (route.operation, parts.uri.query().unwrap_or_default());
    let call = Call { caller, route, query, headers: &parts.headers, body: &body, notes };
    let mut response = dispatch::answer(api, &call).await?;
    if operation.is_read()
        && let Some(stale) = api.stale_for()
    {
        response.headers_mut().insert(CACHE_STALE, HeaderValue::from(stale.as_secs()));
    }
    Ok(response)
}

/// Returns who a request comes from and what it asks for.
fn admit(
    server: &Server,
    headers: &HeaderMap,
    route: Result<Route, ApiError>,
    notes: &Notes,
) -> Result<(Caller, Route), ApiError> {
    let caller = server.api.keys.authenticate(headers, now())?;
    notes.key(&caller.key_id);
    let route = route?;
    if server.is_stopping() {
        return Err(ApiError::unavailable("this server is stopping"));
    }
    Ok((caller, route))
}

/// Reads the whole body, within limits.
async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    let late = || {
        let error = ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
        error.retry(Retry::Never)
    };
    timeout(BODY_TIMEOUT, collect(body)).await.unwrap_or_else(|_| Err(late()))
}

/// Takes the body of a request that is refused. A client that is still sending would otherwise see a broken connection
/// instead of the answer.
async fn discard(mut body: Body) {
    let all = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            // Nothing is kept: clients without a key must not fill the memory.
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > MOST_DISCARDED {
                break;
            }
        }
    };
    // The request is refused for another reason.
    let _ = timeout(DISCARD_TIMEOUT, all).await;
}

/// Returns the body. One that is too large is read a little further and not kept, for the reason that [`discard`] has.
async fn collect(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut seen) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("the body cannot be read"))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen > MOST_DISCARDED {
            break;
        }
        if seen > MOST_BYTES {
            bytes = Vec::new();
        } else {
            bytes.extend_from_slice(&data);
        }
    }
    if seen > MOST_BYTES {
        let text = format!("the body is larger than {MOST_BYTES} bytes");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    Ok(bytes)
}

/// Writes the log line and the metrics of one request, also if its client hangs up.
struct Record {
    server: Server,
    notes: Arc<Notes>,
    started: Instant,
    method: Method,
    id: String,
    operation: Option<Operation>,
    error: Option<String>,
    is_done: bool,
    /// While it exists, the stop waits for this request.
    _underway: TaskTrackerToken,
}

impl Record {
    fn begin(server: &Server, request: &Request, route: &Result<Route, ApiError>, id: String) -> Self {
        Self {
            server: server.clone(),
            notes: Arc::default(),
            started: Instant::now(),
            method: request.method().clone(),
            id,
            operation: route.as_ref().ok().map(|route| route.operation),
            error: None,
            is_done: false,
            _underway: server.requests.token(),
        }
    }

    fn operation(&self) -> &'static str {
        self.operation.map_or("unknown", Operation::as_str)
    }

    /// Keeps the text of an error of ours. The text of a 4xx may repeat what the user has sent, so it is not logged.
    fn failed(&mut self, error: &ApiError) {
        if error.status().is_server_error() {
            self.error = Some(error.message().to_owned());
        }
    }

    fn answered(mut self, status: StatusCode) {
        self.is_done = true;
        self.write(status.as_u16());
    }

    fn write(&self, status: u16) {
        let took = self.started.elapsed();
        self.server.api.metrics.answered(self.operation, status, took);
        if matches!(self.operation, Some(Operation::Health)) {
            return;
        }
        let noted = self.notes.get();
        tracing::info!(
            request_id = self.id,
            method = %self.method,
            operation = self.operation(),
            key_id = noted.key_id,
            template = noted.template,
            sandbox = noted.sandbox,
            status,
            duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            error = self.error,
            "request"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_done {
            self.write(HUNG_UP);
        }
    }
}
