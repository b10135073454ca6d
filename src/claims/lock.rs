//! Takes a member of a pool: one patch with its resource version (Q2), or creates one that is claimed from the beginning
//! (Q3).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use shared_cache::Satisfaction;
use tokio::time::Instant;
use uuid::Uuid;

use super::claimed::LockType;
use super::engine::Engine;
use super::error::{ClaimError, Step, WriteOutcome};
use super::lost::{Fate, LostLock};
use super::mark::{self, Mark};
use super::ready_queue::Candidate;
use super::request::{ClaimRequest, RuntimeInit};
use super::unfinished;
use super::write::{REQUEST_TIMEOUT, WriteError};
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
    /// True if the lock has a request for the runtime.
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

impl Claim<'_> {
    /// Takes a member of the pool, or creates one. A lock whose answer was lost is repeated first.
    pub(super) async fn take(&mut self) -> Result<Locked, ClaimError> {
        let creates = self.request.create_on_no_stock.unwrap_or(self.engine.shared.create_on_no_stock);
        match &self.request.lost {
            Some(lost) if lost.is_creation() && creates => return self.create(Some(lost)).await,
            Some(lost) if lost.is_creation() => match self.engine.fate(lost).await {
                Ok(Fate::Made(live)) => return Ok(self.plan(&live, LockType::Create).of(lost).locked(live)),
                Ok(Fate::Void) => {}
                Ok(Fate::Open) => {
                    return Err(self.unknown(lost.clone(), "a creation has no answer".to_owned()));
                }
                Err(cause) => return Err(self.unknown(lost.clone(), cause)),
            },
            Some(lost) => {
                if let Some(locked) = self.repeat(lost).await? {
                    return Ok(locked);
                }
            }
            None => {}
        }
        match self.lock().await? {
            Some(locked) => Ok(locked),
            None if creates => self.create(None).await,
            None => Err(ClaimError::NoStock {
                namespace: self.request.namespace.clone(),
                pool: self.request.pool.clone(),
            }),
        }
    }

    /// Locks a candidate, one after the other. None if there is no stock.
    async fn lock(&mut self) -> Result<Option<Locked>, ClaimError> {
        let end = self.deadline.min(Instant::now() + LOCK_TIMEOUT);
        while self.retries < MAX_TRIES && Instant::now() < end {
            let Some(candidate) = self.engine.ready().next(self.set) else { break };
            let is_seen = self.engine.cache.is_satisfied(&*candidate.sandbox);
            if !candidate.is_claimable() || !matches!(is_seen, Satisfaction::Satisfied) {
                candidate.outdated();
                continue;
            }
            let left = end.saturating_duration_since(Instant::now()).min(REQUEST_TIMEOUT);
            if let Some(locked) = self.attempt(candidate, left).await? {
                return Ok(Some(locked));
            }
            self.retries += 1;
        }
        Ok(None)
    }

    /// Tries to lock one candidate. None if somebody else has changed it.
    async fn attempt(&self, candidate: Candidate, timeout: Duration) -> Result<Option<Locked>, ClaimError> {
        let plan = self.plan(&candidate.sandbox, LockType::Update);
        let locked = self.send(&candidate.sandbox, plan, timeout, false).await;
        match &locked {
            Ok(Some(locked)) => candidate.written(&locked.sandbox),
            Err(error) if error.is_nothing_done() => {}
            _ => candidate.outdated(),
        }
        locked
    }

    /// Sends a lock again whose answer was lost. None if the sandbox is not for this claim any more.
    async fn repeat(&self, lost: &LostLock) -> Result<Option<Locked>, ClaimError> {
        let plan = self.plan(&lost.sandbox, LockType::Update).of(lost);
        self.send(&lost.sandbox, plan, REQUEST_TIMEOUT, true).await
    }

    /// Sends a lock, and looks for it if its answer is lost. None if somebody else has changed the sandbox.
    async fn send(
        &self,
        sandbox: &Arc<Sandbox>,
        plan: Plan,
        timeout: Duration,
        is_repeated: bool,
    ) -> Result<Option<Locked>, ClaimError> {
        self.check_scope(sandbox)?;
        let cause = match self.engine.write(sandbox, |sandbox| plan.write(self, sandbox), timeout).await {
            Ok(written) => return Ok(Some(plan.locked(written))),
            Err(WriteError::Unreadable(_)) => return Ok(None),
            Err(WriteError::Outdated) if !is_repeated => return Ok(None),
            // The earlier request may be what has changed it.
            Err(WriteError::Outdated) => "the sandbox has changed".to_owned(),
            Err(WriteError::Unknown(cause)) => cause,
            Err(error) => return Err(error.into_error(sandbox)),
        };
        let lost = LostLock::new(Arc::clone(sandbox), plan.lock.clone());
        match self.engine.fate(&lost).await {
            Ok(Fate::Made(live)) => Ok(Some(plan.locked(live))),
            Ok(Fate::Void) => Ok(None),
            Ok(Fate::Open) if self.request.wait_until_ready => {
                self.engine.undo_when_made(lost);
                Ok(None)
            }
            _ => Err(self.unknown(lost, cause)),
        }
    }

    /// Creates a sandbox of the set that is claimed from the beginning. Its name is chosen here, so a creation whose answer
    /// is lost is sent again, and does not make a second sandbox.
    async fn create(&self, earlier: Option<&LostLock>) -> Result<Locked, ClaimError> {
        let started = Instant::now();
        if !self.engine.shared.creations.wait(self.deadline).await {
            let reason = "too many sandboxes are being created".to_owned();
            return Err(ClaimError::Timeout { step: Step::Lock, waited: started.elapsed(), reason });
        }
        let (mut sandbox, plan) = self.blueprint(earlier);
        self.check_scope(&sandbox)?;
        let client = self.engine.cache.client().clone();
        let api: Api<Sandbox> = Api::namespaced(client, self.set.namespace_or_empty());
        let mut lost = earlier.map(|lost| (lost.clone(), "an earlier request has no answer".to_owned()));
        for _ in 0..MAX_CREATIONS {
            let left = self.deadline.saturating_duration_since(Instant::now()).min(REQUEST_TIMEOUT);
            let error = match tokio::time::timeout(left, api.create(&PostParams::default(), &sandbox)).await {
                Ok(Ok(created)) => {
                    let created = Arc::new(created);
                    self.engine.made(&created);
                    return Ok(plan.locked(created));
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 409 && lost.is_none() => {
                    self.rename(&plan, &mut sandbox);
                    continue;
                }
                Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 409 => {
                    WriteError::of_status(status.code, &status.message)
                }
                Ok(Err(error)) => WriteError::unanswered(&error),
                Err(_) => WriteError::Unknown(format!("no answer within {:.1} s", left.as_secs_f64())),
            };
            let cause = match (error, lost.take()) {
                (WriteError::Unknown(cause), _) => cause,
                // This request has done nothing, and an earlier one may have.
                (_, Some((lost, cause))) => return Err(self.unknown(lost, cause)),
                (error, None) => return Err(error.into_error(&sandbox)),
            };
            let sent = LostLock::new(Arc::new(sandbox.clone()), plan.lock.clone());
            match self.engine.fate(&sent).await {
                Ok(Fate::Made(live)) => return Ok(plan.locked(live)),
                // The name was taken before the first creation.
                Ok(Fate::Void) => {
                    lost = None;
                    self.rename(&plan, &mut sandbox);
                }
                Ok(Fate::Open) => lost = Some((sent, cause)),
                Err(cause) => lost = Some((sent, cause)),
            }
            if Instant::now() >= self.deadline {
                break;
            }
        }
        Err(match lost {
            Some((lost, cause)) => self.unknown(lost, cause),
            None => ClaimError::unavailable("no name is free"),
        })
    }

    /// Returns a new member of the set, claimed; or the one that an earlier request was to create.
    fn blueprint(&self, earlier: Option<&LostLock>) -> (Sandbox, Plan) {
        if let Some(lost) = earlier {
            let plan = self.plan(&lost.sandbox, LockType::Create).of(lost);
            return (Sandbox::clone(&lost.sandbox), plan);
        }
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

    /// Ends a claim whose lock may still be made. The caller answers for it, or else this process undoes it.
    fn unknown(&self, lost: LostLock, cause: String) -> ClaimError {
        if self.request.wait_until_ready {
            self.engine.undo_when_made(lost.clone());
        }
        let (sandbox, lock) = (lost.key(), Some(Box::new(lost)));
        ClaimError::Unavailable { outcome: WriteOutcome::Unknown { sandbox, lock }, cause }
    }

    /// Refuses to claim a sandbox that the cache would not show after the claim: nobody could find it, or count it.
    fn check_scope(&self, sandbox: &Sandbox) -> Result<(), ClaimError> {
        let cache = &self.engine.cache;
        let labels = || mark::labels(self.request, sandbox.metadata.labels.clone().unwrap_or_default());
        let is_shown = !cache.has_selector::<Sandbox>() || cache.selects_labels::<Sandbox>(&labels());
        if is_shown { Ok(()) } else { Err(ClaimError::OutOfScope) }
    }

    /// Decides what the lock says, and which steps follow it.
    fn plan(&self, sandbox: &Sandbox, lock_type: LockType) -> Plan {
        let request = self.request;
        let (template, reference) = (sandbox.spec.template.as_ref(), sandbox.spec.template_ref.as_deref());
        let has_runtime = matches!(request.init, RuntimeInit::WithEnvVars(_))
            && self.engine.has_runtime(self.set.namespace_or_empty(), template, reference) == Some(true);
        let has_steps = has_runtime || lock_type == LockType::Create || request.inplace_update.is_some();
        Plan {
            lock: Uuid::new_v4().to_string(),
            lock_type,
            unfinished_until: (request.wait_until_ready && has_steps)
                .then(|| unfinished::until(Timestamp::now())),
            token: has_runtime.then(|| Uuid::new_v4().to_string()),
        }
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
    /// Repeats an earlier lock.
    fn of(self, lost: &LostLock) -> Self {
        Self { lock: lost.lock.clone(), ..self }
    }

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
