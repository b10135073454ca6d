//! What a kind must offer to be cached: [`CachedResource`].

use std::fmt::Debug;

use jiff::Timestamp;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::index::{IndexFunc, IndexKeys};

/// `kubectl apply` keeps a whole copy of the object in this annotation; the cache does not (behaviour E2).
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Number of the built-in index by namespace; the kind's own indexes follow from 1.
pub(crate) const NAMESPACE_INDEX: u8 = 0;

/// A kind that an [`Informer`](super::Informer) can keep in a [`Store`](super::Store).
///
/// Objects are immutable once stored. Everything here is called by the informer's task, never under a
/// lock, and must not block.
pub trait CachedResource:
    Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
    /// The indexes of the kind. This is their only definition: production and tests read the same.
    #[must_use]
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[]
    }

    /// When the values of [`Self::indexes`] will change by time alone, if they ever will. Depends on the
    /// object only. The store extracts them again once the wall clock has passed this instant (B2).
    fn next_transition(&self) -> Option<Timestamp> {
        None
    }

    /// Reads an object from its JSON text, without `managedFields` and without the copy of itself that
    /// `kubectl apply` leaves in an annotation (E2).
    ///
    /// # Errors
    ///
    /// [`DecodeError`] naming the field that does not fit.
    fn decode(json: &str) -> Result<Self, DecodeError> {
        let mut object: Self = serde_json::from_str(json).map_err(|_| DecodeError::locate::<Self>(json))?;
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
}

/// Why the JSON of an object is not one of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct DecodeError {
    /// Path of the field, as in `spec.template.spec.containers[0].image`; `.` for the object as a whole.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl DecodeError {
    /// The problem of a field that is text to be decoded by itself, such as a pod template, begins with the rest
    /// of the path; it is put where it belongs.
    fn at(field: String, problem: String) -> Self {
        let last = field.rsplit('.').next().unwrap_or_default();
        match problem.split_once(": ") {
            Some((path, rest))
                if path
                    .strip_prefix(last)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])) =>
            {
                Self { field: format!("{field}{}", &path[last.len()..]), problem: rest.to_owned() }
            }
            _ => Self { field, problem },
        }
    }

    /// Reads the text once more, slower, keeping track of where it is. Only ever runs after a failure.
    fn locate<K: DeserializeOwned>(json: &str) -> Self {
        let deserializer = &mut serde_json::Deserializer::from_str(json);
        match serde_path_to_error::deserialize::<_, K>(deserializer) {
            Ok(_) => Self { field: ".".into(), problem: "trailing characters after the object".into() },
            Err(error) => Self::at(error.path().to_string(), error.inner().to_string()),
        }
    }
}

/// All index values of an object at a time.
pub(crate) fn index_keys<K: CachedResource>(object: &K, now: Timestamp) -> IndexKeys {
    let mut keys = IndexKeys::default();
    keys.push(NAMESPACE_INDEX, object.meta().namespace.as_deref().unwrap_or_default());
    for (number, index) in (NAMESPACE_INDEX + 1..).zip(K::indexes()) {
        (index.extract)(object, now, &mut |value| keys.push(number, value));
    }
    keys
}

/// Number of a kind's index by its name.
pub(crate) fn index_number<K: CachedResource>(name: &str) -> Option<u8> {
    (NAMESPACE_INDEX + 1..).zip(K::indexes()).find(|(_, index)| index.name == name).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Sandbox;

    #[test]
    fn e6_a_decode_error_names_the_whole_path_of_the_field() {
        let error = |spec: &str| {
            let json = format!(r#"{{"metadata": {{"name": "a"}}, "spec": {spec}}}"#);
            Sandbox::decode(&json).unwrap_err()
        };
        let template = error(r#"{"template": {"spec": {"containers": [{"name": "a", "image": 5}]}}}"#);
        assert_eq!(template.field, "spec.template.spec.containers[0].image");
        assert!(template.problem.starts_with("invalid type: integer"), "{}", template.problem);
        assert_eq!(error(r#"{"paused": "yes"}"#).field, "spec.paused");
        assert_eq!(error(r#"{"template": "x"}"#).field, "spec.template");
        let nameless = Sandbox::decode(r#"{"metadata": {}, "spec": {}}"#).unwrap_err();
        assert_eq!(nameless.to_string(), "metadata.name: is missing");
    }
}
