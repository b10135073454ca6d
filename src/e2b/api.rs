//! [`Api`]: everything that a request needs, and [`Call`]: the request itself.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use shared_cache::CachedKind;

use super::creates::Creates;
use super::errors::ApiError;
use super::keys::{Caller, Keys};
use super::metrics::E2bMetrics;
use super::query::Query;
use super::route::Route;
use super::view::Common;
use crate::api::v1alpha1::Sandbox;
use crate::cache::SandboxCache;
use crate::claims::Claims;

/// How long a create, a pause and a resume may take. The SDKs give up after 60 s.
pub(super) const WAIT: Duration = Duration::from_secs(50);

/// The most characters of an id in the log.
const LONGEST_NOTE: usize = 128;

/// What the server is told by its options.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) common: Common,
    /// Limits of the time that a sandbox may be given.
    pub(super) min_timeout: Duration,
    pub(super) max_timeout: Duration,
    /// Whether the runtime in a sandbox is initialised.
    pub(super) init_runtime: bool,
    pub(super) max_concurrent_claims: usize,
    pub(super) max_concurrent_claims_per_key: u16,
    /// Whether a client may ask for a sandbox that never ends.
    pub(super) is_never_allowed: bool,
    /// Whether a sandbox is created for an empty pool.
    pub(super) create_on_no_stock: bool,
    /// The labels by which this process selects the sandboxes that it watches.
    pub(super) selected_labels: BTreeSet<String>,
}

/// The server without its socket.
pub(super) struct Api {
    pub(super) cache: SandboxCache,
    pub(super) claims: Claims,
    pub(super) keys: Keys,
    pub(super) settings: Settings,
    pub(super) metrics: E2bMetrics,
    pub(super) creates: Creates,
    /// The kind whose age is told to clients.
    sandboxes: Option<Arc<dyn CachedKind>>,
}

/// What a request was about, for the log.
#[derive(Default)]
pub(super) struct Notes(Mutex<Noted>);

#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    pub(super) key_id: Option<String>,
    pub(super) template: Option<String>,
    pub(super) sandbox: Option<String>,
}

impl Notes {
    pub(super) fn key(&self, id: &str) {
        self.0.lock().key_id = Some(id.to_owned());
    }

    pub(super) fn template(&self, id: &str) {
        self.0.lock().template = Some(cut(id));
    }

    pub(super) fn sandbox(&self, id: &str) {
        self.0.lock().sandbox = Some(cut(id));
    }

    pub(super) fn get(&self) -> Noted {
        self.0.lock().clone()
    }
}

/// Ids come from users and may be long.
fn cut(id: &str) -> String {
    id.chars().take(LONGEST_NOTE).collect()
}

/// A request whose caller is known.
pub(super) struct Call<'r> {
    pub(super) caller: Caller,
    pub(super) route: Route,
    pub(super) query: &'r str,
    pub(super) headers: &'r HeaderMap,
    pub(super) body: &'r [u8],
    pub(super) notes: &'r Notes,
}

impl Call<'_> {
    /// Reads the body. An empty one is an object without members.
    ///
    /// # Errors
    ///
    /// 400 with the member that is wrong.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let body = if self.body.trim_ascii().is_empty() { b"{}" } else { self.body };
        // A struct could also be read from a list.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::bad_request("the body is no JSON object"));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let parsed = serde_path_to_error::deserialize(&mut deserializer);
        let no_json =
            |error: &dyn Display| ApiError::bad_request(format!("the body is no valid JSON: {error}"));
        let parsed = parsed.map_err(|error| {
            if error.inner().is_data() {
                ApiError::bad_request(error.to_string())
            } else {
                no_json(error.inner())
            }
        })?;
        deserializer.end().map_err(|error| no_json(&error))?;
        Ok(parsed)
    }

    pub(super) fn query(&self) -> Result<Query, ApiError> {
        Query::parse(self.query)
    }
}

impl Api {
    pub(super) fn new(
        cache: &SandboxCache,
        claims: &Claims,
        keys: Keys,
        settings: Settings,
        metrics: E2bMetrics,
    ) -> Self {
        let sandboxes = cache.kinds().iter().find(|kind| *kind.plural() == *"sandboxes").cloned();
        let creates = Creates::new(settings.max_concurrent_claims, settings.max_concurrent_claims_per_key);
        Self { cache: cache.clone(), claims: claims.clone(), keys, settings, metrics, creates, sandboxes }
    }

    /// Returns how old the answers from memory are, if no watch feeds the cache.
    pub(super) fn stale_for(&self) -> Option<Duration> {
        self.sandboxes.as_ref()?.report().stale_for
    }

    /// Checks a time that a sandbox is given, in seconds.
    ///
    /// # Errors
    ///
    /// 400 if it is outside of the limits.
    pub(super) fn lifetime(&self, seconds: i64) -> Result<Duration, ApiError> {
        let Settings { min_timeout, max_timeout, .. } = self.settings;
        let lifetime = u64::try_from(seconds).ok().map(Duration::from_secs);
        let lifetime = lifetime.filter(|lifetime| (min_timeout..=max_timeout).contains(lifetime));
        lifetime.ok_or_else(|| {
            let (min, max) = (min_timeout.as_secs(), max_timeout.as_secs());
            ApiError::bad_request(format!("timeout: expected {min} to {max} seconds, not {seconds}"))
        })
    }

    /// Returns the sandboxes of a caller.
    pub(super) fn own(&self, caller: &Caller) -> Result<Vec<Arc<Sandbox>>, ApiError> {
        let own = self.claims.list(&caller.key_id, caller.team.as_deref());
        own.map_err(|error| super::failures::of_sandbox(error, ""))
    }
}

/// An answer without a body.
pub(super) fn no_content() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The time, which no test of this module changes.
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}
