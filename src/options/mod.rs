//! The settings of the process, their defaults, and the sources that set them.
//!
//! [`SandboxManagerOptions`] is the one declaration of all settings. To add a setting, add a field here with its doc
//! comment, default and limits, then run `just generate`. Everything else is derived from the field:
//!
//! ```text
//!  field, doc comment, default ──▶ SETTINGS ──▶ field of the file, environment variable, flag, help text
//!                                     │
//!                                     └──▶ JSON schema of the chart, docs/configuration.md, config/manager
//! ```
//!
//! [`OptionsLoader`] reads the sources and collects every fault in them. Each source overrides the one before:
//! defaults, file, environment, flags. Values that a program assigns directly are checked where they are used
//! ([`Scope::from_options`]). Of the crate this module imports only [`Scope`]; its only I/O is to read the file.

mod document;
mod e2b;
mod election;
mod file;
mod loader;
mod schema;
mod scope;
mod setting;
mod text;

use std::time::Duration;

pub use crate::cache::Scope;
pub use controller_manager::{BindAddress, InvalidAddress};
pub use label_selector::{LabelSelector, Operator, Requirement, SelectorError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::text::{
    AnyDuration, Domain, FilePath, Namespace, ObjectName, PositiveDuration, Selector, Text, Version,
};
pub use self::{
    document::{API_VERSION, KIND},
    e2b::E2bOptionsError,
    election::LeaderElectionError,
    file::MAX_FILE_BYTES,
    loader::{ENV_PREFIX, OTHER_VARIABLES, OptionsError, OptionsLoader},
    scope::ScopeError,
    setting::{SETTINGS, SetError, Setting},
};

// The flag of a setting is its path in kebab case: `cache.pageSize` is `--cache-page-size`. `x-flag` on a field
// replaces the flag; `x-flag` on a section replaces the part of the flag that stands for the section.

/// The settings of sandbox-manager, as in its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SandboxManagerOptions {
    /// Namespace of the sandboxes. Empty: every namespace.
    #[serde(with = "Text::<Namespace>")]
    pub sandbox_namespace: String,
    /// Label selector of the sandbox kinds, in the syntax of kubectl. Empty: every object.
    #[serde(with = "Text::<Selector>")]
    pub sandbox_label_selector: String,
    /// Namespace from which Secrets and ConfigMaps are read. Empty: none are read.
    #[serde(with = "Text::<Namespace>")]
    pub system_namespace: String,
    /// The listener for metrics.
    pub metrics: MetricsOptions,
    /// The listener for health.
    pub health: HealthOptions,
    /// Debug endpoints.
    pub debug: DebugOptions,
    /// A section for each controller.
    #[schemars(extend("x-flag" = ""))]
    pub controllers: ControllersOptions,
    /// The election of the replica that runs leader-only controllers.
    #[schemars(extend("x-flag" = "leader-elect"))]
    pub leader_election: LeaderElectionOptions,
    /// The lifecycle controllers.
    pub lifecycle: LifecycleOptions,
    /// The E2B API.
    pub e2b: E2bOptions,
    /// How the cache reads from the API server.
    pub cache: CacheOptions,
    /// Limit of the requests that this process sends to the API server.
    #[schemars(extend("x-flag" = "kube-api"))]
    pub client: ClientOptions,
    /// Level and format of the log.
    pub log: LogOptions,
    /// How the process stops.
    pub shutdown: ShutdownOptions,
}

/// `metrics` of the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricsOptions {
    /// Address of /metrics. Port 0 binds a free port, `0` disables the listener.
    #[serde(with = "Text::<BindAddress>")]
    pub bind_address: BindAddress,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self { bind_address: BindAddress::listen("", 8080) }
    }
}

/// `health` of the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthOptions {
    /// Address of /livez, /healthz and /readyz. Port 0 binds a free port, `0` disables the listener.
    #[serde(with = "Text::<BindAddress>")]
    #[schemars(extend("x-flag" = "health-probe-bind-address"))]
    pub bind_address: BindAddress,
    /// How long a watch may be down before /readyz fails. The old view is served meanwhile. 0: without limit.
    #[serde(with = "Text::<AnyDuration>")]
    pub stale_after: Duration,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self { bind_address: BindAddress::listen("", 8081), stale_after: Duration::from_mins(5) }
    }
}

/// `debug` of the options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DebugOptions {
    /// Serve /debug/cache/{plural} on the health address: names, owners and ids of the cached objects.
    #[schemars(extend("x-flag" = "debug-endpoints"))]
    pub enabled: bool,
}

/// `controllers` of the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ControllersOptions {
    /// The controller of Sandbox.
    pub sandbox: ControllerOptions,
    /// The controller of SandboxSet.
    pub sandbox_set: ControllerOptions,
    /// The controller of SandboxClaim.
    pub sandbox_claim: ControllerOptions,
    /// The controller of Checkpoint.
    pub checkpoint: ControllerOptions,
}

impl Default for ControllersOptions {
    fn default() -> Self {
        Self {
            sandbox: ControllerOptions { max_concurrent_reconciles: 50 },
            sandbox_set: ControllerOptions { max_concurrent_reconciles: 4 },
            sandbox_claim: ControllerOptions { max_concurrent_reconciles: 10 },
            checkpoint: ControllerOptions { max_concurrent_reconciles: 4 },
        }
    }
}

/// Settings of one controller. They have no default of their own: it depends on the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControllerOptions {
    /// Maximum number of objects that the controller reconciles at the same time.
    #[schemars(range(min = 1))]
    pub max_concurrent_reconciles: u16,
}

/// `leaderElection` of the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaderElectionOptions {
    /// Elect one of several replicas by a Lease. Only that replica runs leader-only controllers.
    #[schemars(extend("x-flag" = "leader-elect"))]
    pub enabled: bool,
    /// Namespace of the Lease. Empty: the namespace of the pod.
    #[serde(with = "Text::<Namespace>")]
    #[schemars(extend("x-flag" = "leader-elect-resource-namespace"))]
    pub namespace: String,
    /// Name of the Lease. Two installations in one namespace need different names.
    #[serde(with = "Text::<ObjectName>")]
    #[schemars(extend("x-flag" = "leader-elect-resource-name"))]
    pub name: String,
    /// Time without a renewal after which another replica takes the Lease. Whole seconds, more than `renewDeadline`.
    #[serde(with = "Text::<PositiveDuration>")]
    pub lease_duration: Duration,
    /// Time without a renewal after which the leader writes no more and exits with code 1. More than 1.2 times
    /// `retryPeriod`.
    #[serde(with = "Text::<PositiveDuration>")]
    pub renew_deadline: Duration,
    /// Maximum time between two attempts to take or renew the Lease.
    #[serde(with = "Text::<PositiveDuration>")]
    pub retry_period: Duration,
}

impl Default for LeaderElectionOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            namespace: String::new(),
            name: "sandbox-manager".to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// `lifecycle` of the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LifecycleOptions {
    /// Run the controllers of Sandbox, SandboxSet, SandboxClaim and Checkpoint in this process. Never run them beside
    /// the controllers of OpenKruise Agents. Several replicas need `leaderElection.enabled`.
    pub enabled: bool,
    /// Initialise the runtime in the sandboxes of a SandboxClaim (port 49983) with its `envVars` and an access token, unless
    /// the claim has `skipInitRuntime`.
    pub init_runtime: bool,
}

impl Default for LifecycleOptions {
    fn default() -> Self {
        Self { enabled: false, init_runtime: true }
    }
}

/// `e2b` of the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct E2bOptions {
    /// Serve the E2B API, so that the E2B SDKs can create, pause and kill sandboxes.
    pub enabled: bool,
    /// Address of the E2B API. Port 0 binds a free port, `0` disables the listener.
    #[serde(with = "Text::<BindAddress>")]
    pub bind_address: BindAddress,
    /// Domain below which clients reach the ports of sandboxes, such as `sandboxes.example.com`. Empty: clients use their
    /// own `E2B_DOMAIN`.
    #[serde(with = "Text::<Domain>")]
    pub domain: String,
    /// How clients are authenticated: by the API keys of the Secret e2b-key-store in `systemNamespace`, or not at all.
    /// Without keys, every client is an administrator.
    pub auth: E2bAuth,
    /// Team of the first API key: a namespace, or `admin` for every namespace. While the Secret e2b-key-store has no key,
    /// the text in the Secret e2b-first-key becomes one; that Secret is made if it does not exist. Empty: no key is made.
    #[serde(with = "Text::<Namespace>")]
    pub first_key_team: String,
    /// Accept `auth: none` on an address that is not loopback. Everybody who reaches that address can then use every
    /// sandbox.
    pub allow_unauthenticated: bool,
    /// The certificate of the E2B API.
    pub tls: E2bTlsOptions,
    /// Create a sandbox if the pool of a template has none that is ready. If not, no client can ask for it by metadata
    /// either.
    pub create_on_no_stock: bool,
    /// Initialise the runtime in a sandbox (port 49983) with environment variables and an access token.
    pub init_runtime: bool,
    /// Version of the runtime in the sandboxes. The SDKs choose what they ask of the runtime by this version.
    #[serde(with = "Text::<Version>")]
    pub envd_version: String,
    /// Minimum time that a client may give to a sandbox.
    #[serde(with = "Text::<PositiveDuration>")]
    pub min_timeout: Duration,
    /// Maximum time that a client may give to a sandbox. Below 30 days, no client can ask for a sandbox without an end by
    /// metadata either.
    #[serde(with = "Text::<PositiveDuration>")]
    pub max_timeout: Duration,
    /// Maximum number of sandboxes that are created at the same time. Further requests are refused with HTTP 429.
    #[schemars(range(min = 1))]
    pub max_concurrent_claims: u16,
    /// Maximum number of sandboxes that are created at the same time with one API key. Further requests are refused with
    /// HTTP 429.
    #[schemars(range(min = 1))]
    pub max_concurrent_claims_per_key: u16,
}

impl Default for E2bOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            bind_address: BindAddress::listen("", 8082),
            domain: String::new(),
            auth: E2bAuth::Secret,
            first_key_team: String::new(),
            allow_unauthenticated: false,
            tls: E2bTlsOptions::default(),
            create_on_no_stock: true,
            init_runtime: true,
            envd_version: "0.2.10".to_owned(),
            min_timeout: Duration::from_secs(1),
            max_timeout: Duration::from_hours(30 * 24),
            max_concurrent_claims: 500,
            max_concurrent_claims_per_key: 400,
        }
    }
}

/// How clients of the E2B API are authenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum E2bAuth {
    /// By the API keys of a Secret.
    #[default]
    Secret,
    /// Not at all.
    None,
}

/// `e2b.tls` of the options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct E2bTlsOptions {
    /// File with the certificate and its chain in PEM. Read again when it changes. Empty: the E2B API is served without
    /// TLS, for a proxy that terminates TLS.
    #[serde(with = "Text::<FilePath>")]
    pub cert_file: String,
    /// File with the private key of the certificate in PEM.
    #[serde(with = "Text::<FilePath>")]
    pub key_file: String,
}

/// `cache` of the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheOptions {
    /// Maximum time for the first sync, for a cache that is started without a manager. A manager waits without limit.
    #[serde(with = "Text::<PositiveDuration>")]
    pub sync_timeout: Duration,
    /// Number of objects in one page of a list. Used only if the API server cannot stream lists.
    #[schemars(range(min = 1, max = 10_000))]
    pub page_size: u32,
    /// Watch PersistentVolumes too, for handlers of your own. Needs permissions in the whole cluster.
    pub persistent_volumes: bool,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { sync_timeout: Duration::from_mins(2), page_size: 500, persistent_volumes: false }
    }
}

/// `client` of the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientOptions {
    /// Average number of requests per second to the API server. A watch counts once, at its start. 0: no limit.
    #[schemars(range(max = 1_000_000))]
    pub qps: u32,
    /// Number of requests to the API server that can start at once after an idle period.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { qps: 100, burst: 200 }
    }
}

/// `log` of the options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LogOptions {
    /// Minimum log level. `RUST_LOG` overrides it, except if the level is set by a flag.
    pub level: LogLevel,
    /// Format of the log lines.
    pub format: LogFormat,
}

/// Minimum log level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Also conditions that can lead to failures.
    Warn,
    /// Also the main steps of a healthy process.
    #[default]
    Info,
    /// Also every step of this program.
    Debug,
    /// Also the details of all libraries.
    Trace,
}

/// Format of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// Text for a terminal.
    Text,
}

/// `shutdown` of the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ShutdownOptions {
    /// Maximum time for running handlers to finish after SIGTERM or SIGINT.
    #[serde(with = "Text::<AnyDuration>")]
    pub grace_period: Duration,
}

impl Default for ShutdownOptions {
    fn default() -> Self {
        Self { grace_period: Duration::from_secs(30) }
    }
}
