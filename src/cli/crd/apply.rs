//! `sandbox-manager crd apply`: creates the definitions in a cluster, or upgrades them.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use controller_manager::{ClusterAccess, Connector, Metrics};
use tokio::time::Instant;

use super::install::{Installer, Mode};
use crate::api::{duration, v1alpha1};
use crate::cli::error::CliError;
use crate::cli::options::{self, Environment};
use crate::cli::{output, start};
use crate::options::{OptionsError, SandboxManagerOptions};

const ABOUT: &str =
    "Create the CustomResourceDefinitions in a cluster, or upgrade them, without removing a field";
const DETAILS: &str = "\
Uses server-side apply with the field manager `sandbox-manager`, and takes over definitions that Helm or kubectl has \
installed. Compares all definitions with the installed ones first. If an installed definition has a field, a version, a \
column, a short name or a subresource that this version does not have, or accepts a value that this version rejects, the \
command names all of them, writes nothing and ends with exit code 1. Waits until the API server serves the definitions.

Prints one line for each definition: created, changed or unchanged; then + for each part that is added, and ~ for each \
part that is changed.

The user of the kubeconfig needs the verbs get, create and patch for customresourcedefinitions.

Examples:
  sandbox-manager crd apply --dry-run
          show what would change
  sandbox-manager crd apply --context production
          apply in the cluster of another context";

pub(super) fn command() -> Command {
    Command::new("apply")
        .about(ABOUT)
        .after_help(DETAILS)
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Let the API server check everything and store nothing, and print what would change"),
        )
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("DURATION")
                .default_value("60s")
                .value_parser(timeout)
                .help("Time for the whole command, such as 30s or 2m"),
        )
        .args(start::args())
}

fn timeout(text: &str) -> Result<Duration, &'static str> {
    duration::parse(text).filter(|length| !length.is_zero()).ok_or("expected a duration, such as 30s or 2m")
}

pub(super) fn apply(matches: &ArgMatches, environment: &Environment) -> Result<(), CliError> {
    let access = ClusterAccess {
        kubeconfig: options::given(matches, environment, "kubeconfig", "SANDBOX_MANAGER_KUBECONFIG")
            .map(Into::into),
        context: context(matches, environment)?,
    };
    let limit = *matches.get_one::<Duration>("timeout").expect("it has a default");
    start::block_on(run(access, limit, matches.get_flag("dry-run")))
}

fn context(matches: &ArgMatches, environment: &Environment) -> Result<Option<String>, CliError> {
    let value = options::given(matches, environment, "context", "SANDBOX_MANAGER_CONTEXT");
    let fault = || OptionsError { faults: vec!["the name of the context is not UTF-8 text".to_owned()] };
    value.map(|name| Ok(name.to_str().ok_or_else(fault)?.to_owned())).transpose()
}

async fn run(access: ClusterAccess, limit: Duration, is_dry: bool) -> Result<(), CliError> {
    let client = &SandboxManagerOptions::default().client;
    let connector = Connector::load(&access, &client.into(), &Metrics::new()?)?;
    let installer = Installer::new(connector.client()?, connector.server(), Instant::now() + limit);
    let mut steps = installer.compare(v1alpha1::crds()).await?;
    for step in &mut steps {
        installer.apply(step, Mode::DryRun).await?;
    }
    for step in &mut steps {
        if !is_dry {
            installer.apply(step, Mode::Write).await?;
        }
        output::print(&step.report(!is_dry))?;
    }
    if is_dry {
        return Ok(());
    }
    Ok(installer.wait_until_established(&steps).await?)
}
