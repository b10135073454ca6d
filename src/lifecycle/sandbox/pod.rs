//! Builds the pod and the volume claims of a sandbox from its template (LS2, LS3).
//!
//! Both are built as JSON, not as types: fields that this version does not know are kept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Map, Value, json};

use super::made::Made;
use crate::api::v1alpha1::{
    ANNOTATION_CREATED_BY, ANNOTATION_TEMPLATE_SPEC, API_VERSION, CREATED_BY_SANDBOX, LABEL_CREATED_BY,
    LABEL_POD_TEMPLATE_HASH, PodTemplate, Sandbox, VolumeClaimTemplates,
};

/// The parts from which the pod of a sandbox is built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) template: &'a PodTemplate,
    pub(super) claims: Option<&'a VolumeClaimTemplates>,
}

/// Returns the pod of a sandbox. `revision` is that of the template.
pub(super) fn build(sandbox: &Sandbox, parts: Parts<'_>, revision: &str) -> Value {
    let template: Value = serde_json::from_str(&parts.template.to_json()).unwrap_or_default();
    let mut labels = text_map(&template["metadata"]["labels"]);
    labels.insert(LABEL_CREATED_BY.to_owned(), json!(CREATED_BY_SANDBOX));
    labels.insert(LABEL_POD_TEMPLATE_HASH.to_owned(), json!(revision));
    let mut annotations = text_map(&template["metadata"]["annotations"]);
    annotations.insert(ANNOTATION_CREATED_BY.to_owned(), json!(CREATED_BY_SANDBOX));
    let spec = spec(sandbox, parts);
    annotations.insert(ANNOTATION_TEMPLATE_SPEC.to_owned(), json!(Made::of(&spec).to_string()));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": sandbox.name_or_empty(),
            "namespace": sandbox.namespace_or_empty(),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner(sandbox)],
        },
        "spec": spec,
    })
}

/// Returns the spec of the pod: that of the template, with a volume for each volume claim. As in a `StatefulSet`, such a
/// volume replaces one of the same name.
pub(super) fn spec(sandbox: &Sandbox, parts: Parts<'_>) -> Value {
    let spec = parts.template.spec_json().and_then(|json| serde_json::from_str(json).ok());
    let mut spec: Value = spec.unwrap_or_else(|| json!({}));
    let claimed: Vec<_> = claim_templates(parts.claims)
        .into_iter()
        .map(|claim| {
            let name = claim["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let claim = json!({ "claimName": claim_name(&name, sandbox) });
            json!({ "name": name, "persistentVolumeClaim": claim })
        })
        .collect();
    if !claimed.is_empty() && spec.is_object() {
        let mut volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
        volumes.retain(|volume| claimed.iter().all(|claimed| claimed["name"] != volume["name"]));
        volumes.extend(claimed);
        spec["volumes"] = Value::Array(volumes);
    }
    spec
}

/// Returns the volume claims of a sandbox. They are owned by the sandbox, so they live as long as it does.
pub(super) fn claims(sandbox: &Sandbox, templates: Option<&VolumeClaimTemplates>) -> Vec<Value> {
    let claim = |template: Value| {
        let metadata = &template["metadata"];
        let name = claim_name(metadata["name"].as_str().unwrap_or_default(), sandbox);
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": name,
                "namespace": sandbox.namespace_or_empty(),
                "labels": text_map(&metadata["labels"]),
                "annotations": text_map(&metadata["annotations"]),
                "ownerReferences": [owner(sandbox)],
            },
            "spec": template["spec"],
        })
    };
    claim_templates(templates).into_iter().map(claim).collect()
}

fn claim_templates(templates: Option<&VolumeClaimTemplates>) -> Vec<Value> {
    templates.and_then(|templates| serde_json::from_str(templates.as_json()).ok()).unwrap_or_default()
}

/// Returns the name of the volume claim of a claim template.
fn claim_name(template: &str, sandbox: &Sandbox) -> String {
    format!("{template}-{}", sandbox.name_or_empty())
}

fn owner(sandbox: &Sandbox) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "Sandbox".to_owned(),
        name: sandbox.name_or_empty().to_owned(),
        uid: sandbox.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn text_map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(spec: Value) -> Sandbox {
        let metadata = json!({"name": "s", "namespace": "ns", "uid": "u-1"});
        let mut object = json!({"metadata": metadata});
        object["spec"] = spec;
        serde_json::from_value(object).unwrap()
    }

    fn parts(sandbox: &Sandbox) -> Parts<'_> {
        let spec = &sandbox.spec;
        Parts { template: spec.template.as_ref().unwrap(), claims: spec.volume_claim_templates.as_ref() }
    }

    #[test]
    fn ls2_the_pod_has_the_name_the_owner_and_the_marks_of_its_sandbox() {
        let sandbox = sandbox(json!({"template": {
            "metadata": {"labels": {"app": "x"}, "annotations": {"note": "y"}, "name": "ignored"},
            "spec": {"containers": [{"name": "a", "image": "i", "novel": {"field": 1.5}}]},
        }}));
        let pod = build(&sandbox, parts(&sandbox), "rev");
        let made = Made::of(&spec(&sandbox, parts(&sandbox))).to_string();
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "s", "namespace": "ns",
                "labels": {"app": "x", "agents.kruise.io/created-by": "sandbox", "pod-template-hash": "rev"},
                "annotations": {
                    "note": "y", "agents.kruise.io/created-by": "sandbox",
                    "sandbox-manager.agents.kruise.io/template-spec": made,
                },
                "ownerReferences": [{
                    "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox", "name": "s", "uid": "u-1",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {"containers": [{"name": "a", "image": "i", "novel": {"field": 1.5}}]},
        });
        assert_eq!(pod, expected);
    }

    #[test]
    fn ls2_ls3_each_claim_template_is_a_claim_and_a_volume_of_its_name() {
        let sandbox = sandbox(json!({
            "template": {"spec": {"containers": [], "volumes": [
                {"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}},
            ]}},
            "volumeClaimTemplates": [{
                "metadata": {"name": "data", "labels": {"l": "1"}},
                "spec": {"accessModes": ["ReadWriteOnce"], "novel": 1},
            }],
        }));
        let volumes = &spec(&sandbox, parts(&sandbox))["volumes"];
        let expected = json!([
            {"name": "tmp", "emptyDir": {}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-s"}},
        ]);
        assert_eq!(volumes, &expected);
        let claims = claims(&sandbox, sandbox.spec.volume_claim_templates.as_ref());
        assert_eq!(claims.len(), 1);
        assert_eq!(claims[0]["metadata"]["name"], "data-s");
        assert_eq!(claims[0]["metadata"]["labels"], json!({"l": "1"}));
        assert_eq!(claims[0]["metadata"]["ownerReferences"][0]["uid"], "u-1");
        assert_eq!(claims[0]["spec"], json!({"accessModes": ["ReadWriteOnce"], "novel": 1}));
    }
}
