//! Waiting until an object is as one wants it: paused, resumed, ready, checkpointed, or anything else.
//!
//! ```text
//!  Informer<K> ── batch ──▶ Waits<K> (observer) ──▶ Registry: waiters of that key
//!                                                      │ judge: UID, version floor, condition
//!                                                      ▼ (in the informer's task, no lock held)
//!                                                    slot ──▶ wakes the caller's task
//! ```
//!
//! A wait costs nothing while nothing happens: no timer, no task, no polling but the caller's own future.
//! A change of a key that nobody waits for costs one look into a hash map, and not even that while nobody waits
//! for anything.

mod conditions;
mod error;
mod holds;
mod metrics;
mod registry;
mod sync;
mod task;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

pub use conditions::Check;
pub use error::{WaitAction, WaitConflict, WaitError, WaitTarget};
pub use task::{AcquiredWaitTask, WaitTask};

pub(crate) use conditions::{bound, checkpointed, paused, ready, resumed};
pub(crate) use metrics::WaitMetrics;
pub(crate) use task::Condition;

use crate::informer::{Batch, CachedResource, Event, Informer, ObjectKey, Observer};
use holds::Holds;
use registry::{Registration, Registry, Verdict, Waiter};

/// What can be seen of an object that is waited for.
pub(crate) enum Seen<K> {
    /// It exists in this state.
    Present(Arc<K>),
    /// It has left the store; this was its last state.
    Deleted(Arc<K>),
    /// It does not exist, as of a version at which it would.
    Missing,
}

/// How a wait ends without what was waited for.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Gone,
    Stopped,
    Failed(Arc<dyn Error + Send + Sync>),
}

/// Why a wait goes on.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Resource version of the state that the condition was not satisfied by.
    version: Option<String>,
    reason: Cow<'static, str>,
}

type Ending<K> = Result<Arc<K>, End>;

/// The version of what was seen and what it means for the wait; `None` if nothing.
type Judgement<K> = Option<(u64, Verdict<Ending<K>, Pending>)>;

/// A place among the waiters of a key.
type Place<K> = Registration<ObjectKey, Seen<K>, Ending<K>, Pending>;

/// All waits for objects of one kind. An observer of its informer.
pub(crate) struct Waits<K: CachedResource> {
    registry: Arc<Registry<ObjectKey, Seen<K>, Ending<K>, Pending>>,
    holds: Arc<Holds<WaitAction>>,
    metrics: WaitMetrics,
}

impl<K: CachedResource> Waits<K> {
    pub(crate) fn new(metrics: WaitMetrics) -> Self {
        Self { registry: Arc::new(Registry::new()), holds: Arc::new(Holds::new()), metrics }
    }

    /// Keeps the opposite of the task's action away from its object from here on (F4, F5).
    pub(crate) fn acquire(
        self: &Arc<Self>,
        informer: &Arc<Informer<K>>,
        object: &Arc<K>,
        action: WaitAction,
        condition: Condition<K>,
    ) -> Result<AcquiredWaitTask<K>, WaitConflict> {
        let key = ObjectKey::of(&**object);
        let name = object.meta().uid.clone().unwrap_or_else(|| key.to_string());
        let hold = self.holds.acquire(name, action).map_err(|existing| {
            let conflict = WaitConflict { kind: K::kind(&()), object: key, existing, requested: action };
            self.metrics.conflict(&conflict);
            conflict
        })?;
        let task = WaitTask::new(Arc::clone(informer), Arc::clone(self), object, action, condition);
        Ok(AcquiredWaitTask::new(task, hold))
    }

    /// Ends every wait, and every later one, as stopped.
    pub(crate) fn close(&self) {
        self.registry.close(&Err(End::Stopped));
    }

    /// Objects that are waited for now.
    pub(crate) fn awaited(&self) -> Vec<ObjectKey> {
        self.registry.names()
    }

    /// What a live read has found, in place of the events that an outage of the watch withholds (F13).
    pub(crate) fn see_live(&self, key: &ObjectKey, found: Option<Arc<K>>) {
        self.registry.see(key, || found.map_or(Seen::Missing, Seen::Present));
    }

    fn metrics(&self) -> &WaitMetrics {
        &self.metrics
    }

    fn register(&self, key: ObjectKey, waiter: Waiter<Seen<K>, Ending<K>, Pending>) -> Option<Place<K>> {
        self.registry.register(key, waiter)
    }
}

impl<K: CachedResource> Observer<K> for Waits<K> {
    fn observe(&self, batch: &Batch<K>) {
        for event in &batch.events {
            self.registry.see(&event.key(), || match event {
                Event::Applied { new, .. } => Seen::Present(Arc::clone(new)),
                Event::Deleted { last_known, .. } => Seen::Deleted(Arc::clone(last_known)),
            });
        }
    }
}
