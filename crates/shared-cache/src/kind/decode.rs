//! [`decode_json`]: decodes an object and removes the fields that the cache never stores. [`decode_text`]: decodes
//! a part of an object that was kept as text.

use kube::Resource;
use serde::de::DeserializeOwned;

/// The annotation in which `kubectl apply` stores a whole copy of the object. The cache removes it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Decodes an object from its JSON text and removes the fields that the cache never stores. These are
/// `managedFields` and the annotation in which `kubectl apply` stores a copy of the object.
///
/// # Errors
///
/// [`DecodeError`], which names the field that does not match its type.
pub fn decode_json<K: Resource<DynamicType = ()> + DeserializeOwned>(json: &str) -> Result<K, DecodeError> {
    drop_unstored(decode_text(json)?)
}

/// Decodes any value from its JSON text.
///
/// # Errors
///
/// [`DecodeError`], which names the field that does not match its type.
pub fn decode_text<T: DeserializeOwned>(json: &str) -> Result<T, DecodeError> {
    serde_json::from_str(json).map_err(|_| DecodeError::locate::<T>(json))
}

/// Removes the fields that the cache never stores. Fails if the object has no name.
pub(super) fn drop_unstored<K: Resource<DynamicType = ()>>(mut object: K) -> Result<K, DecodeError> {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            meta.annotations = None;
        }
    }
    if meta.name.as_deref().is_none_or(str::is_empty) {
        return Err(DecodeError { field: "metadata.name".into(), problem: "is missing".into() });
    }
    Ok(object)
}

/// Describes why a JSON text is not an object of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct DecodeError {
    /// Path of the field, such as `spec.template.spec.containers[0].image`; `.` for the object as a whole.
    pub field: String,
    /// The fault of the field.
    pub problem: String,
}

impl DecodeError {
    pub(super) fn new(path: &serde_path_to_error::Path, error: &serde_json::Error) -> Self {
        Self { field: path.to_string(), problem: redact(&error.to_string()) }
    }

    /// Decodes the text again and tracks the path. This is slower, so it only runs after a failure.
    fn locate<K: DeserializeOwned>(json: &str) -> Self {
        let deserializer = &mut serde_json::Deserializer::from_str(json);
        match serde_path_to_error::deserialize::<_, K>(deserializer) {
            Ok(_) => Self { field: ".".into(), problem: "trailing characters after the object".into() },
            Err(error) => Self::new(error.path(), error.inner()),
        }
    }
}

/// Removes the quoted values from a decoder's message, because they may be secrets.
fn redact(problem: &str) -> String {
    let mut text = problem.to_owned();
    for quote in ['"', '`'] {
        let Some(start) = text.find(quote) else { continue };
        let end = if quote == '"' {
            text.rfind(quote)
        } else {
            text[start + 1..].find(quote).map(|i| start + 1 + i)
        };
        if let Some(end) = end.filter(|&end| end > start) {
            text.replace_range(start..=end, "(not shown)");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[test]
    fn e6_a_decode_error_names_the_whole_path_of_the_field() {
        let error = |spec: &str| {
            let json = format!(r#"{{"metadata": {{"name": "a"}}, "spec": {spec}}}"#);
            decode_json::<Pod>(&json).unwrap_err()
        };
        let image = error(r#"{"containers": [{"name": "a", "image": 5}]}"#);
        assert_eq!(image.field, "spec.containers[0].image");
        assert!(image.problem.starts_with("invalid type: integer"), "{}", image.problem);
        let nameless = decode_json::<Pod>(r#"{"metadata": {}, "spec": {"containers": []}}"#).unwrap_err();
        assert_eq!(nameless.to_string(), "metadata.name: is missing");
    }

    #[test]
    fn e2_managed_fields_and_the_last_applied_copy_are_dropped() {
        let json = r#"{"metadata": {"name": "a", "managedFields": [{"manager": "m"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}}"#;
        let pod: Pod = decode_json(json).unwrap();
        assert_eq!((pod.metadata.managed_fields, pod.metadata.annotations), (None, None));
    }

    #[test]
    fn e6_a_message_never_quotes_the_value() {
        assert_eq!(
            redact(r#"invalid type: string "hun"ter2", expected i32"#),
            "invalid type: string (not shown), expected i32"
        );
        assert_eq!(
            redact("unknown variant `hunter2`, expected `A`"),
            "unknown variant (not shown), expected `A`"
        );
        assert_eq!(redact("missing field"), "missing field");
    }
}
