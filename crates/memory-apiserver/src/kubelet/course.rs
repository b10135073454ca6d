//! The next step of one Pod. Pure functions.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::outcome::PodOutcome;
use super::status::{self, Addresses, found};
use crate::object;

/// What the kubelet does next with a Pod.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing, until the Pod or an order changes.
    Rest,
    /// Nothing before this time.
    Wait(Instant),
    /// Stores the Pod like this.
    Write(Value),
    /// Stores the Pod like this: containers have started again.
    Restart(Value),
    /// Removes the Pod: its containers have ended.
    Remove,
}

/// What the kubelet knows of a Pod beside its object.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    pub(super) outcome: &'a PodOutcome,
    /// The node for a Pod that has none; `None` if no node works.
    pub(super) free_node: Option<&'a str>,
    /// The state of the node of the Pod.
    pub(super) node: Node,
    pub(super) addresses: &'a Addresses,
    /// When the Pod was seen first, or restarted last.
    pub(super) since: Instant,
    /// When the Pod was first seen to be deleted.
    pub(super) deleted: Option<Instant>,
    pub(super) delay: Duration,
    pub(super) ending: Duration,
    /// Whether a restart of its containers is due.
    pub(super) restart: bool,
    pub(super) now: Instant,
    pub(super) time: Timestamp,
}

/// The state of the node of a Pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Node {
    Works,
    Silent,
    /// The kubelet does not run this node, or the Pod has none.
    Foreign,
}

/// The next step of a Pod.
pub(super) fn next(pod: &Value, situation: &Situation<'_>) -> Step {
    let has_ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let is_deleting = object::is_deleting(pod);
    if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        return if is_deleting || has_ended { Step::Rest } else { schedule(pod, situation) };
    }
    match situation.node {
        Node::Foreign => Step::Rest,
        Node::Silent => changed(pod, status::lost(pod.clone(), situation.time)),
        Node::Works if is_deleting => end(pod, has_ended, situation),
        Node::Works if has_ended => Step::Rest,
        Node::Works => run(pod, situation),
    }
}

fn changed(before: &Value, after: Value) -> Step {
    if *before == after { Step::Rest } else { Step::Write(after) }
}

fn schedule(pod: &Value, situation: &Situation<'_>) -> Step {
    let waits = |reason: &str, message: &str| {
        changed(pod, status::not_scheduled(pod.clone(), reason, message, situation.time))
    };
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return waits("SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates");
    }
    match (situation.outcome, situation.free_node) {
        (PodOutcome::Unschedulable { message }, _) => waits("Unschedulable", message),
        (_, None) => waits("Unschedulable", "no node is available"),
        (_, Some(node)) => Step::Write(status::bound(pod.clone(), node, situation.time)),
    }
}

fn run(pod: &Value, situation: &Situation<'_>) -> Step {
    let runs = |old: &Value| old["state"]["running"].is_object();
    let renewed = |container: &Value, old: &Value| runs(old) && old["image"] != container["image"];
    let restarts = |container: &Value, old: &Value| {
        if situation.restart { runs(old) } else { renewed(container, old) }
    };
    let mut containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    if containers.any(|container| restarts(container, found(&pod["status"]["containerStatuses"], container)))
    {
        return Step::Restart(status::restarted(pod.clone(), restarts, situation.time));
    }
    let delay = match situation.outcome {
        PodOutcome::ReadyAfter(delay) => *delay,
        // It has its node already.
        PodOutcome::Unschedulable { .. } => return Step::Rest,
        _ => situation.delay,
    };
    let due = situation.since + delay;
    if situation.now < due {
        return Step::Wait(due);
    }
    changed(pod, status::reached(pod.clone(), situation.outcome, situation.addresses, situation.time))
}

/// Ends the containers of a Pod that is deleted, and then the Pod.
fn end(pod: &Value, has_ended: bool, situation: &Situation<'_>) -> Step {
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or_default();
    if !has_ended {
        let due =
            situation.deleted.unwrap_or(situation.now) + situation.ending.min(Duration::from_secs(grace));
        if situation.now < due {
            return Step::Wait(due);
        }
        let ended = status::ended(pod.clone(), situation.time);
        if ended != *pod {
            return Step::Write(ended);
        }
    }
    // Once the grace period is over, only finalizers keep the Pod.
    if grace == 0 && !object::finalizers(pod).is_empty() { Step::Rest } else { Step::Remove }
}
