//! [`Patch`]: writes exactly the changes that a closure made to a cached object.
//!
//! A cached object lacks `managedFields`, the last-applied annotation and every field that a transform
//! dropped. A PUT would remove those fields on the server. A merge patch of the difference keeps them.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::core::Status;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::shared_cache::SharedCache;
use crate::error_text::error_text;
use crate::kind::{CacheObject, DecodeError};
use crate::not_sent::is_not_sent;
use crate::object::ObjectKey;

/// How long a write may take, from the request to the last byte of the response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest response that is read.
const MAX_BODY: usize = 16 << 20;

/// The reason why a patch was not written, or its response could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// The object cannot be serialized as JSON.
    #[error("patching {kind} {key}: cannot write the object as JSON: {source}")]
    Serialize {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
        /// The error of the serializer.
        source: serde_json::Error,
    },
    /// The change would overwrite what the cache could not read of the object.
    #[error("patching {kind} {key}: the change would overwrite what could not be read: {unread}")]
    Unread {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
        /// The field, and why it could not be read.
        unread: DecodeError,
    },
    /// The cache does not have the kind.
    #[error("patching {kind} {key}: the cache does not have this kind")]
    OutOfScope {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
    },
    /// The API server rejected the patch.
    #[error("patching {kind} {key}: HTTP {}: {}", .status.code, .status.message)]
    Status {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
        /// The status that the API server returned.
        status: Box<Status>,
    },
    /// The request was [not sent](crate::NotSent), for instance because the connection was refused. Nothing was written.
    #[error("patching {kind} {key}: not sent: {cause}")]
    NotSent {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
        /// The error with its causes.
        cause: String,
    },
    /// The request or its response failed. The patch may have been written.
    #[error("patching {kind} {key}: {cause}")]
    Transport {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
        /// The error with its causes.
        cause: String,
    },
    /// The response was not complete in time. The patch may have been written.
    #[error("patching {kind} {key}: no answer within {} s", WRITE_TIMEOUT.as_secs())]
    Timeout {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
    },
    /// The patch was written, but the object that the API server returned cannot be decoded.
    #[error("patching {kind} {key}: written, but the answer cannot be decoded: {cause}")]
    Decode {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
        /// The field that does not match its type.
        cause: DecodeError,
    },
}

impl PatchError {
    /// Returns true if the object has changed since it was read (HTTP 409). The caller should then read it
    /// again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.code == 409)
    }

    /// Returns true if the object no longer exists (HTTP 404).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.code == 404)
    }

    /// Returns true if the object has changed since it was read, or no longer exists. The cache will show that.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.is_conflict() || self.is_not_found()
    }

    /// Returns true if the API server may have written the patch, now or later. Only a read of the object tells. False
    /// means that nothing was written: the patch may be repeated.
    #[must_use]
    pub fn may_be_written(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Timeout { .. } | Self::Decode { .. } => true,
            Self::Status { status, .. } => status.code >= 500,
            Self::Serialize { .. } | Self::Unread { .. } | Self::OutOfScope { .. } | Self::NotSent { .. } => {
                false
            }
        }
    }
}

/// A write of a cached object. Await it. Created by [`SharedCache::patch`].
///
/// Sends a JSON merge patch (RFC 7386) of exactly the closure's changes, and sends nothing if there are no
/// changes. A list that differs is written as a whole. A change is refused if it would overwrite a field that the cache
/// could not read ([`CachedResource::unread_fields`](crate::CachedResource::unread_fields)). The response is recorded as an
/// [expectation](SharedCache::expect), so the cache knows when it has seen the write.
///
/// If the future is dropped, the patch may or may not have been written.
#[must_use = "a patch is sent only when it is awaited"]
pub struct Patch<K: CacheObject> {
    cache: SharedCache,
    old: Arc<K>,
    changes: Result<Value, serde_json::Error>,
    subresource: Option<&'static str>,
    if_unchanged: bool,
}

impl SharedCache {
    /// Creates a write of the changes that `change` makes to a cached object.
    pub fn patch<K: CacheObject + Serialize + Clone>(
        &self,
        old: &Arc<K>,
        change: impl FnOnce(&mut K),
    ) -> Patch<K> {
        let mut new = K::clone(old);
        change(&mut new);
        let changes =
            serde_json::to_value(&**old).and_then(|old| Ok(difference(&old, &serde_json::to_value(&new)?)));
        Patch { cache: self.clone(), old: Arc::clone(old), changes, subresource: None, if_unchanged: false }
    }
}

impl<K: CacheObject> Patch<K> {
    /// Sends the resource version with the patch. The write then fails with a conflict if the object has
    /// changed since it was cached.
    pub fn if_unchanged(mut self) -> Self {
        self.if_unchanged = true;
        self
    }

    /// Writes the status subresource. The API server then ignores all other fields.
    pub fn status(mut self) -> Self {
        self.subresource = Some("status");
        self
    }

    async fn send(self) -> Result<Arc<K>, PatchError> {
        let (kind, key) = (K::kind(&()).into_owned(), ObjectKey::of(&*self.old));
        let mut changes = match self.changes {
            Ok(Value::Object(changes)) => changes,
            Ok(_) => Map::new(),
            Err(source) => return Err(PatchError::Serialize { kind, key, source }),
        };
        if changes.is_empty() {
            return Ok(self.old);
        }
        let Some(watched) = self.cache.watched::<K>() else {
            return Err(PatchError::OutOfScope { kind, key });
        };
        let mut unread = watched.params.unread_fields(&self.old).iter();
        if let Some(unread) = unread.find(|unread| touches(&changes, &unread.field)).cloned() {
            return Err(PatchError::Unread { kind, key, unread });
        }
        if self.if_unchanged {
            let metadata = changes.entry("metadata").or_insert_with(|| json!({}));
            metadata["resourceVersion"] = json!(self.old.meta().resource_version);
        }
        let path = K::url_path(&(), self.old.meta().namespace.as_deref());
        let subresource = self.subresource.map_or(String::new(), |name| format!("/{name}"));
        let request = http::Request::patch(format!("{path}/{}{subresource}", key.name))
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .body(Body::from(Value::Object(changes).to_string().into_bytes()));
        let exchange = async {
            let request = request.map_err(|error| Failed { is_sent: false, cause: error_text(&error) })?;
            let response = self.cache.client().send(request).await.map_err(|error| Failed::of(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| Failed::of(&*error))?;
            Ok::<_, Failed>((parts.status.as_u16(), body.to_bytes()))
        };
        let Ok(answer) = tokio::time::timeout(WRITE_TIMEOUT, exchange).await else {
            return Err(PatchError::Timeout { kind, key });
        };
        let (code, body) = match answer {
            Ok(answer) => answer,
            Err(Failed { is_sent: false, cause }) => return Err(PatchError::NotSent { kind, key, cause }),
            Err(Failed { cause, .. }) => return Err(PatchError::Transport { kind, key, cause }),
        };
        let text = String::from_utf8_lossy(&body);
        if !(200..300).contains(&code) {
            let status = serde_json::from_str::<Status>(&text).unwrap_or_default().with_code(code).boxed();
            return Err(PatchError::Status { kind, key, status });
        }
        match watched.params.decode(&text) {
            Ok(written) => {
                self.cache.expect(&written);
                Ok(Arc::new(written))
            }
            Err(cause) => Err(PatchError::Decode { kind, key, cause }),
        }
    }
}

impl<K: CacheObject> IntoFuture for Patch<K> {
    type Output = Result<Arc<K>, PatchError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Why there is no answer.
struct Failed {
    /// False if certainly nothing was sent.
    is_sent: bool,
    cause: String,
}

impl Failed {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { is_sent: !is_not_sent(error), cause: error_text(error) }
    }
}

/// Returns the merge patch that turns one value into another; an empty object if they are equal objects.
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return new.clone();
    };
    let mut patch = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in new {
        match old.get(name) {
            Some(old) if old == value => {}
            // A merge patch cannot set a field to null. Kubernetes treats a null field as a missing field.
            Some(old) => {
                patch.insert(name.clone(), difference(old, value));
            }
            None if value.is_null() => {}
            None => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

/// Returns true if a merge patch changes the field of this path, a part of it, or a list or value that contains it. The
/// path is that of a [`DecodeError`]. The names in it may contain dots, so every name that fits is followed.
fn touches(changes: &Map<String, Value>, path: &str) -> bool {
    path == "."
        || changes.iter().any(|(name, change)| match (path.strip_prefix(&**name), change) {
            (None, _) => false,
            (Some(rest), Value::Object(inner)) => match rest.strip_prefix('.') {
                Some(rest) => touches(inner, rest),
                None => rest.is_empty() || rest.starts_with('['),
            },
            (Some(rest), _) => rest.is_empty() || rest.starts_with(['.', '[']),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w3_the_difference_holds_exactly_what_changed() {
        let old =
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"list": [1, 2], "same": true}});
        let new = json!({"metadata": {"labels": {"a": "1", "c": "3"}}, "spec": {"list": [2], "same": true, "no": null}});
        let expected = json!({"metadata": {"labels": {"b": null, "c": "3"}}, "spec": {"list": [2]}});
        assert_eq!(difference(&old, &new), expected);
        assert_eq!(difference(&old, &old), json!({}));
        assert_eq!(difference(&json!({"a": {"b": 1}}), &json!({"a": 5})), json!({"a": 5}));
    }

    #[test]
    fn v9_a_patch_touches_a_field_that_it_is_contains_or_lies_within() {
        let touched = |patch: Value, path| touches(patch.as_object().unwrap(), path);
        for (patch, path, expected) in [
            (json!({"status": {"conditions": [1]}}), "status.conditions[1].reason", true),
            (json!({"status": null}), "status.conditions[1].reason", true),
            (json!({"status": {"phase": "x"}}), "status.conditions[1].reason", false),
            (json!({"status": {"conditions": [1]}}), "status.conditionsOld[1]", false),
            (json!({"spec": {"limits": {"cpu": "1"}}}), "spec.limits", true),
            (json!({"spec": {"limits": {"cpu": "1"}}}), "spec.limits.memory", false),
            (json!({"metadata": {"labels": {"a.b/c": "1"}}}), "metadata.labels.a.b/c", true),
            (json!({"metadata": {"labels": {"x": "1", "a.b/c.d": "1"}}}), "metadata.labels.a.b/c", false),
            (json!({"spec": {"x": 1}}), ".", true),
        ] {
            assert_eq!(touched(patch.clone(), path), expected, "{patch} {path}");
        }
    }
}
