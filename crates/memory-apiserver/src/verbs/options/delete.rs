//! [`DeleteOptions`]: the body of a deletion, or its query if it has none.

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::{Value, json};

use super::{dry_run, judge, not_supported};
use crate::call::Call;
use crate::error::{ApiError, FieldError};
use crate::object;
use crate::verbs::decode;

/// The options of a deletion.
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    /// The grace period, for Pods. Never negative.
    pub(crate) grace_seconds: Option<i64>,
    /// `None`: that of an earlier deletion, otherwise in the background.
    pub(crate) propagation: Option<Propagation>,
    uid: Option<String>,
    version: Option<String>,
}

/// What happens to the dependents of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They are deleted after the object.
    Background,
    /// They are deleted before the object.
    Foreground,
    /// They stay.
    Orphan,
}

impl DeleteOptions {
    /// # Errors
    ///
    /// If the body is of another kind, or an option is invalid.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let asked = if call.body.is_empty() { of_query(call)? } else { of_body(call)? };
        let mut errors = Vec::new();
        let propagation = Propagation::of(&asked, &mut errors);
        let dry_run = dry_run(asked.dry_run.iter().flatten().map(String::as_str), &mut errors);
        judge("DeleteOptions", &errors)?;
        let preconditions = asked.preconditions.unwrap_or_default();
        Ok(Self {
            dry_run,
            // As in kube-apiserver, a negative period becomes one second.
            grace_seconds: asked.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds }),
            propagation,
            uid: preconditions.uid,
            version: preconditions.resource_version,
        })
    }

    /// Checks the preconditions: the UID and the version of the object.
    pub(crate) fn check(&self, call: &Call, object: &Value) -> Result<(), ApiError> {
        for (field, wanted, is, why) in [
            ("UID", &self.uid, object::uid(object), "The object might have been deleted and then recreated"),
            (
                "ResourceVersion",
                &self.version,
                object::meta_text(object, "resourceVersion"),
                "The object might have been modified",
            ),
        ] {
            if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != is) {
                let why = format!(
                    "the {field} in the precondition ({wanted}) does not match the {field} in record ({is}). {why}"
                );
                return Err(ApiError::conflict(&call.resource.about(object::name(object)), &why));
            }
        }
        Ok(())
    }
}

fn of_query(call: &Call) -> Result<meta::DeleteOptions, ApiError> {
    let dry_run: Vec<_> = call.params.all("dryRun").map(str::to_owned).collect();
    Ok(meta::DeleteOptions {
        dry_run: Some(dry_run),
        grace_period_seconds: call.params.number("gracePeriodSeconds")?,
        orphan_dependents: call.params.tristate("orphanDependents"),
        propagation_policy: call.params.get("propagationPolicy").map(str::to_owned),
        ..meta::DeleteOptions::default()
    })
}

fn of_body(call: &Call) -> Result<meta::DeleteOptions, ApiError> {
    let body = decode::document(call)?;
    if let Some(other) = body["kind"].as_str().filter(|kind| !matches!(*kind, "" | "DeleteOptions")) {
        let version = body["apiVersion"].as_str().unwrap_or("meta.k8s.io/v1");
        return Err(ApiError::bad_request(format!(
            "no kind {other:?} is registered for version {version:?}"
        )));
    }
    serde_json::from_value(body).map_err(|error| ApiError::bad_request(error.to_string()))
}

impl Propagation {
    fn of(asked: &meta::DeleteOptions, errors: &mut Vec<FieldError>) -> Option<Self> {
        let Some(policy) = asked.propagation_policy.as_deref() else {
            return asked
                .orphan_dependents
                .map(|orphan| if orphan { Self::Orphan } else { Self::Background });
        };
        if asked.orphan_dependents.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid("propagationPolicy", json!(policy), why));
        }
        match policy {
            "Background" => Some(Self::Background),
            "Foreground" => Some(Self::Foreground),
            "Orphan" => Some(Self::Orphan),
            other => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(not_supported("propagationPolicy", other, &supported));
                None
            }
        }
    }
}
