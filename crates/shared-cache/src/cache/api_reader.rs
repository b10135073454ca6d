//! [`ApiReader`]: reads that bypass the cache.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use kube::api::{GetParams, ListParams, Request};
use kube::client::Body;
use kube::core::{PartialObjectMeta, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error_text::error_text;
use crate::kind::{CacheObject, DecodeError, decode_json};
use crate::object::ObjectKey;

/// How long one live read may take, from the request to the last byte of the response.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest object that is read. The API server accepts bodies of 3 MB.
const MAX_BODY: usize = 16 << 20;

/// The reason why a live read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The API server returned an error.
    #[error("reading {kind} {key}: HTTP {}: {}", .status.code, .status.message)]
    Status {
        /// Kind that was read.
        kind: String,
        /// Object that was read.
        key: ObjectKey,
        /// The status that the API server returned.
        status: Box<Status>,
    },
    /// The request failed before a response.
    #[error("reading {kind} {key}: {cause}")]
    Transport {
        /// Kind that was read.
        kind: String,
        /// Object that was read.
        key: ObjectKey,
        /// The error with its causes.
        cause: String,
    },
    /// The response was not complete within [`READ_TIMEOUT`].
    #[error("reading {kind} {key}: no answer within {} s", READ_TIMEOUT.as_secs())]
    Timeout {
        /// Kind that was read.
        kind: String,
        /// Object that was read.
        key: ObjectKey,
    },
    /// No object can have this name or be in this namespace.
    #[error("reading {kind} {key}: not a name that an object can have")]
    InvalidName {
        /// Kind that was read.
        kind: String,
        /// The object that was requested.
        key: ObjectKey,
    },
    /// The object cannot be decoded.
    #[error("reading {kind} {key}: {cause}")]
    Decode {
        /// Kind that was read.
        kind: String,
        /// Object that was read.
        key: ObjectKey,
        /// The field that does not match its type.
        cause: DecodeError,
    },
}

/// Reads objects from the API server itself, each with a deadline. Like cached objects, they have no
/// `managedFields`. Cheap to clone.
#[derive(Clone)]
pub struct ApiReader {
    client: kube::Client,
}

impl ApiReader {
    pub(super) fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// Returns the current object from the API server; `None` if there is none. The namespace of
    /// cluster-scoped kinds is `""`. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; a retry may succeed for all but [`ReadError::Decode`].
    pub async fn get<K: CacheObject + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<K>>, ReadError> {
        self.read(namespace, name, &decode_json::<K>).await
    }

    /// Returns true if the API server still has this object: one of its name and UID. Sends a `list` request that
    /// selects the name, so that the permissions of a watch are enough. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; a retry may succeed.
    pub async fn still_has<K: CacheObject>(&self, object: &K) -> Result<bool, ReadError> {
        #[derive(Deserialize)]
        struct List {
            items: Vec<PartialObjectMeta>,
        }
        let key = ObjectKey::of(object);
        let params = ListParams::default().fields(&format!("metadata.name={}", key.name)).limit(1);
        let path = K::url_path(&(), Some(&*key.namespace).filter(|namespace| !namespace.is_empty()));
        let (code, body) = self.send::<K>(&key, Request::new(path).list(&params)).await?;
        let kind = K::kind(&()).into_owned();
        if code != 200 {
            return Err(ReadError::Status { kind, key, status: status_of(code, &body).boxed() });
        }
        let list: List = serde_json::from_slice(&body).map_err(|error| {
            let cause = DecodeError { field: "items".into(), problem: error.to_string() };
            ReadError::Decode { kind, key: key.clone(), cause }
        })?;
        let is_it = |found: &PartialObjectMeta| {
            found.metadata.name.as_deref() == Some(&*key.name) && found.metadata.uid == object.meta().uid
        };
        Ok(list.items.iter().any(is_it))
    }

    /// Reads as [`Self::get`] does, with the decoder of the caller.
    pub(super) async fn read<K: CacheObject>(
        &self,
        namespace: &str,
        name: &str,
        decode: &(dyn Fn(&str) -> Result<K, DecodeError> + Sync),
    ) -> Result<Option<Arc<K>>, ReadError> {
        let key = ObjectKey::new(namespace, name);
        if !is_path_segment(name) || !(namespace.is_empty() || is_path_segment(namespace)) {
            return Err(ReadError::InvalidName { kind: K::kind(&()).into_owned(), key });
        }
        let kind = || K::kind(&()).into_owned();
        let path = K::url_path(&(), Some(namespace).filter(|ns| !ns.is_empty()));
        let request = Request::new(path).get(name, &GetParams::default());
        let (code, body) = self.send::<K>(&key, request).await?;
        let text = String::from_utf8_lossy(&body);
        match code {
            200 => match decode(&text) {
                Ok(object) => Ok(Some(Arc::new(object))),
                Err(cause) => Err(ReadError::Decode { kind: kind(), key, cause }),
            },
            code => {
                let status = status_of(code, &body);
                // The API server also returns 404 if the kind is not served. Only a 404 that names the object
                // means that it is gone.
                let names_it = status.details.as_ref().is_some_and(|details| details.name == name);
                if code == 404 && names_it {
                    return Ok(None);
                }
                Err(ReadError::Status { kind: kind(), key, status: status.boxed() })
            }
        }
    }

    /// Sends a request and returns the status code and the body of its response.
    async fn send<K: CacheObject>(
        &self,
        key: &ObjectKey,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<(u16, Bytes), ReadError> {
        let kind = || K::kind(&()).into_owned();
        let transport = |cause| ReadError::Transport { kind: kind(), key: key.clone(), cause };
        let exchange = async {
            let request = request.map_err(|error| transport(error_text(&error)))?;
            let response = self.client.send(request.map(Body::from)).await;
            let (parts, body) = response.map_err(|error| transport(error_text(&error)))?.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await;
            let body = body.map_err(|error| transport(error_text(&*error)))?.to_bytes();
            Ok((parts.status.as_u16(), body))
        };
        let exchange = tokio::time::timeout(READ_TIMEOUT, exchange).await;
        exchange.map_err(|_| ReadError::Timeout { kind: kind(), key: key.clone() })?
    }
}

fn status_of(code: u16, body: &[u8]) -> Status {
    serde_json::from_slice::<Status>(body).unwrap_or_default().with_code(code)
}

/// Returns true if a text is exactly one segment of a path, as every Kubernetes name and namespace is.
fn is_path_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && !text.contains(['/', '%', '?', '#'])
        && text.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_change_what_is_read_is_refused() {
        for name in ["", ".", "..", "a/status", "../secrets/b", "a?x=y", "a#b", "%2e", "a b", "ü"] {
            assert!(!is_path_segment(name), "{name}");
        }
        for name in ["a", "a-1.b", "system:node", "A_b"] {
            assert!(is_path_segment(name), "{name}");
        }
    }
}
