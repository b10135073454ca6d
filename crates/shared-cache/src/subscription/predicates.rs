//! Predicates: decide which changes a subscription or a controller receives.
//!
//! A predicate is any `Fn(&Event<K>) -> bool`. The functions here reject only a change that leaves the
//! compared part equal. Added and deleted objects are always accepted.

use std::collections::BTreeMap;

use kube::Resource;

use super::event::Event;

/// Accepts a change if `metadata.generation` changed, that is, if the spec changed.
pub fn generation_changed<K: Resource>() -> impl Fn(&Event<K>) -> bool + Send + Sync + 'static {
    changed(|object: &K| object.meta().generation)
}

/// Accepts a change if the labels changed.
pub fn labels_changed<K: Resource>() -> impl Fn(&Event<K>) -> bool + Send + Sync + 'static {
    compared(|object: &K| object.meta().labels.as_ref())
}

/// Accepts a change if the annotations changed.
pub fn annotations_changed<K: Resource>() -> impl Fn(&Event<K>) -> bool + Send + Sync + 'static {
    compared(|object: &K| object.meta().annotations.as_ref())
}

/// Accepts a change if the value that `read` returns changed.
pub fn changed<K, T: PartialEq>(
    read: impl Fn(&K) -> T + Send + Sync + 'static,
) -> impl Fn(&Event<K>) -> bool + Send + Sync + 'static {
    move |event| match event {
        Event::Applied { old: Some(old), new } => read(old) != read(new),
        _ => true,
    }
}

fn compared<K>(
    read: impl Fn(&K) -> Option<&BTreeMap<String, String>> + Send + Sync + 'static,
) -> impl Fn(&Event<K>) -> bool + Send + Sync + 'static {
    move |event| match event {
        Event::Applied { old: Some(old), new } => read(old) != read(new),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    use super::*;
    use crate::object::DeletionReason;

    fn object(generation: i64, label: &str, annotation: &str) -> Arc<ConfigMap> {
        let map = |value: &str| Some(BTreeMap::from([("key".to_owned(), value.to_owned())]));
        let metadata = ObjectMeta {
            generation: Some(generation),
            labels: map(label),
            annotations: map(annotation),
            ..ObjectMeta::default()
        };
        Arc::new(ConfigMap { metadata, ..ConfigMap::default() })
    }

    #[test]
    fn a_predicate_drops_only_changes_that_leave_its_part_equal() {
        let change = |new| Event::Applied { old: Some(object(1, "a", "a")), new };
        let accepted = |event: &Event<ConfigMap>| {
            [
                generation_changed()(event),
                labels_changed()(event),
                annotations_changed()(event),
                changed(|map: &ConfigMap| map.data.is_some())(event),
            ]
        };
        assert_eq!(accepted(&change(object(1, "a", "a"))), [false; 4]);
        assert_eq!(accepted(&change(object(2, "a", "a"))), [true, false, false, false]);
        assert_eq!(accepted(&change(object(1, "b", "a"))), [false, true, false, false]);
        assert_eq!(accepted(&change(object(1, "a", "b"))), [false, false, true, false]);
        assert_eq!(accepted(&Event::Applied { old: None, new: object(1, "a", "a") }), [true; 4]);
        let last_known = object(1, "a", "a");
        assert_eq!(accepted(&Event::Deleted { last_known, reason: DeletionReason::Removed }), [true; 4]);
        assert_eq!(accepted(&Event::Synced), [true; 4]);
    }
}
