//! Measures what one watch event costs the cache, without network and API server.
//!
//! The sandboxes of the server are recorded in the bytes that it sends. Then a second cache receives a new version of
//! each from memory, on one thread, and decodes, stores and announces it to one subscriber.

use std::time::Instant;

use anyhow::Context;
use http::Request;
use kube::Resource as _;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::dev::workload;
use sandbox_manager::shared_cache::{SharedCache, Watch};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::playback::Playback;
use crate::report::Report;

/// Maximum number of sandboxes that are recorded.
const OBJECTS: usize = 5_000;

/// Number of sandboxes per list request.
const PAGE: usize = 500;

/// How often every sandbox is changed. The median counts.
const ROUNDS: usize = 5;

#[derive(Deserialize)]
struct Page<'a> {
    metadata: PageMetadata,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    r#continue: String,
    resource_version: String,
}

pub(crate) async fn measure(client: &kube::Client, report: &mut Report) -> anyhow::Result<()> {
    let playback = record(client).await?;
    let nanos = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(play(&playback))
    });
    report.add_median("update_ns", nanos.await??, 0);
    Ok(())
}

/// Reads the sandboxes of the workload.
async fn record(client: &kube::Client) -> anyhow::Result<Playback> {
    let path = Sandbox::url_path(&(), Some(workload::NAMESPACE));
    let (mut objects, mut from): (Vec<String>, _) = (Vec::new(), String::new());
    loop {
        let uri = format!("{path}?limit={PAGE}&continue={from}");
        let text = client.request_text(Request::get(uri).body(Vec::new())?).await?;
        let page: Page = serde_json::from_str(&text)?;
        objects.extend(page.items.iter().map(|item| item.get().to_owned()));
        from = page.metadata.r#continue;
        if from.is_empty() || objects.len() >= OBJECTS {
            let version = page.metadata.resource_version.parse().context("the version of a list")?;
            return Ok(Playback::new(objects.iter(), version));
        }
    }
}

/// Returns the nanoseconds per event of each round.
async fn play(playback: &Playback) -> anyhow::Result<Vec<f64>> {
    let builder = SharedCache::builder(playback.client()).cached_kind::<Sandbox>(Watch::all());
    let cache = builder.build()?;
    let _subscription = cache.subscribe::<Sandbox>();
    cache.start().await?;
    let mut nanos = Vec::new();
    for _ in 0..ROUNDS {
        let (changes, version) = playback.change_all();
        let started = Instant::now();
        playback.send(changes);
        cache.kinds()[0].clone().reached(version).await;
        nanos.push(started.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(playback.len())?));
    }
    cache.stop().await;
    Ok(nanos)
}
