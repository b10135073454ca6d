//! [`Creations`]: own creations that the cache does not show yet (LC2).
//!
//! A creation is recorded before its request is sent, and counts as a member from then on. It stops to count when
//!
//! - the API server has refused the request, or
//! - the cache has shown the sandbox, or has passed the version at which the sandbox was created.
//!
//! If the answer is lost, the sandbox may exist or not. Its name was chosen before, so a live read by name tells, and the
//! request can be repeated: the API server creates no second sandbox of that name.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::members::{Member, Unseen};
use crate::api::v1alpha1::Sandbox;

/// The API server ends every request after a minute. Later it cannot create a sandbox that did not exist then.
const LATEST_ARRIVAL: Duration = Duration::from_secs(70);

/// One creation.
#[derive(Clone, Debug)]
pub(super) struct Creation {
    revision: Arc<str>,
    sent: Instant,
    /// The sandbox; `None` if the answer is not known.
    created: Option<Arc<Sandbox>>,
}

impl Creation {
    /// Returns the sandbox, if it is known that it was created.
    pub(super) fn created(&self) -> Option<&Arc<Sandbox>> {
        self.created.as_ref()
    }
}

/// The creations of one set by the names of the sandboxes.
#[derive(Clone, Debug, Default)]
pub(super) struct Creations {
    by_name: HashMap<String, Creation>,
}

impl Creations {
    /// Records a request that is about to be sent.
    pub(super) fn send(&mut self, name: &str, revision: &Arc<str>, now: Instant) {
        let creation = Creation { revision: Arc::clone(revision), sent: now, created: None };
        self.by_name.insert(name.to_owned(), creation);
    }

    /// Records that a sandbox exists.
    pub(super) fn created(&mut self, sandbox: &Arc<Sandbox>) {
        if let Some(creation) = self.by_name.get_mut(sandbox.name_or_empty()) {
            creation.created = Some(Arc::clone(sandbox));
        }
    }

    /// Records that the API server has a sandbox that this process does not remember.
    pub(super) fn found(&mut self, sandbox: &Arc<Sandbox>, revision: &Arc<str>, now: Instant) {
        self.send(sandbox.name_or_empty(), revision, now);
        self.created(sandbox);
    }

    /// Forgets a creation that the API server has refused.
    pub(super) fn refused(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// Forgets the creations that the cache has seen.
    pub(super) fn forget_seen(&mut self, mut is_seen: impl FnMut(&str, &Creation) -> bool) {
        self.by_name.retain(|name, creation| !is_seen(name, creation));
    }

    /// Returns the names of the sandboxes of which it is not known whether they were created.
    pub(super) fn unknown(&self) -> Vec<String> {
        let unknown = self.by_name.iter().filter(|(_, creation)| creation.created.is_none());
        unknown.map(|(name, _)| name.clone()).collect()
    }

    /// Returns true if a request that was not executed yet may still be executed.
    pub(super) fn may_arrive(&self, name: &str, now: Instant) -> bool {
        self.by_name.get(name).is_some_and(|creation| now < creation.sent + LATEST_ARRIVAL)
    }

    /// Returns the revision with which a creation was sent.
    pub(super) fn revision(&self, name: &str) -> Option<Arc<str>> {
        self.by_name.get(name).map(|creation| Arc::clone(&creation.revision))
    }

    /// Counts the creations that are not among the members.
    pub(super) fn unseen(&self, members: &[Member], revision: &str) -> Unseen {
        let mut unseen = Unseen::default();
        if self.by_name.is_empty() {
            return unseen;
        }
        let shown = members.iter().filter(|member| self.by_name.contains_key(member.sandbox.name_or_empty()));
        let shown: HashSet<&str> = shown.map(|member| member.sandbox.name_or_empty()).collect();
        for (name, creation) in &self.by_name {
            if shown.contains(name.as_str()) {
                continue;
            }
            if *creation.revision == *revision {
                unseen.updated += 1;
            } else {
                unseen.old += 1;
            }
        }
        unseen
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::test_support::{member, set};
    use super::*;

    fn shown(names: &[&str]) -> Vec<Member> {
        let set = set(9, "i");
        let sandboxes = names.iter().map(|name| Arc::new(member(&set, name)));
        sandboxes.map(|sandbox| Member::new(sandbox, "r", Timestamp::UNIX_EPOCH)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn lc2_a_creation_counts_from_its_request_until_it_is_refused_or_seen() {
        let (now, old, new) = (Instant::now(), Arc::from("old"), Arc::from("new"));
        let mut creations = Creations::default();
        for (name, revision) in [("a", &new), ("b", &new), ("c", &old), ("d", &new)] {
            creations.send(name, revision, now);
        }
        assert_eq!(creations.unseen(&[], "new"), Unseen { updated: 3, old: 1 });
        creations.refused("a");
        creations.created(&Arc::new(member(&set(9, "i"), "b")));
        assert_eq!(creations.unseen(&[], "new"), Unseen { updated: 2, old: 1 });
        assert_eq!(
            creations.unseen(&shown(&["b", "z"]), "new"),
            Unseen { updated: 1, old: 1 },
            "counted once"
        );
        creations.forget_seen(|name, creation| name == "b" && creation.created().is_some());
        assert_eq!(creations.unseen(&[], "new"), Unseen { updated: 1, old: 1 });
        let mut unknown = creations.unknown();
        unknown.sort();
        assert_eq!(unknown, ["c", "d"]);
    }

    #[tokio::test(start_paused = true)]
    async fn lc2_a_request_may_arrive_for_as_long_as_the_api_server_may_hold_it() {
        let mut creations = Creations::default();
        let now = Instant::now();
        creations.send("a", &"r".into(), now);
        assert!(creations.may_arrive("a", now + Duration::from_mins(1)));
        assert!(!creations.may_arrive("a", now + LATEST_ARRIVAL));
        assert!(!creations.may_arrive("b", now));
    }
}
