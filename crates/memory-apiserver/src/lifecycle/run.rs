//! [`after_write`]: carries out the tasks that follow from a write. [`put`] and [`remove_now`] are such writes of the
//! server itself.

use std::sync::Arc;

use serde_json::Value;

use super::tasks::Task;
use super::writes::Lifecycle;
use crate::state::ServerState;
use crate::store::{Change, Location, Stored};

/// Does all that follows from a write of an object that was `old` before; `gone`: the object was removed.
pub(crate) fn after_write(
    state: &ServerState,
    storage: &Arc<str>,
    old: Option<&Stored>,
    new: &Stored,
    gone: bool,
) {
    let mut lifecycle = Lifecycle::new(state);
    lifecycle.follow_up(storage, old, new, gone);
    lifecycle.finish();
}

/// Deletes an object whose owners have changed, unless one of them holds it. Only with strict owners.
pub(crate) fn check_owners(state: &ServerState, storage: &Arc<str>, old: Option<&Stored>, new: &Stored) {
    let are_new = old.is_none_or(|old| old.owners != new.owners) && !new.owners.is_empty();
    if are_new && state.controllers.collects_absent {
        let mut lifecycle = Lifecycle::new(state);
        lifecycle.collect(&located(storage, new));
        lifecycle.finish();
    }
}

/// Stores the next version of an object that is still `stored`, and does all that follows. Returns false, and does
/// nothing, if the object has changed meanwhile.
pub(crate) fn put(state: &ServerState, storage: &Arc<str>, stored: &Arc<Stored>, object: Value) -> bool {
    let mut lifecycle = Lifecycle::new(state);
    let is_written = lifecycle.write_judged(&located(storage, stored), stored, Change::Put(object), false);
    lifecycle.finish();
    is_written
}

/// Deletes an object that is still `stored` without a grace period, and does all that follows. Returns as [`put`].
pub(crate) fn remove_now(state: &ServerState, storage: &Arc<str>, stored: &Arc<Stored>) -> bool {
    let mut lifecycle = Lifecycle::new(state);
    let is_written = lifecycle.remove_judged(&located(storage, stored), stored, 0);
    lifecycle.finish();
    is_written
}

fn located(storage: &Arc<str>, stored: &Stored) -> Location {
    Location { storage: Arc::clone(storage), key: stored.key.clone() }
}

impl Lifecycle<'_> {
    /// Carries out all tasks.
    fn finish(&mut self) {
        while let Some(task) = self.tasks.pop() {
            self.carry_out(task);
        }
    }

    pub(super) fn carry_out(&mut self, task: Task) {
        match task {
            Task::Define(key) => self.define(&key),
            Task::DeleteObjects(name, after) => self.delete_objects(&name, after.as_ref()),
            Task::FinishDefinition(name) => self.finish_definition(&name),
            Task::Undefine(name) => self.undefine(&name),
            Task::Release(uid) => self.release(&uid),
            Task::Foreground(location) => self.delete_in_foreground(&location),
            Task::Orphan(location) => self.orphan(&location),
            Task::Drain(namespace, after) => self.drain(&namespace, after.as_ref()),
            Task::FinishNamespace(namespace) => self.finish_namespace(&namespace),
        }
    }
}
