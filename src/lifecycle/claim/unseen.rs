//! [`Unseen`]: the own claims that the cache does not show yet (LC2).
//!
//! A claim is counted from the moment of its write: if the cache has not seen the write, it is counted from here.
//! Otherwise the next reconcile would claim a sandbox too many.

use std::collections::HashMap;
use std::sync::Arc;

use kube::Api;
use kube::api::ListParams;
use parking_lot::Mutex;
use shared_cache::{ObjectKey, ReadError, SharedCache};

use super::engine::holds;
use crate::api::v1alpha1::{LABEL_CLAIM_NAME, Sandbox, SandboxClaim};

/// One claim of a sandbox.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// The API server has answered with this sandbox.
    Known(Arc<Sandbox>),
    /// The answer is lost. The sandbox is claimed if it has this lock.
    Unknown {
        /// The sandbox.
        key: ObjectKey,
        /// The id of the claim.
        lock: String,
    },
}

/// The claims of sandboxes, by the UID of the SandboxClaim. A claim without an entry was begun by another process.
#[derive(Default)]
pub(super) struct Unseen {
    writes: Mutex<HashMap<String, Vec<Write>>>,
}

impl Unseen {
    /// Notes that this process has begun the claim, or has read from the API server what another process did for it.
    pub(super) fn begin(&self, uid: &str, writes: Vec<Write>) {
        self.writes.lock().entry(uid.to_owned()).or_default().extend(writes);
    }

    /// Returns true after [`Self::begin`].
    pub(super) fn has(&self, uid: &str) -> bool {
        self.writes.lock().contains_key(uid)
    }

    /// Notes a write of a claim. It takes the place of an earlier one of the same sandbox, which would count twice.
    pub(super) fn add(&self, uid: &str, write: Write) {
        let mut writes = self.writes.lock();
        let writes = writes.entry(uid.to_owned()).or_default();
        if let Write::Known(new) = &write {
            writes
                .retain(|known| !matches!(known, Write::Known(old) if old.metadata.uid == new.metadata.uid));
        }
        writes.push(write);
    }

    /// Forgets a claim that has ended or is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.writes.lock().remove(uid);
    }

    /// Returns the sandboxes that the cache does not show as they were written, and forgets all others.
    ///
    /// # Errors
    ///
    /// If a sandbox must be read from the API server, and cannot. Nothing is forgotten then.
    pub(super) async fn of(&self, uid: &str, cache: &SharedCache) -> Result<Vec<Arc<Sandbox>>, ReadError> {
        let before = self.writes.lock().get(uid).cloned().unwrap_or_default();
        let mut left = Vec::new();
        for write in before {
            left.extend(resolved(write, cache).await?);
        }
        let writes = left.iter().cloned().map(Write::Known).collect();
        self.writes.lock().insert(uid.to_owned(), writes);
        Ok(left)
    }
}

/// Returns the sandbox of a write if the cache does not show it.
async fn resolved(write: Write, cache: &SharedCache) -> Result<Option<Arc<Sandbox>>, ReadError> {
    use shared_cache::Satisfaction::{Expired, Satisfied, Unsatisfied};
    let live = async |key: &ObjectKey| cache.api_reader().get::<Sandbox>(&key.namespace, &key.name).await;
    match write {
        Write::Known(sandbox) => match cache.is_satisfied(&*sandbox) {
            Satisfied => Ok(None),
            Unsatisfied { .. } => Ok(Some(sandbox)),
            Expired { .. } => {
                let same = |live: &Arc<Sandbox>| live.metadata.uid == sandbox.metadata.uid;
                Ok(live(&ObjectKey::of(&*sandbox)).await?.filter(same))
            }
        },
        Write::Unknown { key, lock } => {
            let claimed = live(&key).await?.filter(|live| holds(live, &lock));
            Ok(claimed.inspect(|sandbox| cache.expect(&**sandbox)))
        }
    }
}

/// Reads from the API server what another process has claimed for a claim. Needed once after a change of the leader: the
/// watch of the new leader may lag behind the last writes of the old one.
///
/// # Errors
///
/// The error of the request.
pub(super) async fn of_others(claim: &SandboxClaim, cache: &SharedCache) -> Result<Vec<Write>, kube::Error> {
    let api: Api<Sandbox> = Api::namespaced(cache.client().clone(), claim.namespace_or_empty());
    let labels = format!("{LABEL_CLAIM_NAME}={}", claim.name_or_empty());
    let found = api.list(&ListParams::default().labels(&labels)).await?;
    let claimed = found.items.into_iter().map(Arc::new);
    Ok(claimed.inspect(|sandbox| cache.expect(&**sandbox)).map(Write::Known).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lc2_a_sandbox_that_is_written_twice_counts_once() {
        let sandbox = |uid: &str, version: &str| {
            let mut sandbox = Sandbox::default();
            sandbox.metadata.uid = Some(uid.to_owned());
            sandbox.metadata.resource_version = Some(version.to_owned());
            Write::Known(Arc::new(sandbox))
        };
        let unseen = Unseen::default();
        for (uid, version) in [("a", "1"), ("b", "2"), ("a", "3")] {
            unseen.add("claim", sandbox(uid, version));
        }
        let writes = unseen.writes.lock();
        let versions = writes["claim"].iter().map(|write| match write {
            Write::Known(sandbox) => sandbox.metadata.resource_version.as_deref().unwrap_or_default(),
            Write::Unknown { .. } => "unknown",
        });
        assert_eq!(versions.collect::<Vec<_>>(), ["2", "3"]);
    }
}
