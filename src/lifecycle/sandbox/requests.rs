//! The requests for pods and volume claims, each with a deadline and with a UID as precondition.

use std::future::Future;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::decision::PodChange;
use super::fit::ContainerChange;
use crate::lifecycle::requests::{REQUEST_TIMEOUT, is_failed_webhook};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The API server has refused it.
    #[error("{what}: HTTP {}: {}", .status.code, .status.message)]
    Refused {
        /// What was to be done.
        what: String,
        /// The answer.
        status: Box<Status>,
    },
    /// There is no answer, or the API server has failed. The request may have been processed.
    #[error("{what}: {cause}")]
    Unknown {
        /// What was to be done.
        what: String,
        /// The error with its causes.
        cause: String,
    },
}

impl RequestError {
    /// Returns the code of a refusal.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(status.code),
            Self::Unknown { .. } => None,
        }
    }

    /// Returns the answer if the same request would be refused again: others must act first (LC7).
    pub(super) fn refusal(&self) -> Option<&Status> {
        match self {
            Self::Refused { status, .. } if status.code != 409 => Some(status),
            _ => None,
        }
    }

    /// Returns true if an object of the name exists. A quota that changes meanwhile is answered with HTTP 409, too.
    pub(super) fn is_taken_name(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.reason == "AlreadyExists")
    }

    /// Returns true if the API server does not support the change of a pod, or finds it invalid. A missing permission or
    /// an exhausted quota says nothing about the change.
    pub(super) fn rules_out_change(&self) -> bool {
        match self {
            // An old API server has no subresource `resize`. A pod that is gone is named in the answer.
            Self::Refused { status, .. } if status.code == 404 => {
                status.details.as_ref().is_none_or(|details| details.name.is_empty())
            }
            Self::Refused { status, .. } => {
                matches!(status.code, 400 | 405 | 422) && !self.is_about_another_object()
            }
            Self::Unknown { .. } => false,
        }
    }

    /// Returns true if the object of the name has another UID than the patch: it was replaced meanwhile. A deletion with a
    /// UID is then a conflict, but a patch with a UID is invalid.
    pub(super) fn is_about_another_object(&self) -> bool {
        let Self::Refused { status, .. } = self else { return false };
        let mut causes = status.details.iter().flat_map(|details| &details.causes);
        status.code == 409 || (status.code == 422 && causes.any(|cause| cause.field == "metadata.uid"))
    }
}

/// Creates an object from its JSON.
///
/// # Errors
///
/// [`RequestError`].
pub(super) async fn create<K>(client: &Client, object: &Value) -> Result<K, RequestError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let what = format!("creating {} {name}", K::kind(&()));
    let path = K::url_path(&(), object["metadata"]["namespace"].as_str());
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(object.to_string().into_bytes());
    let request = request.map_err(|error| unknown(&what, &error))?;
    send(what, client.request::<K>(request)).await
}

/// Deletes the pod of a UID. Returns it if it goes on to exist for its grace period.
///
/// # Errors
///
/// [`RequestError`], with HTTP 404 or 409 if there is no such pod.
pub(super) async fn delete_pod(
    pods: &Api<Pod>,
    name: &str,
    uid: &str,
    grace: Option<u32>,
) -> Result<Option<Pod>, RequestError> {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams {
        grace_period_seconds: grace,
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    delete(pods, name, &params).await
}

/// Deletes an object. Returns it if it goes on to exist.
///
/// # Errors
///
/// [`RequestError`].
pub(super) async fn delete<K>(
    api: &Api<K>,
    name: &str,
    params: &DeleteParams,
) -> Result<Option<K>, RequestError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let what = format!("deleting {} {name}", K::kind(&()));
    Ok(send(what, api.delete(name, params)).await?.left())
}

/// Changes the pod of a UID.
///
/// # Errors
///
/// [`RequestError`].
pub(super) async fn patch_pod(
    pods: &Api<Pod>,
    name: &str,
    uid: &str,
    change: &PodChange,
) -> Result<Pod, RequestError> {
    let mut patch = json!({
        "metadata": {"uid": uid, "labels": change.labels, "annotations": change.annotations},
    });
    if !change.images.is_empty() {
        patch["spec"] = containers(&change.images, "image");
    }
    let patch = Patch::Strategic(patch);
    send(format!("patching Pod {name}"), pods.patch(name, &PatchParams::default(), &patch)).await
}

/// Changes the resources of the containers of the pod of a UID.
///
/// # Errors
///
/// [`RequestError`].
pub(super) async fn resize_pod(
    pods: &Api<Pod>,
    name: &str,
    uid: &str,
    resources: &[ContainerChange],
) -> Result<Pod, RequestError> {
    let patch = json!({"metadata": {"uid": uid}, "spec": containers(resources, "resources")});
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    let request = pods.patch_subresource("resize", name, &params, &patch);
    send(format!("resizing Pod {name}"), request).await
}

/// Returns the part of a strategic merge patch that sets one field of containers. Containers are merged by name.
fn containers(changes: &[ContainerChange], field: &str) -> Value {
    let mut spec = json!({});
    for change in changes {
        let container = json!({"name": change.container, field: change.value});
        match &mut spec[change.list] {
            Value::Array(list) => list.push(container),
            list => *list = json!([container]),
        }
    }
    spec
}

async fn send<T>(
    what: String,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RequestError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if is_refusal(&status) => {
            Err(RequestError::Refused { what, status })
        }
        Ok(Err(error)) => Err(unknown(&what, &error)),
        Err(_) => {
            let cause = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
            Err(RequestError::Unknown { what, cause })
        }
    }
}

/// Returns true if nothing was done. An answer that asks to try again later is no refusal, and an error of the server says
/// nothing about the object, except that a webhook has failed.
fn is_refusal(answer: &Status) -> bool {
    is_failed_webhook(answer) || (answer.code < 500 && !matches!(answer.code, 408 | 429))
}

fn unknown(what: &str, error: &(dyn std::error::Error + 'static)) -> RequestError {
    RequestError::Unknown { what: what.to_owned(), cause: shared_cache::error_text(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: Value) -> RequestError {
        let status = Box::new(serde_json::from_value(status).unwrap());
        RequestError::Refused { what: "patching Pod s".into(), status }
    }

    #[test]
    fn lc7_a_webhook_that_fails_is_a_refusal_and_another_error_of_the_server_is_none() {
        let answer = |code, message: &str| Status { code, ..Status::failure(message, "InternalError") };
        let webhook =
            r#"Internal error occurred: failed calling webhook "v.example.com": connection refused"#;
        assert!(is_refusal(&answer(500, webhook)));
        assert!(is_refusal(&answer(403, "quota")));
        for (code, message) in [(500, "etcd is gone"), (503, webhook), (429, "later"), (408, "slow")] {
            assert!(!is_refusal(&answer(code, message)), "{code} {message}");
        }
    }

    #[test]
    fn ls9_a_pod_that_was_replaced_is_no_refusal_of_the_change() {
        let invalid = |field: &str| {
            let causes =
                json!([{"reason": "FieldValueInvalid", "message": "field is immutable", "field": field}]);
            refused(json!({"code": 422, "reason": "Invalid", "details": {"causes": causes}}))
        };
        assert!(!invalid("metadata.uid").rules_out_change());
        assert!(invalid("metadata.uid").is_about_another_object());
        assert!(invalid("spec").rules_out_change() && !invalid("spec").is_about_another_object());
        let conflict = refused(json!({"code": 409, "reason": "Conflict"}));
        assert!(conflict.is_about_another_object() && !conflict.rules_out_change());
    }

    #[test]
    fn ls9_a_patch_names_the_containers_that_it_changes_in_their_lists() {
        let change = |list, container: &str, value: &str| ContainerChange {
            list,
            container: container.into(),
            value: json!(value),
        };
        let changes = [
            change("containers", "a", "i:1"),
            change("initContainers", "b", "i:2"),
            change("containers", "c", "i:3"),
        ];
        let expected = json!({
            "containers": [{"name": "a", "image": "i:1"}, {"name": "c", "image": "i:3"}],
            "initContainers": [{"name": "b", "image": "i:2"}],
        });
        assert_eq!(containers(&changes, "image"), expected);
    }
}
