//! [`Context`]: what a handler may need besides the object.

use std::sync::Arc;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use shared_cache::SharedCache;
use tokio_util::sync::CancellationToken;

/// What a handler may need besides the object. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    controller: Arc<str>,
    cache: SharedCache,
    reporter: Reporter,
    recorder: Recorder,
    shutdown: CancellationToken,
}

impl Context {
    pub(super) fn new(controller: Arc<str>, cache: SharedCache, instance: Option<String>) -> Self {
        let reporter = Reporter { controller: controller.as_ref().to_owned(), instance };
        let recorder = Recorder::new(cache.client().clone(), reporter.clone());
        Self { controller, cache, reporter, recorder, shutdown: CancellationToken::new() }
    }

    /// The same with another client, which the cache and the recorder use too.
    pub(super) fn with_client(self, client: Client) -> Self {
        let recorder = Recorder::new(client.clone(), self.reporter.clone());
        Self { cache: self.cache.with_client(client), recorder, ..self }
    }

    /// Name of the controller.
    #[must_use]
    pub fn controller(&self) -> &str {
        &self.controller
    }

    /// The shared cache, for lookups and patches. Patches of a leader-only controller are sent while this process leads.
    #[must_use]
    pub fn cache(&self) -> &SharedCache {
        &self.cache
    }

    /// The client, for writes and live reads. For a leader-only controller, writes fail with
    /// [`NotLeader`](crate::NotLeader) from the moment at which another process may lead, also those on their way.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.cache.client()
    }

    /// Publishes Kubernetes events. Equal events of one controller are counted in one object.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Cancelled when the controller stops. Handlers that run then have the grace period left.
    #[must_use]
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }
}
