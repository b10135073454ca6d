//! SandboxClaim -> claimed Sandboxes (LK1): registration and triggers.
//!
//! | File | What it holds |
//! |---|---|
//! | `decide.rs` | pure: the state of a claim in, what to do and the next status out |
//! | `observe.rs` | pure: what a sandbox is for its claim |
//! | `request.rs` | pure: what a claim asks the engine for |
//! | `unseen.rs` | the own claims that the cache does not show yet, and those whose answer is lost |
//! | `attempts.rs` | how many sandboxes of a claim have failed, and when to try again |
//! | `handler.rs` | the course of one reconcile |
//! | `apply.rs` | executes a decision |
//! | `waiting.rs` | the claims that wait until a set has a sandbox for them |
//!
//! # Who answers for a claimed sandbox
//!
//! The [engine](crate::claims) takes the sandboxes, and undoes nothing that it has taken for this controller
//! ([`return_when_locked`](crate::claims::ClaimRequest::return_when_locked)). A sandbox belongs to a claim from its lock on,
//! because the lock writes the name and the UID of the claim: every process finds it by them, whatever has become of the
//! reconcile that took it. So this controller alone counts the sandbox or gives it up, and it writes no mark for the sweep
//! of the engine.
//!
//! A lock whose answer is lost may be made for 70 s. Until its fate is known the claim repeats it instead of taking another
//! sandbox, and does not complete. A process that ends takes this knowledge with it: what was made by then is listed by the
//! next leader, and what is made later still may be one too many.
//!
//! # Runtimes
//!
//! A lock also writes the request for the runtime in the sandbox, if the template has its port. When the sandbox runs, this
//! controller sends the request, one try a reconcile, and then marks the sandbox as ready for the claim. A process that ends
//! before the mark leaves the request to the next leader, which sends it again: the runtime then does the same again.

mod apply;
mod attempts;
mod decide;
mod handler;
mod observe;
mod request;
mod unseen;
mod waiting;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use shared_cache::{Event, ObjectKey};

use self::attempts::Attempts;
use self::handler::ClaimHandler;
use self::unseen::Unseen;
use self::waiting::Waiting;
use super::backoff::queue_options;
use super::events::Events;
use super::metrics::LifecycleMetrics;
use crate::api::v1alpha1::{LABEL_CLAIM_NAME, Sandbox, SandboxClaim, label};
use crate::claims::{Claims, is_claimable};
use crate::manager::Manager;

/// Name of the controller that claims sandboxes.
pub const CLAIM_CONTROLLER: &str = "sandboxclaim-controller";

/// Adds the controller to a manager.
pub(super) fn add(
    manager: &mut Manager,
    concurrency: usize,
    metrics: &LifecycleMetrics,
    claims: &Claims,
    init_runtime: bool,
) {
    let waiting = Arc::new(Waiting::default());
    let controller = manager.controller::<SandboxClaim>(CLAIM_CONTROLLER);
    controller.leader_only().max_concurrent_reconciles(concurrency).queue_options(queue_options());
    controller.watches::<Sandbox>(|sandbox| claim_of(sandbox));
    let woken = Arc::clone(&waiting);
    controller.watches_where::<Sandbox>(becomes_free, move |sandbox| claim_for(sandbox, &woken));
    let context = controller.context();
    let events = Events::new(manager, &context, metrics);
    let cache = context.cache().clone();
    let handler = ClaimHandler {
        claims: claims.writes_by(cache.clone()),
        sandboxes: cache.reader(),
        sets: cache.reader(),
        cache,
        events,
        unseen: Unseen::default(),
        waiting,
        attempts: Attempts::default(),
        init_runtime,
    };
    manager.controller::<SandboxClaim>(CLAIM_CONTROLLER).add_reconcile_handler(handler);
}

/// Returns the claim that a sandbox belongs to.
fn claim_of(sandbox: &Sandbox) -> Vec<ObjectKey> {
    let claim = label(&sandbox.metadata, LABEL_CLAIM_NAME);
    claim.map(|claim| ObjectKey::new(sandbox.namespace_or_empty(), claim)).into_iter().collect()
}

/// Returns true if claims can take the sandbox from now on. Other changes of a free sandbox wake nobody.
fn becomes_free(event: &Event<Sandbox>) -> bool {
    let now = Timestamp::now();
    match event {
        Event::Applied { old, new } => {
            is_claimable(new, now) && !old.as_ref().is_some_and(|old| is_claimable(old, now))
        }
        _ => false,
    }
}

/// Returns the claim that waits longest for a sandbox like this one.
fn claim_for(sandbox: &Sandbox, waiting: &Waiting) -> Vec<ObjectKey> {
    // Of a change, the old state is asked about, too.
    let set = sandbox.controller_sandbox_set_name().filter(|_| is_claimable(sandbox, Timestamp::now()));
    set.and_then(|set| waiting.next(sandbox.namespace_or_empty(), set)).into_iter().collect()
}
