//! A main of one's own: the manager with two handlers more than the `sandbox-manager` binary has.
//!
//! Runs against the current kubeconfig until Ctrl-C, with the CRDs installed as the README says:
//!
//! ```sh
//! cargo run --release --example custom_handler
//! SANDBOX_MANAGER_CONFIG=config/manager/config.yaml SANDBOX_MANAGER_SANDBOX_NAMESPACE=default \
//!     cargo run --release --example custom_handler
//! ```
//!
//! Then apply, change and delete `config/samples/*.yaml`, and see what the handlers tell of it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxSet};
use sandbox_manager::cache::{ListSandboxesInPoolOptions, Provider as _};
use sandbox_manager::client::{ClusterAccess, Connector};
use sandbox_manager::controller::HandlerError;
use sandbox_manager::manager::shutdown;
use sandbox_manager::metrics::Metrics;
use sandbox_manager::options::SETTINGS;
use sandbox_manager::telemetry::{self, Format};
use sandbox_manager::{Action, Cache, Manager, Observed, ReconcileHandler, SandboxManagerOptions};

/// How long a claimed sandbox may stay as it is before it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_mins(5);

/// Tells what becomes of the sandboxes that users have claimed.
///
/// A handler is a type with `reconcile`. It may hold anything that several calls can share: it is called for many
/// sandboxes at once, though never twice at once for the same one.
struct ClaimLog;

impl ReconcileHandler<Sandbox> for ClaimLog {
    async fn reconcile(&self, observed: Observed<Sandbox>) -> Result<Action, HandlerError> {
        match &observed {
            Observed::Present(sandbox) if sandbox.is_claimed() => {
                let state = sandbox.state(Timestamp::now());
                tracing::info!(
                    sandbox = %observed.key(),
                    owner = sandbox.owner(),
                    state = state.kind.as_str(),
                    reason = state.reason.as_str(),
                    "claimed sandbox"
                );
                // Called again after this time even if nothing changes, sooner if something does. Another handler
                // may ask for less: the soonest wish is granted.
                Ok(Action::requeue(LOOK_AGAIN))
            }
            Observed::Present(_) => Ok(Action::await_change()),
            Observed::Deleted { key, last_known } => {
                // The object is gone, but not what was last seen of it: here is the place to release what was
                // held for it elsewhere. An `Err` would bring the same deletion back, later and later.
                if let Some(sandbox) = last_known.as_deref().filter(|sandbox| sandbox.is_claimed()) {
                    let node = sandbox.status.as_ref().and_then(|status| status.node_name.as_deref());
                    tracing::info!(sandbox = %key, owner = sandbox.owner(), node, "claimed sandbox is gone");
                }
                Ok(Action::await_change())
            }
        }
    }
}

/// Compares what a set says of itself with what the cache knows of its pool. Lookups cost no request.
fn compare(cache: &Cache, observed: &Observed<SandboxSet>) -> Result<Action, HandlerError> {
    let Observed::Present(set) = observed else {
        tracing::info!(set = %observed.key(), "set is gone");
        return Ok(Action::await_change());
    };
    let namespace = Some(set.namespace_or_empty());
    let pool = set.name_or_empty();
    let members = cache.list_sandboxes_in_pool(ListSandboxesInPoolOptions { namespace, pool })?;
    let (members, desired) = (members.len(), set.spec.replicas);
    tracing::info!(set = %observed.key(), desired, members, "pool");
    Ok(Action::await_change())
}

/// The file that `SANDBOX_MANAGER_CONFIG` names, then the variables of the single settings, over the defaults.
fn options() -> anyhow::Result<SandboxManagerOptions> {
    let mut options = SandboxManagerOptions::default();
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(file) = variable("SANDBOX_MANAGER_CONFIG") {
        options.load_file(Path::new(&file))?;
    }
    for setting in SETTINGS {
        if let Some(value) = variable(setting.env) {
            options.set(setting, setting.env, &value)?;
        }
    }
    Ok(options)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = options()?;
    telemetry::init(tracing::Level::INFO, Format::Text)?;
    // From here on SIGTERM and SIGINT cancel this token instead of killing the process.
    let stop = shutdown::signals().context("signal handlers")?;

    // KUBECONFIG, ~/.kube/config, or the service account of the pod. The client keeps to `client.qps` and counts its
    // requests; `kube::Client::try_default()` would do, too.
    let metrics = Metrics::new()?;
    let connector = Connector::load(&ClusterAccess::default(), &options.client, &metrics).await?;
    let client = connector.client()?;

    let mut manager = Manager::builder(options).client(client).metrics(metrics).build()?;
    // What the binary has, too: `sandboxes` and `sandboxset_*` in /metrics.
    manager.add_fleet_metrics()?;
    manager.sandbox_controller().add_reconcile_handler(ClaimLog);
    // Closures are handlers as well. All clones of a cache are one cache.
    let cache = manager.cache().clone();
    manager
        .sandbox_set_controller()
        .add_reconcile_handler(move |observed| std::future::ready(compare(&cache, &observed)));

    manager.run(stop).await?;
    Ok(())
}
