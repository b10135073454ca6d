//! Requests straight to a [`ServerState`], for unit tests.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::access::User;
use super::state::{ServerState, Settings};
use super::store::Limits;
use super::{object, router};

/// A server for one test, and requests of an administrator to it.
pub(crate) struct Harness {
    pub(crate) state: Arc<ServerState>,
}

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::of(Settings { limits, ..Settings::default() })
    }

    pub(crate) fn of(settings: Settings) -> Self {
        Self { state: Arc::new(ServerState::new(settings)) }
    }

    /// Sends a request and returns the code and the body of its answer.
    pub(crate) async fn request(
        &self,
        request: http::request::Builder,
        body: impl Into<Body>,
    ) -> (u16, Vec<u8>) {
        let mut request = request.body(body.into()).unwrap();
        request.extensions_mut().insert(self.state.access.sender(User::admin(), true));
        let response = router::handle(Arc::clone(&self.state), request).await.unwrap();
        let code = response.status().as_u16();
        (code, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    async fn send(&self, method: Method, path: &str, content_type: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (code, body) = self.request(request, body).await;
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, "", &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, object: Value) -> (u16, Value) {
        self.send(Method::POST, path, "application/json", &object).await
    }

    pub(crate) async fn merge(&self, path: &str, change: Value) -> (u16, Value) {
        self.send(Method::PATCH, path, "application/merge-patch+json", &change).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.send(Method::DELETE, path, "", &Value::Null).await
    }

    /// Creates an object and expects success.
    pub(crate) async fn create(&self, path: &str, object: Value) -> Value {
        let (code, created) = self.post(path, object).await;
        assert_eq!(code, 201, "{created}");
        created
    }

    /// Whether an object exists.
    pub(crate) async fn has(&self, path: &str) -> bool {
        match self.get(path).await {
            (200, _) => true,
            (404, _) => false,
            other => panic!("{path}: {other:?}"),
        }
    }

    /// Removes every finalizer of an object.
    pub(crate) async fn free(&self, path: &str) {
        let (code, freed) = self.merge(path, json!({"metadata": {"finalizers": null}})).await;
        assert_eq!(code, 200, "{freed}");
    }

    /// The lines of a watch up to its end, as the type and the name of each event.
    pub(crate) async fn watch(&self, path: &str) -> Vec<(String, String)> {
        let (code, body) = self.request(Request::get(path), Body::empty()).await;
        assert_eq!(code, 200);
        let events = serde_json::Deserializer::from_slice(&body).into_iter::<Value>().map(Result::unwrap);
        let text = |event: &Value| event["type"].as_str().unwrap_or_default().to_owned();
        events.map(|event| (text(&event), object::name(&event["object"]).to_owned())).collect()
    }
}

/// A definition of a kind with a free schema; its plural is its name in small letters and an `s`.
pub(crate) fn definition(group: &str, kind: &str) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}},
            ],
        },
    })
}
