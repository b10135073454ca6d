//! Reads and writes the metadata of an object as JSON.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Map, Value, json};

/// The finalizer that keeps an owner until its dependents are deleted.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer that keeps an owner until its dependents no longer name it.
pub(crate) const ORPHAN: &str = "orphan";

/// The text at `metadata.{field}`, or an empty text.
pub(crate) fn meta_text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The name, or an empty text.
pub(crate) fn name(object: &Value) -> &str {
    meta_text(object, "name")
}

/// The namespace, or an empty text for cluster-scoped objects.
pub(crate) fn namespace(object: &Value) -> &str {
    meta_text(object, "namespace")
}

/// The UID, or an empty text.
pub(crate) fn uid(object: &Value) -> &str {
    meta_text(object, "uid")
}

/// The metadata, to write to. Replaces anything that is not an object.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(object, "metadata")
}

/// The object in a field, to write to. Replaces anything that is not an object.
pub(crate) fn child_mut<'a>(parent: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !parent.is_object() {
        *parent = json!({});
    }
    let child = &mut parent[field];
    if !child.is_object() {
        *child = json!({});
    }
    child.as_object_mut().expect("it was made an object")
}

/// Whether deletion of the object has begun.
pub(crate) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// The finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The labels, without values that are not texts.
pub(crate) fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The UIDs of the owners.
pub(crate) fn owners(object: &Value) -> impl Iterator<Item = &str> {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.filter_map(|owner| owner["uid"].as_str())
}

/// Removes items from a list of the metadata, and the list itself if it becomes empty.
pub(crate) fn drop_from(object: &mut Value, field: &str, is_unwanted: impl Fn(&Value) -> bool) {
    let metadata = metadata_mut(object);
    let Some(list) = metadata.get_mut(field).and_then(Value::as_array_mut) else { return };
    list.retain(|item| !is_unwanted(item));
    if list.is_empty() {
        metadata.remove(field);
    }
}

/// Removes a finalizer.
pub(crate) fn drop_finalizer(object: &mut Value, finalizer: &str) {
    drop_from(object, "finalizers", |found| found == finalizer);
}

/// The bytes of a value as JSON, without writing it.
pub(crate) fn json_size(value: &Value) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Neither a value nor the counter can fail. If one did, the value would count as too large.
    serde_json::to_writer(&mut counter, value).map_or(usize::MAX, |()| counter.0)
}
