//! The `sandbox-manager` binary with its own handler. It has the same flags, file, log, metrics and exit
//! codes.
//!
//! Run with the current kubeconfig and the CRDs of the README, or without a cluster:
//!
//! ```sh
//! cargo run --release --example custom_handler -- --log-format text --sandbox-namespace default
//! cargo run --release --example custom_handler -- dev
//! ```
//!
//! Then apply, change and delete `config/samples/*.yaml`, and read the log of the handler.

use std::process::ExitCode;
use std::time::Duration;

use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::controller_manager::HandlerError;
use sandbox_manager::{Action, Observed, ReconcileHandler};

/// Logs the changes of claimed sandboxes.
///
/// A handler runs for many sandboxes at the same time, but for each sandbox only once at a time. It can store
/// state that these calls share: a client, or `manager.cache().clone()` for lookups.
struct ClaimLog;

impl ReconcileHandler<Sandbox> for ClaimLog {
    async fn reconcile(&self, observed: Observed<Sandbox>) -> Result<Action, HandlerError> {
        match &observed {
            Observed::Present(sandbox) if sandbox.is_claimed() => {
                tracing::info!(sandbox = %observed.key(), owner = sandbox.owner(), "claimed sandbox");
                // Requeues the sandbox after this time. The handler runs earlier if the sandbox changes.
                return Ok(Action::requeue(Duration::from_mins(5)));
            }
            Observed::Present(_) => {}
            // Release external resources only if `reason.is_final()`: otherwise the sandbox may still exist. After an
            // error the call is repeated.
            Observed::Deleted { key, reason, .. } => {
                tracing::info!(sandbox = %key, %reason, "sandbox is gone");
            }
        }
        Ok(Action::await_change())
    }
}

fn main() -> ExitCode {
    sandbox_manager::main(|manager| {
        manager.sandbox_controller().add_reconcile_handler(ClaimLog);
    })
}
