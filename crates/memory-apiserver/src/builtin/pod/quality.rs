//! The quality of service of a Pod, which follows from its resources.

use serde_json::Value;

/// The resources that decide about it, and that a resize changes.
pub(super) const SHARED_RESOURCES: [&str; 2] = ["cpu", "memory"];

/// Returns the class of the Pod with this spec.
pub(super) fn quality_of_service(spec: &Value) -> &'static str {
    let containers = || {
        let lists = ["containers", "initContainers"].map(|list| spec[list].as_array());
        lists.into_iter().flatten().flatten().map(|container| &container["resources"])
    };
    let is_set = |resources: &Value, of: &str, name: &str| !resources[of][name].is_null();
    let guaranteed = |resources: &Value| {
        SHARED_RESOURCES.iter().all(|name| {
            is_set(resources, "limits", name) && resources["limits"][name] == resources["requests"][name]
        })
    };
    let any = |resources: &Value| {
        SHARED_RESOURCES
            .iter()
            .any(|name| is_set(resources, "limits", name) || is_set(resources, "requests", name))
    };
    if !containers().any(any) {
        "BestEffort"
    } else if containers().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_quality_of_service_follows_from_the_resources() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, class) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": both, "requests": both}), "Guaranteed"),
            (json!({"limits": both, "requests": {"cpu": "1"}}), "Burstable"),
        ] {
            let spec = json!({"containers": [{"name": "c", "resources": resources}]});
            assert_eq!(quality_of_service(&spec), class, "{resources}");
        }
    }
}
