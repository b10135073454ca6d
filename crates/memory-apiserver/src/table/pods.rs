//! The columns and cells of Pods. One word sums up the phase, the containers and the deletion.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age::{parse, since};
use super::cells::{created, list, or, text, text_or};
use super::column::Column;
use crate::object::{self, is_deleting};

const NONE: &str = "<none>";

pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text("Ready", "How many of its containers are ready."),
        Column::text("Status", "The state that its containers are in."),
        Column::text("Restarts", "How often its containers were restarted, and how long ago the last time."),
        Column::age(),
        Column::wide("IP", "Its address."),
        Column::wide("Node", "The node that it runs on."),
        Column::wide("Nominated Node", "The node that it runs on once there is room."),
        Column::wide("Readiness Gates", "How many of its further conditions for readiness are met."),
    ]
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let Summary { status, ready, restarts } = Summary::of(pod);
    let total = list(pod, "/spec/containers").len() + sidecars(pod).count();
    vec![
        json!(object::name(pod)),
        json!(format!("{ready}/{total}")),
        json!(final_status(pod, status)),
        json!(restarts.text(now)),
        created(pod, now),
        json!(or(address(pod), NONE)),
        json!(text_or(pod, "/spec/nodeName", NONE)),
        json!(text_or(pod, "/status/nominatedNodeName", NONE)),
        json!(gates(pod)),
    ]
}

/// The conditions of the row, if the Pod has ended.
pub(super) fn row_conditions(pod: &Value) -> Option<Value> {
    let phase = text(pod, "/status/phase");
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": phase, "message": message}]))
}

/// A summary of the containers.
struct Summary {
    status: String,
    ready: usize,
    restarts: Restarts,
}

/// The restarts of containers.
#[derive(Clone, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += container["restartCount"].as_i64().unwrap_or_default();
        let ended = text(container, "/lastState/terminated/finishedAt");
        self.last = self.last.max(parse(ended));
    }

    fn text(&self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => format!("{} ({} ago)", self.count, since(last, now)),
            _ => self.count.to_string(),
        }
    }
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let scheduling_gated = list(pod, "/status/conditions")
            .iter()
            .any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated");
        let status = match text(pod, "/status/reason") {
            _ if scheduling_gated => "SchedulingGated",
            "" => text(pod, "/status/phase"),
            reason => reason,
        };
        let mut summary = Self { status: status.to_owned(), ready: 0, restarts: Restarts::default() };
        let of_sidecars = summary.add_init_containers(pod);
        if let Some(restarts) = of_sidecars {
            summary.restarts = restarts;
            summary.add_containers(pod);
        }
        summary
    }

    /// Adds the init containers up to the first that has not finished. Returns the restarts of sidecars alone, unless
    /// the Pod is still being initialized.
    fn add_init_containers(&mut self, pod: &Value) -> Option<Restarts> {
        let mut of_sidecars = Restarts::default();
        let total = list(pod, "/spec/initContainers").len();
        for (position, container) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            let is_sidecar = sidecars(pod).any(|sidecar| sidecar["name"] == container["name"]);
            self.restarts.add(container);
            if is_sidecar {
                of_sidecars.add(container);
            }
            let ended = &container["state"]["terminated"];
            if ended.is_object() && ended["exitCode"].as_i64().unwrap_or_default() == 0 {
                continue;
            }
            if is_sidecar && container["started"] == true {
                self.ready += usize::from(container["ready"] == true);
                continue;
            }
            let waiting = text(container, "/state/waiting/reason");
            self.status = match ended {
                Value::Object(_) => format!("Init:{}", why_ended(ended)),
                _ if !["", "PodInitializing"].contains(&waiting) => format!("Init:{waiting}"),
                _ => format!("Init:{position}/{total}"),
            };
            return has_condition(pod, "Initialized").then_some(of_sidecars);
        }
        Some(of_sidecars)
    }

    /// Adds the containers. The first container that waits or has ended decides the status.
    fn add_containers(&mut self, pod: &Value) {
        let mut runs = false;
        let mut failure = None;
        for container in list(pod, "/status/containerStatuses").iter().rev() {
            self.restarts.add(container);
            let state = &container["state"];
            let ended = &state["terminated"];
            let waiting = text(state, "/waiting/reason");
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.status);
            } else if ended.is_object() {
                self.status = why_ended(ended);
                if ended["exitCode"].as_i64().unwrap_or_default() != 0 {
                    failure = Some(self.status.clone());
                }
            } else if container["ready"] == true && state["running"].is_object() {
                runs = true;
                self.ready += 1;
            }
        }
        if self.status == "Completed" {
            self.status = match failure {
                _ if runs && has_condition(pod, "Ready") => "Running".to_owned(),
                Some(failure) => failure,
                None if runs => "NotReady".to_owned(),
                None => return,
            };
        }
    }
}

fn sidecars(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/spec/initContainers").iter().filter(|container| container["restartPolicy"] == "Always")
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    list(pod, "/status/conditions")
        .iter()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn why_ended(terminated: &Value) -> String {
    let number = |field: &str| terminated[field].as_i64().unwrap_or_default();
    match (text(terminated, "/reason"), number("signal")) {
        ("", 0) => format!("ExitCode:{}", number("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn final_status(pod: &Value, status: String) -> String {
    let ended = ["Failed", "Succeeded"].contains(&text(pod, "/status/phase"));
    match text(pod, "/status/reason") {
        _ if !is_deleting(pod) => status,
        "NodeLost" => "Unknown".to_owned(),
        _ if ended => status,
        _ => "Terminating".to_owned(),
    }
}

fn address(pod: &Value) -> &str {
    match text(pod, "/status/podIPs/0/ip") {
        "" => text(pod, "/status/podIP"),
        first => first,
    }
}

fn gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    let met = gates.iter().filter(|gate| has_condition(pod, text(gate, "/conditionType")));
    if gates.is_empty() { NONE.to_owned() } else { format!("{}/{}", met.count(), gates.len()) }
}
