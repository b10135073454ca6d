//! Runs the cache and plain kube-rs on the same objects, sent in the same bytes.

#![allow(dead_code, reason = "each benchmark needs a part of it")]

pub(crate) mod peer;
pub(crate) mod playback;

use std::sync::Arc;

use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::shared_cache::{SharedCache, Watch};
use tokio::runtime::{Builder, Runtime};

use playback::Playback;

/// Returns a one-thread runtime whose clock advances when all tasks are idle, so that retry delays are not
/// measured.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// A running cache of sandboxes only. Stopped when dropped.
pub(crate) struct Running {
    pub(crate) cache: SharedCache,
}

impl Running {
    /// Starts the cache. Returns once it contains all objects.
    pub(crate) async fn start(playback: &Playback) -> Self {
        let builder = SharedCache::builder(playback.client()).cached_kind::<Sandbox>(Watch::all());
        let cache = builder.build().unwrap();
        cache.spawn().unwrap();
        cache.wait_for_cache_sync().await;
        Self { cache }
    }

    /// Returns once the cache has reached a resource version.
    pub(crate) async fn wait_for_version(&self, version: u64) {
        Arc::clone(&self.cache.kinds()[0]).reached(version).await;
    }
}
