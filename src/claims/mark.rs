//! [`Mark`]: what a claim writes into a sandbox. Everything is in one write, so a sandbox is never half claimed (Q2).
//!
//! The names and forms are those of OpenKruise Agents, so that its server and this one can share a namespace. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::deadline::{self, Times};
use super::request::{ClaimRequest, Lifetime, Retention, RuntimeInit};
use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, ANNOTATION_CLAIM_UNFINISHED_UNTIL, ANNOTATION_INIT_RUNTIME_REQUEST,
    ANNOTATION_LOCK, ANNOTATION_OWNER, ANNOTATION_RESERVE_PAUSED_SANDBOX_DURATION,
    ANNOTATION_RUNTIME_ACCESS_TOKEN, ANNOTATION_UPDATED_METADATA_IN_CLAIM, ClaimInplaceUpdate, GoDuration,
    LABEL_ALLOW_INTERNET_ACCESS, LABEL_FALSE, LABEL_OWNER, LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_NAME,
    LABEL_TRUE, Sandbox,
};
use crate::blueprint::template::{add_labels, changed, object_at};

/// What a claim writes into one sandbox.
pub(super) struct Mark<'a> {
    pub(super) request: &'a ClaimRequest,
    /// The id of the claim.
    pub(super) lock: &'a str,
    pub(super) now: Timestamp,
    /// The access token of the runtime, if the claim initialises it.
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
        if let Some(owners) = &mut metadata.owner_references {
            owners.retain(|owner| owner.controller != Some(true));
        }
        metadata.owner_references.take_if(|owners| owners.is_empty());
        let labels = metadata.labels.get_or_insert_default();
        labels.extend(request.labels.clone());
        labels.extend(request.own_labels.clone());
        labels.extend(self.shared_labels());
        labels.insert(LABEL_SANDBOX_CLAIMED.to_owned(), LABEL_TRUE.to_owned());
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.extend(request.annotations.clone());
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
            let update = request.inplace_update.as_ref();
            *template = changed(template, |template| change(template, self.pod_labels(&name), update));
        }
    }

    /// The labels that the sandbox and its pod have in common, and that are not the user's.
    fn shared_labels(&self) -> Option<(String, String)> {
        let allow = self.request.allow_internet_access?;
        let value = if allow { LABEL_TRUE } else { LABEL_FALSE };
        Some((LABEL_ALLOW_INTERNET_ACCESS.to_owned(), value.to_owned()))
    }

    fn pod_labels(&self, name: &str) -> BTreeMap<String, String> {
        let mut labels = self.request.labels.clone();
        labels.extend(self.shared_labels());
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
        let until = self.unfinished_until.map(|until| deadline::seconds(until).to_string());
        [
            (ANNOTATION_LOCK, Some(self.lock.to_owned())),
            (ANNOTATION_OWNER, Some(self.request.owner.clone())),
            (ANNOTATION_CLAIM_TIMESTAMP, Some(deadline::seconds(self.now).to_string())),
            (ANNOTATION_UPDATED_METADATA_IN_CLAIM, written_keys(self.request)),
            (ANNOTATION_RESERVE_PAUSED_SANDBOX_DURATION, self.request.retention.map(retention_text)),
            (ANNOTATION_INIT_RUNTIME_REQUEST, init),
            (ANNOTATION_RUNTIME_ACCESS_TOKEN, self.token.map(str::to_owned)),
            (ANNOTATION_CLAIM_UNFINISHED_UNTIL, until),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    }
}

fn retention_text(retention: Retention) -> String {
    match retention {
        Retention::Forever => deadline::FOREVER.to_owned(),
        Retention::For(time) => GoDuration::from(time).to_string(),
    }
}

/// Returns the keys that the user has chosen, as JSON: a cleanup of the sandbox removes them. None if there are none.
fn written_keys(request: &ClaimRequest) -> Option<String> {
    let mut all = Map::new();
    for (field, entries) in [("annotations", &request.annotations), ("labels", &request.labels)] {
        if !entries.is_empty() {
            all.insert(field.to_owned(), json!(entries.keys().collect::<Vec<_>>()));
        }
    }
    (!all.is_empty()).then(|| Value::Object(all).to_string())
}

/// Adds labels to a template, and writes the image and the resources of the update into its first container.
fn change(
    template: &mut Map<String, Value>,
    labels: BTreeMap<String, String>,
    update: Option<&ClaimInplaceUpdate>,
) -> Option<()> {
    add_labels(template, labels)?;
    let Some(update) = update else { return Some(()) };
    let container = template.get_mut("spec")?.pointer_mut("/containers/0")?;
    update_container(container.as_object_mut()?, update)
}

fn update_container(container: &mut Map<String, Value>, update: &ClaimInplaceUpdate) -> Option<()> {
    if let Some(image) = update.image.as_ref().filter(|image| !image.is_empty()) {
        container.insert("image".to_owned(), json!(image));
    }
    if let Some(resources) = &update.resources {
        for (field, quantities) in [("limits", &resources.limits), ("requests", &resources.requests)] {
            let Some(quantities) = quantities else { continue };
            let Ok(Value::Object(quantities)) = serde_json::to_value(quantities) else { continue };
            object_at(object_at(container, "resources")?, field)?.extend(quantities);
        }
    }
    Some(())
}
