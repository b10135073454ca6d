//! The server answers any request, and continues to serve.

mod bodies;
mod objects;
mod requests;

use axum::body::Body;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use serde_json::Value;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

use super::access::User;
use super::harness::{CONFIG_MAPS, Harness};
use super::router;
use objects::with_objects;
use requests::{Attempt, attempt};

/// Maximum number of frames that are read of a body: a watch may have no end.
const MAX_FRAMES: usize = 32;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_requests_are_answered_and_the_server_goes_on(
        attempts in prop::collection::vec(attempt(), 1..6),
    ) {
        runtime().block_on(async {
            let harness = with_objects();
            for attempt in &attempts {
                check(&harness, attempt).await;
            }
            for path in [CONFIG_MAPS, "/api/v1/pods", "/apis"] {
                let (code, list) = harness.get(path).await;
                assert_eq!((code, list.is_object()), (200, true), "{path} after {attempts:#?}");
            }
        });
    }
}

/// A runtime with paused time, which passes when all tasks wait, so that watches end.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

async fn check(harness: &Harness, attempt: &Attempt) {
    let Some(mut request) = request(attempt) else { return };
    request.extensions_mut().insert(harness.state.access.sender(User::admin(), true));
    let response = router::handle(Arc::clone(&harness.state), request).await.unwrap();
    let code = response.status().as_u16();
    let content_type = response.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
    let body = frames(response).await;
    if attempt.method == "HEAD" {
        return assert_eq!(body, b"");
    }
    match content_type.as_deref() {
        Some("application/json") if code >= 400 => assert_refusal(code, &body, attempt),
        Some("application/json") => {
            for value in serde_json::Deserializer::from_slice(&body).into_iter::<Value>() {
                assert!(value.as_ref().is_ok_and(Value::is_object), "{value:?} to {attempt:#?}");
            }
        }
        Some(text) => assert!(text.starts_with("text/plain") && matches!(code, 200 | 404), "{attempt:#?}"),
        None => panic!("no content type: {attempt:#?}"),
    }
}

fn request(attempt: &Attempt) -> Option<Request<Body>> {
    let mut request = Request::builder().method(&*attempt.method).uri(&attempt.uri);
    for (name, value) in &attempt.headers {
        request = request.header(*name, value);
    }
    // An invalid HTTP request does not reach the server.
    request.body(attempt.body.clone().into()).ok()
}

async fn frames(response: Response<Body>) -> Vec<u8> {
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    for _ in 0..MAX_FRAMES {
        let Some(frame) = body.frame().await else { break };
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
    }
    bytes
}

fn assert_refusal(code: u16, body: &[u8], attempt: &Attempt) {
    let status: Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {attempt:#?}"));
    assert_eq!((&status["kind"], &status["apiVersion"]), (&"Status".into(), &"v1".into()), "{status}");
    assert_eq!((&status["status"], &status["code"]), (&"Failure".into(), &code.into()), "{status}");
    let has_text = |field: &str| status[field].as_str().is_some_and(|text| !text.is_empty());
    assert!(status["metadata"].is_object() && has_text("message"), "{status}");
    // Some failures of kube-apiserver have no reason. An internal error would be a fault of this server.
    assert!(has_text("reason") || code == 500, "{status}");
    assert_ne!(status["reason"], "InternalError", "{status} to {attempt:#?}");
}
