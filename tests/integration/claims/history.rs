//! [`History`]: sees every state of every sandbox, and whom it was given to.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use memory_apiserver::ApiServer;
use parking_lot::Mutex;
use sandbox_manager::api::v1alpha1::{ANNOTATION_LOCK, Sandbox};
use tokio::task::JoinHandle;

/// The locks that each sandbox has had, in order, by its name.
type Locks = BTreeMap<String, Vec<String>>;

pub(super) struct History {
    locks: Arc<Mutex<Locks>>,
    task: JoinHandle<()>,
}

impl History {
    pub(super) fn of(server: &ApiServer) -> Self {
        let api: Api<Sandbox> = Api::all(server.client_without_faults());
        let locks = Arc::new(Mutex::new(Locks::new()));
        let seen = Arc::clone(&locks);
        let task = tokio::spawn(async move {
            let mut states =
                watcher(api, watcher::Config::default()).default_backoff().touched_objects().boxed();
            while let Some(Ok(sandbox)) = states.next().await {
                let Some(lock) = sandbox.annotations().get(ANNOTATION_LOCK) else { continue };
                let mut seen = seen.lock();
                let of_sandbox = seen.entry(sandbox.name_any()).or_default();
                if of_sandbox.last() != Some(lock) {
                    of_sandbox.push(lock.clone());
                }
            }
        });
        Self { locks, task }
    }

    /// Checks that no sandbox had two locks.
    pub(super) fn assert_none_given_twice(&self) {
        assert!(!self.task.is_finished(), "the watch of the history has ended");
        let twice: Vec<_> =
            self.locks.lock().clone().into_iter().filter(|(_, locks)| locks.len() > 1).collect();
        assert!(twice.is_empty(), "given twice: {twice:?}");
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}
