//! [`Idempotency`]: a create that is repeated with the same `Idempotency-Key` gets the same sandbox.
//!
//! The key is on the sandbox as an annotation. The engine knows the first sandbox of each key and gives up every other one,
//! so the answer is the same on all replicas. A create that is under way is known to its own replica, and to others as soon
//! as its sandbox is locked.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use super::errors::ApiError;
use super::key::sha256_hex;
use crate::api::v1alpha1::{Sandbox, annotation};
use crate::claims::ANNOTATION_CLAIM_UNFINISHED_UNTIL;

/// On a Sandbox: the SHA-256 of the body of that create.
pub(super) const ANNOTATION_BODY: &str = "e2b.agents.kruise.io/idempotency-body";

const HEADER: &str = "idempotency-key";

/// The key and the body of one create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) key: String,
    pub(super) body: String,
}

impl Request {
    /// Reads the header. None if there is none.
    ///
    /// # Errors
    ///
    /// 400 for a key of another form than `[a-z0-9-]{1,255}`.
    pub(super) fn of(headers: &HeaderMap, body: &[u8]) -> Result<Option<Self>, ApiError> {
        let Some(value) = headers.get(HEADER) else { return Ok(None) };
        let is_key = |text: &&str| {
            (1..=255).contains(&text.len())
                && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        let key = value.to_str().ok().filter(is_key);
        let key =
            key.ok_or_else(|| ApiError::bad_request("Idempotency-Key: expected 1 to 255 of a-z, 0-9 and -"))?;
        Ok(Some(Self { key: key.to_owned(), body: sha256_hex(body) }))
    }

    /// Checks the sandbox of an earlier create with this key.
    ///
    /// # Errors
    ///
    /// 422 if that create had another body; 409 if it is not finished.
    pub(super) fn check(&self, found: &Sandbox) -> Result<(), ApiError> {
        if annotation(&found.metadata, ANNOTATION_BODY) != Some(&self.body) {
            return Err(mismatch());
        }
        if annotation(&found.metadata, ANNOTATION_CLAIM_UNFINISHED_UNTIL).is_some() {
            return Err(in_progress());
        }
        Ok(())
    }
}

fn mismatch() -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "this Idempotency-Key was used with another body")
        .code("idempotency_request_mismatch")
}

pub(super) fn in_progress() -> ApiError {
    ApiError::conflict("a request with this Idempotency-Key is in progress").code("idempotency_in_progress")
}

/// The creates with a key that are under way in this process, by owner and key, with their bodies.
#[derive(Clone, Default)]
pub(super) struct Idempotency(Arc<Mutex<HashMap<(String, String), String>>>);

/// A create that is under way. Another one with its key is refused until this is dropped.
pub(super) struct Underway {
    all: Idempotency,
    key: (String, String),
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.key);
    }
}

impl Idempotency {
    /// Begins a create.
    ///
    /// # Errors
    ///
    /// 409 if one with this key is under way; 422 if that one has another body.
    pub(super) fn begin(&self, owner: &str, request: &Request) -> Result<Underway, ApiError> {
        let key = (owner.to_owned(), request.key.clone());
        let mut underway = self.0.lock();
        match underway.get(&key) {
            Some(body) if *body == request.body => Err(in_progress()),
            Some(_) => Err(mismatch()),
            None => {
                underway.insert(key.clone(), request.body.clone());
                Ok(Underway { all: self.clone(), key })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(key: &str, body: &str) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, key.parse().unwrap());
        Request::of(&headers, body.as_bytes()).unwrap().unwrap()
    }

    fn claimed(request: &Request, unfinished: Option<&str>) -> Sandbox {
        let annotations =
            json!({ANNOTATION_BODY: request.body, ANNOTATION_CLAIM_UNFINISHED_UNTIL: unfinished});
        let mut sandbox = json!({"metadata": {"name": "a", "annotations": annotations}});
        if unfinished.is_none() {
            sandbox["metadata"]["annotations"]
                .as_object_mut()
                .unwrap()
                .remove(ANNOTATION_CLAIM_UNFINISHED_UNTIL);
        }
        serde_json::from_value(sandbox).unwrap()
    }

    #[test]
    fn e2b_1_an_earlier_sandbox_needs_the_same_body_and_a_complete_claim() {
        let one = request("a-1", "{}");
        one.check(&claimed(&one, None)).unwrap();
        assert_eq!(request("a-1", "{ }").check(&claimed(&one, None)), Err(mismatch()));
        assert_eq!(one.check(&claimed(&one, Some("2030-01-02T00:00:00Z"))), Err(in_progress()));
    }

    #[test]
    fn e2b_1_a_second_create_with_a_key_waits_for_the_first_of_its_owner() {
        let (all, one) = (Idempotency::default(), request("a", "{}"));
        let underway = all.begin("owner", &one).unwrap();
        assert_eq!(all.begin("owner", &one).err(), Some(in_progress()));
        assert_eq!(all.begin("owner", &request("a", "{ }")).err(), Some(mismatch()));
        drop(all.begin("other", &one).unwrap());
        drop(underway);
        all.begin("owner", &one).unwrap();
    }

    #[test]
    fn e2b_1_a_key_of_another_form_is_refused() {
        for key in ["", "A", "a b", "ä", &"a".repeat(256)] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, http::HeaderValue::from_bytes(key.as_bytes()).unwrap());
            assert!(Request::of(&headers, b"").is_err(), "{key}");
        }
        assert_eq!(Request::of(&HeaderMap::new(), b""), Ok(None));
    }
}
