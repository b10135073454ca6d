//! What the cache and plain kube-rs are held against each other with: the same objects, sent in the same bytes.

#![allow(dead_code, reason = "each benchmark needs a part of it")]

pub(crate) mod peer;
pub(crate) mod playback;

use std::sync::Arc;

use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::informer::{Informer, InformerOptions};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use playback::Playback;

/// One thread whose clock jumps ahead whenever there is nothing to do, so that no pause between two attempts is
/// measured.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// An informer at work, until it is dropped.
pub(crate) struct Running {
    pub(crate) informer: Arc<Informer<Sandbox>>,
    _stop: DropGuard,
}

impl Running {
    /// Returns once everything is there.
    pub(crate) async fn start(playback: &Playback) -> Self {
        let informer = Arc::new(Informer::new(playback.client(), InformerOptions::default(), Vec::new()));
        let stop = CancellationToken::new();
        tokio::spawn({
            let (informer, stop) = (Arc::clone(&informer), stop.clone());
            async move { informer.run(stop).await }
        });
        informer.wait_for_sync().await;
        Self { informer, _stop: stop.drop_guard() }
    }
}
