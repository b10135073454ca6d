//! [`History`]: reads every state of every sandbox from the API server, by a watch that must not have a gap.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use sandbox_manager::api::v1alpha1::{ANNOTATION_LOCK, ANNOTATION_OWNER, Sandbox};
use tokio::task::JoinHandle;

use super::ledger::{Ledger, State};

/// The metadata of creates by which the history knows the client of a sandbox.
pub(super) const CLIENT: &str = "client";

pub(super) struct History {
    api: Api<Sandbox>,
    ledger: Arc<Mutex<Ledger>>,
    /// Ends only if the history has a gap.
    task: JoinHandle<anyhow::Error>,
}

impl History {
    /// Begins before there are sandboxes.
    pub(super) async fn start(api: Api<Sandbox>) -> Self {
        let list = api.list_metadata(&ListParams::default()).await.expect("a list");
        assert!(list.items.is_empty(), "the history begins before the first sandbox");
        let version = list.metadata.resource_version.expect("a version");
        let ledger = Arc::<Mutex<Ledger>>::default();
        let (watched, noted) = (api.clone(), Arc::clone(&ledger));
        let task = tokio::spawn(async move {
            let mut version = version;
            loop {
                if let Err(gap) = follow(&watched, &noted, &mut version).await {
                    return gap;
                }
            }
        });
        Self { api, ledger, task }
    }

    pub(super) fn ledger(&self) -> &Arc<Mutex<Ledger>> {
        &self.ledger
    }

    /// Checks that the history has come to the present: it knows exactly the sandboxes that a list shows.
    pub(super) async fn ensure_complete(&self) -> Result<()> {
        assert!(!self.task.is_finished(), "the history has a gap");
        let listed = self.api.list_metadata(&ListParams::default()).await?.items;
        let mut existing = std::collections::BTreeMap::new();
        for sandbox in listed.iter().filter(|sandbox| sandbox.metadata.deletion_timestamp.is_none()) {
            let state = state_of(sandbox)?;
            existing.insert(state.uid, state.version);
        }
        let known = self.ledger.lock().existing();
        ensure!(known == existing, "the history knows {} sandboxes of {}", known.len(), existing.len());
        Ok(())
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows one watch to its end, which is no gap: the next one goes on at the same version.
async fn follow(api: &Api<Sandbox>, ledger: &Mutex<Ledger>, version: &mut String) -> Result<()> {
    let Ok(events) = api.watch_metadata(&WatchParams::default(), version).await else {
        // The API server is away. If the version has expired meanwhile, the next watch says so.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        return Ok(());
    };
    let mut events = events.boxed();
    while let Some(Ok(event)) = events.next().await {
        match event {
            WatchEvent::Added(sandbox) | WatchEvent::Modified(sandbox) => {
                let state = state_of(&sandbox)?;
                *version = state.version.to_string();
                ledger.lock().see(state);
            }
            WatchEvent::Deleted(sandbox) => {
                let state = state_of(&sandbox)?;
                *version = state.version.to_string();
                ledger.lock().gone(&state.uid, state.version);
            }
            WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
            WatchEvent::Error(status) => bail!("the watch was refused: {status:?}"),
        }
    }
    Ok(())
}

fn state_of(sandbox: &PartialObjectMeta<Sandbox>) -> Result<State> {
    let (labels, annotations) = (sandbox.labels(), sandbox.annotations());
    let name = sandbox.metadata.name.as_deref().context("a name")?;
    let namespace = sandbox.metadata.namespace.as_deref().context("a namespace")?;
    Ok(State {
        uid: sandbox.uid().context("a UID")?,
        id: format!("{namespace}--{name}"),
        version: sandbox.resource_version().context("a version")?.parse()?,
        lock: annotations.get(ANNOTATION_LOCK).cloned(),
        owner: annotations.get(ANNOTATION_OWNER).cloned(),
        is_claimed: labels.get("agents.kruise.io/sandbox-claimed").is_some_and(|claimed| claimed == "true"),
        is_deleting: sandbox.metadata.deletion_timestamp.is_some(),
        client: annotations.get(CLIENT).and_then(|client| client.parse().ok()),
    })
}
