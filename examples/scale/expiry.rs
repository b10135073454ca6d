//! Makes the cache list again: ends its watches of sandboxes with status 410, as an API server does that no
//! longer knows their version. The cache's client is wrapped, so this works on every server and changes
//! nothing on it.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::sync::watch;
use tower::BoxError;

/// Ends watches on demand. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Expiry {
    rounds: Arc<watch::Sender<u64>>,
}

impl Expiry {
    pub(crate) fn new() -> Self {
        Self { rounds: Arc::new(watch::Sender::new(0)) }
    }

    /// Ends every running watch of sandboxes.
    pub(crate) fn expire(&self) {
        self.rounds.send_modify(|round| *round += 1);
    }

    /// Returns a client that sends its requests by `client`, and whose watches can be ended.
    pub(crate) fn wrap(&self, client: &Client) -> Client {
        let (client, expiry, namespace) =
            (client.clone(), self.clone(), client.default_namespace().to_owned());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, expiry) = (client.clone(), expiry.clone());
            let query = request.uri().query().unwrap_or_default();
            let is_watch = request.uri().path().ends_with("/sandboxes") && query.contains("watch=");
            async move {
                let response = client.send(request).await?;
                let body = |body: Body| if is_watch { expiry.until_expired(body) } else { plain(body) };
                Ok::<_, BoxError>(Response::map(response, body))
            }
        });
        Client::new(service, namespace)
    }

    /// Returns the body of a watch that ends with an error event once the watch is to expire.
    fn until_expired(&self, body: Body) -> UnsyncBoxBody<Bytes, BoxError> {
        let running = (BodyStream::new(body), self.rounds.subscribe());
        let frames = stream::unfold(Some(running), |running| async {
            let (mut frames, mut rounds) = running?;
            tokio::select! {
                biased;
                _ = rounds.changed() => Some((Ok(Frame::data(expired_event())), None)),
                frame = futures::StreamExt::next(&mut frames) => {
                    Some((frame?.map_err(BoxError::from), Some((frames, rounds))))
                }
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

fn plain(body: Body) -> UnsyncBoxBody<Bytes, BoxError> {
    body.map_err(BoxError::from).boxed_unsync()
}

/// Returns the line by which an API server says that it no longer knows the version of a watch.
fn expired_event() -> Bytes {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
        "message": "too old resource version", "code": 410,
    });
    format!("{}\n", json!({"type": "ERROR", "object": status})).into()
}
