//! The way of one request from its bytes to its answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;

use super::access;
use super::answer;
use super::call::Call;
use super::error::ApiError;
use super::faults::{Failure, Interference};
use super::interfere::{self, Struck};
use super::request::{Params, Path};
use super::requests::SeenRequest;
use super::state::ServerState;
use super::{discovery, verbs};

/// The size of a body in bytes up to which kube-apiserver reads it.
pub(crate) const MAX_BODY: usize = 3 << 20;

/// Time in which a body must arrive: a client that stalls holds one of a limited number of connections.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// Answers one request.
///
/// # Errors
///
/// When a fault drops the connection instead.
pub(crate) async fn handle(state: Arc<ServerState>, request: Request<Body>) -> io::Result<Response<Body>> {
    let head = *request.method() == Method::HEAD;
    let mut number = None;
    let answer = match respond(&state, request, &mut number).await {
        Ok(answer) => answer,
        Err(Failure::Refused(error)) => answer::error(&error),
        Err(Failure::Dropped) => return Err(io::ErrorKind::ConnectionReset.into()),
    };
    if let Some(number) = number {
        state.requests.answered(number, answer.status().as_u16());
    }
    Ok(if head { answer.map(|_| Body::empty()) } else { answer })
}

/// `number` becomes that of the request in the log, if the request is logged.
async fn respond(
    state: &Arc<ServerState>,
    request: Request<Body>,
    number: &mut Option<usize>,
) -> Result<Response<Body>, Failure> {
    let (parts, body) = request.into_parts();
    let (sender, spared) = state.access.identify(&parts)?;
    let user = access::impersonate(sender.clone(), &parts.headers)?;
    let path = Path::parse(parts.uri.path());
    let Path::Resource(target) = path else {
        return Ok(discovery::answer(&state.registry(), &user, &path, &parts)?);
    };
    let params = Params::parse(&parts.uri)?;
    let verb = target.verb(&parts.method, &params);
    *number =
        verb.filter(|_| !spared).map(|verb| state.requests.add(SeenRequest::new(verb, &target, &user.name)));
    let interference = if spared { Interference::default() } else { state.faults.on_request(verb, &target) };
    let struck = Struck { sender: &sender.name, user: &user, verb, target: &target };
    interfere::before(&interference, state, &struck).await?;
    if let Some(verb) = verb {
        access::permit(&state.store, &user, verb, &target)?;
    }
    let registry = state.registry();
    let Some(resource) = registry.find(&target.group, &target.version, &target.plural) else {
        return Ok(discovery::unknown(&registry, &target.group)?);
    };
    let verb = verb.ok_or_else(ApiError::method_not_allowed)?;
    let call = Call {
        resource: Arc::clone(resource),
        state: Arc::clone(state),
        verb,
        target,
        params,
        headers: parts.headers,
        user,
        body: read(body).await?,
        interference,
    };
    let answer = verbs::answer(&call)?;
    interfere::after(&call.interference, answer)
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    let body = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let late = |_| ApiError::bad_request(format!("the request's body took more than {BODY_TIMEOUT:?}"));
    match body.map_err(late)? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::request_too_large(MAX_BODY))
        }
        Err(error) => Err(ApiError::bad_request(format!("the request's body broke off: {error}"))),
    }
}
