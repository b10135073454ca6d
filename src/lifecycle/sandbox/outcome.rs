//! What several parts of the decision write: the pod of a running sandbox, and the end of a sandbox.

use k8s_openapi::api::core::v1::Pod;

use super::decision::Plan;
use crate::api::v1alpha1::{PodInfo, REASON_POD_READY, SandboxPhase, Symbol};
use crate::lifecycle::events::Reason;

/// Message of a sandbox whose pod has gone without it.
pub(super) const POD_NOT_FOUND: &str = "Pod Not Found";

/// Shows the pod in the status. What others have added to the field stays.
pub(super) fn show_pod(plan: &mut Plan<'_>, pod: &Pod) {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).map(Symbol::from);
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    let info = plan.status.pod_info.clone().unwrap_or_default();
    plan.status.pod_info = Some(PodInfo {
        node_name: node.clone(),
        pod_ip: ip.map(Into::into),
        pod_uid: pod.metadata.uid.as_deref().map(Into::into),
        ..info
    });
    plan.status.node_name = node;
    plan.status.sandbox_ip = ip.map(Into::into);
}

/// LS1: the sandbox has ended with an error. This is final.
pub(super) fn fail(plan: &mut Plan<'_>, message: &str) {
    end(plan, SandboxPhase::Failed, message);
    plan.event(Reason::SandboxFailed, message);
}

/// LS1: the sandbox has ended well. This is final.
pub(super) fn succeed(plan: &mut Plan<'_>, message: &str) {
    end(plan, SandboxPhase::Succeeded, message);
}

fn end(plan: &mut Plan<'_>, phase: SandboxPhase, message: &str) {
    plan.phase(phase);
    plan.not_ready(REASON_POD_READY, message);
    plan.status.message = Some(message.into()).filter(|message: &Symbol| !message.is_empty());
}

/// Returns the UID of an object that the API server has returned.
pub(super) fn uid_of(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}
