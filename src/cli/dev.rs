//! `sandbox-manager dev`: runs everything on this machine without a cluster.

use std::{path::PathBuf, str::FromStr};

use clap::{ArgMatches, Command};
use controller_manager::signals;

use super::{
    error::{CliError, SetupError},
    options::{self, Environment, Loading, flag},
    start,
};
use crate::{
    dev::{self, DevOptions},
    manager::Manager,
    options::{OptionsError, SetError},
};

/// Maximum number of sandboxes that are created. Each one takes about 10 KB of memory.
const MAX_SANDBOXES: usize = 1_000_000;

pub(super) fn command() -> Command {
    Command::new("dev")
        .about("Run everything on this machine without a cluster: an API server in memory with nodes, a sample, the manager")
        .after_help(
            "Prints the addresses, and commands to try, when everything is ready. Ctrl-C stops it and removes the \
             kubeconfig.\nMetrics, health and the E2B API are served at 127.0.0.1:8080, 127.0.0.1:8081 and \
             127.0.0.1:3000, or at free ports if these are in use.",
        )
        .arg(
            options::arg("listen", "ADDRESS")
                .default_value("127.0.0.1:0")
                .help("Address of the API server. Port 0 binds a free port"),
        )
        .arg(options::arg("kubeconfig", "FILE").help(
            "Write the kubeconfig to this file, which must not exist yet [default: a file in a temporary folder]",
        ))
        .arg(options::arg("sandboxes", "N").default_value("0").help(
            "Number of sandboxes to create in ten pools, besides the sample. They have a status and no pods, and no controller \
             acts on them (100000 take ten seconds and 1 GB)",
        ))
        .args(options::args(&DevOptions::manager_defaults()))
}

pub(super) fn start(
    matches: &ArgMatches,
    environment: &Environment,
    setup: impl FnOnce(&mut Manager) -> Result<(), SetupError>,
) -> Result<(), CliError> {
    let mut loading = Loading::new(matches, environment, DevOptions::free_manager_defaults());
    let listen = parsed(&mut loading, matches, "listen", "an address such as 127.0.0.1:6443", |_| true);
    let sandboxes = parsed(&mut loading, matches, "sandboxes", "a whole number from 0 to 1000000", |count| {
        *count <= MAX_SANDBOXES
    });
    let configuration = loading.finish()?;
    let options = DevOptions {
        listen: listen?,
        sandboxes: sandboxes?,
        kubeconfig: flag(matches, "kubeconfig").map(PathBuf::from),
        manager: configuration.start_logging()?,
    };
    start::block_on(async {
        let stop = signals().map_err(CliError::System)?;
        Ok(dev::run(options, stop, setup).await?)
    })
}

/// Parses the value of a flag that is no setting. Its fault is reported together with those of the settings.
fn parsed<T: FromStr>(
    loading: &mut Loading<'_>,
    matches: &ArgMatches,
    name: &str,
    accepts: &str,
    is_accepted: impl FnOnce(&T) -> bool,
) -> Result<T, OptionsError> {
    let value = flag(matches, name).unwrap_or_default().to_string_lossy().into_owned();
    let parsed = value.parse().ok().filter(is_accepted);
    parsed.ok_or_else(|| {
        let error = SetError { value, reason: format!("expected {accepts}") };
        loading.add_fault(&format!("--{name}"), &error);
        OptionsError { faults: vec![format!("--{name}: {error}")] }
    })
}
