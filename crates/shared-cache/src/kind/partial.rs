//! [`decode_partially`]: decodes an object without the fields that do not match their types.
//!
//! A field that the cache only stores must not hide its object. The API server may serve such a field, because it
//! validates by the installed CRD, which may be older or newer than the Rust type.

use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::decode::{DecodeError, decode_text, drop_unstored};

/// Number of faults after which a whole field such as `spec.template` is removed instead of the fault alone.
const SINGLE_FAULTS: usize = 16;

/// Number of faults after which an object is undecodable. More faults would take too much time.
const MAX_FAULTS: usize = 64;

/// The fields of `metadata` without which the store cannot store an object.
const IDENTITY: [&str; 4] = ["name", "namespace", "uid", "resourceVersion"];

/// Decodes an object like [`decode_json`](super::decode_json), but omits the fields that do not match their types.
///
/// Returns the object and the omitted fields. A fault removes the smallest part that the type can do without: an
/// optional field, a list element or a map entry. A valid object costs no more than with `decode_json`. Each fault
/// costs about as much as decoding the object five times.
///
/// # Errors
///
/// If the text is not JSON, the name, namespace, UID or resource version cannot be read, or nothing that could be
/// omitted makes the object decodable.
pub fn decode_partially<K: Resource<DynamicType = ()> + DeserializeOwned>(
    json: &str,
) -> Result<(K, Vec<DecodeError>), DecodeError> {
    match serde_json::from_str(json) {
        Ok(object) => Ok((drop_unstored(object)?, Vec::new())),
        Err(_) => omit_faults(json),
    }
}

#[cold]
fn omit_faults<K: Resource<DynamicType = ()> + DeserializeOwned>(
    json: &str,
) -> Result<(K, Vec<DecodeError>), DecodeError> {
    let mut value: Value = decode_text(json)?;
    let mut faults = Vec::new();
    loop {
        let text = value.to_string();
        let deserializer = &mut serde_json::Deserializer::from_str(&text);
        let error = match serde_path_to_error::deserialize::<_, K>(deserializer) {
            Ok(object) => return Ok((drop_unstored(object)?, faults)),
            Err(error) => error,
        };
        let mut fault = DecodeError::new(error.path(), error.inner());
        let mut path: Vec<&Segment> = error.path().iter().collect();
        if faults.len() >= SINGLE_FAULTS && path.len() > 2 {
            path.truncate(2);
            // The error names what is removed, because that is what nobody may write back.
            fault.field = format!("{}.{}", path[0], path[1]);
        }
        if faults.len() >= MAX_FAULTS || is_identity(&path) || !omit(&mut value, &path) {
            return Err(fault);
        }
        faults.push(fault);
    }
}

/// Returns true if the path is `metadata` or one of the fields that identify the object.
fn is_identity(path: &[&Segment]) -> bool {
    let key = |at: usize| match path.get(at) {
        Some(Segment::Map { key }) => Some(key.as_str()),
        _ => None,
    };
    key(0) == Some("metadata") && (path.len() == 1 || key(1).is_some_and(|field| IDENTITY.contains(&field)))
}

/// Removes the innermost part on the path that exists. Returns false if there is none.
fn omit(value: &mut Value, path: &[&Segment]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    match (first, value) {
        (Segment::Map { key }, Value::Object(fields)) => {
            fields.get_mut(key).is_some_and(|field| omit(field, rest)) || fields.remove(key).is_some()
        }
        (Segment::Seq { index }, Value::Array(items)) => {
            let exists = *index < items.len();
            let omitted = items.get_mut(*index).is_some_and(|item| omit(item, rest));
            if exists && !omitted {
                items.remove(*index);
            }
            exists
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::json;

    use super::*;

    fn decode<K: Resource<DynamicType = ()> + DeserializeOwned>(object: &Value) -> (K, Vec<String>) {
        let (object, faults) = decode_partially(&object.to_string()).unwrap();
        (object, faults.into_iter().map(|fault| fault.field).collect())
    }

    #[test]
    fn v9_a_field_of_a_wrong_type_is_omitted_and_all_others_are_read() {
        let (map, faults) = decode::<ConfigMap>(&json!({
            "metadata": {"name": "a", "labels": {"x": 5, "y": "1"}, "generation": "one", "finalizers": ["f", 7]},
            "data": {"k": "v", "bad": []}, "immutable": "no",
        }));
        assert_eq!(map.metadata.labels.unwrap(), [("y".into(), "1".into())].into());
        assert_eq!((map.metadata.generation, map.metadata.finalizers), (None, Some(vec!["f".into()])));
        assert_eq!((map.data.unwrap(), map.immutable), ([("k".into(), "v".into())].into(), None));
        let mut faults = faults;
        faults.sort();
        let expected =
            ["data.bad", "immutable", "metadata.finalizers[1]", "metadata.generation", "metadata.labels.x"];
        assert_eq!(faults, expected);
    }

    #[test]
    fn v9_an_object_without_identity_is_undecodable() {
        for (field, value) in
            [("name", json!(5)), ("namespace", json!([])), ("uid", json!({})), ("resourceVersion", json!(7))]
        {
            let mut object = json!({"metadata": {"name": "a"}});
            object["metadata"][field] = value;
            let error = decode_partially::<ConfigMap>(&object.to_string()).unwrap_err();
            assert_eq!(error.field, format!("metadata.{field}"));
        }
        for object in ["5", "{", r#"{"metadata": 5}"#, r#"{"metadata": {}}"#, "{}"] {
            assert!(decode_partially::<ConfigMap>(object).is_err(), "{object}");
        }
    }

    #[test]
    fn v9_an_object_of_many_faults_costs_a_limited_number_of_decodes() {
        let labels: serde_json::Map<_, _> = (0..1_000).map(|i| (format!("l{i}"), json!(i))).collect();
        let (pod, faults) =
            decode::<Pod>(&json!({"metadata": {"name": "a", "labels": labels, "generation": 3}}));
        assert_eq!(
            (pod.metadata.labels, pod.metadata.generation, faults.len()),
            (None, Some(3), SINGLE_FAULTS + 1)
        );
        assert_eq!(faults.last().unwrap(), "metadata.labels", "the field that is removed as a whole");
    }
}
