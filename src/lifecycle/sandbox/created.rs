//! [`CreatedPods`]: the pods that this process has created and the cache may not show yet (LC2).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

/// The answers of creations, by the UID of the sandbox. The cache knows an own write by the UID of the object, and the
/// UID of a pod that it does not show is known here alone.
#[derive(Debug, Default)]
pub(super) struct CreatedPods(Mutex<Created>);

#[derive(Debug, Default)]
struct Created {
    unseen: HashMap<String, Arc<Pod>>,
    /// The sandboxes that have had a pod from this process.
    sandboxes: HashSet<String>,
}

impl CreatedPods {
    pub(super) fn add(&self, sandbox_uid: &str, pod: Arc<Pod>) {
        let mut created = self.0.lock();
        created.unseen.insert(sandbox_uid.to_owned(), pod);
        created.sandboxes.insert(sandbox_uid.to_owned());
    }

    pub(super) fn get(&self, sandbox_uid: &str) -> Option<Arc<Pod>> {
        self.0.lock().unseen.get(sandbox_uid).cloned()
    }

    /// Returns true if this process has created a pod for the sandbox before.
    pub(super) fn has_had_pod(&self, sandbox_uid: &str) -> bool {
        self.0.lock().sandboxes.contains(sandbox_uid)
    }

    /// The cache shows the pod, or has shown it.
    pub(super) fn seen(&self, sandbox_uid: &str) {
        self.0.lock().unseen.remove(sandbox_uid);
    }

    /// The sandbox is gone.
    pub(super) fn forget(&self, sandbox_uid: &str) {
        let mut created = self.0.lock();
        created.unseen.remove(sandbox_uid);
        created.sandboxes.remove(sandbox_uid);
    }
}
