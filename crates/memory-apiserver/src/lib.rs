#![doc = include_str!("../README.md")]

mod access;
mod answer;
mod bootstrap;
mod builtin;
mod crds;
mod discovery;
mod error;
mod events;
mod faults;
mod fields;
mod filter;
mod form;
#[cfg(test)]
mod fuzz;
mod go_format;
#[cfg(test)]
mod harness;
mod lifecycle;
mod load;
mod metadata;
mod object;
mod openapi;
mod openapi_v2;
mod patch;
mod protobuf;
mod request;
mod resource;
mod schema;
mod selector;
#[cfg(feature = "__serve")]
mod serve;
mod served;
mod server;
#[cfg(feature = "__serve")]
mod serving;
mod store;
mod table;
mod verbs;
mod watch;

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

pub use faults::{Fault, FaultPlan, On, RequestFault, Times, WatchFault};
pub use load::LoadError;
pub use request::Verb;
#[cfg(feature = "__serve")]
pub use serving::Serving;

use access::User;
use server::{Sender, Server};
use store::{Key, Limits};

/// A running API server. Cheap to clone; all clones are one server, whose objects go with the last one.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use kube::Api;
/// use kube::api::PostParams;
/// use memory_apiserver::ApiServer;
///
/// let server = ApiServer::new();
/// let config_maps: Api<ConfigMap> = Api::namespaced(server.client(), "default");
/// let mut config_map = ConfigMap::default();
/// config_map.metadata.name = Some("a".to_owned());
/// let created = config_maps.create(&PostParams::default(), &config_map).await?;
/// assert!(created.metadata.uid.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ApiServer {
    server: Arc<Server>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// A server with the namespaces that every cluster has and nothing else.
    #[must_use]
    pub fn new() -> Self {
        Self { server: Server::new(Limits::default()) }
    }

    /// A server that keeps only so many of the latest events of each kind: watches and pages that are older expire.
    #[must_use]
    pub fn with_history(events: usize) -> Self {
        Self { server: Server::new(Limits { events, ..Limits::default() }) }
    }

    /// A client of somebody who may do everything. No socket, so it works under paused time.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client_of(User::admin(), false)
    }

    /// As [`ApiServer::client`], but nothing goes wrong with what it sends: for a test's own requests. Events of its
    /// watches are struck like any others.
    #[must_use]
    pub fn client_without_faults(&self) -> kube::Client {
        self.client_of(User::admin(), true)
    }

    /// A client of a user who may do what roles and bindings grant to that name.
    #[must_use]
    pub fn client_for(&self, user: &str) -> kube::Client {
        self.client_of(User::named(user), false)
    }

    fn client_of(&self, user: User, spared: bool) -> kube::Client {
        let (server, sender) = (Arc::clone(&self.server), Sender { user, spared });
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(sender.clone());
            Arc::clone(&server).handle(request)
        });
        kube::Client::new(service, "default")
    }

    /// The version of the last write.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.server.store.revision()
    }

    /// Lets requests and events go wrong from now on, besides what does so already.
    pub fn inject(&self, plan: &FaultPlan) {
        self.server.faults.inject(plan);
    }

    /// Lets nothing go wrong any more. What is silent stays silent until [`ApiServer::cut`].
    pub fn clear_faults(&self) {
        self.server.faults.clear();
    }

    /// Each fault in force and how often it has happened.
    #[must_use]
    pub fn faults_fired(&self) -> Vec<(Fault, u64)> {
        self.server.faults.fired()
    }

    /// Breaks off every watch, and every connection over TCP.
    pub fn cut(&self) {
        self.server.cut();
    }

    /// Sends a bookmark to every watch that wants some, without waiting for the minute to be over.
    pub fn send_bookmarks(&self) {
        self.server.send_bookmarks();
    }

    /// Forgets what happened before now, as etcd does after some minutes: older versions have expired (410).
    pub fn compact(&self) {
        self.server.store.compact();
    }

    /// Does what a restart does: every connection breaks, and no version that was seen before can be resumed at.
    pub fn restart(&self) {
        self.server.store.skip_revision();
        self.compact();
        self.cut();
    }

    /// Sets everything back to what it was at an older version, as a restored backup would, and breaks every
    /// connection off. Later writes use the same versions again.
    ///
    /// # Errors
    ///
    /// When that version has been forgotten or has not come yet.
    pub fn rewind(&self, revision: u64) -> Result<(), RewindError> {
        self.server.store.rewind(revision).map_err(|unknown| RewindError { revision, unknown })?;
        self.server.refresh_registry();
        self.cut();
        Ok(())
    }

    /// Makes every token of a user worthless, as if it had been rotated away.
    pub fn revoke_tokens(&self, user: &str) {
        self.server.access.revoke(user);
    }

    /// Creates an object with its status in one write, and its namespace if that is not there yet; for filling a
    /// server quickly. What the server sets (UID, version, times) is set, and the object is checked by its schema.
    /// Returns the object as it is stored.
    ///
    /// # Errors
    ///
    /// When a request to create it would be refused.
    pub fn load(&self, object: &Value) -> Result<Value, LoadError> {
        load::load(&self.server, object)
    }

    /// As [`ApiServer::load`], unless there is an object of that name already.
    ///
    /// # Errors
    ///
    /// As [`ApiServer::load`].
    pub fn ensure(&self, object: &Value) -> Result<(), LoadError> {
        load::ensure(&self.server, object)
    }

    /// Stores an object as it is, whatever its kind's schema says, under the kind's plural and group
    /// (`machines.fleet.test`, `configmaps`): for objects that should not exist. It gets a version, and a UID
    /// if it has none, and watchers are told.
    pub fn force(&self, plural_and_group: &str, mut object: Value) {
        let key = Key::new(object::namespace(&object), object::name(&object));
        if object::uid(&object).is_empty() {
            object::metadata_mut(&mut object)
                .insert("uid".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
        }
        self.server.store.force(&plural_and_group.into(), &key, object);
    }
}

/// A state that can't be gone back to.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("version {revision} is not known any more, or not yet")]
pub struct RewindError {
    /// The version that was asked for.
    pub revision: u64,
    unknown: store::Unknown,
}
