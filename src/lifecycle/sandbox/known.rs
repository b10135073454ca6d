//! [`KnownSandboxes`]: what this process alone knows of sandboxes, because it led to it or saw it.
//!
//! Nothing here is needed for a right decision after a restart. An entry lives as long as its sandbox, so there are at
//! most as many as sandboxes.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::made::Adopted;

/// What is known, by the UID of the sandbox. The lock is held for single lookups only, so it is none of tokio's.
#[derive(Debug, Default)]
pub(super) struct KnownSandboxes(Mutex<HashMap<String, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The answer of the creation of a pod that the cache may not show yet (LC2). The cache knows an own write by the
    /// UID of the object, and the UID of a pod that it does not show is known here alone.
    unseen_pod: Option<Arc<Pod>>,
    /// The sandbox has had a pod from this process.
    has_had_pod: bool,
    /// See [`KnownSandboxes::is_current`].
    is_current: bool,
    adopted: Option<Arc<Adopted>>,
}

impl KnownSandboxes {
    /// This process has created the pod, or the API server has shown it, and the cache may not have it yet.
    pub(super) fn add_pod(&self, sandbox_uid: &str, pod: Arc<Pod>) {
        self.change(sandbox_uid, |known| {
            known.unseen_pod = Some(pod);
            known.has_had_pod = true;
        });
    }

    pub(super) fn unseen_pod(&self, sandbox_uid: &str) -> Option<Arc<Pod>> {
        self.0.lock().get(sandbox_uid)?.unseen_pod.clone()
    }

    /// The cache shows the pod or has shown it, or the pod is gone.
    pub(super) fn pod_seen(&self, sandbox_uid: &str) {
        self.change(sandbox_uid, |known| known.unseen_pod = None);
    }

    /// Returns true if this process has created a pod for the sandbox before.
    pub(super) fn has_had_pod(&self, sandbox_uid: &str) -> bool {
        self.0.lock().get(sandbox_uid).is_some_and(|known| known.has_had_pod)
    }

    /// Returns true if the cache cannot show a state of the sandbox from before the last write of an earlier leader.
    ///
    /// An earlier leader writes no more once this process leads. So one proof is enough: a live read that has returned
    /// the cached version, or an own write that had the cached version as precondition. The cache never goes back behind
    /// either.
    pub(super) fn is_current(&self, sandbox_uid: &str) -> bool {
        self.0.lock().get(sandbox_uid).is_some_and(|known| known.is_current)
    }

    /// There is a proof, see [`Self::is_current`].
    pub(super) fn set_current(&self, sandbox_uid: &str) {
        self.change(sandbox_uid, |known| known.is_current = true);
    }

    pub(super) fn adopted(&self, sandbox_uid: &str) -> Option<Arc<Adopted>> {
        self.0.lock().get(sandbox_uid)?.adopted.clone()
    }

    pub(super) fn adopt(&self, sandbox_uid: &str, adopted: Adopted) {
        self.change(sandbox_uid, |known| known.adopted = Some(Arc::new(adopted)));
    }

    /// The sandbox is gone.
    pub(super) fn forget(&self, sandbox_uid: &str) {
        self.0.lock().remove(sandbox_uid);
    }

    fn change(&self, sandbox_uid: &str, change: impl FnOnce(&mut Known)) {
        let mut known = self.0.lock();
        // A lookup first, because the UID is copied for a new entry only.
        match known.get_mut(sandbox_uid) {
            Some(known) => change(known),
            None => change(known.entry(sandbox_uid.to_owned()).or_default()),
        }
    }
}
