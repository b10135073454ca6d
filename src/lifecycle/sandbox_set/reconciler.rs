//! [`Reconciler`]: brings a set in line with its spec, in passes.
//!
//! ```text
//!  newest set ─▶ settle own creations ─▶ read members ─▶ decide ─▶ apply ─▶ status
//!       ▲                                                                     │
//!       └──────────────── something was done, so look again ──────────────────┘
//! ```
//!
//! A pass in which a request fails because of the API server or the network sends nothing more, writes what it knows into
//! the status, and is repeated after a delay. A refusal concerns what was refused, and the pass goes on.
//! A set that has worked for [`TURN`] gives way to other sets.
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
use super::memory::{Attempted, Memory};
use super::template::{Template, Unselected};
use crate::api::v1alpha1::{
    LABEL_TEMPLATE_HASH, Sandbox, SandboxSet, SandboxSetStatus, SandboxTemplate, label,
};
use crate::cache::indexes;

/// Time between two passes of a set that nothing hurries. Each watch event of a member leads to a pass, and a pass visits
/// every member.
const PASS_INTERVAL: Duration = Duration::from_millis(20);

/// Time between two writes of the status of a set (LP6).
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Time between two questions for what became of the same creation.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// Time after which a set gives way to others. Its pass is finished first. A set of 10,000 members is created in minutes,
/// and the controller has few workers.
const TURN: Duration = Duration::from_secs(1);

/// The handler of SandboxSets.
pub(super) struct Reconciler {
    context: Context,
    sets: Reader<SandboxSet>,
    sandboxes: Reader<Sandbox>,
    templates: Reader<SandboxTemplate>,
    executor: Executor,
    /// What is known of each set. The inner lock is held during a reconcile; the controller runs one for each key.
    memories: Mutex<HashMap<ObjectKey, Arc<tokio::sync::Mutex<Memory>>>>,
}

/// What a pass has seen.
struct View {
    revision: Arc<str>,
    members: Vec<Member>,
    unseen: Unseen,
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
        let cache = context.cache();
        let (sets, sandboxes, templates) = (cache.reader(), cache.reader(), cache.reader());
        Self { context, sets, sandboxes, templates, executor, memories: Mutex::default() }
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
        let begun = Instant::now();
        loop {
            let Some(set) = self.newest(key, &memory)? else { return Ok(Action::await_change()) };
            let pass = self.pass(&set, &mut memory).await;
            memory.passed_at = Some(Instant::now());
            match pass? {
                Pass::Again if self.context.shutdown().is_cancelled() => return Ok(Action::await_change()),
                Pass::Again if begun.elapsed() >= TURN => return Ok(Action::requeue(PASS_INTERVAL)),
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
        let is_held = memory.is_held();
        if !is_held {
            memory.trouble = None;
        }
        self.forget_seen(set, memory).await?;
        let template = self.template(set, memory).await?;
        if template.referred().is_some_and(|template| !template.partially_decoded().is_empty()) {
            return Ok(Pass::Done(Action::await_change()));
        }
        let view = self.look(set, &template, memory)?;
        if !is_held && self.settle(set, &view, memory).await {
            return Ok(Pass::Again);
        }
        let (did, decision) = self.decide_and_act(set, &template, view, is_held, memory).await?;
        let status_due = self.write_status(set, &decision, memory).await?;
        let delays = match memory.retry_in() {
            Some(retry) => [Some(retry), status_due, None],
            None if did => return Ok(Pass::Again),
            None => {
                let template_due = memory.unselected.as_ref().map(Unselected::due_in);
                [decision.requeue, status_due, template_due]
            }
        };
        let next = delays.into_iter().flatten().min();
        Ok(Pass::Done(next.map_or_else(Action::await_change, Action::requeue)))
    }

    /// Decides and acts, unless `is_held`. Returns true if something was done, and the decision with the status that
    /// describes what is known afterwards.
    async fn decide_and_act(
        &self,
        set: &SandboxSet,
        template: &Template,
        view: View,
        is_held: bool,
        memory: &mut Memory,
    ) -> Result<(bool, Decision), HandlerError> {
        let decision = decide_now(set, template, &view, memory);
        let failures = memory.failures;
        let did = !is_held && !memory.is_held() && self.act(set, &view.revision, &decision, memory).await;
        if memory.trouble.is_none() {
            memory.outage.reset();
        }
        if memory.failures == failures {
            return Ok((did, decision));
        }
        // What has failed belongs into the status now: the next pass may be far away.
        let view = self.look(set, template, memory)?;
        Ok((did, decide_now(set, template, &view, memory)))
    }

    /// Returns the template of a set. A SandboxTemplate need not have the labels by which sandboxes are selected.
    async fn template(&self, set: &SandboxSet, memory: &mut Memory) -> Result<Template, HandlerError> {
        let known = memory.unselected.take();
        let (None, Some(reference)) = (&set.spec.template, &set.spec.template_ref) else {
            return Ok(Template::of(set, None));
        };
        let (namespace, name) = (set.namespace_or_empty(), &reference.name);
        let cached = self.templates.get(namespace, name)?;
        if cached.is_some() || !self.context.cache().has_selector::<SandboxTemplate>() {
            return Ok(Template::of(set, cached));
        }
        let known = match known.filter(|known| known.is_of(name) && !known.due_in().is_zero()) {
            Some(known) => known,
            None => Unselected::new(name, self.executor.live.get(namespace, name).await?),
        };
        let template = Template::of(set, known.template());
        memory.unselected = Some(known);
        Ok(template)
    }

    /// Reads the members of a set from the cache.
    fn look(&self, set: &SandboxSet, template: &Template, memory: &mut Memory) -> Result<View, HandlerError> {
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let sandboxes = self.sandboxes.by_index(indexes::SANDBOX_SET, uid)?;
        let revision = memory.revision(set, template, sandboxes.iter().map(|sandbox| &**sandbox));
        let members = memory.members(sandboxes, &revision, (Instant::now(), Timestamp::now()));
        let unseen = memory.creations.unseen(&members, &revision);
        Ok(View { revision, members, unseen })
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
    async fn settle(&self, set: &SandboxSet, view: &View, memory: &mut Memory) -> bool {
        let now = Instant::now();
        if memory.creations.unknown().is_empty() || memory.settle_at.is_some_and(|at| now < at) {
            return false;
        }
        let replicas = usize::try_from(set.spec.replicas.unwrap_or(0)).unwrap_or(0);
        let is_wanted = Counts::of(&view.members, view.unseen).total() <= replicas;
        let wanted = Some(&view.revision).filter(|_| is_wanted);
        let settled = self.executor.settle_unknown(set, wanted, memory).await;
        if !memory.is_held() {
            memory.settle_at = Some(Instant::now() + SETTLE_INTERVAL);
        }
        settled
    }

    /// LC2: compares the cache with the API server before this process creates the first sandbox of a set. An earlier
    /// leader may have created sandboxes that the cache does not show yet. Returns true if that is done.
    async fn verify(&self, set: &SandboxSet, memory: &mut Memory) -> bool {
        let found = match self.executor.requests.members(set).await {
            Ok(found) => found,
            Err(failure) => {
                memory.failed(Attempted::Creation, &failure);
                return false;
            }
        };
        for metadata in found {
            let revision = label(&metadata, LABEL_TEMPLATE_HASH).unwrap_or_default().into();
            let sandbox = Arc::new(Sandbox { metadata, ..Sandbox::default() });
            self.context.cache().expect(&*sandbox);
            memory.creations.found(&sandbox, &revision, Instant::now());
        }
        memory.is_verified = true;
        true
    }

    /// Executes a decision. Returns true if something was done.
    async fn act(
        &self,
        set: &SandboxSet,
        revision: &Arc<str>,
        decision: &Decision,
        memory: &mut Memory,
    ) -> bool {
        if decision.create > 0 && !memory.is_verified {
            return self.verify(set, memory).await;
        }
        if decision.create == 0 {
            memory.reset_batch();
        }
        self.apply(set, revision, decision, memory).await
    }

    /// Executes at most one batch of each action. Returns true if something was done.
    async fn apply(
        &self,
        set: &SandboxSet,
        revision: &Arc<str>,
        decision: &Decision,
        memory: &mut Memory,
    ) -> bool {
        let mut did = self.executor.finish(set, &decision.finish, memory).await;
        if !memory.is_held() {
            did |= self.executor.bury(set, &decision.bury, memory).await;
        }
        for what in &decision.take_down {
            if !memory.is_held() {
                did |= self.executor.take_down(set, what, memory).await;
            }
        }
        let batch = memory.batch(decision.create);
        if batch > 0 && !memory.is_held() {
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
        if set.status.as_ref() == Some(&decision.status) {
            return Ok(None);
        }
        let now = Instant::now();
        let due = memory.status_outage.waits_until(now).unwrap_or(memory.written_at + STATUS_INTERVAL);
        if now < due {
            return Ok(Some(due - now));
        }
        let write = |set: &mut SandboxSet| set.status = Some(SandboxSetStatus::clone(&decision.status));
        match self.context.cache().patch(set, write).status().if_unchanged().await {
            Ok(written) => {
                self.executor.metrics.status_writes.inc();
                memory.written = Some(written);
                memory.written_at = now;
                memory.status_outage.reset();
                Ok(None)
            }
            // The set has changed or is gone. The cache shows it soon.
            Err(error) if error.is_outdated() => {
                memory.written_at = now;
                Ok(Some(STATUS_INTERVAL))
            }
            Err(error @ PatchError::Unread { .. }) => Err(error.into()),
            Err(error) => {
                memory.status_failed(&error);
                Ok(Some(memory.status_outage.remaining(Instant::now())))
            }
        }
    }
}

/// Decides what a set does next.
fn decide_now(set: &SandboxSet, template: &Template, view: &View, memory: &mut Memory) -> Decision {
    let Memory { refusals, is_out_of_scope, trouble, budget, .. } = memory;
    let observed = Observed {
        set,
        template,
        revision: &view.revision,
        members: &view.members,
        unseen: view.unseen,
        refusals,
        trouble: trouble.as_ref(),
        is_out_of_scope: *is_out_of_scope,
        now: Instant::now(),
        wall: Timestamp::now(),
    };
    decide(&observed, budget)
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
