//! A watch that decodes nothing: it only notes when the line of each version has arrived.
//!
//! The times of the cache are compared with these times, so that they do not contain those of the API server. The watch
//! has a thread and a connection of its own, as the watches of the cache have.

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
use tokio::sync::oneshot;

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

#[derive(Default)]
struct Seen {
    times: HashMap<String, Instant>,
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
        let notes = Arc::clone(&seen);
        thread::Builder::new().name("raw-watch".to_owned()).spawn(move || {
            let watch = async {
                let client = connector.client().context("the client of the raw watch")?;
                let body = request(&client).await?;
                let _ = ready.send(());
                read(body, &notes).await
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

    /// Returns the time at which the line of a version arrived. Waits for it.
    pub(crate) async fn seen(&self, version: &str) -> anyhow::Result<Instant> {
        let end = Instant::now() + TIMEOUT;
        loop {
            if let Some(at) = self.seen.lock().times.remove(version) {
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

async fn read(mut body: Body, seen: &Mutex<Seen>) -> anyhow::Result<()> {
    let mut line = Vec::new();
    while let Some(frame) = body.frame().await {
        let arrived = Instant::now();
        let Ok(mut data) = frame?.into_data() else { continue };
        while let Some(end) = data.iter().position(|&byte| byte == b'\n') {
            line.extend_from_slice(&data.split_to(end + 1));
            if let Some(version) = version_of(&line) {
                seen.lock().times.insert(version, arrived);
            }
            line.clear();
        }
        line.extend_from_slice(&data);
    }
    Ok(())
}

fn version_of(line: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, rest) = text.split_once(VERSION_FIELD)?;
    Some(rest.split_once('"')?.0.to_owned())
}
