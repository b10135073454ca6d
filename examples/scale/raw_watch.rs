//! A watch that does nothing but note when the line of each version has arrived.
//!
//! The times of the cache are compared with these times, so that they do not contain those of the API server. The watch
//! has a thread and a connection of its own, as the watches of the cache have. It also wakes a task of the main runtime
//! for each version. No wait can end sooner than such a task runs. Then it decodes the object, to show how long that
//! takes for a single event, which finds nothing in the caches of the processor.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use http::Request;
use http_body_util::BodyExt;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::client::Body;
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::controller_manager::Connector;
use sandbox_manager::shared_cache::CachedResource;
use tokio::sync::{mpsc, oneshot};

/// Timeout of the arrival of an event whose write has succeeded.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How long the server keeps the watch open; longer than any measurement.
const WATCH_SECONDS: u32 = 4 * 60 * 60;

/// The field before each version. Quotes inside of a JSON string are escaped, so the first match is a field.
const VERSION_FIELD: &str = "\"resourceVersion\":\"";

/// A running watch. Dropping it ends the watch.
pub(crate) struct RawWatch {
    seen: Arc<Mutex<Seen>>,
    _running: oneshot::Sender<()>,
}

/// When a version arrived.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    /// The last byte of its line was there.
    pub(crate) line: Instant,
    /// The task that is woken for each version ran.
    pub(crate) task: Instant,
    /// How long the decoder of the cache took for the object, after the task was woken.
    pub(crate) decode: Duration,
}

#[derive(Default)]
struct Seen {
    arrivals: HashMap<String, Arrival>,
    /// The reason why the watch has ended.
    failed: Option<String>,
}

impl RawWatch {
    /// Starts the watch. Returns once the server has answered.
    pub(crate) async fn start(connector: &Connector) -> anyhow::Result<Self> {
        let (running, ended) = oneshot::channel();
        let (ready, started) = oneshot::channel();
        let (connector, seen) = (connector.clone(), Arc::<Mutex<Seen>>::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (lines, woken) = mpsc::unbounded_channel();
        tokio::spawn(note(woken, Arc::clone(&seen)));
        let notes = Arc::clone(&seen);
        thread::Builder::new().name("raw-watch".to_owned()).spawn(move || {
            let watch = async {
                let client = connector.client().context("the client of the raw watch")?;
                let body = request(&client).await?;
                let _ = ready.send(());
                read(body, &lines).await
            };
            runtime.block_on(async {
                tokio::select! {
                    result = watch => {
                        let error = result.err().unwrap_or_else(|| anyhow!("the server ended it"));
                        notes.lock().failed = Some(format!("{error:#}"));
                    }
                    _ = ended => {}
                }
            });
        })?;
        let watch = Self { seen, _running: running };
        if started.await.is_err() {
            watch.check()?;
        }
        Ok(watch)
    }

    /// Returns when a version arrived. Waits for it.
    pub(crate) async fn seen(&self, version: &str) -> anyhow::Result<Arrival> {
        let end = Instant::now() + TIMEOUT;
        loop {
            if let Some(at) = self.seen.lock().arrivals.remove(version) {
                return Ok(at);
            }
            self.check()?;
            anyhow::ensure!(Instant::now() < end, "the raw watch has not received version {version}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        match &self.seen.lock().failed {
            Some(error) => Err(anyhow!("the raw watch has ended: {error}")),
            None => Ok(()),
        }
    }
}

/// Starts a watch of all sandboxes from the present version on.
async fn request(client: &Client) -> anyhow::Result<Body> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<Sandbox>(&()));
    let now = api.list(&ListParams::default().limit(1)).await?.metadata.resource_version;
    let path = Sandbox::url_path(&(), None);
    let version = now.context("a list without a version")?;
    let uri = format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}");
    let response = client.send(Request::get(uri).body(Body::empty())?).await?;
    anyhow::ensure!(response.status().is_success(), "status {}", response.status());
    Ok(response.into_body())
}

/// A version, when the last byte of its line was there, and later the time of its decoding.
struct Line {
    version: String,
    at: Instant,
    decoded: oneshot::Receiver<Duration>,
}

/// Notes each version. This is the task that is woken.
async fn note(mut lines: mpsc::UnboundedReceiver<Line>, seen: Arc<Mutex<Seen>>) {
    while let Some(Line { version, at, decoded }) = lines.recv().await {
        let task = Instant::now();
        let decode = decoded.await.unwrap_or_default();
        seen.lock().arrivals.insert(version, Arrival { line: at, task, decode });
    }
}

async fn read(mut body: Body, lines: &mpsc::UnboundedSender<Line>) -> anyhow::Result<()> {
    let mut line = Vec::new();
    while let Some(frame) = body.frame().await {
        let arrived = Instant::now();
        let Ok(mut data) = frame?.into_data() else { continue };
        while let Some(end) = data.iter().position(|&byte| byte == b'\n') {
            line.extend_from_slice(&data.split_to(end + 1));
            if let Some(version) = version_of(&line) {
                let (done, decoded) = oneshot::channel();
                lines.send(Line { version, at: arrived, decoded })?;
                let started = Instant::now();
                decode(&line)?;
                let _ = done.send(started.elapsed());
            }
            line.clear();
        }
        line.extend_from_slice(&data);
    }
    Ok(())
}

/// Decodes the object of a watch event as the cache does.
fn decode(line: &[u8]) -> anyhow::Result<Sandbox> {
    let text = std::str::from_utf8(line)?.trim_end();
    let object = text.split_once("\"object\":").and_then(|(_, rest)| rest.strip_suffix('}'));
    Ok(Sandbox::decode(object.context("an event without an object")?)?)
}

fn version_of(line: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, rest) = text.split_once(VERSION_FIELD)?;
    Some(rest.split_once('"')?.0.to_owned())
}
