//! [`Pools`]: the free members of every pool. Pure: no I/O, and no clock but the instants that it is given.
//!
//! A member is in one of three places:
//!
//! ```text
//!            free ── take ──▶ taken: a claim tries it ── put back unchanged ──▶ free
//!             ▲                    │ changed by us or by others
//!             └── a newer version, ◀┘ parked
//!                 or time
//! ```
//!
//! So two claims of one process never try the same member. A member whose newest version this process does not know yet is
//! parked until the watch shows that version: another try would meet a conflict for certain. Some conflicts change nothing
//! (an admission webhook may answer one), so a parked member is free again after a while in any case.
//!
//! Each operation takes constant time, whatever the size of the pool.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use shared_cache::version_of;
use tokio::time::Instant;

use crate::api::v1alpha1::{LABEL_TEMPLATE_HASH, Sandbox, label};

/// What has become of a member that a claim has tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// Nothing. Other claims may try it.
    Unchanged,
    /// It has a newer version than this one. Nobody tries it before the watch shows that version, or until an instant.
    Changed { above: u64, until: Instant },
}

/// The free members of all pools, by the UID of the set.
#[derive(Default)]
pub(super) struct Pools {
    sets: HashMap<Arc<str>, Vec<Revision>>,
    /// Where each free member is, by its UID.
    places: HashMap<Box<str>, Place>,
    /// The members that claims try, and those that are parked, by UID.
    taken: HashMap<Box<str>, Taken>,
    /// When parked members are free again. Entries of members that are not parked any more have no effect.
    parked: BinaryHeap<Reverse<(Instant, Box<str>)>>,
}

/// The free members of one revision of a set; never empty.
struct Revision {
    name: Arc<str>,
    members: Vec<Arc<Sandbox>>,
}

struct Place {
    set: Arc<str>,
    revision: Arc<str>,
    position: usize,
}

struct Taken {
    /// The newest version that was seen, if the member is free in it.
    newest: Option<Arc<Sandbox>>,
    /// The newest version that was seen, as a number.
    seen: Option<u64>,
    /// Set while the member is parked.
    parked: Option<(u64, Instant)>,
}

impl Pools {
    /// Shows a new state of a sandbox. `set` is the UID of its set if it is a free member.
    pub(super) fn see(&mut self, sandbox: &Arc<Sandbox>, set: Option<&str>) {
        let uid = uid(sandbox);
        let Some(taken) = self.taken.get_mut(uid) else {
            return self.place(sandbox, set);
        };
        taken.newest = set.map(|_| Arc::clone(sandbox));
        // The order of a version that is not a number is unknown. It counts as newer.
        let version = version_of(&**sandbox).unwrap_or(u64::MAX);
        taken.seen = Some(version);
        if taken.parked.is_some_and(|(above, _)| version > above) {
            self.unpark(&Box::from(uid));
        }
    }

    /// Forgets a sandbox that is gone.
    pub(super) fn forget(&mut self, uid: &str) {
        self.remove(uid);
        match self.taken.get_mut(uid) {
            Some(taken) if taken.parked.is_none() => taken.newest = None,
            Some(_) => drop(self.taken.remove(uid)),
            None => {}
        }
    }

    /// Takes a free member of a set, one of the revision if there is any. `random` chooses among them: processes that take
    /// the members in the same order would meet each other at every one.
    pub(super) fn take(
        &mut self,
        set: &str,
        revision: Option<&str>,
        random: usize,
        now: Instant,
    ) -> Option<Arc<Sandbox>> {
        self.unpark_due(now);
        let revisions = self.sets.get(set)?;
        let of_revision = revisions.iter().find(|of| Some(&*of.name) == revision).or(revisions.first())?;
        let member = Arc::clone(&of_revision.members[random % of_revision.members.len()]);
        self.remove(uid(&member));
        let (newest, seen) = (Some(Arc::clone(&member)), version_of(&*member));
        self.taken.insert(uid(&member).into(), Taken { newest, seen, parked: None });
        Some(member)
    }

    /// Takes a member back that [`Self::take`] has returned.
    pub(super) fn put_back(&mut self, uid: &str, tried: Tried) {
        let Some(taken) = self.taken.get_mut(uid) else { return };
        let key = Box::from(uid);
        match tried {
            Tried::Changed { above, until } if taken.seen.is_none_or(|seen| seen <= above) => {
                taken.parked = Some((above, until));
                self.parked.push(Reverse((until, key)));
            }
            Tried::Unchanged | Tried::Changed { .. } => self.unpark(&key),
        }
    }

    /// Returns the number of free members of a set.
    pub(super) fn len(&mut self, set: &str, now: Instant) -> usize {
        self.unpark_due(now);
        self.sets.get(set).into_iter().flatten().map(|revision| revision.members.len()).sum()
    }

    /// Ends the time of parked members whose instant has come.
    fn unpark_due(&mut self, now: Instant) {
        while let Some(Reverse((until, _))) = self.parked.peek()
            && *until <= now
        {
            let Some(Reverse((until, uid))) = self.parked.pop() else { return };
            let taken = self.taken.get(&uid);
            if taken.and_then(|taken| taken.parked).is_some_and(|(_, parked)| parked == until) {
                self.unpark(&uid);
            }
        }
    }

    fn unpark(&mut self, uid: &str) {
        let Some(Taken { newest: Some(sandbox), .. }) = self.taken.remove(uid) else { return };
        let set = sandbox.controller_sandbox_set().map(|set| set.uid.clone());
        self.place(&sandbox, set.as_deref());
    }

    /// Puts a sandbox where it belongs: among the members of its revision if it is free.
    fn place(&mut self, sandbox: &Arc<Sandbox>, set: Option<&str>) {
        let revision = label(&sandbox.metadata, LABEL_TEMPLATE_HASH).unwrap_or_default();
        let place = self.places.get(uid(sandbox));
        if let Some(place) = place.filter(|place| Some(&*place.set) == set && &*place.revision == revision) {
            let of_revision = self.sets.get_mut(&place.set).into_iter().flatten();
            if let Some(known) = of_revision.into_iter().find(|of| of.name == place.revision) {
                known.members[place.position] = Arc::clone(sandbox);
            }
            return;
        }
        self.remove(uid(sandbox));
        if let Some(set) = set {
            self.insert(sandbox, set, revision);
        }
    }

    fn insert(&mut self, sandbox: &Arc<Sandbox>, set: &str, revision: &str) {
        let set = self.sets.get_key_value(set).map_or_else(|| Arc::from(set), |(set, _)| Arc::clone(set));
        let revisions = self.sets.entry(Arc::clone(&set)).or_default();
        let index = revisions.iter().position(|of| &*of.name == revision).unwrap_or_else(|| {
            revisions.push(Revision { name: revision.into(), members: Vec::new() });
            revisions.len() - 1
        });
        let Revision { name, members } = &mut revisions[index];
        let place = Place { set, revision: Arc::clone(name), position: members.len() };
        members.push(Arc::clone(sandbox));
        self.places.insert(uid(sandbox).into(), place);
    }

    /// Removes a free member. The last member of its revision takes its position.
    fn remove(&mut self, member: &str) {
        let Some(Place { set, revision, position }) = self.places.remove(member) else { return };
        let Some(revisions) = self.sets.get_mut(&set) else { return };
        let Some(index) = revisions.iter().position(|of| of.name == revision) else { return };
        let members = &mut revisions[index].members;
        members.swap_remove(position);
        if let Some(moved) = members.get(position)
            && let Some(place) = self.places.get_mut(uid(moved))
        {
            place.position = position;
        }
        if members.is_empty() {
            revisions.swap_remove(index);
        }
        if revisions.is_empty() {
            self.sets.remove(&set);
        }
    }
}

fn uid(sandbox: &Sandbox) -> &str {
    sandbox.metadata.uid.as_deref().unwrap_or_default()
}
