//! [`Interceptor`]: faults of HTTP answers and watch events, on any API server.
//!
//! It wraps the cache's client, because kube-apiserver cannot be made to answer with an error. The faults are those of
//! the in-memory API server. Only lists and watches of sandboxes are affected.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use memory_apiserver::{RequestFault, WatchFault};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::sync::mpsc;
use tower::BoxError;

/// Of the events that arrive while a fault of events is in force, the share that it strikes.
const STRUCK_EVENTS: f64 = 0.02;

type AnyBody = UnsyncBoxBody<Bytes, BoxError>;
type Frames = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

/// The faults in force. Cheap to clone.
#[derive(Clone)]
pub(super) struct Interceptor(Arc<Mutex<State>>);

struct State {
    request: Option<RequestFault>,
    event: Option<WatchFault>,
    chance: StdRng,
}

impl Interceptor {
    pub(super) fn new(seed: u64) -> Self {
        let chance = StdRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(State { request: None, event: None, chance })))
    }

    /// Strikes every request from now on: [`RequestFault::Answer`], [`RequestFault::Delay`] or [`RequestFault::Drop`].
    pub(super) fn strike_requests(&self, fault: RequestFault) {
        self.0.lock().request = Some(fault);
    }

    /// Strikes some of the events from now on.
    pub(super) fn strike_events(&self, fault: WatchFault) {
        self.0.lock().event = Some(fault);
    }

    /// Ends the faults. A watch that has fallen silent stays silent.
    pub(super) fn clear(&self) {
        let mut state = self.0.lock();
        (state.request, state.event) = (None, None);
    }

    /// Returns a client that sends its requests by `client` and meets the faults.
    pub(super) fn wrap(&self, client: &Client) -> Client {
        let (client, faults, namespace) =
            (client.clone(), self.clone(), client.default_namespace().to_owned());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, faults) = (client.clone(), faults.clone());
            async move { faults.send(client, request).await }
        });
        Client::new(service, namespace)
    }

    async fn send(self, client: Client, request: Request<Body>) -> Result<Response<AnyBody>, BoxError> {
        let is_struck = request.uri().path().ends_with("/sandboxes");
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
        let fault = self.0.lock().request.clone().filter(|_| is_struck);
        match fault {
            Some(RequestFault::Answer { code, retry_after }) => return answer(code, retry_after),
            Some(RequestFault::Delay(time)) => tokio::time::sleep(time).await,
            Some(RequestFault::Drop) => return Err(reset()),
            Some(other) => unreachable!("{other:?} is no fault of this client"),
            None => {}
        }
        let response = client.send(request).await?;
        Ok(response.map(|body| {
            if is_struck && is_watch { self.watch(body) } else { body.map_err(BoxError::from).boxed_unsync() }
        }))
    }

    /// Returns the body of a watch whose events meet the faults.
    fn watch(self, body: Body) -> AnyBody {
        let (frames, received) = mpsc::channel(16);
        tokio::spawn(async move {
            tokio::select! {
                () = self.forward(body, &frames) => {}
                () = frames.closed() => {}
            }
        });
        let frames = stream::unfold(received, async |mut received| Some((received.recv().await?, received)));
        StreamBody::new(frames).boxed_unsync()
    }

    /// Forwards the watch line by line to its end. Ends early if a fault ends the watch, or the receiver is gone.
    async fn forward(&self, body: Body, to: &Frames) {
        let (mut body, mut buffer) = (BodyStream::new(body), BytesMut::new());
        while let Some(frame) = body.next().await {
            match frame {
                Ok(frame) => buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..])),
                Err(error) => {
                    let _ = to.send(Err(error.into())).await;
                    return;
                }
            }
            while let Some(line) = next_line(&mut buffer) {
                if !self.forward_line(line, &mut buffer, to).await {
                    return;
                }
            }
        }
    }

    /// Returns false if the watch has ended.
    async fn forward_line(&self, line: Bytes, buffer: &mut BytesMut, to: &Frames) -> bool {
        let send = async |bytes: Bytes| to.send(Ok(Frame::data(bytes))).await.is_ok();
        match self.next_event_fault() {
            None => return send(line).await,
            Some(WatchFault::End) => {}
            Some(WatchFault::Reset) => {
                let _ = to.send(Err(reset())).await;
            }
            Some(WatchFault::MidLine) => {
                let half = line.len() / 2;
                let _ = send(line.slice(..half)).await && to.send(Err(reset())).await.is_ok();
            }
            Some(WatchFault::Expire) => {
                let event = json!({"type": "ERROR", "object": status(410)});
                let _ = send(format!("{event}\n").into()).await;
            }
            Some(WatchFault::Silence) => to.closed().await,
            Some(WatchFault::Hold(time)) => {
                tokio::time::sleep(time).await;
                return send(line).await;
            }
            Some(WatchFault::Duplicate) => return send([&line[..], &line[..]].concat().into()).await,
            Some(WatchFault::Reorder) => {
                // Only events that arrive together change places, so that no watch resumes between them.
                let next = next_line(buffer).unwrap_or_default();
                return send([&next[..], &line[..]].concat().into()).await;
            }
        }
        false
    }

    fn next_event_fault(&self) -> Option<WatchFault> {
        let mut state = self.0.lock();
        let fault = state.event.clone()?;
        state.chance.random_bool(STRUCK_EVENTS).then_some(fault)
    }
}

fn next_line(buffer: &mut BytesMut) -> Option<Bytes> {
    let end = buffer.iter().position(|&byte| byte == b'\n')?;
    Some(buffer.split_to(end + 1).freeze())
}

fn reset() -> BoxError {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

fn status(code: u16) -> serde_json::Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": if code == 410 { "Expired" } else { "Injected" }, "message": "a fault of the test",
    })
}

fn answer(code: u16, retry_after: Option<u32>) -> Result<Response<AnyBody>, BoxError> {
    let mut response = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    let body = Full::from(status(code).to_string()).map_err(BoxError::from).boxed_unsync();
    Ok(response.body(body)?)
}
