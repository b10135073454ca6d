//! SandboxClaim -> claimed Sandboxes (LK1): registration, triggers, and the course of one reconcile.
//!
//! | File | What it holds |
//! |---|---|
//! | `decide.rs` | pure: the state of a claim in, what to do and the next status out |
//! | `observe.rs` | pure: what a sandbox is for its claim |
//! | `mark.rs` | pure: what a claim writes into a sandbox |
//! | `engine.rs` | takes one sandbox of a set, or creates one |
//! | `unseen.rs` | the own claims that the cache does not show yet |
//! | `apply.rs` | executes a decision |
//! | `waiting.rs` | the claims that wait until a set has a sandbox for them |
//!
//! What a claim does not do: the runtime in the sandbox is not initialised, so `envVars` and `dynamicVolumesMount` have no
//! effect. An event says so.

mod apply;
mod decide;
mod engine;
mod mark;
mod observe;
mod unseen;
mod waiting;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use controller_manager::{Action, HandlerError, Observed, ReconcileHandler};
use jiff::Timestamp;
use shared_cache::{ObjectKey, Reader, Satisfaction, SharedCache};

use self::decide::{Decision, Member, View, decide, set_name, wanted};
use self::engine::Engine;
use self::unseen::Unseen;
use self::waiting::Waiting;
use super::backoff::Backoff;
use super::events::{Events, Reason};
use super::metrics::LifecycleMetrics;
use super::requests::{UNSEEN_WRITE, delete_unchanged};
use crate::api::v1alpha1::{LABEL_CLAIM_NAME, Sandbox, SandboxClaim, SandboxClaimPhase, SandboxSet, label};
use crate::cache::indexes::SANDBOX_USER;
use crate::manager::Manager;

/// Name of the controller that claims sandboxes.
pub const CLAIM_CONTROLLER: &str = "sandboxclaim-controller";

/// How long a claim without stock waits at most until it looks again. A sandbox that becomes available wakes it earlier.
const RETRY: Duration = Duration::from_secs(5);

/// The first and the longest pause after the API server has refused a request.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Adds the controller to a manager.
pub(super) fn add(manager: &mut Manager, concurrency: usize, metrics: &LifecycleMetrics) {
    let waiting = Arc::new(Waiting::default());
    let controller = manager.controller::<SandboxClaim>(CLAIM_CONTROLLER);
    controller.leader_only().max_concurrent_reconciles(concurrency);
    let woken = Arc::clone(&waiting);
    controller.watches::<Sandbox>(move |sandbox| claims_of(sandbox, &woken));
    let context = controller.context();
    let events = Events::new(manager, &context, metrics);
    let cache = context.cache().clone();
    let handler = ClaimHandler {
        engine: Engine::new(&context),
        sandboxes: cache.reader(),
        sets: cache.reader(),
        cache,
        events,
        unseen: Unseen::default(),
        waiting,
        backoff: Backoff::new(REFUSED.0, REFUSED.1),
    };
    manager.controller::<SandboxClaim>(CLAIM_CONTROLLER).add_reconcile_handler(handler);
}

/// Returns the claims that a change of a sandbox is of interest to: the claim that it belongs to, or those that wait for a
/// sandbox of its set.
fn claims_of(sandbox: &Sandbox, waiting: &Waiting) -> Vec<ObjectKey> {
    if let Some(claim) = label(&sandbox.metadata, LABEL_CLAIM_NAME) {
        return vec![ObjectKey::new(sandbox.namespace_or_empty(), claim)];
    }
    match sandbox.controller_sandbox_set_name() {
        Some(set) if sandbox.is_ready() => waiting.of(sandbox.namespace_or_empty(), set),
        _ => Vec::new(),
    }
}

/// Reconciles claims.
struct ClaimHandler {
    cache: SharedCache,
    sandboxes: Reader<Sandbox>,
    sets: Reader<SandboxSet>,
    engine: Engine,
    events: Events,
    unseen: Unseen,
    waiting: Arc<Waiting>,
    backoff: Backoff,
}

/// Whether the set of a claim is there.
enum Set {
    Cached(Arc<SandboxSet>),
    /// The API server has the set, and the cache does not: its watch lags behind, or the set is out of its scope.
    Unseen,
    Absent,
}

impl ReconcileHandler<SandboxClaim> for ClaimHandler {
    async fn reconcile(&self, observed: Observed<SandboxClaim>) -> Result<Action, HandlerError> {
        match observed {
            Observed::Present(claim) if claim.metadata.deletion_timestamp.is_none() => {
                self.present(claim).await
            }
            observed => {
                if let Some(claim) = observed.object() {
                    self.forget(claim);
                }
                Ok(Action::await_change())
            }
        }
    }
}

impl ClaimHandler {
    async fn present(&self, mut claim: Arc<SandboxClaim>) -> Result<Action, HandlerError> {
        // Half of a spec is no wish (LC2). The cache logs and counts such an object.
        if !claim.partially_decoded().is_empty() {
            return Ok(Action::await_change());
        }
        if let Satisfaction::Unsatisfied { .. } = self.cache.is_satisfied(&*claim) {
            return Ok(Action::requeue(UNSEEN_WRITE));
        }
        if claim.phase() == Some(&SandboxClaimPhase::Completed) {
            self.forget(&claim);
            return self.completed(&claim).await;
        }
        let set = self.set_of(&claim).await?;
        if !self.begin(&mut claim, &set).await? {
            return Ok(Action::await_change());
        }
        if claim.phase() != Some(&SandboxClaimPhase::Claiming) {
            return Ok(Action::await_change());
        }
        self.claiming(claim, &set).await
    }

    /// Claims what is missing, removes what has failed, and writes the status.
    async fn claiming(&self, mut claim: Arc<SandboxClaim>, set: &Set) -> Result<Action, HandlerError> {
        let (uid, generation) =
            (claim.metadata.uid.clone().unwrap_or_default(), claim.metadata.generation.unwrap_or_default());
        let mut sandboxes = self.members(&claim).await?;
        let mut decision = decide_now(&claim, set, &sandboxes, None);
        let mut wait = None;
        if decision.claim > 0
            && let Set::Cached(set) = set
        {
            // Noted before the look, so that a sandbox that becomes available meanwhile is not missed.
            self.waiting.add(set.namespace_or_empty(), set.name_or_empty(), ObjectKey::of(&*claim));
            wait = self.backoff.remaining(&uid, generation);
            if wait.is_none() {
                let made = apply::claim(&self.engine, &self.unseen, (set, &claim), decision.claim).await?;
                self.report(&claim, &made);
                wait = match &made.shortage {
                    Some(_) if made.is_refused => Some(self.backoff.failed(&uid, generation)),
                    Some(_) => Some(RETRY),
                    None => None,
                };
                sandboxes = self.members(&claim).await?;
                decision =
                    decide_now(&claim, &Set::Cached(Arc::clone(set)), &sandboxes, made.shortage.as_deref());
            }
        } else if matches!(set, Set::Unseen) {
            wait = Some(RETRY);
        }
        if decision.claim == 0 {
            self.waiting.remove(&ObjectKey::of(&*claim));
        }
        for (place, reason) in &decision.discard {
            let sandbox = &sandboxes[*place];
            let note = format!("Sandbox {} is of no use: {reason}", sandbox.name_or_empty());
            self.events.publish(&*claim, Reason::ClaimedSandboxFailed, &note);
            apply::discard(&self.cache, &claim, sandbox).await?;
        }
        let is_complete = decision.status.phase == Some(SandboxClaimPhase::Completed);
        let after = decision.after.into_iter().chain(wait).min();
        if !apply::write_status(&self.cache, &mut claim, decision.status).await? {
            return Ok(Action::await_change());
        }
        if is_complete {
            let message = claim.status.as_ref().and_then(|status| status.message.as_deref());
            self.events.publish(&*claim, Reason::ClaimCompleted, message.unwrap_or_default());
        }
        Ok(after.map_or_else(Action::await_change, Action::requeue))
    }

    /// Writes that claiming has begun, before anything is claimed. A claim that another process has begun is looked up on
    /// the API server once. Returns false if the claim has changed meanwhile.
    async fn begin(&self, claim: &mut Arc<SandboxClaim>, set: &Set) -> Result<bool, HandlerError> {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        if claim.phase().is_none() {
            let status = decide_now(claim, set, &[], None).status;
            if !apply::write_status(&self.cache, claim, status).await? {
                return Ok(false);
            }
            self.unseen.begin(&uid, Vec::new());
            self.warn_of_ignored_fields(claim, set);
        } else if !self.unseen.has(&uid) {
            self.unseen.begin(&uid, unseen::of_others(claim, &self.cache).await?);
        }
        Ok(true)
    }

    /// Deletes a claim whose time to live is over.
    async fn completed(&self, claim: &Arc<SandboxClaim>) -> Result<Action, HandlerError> {
        let Decision { delete, after, .. } = decide_now(claim, &Set::Unseen, &[], None);
        if delete {
            let life = claim.spec.ttl_after_completed.as_ref().map_or_else(String::new, ToString::to_string);
            let note = format!("Deleting SandboxClaim after TTL of {life}");
            self.events.publish(&**claim, Reason::SandboxClaimTTLDelete, &note);
            delete_unchanged(&self.cache, &**claim).await?;
        }
        Ok(after.map_or_else(Action::await_change, Action::requeue))
    }

    /// Returns the sandboxes of the claim: those that the cache shows, and own claims that it does not show yet.
    async fn members(&self, claim: &SandboxClaim) -> Result<Vec<Arc<Sandbox>>, HandlerError> {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let unseen = self.unseen.of(uid, &self.cache).await?;
        let mut members = self.sandboxes.by_index(SANDBOX_USER, uid)?;
        members.retain(|sandbox| !unseen.iter().any(|unseen| unseen.metadata.uid == sandbox.metadata.uid));
        members.extend(unseen);
        members.retain(|sandbox| observe::belongs_to(sandbox, claim));
        Ok(members)
    }

    /// Looks for the set of the claim, in the namespace of the claim. A set that the cache does not have is looked for on
    /// the API server, because a claim ends if there is none.
    async fn set_of(&self, claim: &SandboxClaim) -> Result<Set, HandlerError> {
        let (namespace, name) = (claim.namespace_or_empty(), set_name(claim));
        if let Some(set) = self.sets.get(namespace, name)? {
            return Ok(Set::Cached(set));
        }
        let live = self.cache.api_reader().get::<SandboxSet>(namespace, name).await?;
        Ok(if live.is_some() { Set::Unseen } else { Set::Absent })
    }

    /// Publishes what the claims of one reconcile have led to.
    fn report(&self, claim: &SandboxClaim, made: &apply::Claims) {
        let (new, wanted) = (made.taken + made.created, wanted(claim));
        if new > 0 {
            let note = format!("Claimed {new} of {wanted} sandboxes, {} of them created", made.created);
            self.events.publish(claim, Reason::SandboxClaimed, &note);
        }
        if let Some(shortage) = &made.shortage {
            let reason =
                if made.is_refused { Reason::ClaimSandboxFailed } else { Reason::NoAvailableSandboxes };
            self.events.publish(claim, reason, shortage);
        }
    }

    fn warn_of_ignored_fields(&self, claim: &SandboxClaim, set: &Set) {
        let spec = &claim.spec;
        // Only a template in the sandbox itself can differ from that of the other members.
        let is_shared = matches!(set, Set::Cached(set) if set.spec.template.is_none());
        if is_shared && spec.inplace_update.is_some() {
            let note = "inplaceUpdate has no effect: the SandboxSet refers to a SandboxTemplate";
            self.events.publish(claim, Reason::FieldNotSupported, note);
        }
        let has_variables = spec.env_vars.as_ref().is_some_and(|variables| !variables.is_empty());
        let has_volumes = spec.dynamic_volumes_mount.as_ref().is_some_and(|volumes| !volumes.is_empty());
        for (is_set, field) in [(has_variables, "envVars"), (has_volumes, "dynamicVolumesMount")] {
            if is_set {
                let note = format!("{field} has no effect: the runtime in the sandboxes is not initialised");
                self.events.publish(claim, Reason::FieldNotSupported, &note);
            }
        }
    }

    fn forget(&self, claim: &SandboxClaim) {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        self.unseen.forget(uid);
        self.backoff.forget(uid);
        self.waiting.remove(&ObjectKey::of(claim));
    }
}

/// Decides about a claim with these sandboxes.
fn decide_now(
    claim: &SandboxClaim,
    set: &Set,
    sandboxes: &[Arc<Sandbox>],
    shortage: Option<&str>,
) -> Decision {
    let now = Timestamp::now();
    let members: Vec<Member> = sandboxes.iter().map(|sandbox| observe::member(sandbox, claim, now)).collect();
    let unseen = "the SandboxSet is not in the cache; does sandboxLabelSelector select it?";
    let shortage = shortage.or_else(|| matches!(set, Set::Unseen).then_some(unseen));
    decide(&View { claim, has_set: !matches!(set, Set::Absent), members: &members, shortage, now })
}
