//! [`Fit`]: how a running pod differs from what the template would make of it now (LS8).
//!
//! A pod fits if every value that the template sets is in the pod. What admission and the API server have added does not
//! count. So a pod that anybody made is adopted as it is, and no hash of another controller has to be reproduced.
//!
//! Admission may also replace values. If it is known of which spec the pod was made ([`super::made`]), only the parts of the
//! spec that have changed since are compared.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::made::SameParts;
use super::quantity;
use crate::api::v1alpha1::{
    ANNOTATION_CREATED_BY, ANNOTATION_TEMPLATE_SPEC, LABEL_CREATED_BY, LABEL_POD_TEMPLATE_HASH,
};

/// The fields by which Kubernetes tells the elements of a list apart, in this order.
const LIST_KEYS: [&str; 6] = ["name", "mountPath", "devicePath", "containerPort", "key", "ip"];

/// Where a pod differs from its template.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fit {
    /// Labels that the pod lacks or has with another value.
    pub(super) labels: BTreeMap<String, String>,
    /// The same for annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// Containers with another image.
    pub(super) images: Vec<ContainerChange>,
    /// Containers with other resources.
    pub(super) resources: Vec<ContainerChange>,
    /// Paths of all other fields that differ. They cannot be changed in a running pod.
    pub(super) other: Vec<String>,
}

/// The wanted value of a field of one container.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ContainerChange {
    /// `containers` or `initContainers`.
    pub(super) list: &'static str,
    pub(super) container: String,
    pub(super) value: Value,
}

impl Fit {
    /// Returns true if the spec fits; labels and annotations may differ.
    pub(super) fn spec_fits(&self) -> bool {
        self.images.is_empty() && self.resources.is_empty() && self.other.is_empty()
    }

    /// Removes the differences in these parts: they are the work of admission.
    fn leave_out(&mut self, same: SameParts) {
        if same.images {
            self.images.clear();
        }
        if same.resources {
            self.resources.clear();
        }
        if same.rest {
            self.other.clear();
        }
    }

    /// Returns true if labels and annotations fit.
    pub(super) fn metadata_fits(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }

    /// Names the fields of the spec that differ, for messages.
    pub(super) fn describe(&self) -> String {
        let of = |changes: &[ContainerChange], field: &'static str| -> Vec<String> {
            let path = |change: &ContainerChange| format!("{}[{}].{field}", change.list, change.container);
            changes.iter().map(path).collect()
        };
        let mut fields = of(&self.images, "image");
        fields.extend(of(&self.resources, "resources"));
        fields.extend(self.other.iter().cloned());
        fields.join(", ")
    }
}

/// Compares a pod with the pod that the template would make now, as [`super::pod::build`] returns it. The parts in `same`
/// fit, because the pod was made of them.
///
/// # Errors
///
/// If the template is no valid pod. Fields that this version does not know are not compared, because the cache does not
/// keep them.
pub(super) fn compare(mut wanted: Value, pod: &Pod, same: SameParts) -> Result<Fit, serde_json::Error> {
    if same.all() {
        wanted["spec"] = Value::Null;
    }
    let mut wanted: Pod = serde_json::from_value(wanted)?;
    // These are not of the template: the revision, and the marks of pods that were made for sandboxes.
    let labels = wanted.metadata.labels.get_or_insert_default();
    labels.retain(|label, _| label != LABEL_POD_TEMPLATE_HASH && label != LABEL_CREATED_BY);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    annotations.retain(|name, _| name != ANNOTATION_CREATED_BY && name != ANNOTATION_TEMPLATE_SPEC);
    let mut fit = Fit {
        labels: missing(wanted.metadata.labels.as_ref(), pod.metadata.labels.as_ref()),
        annotations: missing(wanted.metadata.annotations.as_ref(), pod.metadata.annotations.as_ref()),
        ..Fit::default()
    };
    let (wanted, actual) = (serde_json::to_value(&wanted.spec)?, serde_json::to_value(&pod.spec)?);
    for (name, value) in wanted.as_object().into_iter().flatten() {
        match name.as_str() {
            "containers" => containers("containers", value, &actual[name], &mut fit),
            "initContainers" => containers("initContainers", value, &actual[name], &mut fit),
            _ => covers(value, &actual[name], name, &mut fit.other),
        }
    }
    fit.leave_out(same);
    Ok(fit)
}

type Texts = BTreeMap<String, String>;

fn missing(wanted: Option<&Texts>, actual: Option<&Texts>) -> Texts {
    let has = |key: &String, value: &String| actual.and_then(|actual| actual.get(key)) == Some(value);
    let wanted = wanted.into_iter().flatten();
    wanted.filter(|(key, value)| !has(key, value)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Compares two lists of containers by name.
fn containers(list: &'static str, wanted: &Value, actual: &Value, fit: &mut Fit) {
    for container in wanted.as_array().into_iter().flatten() {
        let name = container["name"].as_str().unwrap_or_default();
        let found = actual.as_array().into_iter().flatten().find(|found| found["name"] == container["name"]);
        let Some(found) = found else {
            fit.other.push(format!("{list}[{name}]"));
            continue;
        };
        for (field, value) in container.as_object().into_iter().flatten() {
            let mut differing = Vec::new();
            covers(value, &found[field], &format!("{list}[{name}].{field}"), &mut differing);
            if differing.is_empty() {
                continue;
            }
            let change = || ContainerChange { list, container: name.to_owned(), value: value.clone() };
            match field.as_str() {
                "image" => fit.images.push(change()),
                "resources" => fit.resources.push(change()),
                _ => fit.other.append(&mut differing),
            }
        }
    }
}

/// Adds the paths of the values in `wanted` that `actual` does not have.
fn covers(wanted: &Value, actual: &Value, path: &str, differing: &mut Vec<String>) {
    match (wanted, actual) {
        // The type of a volume may be an object without fields, such as `emptyDir`.
        (Value::Object(fields), Value::Null) if fields.is_empty() && path.starts_with("volumes[") => {
            differing.push(path.to_owned());
        }
        (Value::Object(wanted), _) => {
            for (name, value) in wanted {
                covers(value, &actual[name], &format!("{path}.{name}"), differing);
            }
        }
        (Value::Array(wanted), Value::Array(actual)) => list(wanted, actual, path, differing),
        _ if same(wanted, actual, is_quantity(path)) => {}
        _ => differing.push(path.to_owned()),
    }
}

/// Compares two lists: lists of objects by their keys and in any order, all others element by element.
fn list(wanted: &[Value], actual: &[Value], path: &str, differing: &mut Vec<String>) {
    let Some(Value::Object(first)) = wanted.first() else {
        if wanted != actual {
            differing.push(path.to_owned());
        }
        return;
    };
    let key = LIST_KEYS.into_iter().find(|key| first.contains_key(*key));
    for element in wanted {
        let name = key.and_then(|key| element.get(key)).unwrap_or(&Value::Null);
        let path = format!("{path}[{}]", name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        let mut closest: Option<Vec<String>> = None;
        for candidate in actual.iter().filter(|found| key.is_none_or(|key| found[key] == element[key])) {
            let mut differences = Vec::new();
            covers(element, candidate, &path, &mut differences);
            if closest.as_ref().is_none_or(|closest| differences.len() < closest.len()) {
                closest = Some(differences);
            }
        }
        differing.append(&mut closest.unwrap_or_else(|| vec![path]));
    }
}

/// Compares two values that are no objects. A value that Kubernetes leaves out when it writes an object is the same as a
/// missing one.
fn same(wanted: &Value, actual: &Value, is_quantity: bool) -> bool {
    match (wanted, actual) {
        _ if wanted == actual => true,
        (wanted, Value::Null) => is_zero(wanted),
        (Value::String(wanted), Value::String(actual)) => is_quantity && quantity::equal(wanted, actual),
        _ => false,
    }
}

/// Returns true if the field of a path is a quantity.
fn is_quantity(path: &str) -> bool {
    [".resources.limits.", ".resources.requests."].iter().any(|part| path.contains(part))
        || ["overhead.", "resources."].iter().any(|start| path.starts_with(start))
        || [".sizeLimit", ".divisor"].iter().any(|end| path.ends_with(end))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_zero),
        Value::Bool(true) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: &Value) -> Pod {
        let metadata = json!({"name": "s", "labels": {"app": "x", "added": "1"}, "annotations": {"a": "1"}});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    /// A pod as the API server and admission leave it.
    fn running() -> Pod {
        pod(&json!({
            "nodeName": "n", "restartPolicy": "Always", "serviceAccountName": "default",
            "tolerations": [{"key": "added", "operator": "Exists"}, {"key": "gpu", "operator": "Exists"}],
            "volumes": [
                {"name": "kube-api-access", "projected": {"sources": []}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            ],
            "containers": [
                {
                    "name": "a", "image": "i:1", "imagePullPolicy": "Always", "command": ["run", "1"],
                    "env": [{"name": "ADDED", "value": "x"}, {"name": "N", "value": "1"}],
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
                    "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run"}, {"name": "tmp", "mountPath": "/tmp"}],
                },
                {"name": "sidecar", "image": "added"},
            ],
        }))
    }

    fn wanted() -> Value {
        json!({
            "metadata": {"name": "s", "labels": {"app": "x"}},
            "spec": {
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1024Mi"}}],
                "securityContext": {}, "hostNetwork": false,
                "containers": [{
                    "name": "a", "image": "i:1", "command": ["run", "1"], "env": [{"name": "N", "value": "1"}],
                    "ports": [{"containerPort": 80}], "novel": "unknown",
                    "resources": {"requests": {"cpu": "0.5"}, "limits": {"memory": "1024Mi"}},
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                }],
            },
        })
    }

    fn with(change: impl FnOnce(&mut Value)) -> Fit {
        let mut wanted = wanted();
        change(&mut wanted);
        compare(wanted, &running(), SameParts::default()).unwrap()
    }

    #[test]
    fn ls8_a_pod_fits_if_it_has_every_value_of_the_template_whatever_was_added() {
        assert_eq!(with(|_| {}), Fit::default());
    }

    #[test]
    fn ls8_images_and_resources_are_told_apart_from_what_needs_a_new_pod() {
        let container = |wanted: &mut Value, field: &str, value: Value| {
            wanted["spec"]["containers"][0][field] = value;
        };
        let fit = with(|wanted| container(wanted, "image", json!("i:2")));
        let image = ContainerChange { list: "containers", container: "a".into(), value: json!("i:2") };
        assert_eq!(fit, Fit { images: vec![image], ..Fit::default() });
        let resources = json!({"requests": {"cpu": "501m"}});
        let fit = with(|wanted| container(wanted, "resources", resources.clone()));
        let change = ContainerChange { list: "containers", container: "a".into(), value: resources };
        assert_eq!(fit, Fit { resources: vec![change], ..Fit::default() });
        for (field, value, path) in [
            ("env", json!([{"name": "N", "value": "1.0"}]), "containers[a].env[N].value"),
            ("env", json!([{"name": "NEW", "value": "1"}]), "containers[a].env[NEW]"),
            ("command", json!(["run"]), "containers[a].command"),
            ("ports", json!([{"containerPort": 81}]), "containers[a].ports[81]"),
            (
                "volumeMounts",
                json!([{"name": "tmp", "mountPath": "/t"}]),
                "containers[a].volumeMounts[tmp].mountPath",
            ),
        ] {
            let fit = with(|wanted| container(wanted, field, value));
            assert_eq!(fit, Fit { other: vec![path.into()], ..Fit::default() }, "{field}");
        }
    }

    #[test]
    fn ls8_other_fields_of_the_spec_need_a_new_pod() {
        for (field, value, path) in [
            ("volumes", json!([{"name": "tmp", "hostPath": {"path": "/"}}]), "volumes[tmp].hostPath.path"),
            (
                "volumes",
                json!([{"name": "kube-api-access", "emptyDir": {}}]),
                "volumes[kube-api-access].emptyDir",
            ),
            ("hostNetwork", json!(true), "hostNetwork"),
            ("nodeSelector", json!({"a": "b"}), "nodeSelector.a"),
            ("tolerations", json!([{"key": "gpu", "operator": "Equal"}]), "tolerations[gpu].operator"),
            ("containers", json!([{"name": "new"}]), "containers[new]"),
        ] {
            let fit = with(|wanted| wanted["spec"][field] = value);
            assert_eq!(fit, Fit { other: vec![path.into()], ..Fit::default() }, "{field}");
            assert!(!fit.spec_fits() && fit.metadata_fits());
        }
    }

    #[test]
    fn ls9_labels_and_annotations_that_the_pod_lacks_are_named() {
        let fit = with(|wanted| {
            wanted["metadata"]["labels"] = json!({"app": "y", "added": "1", "pod-template-hash": "new"});
            wanted["metadata"]["annotations"] = json!({"b": "2"});
        });
        assert_eq!(fit.labels, [("app".to_owned(), "y".to_owned())].into());
        assert_eq!(fit.annotations, [("b".to_owned(), "2".to_owned())].into());
        assert!(fit.spec_fits() && !fit.metadata_fits());
    }

    #[test]
    fn ls8_a_template_that_is_no_pod_is_an_error() {
        assert!(compare(json!({"spec": {"containers": 5}}), &running(), SameParts::default()).is_err());
    }

    #[test]
    fn ls8_what_admission_has_changed_is_compared_only_in_the_parts_that_have_changed() {
        let mut wanted = wanted();
        wanted["metadata"]["labels"] = json!({"app": "y"});
        wanted["spec"]["hostNetwork"] = json!(true);
        let container = &mut wanted["spec"]["containers"][0];
        (container["image"], container["resources"]) = (json!("i:2"), json!({"requests": {"cpu": "7"}}));
        let with = |same: SameParts| compare(wanted.clone(), &running(), same).unwrap();
        let none = SameParts::default();
        let all = with(none);
        assert_eq!((all.images.len(), all.resources.len(), all.other.len(), all.labels.len()), (1, 1, 1, 1));
        for (same, left) in [
            (SameParts { images: true, ..none }, Fit { images: Vec::new(), ..all.clone() }),
            (SameParts { resources: true, ..none }, Fit { resources: Vec::new(), ..all.clone() }),
            (SameParts { rest: true, ..none }, Fit { other: Vec::new(), ..all.clone() }),
        ] {
            assert_eq!(with(same), left);
        }
        let fit = with(SameParts { rest: true, images: true, resources: true });
        assert_eq!(fit, Fit { labels: all.labels, ..Fit::default() });
    }
}
