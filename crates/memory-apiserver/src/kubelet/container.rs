//! The status of one container. Pure functions.

use serde_json::{Value, json};

use crate::object;

/// The state that a container reaches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    Running {
        ready: bool,
    },
    Waiting {
        reason: &'a str,
        message: &'a str,
    },
    /// It ended with an error, was restarted, and waits.
    Crashing,
    Ended {
        exit_code: i64,
    },
}

/// The status of a container of `pod` that reaches a state, after the status `old`, which is null at first. The same
/// state once more changes nothing.
pub(super) fn status(pod: &Value, container: &Value, old: &Value, target: Target<'_>, now: &str) -> Value {
    let name = container["name"].as_str().unwrap_or_default();
    let before = &old["state"];
    let (state, last, restarts) = match target {
        Target::Running { .. } => (running(before, now), Value::Null, 0),
        Target::Waiting { reason, message } => (waiting(reason, message), ended_before(before, 0, now), 0),
        Target::Crashing => {
            let pod = object::name(pod);
            let message = format!("back-off 10s restarting failed container={name} pod={pod}");
            let state = waiting("CrashLoopBackOff", &message);
            if *before == state { (state, Value::Null, 0) } else { (state, ended(before, 1, now), 1) }
        }
        Target::Ended { exit_code } => (ended(before, exit_code, now), Value::Null, 0),
    };
    let last = if last.is_null() { old["lastState"].clone() } else { last };
    assemble(pod, container, (state, last), restart_count(old) + restarts, target)
}

/// The status of a running container after a restart: it is not ready yet.
pub(super) fn restarted(pod: &Value, container: &Value, old: &Value, now: &str) -> Value {
    let state = json!({"running": {"startedAt": now}});
    let last = ended(&old["state"], 0, now);
    assemble(pod, container, (state, last), restart_count(old) + 1, Target::Running { ready: false })
}

fn assemble(
    pod: &Value,
    container: &Value,
    (state, last): (Value, Value),
    restarts: i64,
    target: Target<'_>,
) -> Value {
    let name = container["name"].as_str().unwrap_or_default();
    let is_running = matches!(target, Target::Running { .. });
    let mut status = json!({
        "name": name, "image": container["image"], "imageID": "",
        "ready": matches!(target, Target::Running { ready: true }), "started": is_running,
        "restartCount": restarts, "state": state, "lastState": if last.is_null() { json!({}) } else { last },
    });
    if is_running || matches!(target, Target::Ended { .. }) {
        status["imageID"] = container["image"].clone();
        status["containerID"] = json!(format!("memory://{}/{name}/{restarts}", object::uid(pod)));
    }
    if container["resources"].as_object().is_some_and(|resources| !resources.is_empty()) {
        status["resources"] = container["resources"].clone();
        if let requests @ Value::Object(_) = &container["resources"]["requests"] {
            status["allocatedResources"] = requests.clone();
        }
    }
    status
}

fn restart_count(status: &Value) -> i64 {
    status["restartCount"].as_i64().unwrap_or_default()
}

fn running(before: &Value, now: &str) -> Value {
    if before["running"].is_object() { before.clone() } else { json!({"running": {"startedAt": now}}) }
}

fn waiting(reason: &str, message: &str) -> Value {
    if message.is_empty() {
        json!({"waiting": {"reason": reason}})
    } else {
        json!({"waiting": {"reason": reason, "message": message}})
    }
}

/// The state of a container that has ended, now or before.
fn ended(before: &Value, exit_code: i64, now: &str) -> Value {
    if before["terminated"].is_object() {
        return before.clone();
    }
    let started = before["running"]["startedAt"].as_str().unwrap_or(now);
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    json!({"terminated": {
        "exitCode": exit_code, "reason": reason, "startedAt": started, "finishedAt": now,
    }})
}

/// The end of the container that ran until now; null if none did.
fn ended_before(before: &Value, exit_code: i64, now: &str) -> Value {
    if before["running"].is_object() { ended(before, exit_code, now) } else { Value::Null }
}
