//! [`Tasks`]: the work that follows from a write.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::store::{Key, Location};

/// Work that follows from a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// A definition is new or has changed: serve its kind.
    Define(Key),
    /// The definition of this name is being deleted: delete the objects after this key, a page at a time.
    DeleteObjects(Arc<str>, Option<Key>),
    /// A definition that is being deleted may have lost its last object.
    FinishDefinition(Arc<str>),
    /// The definition of this name is gone: stop serving its kind.
    Undefine(Arc<str>),
    /// The owner of this UID is gone: delete the dependents that no other owner holds.
    Release(Box<str>),
    /// An owner is deleted in the foreground: delete its dependents first.
    Foreground(Location),
    /// An owner is deleted and its dependents stay: remove the owner from them.
    Orphan(Location),
    /// A namespace is being deleted: delete the objects in it after this location, a page at a time.
    Drain(Arc<str>, Option<Location>),
    /// A namespace that is being deleted may have lost its last object.
    FinishNamespace(Arc<str>),
}

/// Tasks in the order in which they were added. A task that waits already is not added again.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    queue: VecDeque<Task>,
    waiting: HashSet<Task>,
}

impl Tasks {
    pub(super) fn push(&mut self, task: Task) {
        if self.waiting.insert(task.clone()) {
            self.queue.push_back(task);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Task> {
        let task = self.queue.pop_front()?;
        self.waiting.remove(&task);
        Some(task)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
