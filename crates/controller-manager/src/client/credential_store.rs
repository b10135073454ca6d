//! [`CredentialStore`]: the credentials of the clients of a connector, and their renewal.
//!
//! kube reads a token file once a minute and the CA file of a pod, and it never reads client certificates or any other
//! CA file again. So the store reads all files again and runs the credential helper again.
//!
//! A renewal runs on a thread of its own, which stores the result. So it survives the request that began it, and one
//! run of the helper serves all clients. The thread belongs to no runtime: a runtime that ends waits for its blocking
//! threads.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Config;
use parking_lot::Mutex;
use shared_cache::error_text;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::credentials::{CredentialSource, Credentials, CredentialsError};

/// Files are read again after this time. A rotated service account token is valid for much longer.
const FILE_INTERVAL: Duration = Duration::from_secs(10);

/// Credentials of a helper are renewed this long before they expire.
const RENEW_BEFORE: Duration = Duration::from_mins(1);

/// Minimum time between two runs of the helper, however short its credentials are valid and however many requests are
/// answered with 401.
const HELPER_INTERVAL: Duration = Duration::from_secs(10);

/// The credentials that all clients of a connector use.
pub(super) struct CredentialStore {
    source: CredentialSource,
    /// Never held across an await or while files are read.
    state: Mutex<State>,
}

/// The credentials in use.
#[derive(Clone)]
pub(super) struct Current {
    /// Grows with each change of the credentials.
    pub(super) generation: u64,
    credentials: Arc<Credentials>,
}

struct State {
    current: Current,
    /// When files are read again.
    check_at: Instant,
    /// When the helper was started last.
    helper_ran: Instant,
    /// When the helper's credentials expire and when they are renewed, if they expire.
    lifetime: Option<Lifetime>,
    /// The last renewal, which may have ended.
    renewal: Option<Renewal>,
    /// Why the last renewal failed, so that each problem is logged once.
    problem: Option<String>,
}

#[derive(Clone, Copy)]
struct Lifetime {
    renew_at: Instant,
    expires_at: Instant,
}

#[derive(Clone)]
struct Renewal {
    /// Cancelled when the thread ends, also by a panic.
    ended: CancellationToken,
    runs_helper: bool,
}

impl CredentialStore {
    /// Runs the helper and reads the files. Blocks.
    pub(super) fn load(source: CredentialSource) -> Result<Self, CredentialsError> {
        let started = Instant::now();
        let (helper, expires) = source.run_helper()?;
        let credentials = Arc::new(source.read(helper)?);
        let state = State {
            current: Current { generation: 0, credentials },
            check_at: started + FILE_INTERVAL,
            helper_ran: started,
            lifetime: expires.map(|expires| Lifetime::new(started, expires)),
            renewal: None,
            problem: None,
        };
        Ok(Self { source, state: Mutex::new(state) })
    }

    /// The configuration of a client with these credentials. It refers to no file and no helper.
    pub(super) fn config(&self, current: &Current) -> Config {
        self.source.config(&current.credentials)
    }

    /// Returns the credentials, and begins a renewal if one is due. Files are waited for. The helper is waited for only
    /// if its last credentials have expired. Cancelling does not end the renewal.
    pub(super) async fn current(self: &Arc<Self>) -> Current {
        let renewal = {
            let mut state = self.state.lock();
            let now = Instant::now();
            let run_helper = state.lifetime.is_some_and(|lifetime| lifetime.renew_at <= now);
            if run_helper || (state.check_at <= now && self.source.has_files()) {
                self.renew(&mut state, run_helper);
            }
            let expired = state.lifetime.is_some_and(|lifetime| lifetime.expires_at <= now);
            state.renewal.clone().filter(|renewal| expired || !renewal.runs_helper)
        };
        if let Some(renewal) = renewal {
            renewal.ended.cancelled().await;
        }
        self.latest()
    }

    /// Returns other credentials than those of this generation, which got a 401, after a renewal if there are none yet.
    /// Cancelling does not end the renewal.
    pub(super) async fn after_unauthorized(self: &Arc<Self>, generation: u64) -> Option<Current> {
        let renewal = {
            let mut state = self.state.lock();
            if state.current.generation == generation {
                let run_helper =
                    self.source.helper().is_some() && state.helper_ran.elapsed() >= HELPER_INTERVAL;
                if run_helper || self.source.has_files() {
                    self.renew(&mut state, run_helper);
                }
                state.renewal.clone()
            } else {
                None
            }
        };
        if let Some(renewal) = renewal {
            renewal.ended.cancelled().await;
        }
        Some(self.latest()).filter(|current| current.generation != generation)
    }

    /// Returns the credentials as they are, without a renewal.
    pub(super) fn latest(&self) -> Current {
        self.state.lock().current.clone()
    }

    /// Lets the next request read the files again: the CA or the client certificate may have been replaced.
    pub(super) fn check_files(&self) {
        self.state.lock().check_at = Instant::now();
    }

    /// Runs the helper again soon, and not only before its credentials expire: no client can be built of these.
    pub(super) fn reject(&self, rejected: &Current) {
        let mut state = self.state.lock();
        let renew_at = state.helper_ran + HELPER_INTERVAL;
        if state.current.generation == rejected.generation
            && let Some(lifetime) = &mut state.lifetime
        {
            lifetime.renew_at = renew_at;
        }
    }

    /// Waits until the renewal that runs has ended.
    #[cfg(test)]
    pub(super) async fn renewed(&self) {
        let renewal = self.state.lock().renewal.clone();
        if let Some(renewal) = renewal {
            renewal.ended.cancelled().await;
        }
    }

    /// Begins a renewal, unless one runs: reads the files again, and runs the helper again if `run_helper`.
    fn renew(self: &Arc<Self>, state: &mut State, run_helper: bool) {
        if state.renewal.as_ref().is_some_and(|renewal| !renewal.ended.is_cancelled()) {
            return;
        }
        let started = Instant::now();
        state.check_at = started + FILE_INTERVAL;
        if run_helper {
            // Also if it fails, the helper runs no earlier than after the interval.
            state.helper_ran = started;
            if let Some(lifetime) = &mut state.lifetime {
                lifetime.renew_at = started + HELPER_INTERVAL;
            }
        }
        let ended = CancellationToken::new();
        state.renewal = Some(Renewal { ended: ended.clone(), runs_helper: run_helper });
        let (store, ended, known) = (self.clone(), ended.drop_guard(), state.current.credentials.clone());
        let thread = thread::Builder::new().name("credentials".to_owned()).spawn(move || {
            let _ended = ended;
            let read = store.read(&known, run_helper);
            store.state.lock().apply(read, started, run_helper);
        });
        if let Err(error) = thread {
            state.report(Some(format!("cannot start a thread: {error}")));
        }
    }

    fn read(&self, known: &Credentials, run_helper: bool) -> Result<Read, CredentialsError> {
        let (helper, expires) =
            if run_helper { self.source.run_helper()? } else { (known.helper.clone(), None) };
        Ok(Read { credentials: self.source.read(helper)?, expires })
    }
}

/// The result of a renewal.
struct Read {
    credentials: Credentials,
    /// When the helper's credentials expire, if it ran.
    expires: Option<Timestamp>,
}

impl State {
    /// Stores the result of a renewal. If it failed, the credentials stay as they are.
    fn apply(&mut self, read: Result<Read, CredentialsError>, started: Instant, ran_helper: bool) {
        let Read { credentials, expires } = match read {
            Ok(read) => read,
            Err(error) => return self.report(Some(error_text(&error))),
        };
        self.report(None);
        if ran_helper {
            self.lifetime = expires.map(|expires| Lifetime::new(started, expires));
        }
        if credentials != *self.current.credentials {
            let generation = self.current.generation + 1;
            self.current = Current { generation, credentials: Arc::new(credentials) };
            tracing::info!("the credentials or certificates have changed; later requests use the new ones");
        }
    }

    fn report(&mut self, problem: Option<String>) {
        if let Some(problem) = problem.as_ref().filter(|problem| self.problem.as_ref() != Some(*problem)) {
            tracing::warn!(error = problem, "cannot renew the credentials; the old ones stay in use");
        }
        self.problem = problem;
    }
}

impl Lifetime {
    /// For the answer of a helper that was started at this time.
    fn new(started: Instant, expires: Timestamp) -> Self {
        let valid_for = Duration::try_from(expires.duration_since(Timestamp::now())).unwrap_or_default();
        // A time beyond the range of the clock is far enough away to be ignored.
        let valid_for = valid_for.min(Duration::from_hours(24 * 365));
        let renew_after = valid_for.saturating_sub(RENEW_BEFORE).max(HELPER_INTERVAL);
        Self { renew_at: started + renew_after, expires_at: started + valid_for }
    }
}
