//! What a set does next, decided from what is observed (LP1 to LP6). No I/O, and no clock but the given one.
//!
//! Guarantees:
//!
//! - A sandbox that is claimed, or that a claimant has locked, is never taken down.
//! - Members and creations together never exceed the replicas. Members that are being deleted are not counted.
//! - A rollout never makes more replicas unavailable than the set allows.
//! - Applied again and again, the decisions lead to a state in which nothing is left to do.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::failure_budget::{Backoff, FailureBudget};
use super::members::{Counts, Member, Standing, Unseen};
use super::memory::{Attempted, Trouble};
use super::rollout::{self, TakeDown};
use super::status::{self, Progress};
use super::template::Template;
use crate::api::v1alpha1::{Sandbox, SandboxSet, SandboxSetStatus};

/// After this time a set looks again at what should have been seen long before. A watch event normally comes first.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Everything that a decision depends on.
pub(super) struct Observed<'a> {
    /// The set.
    pub(super) set: &'a SandboxSet,
    /// What its members are made of.
    pub(super) template: &'a Template,
    /// The revision of the template.
    pub(super) revision: &'a str,
    /// The sandboxes that the set controls, as the cache shows them. Own deletions that the cache does not show are
    /// [`Standing::Gone`].
    pub(super) members: &'a [Member],
    /// Own creations that the cache does not show.
    pub(super) unseen: Unseen,
    /// The creations that the API server has refused.
    pub(super) refusals: &'a Backoff,
    /// The request that failed because of the API server or the network, if one did when the set was tried last.
    pub(super) trouble: Option<&'a Trouble>,
    /// True if the cache does not show the sandboxes that this set creates.
    pub(super) is_out_of_scope: bool,
    /// For delays.
    pub(super) now: Instant,
    /// For the times that objects speak of.
    pub(super) wall: Timestamp,
}

/// What a set does next.
#[derive(Debug)]
pub(super) struct Decision {
    /// Number of sandboxes to create.
    pub(super) create: usize,
    /// Dead members to delete, each if it has not changed.
    pub(super) bury: Vec<Arc<Sandbox>>,
    /// Members that are locked and only need to be deleted.
    pub(super) finish: Vec<Arc<Sandbox>>,
    /// Members to lock and delete.
    pub(super) take_down: Vec<TakeDown>,
    /// The status that describes what was observed.
    pub(super) status: SandboxSetStatus,
    /// When to decide anew even if nothing changes.
    pub(super) requeue: Option<Duration>,
}

#[cfg(test)]
impl Decision {
    /// Returns true if nothing is to be done but to write the status.
    pub(super) fn is_idle(&self) -> bool {
        self.create == 0 && self.bury.is_empty() && self.finish.is_empty() && self.take_down.is_empty()
    }
}

/// Decides what a set does next, and takes the members into account in its failure budget.
pub(super) fn decide(observed: &Observed<'_>, budget: &mut FailureBudget) -> Decision {
    let Observed { set, revision, members, unseen, now, .. } = *observed;
    budget.observe(revision, members, now);
    let counts = Counts::of(members, unseen);
    let replicas = replicas(set);
    let missing = replicas.map_or(0, |replicas| missing(observed, counts, replicas));
    let create = if observed.refusals.waits_until(now).is_some() {
        0
    } else {
        let allowed = budget.allowed(missing, unseen.updated, now);
        if observed.refusals.is_failing() { allowed.min(1) } else { allowed }
    };
    Decision {
        create,
        bury: sandboxes(members, |member| member.standing == Standing::Dead && !member.is_protected),
        finish: sandboxes(members, |member| member.is_overdue(now) && member.refusal(now).is_none()),
        take_down: replicas.map(|replicas| take_down(observed, counts, replicas)).unwrap_or_default(),
        status: status::next(set, revision, counts, &progress(observed, budget), observed.wall),
        requeue: requeue(observed, budget, missing),
    }
}

/// Returns the desired number of members; `None` if it could not be read, and then nothing is created or taken down.
fn replicas(set: &SandboxSet) -> Option<usize> {
    set.spec.replicas.map(|replicas| usize::try_from(replicas).unwrap_or(0))
}

/// Returns how many sandboxes are missing that may be created at one time.
fn missing(observed: &Observed<'_>, counts: Counts, replicas: usize) -> usize {
    if observed.is_out_of_scope || observed.template.is_absent() {
        return 0;
    }
    let most = rollout::max_unavailable_of_scale(observed.set, replicas).saturating_sub(counts.creating);
    replicas.saturating_sub(counts.total()).min(most)
}

fn sandboxes(members: &[Member], which: impl Fn(&Member) -> bool) -> Vec<Arc<Sandbox>> {
    members.iter().filter(|member| which(member)).map(|member| Arc::clone(&member.sandbox)).collect()
}

fn take_down(observed: &Observed<'_>, counts: Counts, replicas: usize) -> Vec<TakeDown> {
    let members = observed.members;
    if let Some(surplus) = rollout::surplus(members, counts, replicas) {
        return vec![surplus];
    }
    // What could not be created anew is not taken down.
    if observed.is_out_of_scope || observed.template.is_absent() {
        return Vec::new();
    }
    // What could not be deleted runs on beside its replacement, and counts as taken down until it is gone (LP7).
    let overdue = members.iter().filter(|member| member.is_overdue(observed.now)).count();
    rollout::outdated(observed.set, members, counts, replicas, overdue).collect()
}

fn progress(observed: &Observed<'_>, budget: &FailureBudget) -> Progress {
    let old = observed.members.iter().filter(|member| member.is_counted() && !member.is_updated).count();
    if let Template::Absent { reason, message } = observed.template {
        Progress::NoTemplate(reason, message.clone())
    } else if observed.is_out_of_scope {
        Progress::OutOfScope
    } else if observed.refusals.is_failing() {
        Progress::CreateFailed(observed.refusals.message().to_owned())
    } else if let Some(Trouble { attempted, message }) = observed.trouble {
        match attempted {
            Attempted::Creation => Progress::CreateFailed(message.clone()),
            Attempted::Deletion => Progress::DeleteFailed(message.clone()),
        }
    } else if budget.is_failing() {
        Progress::MembersKeepFailing(budget.message().to_owned())
    } else if let Some(message) = refused_deletion(observed) {
        Progress::DeleteFailed(message.to_owned())
    } else if old + observed.unseen.old > 0 {
        Progress::RollingOut(old + observed.unseen.old)
    } else {
        Progress::Steady
    }
}

/// Returns why the API server has refused to lock or delete a member, of the first one by name.
fn refused_deletion<'a>(observed: &Observed<'a>) -> Option<&'a str> {
    let refused = observed.members.iter().filter(|member| member.refusal(observed.now).is_some());
    let first = refused.min_by_key(|member| member.sandbox.name_or_empty())?;
    first.refusal.as_ref().map(|refusal| &*refusal.message)
}

/// LC6: returns the time until the nearest of all timers.
fn requeue(observed: &Observed<'_>, budget: &FailureBudget, missing: usize) -> Option<Duration> {
    let Observed { members, unseen, now, wall, .. } = *observed;
    let retries = [budget.waits_until(now), observed.refusals.waits_until(now)];
    let retries = retries.into_iter().flatten().filter(|_| missing > 0);
    let deletions = members.iter().filter_map(|member| match member.refusal(now) {
        Some(refusal) => Some(refusal.retry_at),
        None => member.due,
    });
    let instants = retries.chain(deletions).map(|at| at.saturating_duration_since(now));
    // A sandbox is dead strictly after its shutdown time.
    let ends = members.iter().filter(|member| member.is_counted()).filter_map(|member| {
        let left = Duration::try_from(member.sandbox.shutdown_at()?.duration_since(wall)).ok()?;
        Some(left + Duration::from_millis(1))
    });
    let unseen = (unseen.updated + unseen.old > 0).then_some(LOOK_AGAIN);
    instants.chain(ends).chain(unseen).min()
}
