//! [`ApiServerBuilder`]: what a server holds when it starts.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api_server::ApiServer;
use super::clock::Clock;
use super::faults::FaultPlan;
use super::kubelet::{self, Kubelet};
use super::load::LoadError;
use super::served::Declared;
use super::state::{Controllers, Settings};
use super::store::Limits;

/// Builds an [`ApiServer`].
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use k8s_openapi::api::discovery::v1::EndpointSlice;
/// use kube::Api;
/// use memory_apiserver::{ApiServer, FaultPlan, On, RequestFault, Times, Verb};
///
/// let mut config_map = ConfigMap::default();
/// config_map.metadata.name = Some("a".to_owned());
/// let second_get = FaultPlan::request(
///     On::request(Verb::Get, "configmaps"),
///     Times::Nth(2),
///     RequestFault::Answer { code: 503, retry_after: None },
/// );
/// let server = ApiServer::builder()
///     .kind::<EndpointSlice>()
///     .objects([config_map])
///     .clock(|| "2030-01-01T00:00:00Z".parse().expect("a time"))
///     .faults(second_get)
///     .start()?;
///
/// let config_maps: Api<ConfigMap> = Api::namespaced(server.client(), "default");
/// let created = config_maps.get("a").await?.metadata.creation_timestamp.expect("a time");
/// assert_eq!(created.0.to_string(), "2030-01-01T00:00:00Z");
/// assert!(config_maps.get("a").await.is_err());
/// let statuses: Vec<_> = server.requests().iter().map(|request| request.status).collect();
/// assert_eq!(statuses, [Some(200), Some(503)]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until `start` is called"]
pub struct ApiServerBuilder {
    limits: Limits,
    clock: Clock,
    declared: Vec<Declared>,
    definitions: Vec<Value>,
    objects: Vec<Value>,
    strict_owners: bool,
    kubelet: Option<Kubelet>,
    faults: Option<FaultPlan>,
    /// The first step that failed, which [`Self::start`] returns.
    error: Option<BuildError>,
}

/// Why a server could not be started.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A kind of [`ApiServerBuilder::kind`] is no resource of its own.
    #[error("{kind} has no URL of its own: it is a subresource")]
    Subresource {
        /// The kind.
        kind: &'static str,
    },
    /// An object cannot be written as JSON.
    #[error("an object cannot be written as JSON: {0}")]
    Json(String),
    /// An object or a definition is refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A kubelet is wanted, but the server is not started within a tokio runtime.
    #[error("a kubelet needs a tokio runtime: start the server within one")]
    NoRuntime,
}

impl ApiServer {
    /// Creates a builder.
    pub fn builder() -> ApiServerBuilder {
        ApiServerBuilder::default()
    }
}

impl ApiServerBuilder {
    /// Serves a custom kind, from its definition (`#[derive(CustomResource)]`).
    pub fn crd<K: CustomResourceExt>(self) -> Self {
        self.objects([K::crd()])
    }

    /// Serves a kind of Kubernetes that is not built in, such as `EndpointSlice` or `Deployment`.
    ///
    /// Its objects are checked by their Rust type alone: no defaults are set, and lists are applied as a whole. A kind
    /// with a `status` has it as a subresource. For a kind that is built in this does nothing.
    pub fn kind<K>(mut self) -> Self
    where
        K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
        K: JsonSchema + Serialize + DeserializeOwned,
        <K as k8s_openapi::Resource>::Scope: 'static,
    {
        match Declared::of::<K>() {
            Some(declared) => self.declared.push(declared),
            None => self.fail(BuildError::Subresource { kind: K::KIND }),
        }
        self
    }

    /// Creates objects of any kinds that are served, definitions before all others, and the namespaces that they need.
    /// Their status is stored with them.
    pub fn objects<K: Serialize>(mut self, objects: impl IntoIterator<Item = K>) -> Self {
        for object in objects {
            match serde_json::to_value(object) {
                Ok(definition) if definition["kind"] == "CustomResourceDefinition" => {
                    self.definitions.push(definition);
                }
                Ok(object) => self.objects.push(object),
                Err(error) => self.fail(BuildError::Json(error.to_string())),
            }
        }
        self
    }

    /// Keeps only this many of the latest events of each kind: older watches and pages expire (410).
    pub fn history(mut self, events: usize) -> Self {
        self.limits.events = events;
        self
    }

    /// Takes the time from this function instead of the system, for `creationTimestamp` and all other times in objects.
    /// Watches and delays follow the clock of tokio, which a test can pause.
    pub fn clock(mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// Deletes an object as soon as it names only owners that do not exist, as kube-controller-manager does.
    ///
    /// Without this, only the deletion of an owner is a reason to look at its dependents, so that a test can create
    /// objects with an owner that it made up. Objects of [`Self::objects`] and [`ApiServer::load`] may always name such
    /// owners.
    pub fn strict_owners(mut self) -> Self {
        self.strict_owners = true;
        self
    }

    /// Runs Pods, on nodes whose objects it creates. See [`Kubelet`].
    ///
    /// The server must be started within a tokio runtime, which then runs the task of the kubelet.
    pub fn kubelet(mut self, kubelet: &Kubelet) -> Self {
        self.kubelet = Some(kubelet.clone());
        self
    }

    /// Injects faults from the first request on. Several plans are injected together.
    pub fn faults(mut self, plan: FaultPlan) -> Self {
        self.faults = Some(match self.faults {
            None => plan,
            Some(before) => before.and(plan),
        });
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    ///
    /// If a kind cannot be served, an object is refused, or a kubelet is wanted outside of a tokio runtime.
    pub fn start(self) -> Result<ApiServer, BuildError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let controllers =
            Controllers { collects_absent: self.strict_owners, ends_pods: self.kubelet.is_some() };
        let server = ApiServer::with_settings(Settings {
            limits: self.limits,
            clock: self.clock,
            declared: self.declared.into_iter().filter_map(Declared::into_resource).collect(),
            controllers,
        });
        for object in self.definitions.iter().chain(&self.objects) {
            server.load(object)?;
        }
        if let Some(kubelet) = &self.kubelet {
            for node in kubelet.node_objects(server.state.clock.now()) {
                server.ensure(&node)?;
            }
            kubelet::start(kubelet, &server.state).map_err(|_| BuildError::NoRuntime)?;
        }
        if let Some(plan) = &self.faults {
            server.inject(plan);
        }
        Ok(server)
    }

    fn fail(&mut self, error: BuildError) {
        self.error.get_or_insert(error);
    }
}
