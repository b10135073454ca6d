//! [`add`]: the claim engine of a manager.

use controller_manager::MetricsError;

use super::claims::Claims;
use crate::manager::Manager;

/// Creates the claim engine of a manager, with its metrics and its sweep, for all that claim in this process: the E2B API
/// and the controller of `SandboxClaim`s. Call this once, on a tokio runtime, before the manager runs.
///
/// # Errors
///
/// If the manager has an engine already, whose metrics have the same names.
pub fn add(manager: &mut Manager) -> Result<Claims, MetricsError> {
    let builder = Claims::builder(manager.cache()).metrics(manager.metrics().registry());
    let claims = builder.build().map_err(MetricsError::Register)?;
    let sweeper = claims.sweeper(manager.leader_only_cache());
    manager.add_leader_only_runnable(sweeper);
    Ok(claims)
}
