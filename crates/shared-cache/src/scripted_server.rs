//! A scripted API server: the test receives the informer's requests one by one and writes every response. No
//! socket is used, so it works under paused time.

#![allow(dead_code, reason = "each crate that includes this file uses its own part of it")]

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::{Value, json};

type ReplyBody = UnsyncBoxBody<Bytes, io::Error>;
type Reply = oneshot::Sender<Result<Response<ReplyBody>, io::Error>>;

/// The test's side of the server.
pub(crate) struct Server {
    requests: mpsc::Receiver<(Request<Body>, Reply)>,
}

/// A request that waits for its response. Dropping it breaks the connection.
pub(crate) struct Exchange {
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// True if the client asked to close the connection after this request.
    pub(crate) closes: bool,
    reply: Reply,
}

/// An open watch. Dropping it ends the watch cleanly.
pub(crate) struct WatchStream(mpsc::Sender<Result<Frame<Bytes>, io::Error>>);

pub(crate) fn server() -> (kube::Client, Server) {
    let (sender, requests) = mpsc::channel(16);
    let service = tower::service_fn(move |request: Request<Body>| {
        let mut sender = sender.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            sender.send((request, reply)).await.map_err(|_| io::Error::other("the server is gone"))?;
            answer.await.unwrap_or_else(|_| Err(io::Error::other("connection refused")))
        }
    });
    (kube::Client::new(service, "default"), Server { requests })
}

impl Server {
    /// Returns the next request.
    pub(crate) async fn next(&mut self) -> Exchange {
        let (request, reply) = self.requests.next().await.expect("the client is gone");
        let closes = request.headers().get(http::header::CONNECTION).is_some_and(|value| value == "close");
        let query = request.uri().query().unwrap_or_default();
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        Exchange {
            path: request.uri().path().to_owned(),
            query: query.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            closes,
            reply,
        }
    }

    /// Returns the next request if it has arrived.
    pub(crate) fn try_next(&mut self) -> Option<String> {
        let (request, _) = self.requests.try_recv().ok()?;
        Some(request.uri().to_string())
    }

    /// Returns the next request, which must be a streaming list.
    pub(crate) async fn streaming_list(&mut self) -> WatchStream {
        let exchange = self.next().await;
        assert_eq!(exchange.query["sendInitialEvents"], "true");
        exchange.stream()
    }

    /// Returns the next request, which must be a watch that resumes at a version.
    pub(crate) async fn watch_from(&mut self, version: &str) -> WatchStream {
        let exchange = self.next().await;
        assert_eq!(exchange.query.get("watch").map(String::as_str), Some("true"));
        assert_eq!(exchange.query["resourceVersion"], version);
        assert!(!exchange.query.contains_key("sendInitialEvents"), "a resume, not a list");
        exchange.stream()
    }

    /// Answers a whole streaming list: these objects, then its end at `version`. The watch stays open.
    pub(crate) async fn list(&mut self, objects: &[Value], version: &str) -> WatchStream {
        let mut stream = self.streaming_list().await;
        for object in objects {
            stream.event("ADDED", object).await;
        }
        stream.end_of_list(version).await;
        stream
    }
}

impl Exchange {
    /// Resolves once the client no longer waits for the response.
    pub(crate) async fn abandoned(&mut self) {
        self.reply.cancellation().await;
    }

    pub(crate) fn stream(self) -> WatchStream {
        let (sender, receiver) = mpsc::channel(0);
        self.answer(200, &[], StreamBody::new(receiver).boxed_unsync());
        WatchStream(sender)
    }

    pub(crate) fn json(self, body: &Value) {
        self.answer(200, &[], full(body.to_string()));
    }

    pub(crate) fn status(self, code: u16, reason: &str, headers: &[(&str, &str)]) {
        // The API server also names the object of a single read.
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let status = json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason,
                            "code": code, "details": {"name": name}});
        self.answer(code, headers, full(status.to_string()));
    }

    fn answer(self, code: u16, headers: &[(&str, &str)], body: ReplyBody) {
        let mut response = Response::builder().status(code);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        // The informer may have been stopped meanwhile.
        let _ = self.reply.send(Ok(response.body(body).unwrap()));
    }
}

fn full(text: String) -> ReplyBody {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

impl WatchStream {
    pub(crate) async fn event(&mut self, kind: &str, object: &Value) {
        self.raw(&format!("{}\n", json!({"type": kind, "object": object}))).await;
    }

    pub(crate) async fn bookmark(&mut self, version: &str) {
        self.event("BOOKMARK", &json!({"kind": "Widget", "metadata": {"resourceVersion": version}})).await;
    }

    pub(crate) async fn end_of_list(&mut self, version: &str) {
        let annotations = json!({"k8s.io/initial-events-end": "true"});
        let metadata = json!({"resourceVersion": version, "annotations": annotations});
        self.event("BOOKMARK", &json!({"kind": "Widget", "metadata": metadata})).await;
    }

    /// Sends bytes unchanged. Returns once the client has received them or has disconnected.
    pub(crate) async fn raw(&mut self, text: &str) {
        let _ = self.0.send(Ok(Frame::data(Bytes::from(text.to_owned())))).await;
    }

    /// Breaks the connection in mid-stream.
    pub(crate) async fn reset(mut self) {
        let _ = self.0.send(Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset"))).await;
    }
}
