//! The status of a Pod in each of its states. Pure functions: each returns the Pod with another status.
//!
//! The same state once more gives the same status, with the times at which it was reached.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::container::{self, Target};
use super::outcome::PodOutcome;
use crate::clock::whole_seconds;
use crate::object::child_mut;

/// The addresses of a Pod and of its node.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) pod: String,
    pub(super) host: String,
}

/// The Pod on this node, as the scheduler leaves it.
pub(super) fn bound(mut pod: Value, node: &str, now: Timestamp) -> Value {
    pod["spec"]["nodeName"] = json!(node);
    set_condition(&mut pod, "PodScheduled", "True", None, now);
    pod
}

/// The Pod without a node, and why it has none.
pub(super) fn not_scheduled(mut pod: Value, reason: &str, message: &str, now: Timestamp) -> Value {
    set_condition(&mut pod, "PodScheduled", "False", Some((reason, message)), now);
    pod
}

/// The Pod on a node that is silent.
pub(super) fn lost(mut pod: Value, now: Timestamp) -> Value {
    if condition(&pod, "Ready").is_some_and(|ready| ready["status"] == "True") {
        set_condition(&mut pod, "Ready", "False", None, now);
    }
    pod
}

/// The Pod after its containers have ended because it is deleted.
pub(super) fn ended(pod: Value, now: Timestamp) -> Value {
    let runs = pod["status"]["containerStatuses"].is_array();
    if runs { finished(pod, 0, now) } else { pod }
}

/// The Pod after a restart of some of its containers.
pub(super) fn restarted(mut pod: Value, which: impl Fn(&Value, &Value) -> bool, now: Timestamp) -> Value {
    let time = whole_seconds(now);
    set_containers(&mut pod, |pod, container, old| {
        if which(container, old) { container::restarted(pod, container, old, &time) } else { old.clone() }
    });
    set_readiness(&mut pod, now);
    pod
}

/// The Pod on its node with this outcome.
pub(super) fn reached(mut pod: Value, outcome: &PodOutcome, addresses: &Addresses, now: Timestamp) -> Value {
    begin(&mut pod, outcome, addresses, now);
    let target = match outcome {
        PodOutcome::ReadyAfter(_) | PodOutcome::Unschedulable { .. } => Target::Running { ready: true },
        PodOutcome::Unready => Target::Running { ready: false },
        PodOutcome::Starting => Target::Waiting { reason: "ContainerCreating", message: "" },
        PodOutcome::Waiting { reason, message } => Target::Waiting { reason, message },
        PodOutcome::CrashLoop => Target::Crashing,
        PodOutcome::Succeeded => return finished(pod, 0, now),
        PodOutcome::Failed { reason, message } => {
            let mut pod = finished(pod, 1, now);
            for (field, text) in [("reason", reason), ("message", message)] {
                if !text.is_empty() {
                    pod["status"][field] = json!(text);
                }
            }
            return pod;
        }
    };
    let runs = !matches!(target, Target::Waiting { .. }) || pod["status"]["phase"] == "Running";
    pod["status"]["phase"] = json!(if runs { "Running" } else { "Pending" });
    let time = whole_seconds(now);
    set_containers(&mut pod, |pod, container, old| container::status(pod, container, old, target, &time));
    set_readiness(&mut pod, now);
    pod
}

/// Sets what a kubelet sets when it accepts a Pod. A Pod whose containers are being created has no address yet.
fn begin(pod: &mut Value, outcome: &PodOutcome, addresses: &Addresses, now: Timestamp) {
    set_condition(pod, "PodScheduled", "True", None, now);
    set_condition(pod, "Initialized", "True", None, now);
    let on_host = pod["spec"]["hostNetwork"] == true;
    let status = child_mut(pod, "status");
    status.entry("startTime").or_insert_with(|| json!(whole_seconds(now)));
    let host = &addresses.host;
    status.entry("hostIP").or_insert_with(|| json!(host));
    status.entry("hostIPs").or_insert_with(|| json!([{"ip": host}]));
    if *outcome != PodOutcome::Starting {
        let address = if on_host { host } else { &addresses.pod };
        status.entry("podIP").or_insert_with(|| json!(address));
        status.entry("podIPs").or_insert_with(|| json!([{"ip": address}]));
        set_condition(pod, "PodReadyToStartContainers", "True", None, now);
    }
}

fn finished(mut pod: Value, exit_code: i64, now: Timestamp) -> Value {
    let time = whole_seconds(now);
    let target = Target::Ended { exit_code };
    set_containers(&mut pod, |pod, container, old| container::status(pod, container, old, target, &time));
    let (phase, reason) =
        if exit_code == 0 { ("Succeeded", "PodCompleted") } else { ("Failed", "PodFailed") };
    pod["status"]["phase"] = json!(phase);
    set_condition(&mut pod, "ContainersReady", "False", Some((reason, "")), now);
    set_condition(&mut pod, "Ready", "False", Some((reason, "")), now);
    pod
}

/// Sets the status of each container. Containers that initialise a Pod have ended well before, or run beside the others.
fn set_containers(pod: &mut Value, status: impl Fn(&Value, &Value, &Value) -> Value) {
    let time = pod["status"]["startTime"].as_str().unwrap_or_default().to_owned();
    let of = |list: &str, statuses: &str, status: &dyn Fn(&Value, &Value) -> Value| -> Vec<Value> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.map(|container| status(container, found(&pod["status"][statuses], container))).collect()
    };
    let init = of("initContainers", "initContainerStatuses", &|container, old| {
        if container["restartPolicy"] == "Always" {
            return status(pod, container, old);
        }
        let mut ended = container::status(pod, container, old, Target::Ended { exit_code: 0 }, &time);
        (ended["ready"], ended["started"]) = (json!(true), json!(false));
        ended
    });
    let main = of("containers", "containerStatuses", &|container, old| status(pod, container, old));
    let fields = child_mut(pod, "status");
    for (field, statuses) in [("initContainerStatuses", init), ("containerStatuses", main)] {
        if !statuses.is_empty() {
            fields.insert(field.to_owned(), statuses.into());
        }
    }
}

/// The status of a container in a list of them.
pub(super) fn found<'a>(statuses: &'a Value, container: &Value) -> &'a Value {
    let mut all = statuses.as_array().into_iter().flatten();
    all.find(|status| status["name"] == container["name"]).unwrap_or(&Value::Null)
}

/// Sets the conditions that follow from the containers and from the readiness gates.
fn set_readiness(pod: &mut Value, now: Timestamp) {
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let unready: Vec<_> = statuses
        .filter(|status| status["ready"] != true)
        .filter_map(|status| status["name"].as_str())
        .collect();
    let why = format!("containers with unready status: [{}]", unready.join(" "));
    let problem = (!unready.is_empty()).then_some(("ContainersNotReady", &*why));
    let gates = pod["spec"]["readinessGates"].as_array().into_iter().flatten();
    let mut gates = gates.filter_map(|gate| gate["conditionType"].as_str());
    let closed = gates.find(|gate| condition(pod, gate).is_none_or(|found| found["status"] != "True"));
    let closed = closed.map(|gate| format!("the status of pod readiness gate {gate:?} is not \"True\""));
    let of_gate = closed.as_deref().map(|why| ("ReadinessGatesNotReady", why));
    for (kind, problem) in [("ContainersReady", problem), ("Ready", problem.or(of_gate))] {
        set_condition(pod, kind, if problem.is_none() { "True" } else { "False" }, problem, now);
    }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Sets a condition, with reason and message. Its time changes only with its status.
fn set_condition(pod: &mut Value, kind: &str, status: &str, why: Option<(&str, &str)>, now: Timestamp) {
    let before = condition(pod, kind).filter(|condition| condition["status"] == status);
    let since = before.and_then(|condition| condition["lastTransitionTime"].as_str());
    let since = since.map_or_else(|| whole_seconds(now), str::to_owned);
    let mut new = json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since});
    if let Some((reason, message)) = why {
        new["reason"] = json!(reason);
        if !message.is_empty() {
            new["message"] = json!(message);
        }
    }
    let all = child_mut(pod, "status").entry("conditions").or_insert_with(|| json!([]));
    let Some(all) = all.as_array_mut() else { return };
    match all.iter_mut().find(|condition| condition["type"] == kind) {
        Some(found) => *found = new,
        None => all.push(new),
    }
}
