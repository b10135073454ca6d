//! [`PodState`]: what the status of a pod means for its sandbox (LS1).

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::api::v1alpha1::{REASON_POD_READY, REASON_START_CONTAINER_FAILED};

/// The reasons for which a container waits that do not end by waiting alone.
const FAILURES: [&str; 5] = [
    "CrashLoopBackOff",
    "ErrImagePull",
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "InvalidImageName",
];

/// Reason of the condition Ready: no node takes the pod.
pub(super) const REASON_UNSCHEDULABLE: &str = "Unschedulable";

/// What the status of a pod means for its sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PodState {
    /// Running and ready.
    Ready,
    /// Not ready, with the reason and the message of the condition Ready.
    NotReady { reason: &'static str, message: String },
    /// All containers have ended well.
    Succeeded(String),
    /// The pod has ended with an error.
    Failed(String),
}

impl PodState {
    /// Returns the state of a pod that is not being deleted.
    pub(super) fn of(pod: &Pod) -> Self {
        let empty = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&empty);
        let phase = status.phase.as_deref().unwrap_or_default();
        match phase {
            "Succeeded" => return Self::Succeeded(end_message(status)),
            "Failed" => return Self::Failed(end_message(status)),
            _ => {}
        }
        if let Some(message) = containers(status).find_map(failure) {
            return Self::NotReady { reason: REASON_START_CONTAINER_FAILED, message };
        }
        let condition = |type_: &str| status.conditions.iter().flatten().find(|known| known.type_ == type_);
        let message = |message: &Option<String>| message.clone().unwrap_or_default();
        if let Some(scheduled) = condition("PodScheduled")
            && scheduled.status == "False"
            && scheduled.reason.as_deref() == Some("Unschedulable")
        {
            return Self::NotReady { reason: REASON_UNSCHEDULABLE, message: message(&scheduled.message) };
        }
        match condition("Ready") {
            Some(ready) if ready.status == "True" && phase == "Running" => Self::Ready,
            // While the pod starts, the message counts the containers, and each of its versions would be a write.
            Some(ready) if phase == "Running" => {
                Self::NotReady { reason: REASON_POD_READY, message: message(&ready.message) }
            }
            _ => Self::NotReady { reason: REASON_POD_READY, message: String::new() },
        }
    }
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
}

/// Returns the message of a container that cannot start.
fn failure(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| FAILURES.contains(reason))?;
    let message = waiting.message.as_deref().filter(|message| !message.is_empty());
    Some(message.unwrap_or(reason).to_owned())
}

/// Says how a pod has ended: in its own words, else in those of the first container that ended with an error.
fn end_message(status: &PodStatus) -> String {
    let own = [&status.message, &status.reason].into_iter().flatten().find(|text| !text.is_empty());
    let ended = |container: &ContainerStatus| {
        let terminated =
            container.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        let texts = [&terminated.message, &terminated.reason].into_iter().flatten();
        let detail = texts.into_iter().find(|text| !text.is_empty()).map_or("no message", String::as_str);
        Some(format!("container {} exited with code {}: {detail}", container.name, terminated.exit_code))
    };
    own.cloned().or_else(|| containers(status).find_map(ended)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn state(status: Value) -> PodState {
        let mut pod = json!({"metadata": {}});
        pod["status"] = status;
        PodState::of(&serde_json::from_value(pod).unwrap())
    }

    fn not_ready(reason: &'static str, message: &str) -> PodState {
        PodState::NotReady { reason, message: message.into() }
    }

    #[test]
    fn ls1_only_a_running_pod_with_the_condition_ready_is_ready() {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        assert_eq!(state(json!({"phase": "Running", "conditions": ready})), PodState::Ready);
        assert_eq!(state(json!({"phase": "Pending", "conditions": ready})), not_ready("PodReady", ""));
        assert_eq!(state(json!({"phase": "Running"})), not_ready("PodReady", ""));
        let unready = json!([{"type": "Ready", "status": "False", "message": "not yet"}]);
        assert_eq!(
            state(json!({"phase": "Running", "conditions": unready})),
            not_ready("PodReady", "not yet")
        );
        assert_eq!(state(json!({"phase": "Pending", "conditions": unready})), not_ready("PodReady", ""));
        assert_eq!(state(json!(null)), not_ready("PodReady", ""));
    }

    #[test]
    fn ls1_a_container_that_cannot_start_is_shown_with_its_message() {
        for reason in FAILURES {
            let waiting = json!({"name": "a", "state": {"waiting": {"reason": reason, "message": "m"}}});
            for list in ["containerStatuses", "initContainerStatuses"] {
                let status = json!({
                    "phase": "Running", list: [waiting], "conditions": [{"type": "Ready", "status": "True"}],
                });
                assert_eq!(state(status), not_ready("StartContainerFailed", "m"));
            }
        }
        let silent = json!([{"name": "a", "state": {"waiting": {"reason": "ErrImagePull"}}}]);
        assert_eq!(
            state(json!({"containerStatuses": silent})),
            not_ready("StartContainerFailed", "ErrImagePull")
        );
        let creating = json!([{"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}}]);
        assert_eq!(state(json!({"containerStatuses": creating})), not_ready("PodReady", ""));
    }

    #[test]
    fn ls1_an_ended_pod_says_why_in_its_own_words_or_in_those_of_a_container() {
        assert_eq!(state(json!({"phase": "Succeeded"})), PodState::Succeeded(String::new()));
        let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "out of disk"});
        assert_eq!(state(evicted), PodState::Failed("out of disk".into()));
        assert_eq!(
            state(json!({"phase": "Failed", "reason": "Evicted"})),
            PodState::Failed("Evicted".into())
        );
        let ended =
            |code: i32| json!({"name": "a", "state": {"terminated": {"exitCode": code, "reason": "Error"}}});
        let statuses = json!({"phase": "Failed", "containerStatuses": [ended(0), ended(3)]});
        assert_eq!(state(statuses), PodState::Failed("container a exited with code 3: Error".into()));
    }

    #[test]
    fn lp4_a_pod_without_a_node_is_unschedulable() {
        let condition = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}]);
        assert_eq!(
            state(json!({"phase": "Pending", "conditions": condition})),
            not_ready("Unschedulable", "no node")
        );
    }
}
