//! Takes a member of a pool: one patch with its resource version (Q2), or creates one that is claimed from the beginning
//! (Q3).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use shared_cache::{ObjectKey, Satisfaction, error_text, version_of};
use tokio::time::Instant;
use uuid::Uuid;

use super::claimed::LockType;
use super::engine::Engine;
use super::error::{ClaimError, Step};
use super::mark::Mark;
use super::ready_queue::Candidate;
use super::recent::Write;
use super::request::{ClaimRequest, RuntimeInit};
use super::runtime;
use super::unfinished;
use super::write::{REQUEST_TIMEOUT, WriteError, holds};
use crate::api::v1alpha1::{ANNOTATION_SANDBOX_PRIORITY, Sandbox, SandboxSet};
use crate::blueprint;

/// How many candidates one claim tries, and for how long. The pool counts as empty then.
const MAX_TRIES: u32 = 20;
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a creation is sent whose answer is lost, or whose name is taken.
const MAX_CREATIONS: u32 = 4;

/// The priority of sandboxes that a claim creates, as OpenKruise Agents writes it.
const PRIORITY: &str = "100";

/// A sandbox that belongs to a claim, which may not be complete yet.
pub(super) struct Locked {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) lock: String,
    pub(super) lock_type: LockType,
    /// True if the claim takes more steps, and the sandbox says so.
    pub(super) is_unfinished: bool,
    /// True if the claim initialises the runtime.
    pub(super) has_runtime: bool,
}

/// One claim: what is asked for, of which set, and until when.
pub(super) struct Claim<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) request: &'a ClaimRequest,
    pub(super) set: &'a SandboxSet,
    pub(super) deadline: Instant,
    /// Number of candidates that others were faster to change.
    pub(super) retries: u32,
}

/// What one try has led to.
enum Try {
    Locked(Locked),
    /// Somebody else has changed the candidate.
    Lost,
}

impl Claim<'_> {
    /// Locks a candidate, one after the other. None if there is no stock.
    pub(super) async fn lock(&mut self) -> Result<Option<Locked>, ClaimError> {
        let end = self.deadline.min(Instant::now() + LOCK_TIMEOUT);
        while self.retries < MAX_TRIES && Instant::now() < end {
            let Some(candidate) = self.engine.ready().next(self.set) else { break };
            let is_seen = self.engine.cache.is_satisfied(&*candidate.sandbox);
            if !candidate.is_claimable() || !matches!(is_seen, Satisfaction::Satisfied) {
                candidate.outdated();
                continue;
            }
            let left = end.saturating_duration_since(Instant::now()).min(REQUEST_TIMEOUT);
            match self.attempt(candidate, left).await? {
                Try::Locked(locked) => return Ok(Some(locked)),
                Try::Lost => self.retries += 1,
            }
        }
        Ok(None)
    }

    /// Tries to lock one candidate.
    async fn attempt(&self, candidate: Candidate, timeout: Duration) -> Result<Try, ClaimError> {
        let plan = self.plan(&candidate.sandbox, LockType::Update);
        let written =
            self.engine.write(&candidate.sandbox, |sandbox| plan.write(self, sandbox), timeout).await;
        let error = match written {
            Ok(written) => {
                candidate.written(&written);
                return Ok(Try::Locked(plan.locked(written)));
            }
            Err(error) => error,
        };
        match error {
            WriteError::Outdated | WriteError::Unreadable(_) => {
                candidate.outdated();
                Ok(Try::Lost)
            }
            WriteError::Unknown(_) => self.look(candidate, plan, error).await,
            error => Err(error.into_error(&candidate.sandbox, Some(&plan.lock))),
        }
    }

    /// Looks whether a lock whose answer is lost was written.
    async fn look(&self, candidate: Candidate, plan: Plan, error: WriteError) -> Result<Try, ClaimError> {
        let sandbox = Arc::clone(&candidate.sandbox);
        let live = self.engine.live_again(&sandbox).await;
        if let Ok(Some(live)) = &live
            && holds(live, &plan.lock)
        {
            candidate.written(live);
            return Ok(Try::Locked(self.found(plan, live)));
        }
        candidate.outdated();
        if let Ok(None) = live {
            return Ok(Try::Lost);
        }
        if !self.is_found_by_key(&plan) {
            let (key, tried) = (ObjectKey::of(&*sandbox), version_of(&*sandbox));
            self.engine.watch_for_late_lock(key, plan.lock.clone(), tried.or(Some(0)));
        }
        match live {
            Ok(_) => Ok(Try::Lost),
            Err(_) => Err(error.into_error(&sandbox, Some(&plan.lock))),
        }
    }

    /// Creates a sandbox of the set that is claimed from the beginning. Its name is chosen here, so a creation whose answer
    /// is lost is sent again, and does not make a second sandbox.
    pub(super) async fn create(&self) -> Result<Locked, ClaimError> {
        let started = Instant::now();
        if !self.engine.shared.creations.wait(self.deadline).await {
            let reason = "too many sandboxes are being created".to_owned();
            return Err(ClaimError::Timeout { step: Step::Lock, waited: started.elapsed(), reason });
        }
        let (mut sandbox, plan) = self.blueprint();
        let client = self.engine.cache.client().clone();
        let api: Api<Sandbox> = Api::namespaced(client, self.set.namespace_or_empty());
        let mut is_lost = None;
        for _ in 0..MAX_CREATIONS {
            let left = self.deadline.saturating_duration_since(Instant::now()).min(REQUEST_TIMEOUT);
            match tokio::time::timeout(left, api.create(&PostParams::default(), &sandbox)).await {
                Ok(Ok(created)) => return Ok(plan.locked(self.created(Arc::new(created)))),
                Ok(Err(kube::Error::Api(status))) if status.code == 409 && is_lost.is_none() => {
                    self.rename(&plan, &mut sandbox);
                    continue;
                }
                Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 409 => {
                    let error = WriteError::of_status(status.code, &status.message);
                    return Err(self.give_up(&sandbox, &plan, is_lost.map_or(error, WriteError::Unknown)));
                }
                Ok(Err(error)) => is_lost = Some(error_text(&error)),
                Err(_) => is_lost = Some(format!("no answer within {:.1} s", left.as_secs_f64())),
            }
            match self.engine.live(sandbox.namespace_or_empty(), sandbox.name_or_empty()).await {
                Ok(Some(live)) if holds(&live, &plan.lock) => return Ok(self.found(plan, &live)),
                // The name was taken before the first creation.
                Ok(Some(_)) => {
                    is_lost = None;
                    self.rename(&plan, &mut sandbox);
                }
                Ok(None) => {}
                Err(cause) => is_lost = Some(cause),
            }
            if Instant::now() >= self.deadline {
                break;
            }
        }
        let cause = is_lost
            .map_or_else(|| WriteError::NothingDone("no name is free".to_owned()), WriteError::Unknown);
        Err(self.give_up(&sandbox, &plan, cause))
    }

    /// Returns a new member of the set, claimed.
    fn blueprint(&self) -> (Sandbox, Plan) {
        let revision = self.set.status.as_ref().and_then(|status| status.update_revision.as_deref());
        let mut sandbox = blueprint::prototype(self.set, revision.unwrap_or_default());
        let annotations = sandbox.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_SANDBOX_PRIORITY.to_owned(), PRIORITY.to_owned());
        if let Some(runtimes) = &self.request.runtimes {
            sandbox.spec.runtimes = Some(runtimes.clone().into());
        }
        let plan = self.plan(&sandbox, LockType::Create);
        self.rename(&plan, &mut sandbox);
        (sandbox, plan)
    }

    /// Gives a new sandbox a name that is probably free. Its pod has the name in a label.
    fn rename(&self, plan: &Plan, sandbox: &mut Sandbox) {
        sandbox.metadata.name = Some(blueprint::new_name(self.set));
        plan.write(self, sandbox);
    }

    /// Ends a creation without a sandbox. One whose answer is lost may be written still.
    fn give_up(&self, sandbox: &Sandbox, plan: &Plan, error: WriteError) -> ClaimError {
        if matches!(error, WriteError::Unknown(_)) && !self.is_found_by_key(plan) {
            self.engine.watch_for_late_lock(ObjectKey::of(sandbox), plan.lock.clone(), None);
        }
        error.into_error(sandbox, Some(&plan.lock))
    }

    /// Returns true if the repetition of this claim finds the sandbox by its key, on any replica, and takes it. So nobody
    /// may remove it any more.
    fn is_found_by_key(&self, plan: &Plan) -> bool {
        self.request.key().is_some() && plan.unfinished_until.is_none()
    }

    fn created(&self, created: Arc<Sandbox>) -> Arc<Sandbox> {
        self.engine.cache.expect(&*created);
        self.engine.record(Write::Written(Arc::clone(&created)));
        created
    }

    /// Returns what a live read has found.
    fn found(&self, plan: Plan, live: &Arc<Sandbox>) -> Locked {
        plan.locked(self.created(Arc::clone(live)))
    }

    /// Decides what the lock says, and which steps follow it.
    fn plan(&self, sandbox: &Sandbox, lock_type: LockType) -> Plan {
        let request = self.request;
        let has_runtime = request.wait_until_ready
            && matches!(request.init, RuntimeInit::WithEnvVars(_))
            && self.has_runtime(sandbox);
        let has_steps = has_runtime || lock_type == LockType::Create || request.inplace_update.is_some();
        Plan {
            lock: Uuid::new_v4().to_string(),
            lock_type,
            unfinished_until: (request.wait_until_ready && has_steps)
                .then(|| unfinished::until(Timestamp::now())),
            token: has_runtime.then(|| Uuid::new_v4().to_string()),
        }
    }

    /// Returns true if the pod of a sandbox has the port of a runtime.
    fn has_runtime(&self, sandbox: &Sandbox) -> bool {
        if let Some(template) = &sandbox.spec.template {
            return runtime::has_runtime(template);
        }
        let Some(reference) = &sandbox.spec.template_ref else { return false };
        let template = self.engine.templates.get(self.set.namespace_or_empty(), &reference.name);
        let template = template.ok().flatten().and_then(|template| template.spec.template.clone());
        template.is_some_and(|template| runtime::has_runtime(&template))
    }
}

/// What the lock of one sandbox says.
struct Plan {
    lock: String,
    lock_type: LockType,
    unfinished_until: Option<Timestamp>,
    token: Option<String>,
}

impl Plan {
    fn write(&self, claim: &Claim<'_>, sandbox: &mut Sandbox) {
        let mark = Mark {
            request: claim.request,
            lock: &self.lock,
            now: Timestamp::now(),
            token: self.token.as_deref(),
            unfinished_until: self.unfinished_until,
        };
        mark.write(sandbox);
    }

    fn locked(self, sandbox: Arc<Sandbox>) -> Locked {
        Locked {
            sandbox,
            lock: self.lock,
            lock_type: self.lock_type,
            is_unfinished: self.unfinished_until.is_some(),
            has_runtime: self.token.is_some(),
        }
    }
}
