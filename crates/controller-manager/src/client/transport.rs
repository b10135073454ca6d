//! [`Transport`]: sends the requests of a client, with credentials and certificates that are current.
//!
//! kube reads a token file once a minute and the CA file of a pod, and it never reads client certificates or any other
//! CA file again. So the transport reads all files again and runs the credential helper again, and when something has
//! changed it builds a new kube client. Requests that are on their way, such as watches, keep the old connections;
//! every later request uses the new client.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use kube::{Client, Config};
use shared_cache::error_text;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::Service;

use super::credentials::{CredentialSource, Credentials, CredentialsError};
use super::helper::Credential;
use super::tls_problem::{explained, explained_build};

/// Files are read again after this time. A rotated service account token is valid for much longer.
const FILE_INTERVAL: Duration = Duration::from_secs(10);

/// Credentials of a helper are renewed this long before they expire.
const RENEW_BEFORE: Duration = Duration::from_mins(1);

/// Minimum time between two runs of the helper, however short its credentials are valid and however many requests are
/// answered with 401.
const HELPER_INTERVAL: Duration = Duration::from_secs(10);

/// Why the transport cannot be created, or not renewed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    /// The credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No client can be built of them.
    #[error(transparent)]
    Client(#[from] Box<kube::Error>),
    /// The thread that reads them panicked, or the runtime ends.
    #[error("the credentials cannot be read: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Builds a client of a configuration that refers to no file.
type Build = Box<dyn Fn(Config) -> kube::Result<Client> + Send + Sync>;

/// A service for requests. Cheap to clone: all clones use the same client and the same credentials.
#[derive(Clone)]
pub(super) struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    source: Arc<CredentialSource>,
    build: Build,
    /// The connections belong to the runtime on which the transport was created, whoever sends.
    runtime: Handle,
    /// Held while files are read and the helper runs, so that one request does so and the others wait.
    state: Mutex<State>,
}

struct State {
    client: Client,
    /// Number of the client.
    generation: u64,
    credentials: Credentials,
    /// When files are read again.
    check_at: Instant,
    /// When the helper ran.
    helper_ran: Instant,
    /// When the helper runs again, if its credentials expire.
    renew_at: Option<Instant>,
    /// Why the last renewal failed, so that each problem is logged once.
    problem: Option<String>,
}

/// What the helper returned, and when its credentials expire.
type HelperAnswer = (Option<Credential>, Option<Timestamp>);

impl Transport {
    /// Reads the files, runs the helper and builds the first client, on the current runtime. Blocks.
    pub(super) fn new(source: CredentialSource, build: Build) -> Result<Self, TransportError> {
        let (helper, expires) = source.run_helper()?;
        let credentials = source.read(helper)?;
        let client = build(source.config(&credentials)).map_err(explained_build).map_err(Box::new)?;
        let now = Instant::now();
        let state = State {
            client,
            generation: 0,
            credentials,
            check_at: now + FILE_INTERVAL,
            helper_ran: now,
            renew_at: expires.map(|expires| renew_at(now, expires)),
            problem: None,
        };
        let shared =
            Shared { source: Arc::new(source), build, runtime: Handle::current(), state: Mutex::new(state) };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, kube::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        async move { shared.send(request).await }.boxed()
    }
}

impl Shared {
    /// Sends a request. After a 401 it is sent once more if there are other credentials by then, and its body is in
    /// memory. Cancelling drops the request; a renewal that it began is begun again by the next request.
    async fn send(&self, request: Request<Body>) -> kube::Result<Response<Body>> {
        let copy = copy(&request);
        let (generation, client) = self.current().await;
        match client.send(request).await {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => {
                match (self.after_unauthorized(generation).await, copy) {
                    (Some(renewed), Some(copy)) => renewed.send(copy).await.map_err(explained),
                    _ => Ok(response),
                }
            }
            Ok(response) => Ok(response),
            Err(error) => {
                // The CA or the client certificate may have been replaced.
                self.state.lock().await.check_at = Instant::now();
                Err(explained(error))
            }
        }
    }

    /// Returns the client with its number, after a renewal if one is due.
    async fn current(&self) -> (u64, Client) {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        let run_helper = state.renew_at.is_some_and(|at| at <= now);
        if run_helper || (state.check_at <= now && self.source.has_files()) {
            self.renew(&mut state, run_helper).await;
        }
        (state.generation, state.client.clone())
    }

    /// Returns a client with other credentials than the client of this number, which got a 401.
    async fn after_unauthorized(&self, generation: u64) -> Option<Client> {
        let mut state = self.state.lock().await;
        if state.generation == generation {
            let run_helper = self.source.helper().is_some() && state.helper_ran.elapsed() >= HELPER_INTERVAL;
            if run_helper || self.source.has_files() {
                self.renew(&mut state, run_helper).await;
            }
        }
        (state.generation != generation).then(|| state.client.clone())
    }

    /// Reads the files again, and runs the helper again if `run_helper`. Replaces the client if anything has changed.
    /// If this fails, the client stays as it is.
    async fn renew(&self, state: &mut State, run_helper: bool) {
        let renewed = self.try_renew(state, run_helper).await;
        state.check_at = Instant::now() + FILE_INTERVAL;
        let problem = renewed.err().map(|error| error_text(&error));
        if let Some(problem) = problem.as_ref().filter(|problem| state.problem.as_ref() != Some(*problem)) {
            tracing::warn!(error = problem, "cannot renew the credentials; the old ones stay in use");
        }
        state.problem = problem;
    }

    async fn try_renew(&self, state: &mut State, run_helper: bool) -> Result<(), TransportError> {
        if run_helper {
            // Also if it fails, the helper runs no earlier than after the interval.
            state.helper_ran = Instant::now();
            state.renew_at = state.renew_at.map(|_| state.helper_ran + HELPER_INTERVAL);
        }
        let source = self.source.clone();
        let known = state.credentials.helper.clone();
        let read = move || -> Result<(Credentials, HelperAnswer), CredentialsError> {
            let answer = if run_helper { source.run_helper()? } else { (known, None) };
            Ok((source.read(answer.0.clone())?, answer))
        };
        let (credentials, (_, expires)) = self.runtime.spawn_blocking(read).await??;
        if credentials != state.credentials {
            let config = self.source.config(&credentials);
            let entered = self.runtime.enter();
            let client = (self.build)(config).map_err(explained_build).map_err(Box::new)?;
            drop(entered);
            (state.client, state.credentials) = (client, credentials);
            state.generation += 1;
            tracing::info!("the credentials or certificates have changed; new connections use the new ones");
        }
        if run_helper {
            state.renew_at = expires.map(|expires| renew_at(state.helper_ran, expires));
        }
        Ok(())
    }
}

/// Returns when credentials that expire at `expires` are renewed.
fn renew_at(now: Instant, expires: Timestamp) -> Instant {
    let valid_for = Duration::try_from(expires.duration_since(Timestamp::now())).unwrap_or_default();
    // A time beyond the range of the clock is far enough away to be ignored.
    let wait = valid_for.saturating_sub(RENEW_BEFORE).clamp(HELPER_INTERVAL, Duration::from_hours(24 * 365));
    now + wait
}

/// Copies a request whose body is in memory.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}
