//! `sandbox-manager` without a subcommand: runs the manager until a signal stops it.

use std::time::Duration;

use clap::{Arg, ArgMatches};
use controller_manager::{ClusterAccess, Connector, Metrics, signals};
use tokio::runtime::Builder;

use super::{
    error::{CliError, SetupError},
    options::{self, Environment, Loading},
};
use crate::{claims, e2b, lifecycle, manager::Manager, options::SandboxManagerOptions, version};

/// How long blocking work may delay the exit.
const BLOCKING_LIMIT: Duration = Duration::from_secs(1);

/// The flags that say which cluster to use. They are in no file: a file is for every cluster.
pub(super) fn args() -> [Arg; 2] {
    [
        options::arg("kubeconfig", "FILE").help(
            "Kubeconfig to use [env: SANDBOX_MANAGER_KUBECONFIG] [default: KUBECONFIG, then ~/.kube/config, then \
             the service account of the pod]",
        ),
        options::arg("context", "NAME").help(
            "Context of the kubeconfig to use [env: SANDBOX_MANAGER_CONTEXT] [default: its current context]",
        ),
    ]
}

pub(super) fn start(
    matches: &ArgMatches,
    environment: &Environment,
    setup: impl FnOnce(&mut Manager) -> Result<(), SetupError>,
) -> Result<(), CliError> {
    let mut loading = Loading::new(matches, environment, SandboxManagerOptions::default());
    let access = ClusterAccess {
        kubeconfig: loading.value("kubeconfig", "SANDBOX_MANAGER_KUBECONFIG").map(Into::into),
        context: loading.text("context", "SANDBOX_MANAGER_CONTEXT").map(str::to_owned),
    };
    let options = loading.finish()?.start_logging()?;
    block_on(run(options, access, setup))
}

/// Runs a command on a runtime of its own. Blocking work that is left when the command has ended, such as the lookup of
/// a name, delays the exit by a second at most.
pub(super) fn block_on(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(CliError::System)?;
    let result = runtime.block_on(command);
    runtime.shutdown_timeout(BLOCKING_LIMIT);
    result
}

async fn run(
    options: SandboxManagerOptions,
    access: ClusterAccess,
    setup: impl FnOnce(&mut Manager) -> Result<(), SetupError>,
) -> Result<(), CliError> {
    let stop = signals().map_err(CliError::System)?;
    let metrics = Metrics::new()?;
    let connector = Connector::load(&access, &(&options.client).into(), &metrics)?;
    tracing::info!(
        server = connector.server(),
        version = version::VERSION,
        revision = version::REVISION,
        "starting"
    );
    let elected = options.leader_election.enabled;
    let (controllers, lifecycle) = (options.controllers.clone(), options.lifecycle.clone());
    let (api, system_namespace) = (options.e2b.clone(), options.system_namespace.clone());
    let mut manager = Manager::builder(options).connector(&connector)?.metrics(metrics).build()?;
    manager.add_fleet_metrics()?;
    // One engine for all that claim, so that no two of them try the same sandbox.
    let claims = if lifecycle.enabled || api.enabled { Some(claims::add(&mut manager)?) } else { None };
    if let Some(claims) = claims.as_ref().filter(|_| lifecycle.enabled) {
        lifecycle::add(&mut manager, &controllers, &lifecycle, claims)?;
        if !elected {
            tracing::warn!(
                "the lifecycle controllers run without a leader election: no other process may run them, also not \
                 during a rolling update"
            );
        }
    }
    if let Some(claims) = claims.as_ref().filter(|_| api.enabled) {
        e2b::add(&mut manager, &api, &system_namespace, claims)?;
    }
    setup(&mut manager).map_err(CliError::Setup)?;
    Ok(manager.run(stop).await?)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_blocking_task_that_hangs_does_not_hold_up_the_exit() {
        let (release, hang) = mpsc::channel::<()>();
        let (started, running) = tokio::sync::oneshot::channel();
        let result = block_on(async {
            tokio::task::spawn_blocking(move || {
                let _ = started.send(());
                // Returns when the sender below is dropped.
                let _ = hang.recv();
            });
            running.await.unwrap();
            Ok(())
        });
        drop(release);
        result.unwrap();
    }
}
