//! [`Mark`]: what a claim writes into a sandbox. Everything is in one write, so a sandbox is never half claimed (Q2).
//!
//! The names and forms are those of OpenKruise Agents, so that its server and this one can share a namespace. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::deadline::{self, Times};
use super::member::{claimed_template, leave_pool, written_keys};
use super::request::{ClaimRequest, Lifetime, Retention, RuntimeInit};
use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, ANNOTATION_CLAIM_UNFINISHED_UNTIL, ANNOTATION_INIT_RUNTIME_REQUEST,
    ANNOTATION_LOCK, ANNOTATION_OWNER, ANNOTATION_RESERVE_PAUSED_SANDBOX_DURATION,
    ANNOTATION_RUNTIME_ACCESS_TOKEN, ANNOTATION_RUNTIME_INIT_PENDING, ANNOTATION_UPDATED_METADATA_IN_CLAIM,
    GoDuration, LABEL_ALLOW_INTERNET_ACCESS, LABEL_FALSE, LABEL_OWNER, LABEL_SANDBOX_CLAIMED,
    LABEL_SANDBOX_NAME, LABEL_TRUE, Sandbox, Time,
};

/// What a claim writes into one sandbox.
pub(super) struct Mark<'a> {
    pub(super) request: &'a ClaimRequest,
    /// The id of the claim.
    pub(super) lock: &'a str,
    pub(super) now: Timestamp,
    /// The access token of the runtime, if it is to be initialised.
    pub(super) token: Option<&'a str>,
    /// Until when a process answers for the claim, if it takes more steps than the lock.
    pub(super) unfinished_until: Option<Timestamp>,
}

impl Mark<'_> {
    /// Claims a sandbox. The controller reference is removed, so the pool refills.
    pub(super) fn write(&self, sandbox: &mut Sandbox) {
        let request = self.request;
        let name = sandbox.name_or_empty().to_owned();
        let metadata = &mut sandbox.metadata;
        leave_pool(metadata);
        metadata.labels = Some(labels(request, metadata.labels.take().unwrap_or_default()));
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.extend(request.annotations.clone());
        // It is not the user's to say.
        annotations.remove(ANNOTATION_RUNTIME_INIT_PENDING);
        annotations.extend(request.own_annotations.clone());
        annotations.extend(self.annotations());
        let times = match &request.lifetime {
            Lifetime::Unlimited => None,
            Lifetime::Until(time) => Some(Times { pause: None, shutdown: time.clone() }),
            Lifetime::For(lifetime) => {
                let retention = request.retention.unwrap_or_default();
                Some(Times::after(*lifetime, request.auto_pause.then_some(retention), self.now))
            }
        };
        if let Some(times) = times {
            times.write(&mut sandbox.spec);
        }
        if let Some(template) = &mut sandbox.spec.template {
            *template = claimed_template(template, self.pod_labels(&name), request.inplace_update.as_ref());
        }
    }

    fn pod_labels(&self, name: &str) -> BTreeMap<String, String> {
        let mut labels = self.request.labels.clone();
        labels.extend(shared_labels(self.request));
        labels.insert(LABEL_OWNER.to_owned(), self.request.owner.clone());
        if self.request.name_on_pod {
            labels.insert(LABEL_SANDBOX_NAME.to_owned(), name.to_owned());
        }
        labels
    }

    fn annotations(&self) -> impl Iterator<Item = (String, String)> {
        let init = match (&self.request.init, self.token) {
            (RuntimeInit::WithEnvVars(variables), Some(token)) => {
                Some(json!({ "envVars": variables, "accessToken": token }).to_string())
            }
            _ => None,
        };
        // Otherwise this process initialises it, and says so by the end of the claim.
        let is_left_to_caller = self.token.is_some() && !self.request.wait_until_ready;
        let pending = is_left_to_caller.then(|| self.lock.to_owned());
        let until = self.unfinished_until.map(|until| Time::whole_seconds(until).to_string());
        [
            (ANNOTATION_LOCK, Some(self.lock.to_owned())),
            (ANNOTATION_OWNER, Some(self.request.owner.clone())),
            (ANNOTATION_CLAIM_TIMESTAMP, Some(Time::whole_seconds(self.now).to_string())),
            (
                ANNOTATION_UPDATED_METADATA_IN_CLAIM,
                written_keys(&self.request.annotations, &self.request.labels),
            ),
            (ANNOTATION_RESERVE_PAUSED_SANDBOX_DURATION, self.request.retention.map(retention_text)),
            (ANNOTATION_INIT_RUNTIME_REQUEST, init),
            (ANNOTATION_RUNTIME_ACCESS_TOKEN, self.token.map(str::to_owned)),
            (ANNOTATION_RUNTIME_INIT_PENDING, pending),
            (ANNOTATION_CLAIM_UNFINISHED_UNTIL, until),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    }
}

/// Returns the labels of a sandbox after a claim.
pub(super) fn labels(
    request: &ClaimRequest,
    mut labels: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    labels.extend(request.labels.clone());
    labels.extend(request.own_labels.clone());
    labels.extend(shared_labels(request));
    labels.insert(LABEL_SANDBOX_CLAIMED.to_owned(), LABEL_TRUE.to_owned());
    labels
}

/// The labels that the sandbox and its pod have in common, and that are not the user's.
fn shared_labels(request: &ClaimRequest) -> Option<(String, String)> {
    let value = if request.allow_internet_access? { LABEL_TRUE } else { LABEL_FALSE };
    Some((LABEL_ALLOW_INTERNET_ACCESS.to_owned(), value.to_owned()))
}

fn retention_text(retention: Retention) -> String {
    match retention {
        Retention::Forever => deadline::FOREVER.to_owned(),
        Retention::For(time) => GoDuration::from(time).to_string(),
    }
}

#[cfg(test)]
impl ClaimRequest {
    /// Writes a claim that takes no step after the lock, for the tests of those who make requests.
    pub(crate) fn write(&self, sandbox: &mut Sandbox, lock: &str, now: Timestamp) {
        Mark { request: self, lock, now, token: None, unfinished_until: None }.write(sandbox);
    }
}
