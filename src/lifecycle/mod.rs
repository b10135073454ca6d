//! The lifecycle controllers: they turn the objects of the cache into pods, and act when a timer fires.
//!
//! ```text
//!  Manager ── controller, leader only ──▶ handler (mod.rs of a folder)
//!                                            │ reads the cache
//!                                            ▼
//!                                         decide.rs   pure: observed state in, actions and next status out
//!                                            ▼
//!                                         apply.rs    patches ──▶ kube-apiserver ──▶ watches of the cache
//! ```
//!
//! Each controller is a folder with `mod.rs` (registration, triggers), `decide.rs` and `apply.rs`. The files here are
//! shared by all of them:
//!
//! | File | What it holds |
//! |---|---|
//! | `backoff.rs` | how long an object is left alone after a failure that only others can end (LC7) |
//! | `conditions.rs` | changes of conditions by the conventions of the API (LC4) |
//! | `events.rs` | Kubernetes events, sent beside the reconciles (LC5) |
//! | `metrics.rs` | the metrics of all controllers |
//! | `requests.rs` | deadlines, and the deletion of an object that has not changed |
//! | `revision.rs` | the revision of a template: a hash that does not depend on the order of fields (LS4) |
//!
//! # Rules
//!
//! - LC1. Every handler runs on the leader only.
//! - LC2. A handler never acts on a view that lacks an own write: it asks
//!   [`SharedCache::is_satisfied`](shared_cache::SharedCache::is_satisfied) first. If a kind is not synced, the lookup
//!   fails, and the key is reconciled later.
//! - LC3. An owned object is trusted by the UID of its controller reference, never by its name.
//! - LC4. A status is one merge patch of what changed, with the resource version as precondition
//!   ([`SharedCache::patch`](shared_cache::SharedCache::patch), `status()`, `if_unchanged()`).
//! - LC6. Every decision names the nearest of all timers.
//! - LC7. A refusal that only others can end is shown in a condition and an event, and backs off per object.

pub(crate) mod backoff;
mod checkpoint;
mod claim;
pub(crate) mod conditions;
pub(crate) mod events;
pub(crate) mod metrics;
mod requests;
mod revision;
mod sandbox;
mod sandbox_set;

use crate::claims::Claims;
use crate::manager::Manager;
use crate::options::{ControllersOptions, LifecycleOptions};

pub use self::checkpoint::CHECKPOINT_CONTROLLER;
pub use self::claim::CLAIM_CONTROLLER;
pub use self::events::{EVENT_QUEUE, Reason};
pub use self::metrics::LifecycleMetrics;
pub use self::sandbox::SANDBOX_CONTROLLER;
pub use self::sandbox_set::SANDBOX_SET_CONTROLLER;

/// The reason why the lifecycle controllers could not be added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// The manager was built without [`ReadyManagerBuilder::lifecycle`](crate::manager::ReadyManagerBuilder::lifecycle),
    /// so its cache does not have the kinds that the controllers need.
    #[error("the cache does not watch pods: build the manager with the lifecycle controllers enabled")]
    NotEnabled,
    /// The metrics could not be registered. They are registered once per manager.
    #[error("cannot register the metrics of the lifecycle controllers: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Adds all lifecycle controllers to a manager. Call this once, on a tokio runtime, before the manager runs. `claims` is
/// the engine of the same manager, which [`claims::add`](crate::claims::add) returns.
///
/// # Errors
///
/// [`LifecycleError`].
pub fn add(
    manager: &mut Manager,
    controllers: &ControllersOptions,
    options: &LifecycleOptions,
    claims: &Claims,
) -> Result<(), LifecycleError> {
    if !manager.cache().has_kind::<k8s_openapi::api::core::v1::Pod>() {
        return Err(LifecycleError::NotEnabled);
    }
    let metrics = LifecycleMetrics::register(manager.metrics().registry())?;
    sandbox::add(manager, controllers.sandbox.max_concurrent_reconciles.into(), &metrics);
    sandbox_set::add(manager, controllers.sandbox_set.max_concurrent_reconciles.into(), &metrics)?;
    let concurrency = controllers.sandbox_claim.max_concurrent_reconciles.into();
    claim::add(manager, concurrency, &metrics, claims, options.init_runtime);
    checkpoint::add(manager, controllers.checkpoint.max_concurrent_reconciles.into(), &metrics);
    Ok(())
}
