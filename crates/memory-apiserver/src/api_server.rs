//! [`ApiServer`]: the server as a program uses it.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use super::access::User;
use super::faults::{Fault, FaultPlan};
use super::load::{self, LoadError};
use super::requests::SeenRequest;
use super::state::{ServerState, Settings};
use super::store::{Key, Unknown};
use super::{object, router};

/// A running API server. Cheap to clone: all clones are one server, and its objects are dropped with the last clone.
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
    pub(crate) state: Arc<ServerState>,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// A server with the namespaces that every cluster has and nothing else. [`ApiServer::builder`] adds kinds,
    /// objects and more.
    #[must_use]
    pub fn new() -> Self {
        Self::with_settings(Settings::default())
    }

    pub(crate) fn with_settings(settings: Settings) -> Self {
        Self { state: Arc::new(ServerState::new(settings)) }
    }

    /// A client of a user who may do everything. It needs no socket, so it works under paused time.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client_of(User::admin(), false)
    }

    /// As [`ApiServer::client`], but no fault strikes its requests: for the requests of the test itself. Faults of
    /// events strike its watches, too.
    #[must_use]
    pub fn client_without_faults(&self) -> kube::Client {
        self.client_of(User::admin(), true)
    }

    /// A client of a user who may do what roles and bindings grant to that name. It is valid until
    /// [`ApiServer::revoke_tokens`].
    #[must_use]
    pub fn client_as(&self, user: &str) -> kube::Client {
        self.client_of(User::named(user), false)
    }

    fn client_of(&self, user: User, spared: bool) -> kube::Client {
        let (state, sender) = (Arc::clone(&self.state), self.state.access.sender(user, spared));
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(sender.clone());
            router::handle(Arc::clone(&state), request)
        });
        kube::Client::new(service, "default")
    }

    /// The requests for resources so far, in the order in which they came: the latest 10,000. Requests of
    /// [`ApiServer::client_without_faults`] are left out.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.state.requests.all()
    }

    /// The version of the last write.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state.store.revision()
    }

    /// Adds the faults of a plan to those in force.
    pub fn inject(&self, plan: &FaultPlan) {
        self.state.faults.inject(plan, self.revision());
    }

    /// Removes all faults. A watch or a request that a fault silenced stays silent until [`ApiServer::cut`].
    pub fn clear_faults(&self) {
        self.state.faults.clear();
    }

    /// Each fault in force and how often it has happened.
    #[must_use]
    pub fn faults_fired(&self) -> Vec<(Fault, u64)> {
        self.state.faults.fired()
    }

    /// Breaks every watch, and every connection over TCP.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Sends a bookmark to every watch that asked for bookmarks, without waiting for the minute to be over.
    pub fn send_bookmarks(&self) {
        self.state.send_bookmarks();
    }

    /// Forgets what happened before now, as etcd does after some minutes. Older versions have expired (410) then; an
    /// open watch that has told all events goes on.
    pub fn compact(&self) {
        self.state.store.compact();
    }

    /// Does what a restart does: every connection breaks, and no version that was seen before can be resumed at.
    pub fn restart(&self) {
        self.state.store.skip_revision();
        self.compact();
        self.cut();
    }

    /// Sets all objects back to an older version, as a restored backup would, and breaks every connection. Later
    /// writes use the same versions again.
    ///
    /// # Errors
    ///
    /// If that version is forgotten or not reached yet.
    pub fn rewind(&self, revision: u64) -> Result<(), RewindError> {
        self.state.rewind(revision).map_err(|unknown| RewindError { revision, unknown })
    }

    /// Makes every token and every client of a user invalid that there is so far, as if the tokens had been rotated.
    /// A client that is made afterwards is valid.
    pub fn revoke_tokens(&self, user: &str) {
        self.state.access.revoke(user);
    }

    /// Creates an object with its status in one write, and its namespace if that is missing: fills a server quickly.
    /// The server sets UID, version and times, and checks the object by its schema. Returns the object as it is stored.
    ///
    /// # Errors
    ///
    /// If a request to create it would be refused.
    pub fn load(&self, object: &Value) -> Result<Value, LoadError> {
        load::load(&self.state, object)
    }

    /// As [`ApiServer::load`], unless an object of that name is there already.
    ///
    /// # Errors
    ///
    /// As [`ApiServer::load`].
    pub fn ensure(&self, object: &Value) -> Result<(), LoadError> {
        load::ensure(&self.state, object)
    }

    /// Stores an object without any check, under the plural and the group of its kind (`machines.fleet.test`,
    /// `configmaps`): for objects that no schema would let in. It gets a version, and a UID if it has none, and
    /// watches are told.
    pub fn force(&self, plural_and_group: &str, mut object: Value) {
        let key = Key::new(object::namespace(&object), object::name(&object));
        if object::uid(&object).is_empty() {
            object::metadata_mut(&mut object)
                .insert("uid".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
        }
        self.state.store.force(&plural_and_group.into(), &key, object);
    }
}

/// The state at a version that is not known.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("version {revision} is forgotten or not reached yet")]
pub struct RewindError {
    /// The version that was asked for.
    pub revision: u64,
    unknown: Unknown,
}
