//! [`Memory`]: what this process knows of one set beyond the cache.
//!
//! Losing it is safe: a process that begins reads the members from the API server before it creates the first one, and
//! takes up the locks that an earlier process left.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared_cache::version_of;
use tokio::time::Instant;

use super::creations::Creations;
use super::failure_budget::{Backoff, FailureBudget};
use super::members::{Member, Refusal, Standing, is_locked_by_set};
use super::revision::{self, Own};
use super::status::MEMBERS_FAIL;
use super::template::{Template, Unselected};
use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, CONDITION_PROGRESSING, REASON_MEMBERS_KEEP_FAILING, Sandbox, SandboxSet,
    annotation,
};

/// Number of creations in the first batch (LP2).
const FIRST_BATCH: usize = 16;

/// Number of creations in a batch at most. More requests at once would only wait for each other, and the status of the
/// set would be late.
const LARGEST_BATCH: usize = 128;

/// Age at which a lock that an earlier process left is taken up (LP2).
const LOCK_EXPIRES: Duration = Duration::from_mins(1);

/// The delays after requests that failed because of the API server or the network.
const FIRST_OUTAGE_DELAY: Duration = Duration::from_millis(100);
const LONGEST_OUTAGE_DELAY: Duration = Duration::from_secs(15);

/// What was to be done when a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempted {
    /// To create sandboxes, or to find out which ones exist.
    Creation,
    /// To lock or delete sandboxes.
    Deletion,
}

/// A request that failed because of the API server or the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) attempted: Attempted,
    /// The error with its causes.
    pub(super) message: String,
}

/// A lock of a member.
struct Lock {
    /// When to delete the member.
    due: Instant,
    /// The version of the member that has the lock. If a newer one has none, somebody has removed it.
    version: Option<u64>,
}

/// The own revision, and what it was computed from.
struct Computed {
    generation: Option<i64>,
    /// UID and version of the SandboxTemplate.
    template: Option<(Option<String>, Option<String>)>,
    own: Own,
}

/// What this process knows of one set.
pub(super) struct Memory {
    uid: String,
    pub(super) creations: Creations,
    pub(super) budget: FailureBudget,
    /// The creations that the API server has refused.
    pub(super) refusals: Backoff,
    /// The requests that failed because of the API server or the network. While it waits, no member is created or
    /// deleted.
    pub(super) outage: Backoff,
    /// The first of these requests in the last pass that has sent any.
    pub(super) trouble: Option<Trouble>,
    /// The writes of the status that failed.
    pub(super) status_outage: Backoff,
    /// True if the cache was compared with the API server.
    pub(super) is_verified: bool,
    /// True if the cache does not show the sandboxes that this process creates.
    pub(super) is_out_of_scope: bool,
    /// The set as the last write of its status returned it. The cache may be older.
    pub(super) written: Option<Arc<SandboxSet>>,
    /// When the status was written, or when this process began with the set.
    pub(super) written_at: Instant,
    /// When the last pass ended.
    pub(super) passed_at: Option<Instant>,
    /// When to ask again what became of creations whose answers were lost.
    pub(super) settle_at: Option<Instant>,
    /// Number of requests for members that failed or were refused.
    pub(super) failures: u64,
    /// The SandboxTemplate of the set, if the cache does not show it because of its labels.
    pub(super) unselected: Option<Unselected>,
    batch: usize,
    own: Option<Computed>,
    /// The name and the hash of the SandboxTemplate as this process has seen it first.
    adopted: Option<(String, String)>,
    /// The locks of members, by UID.
    locks: HashMap<String, Lock>,
    /// The refusals to lock or delete a member, by UID. They say nothing about the other members.
    deletion_refusals: HashMap<String, Backoff>,
    /// The UIDs of members that were deleted.
    deleted: HashSet<String>,
    /// The versions of members that have changed since, by UID. Only a newer version can be locked.
    outdated: HashMap<String, String>,
}

impl Memory {
    /// Creates the memory of a set that this process has not seen.
    pub(super) fn new(set: &SandboxSet, now: Instant) -> Self {
        let failing = set.condition(CONDITION_PROGRESSING).filter(|condition| {
            condition.reason == REASON_MEMBERS_KEEP_FAILING
                && condition.observed_generation == set.metadata.generation.map(Into::into)
        });
        let last = |message: &str| message.strip_prefix(MEMBERS_FAIL).unwrap_or(message).to_owned();
        let budget = failing.map(|condition| FailureBudget::failing(now, &last(&condition.message)));
        Self {
            uid: set.metadata.uid.clone().unwrap_or_default(),
            creations: Creations::default(),
            budget: budget.unwrap_or_default(),
            refusals: Backoff::default(),
            outage: Backoff::new(FIRST_OUTAGE_DELAY, LONGEST_OUTAGE_DELAY),
            trouble: None,
            status_outage: Backoff::new(FIRST_OUTAGE_DELAY, LONGEST_OUTAGE_DELAY),
            is_verified: false,
            is_out_of_scope: false,
            written: None,
            written_at: now,
            passed_at: None,
            settle_at: None,
            failures: 0,
            unselected: None,
            batch: FIRST_BATCH,
            own: None,
            adopted: None,
            locks: HashMap::new(),
            deletion_refusals: HashMap::new(),
            deleted: HashSet::new(),
            outdated: HashMap::new(),
        }
    }

    /// Returns true if this is the memory of the set, and not of an earlier set of the same name.
    pub(super) fn is_of(&self, set: &SandboxSet) -> bool {
        set.metadata.uid.as_deref() == Some(&self.uid)
    }

    /// Returns the revision of the set. `members` are its sandboxes.
    pub(super) fn revision<'a>(
        &mut self,
        set: &SandboxSet,
        template: &Template,
        members: impl IntoIterator<Item = &'a Sandbox>,
    ) -> Arc<str> {
        revision::current(set, template, self.own(set, template), members)
    }

    /// Returns the own revision, computed once for each generation of the set and version of its SandboxTemplate. A new
    /// revision ends the back-off of refused creations.
    fn own(&mut self, set: &SandboxSet, template: &Template) -> &Own {
        let referred = template.referred().map(|template| &template.metadata);
        let version = referred.map(|metadata| (metadata.uid.clone(), metadata.resource_version.clone()));
        let generation = set.metadata.generation;
        let known = self.own.take();
        let computed = match known {
            Some(known) if known.generation == generation && known.template == version => known,
            known => {
                let revision = revision::own(set, template);
                if known.is_some_and(|known| known.own.revision != revision) {
                    self.refusals.reset();
                    self.is_out_of_scope = false;
                }
                let own = Own { revision, is_edited: self.is_edited(template) };
                Computed { generation, template: version, own }
            }
        };
        &self.own.insert(computed).own
    }

    /// Returns true if the SandboxTemplate was edited since this process has seen it first.
    fn is_edited(&mut self, template: &Template) -> bool {
        let Some(template) = template.referred() else { return false };
        let (name, hash) = (template.name_or_empty(), revision::of_template(template));
        match &self.adopted {
            Some((known, adopted)) if known == name => *adopted != hash,
            _ => {
                self.adopted = Some((name.to_owned(), hash));
                false
            }
        }
    }

    /// Classifies the sandboxes that the cache shows as controlled by the set, in the light of the own writes.
    pub(super) fn members(
        &mut self,
        sandboxes: Vec<Arc<Sandbox>>,
        revision: &str,
        (now, wall): (Instant, Timestamp),
    ) -> Vec<Member> {
        let mut members: Vec<_> =
            sandboxes.into_iter().map(|sandbox| Member::new(sandbox, revision, wall)).collect();
        for member in &mut members {
            self.forget_removed_lock(member);
            if self.deleted.contains(member.uid()) {
                member.standing = Standing::Gone;
            } else if self.locks.contains_key(member.uid()) && member.is_counted() {
                // The cache does not show the own lock yet.
                member.standing = Standing::Locked;
            }
            let version = member.sandbox.metadata.resource_version.as_ref();
            let is_outdated = version.is_some() && self.outdated.get(member.uid()) == version;
            member.is_protected |= is_outdated;
            if member.standing == Standing::Locked {
                let left = || LOCK_EXPIRES.saturating_sub(age(&member.sandbox, wall));
                let new = || Lock { due: now + left(), version: version_of(&*member.sandbox) };
                let lock = self.locks.entry(member.uid().to_owned()).or_insert_with(new);
                member.due = Some(lock.due).filter(|_| !is_outdated);
            }
            if member.standing != Standing::Gone {
                member.refusal = self.deletion_refusals.get(member.uid()).and_then(|refusals| {
                    let retry_at = refusals.waits_until(now)?;
                    Some(Refusal { message: refusals.message().to_owned(), retry_at })
                });
                member.is_protected |= member.refusal.is_some();
            }
        }
        self.forget_all_but(&members);
        members
    }

    /// Forgets a lock that the cache has passed and does not show: somebody has removed it to keep the member.
    fn forget_removed_lock(&mut self, member: &Member) {
        let shown = version_of(&*member.sandbox);
        let is_removed = |lock: &Lock| {
            !is_locked_by_set(&member.sandbox) && lock.version.is_some() && lock.version <= shown
        };
        if self.locks.get(member.uid()).is_some_and(is_removed) {
            self.locks.remove(member.uid());
        }
    }

    /// Forgets the own writes of sandboxes that are no members any more.
    fn forget_all_but(&mut self, members: &[Member]) {
        let is_empty = self.locks.is_empty() && self.deleted.is_empty() && self.outdated.is_empty();
        if is_empty && self.deletion_refusals.is_empty() {
            return;
        }
        let uids: HashSet<&str> = members.iter().map(Member::uid).collect();
        self.locks.retain(|uid, _| uids.contains(uid.as_str()));
        self.deleted.retain(|uid| uids.contains(uid.as_str()));
        self.outdated.retain(|uid, _| uids.contains(uid.as_str()));
        self.deletion_refusals.retain(|uid, _| uids.contains(uid.as_str()));
    }

    /// Records a request that failed because of the API server or the network: nothing is created or deleted until the
    /// delay is over.
    pub(super) fn failed(&mut self, attempted: Attempted, error: &(dyn std::error::Error + 'static)) {
        let message = logged(error);
        self.trouble.get_or_insert_with(|| Trouble { attempted, message: message.clone() });
        self.outage.failed(Instant::now(), message);
        self.failures += 1;
        // When the delay is over, the first request is for what is not known.
        self.settle_at = None;
    }

    /// Records a creation that the API server has refused.
    pub(super) fn refused(&mut self, message: String) {
        self.refusals.failed(Instant::now(), message);
        self.failures += 1;
    }

    /// Records that the API server has refused to lock or delete a member, which is left alone for a while.
    pub(super) fn deletion_refused(&mut self, sandbox: &Sandbox, now: Instant, message: String) {
        tracing::warn!(sandbox = sandbox.name_or_empty(), error = message, "a deletion was refused");
        self.deletion_refusals.entry(uid(sandbox)).or_default().failed(now, message);
        self.failures += 1;
    }

    /// Records a write of the status that failed.
    pub(super) fn status_failed(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.status_outage.failed(Instant::now(), logged(error));
    }

    /// Returns true if a request has failed so short ago that no member may be created or deleted.
    pub(super) fn is_held(&self) -> bool {
        self.outage.waits_until(Instant::now()).is_some()
    }

    /// Returns the time until what has failed is tried again; `None` if nothing has failed.
    pub(super) fn retry_in(&self) -> Option<Duration> {
        self.trouble.as_ref().map(|_| self.outage.remaining(Instant::now()))
    }

    /// Records that a member is locked by this process, which may delete the member at once. `locked` is the member as the
    /// lock has left it.
    pub(super) fn locked(&mut self, locked: &Sandbox, now: Instant) {
        self.locks.insert(uid(locked), Lock { due: now, version: version_of(locked) });
    }

    /// Records that a member was deleted.
    pub(super) fn deleted(&mut self, sandbox: &Sandbox) {
        self.locks.remove(&uid(sandbox));
        self.deletion_refusals.remove(&uid(sandbox));
        self.deleted.insert(uid(sandbox));
    }

    /// Records that a member has changed since the cache has seen it.
    pub(super) fn outdated(&mut self, sandbox: &Sandbox) {
        let version = sandbox.metadata.resource_version.clone().unwrap_or_default();
        self.outdated.insert(uid(sandbox), version);
    }

    /// Returns the number of creations of the next batch, of those that are missing.
    pub(super) fn batch(&self, missing: usize) -> usize {
        missing.min(self.batch)
    }

    /// Doubles the batch after one that succeeded.
    pub(super) fn grow_batch(&mut self) {
        self.batch = (self.batch * 2).min(LARGEST_BATCH);
    }

    /// Begins with the smallest batch again.
    pub(super) fn reset_batch(&mut self) {
        self.batch = FIRST_BATCH;
    }
}

/// Logs an error, and returns it with its causes.
fn logged(error: &(dyn std::error::Error + 'static)) -> String {
    let message = shared_cache::error_text(error);
    tracing::warn!(error = message, "a request failed");
    message
}

fn uid(sandbox: &Sandbox) -> String {
    sandbox.metadata.uid.clone().unwrap_or_default()
}

/// Returns the age of a lock; zero if its time is unknown or in the future.
fn age(sandbox: &Sandbox, wall: Timestamp) -> Duration {
    let locked_at = annotation(&sandbox.metadata, ANNOTATION_CLAIM_TIMESTAMP);
    let locked_at = locked_at.and_then(|text| text.parse::<Timestamp>().ok());
    locked_at.and_then(|at| Duration::try_from(wall.duration_since(at)).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{SandboxChanges as _, member, set, wall};
    use super::*;
    use crate::api::v1alpha1::OWNER_SCALE_DOWN;

    fn version(mut sandbox: Sandbox, version: u64) -> Sandbox {
        sandbox.metadata.resource_version = Some(version.to_string());
        sandbox
    }

    fn ready(name: &str) -> Sandbox {
        member(&set(9, "i"), name).ready()
    }

    /// The only member, as the cache shows it.
    fn seen(memory: &mut Memory, sandbox: Sandbox, now: Instant) -> Member {
        memory.members(vec![Arc::new(sandbox)], "r", (now, wall())).remove(0)
    }

    #[tokio::test]
    async fn lp2_a_lock_that_somebody_has_removed_is_forgotten() {
        let now = Instant::now();
        let locked = || ready("a").locked_by(OWNER_SCALE_DOWN);
        // A lock of another process.
        let mut memory = Memory::new(&set(9, "i"), now);
        let member = seen(&mut memory, version(locked(), 5), now);
        assert_eq!((member.standing, member.due), (Standing::Locked, Some(now + LOCK_EXPIRES)));
        let member = seen(&mut memory, version(ready("a"), 6), now);
        assert_eq!((member.standing, member.due), (Standing::Available, None));
        // An own lock, which the cache shows late.
        memory.locked(&version(locked(), 8), now);
        let member = seen(&mut memory, version(ready("a"), 7), now);
        assert_eq!((member.standing, member.due), (Standing::Locked, Some(now)));
        let member = seen(&mut memory, version(ready("a"), 9), now);
        assert_eq!((member.standing, member.due), (Standing::Available, None));
    }

    #[tokio::test]
    async fn lp2_a_locked_member_that_has_changed_waits_for_the_cache() {
        let now = Instant::now();
        let mut memory = Memory::new(&set(9, "i"), now);
        let locked = |number| version(ready("a").locked_by(OWNER_SCALE_DOWN), number);
        memory.locked(&locked(5), now);
        memory.outdated(&locked(5));
        assert_eq!(seen(&mut memory, locked(5), now).due, None);
        assert_eq!(seen(&mut memory, locked(6), now).due, Some(now));
    }

    #[tokio::test(start_paused = true)]
    async fn lc7_a_refused_deletion_leaves_one_member_alone_and_is_forgotten_with_it() {
        let now = Instant::now();
        let mut memory = Memory::new(&set(9, "i"), now);
        for seconds in [1, 2, 4] {
            let now = Instant::now();
            memory.deletion_refused(&ready("a"), now, "no".to_owned());
            assert!(!memory.is_held(), "the others are not concerned");
            let members = vec![Arc::new(ready("a")), Arc::new(ready("b"))];
            let [a, b]: [Member; 2] = memory.members(members, "r", (now, wall())).try_into().unwrap();
            let retry_at = now + Duration::from_secs(seconds);
            assert_eq!(
                a.refusal.as_ref().map(|refusal| (&*refusal.message, refusal.retry_at)),
                Some(("no", retry_at))
            );
            assert!(a.is_protected && !b.is_protected && b.refusal.is_none());
            assert!(!seen(&mut memory, ready("a"), retry_at).is_protected);
            tokio::time::advance(Duration::from_secs(seconds)).await;
        }
        memory.members(Vec::new(), "r", (now, wall()));
        assert!(memory.deletion_refusals.is_empty());
    }
}
