//! The subresource `resize`: the resources of the containers of a Pod that runs.

use serde_json::Value;

use super::super::rules::items;
use super::quality::{SHARED_RESOURCES, quality_of_service};
use crate::error::FieldError;

/// The lists of containers. Of the second one only those that run beside the others can be resized.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// The fields of a container that a resize changes.
const FIELDS: [&str; 2] = ["resources", "resizePolicy"];

/// The spec after a resize: that of the live Pod with the resources that were asked for. Another list of containers is kept,
/// so that validation refuses the change.
pub(in super::super) fn spec(asked: &Value, live: &Value) -> Value {
    let (asked, mut spec) = (&asked["spec"], live["spec"].clone());
    if LISTS.iter().any(|list| names(&asked[list]) != names(&spec[list])) {
        return asked.clone();
    }
    for list in LISTS {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, asked) in containers.zip(items(&asked[list])) {
            if list == "initContainers" && container["restartPolicy"] != "Always" {
                continue;
            }
            let Some(container) = container.as_object_mut() else { continue };
            for field in FIELDS {
                match asked.get(field) {
                    Some(value) => container.insert(field.to_owned(), value.clone()),
                    None => container.remove(field),
                };
            }
        }
    }
    spec
}

fn names(list: &Value) -> Vec<&Value> {
    items(list).iter().map(|container| &container["name"]).collect()
}

/// The problems of a resize.
pub(in super::super) fn validate(pod: &Value, live: &Value) -> Vec<FieldError> {
    let (spec, old) = (&pod["spec"], &live["spec"]);
    let mut errors = Vec::new();
    if quality_of_service(spec) != quality_of_service(old) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid("spec", pod["status"]["qosClass"].clone(), why));
    }
    for list in LISTS {
        if names(&spec[list]) != names(&old[list]) {
            let why = format!("{list} may not be added, removed, renamed or reordered");
            errors.push(FieldError::forbidden(format!("spec.{list}"), why));
            continue;
        }
        for (position, (container, old)) in items(&spec[list]).iter().zip(items(&old[list])).enumerate() {
            let path = format!("spec.{list}[{position}].resources");
            for part in ["requests", "limits"] {
                let (new, old) = (&container["resources"][part], &old["resources"][part]);
                let mut olds = old.as_object().into_iter().flatten().map(|(name, _)| name);
                if olds.any(|name| new[name].is_null()) {
                    let why = format!("resource {part} cannot be removed");
                    errors.push(FieldError::forbidden(format!("{path}.{part}"), why));
                }
                let mut news = new.as_object().into_iter().flatten();
                if news.any(|(name, value)| !SHARED_RESOURCES.contains(&&**name) && old[name] != *value) {
                    errors.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable"));
                }
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(resources: &Value) -> Value {
        json!({"spec": {"containers": [{"name": "a", "image": "i", "resources": resources}]}})
    }

    #[test]
    fn only_the_resources_of_running_containers_are_taken_over() {
        let live = json!({"spec": {
            "nodeName": "n",
            "containers": [{"name": "a", "image": "i", "resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [{"name": "b", "resources": {}}, {"name": "c", "restartPolicy": "Always"}],
        }});
        let new = json!({"requests": {"cpu": "2"}});
        let asked = json!({"spec": {
            "containers": [{"name": "a", "image": "other", "resources": new}],
            "initContainers": [{"name": "b", "resources": new}, {"name": "c", "resources": new}],
        }});
        let expected = json!({
            "nodeName": "n",
            "containers": [{"name": "a", "image": "i", "resources": new}],
            "initContainers": [{"name": "b", "resources": {}}, {"name": "c", "restartPolicy": "Always", "resources": new}],
        });
        assert_eq!(spec(&asked, &live), expected);
        let another = json!({"spec": {"containers": [{"name": "b"}]}});
        assert_eq!(spec(&another, &live), another["spec"]);
        assert!(!validate(&another, &live).is_empty());
    }

    #[test]
    fn resources_change_but_are_not_removed() {
        let live = pod(&json!({"requests": {"cpu": "1", "novel": "1"}, "limits": {"cpu": "2"}}));
        let errors = |resources: Value| -> Vec<String> {
            validate(&pod(&resources), &live).iter().map(ToString::to_string).collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(
            errors(json!({"requests": {"cpu": "3", "memory": "1", "novel": "1"}, "limits": {"cpu": "4"}})),
            none
        );
        assert_eq!(
            errors(json!({"requests": {"cpu": "1", "novel": "1"}})),
            ["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"]
        );
        assert_eq!(
            errors(json!({"requests": {"cpu": "1", "novel": "2"}, "limits": {"cpu": "2"}})),
            ["spec: Forbidden: only cpu and memory resources are mutable"]
        );
        let quality = validate(&pod(&json!({})), &pod(&json!({"requests": {"cpu": "1"}})));
        assert!(quality[0].to_string().contains("QOS Class"), "{quality:?}");
    }
}
