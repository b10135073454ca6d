//! [`CreatedPods`]: the pods that this process has created and the cache may not show yet (LC2).

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

/// The answers of creations, by the UID of the sandbox. The cache knows an own write by the UID of the object, and the
/// UID of a pod that it does not show is known here alone.
#[derive(Debug, Default)]
pub(super) struct CreatedPods(Mutex<HashMap<String, Arc<Pod>>>);

impl CreatedPods {
    pub(super) fn add(&self, sandbox_uid: &str, pod: Arc<Pod>) {
        self.0.lock().insert(sandbox_uid.to_owned(), pod);
    }

    pub(super) fn get(&self, sandbox_uid: &str) -> Option<Arc<Pod>> {
        self.0.lock().get(sandbox_uid).cloned()
    }

    /// The cache shows the pod, or has shown it, or the sandbox is gone.
    pub(super) fn forget(&self, sandbox_uid: &str) {
        self.0.lock().remove(sandbox_uid);
    }
}
