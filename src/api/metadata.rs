//! Decodes `ObjectMeta` without `managedFields`, and reads labels and annotations.
//!
//! `managedFields` is a third of the bytes of a typical object, and k8s-openapi needs 90 allocations to
//! decode it. No part of this crate reads that field. The private struct below does not name the field, so
//! serde skips its text. Invariant: every other field of `ObjectMeta` is kept. The API server accepts a PUT
//! without `managedFields`.
//!
//! Rule numbers refer to docs/behaviours.md.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::lists::fitted;

/// The fields of `ObjectMeta` that are kept: all but `managedFields`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    self_link: Option<String>,
    uid: Option<String>,
}

impl From<Kept> for ObjectMeta {
    fn from(kept: Kept) -> Self {
        Self {
            annotations: kept.annotations,
            creation_timestamp: kept.creation_timestamp,
            deletion_grace_period_seconds: kept.deletion_grace_period_seconds,
            deletion_timestamp: kept.deletion_timestamp,
            finalizers: fitted(kept.finalizers),
            generate_name: kept.generate_name,
            generation: kept.generation,
            labels: kept.labels,
            managed_fields: None,
            name: kept.name,
            namespace: kept.namespace,
            owner_references: fitted(kept.owner_references),
            resource_version: kept.resource_version,
            self_link: kept.self_link,
            uid: kept.uid,
        }
    }
}

/// Decodes `metadata` without `managedFields`. Every kind names this function in `deserialize_with`.
///
/// # Errors
/// Returns the error of the first kept field that cannot be decoded.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    Kept::deserialize(deserializer).map(ObjectMeta::from)
}

/// Serializes an object of our group with its `apiVersion` and `kind`.
///
/// The structs hold neither field.
///
/// # Errors
/// Returns the errors of the serializer and of the parts.
pub(crate) fn serialize_object<S, Spec, Status>(
    serializer: S,
    kind: (&'static str, &'static str),
    metadata: &ObjectMeta,
    spec: &Spec,
    status: Option<&Status>,
) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    Spec: Serialize,
    Status: Serialize,
{
    let (api_version, kind) = kind;
    let mut object = serializer.serialize_struct(kind, 4 + usize::from(status.is_some()))?;
    object.serialize_field("apiVersion", api_version)?;
    object.serialize_field("kind", kind)?;
    object.serialize_field("metadata", metadata)?;
    object.serialize_field("spec", spec)?;
    match status {
        Some(status) => object.serialize_field("status", status)?,
        None => object.skip_field("status")?,
    }
    object.end()
}

/// Returns the value of a label. A label with an empty value counts as absent.
#[must_use]
pub fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    non_empty(metadata.labels.as_ref(), key)
}

/// Returns the value of an annotation. An annotation with an empty value counts as absent.
#[must_use]
pub fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    non_empty(metadata.annotations.as_ref(), key)
}

fn non_empty<'a>(map: Option<&'a BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    map?.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn every_field() -> Value {
        json!({
            "annotations": { "a": "1", "kubectl.kubernetes.io/last-applied-configuration": "{}" },
            "creationTimestamp": "2030-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 30,
            "deletionTimestamp": "2030-01-02T00:00:00Z",
            "finalizers": ["agents.kruise.io/sandbox"],
            "generateName": "n-",
            "generation": 3,
            "labels": { "b": "" },
            "name": "n-1",
            "namespace": "ns",
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u-1",
                "controller": true, "blockOwnerDeletion": false
            }],
            "resourceVersion": "41",
            "selfLink": "/x",
            "uid": "u-2"
        })
    }

    #[test]
    fn e2_every_field_but_managed_fields_is_kept() {
        let mut metadata = every_field();
        // This value is no valid list of ManagedFieldsEntry, so the test fails if the field is decoded.
        metadata["managedFields"] = json!([{ "fieldsV1": 5, "time": "never" }, 7]);
        let decoded = deserialize(metadata).unwrap();
        assert_eq!(decoded.managed_fields, None);
        assert_eq!(serde_json::to_value(decoded).unwrap(), every_field());
    }

    #[test]
    fn owner_references_and_finalizers_take_no_spare_room() {
        let decoded = deserialize(every_field()).unwrap();
        assert_eq!(decoded.owner_references.map(|list| list.capacity()), Some(1));
        assert_eq!(decoded.finalizers.map(|list| list.capacity()), Some(1));
    }

    #[test]
    fn empty_labels_and_annotations_read_as_absent() {
        let decoded = deserialize(every_field()).unwrap();
        assert_eq!(label(&decoded, "b"), None);
        assert_eq!(label(&ObjectMeta::default(), "b"), None);
        assert_eq!(annotation(&decoded, "a"), Some("1"));
    }
}
