//! Pods: their defaults, and the fields that the server sets.

mod quality;
mod resize;
mod rules;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::quality::quality_of_service;
use super::{Resize, default_in, items_mut};
use crate::object::child_mut;

pub(super) use rules::validate;

/// The rules of the subresource `resize`.
pub(super) const RESIZE: Resize = Resize { spec: resize::spec, validate: resize::validate };

const CONTAINERS: [&str; 2] = ["/spec/containers", "/spec/initContainers"];

pub(super) fn default(pod: &mut Value) {
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
    ] {
        default_in(pod, "spec", field, value);
    }
    for list in CONTAINERS {
        items_mut(pod, list).for_each(default_container);
    }
    items_mut(pod, "/spec/volumes").for_each(default_volume);
}

fn set(object: &mut Map<String, Value>, field: &str, value: Value) {
    object.entry(field).or_insert(value);
}

fn default_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let latest =
        image.ends_with(":latest") || !image.rsplit('/').next().unwrap_or_default().contains([':', '@']);
    let policy = if latest { "Always" } else { "IfNotPresent" };
    let Some(fields) = container.as_object_mut() else { return };
    set(fields, "imagePullPolicy", json!(policy));
    set(fields, "resources", json!({}));
    set(fields, "terminationMessagePath", json!("/dev/termination-log"));
    set(fields, "terminationMessagePolicy", json!("File"));
    for port in items_mut(container, "/ports").filter_map(Value::as_object_mut) {
        set(port, "protocol", json!("TCP"));
    }
    for variable in items_mut(container, "/env") {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef").and_then(Value::as_object_mut) {
            set(field, "apiVersion", json!("v1"));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        container.get_mut(probe).and_then(Value::as_object_mut).into_iter().for_each(default_probe);
    }
    request_what_is_limited(container);
}

fn default_probe(probe: &mut Map<String, Value>) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        set(probe, field, json!(value));
    }
    if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
        set(get, "path", json!("/"));
        set(get, "scheme", json!("HTTP"));
    }
}

fn request_what_is_limited(container: &mut Value) {
    let Some(limits) = container["resources"]["limits"].as_object().cloned() else { return };
    let requests = child_mut(&mut container["resources"], "requests");
    limits.into_iter().for_each(|(resource, limit)| set(requests, &resource, limit));
}

/// A volume without a source is an empty directory.
fn default_volume(volume: &mut Value) {
    let Some(fields) = volume.as_object_mut() else { return };
    if fields.keys().all(|field| field == "name") {
        set(fields, "emptyDir", json!({}));
    }
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(source) = fields.get_mut(source).and_then(Value::as_object_mut) {
            set(source, "defaultMode", json!(0o644));
        }
    }
    if let Some(path) = fields.get_mut("hostPath").and_then(Value::as_object_mut) {
        set(path, "type", json!(""));
    }
}

/// Sets the status of a new Pod, and how long it stays on a node that is not ready.
pub(super) fn prepare(pod: &mut Value, live: Option<&Value>, _: Timestamp) {
    if live.is_none() {
        let class = quality_of_service(&pod["spec"]);
        pod["status"] = json!({"phase": "Pending", "qosClass": class});
    }
    let tolerations = child_mut(pod, "spec").entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else { return };
    for taint in ["not-ready", "unreachable"] {
        let key = format!("node.kubernetes.io/{taint}");
        let tolerates = |toleration: &Value| {
            let field = |field: &str| toleration[field].as_str().unwrap_or_default();
            (field("key") == key || field("key").is_empty()) && matches!(field("effect"), "NoExecute" | "")
        };
        if !tolerations.iter().any(tolerates) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_filled_in() {
        let mut pod = json!({"spec": {
            "containers": [{
                "name": "c", "image": "registry:5000/i", "ports": [{"containerPort": 1}],
                "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": 1}},
            }],
            "volumes": [{"name": "e"}, {"name": "s", "secret": {"secretName": "s"}}],
        }});
        default(&mut pod);
        let spec = &pod["spec"];
        let container = &spec["containers"][0];
        assert_eq!((&spec["restartPolicy"], spec.get("initContainers")), (&json!("Always"), None));
        assert_eq!(container["imagePullPolicy"], "Always", "the colon belongs to the host");
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
        assert_eq!(container["livenessProbe"]["httpGet"]["scheme"], "HTTP");
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
    }
}
