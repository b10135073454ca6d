//! [`Progress`]: how far a pod is with an update in place (LS9).

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodCondition, PodStatus, ResourceRequirements,
};

use crate::api::quantity;
use crate::api::v1alpha1::{
    CONDITION_INPLACE_UPDATE, Condition, REASON_INPLACE_UPDATING, REASON_POD_UPDATE_FAILED,
    REASON_RECREATE_NOT_ALLOWED, Sandbox, Time,
};

/// How far a pod is with an update in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The containers have the new images and resources.
    Done,
    /// A container still has an old image, or is being resized.
    Updating,
    /// The node has no room for the new resources now, or has failed to set them. The containers run with the old ones,
    /// and the kubelet tries again.
    Deferred,
    /// The node can never have the new resources, with the message of the kubelet.
    Infeasible(String),
}

/// Returns true if an update in place is under way, or the API server has refused to change the pod, or a change of the
/// template waits for a new pod.
pub(super) fn is_open(sandbox: &Sandbox) -> bool {
    has_reason(sandbox, &[REASON_INPLACE_UPDATING, REASON_POD_UPDATE_FAILED, REASON_RECREATE_NOT_ALLOWED])
}

/// Returns true if the condition `InplaceUpdate` has one of these reasons.
pub(super) fn has_reason(sandbox: &Sandbox, reasons: &[&str]) -> bool {
    let has_reason = |condition: &Condition| reasons.contains(&&*condition.reason);
    sandbox.condition(CONDITION_INPLACE_UPDATE).is_some_and(has_reason)
}

impl Progress {
    /// Returns how far the pod is with the update that a condition is about. Its message names the fields, as
    /// [`Fit::describe`](super::fit::Fit::describe) writes them. Other containers say nothing about the update: a sidecar
    /// that admission has added may show another image for ever.
    pub(super) fn of(pod: &Pod, condition: &Condition) -> Self {
        let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return Self::Updating };
        let is_about = |container: &Container, field: &str| names(condition, &container.name, field);
        let resize = if condition.message.contains("].resources") || names_nothing(condition) {
            self::resize(status)
        } else {
            Self::Done
        };
        if let Self::Infeasible(_) = resize {
            return resize;
        }
        let since = condition.last_transition_time.as_ref().map(Time::timestamp);
        let all = |field: &str, is_done: &dyn Fn(&ContainerStatus, &Container) -> bool| {
            let mut part = spec.containers.iter().filter(|container| is_about(container, field));
            part.all(|container| {
                let mut statuses = status.container_statuses.iter().flatten();
                statuses
                    .find(|status| status.name == container.name)
                    .is_some_and(|status| is_done(status, container))
            })
        };
        match resize {
            _ if !all("image", &|status, container| runs_image(status, container, since)) => Self::Updating,
            // The resources are the old ones for now.
            Self::Deferred => Self::Deferred,
            Self::Done if all("resources", &has_resources) => Self::Done,
            _ => Self::Updating,
        }
    }
}

/// Returns true if a condition is about this field of a container. Other controllers write no fields.
fn names(condition: &Condition, container: &str, field: &str) -> bool {
    names_nothing(condition) || condition.message.contains(&format!("containers[{container}].{field}"))
}

/// Returns true if a condition names no field of a container.
pub(super) fn names_nothing(condition: &Condition) -> bool {
    !condition.message.contains("ontainers[")
}

/// Returns what the kubelet says about a resize.
fn resize(status: &PodStatus) -> Progress {
    let condition = |type_: &str| {
        let mut known = status.conditions.iter().flatten();
        known.find(|known| known.type_ == type_ && known.status == "True")
    };
    let has_reason = |known: &PodCondition, reason: &str| known.reason.as_deref() == Some(reason);
    match (condition("PodResizePending"), condition("PodResizeInProgress")) {
        (Some(pending), _) if has_reason(pending, "Infeasible") => Progress::Infeasible(
            pending.message.clone().unwrap_or_else(|| "the resize is infeasible".to_owned()),
        ),
        (Some(_), _) => Progress::Deferred,
        (None, Some(running)) if has_reason(running, "Error") => Progress::Deferred,
        (None, Some(_)) => Progress::Updating,
        (None, None) => Progress::Done,
    }
}

/// Returns true if a container runs the image of its spec.
fn runs_image(status: &ContainerStatus, container: &Container, since: Option<jiff::Timestamp>) -> bool {
    let wanted = container.image.as_deref().unwrap_or_default();
    let digest = wanted.rsplit_once('@').map(|(_, digest)| digest);
    is_image(&status.image, wanted)
        || digest.is_some_and(|digest| has_digest(&status.image_id, digest))
        || started_after(status, since)
}

/// Returns true if the image in a status is that of a spec. Runtimes add the registry and the tag that are the default.
fn is_image(actual: &str, wanted: &str) -> bool {
    let ends = |wanted: &str| {
        actual == wanted || actual.strip_suffix(wanted).is_some_and(|registry| registry.ends_with('/'))
    };
    ends(wanted) || ends(&format!("{wanted}:latest"))
}

/// Returns true if the id of an image, such as `docker.io/library/busybox@sha256:12ab`, has this digest.
fn has_digest(image_id: &str, digest: &str) -> bool {
    image_id.strip_suffix(digest).is_some_and(|name| name.is_empty() || name.ends_with(['@', '/']))
}

fn started_after(status: &ContainerStatus, since: Option<jiff::Timestamp>) -> bool {
    let running = status.state.as_ref().and_then(|state| state.running.as_ref());
    let started = running.and_then(|running| running.started_at.as_ref()).map(|time| time.0);
    started.zip(since).is_some_and(|(started, since)| started > since)
}

/// Returns true if the kubelet reports the resources of the spec. A kubelet that cannot resize reports none.
fn has_resources(status: &ContainerStatus, container: &Container) -> bool {
    let (Some(actual), Some(wanted)) = (&status.resources, &container.resources) else { return true };
    let part = |of: fn(&ResourceRequirements) -> Option<&Quantities>| {
        let actual = |name: &String| of(actual).and_then(|actual| actual.get(name));
        of(wanted)
            .into_iter()
            .flatten()
            .all(|(name, wanted)| actual(name).is_none_or(|actual| quantity::equal(&actual.0, &wanted.0)))
    };
    part(|resources| resources.requests.as_ref()) && part(|resources| resources.limits.as_ref())
}

type Quantities = std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn progress(fields: &str, containers: &[(Value, Value)], conditions: &Value) -> Progress {
        let (specs, statuses): (Vec<_>, Vec<_>) = containers.iter().cloned().unzip();
        let pod = json!({
            "metadata": {}, "spec": {"containers": specs},
            "status": {"containerStatuses": statuses, "conditions": conditions},
        });
        let condition = json!({
            "type": "InplaceUpdate", "status": "False", "reason": "InplaceUpdating", "message": fields,
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        });
        Progress::of(&serde_json::from_value(pod).unwrap(), &serde_json::from_value(condition).unwrap())
    }

    fn container(name: &str, wanted: &str, actual: &str, id: &str) -> (Value, Value) {
        let status = json!({"name": name, "image": actual, "imageID": id, "ready": true, "restartCount": 0});
        (json!({"name": name, "image": wanted}), status)
    }

    #[test]
    fn ls9_only_the_containers_of_the_update_are_looked_at() {
        let updated = container("a", "i:2", "docker.io/library/i:2", "");
        let sidecar = container("sidecar", "mirror/s@sha256:12", "sha256:99", "sha256:99");
        let none = json!([]);
        let of = |fields: &str| progress(fields, &[updated.clone(), sidecar.clone()], &none);
        assert_eq!(of("containers[a].image"), Progress::Done);
        assert_eq!(of("containers[a].image, containers[sidecar].image"), Progress::Updating);
        assert_eq!(of("of another controller"), Progress::Updating);
        let old = container("a", "i:2", "docker.io/library/i:1", "");
        assert_eq!(progress("containers[a].image", &[old], &none), Progress::Updating);
    }

    #[test]
    fn ls9_an_image_by_digest_is_compared_with_the_id_of_the_image() {
        let wanted = "registry/i@sha256:12ab";
        for (actual, id, expected) in [
            ("sha256:77", "registry/i@sha256:12ab", Progress::Done),
            ("i:1", "docker-pullable://registry/i@sha256:12ab", Progress::Done),
            ("sha256:77", "sha256:12ab", Progress::Done),
            ("i:1", "registry/i@sha256:99", Progress::Updating),
            ("i:1", "registry/i@sha256:0012ab", Progress::Updating),
            ("i:1", "", Progress::Updating),
        ] {
            let of = progress("containers[a].image", &[container("a", wanted, actual, id)], &json!([]));
            assert_eq!(of, expected, "{actual} {id}");
        }
    }

    #[test]
    fn ls9_a_container_that_started_after_the_update_runs_the_new_image() {
        let (spec, mut status) = container("a", "i:2", "sha256:77", "");
        for (started, expected) in
            [("2030-01-01T00:00:01Z", Progress::Done), ("2029-12-31T00:00:00Z", Progress::Updating)]
        {
            status["state"] = json!({"running": {"startedAt": started}});
            assert_eq!(
                progress("containers[a].image", &[(spec.clone(), status.clone())], &json!([])),
                expected
            );
        }
    }

    #[test]
    fn ls9_a_resize_is_done_when_the_kubelet_reports_the_resources() {
        let of = |reported: Value| {
            let (mut spec, mut status) = container("a", "i:1", "i:1", "");
            spec["resources"] = json!({"requests": {"cpu": "1500m", "novel": "1"}, "limits": {"cpu": "2"}});
            status["resources"] = reported;
            progress("containers[a].resources", &[(spec, status)], &json!([]))
        };
        assert_eq!(of(json!({"requests": {"cpu": "1.5"}, "limits": {"cpu": "2"}})), Progress::Done);
        assert_eq!(of(json!(null)), Progress::Done, "an old kubelet");
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), Progress::Updating);
        assert_eq!(of(json!({"requests": {"cpu": "1.5"}, "limits": {"cpu": "1"}})), Progress::Updating);
    }

    #[test]
    fn ls9_the_kubelet_says_why_a_resize_waits() {
        let of = |fields: &str, type_: &str, reason: &str| {
            let condition = json!([{"type": type_, "status": "True", "reason": reason, "message": "why"}]);
            progress(fields, &[container("a", "i:1", "i:1", "")], &condition)
        };
        let resources = "containers[a].resources";
        assert_eq!(of(resources, "PodResizePending", "Infeasible"), Progress::Infeasible("why".into()));
        assert_eq!(of(resources, "PodResizePending", "Deferred"), Progress::Deferred);
        assert_eq!(of(resources, "PodResizeInProgress", ""), Progress::Updating);
        assert_eq!(of(resources, "PodResizeInProgress", "Error"), Progress::Deferred);
        assert_eq!(of("containers[a].image", "PodResizePending", "Infeasible"), Progress::Done);
        let both = "containers[b].image, containers[a].resources";
        assert_eq!(of(both, "PodResizePending", "Deferred"), Progress::Deferred);
        let condition = json!([{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]);
        let old = container("b", "i:2", "i:1", "");
        assert_eq!(progress(both, &[old], &condition), Progress::Updating, "the image comes first");
    }
}
