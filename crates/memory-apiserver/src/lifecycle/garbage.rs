//! The garbage collector: objects are deleted with the last of their owners.
//!
//! The end of an owner is a reason to look at its dependents. With strict owners, so is a write that gives an object
//! another owner.

use std::collections::HashSet;
use std::sync::Arc;

use super::owners::{
    Hold, add_foreground, drop_owners, is_waiting, owner, owner_references, uid_of, unblock_owners,
};
use super::writes::Lifecycle;
use crate::deletion::mark_deleted;
use crate::object::{self, FOREGROUND, ORPHAN, drop_finalizer, finalizers};
use crate::store::{Location, Stored};

impl Lifecycle<'_> {
    /// Deletes the dependents of an owner that is gone, except those that another owner holds.
    pub(super) fn release(&mut self, uid: &str) {
        for dependent in self.state.store.dependents(uid) {
            self.collect(&dependent);
        }
    }

    /// Deletes the dependents of an object, and lets the object go once none of them blocks it.
    pub(super) fn delete_in_foreground(&mut self, location: &Location) {
        let Some(stored) = self.state.store.get(&location.storage, &location.key) else { return };
        let object = stored.value();
        if !is_waiting(&object) {
            return;
        }
        let uid = object::uid(&object);
        self.release(uid);
        let blocks = |dependent: &Location| {
            let stored = self.state.store.get(&dependent.storage, &dependent.key);
            stored.is_some_and(|stored| {
                let object = stored.value();
                let mut owners = owner_references(&object).iter();
                owners.any(|owner| owner["uid"] == uid && owner["blockOwnerDeletion"] == true)
            })
        };
        if !self.state.store.dependents(uid).iter().any(blocks) {
            self.edit(location, |object| drop_finalizer(object, FOREGROUND));
        }
    }

    /// Removes an owner from its dependents, and lets the owner go.
    pub(super) fn orphan(&mut self, location: &Location) {
        let Some(stored) = self.state.store.get(&location.storage, &location.key) else { return };
        let object = stored.value();
        let uid = object::uid(&object);
        for dependent in self.state.store.dependents(uid) {
            self.edit(&dependent, |object| drop_owners(object, &HashSet::from([uid])));
        }
        self.edit(location, |object| drop_finalizer(object, ORPHAN));
    }

    /// Deletes a dependent that no owner holds, and removes from a dependent that is held the owners that do not hold
    /// it. A dependent that changed meanwhile is judged again.
    pub(super) fn collect(&mut self, location: &Location) {
        while let Some(stored) = self.state.store.get(&location.storage, &location.key) {
            if stored.deleting || self.collected(location, &stored) {
                return;
            }
        }
    }

    /// Returns false if the dependent has changed meanwhile.
    fn collected(&mut self, location: &Location, stored: &Arc<Stored>) -> bool {
        let object = stored.value();
        let owners: Vec<_> = owner_references(&object)
            .iter()
            .map(|reference| (uid_of(reference), owner(self.state, reference, &location.key).0))
            .collect();
        let with = |hold: Hold| owners.iter().any(|(_, found)| *found == hold);
        // As in a cluster, one owner that is not known keeps the dependent as it is.
        if owners.is_empty() || with(Hold::Unknown) {
            return true;
        }
        if with(Hold::Solid) {
            let loose = owners.iter().filter(|(_, hold)| *hold != Hold::Solid).map(|(uid, _)| *uid);
            let loose: HashSet<_> = loose.collect();
            return self.edit_judged(location, stored, |object| drop_owners(object, &loose));
        }
        let dependents = self.state.store.dependents(object::uid(&object));
        if with(Hold::Waiting) && !dependents.is_empty() {
            self.collect_in_foreground(location, stored, &dependents)
        } else {
            self.collect_judged(location, stored)
        }
    }

    /// Deletes a dependent after its own dependents. In a circle of owners, one of them is deleted first.
    fn collect_in_foreground(
        &mut self,
        location: &Location,
        stored: &Arc<Stored>,
        dependents: &[Location],
    ) -> bool {
        let is_circle = dependents.iter().any(|dependent| {
            let found = self.state.store.get(&dependent.storage, &dependent.key);
            found.is_some_and(|found| found.deleting && is_waiting(&found.value()))
        });
        let now = self.state.clock.now();
        self.edit_judged(location, stored, |object| {
            if is_circle {
                unblock_owners(object);
            }
            if !finalizers(object).contains(&ORPHAN) {
                add_foreground(object);
            }
            mark_deleted(&location.storage, object, 0, now);
        })
    }
}
