//! The command line of the binary, and of programs that are the binary with handlers of their own.
//!
//! ```text
//!  arguments, environment ──▶ run ──▶ start    no subcommand: run the manager
//!                                     config   check a configuration and print it
//!                                     crd      print the definitions, or apply them in a cluster
//!                                     dev      run everything without a cluster
//!                                     e2b      make, list and remove API keys
//! ```
//!
//! A file per subcommand. Each has `command`, which describes its arguments, and a function that executes it. `options`
//! has the flags that they share. Errors are printed in one place, [`run`].

mod config;
mod crd;
#[cfg(feature = "dev")]
mod dev;
mod e2b;
mod error;
mod options;
mod output;
mod probe;
mod start;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Command;

pub use self::error::CliError;
use self::error::SetupError;
use crate::{manager::Manager, options::SandboxManagerOptions, version};

const ABOUT: &str =
    "Keeps every agent sandbox of a Kubernetes cluster in one shared cache and runs controllers on it";
const EXAMPLES: &str = "\
Every setting can be in the file, in an environment variable or in a flag. Flags override variables, variables \
override the file. An empty variable counts as not set.

Examples:
  sandbox-manager
          run with the defaults, with the current kubeconfig or the service account of the pod
  sandbox-manager --lifecycle-enabled
          also create sandboxes and their pods, where no other controllers do
  sandbox-manager --config config.yaml --sandbox-namespace team-a
          run with a file, but for one namespace only
  sandbox-manager config --config config.yaml
          check a file and print the options in effect
  sandbox-manager crd apply
          install or upgrade the CRDs
  sandbox-manager e2b create-key --team default --system-namespace sandbox-system
          make an API key for the E2B API";

/// What the function given to [`main`] can return: nothing, or a result with any error.
pub trait SetupResult {
    /// Converts to a result with one type of error.
    ///
    /// # Errors
    ///
    /// The set-up has failed.
    fn into_result(self) -> Result<(), SetupError>;
}

impl SetupResult for () {
    fn into_result(self) -> Result<(), SetupError> {
        Ok(())
    }
}

impl<E: Into<SetupError>> SetupResult for Result<(), E> {
    fn into_result(self) -> Result<(), SetupError> {
        self.map_err(Into::into)
    }
}

/// Runs this process as `sandbox-manager` with handlers of your own.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use sandbox_manager::api::v1alpha1::Sandbox;
/// use sandbox_manager::{Action, Observed};
///
/// fn main() -> ExitCode {
///     sandbox_manager::main(|manager| {
///         manager.sandbox_controller().add_reconcile_handler(|observed: Observed<Sandbox>| async move {
///             println!("{}", observed.key());
///             Ok(Action::await_change())
///         });
///     })
/// }
/// ```
///
/// # Guarantees
///
/// - Flags, environment variables, file, subcommands, log and metrics are those of the `sandbox-manager` binary. The
///   binary is this function with an empty `setup`.
/// - `setup` is called once, after the configuration was accepted and the client was created, and before the manager
///   listens or watches. It runs inside the tokio runtime: it can spawn tasks.
/// - The [`Manager`] that `setup` gets has the handlers of the binary ([`Manager::add_fleet_metrics`]). Handlers that
///   `setup` adds are called after these.
/// - `sandbox-manager dev` calls `setup` too, with the client of the API server in memory. `config`, `crd`, `--help`
///   and a refused configuration do not call it.
/// - If `setup` returns an error, the process prints the error and exits with code 2. The manager has not started then.
///
/// | Exit code | Meaning |
/// |---|---|
/// | 0 | stopped in time after SIGTERM or SIGINT, or the subcommand succeeded |
/// | 1 | failed after the start: the lease was lost, handlers were still running after the grace period, output could not be written, `crd apply` has not applied the CRDs, or `probe` got no answer of 2xx |
/// | 2 | not started: bad options, kubeconfig or credentials, an address in use, an error of `setup` |
/// | 130, 143 | a second SIGINT or SIGTERM ended the process at once |
///
/// # Assumptions
///
/// The caller is no async function and has set no global `tracing` subscriber: this function blocks, creates the
/// runtime and sets up the log. It chooses no allocator: the binary uses jemalloc, see `docs/performance.md`.
pub fn main<R: SetupResult>(setup: impl FnOnce(&mut Manager) -> R) -> ExitCode {
    run(std::env::args_os(), setup)
}

/// Does the same as [`main`] with these arguments, of which the first is the name of the program.
pub fn run<R: SetupResult>(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    setup: impl FnOnce(&mut Manager) -> R,
) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // For clap, help and version are errors with exit code 0. It prints them to standard output.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let environment: Vec<_> = std::env::vars_os().collect();
    let setup = |manager: &mut Manager| setup(manager).into_result();
    let done = match matches.subcommand() {
        Some(("config", matches)) => config::print(matches, &environment),
        Some(("crd", matches)) => crd::execute(matches, &environment),
        Some(("e2b", matches)) => e2b::execute(matches, &environment),
        Some(("probe", matches)) => probe::run(matches),
        #[cfg(feature = "dev")]
        Some(("dev", matches)) => dev::start(matches, &environment, setup),
        _ => start::start(&matches, &environment, setup),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe has closed it, as in `sandbox-manager crd | head`.
        Err(CliError::Write { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            for line in error.to_string().lines() {
                // Without standard error, the exit code is all that can be reported.
                let _ = writeln!(io::stderr(), "error: {line}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn command() -> Command {
    let command = Command::new("sandbox-manager")
        .about(ABOUT)
        .long_about(format!("{ABOUT}. Without a command, runs until SIGTERM or SIGINT."))
        .version(version::DESCRIPTION.as_str())
        .after_help(EXAMPLES)
        .args_conflicts_with_subcommands(true)
        .args(options::args(&SandboxManagerOptions::default()))
        .args(start::args())
        .subcommand(config::command())
        .subcommand(crd::command())
        .subcommand(e2b::command())
        .subcommand(probe::command());
    #[cfg(feature = "dev")]
    let command = command.subcommand(dev::command());
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::SETTINGS;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn the_version_names_release_and_revision() {
        let printed = command().render_version();
        assert_eq!(
            printed,
            format!("sandbox-manager {} (revision {})\n", env!("CARGO_PKG_VERSION"), version::REVISION)
        );
    }

    #[test]
    fn help_states_flag_variable_field_and_default_of_every_setting() {
        let help = command().term_width(0).render_help().to_string();
        for setting in &*SETTINGS {
            for text in
                [&setting.flag, &setting.env, &setting.path, &setting.get(&SandboxManagerOptions::default())]
            {
                assert!(help.contains(text), "{text} is not in the help");
            }
        }
        for variable in ["SANDBOX_MANAGER_CONFIG", "SANDBOX_MANAGER_KUBECONFIG", "SANDBOX_MANAGER_CONTEXT"] {
            assert!(help.contains(variable), "{variable} is not in the help");
        }
        assert!(help.contains("Examples:"));
    }
}
