//! The requests that a set sends: to create, lock and delete sandboxes, and to read what the cache cannot know.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{PartialObjectMeta, Request};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use shared_cache::{error_text, is_not_sent};

use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, ANNOTATION_LOCK, ANNOTATION_OWNER, LABEL_SANDBOX_POOL, OWNER_SCALE_DOWN,
    Sandbox, SandboxSet,
};
use crate::lifecycle::requests::{REQUEST_TIMEOUT, is_failed_webhook};

/// Number of sandboxes in a page of a live list.
const PAGE: u32 = 500;

/// Why a request was not executed, or may not have been.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing was done: an object of this name exists.
    #[error("{0}")]
    AlreadyExists(String),
    /// Nothing was done: the object has changed, or another object has its name.
    #[error("{0}")]
    Conflict(String),
    /// Nothing was done: there is no such object.
    #[error("{0}")]
    NotFound(String),
    /// Nothing was done. Somebody must change a permission, a quota or the object.
    #[error("{0}")]
    Refused(String),
    /// Nothing was done. The API server is busy or cannot be reached, or a webhook that it asks does not answer.
    #[error("{0}")]
    Busy(String),
    /// The request may have been executed.
    #[error("{0}")]
    Unknown(String),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        let status = match error {
            kube::Error::Api(status) => status,
            kube::Error::BuildRequest(_) => return Self::Refused(error_text(&error)),
            other if is_not_sent(&other) => return Self::Busy(error_text(&other)),
            other => return Self::Unknown(error_text(&other)),
        };
        let message = status.message.clone();
        match status.code {
            _ if status.is_already_exists() => Self::AlreadyExists(message),
            409 => Self::Conflict(message),
            404 => Self::NotFound(message),
            429 => Self::Busy(message),
            _ if is_failed_webhook(&status) => Self::Busy(message),
            400..=499 => Self::Refused(message),
            _ => Self::Unknown(message),
        }
    }
}

/// The part of an answer that is needed.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

impl From<Written> for Arc<Sandbox> {
    fn from(Written { metadata }: Written) -> Self {
        let WrittenMetadata { name, namespace, uid, resource_version } = metadata;
        let metadata = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
        Self::new(Sandbox { metadata, ..Sandbox::default() })
    }
}

/// Sends requests, each with a deadline.
#[derive(Clone)]
pub(super) struct Requests {
    client: Client,
}

impl Requests {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Creates a sandbox. Returns its metadata.
    pub(super) async fn create(&self, sandbox: &Sandbox) -> Result<Arc<Sandbox>, Failure> {
        let body = serde_json::to_vec(sandbox).map_err(|error| Failure::Refused(error.to_string()))?;
        let request = requests(sandbox).create(&PostParams::default(), body);
        let request = request.map_err(kube::Error::BuildRequest);
        let answer = within_deadline(async { self.client.request::<Written>(request?).await });
        answer.await.map(Into::into)
    }

    /// Locks a sandbox, if it has not changed since it was read. Returns its metadata.
    ///
    /// A claim writes the same annotations, so only one of the two succeeds.
    pub(super) async fn lock(
        &self,
        sandbox: &Sandbox,
        lock: &str,
        now: Timestamp,
    ) -> Result<Arc<Sandbox>, Failure> {
        let patch = Patch::Merge(json!({ "metadata": {
            "resourceVersion": sandbox.metadata.resource_version,
            "annotations": {
                ANNOTATION_LOCK: lock,
                ANNOTATION_OWNER: OWNER_SCALE_DOWN,
                ANNOTATION_CLAIM_TIMESTAMP: now.round(jiff::Unit::Second).unwrap_or(now).to_string(),
            },
        }}));
        let request = requests(sandbox).patch(sandbox.name_or_empty(), &PatchParams::default(), &patch);
        let request = request.map_err(kube::Error::BuildRequest);
        let answer = within_deadline(async { self.client.request::<Written>(request?).await });
        answer.await.map(Into::into)
    }

    /// Deletes a sandbox, if it is the same object, and unchanged if `if_unchanged` is true.
    pub(super) async fn delete(&self, sandbox: &Sandbox, if_unchanged: bool) -> Result<(), Failure> {
        let resource_version = sandbox.metadata.resource_version.clone().filter(|_| if_unchanged);
        let preconditions = Preconditions { uid: sandbox.metadata.uid.clone(), resource_version };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let request = requests(sandbox).delete(sandbox.name_or_empty(), &params);
        let request = request.map_err(kube::Error::BuildRequest);
        within_deadline(async { self.client.request::<IgnoredAny>(request?).await }).await.map(|_| ())
    }

    /// Returns the metadata of all sandboxes that the API server has for the set, and that are not being deleted.
    pub(super) async fn members(&self, set: &SandboxSet) -> Result<Vec<ObjectMeta>, Failure> {
        let api: Api<Sandbox> = Api::namespaced(self.client.clone(), set.namespace_or_empty());
        let selector = format!("{LABEL_SANDBOX_POOL}={}", set.name_or_empty());
        let mut params = ListParams::default().labels(&selector).limit(PAGE);
        let mut members = Vec::new();
        loop {
            let page = within_deadline(api.list_metadata(&params)).await?;
            let is_member = |metadata: &ObjectMeta| {
                let owners = metadata.owner_references.iter().flatten();
                let mut controllers = owners.filter(|owner| owner.controller == Some(true));
                metadata.deletion_timestamp.is_none()
                    && controllers.any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
            };
            let metadata = page.items.into_iter().map(|item: PartialObjectMeta<Sandbox>| item.metadata);
            members.extend(metadata.filter(is_member));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(members),
            }
        }
    }
}

fn requests(sandbox: &Sandbox) -> Request {
    Request::new(Sandbox::url_path(&(), Some(sandbox.namespace_or_empty())))
}

async fn within_deadline<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::Unknown(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use shared_cache::NotSent;

    use super::*;

    fn answered(code: u16, reason: &str, message: &str) -> Failure {
        kube::Error::Api(Box::new(Status { code, ..Status::failure(message, reason) })).into()
    }

    #[test]
    fn lc2_only_an_answer_that_says_so_means_that_nothing_was_done() {
        let webhook =
            "Internal error occurred: failed calling webhook \"v.example.com\": context deadline exceeded";
        assert!(matches!(answered(500, "InternalError", webhook), Failure::Busy(_)));
        assert!(matches!(answered(500, "InternalError", "etcd is gone"), Failure::Unknown(_)));
        assert!(matches!(answered(504, "Timeout", "timeout"), Failure::Unknown(_)));
        assert!(matches!(answered(429, "TooManyRequests", "later"), Failure::Busy(_)));
        assert!(matches!(answered(403, "Forbidden", "quota"), Failure::Refused(_)));
        assert!(matches!(answered(409, "AlreadyExists", "exists"), Failure::AlreadyExists(_)));
        assert!(matches!(answered(409, "Conflict", "changed"), Failure::Conflict(_)));
        let broken = |cause| Failure::from(kube::Error::Service(cause));
        assert!(matches!(broken("reset".into()), Failure::Unknown(_)));
        assert!(matches!(broken(NotSent::new("refused").into()), Failure::Busy(_)));
    }
}
