//! Events: one storage, and two groups that name the same fields differently. They are stored as `v1`.

use serde_json::{Map, Value, json};

/// The fields with different names: the name in `v1`, and the name in `events.k8s.io/v1`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// An Event of `v1` as one of `events.k8s.io/v1`.
pub(crate) fn to_events_group(event: Value) -> Value {
    rename(event, "events.k8s.io/v1", |field| {
        NAMES.iter().find(|(core, _)| *core == field).map(|(_, other)| *other)
    })
}

/// An Event of `events.k8s.io/v1` as one of `v1`.
pub(crate) fn to_core_group(event: Value) -> Value {
    rename(event, "v1", |field| NAMES.iter().find(|(_, other)| *other == field).map(|(core, _)| *core))
}

fn rename(event: Value, version: &str, name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(fields) = event else { return event };
    let renamed = |(field, value): (String, Value)| match name(&field) {
        Some(name) => (name.to_owned(), value),
        None => (field, value),
    };
    let mut event: Map<_, _> = fields.into_iter().map(renamed).collect();
    event.insert("apiVersion".to_owned(), json!(version));
    Value::Object(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_groups_show_the_same_event() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "message": "m", "count": 2,
                          "involvedObject": {"name": "a"}, "reason": "R"});
        let other = to_events_group(core.clone());
        assert_eq!((&other["note"], &other["regarding"]["name"]), (&json!("m"), &json!("a")));
        assert_eq!(other["apiVersion"], "events.k8s.io/v1");
        assert_eq!(to_core_group(other), core);
    }
}
