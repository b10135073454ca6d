//! [`Reconciler`]: brings a set in line with its spec, in passes.
//!
//! ```text
//!  newest set ─▶ settle own creations ─▶ read members ─▶ decide ─▶ apply ─▶ status
//!       ▲                                                                     │
//!       └──────────────── something was done, so look again ──────────────────┘
//! ```
//!
//! The order matters: own creations are settled before the members are read. A sandbox that the cache shows in between
//! is counted twice at worst, and then the pass creates too few sandboxes, not too many.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use controller_manager::{Action, Context, HandlerError, Observed as Shown, ReconcileHandler};
use jiff::Timestamp;
use parking_lot::Mutex;
use shared_cache::{KeyRef, ObjectKey, PatchError, Reader, version_of};
use tokio::time::Instant;

use super::apply::{Executor, is_of};
use super::decide::{Decision, Observed, decide};
use super::members::{Counts, Member, Unseen};
use super::memory::Memory;
use super::revision;
use crate::api::v1alpha1::{LABEL_TEMPLATE_HASH, Sandbox, SandboxSet, SandboxSetStatus, label};
use crate::cache::indexes;

/// Time between two passes of a set that nothing hurries. Each watch event of a member leads to a pass, and a pass visits
/// every member.
const PASS_INTERVAL: Duration = Duration::from_millis(20);

/// Time between two writes of the status of a set (LP6).
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Time between two questions for what became of the same creation.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// The handler of SandboxSets.
pub(super) struct Reconciler {
    context: Context,
    sets: Reader<SandboxSet>,
    sandboxes: Reader<Sandbox>,
    executor: Executor,
    /// What is known of each set. The inner lock is held during a reconcile; the controller runs one for each key.
    memories: Mutex<HashMap<ObjectKey, Arc<tokio::sync::Mutex<Memory>>>>,
}

/// How a pass ended.
enum Pass {
    /// Something was done, so that the next pass follows at once.
    Again,
    /// Nothing is left to do until a change, or until the time of the action.
    Done(Action),
}

impl Reconciler {
    pub(super) fn new(context: Context, executor: Executor) -> Self {
        let (sets, sandboxes) = (context.cache().reader(), context.cache().reader());
        Self { context, sets, sandboxes, executor, memories: Mutex::default() }
    }

    fn memory(&self, set: &SandboxSet) -> Arc<tokio::sync::Mutex<Memory>> {
        let mut memories = self.memories.lock();
        let new = || Arc::new(tokio::sync::Mutex::new(Memory::new(set, Instant::now())));
        Arc::clone(memories.entry(ObjectKey::of(set)).or_insert_with(new))
    }

    async fn run(&self, set: Arc<SandboxSet>) -> Result<Action, HandlerError> {
        // A template that was read in part would be another revision (LC2). The cache logs and counts such an object.
        if !set.partially_decoded().is_empty() {
            return Ok(Action::await_change());
        }
        let memory = self.memory(&set);
        let mut memory = memory.lock().await;
        if !memory.is_of(&set) {
            *memory = Memory::new(&set, Instant::now());
        }
        let since = memory.passed_at.map(|at| at.elapsed());
        if let Some(left) =
            since.and_then(|since| PASS_INTERVAL.checked_sub(since)).filter(|left| !left.is_zero())
        {
            return Ok(Action::requeue(left));
        }
        let key = KeyRef::of(&*set);
        loop {
            let Some(set) = self.newest(key, &memory)? else { return Ok(Action::await_change()) };
            let pass = self.pass(&set, &mut memory).await;
            memory.passed_at = Some(Instant::now());
            match pass? {
                Pass::Again if self.context.shutdown().is_cancelled() => return Ok(Action::await_change()),
                Pass::Again => {}
                Pass::Done(action) => return Ok(action),
            }
        }
    }

    /// Returns the set as the cache or the last own write shows it, whichever is newer; `None` if it is gone.
    fn newest(&self, key: KeyRef<'_>, memory: &Memory) -> Result<Option<Arc<SandboxSet>>, HandlerError> {
        let cached = self.sets.get(key.namespace, key.name)?;
        let cached = cached.filter(|set| memory.is_of(set) && set.metadata.deletion_timestamp.is_none());
        Ok(cached.map(|cached| match &memory.written {
            Some(written) if version_of(&**written) > version_of(&*cached) => Arc::clone(written),
            _ => cached,
        }))
    }

    async fn pass(&self, set: &Arc<SandboxSet>, memory: &mut Memory) -> Result<Pass, HandlerError> {
        let (now, wall) = (Instant::now(), Timestamp::now());
        if let Some(retry_at) = memory.outage.waits_until(now) {
            return Ok(Pass::Done(Action::requeue(retry_at - now)));
        }
        self.forget_seen(set, memory).await?;
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let sandboxes = self.sandboxes.by_index(indexes::SANDBOX_SET, uid)?;
        let own = memory.own_revision(set);
        let revision = revision::current(set, &own, sandboxes.iter().map(|sandbox| &**sandbox));
        let members = memory.members(sandboxes, &revision, (now, wall));
        let unseen = memory.creations.unseen(&members, &revision);
        if self.settle(set, &revision, &members, unseen, memory).await {
            return Ok(Pass::Again);
        }
        let Memory { refusals, is_out_of_scope, .. } = &*memory;
        let (refusals, is_out_of_scope) = (refusals.clone(), *is_out_of_scope);
        let observed = Observed {
            set,
            revision: &revision,
            members: &members,
            unseen,
            refusals: &refusals,
            is_out_of_scope,
            now,
            wall,
        };
        let decision = decide(&observed, &mut memory.budget);
        if decision.create > 0 && !memory.is_verified {
            self.verify(set, memory).await;
            return Ok(Pass::Again);
        }
        let did = self.apply(set, &revision, &decision, memory).await;
        if decision.create == 0 {
            memory.reset_batch();
        }
        let status_due = self.write_status(set, &decision, memory).await?;
        let outage = memory.outage.waits_until(now).map(|at| at.saturating_duration_since(now));
        if did {
            if outage.is_none() {
                memory.outage.reset();
            }
            return Ok(Pass::Again);
        }
        let next = decision.requeue.into_iter().chain(status_due).chain(outage).min();
        Ok(Pass::Done(next.map_or_else(Action::await_change, Action::requeue)))
    }

    /// Forgets the own creations that the cache has seen.
    async fn forget_seen(&self, set: &SandboxSet, memory: &mut Memory) -> Result<(), HandlerError> {
        if memory.creations.is_empty() {
            return Ok(());
        }
        let (cache, namespace) = (self.context.cache(), set.namespace_or_empty());
        // Without an answer nothing is forgotten.
        self.sandboxes.len()?;
        let mut unshown = Vec::new();
        memory.creations.forget_seen(|name, creation| {
            // The order matters: what the cache has passed and does not show afterwards has left it.
            let is_seen = creation.created().map(|created| cache.is_satisfied(&**created).is_satisfied());
            let shown = self.sandboxes.get(namespace, name).ok().flatten();
            match is_seen {
                None => return shown.is_some_and(|shown| is_of(set, &shown)),
                Some(true) if shown.is_none() => unshown.push(name.to_owned()),
                Some(_) => {}
            }
            is_seen == Some(true)
        });
        if cache.has_selector::<Sandbox>() {
            for name in unshown {
                memory.is_out_of_scope |= self.is_hidden(set, &name).await?;
            }
        }
        Ok(())
    }

    /// Returns true if a member exists that the cache does not show, because its labels do not match the selector.
    async fn is_hidden(&self, set: &SandboxSet, name: &str) -> Result<bool, HandlerError> {
        let live = self.executor.live.get::<Sandbox>(set.namespace_or_empty(), name).await?;
        let is_member = |live: &Sandbox| live.is_controlled_by_sandbox_set() && !live.is_deleting();
        Ok(live.is_some_and(|live| is_of(set, &live) && is_member(&live)))
    }

    /// Settles the creations whose answers were lost. Returns true if the set is to be observed anew.
    async fn settle(
        &self,
        set: &SandboxSet,
        revision: &Arc<str>,
        members: &[Member],
        unseen: Unseen,
        memory: &mut Memory,
    ) -> bool {
        let now = Instant::now();
        if memory.creations.unknown().is_empty() || memory.settle_at.is_some_and(|at| now < at) {
            return false;
        }
        let replicas = usize::try_from(set.spec.replicas.unwrap_or(0)).unwrap_or(0);
        let is_wanted = Counts::of(members, unseen).total() <= replicas;
        self.executor.settle_unknown(set, Some(revision).filter(|_| is_wanted), memory).await;
        memory.settle_at = Some(Instant::now() + SETTLE_INTERVAL);
        true
    }

    /// LC2: compares the cache with the API server before this process creates the first sandbox of a set. An earlier
    /// leader may have created sandboxes that the cache does not show yet.
    async fn verify(&self, set: &SandboxSet, memory: &mut Memory) {
        let found = match self.executor.requests.members(set).await {
            Ok(found) => found,
            Err(failure) => return memory.failed(&failure),
        };
        for metadata in found {
            let revision = label(&metadata, LABEL_TEMPLATE_HASH).unwrap_or_default().into();
            let sandbox = Arc::new(Sandbox { metadata, ..Sandbox::default() });
            self.context.cache().expect(&*sandbox);
            memory.creations.found(&sandbox, &revision, Instant::now());
        }
        memory.is_verified = true;
    }

    /// Executes a decision, at most one batch of each action. Returns true if something was done.
    async fn apply(
        &self,
        set: &SandboxSet,
        revision: &Arc<str>,
        decision: &Decision,
        memory: &mut Memory,
    ) -> bool {
        let mut did = false;
        if !decision.finish.is_empty() {
            did |= self.executor.finish(set, &decision.finish, memory).await;
        }
        if !decision.bury.is_empty() {
            did |= self.executor.bury(set, &decision.bury, memory).await;
        }
        for what in &decision.take_down {
            did |= self.executor.take_down(set, what, memory).await;
        }
        let batch = memory.batch(decision.create);
        if batch > 0 {
            if self.executor.create(set, revision, batch, memory).await {
                memory.grow_batch();
            } else {
                memory.reset_batch();
            }
            did = true;
        }
        did
    }

    /// Writes the status if it has changed, at intervals. Returns the time until it may be written, if it was not.
    async fn write_status(
        &self,
        set: &Arc<SandboxSet>,
        decision: &Decision,
        memory: &mut Memory,
    ) -> Result<Option<Duration>, HandlerError> {
        if set.status.as_ref() == Some(&decision.status)
            || memory.outage.waits_until(Instant::now()).is_some()
        {
            return Ok(None);
        }
        let left = STATUS_INTERVAL.saturating_sub(memory.written_at.elapsed());
        if !left.is_zero() {
            return Ok(Some(left));
        }
        let write = |set: &mut SandboxSet| set.status = Some(SandboxSetStatus::clone(&decision.status));
        let now = Instant::now();
        match self.context.cache().patch(set, write).status().if_unchanged().await {
            Ok(written) => {
                self.executor.metrics.status_writes.inc();
                memory.written = Some(written);
                memory.written_at = now;
                if memory.outage.waits_until(now).is_none() {
                    memory.outage.reset();
                }
                Ok(None)
            }
            // The set has changed or is gone. The cache shows it soon.
            Err(error) if error.is_outdated() => {
                memory.written_at = now;
                Ok(Some(STATUS_INTERVAL))
            }
            Err(error @ PatchError::Unread { .. }) => Err(error.into()),
            Err(error) => {
                memory.failed(&error);
                Ok(None)
            }
        }
    }
}

impl ReconcileHandler<SandboxSet> for Reconciler {
    async fn reconcile(&self, shown: Shown<SandboxSet>) -> Result<Action, HandlerError> {
        match shown {
            // The members of a set that is deleted are deleted with it, by their owner references.
            Shown::Present(set) if set.metadata.deletion_timestamp.is_some() => Ok(Action::await_change()),
            Shown::Present(set) => self.run(set).await,
            Shown::Deleted { key, .. } => {
                self.memories.lock().remove(&key);
                Ok(Action::await_change())
            }
        }
    }
}
