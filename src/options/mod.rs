//! The settings of the process: what they are, their defaults, and the layers they come from.
//!
//! [`SandboxManagerOptions`] holds plain values. They come, each layer over the one before, from the defaults,
//! a YAML file ([`SandboxManagerOptions::load_file`]), the environment and the command line
//! ([`SandboxManagerOptions::set`], which the `cli` module calls). [`SETTINGS`] is the one list of what can be
//! set: the file's fields, the variables, the flags, their help and the printed YAML all follow from it.
//!
//! Whatever came through these doors is valid. Options that a program fills in by hand are checked where they are
//! used ([`Scope::from_options`]). This module imports nothing else of the crate and does no I/O but to read the
//! one file.

mod address;
pub mod duration;
mod file;
mod schema;
mod scope;
mod setting;

use std::{fmt, path::Path, str::FromStr, time::Duration};

pub use label_selector::{LabelSelector, Operator, Requirement, SelectorError};

pub use self::{
    address::{BindAddress, InvalidAddress},
    file::{API_VERSION, FileError, KIND, MAX_FILE_BYTES},
    scope::{Scope, ScopeError, WatchScope},
    setting::{InvalidValue, SETTINGS, Setting},
};

/// All settings of the process. [`Default`] is what the documentation calls the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxManagerOptions {
    /// Namespace of the sandboxes; empty: every namespace.
    pub sandbox_namespace: String,
    /// Kubernetes label selector for the sandbox kinds; empty: everything.
    pub sandbox_label_selector: String,
    /// Namespace of the Secrets and `ConfigMap`s; empty: they are not read at all.
    pub system_namespace: String,
    /// Where metrics are served.
    pub metrics: MetricsOptions,
    /// Where health (and debug) is served.
    pub health: HealthOptions,
    /// Debug endpoints.
    pub debug: DebugOptions,
    /// One entry per controller.
    pub controllers: ControllersOptions,
    /// How the cache is filled.
    pub cache: CacheOptions,
    /// Client-side limit of requests to the API server.
    pub client: ClientOptions,
    /// What is logged, and how.
    pub log: LogOptions,
    /// How the process ends.
    pub shutdown: ShutdownOptions,
}

/// `metrics` of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsOptions {
    /// Listener of `/metrics`.
    pub bind_address: BindAddress,
}

/// `health` of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthOptions {
    /// Listener of `/livez`, `/healthz`, `/readyz` and, when enabled, `/debug`.
    pub bind_address: BindAddress,
}

/// `debug` of the options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugOptions {
    /// Serves `/debug/cache/{plural}` on the health address.
    pub enabled: bool,
}

/// `controllers` of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllersOptions {
    /// The controller of Sandbox.
    pub sandbox: ControllerOptions,
    /// The controller of SandboxSet.
    pub sandbox_set: ControllerOptions,
}

/// Settings of one controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerOptions {
    /// How many objects are reconciled at once; at least 1.
    pub max_concurrent_reconciles: u16,
}

/// `cache` of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// How long a start of the cache may take until every kind is synced; more than zero.
    pub sync_timeout: Duration,
    /// Objects in one page of a paged list, 1 to 10000.
    pub page_size: u32,
}

/// `client` of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Requests a second over time; 0: no limit.
    pub qps: u32,
    /// Requests that may start at once after a quiet time; at least 1.
    pub burst: u32,
}

/// `log` of the options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Least level that is logged.
    pub level: LogLevel,
    /// Shape of a log line.
    pub format: LogFormat,
}

/// `shutdown` of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownOptions {
    /// How long running handlers may go on after the signal to end.
    pub grace_period: Duration,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self { bind_address: BindAddress::listen("0.0.0.0", 8080) }
    }
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self { bind_address: BindAddress::listen("0.0.0.0", 8081) }
    }
}

impl Default for ControllersOptions {
    fn default() -> Self {
        Self {
            sandbox: ControllerOptions { max_concurrent_reconciles: 50 },
            sandbox_set: ControllerOptions { max_concurrent_reconciles: 4 },
        }
    }
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { sync_timeout: Duration::from_mins(2), page_size: 500 }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { qps: 100, burst: 200 }
    }
}

impl Default for ShutdownOptions {
    fn default() -> Self {
        Self { grace_period: Duration::from_secs(30) }
    }
}

/// Least level that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what is about to.
    Warn,
    /// And what an operator wants to know of a healthy process.
    #[default]
    Info,
    /// And every step.
    Debug,
    /// And every detail, libraries included.
    Trace,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For a person at a terminal.
    Text,
}

/// A name that is not one of an enumeration's.
#[derive(Debug, thiserror::Error)]
#[error("unknown name")]
pub struct UnknownName;

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for LogLevel {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace]
            .into_iter()
            .find(|level| level.name() == text)
            .ok_or(UnknownName)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LogFormat {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(UnknownName),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// Why settings were refused. One line each: where, which setting, and what is accepted.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The file cannot be used, or something in it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The value of a flag or of an environment variable.
    #[error("{origin}: {reason}")]
    Value {
        /// The flag (`--cache-page-size`) or the variable (`SANDBOX_MANAGER_CACHE_PAGE_SIZE`).
        origin: String,
        /// What is wrong, and what is accepted.
        reason: InvalidValue,
    },
}

impl SandboxManagerOptions {
    /// Lays the YAML file at `path` over these options. Fields that it leaves out stay as they are.
    ///
    /// # Errors
    ///
    /// The first thing wrong with the file; the options are then half changed and must not be used.
    pub fn load_file(&mut self, path: &Path) -> Result<(), OptionsError> {
        Ok(file::load(path, self)?)
    }

    /// Sets one value from a flag or a variable; `origin` is its name, for the error.
    ///
    /// # Errors
    ///
    /// When the text is not what the setting accepts.
    pub fn set(&mut self, setting: &Setting, origin: &str, text: &str) -> Result<(), OptionsError> {
        setting.set(self, text).map_err(|reason| OptionsError::Value { origin: origin.to_owned(), reason })
    }

    /// These options as a file that parses to the same options.
    ///
    /// # Errors
    ///
    /// None is known; what serialization says is handed on.
    pub fn to_yaml(&self) -> Result<String, OptionsError> {
        Ok(file::to_yaml(self)?)
    }
}
