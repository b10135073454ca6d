//! [`after_write`]: carries out the tasks that follow from a write.

use std::sync::Arc;

use super::tasks::Task;
use super::writes::Lifecycle;
use crate::state::ServerState;
use crate::store::Stored;

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
    while let Some(task) = lifecycle.tasks.pop() {
        lifecycle.carry_out(task);
    }
}

impl Lifecycle<'_> {
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
