//! An API server that sends recorded bytes, so that its own work costs very little.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use memory_apiserver::ApiServer;
use sandbox_manager::api::v1alpha1::{Sandbox, crds};
use sandbox_manager::dev::workload;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Number of body bytes that are sent at once. About the amount that a connection delivers.
const CHUNK: usize = 64 << 10;

type Events = UnsyncBoxBody<Bytes, Infallible>;

/// The sandboxes of the workload, as a server sends them.
#[derive(Clone)]
pub(crate) struct Playback {
    objects: Arc<Vec<Recorded>>,
    /// Every object as it is sent in the initial list.
    initial: Bytes,
    /// The version of the next list and of the changes that follow it.
    version: Arc<AtomicU64>,
    events: broadcast::Sender<Bytes>,
}

/// The JSON of an object before and after its resource version.
struct Recorded {
    head: String,
    version: u64,
    tail: String,
}

impl Recorded {
    fn new(json: &str) -> Self {
        let (head, rest) = json.split_once("\"resourceVersion\":\"").unwrap();
        let (version, tail) = rest.split_once('"').unwrap();
        let head = format!("{head}\"resourceVersion\":\"");
        Self { head, version: version.parse().unwrap(), tail: format!("\"{tail}") }
    }

    fn json(&self, version: u64) -> String {
        format!("{}{version}{}", self.head, self.tail)
    }
}

impl Playback {
    /// Records the first `count` sandboxes of the workload from the in-memory API server.
    pub(crate) async fn record(count: usize) -> Self {
        Self::record_with(count, workload::sandbox).await
    }

    /// Records sandboxes that `make` changes.
    pub(crate) async fn record_with(count: usize, make: impl Fn(usize) -> Value) -> Self {
        let server = ApiServer::new();
        for crd in crds() {
            server.load(&serde_json::to_value(crd).unwrap()).unwrap();
        }
        let resource = ApiResource::erase::<Sandbox>(&());
        let api: Api<DynamicObject> = Api::default_namespaced_with(server.client(), &resource);
        for i in 0..count {
            let object = serde_json::from_value(make(i)).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
            let status = Patch::Merge(json!({"status": workload::status(i)}));
            api.patch_status(&workload::name(i), &PatchParams::default(), &status).await.unwrap();
        }
        let list = api.list(&ListParams::default()).await.unwrap();
        let objects = list.items.iter().map(|item| serde_json::to_string(item).unwrap());
        Self::new(objects, server.revision())
    }

    /// Plays these sandboxes, each as a server sends it. `version` is that of the server.
    pub(crate) fn new(objects: impl Iterator<Item = impl AsRef<str>>, version: u64) -> Self {
        let objects: Vec<_> = objects.map(|object| Recorded::new(object.as_ref())).collect();
        let initial = objects.iter().map(|object| line("ADDED", &object.json(object.version)));
        Self {
            initial: initial.collect::<String>().into(),
            objects: Arc::new(objects),
            version: Arc::new(version.into()),
            events: broadcast::channel(16).0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Returns the JSON of each object.
    pub(crate) fn objects(&self) -> Vec<String> {
        self.objects.iter().map(|object| object.json(object.version)).collect()
    }

    /// Returns a client of this server.
    pub(crate) fn client(&self) -> kube::Client {
        let playback = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let sandboxes = request.uri().path().ends_with("/sandboxes");
            let list = if sandboxes { playback.initial.clone() } else { Bytes::new() };
            std::future::ready(Ok::<_, Infallible>(playback.watch(&list)))
        });
        kube::Client::new(service, "default")
    }

    /// Returns a watch that sends the list first, and then all changes.
    fn watch(&self, list: &Bytes) -> Response<Events> {
        let chunks: Vec<_> =
            (0..list.len()).step_by(CHUNK).map(|at| list.slice(at..list.len().min(at + CHUNK))).collect();
        let bookmark = json!({
            "kind": "Sandbox", "apiVersion": "agents.kruise.io/v1alpha1",
            "metadata": {
                "resourceVersion": self.version.load(Ordering::SeqCst).to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"},
            },
        });
        let bookmark = Bytes::from(line("BOOKMARK", &bookmark.to_string()));
        let later = stream::unfold(self.events.subscribe(), |mut events| async {
            let event = events.recv().await.ok()?;
            Some((event, events))
        });
        let frames = stream::iter(chunks)
            .chain(stream::once(std::future::ready(bookmark)))
            .chain(later)
            .map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    /// Returns a change of every object, for [`Self::send`], and the version of the last change.
    pub(crate) fn change_all(&self) -> (Bytes, u64) {
        let changes = self.objects.iter().map(|object| {
            let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
            line("MODIFIED", &object.json(version))
        });
        // A server under load also sends several events in one chunk.
        let text = changes.collect::<String>().into();
        (text, self.version.load(Ordering::SeqCst))
    }

    pub(crate) fn send(&self, events: Bytes) {
        self.events.send(events).unwrap();
    }

    /// Removes the server's history, which ends every watch. Returns the version of the next list.
    pub(crate) fn expire(&self) -> u64 {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
            "message": "too old resource version", "code": 410,
        });
        self.send(line("ERROR", &status.to_string()).into());
        version
    }
}

fn line(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}
