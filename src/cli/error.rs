//! [`CliError`]: the reason why a command failed, and its exit code.

use std::error::Error;
use std::io;

use controller_manager::{ClientError, ManagerError as RunError, MetricsError};

use super::crd::InstallError;
#[cfg(feature = "dev")]
use crate::dev::DevError;
use crate::e2b::{E2bError, KeyStoreError};
use crate::lifecycle::LifecycleError;
use crate::manager::ManagerError;
use crate::options::OptionsError;
use crate::telemetry::TelemetryError;

/// Exit code if the process cannot start, or the command line is not accepted.
const EXIT_USAGE: u8 = 2;
/// Exit code if the process has started and failed later.
const EXIT_FAILED: u8 = 1;

/// An error of a program's own set-up of the manager.
pub(super) type SetupError = Box<dyn Error + Send + Sync>;

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Values in the file, the environment or the flags are not accepted.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Logging cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// No client can be created.
    #[error("{0} (--kubeconfig FILE, --context NAME)")]
    Client(#[from] ClientError),
    /// The system refuses threads or signal handlers.
    #[error("cannot start: {0}")]
    System(#[source] io::Error),
    /// Output cannot be written.
    #[error("cannot write {target}: {source}")]
    Write {
        /// The file, the folder, or standard output.
        target: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The lifecycle controllers cannot be added.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// The E2B API cannot be added.
    #[error(transparent)]
    E2b(#[from] E2bError),
    /// The Secret of API keys cannot be read or changed.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// The address of `probe` did not answer as it should.
    #[error("{url}: {problem}")]
    Probe {
        /// The address.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The definitions were not applied.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The program's own set-up of the manager failed.
    #[error("cannot set up the manager: {0}")]
    Setup(#[source] SetupError),
    /// The manager cannot start, or did not stop in time.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// `dev` cannot start, or did not stop in time.
    #[cfg(feature = "dev")]
    #[error(transparent)]
    Dev(#[from] DevError),
}

impl CliError {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Write { .. }
            | Self::Probe { .. }
            | Self::Install(_)
            | Self::Keys(_)
            | Self::Manager(ManagerError::Run(
                RunError::GracePeriod(_) | RunError::Task { .. } | RunError::LeaseLost(_),
            )) => EXIT_FAILED,
            #[cfg(feature = "dev")]
            Self::Dev(
                DevError::Output(_)
                | DevError::Manager(ManagerError::Run(
                    RunError::GracePeriod(_) | RunError::Task { .. } | RunError::LeaseLost(_),
                )),
            ) => EXIT_FAILED,
            _ => EXIT_USAGE,
        }
    }
}
