//! Which members a set takes down, and in which order: for a smaller number of replicas (LP2) and for a new revision (LP5).

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::members::{Counts, Member, Standing};
use crate::api::v1alpha1::{Sandbox, SandboxSet};

/// The share of the replicas that a rollout may make unavailable if the set does not say (LP5).
const DEFAULT_UNAVAILABLE: u64 = 20;

/// Why members are taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The set has more members than replicas.
    ScaleDown,
    /// The members have an old revision.
    Rollout,
}

/// Members to take down: `count` of the candidates, the first ones first. A candidate that somebody has claimed
/// meanwhile is skipped.
#[derive(Clone, Debug)]
pub(super) struct TakeDown {
    pub(super) cause: Cause,
    pub(super) count: usize,
    pub(super) candidates: Vec<Arc<Sandbox>>,
}

impl TakeDown {
    fn new(cause: Cause, count: usize, mut candidates: Vec<&Member>) -> Option<Self> {
        candidates.sort_by_key(|member| order(member));
        let candidates: Vec<_> = candidates.into_iter().map(|member| Arc::clone(&member.sandbox)).collect();
        let count = count.min(candidates.len());
        (count > 0).then_some(Self { cause, count, candidates })
    }
}

/// Old revisions first, then members that are not available, then the youngest.
fn order(member: &Member) -> impl Ord + use<> {
    let created = member.sandbox.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let name = member.sandbox.metadata.name.clone();
    (member.is_updated, member.standing == Standing::Available, Reverse(created), name)
}

/// Returns the members that can be taken down.
fn candidates(members: &[Member]) -> impl Iterator<Item = &Member> {
    members.iter().filter(|member| member.is_counted() && !member.is_protected)
}

/// LP2: the members beyond the replicas.
pub(super) fn surplus(members: &[Member], counts: Counts, replicas: usize) -> Option<TakeDown> {
    let count = counts.total().saturating_sub(replicas);
    if count == 0 {
        return None;
    }
    TakeDown::new(Cause::ScaleDown, count, candidates(members).collect())
}

/// LP5: all members of old revisions that are not available, and as many of the available ones as may be unavailable.
/// `overdue` members are locked and could not be deleted. While there are any, they count as unavailable.
pub(super) fn outdated(
    set: &SandboxSet,
    members: &[Member],
    counts: Counts,
    replicas: usize,
    overdue: usize,
) -> impl Iterator<Item = TakeDown> {
    let old = |standing: Standing| -> Vec<&Member> {
        candidates(members).filter(|member| !member.is_updated && member.standing == standing).collect()
    };
    let (creating, available) = (old(Standing::Creating), old(Standing::Available));
    let unavailable = replicas.saturating_sub(counts.available);
    let most = max_unavailable_of_update(set, replicas).saturating_sub(overdue);
    let most_creating = if overdue > 0 { most } else { creating.len() };
    let most = most.saturating_sub(unavailable);
    [TakeDown::new(Cause::Rollout, most_creating, creating), TakeDown::new(Cause::Rollout, most, available)]
        .into_iter()
        .flatten()
}

/// LP2: the most sandboxes that may be created and not available at one time, while the pool grows. At least one:
/// otherwise the pool could never grow.
pub(super) fn max_unavailable_of_scale(set: &SandboxSet, replicas: usize) -> usize {
    let max = set.spec.scale_strategy.as_ref().and_then(|strategy| strategy.max_unavailable.as_ref());
    max.and_then(|max| resolve(max, replicas)).map_or(usize::MAX, |max| max.max(1))
}

/// LP5: the most replicas that a rollout may make unavailable. With 0, no available sandbox is replaced.
fn max_unavailable_of_update(set: &SandboxSet, replicas: usize) -> usize {
    let max = set.spec.update_strategy.as_ref().and_then(|strategy| strategy.max_unavailable.as_ref());
    max.and_then(|max| resolve(max, replicas)).unwrap_or_else(|| share(DEFAULT_UNAVAILABLE, replicas))
}

/// Returns the number, or the percentage of the replicas, rounded up; `None` for another text.
fn resolve(value: &IntOrString, replicas: usize) -> Option<usize> {
    match value {
        IntOrString::Int(number) => Some(usize::try_from(*number).unwrap_or(0)),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%')?.parse().ok()?;
            Some(share(percent, replicas))
        }
    }
}

fn share(percent: u64, replicas: usize) -> usize {
    let share = (replicas as u64).saturating_mul(percent).div_ceil(100);
    usize::try_from(share).unwrap_or(usize::MAX)
}
