//! [`Unseen`]: the own claims that the cache does not show yet (LC2).
//!
//! A claim is counted from the moment of its write: if the cache has not seen the write, it is counted from here.
//! Otherwise the next reconcile would claim a sandbox too many.

use std::collections::HashMap;
use std::sync::Arc;

use controller_manager::HandlerError;
use kube::Api;
use kube::api::ListParams;
use parking_lot::Mutex;
use shared_cache::{ObjectKey, SharedCache};

use crate::api::v1alpha1::{LABEL_CLAIM_NAME, Sandbox, SandboxClaim};
use crate::claims::{Claims, Fate, LostLock};
use crate::lifecycle::requests::{REQUEST_TIMEOUT, no_answer};

/// One claim of a sandbox.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// The API server has answered with this sandbox.
    Known(Arc<Sandbox>),
    /// The answer is lost.
    Unknown(LostLock),
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
        writes.retain(|old| !write.replaces(old));
        writes.push(write);
    }

    /// Returns the writes of a claim whose answer is lost, and that may have an effect later.
    pub(super) fn lost(&self, uid: &str) -> Vec<LostLock> {
        let writes = self.writes.lock();
        let lost = writes.get(uid).into_iter().flatten().filter_map(|write| match write {
            Write::Unknown(lost) => Some(lost.clone()),
            Write::Known(_) => None,
        });
        lost.collect()
    }

    /// Forgets a claim that has ended or is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.writes.lock().remove(uid);
    }

    /// Returns the sandboxes that the cache does not show as they were written. Forgets all others, but not the writes
    /// that may have an effect later.
    ///
    /// # Errors
    ///
    /// If a sandbox must be read from the API server, and cannot. Nothing is forgotten then.
    pub(super) async fn of(
        &self,
        uid: &str,
        claims: &Claims,
        cache: &SharedCache,
    ) -> Result<Vec<Arc<Sandbox>>, HandlerError> {
        let before = self.writes.lock().get(uid).cloned().unwrap_or_default();
        let mut left = Vec::new();
        for write in before {
            left.extend(resolved(write, claims, cache).await?);
        }
        let known = left.iter().filter_map(|write| match write {
            Write::Known(sandbox) => Some(Arc::clone(sandbox)),
            Write::Unknown(_) => None,
        });
        let known = known.collect();
        self.writes.lock().insert(uid.to_owned(), left);
        Ok(known)
    }
}

impl Write {
    /// Returns true if an older write of the same sandbox says nothing more.
    fn replaces(&self, old: &Self) -> bool {
        match (self, old) {
            (Self::Known(new), Self::Known(old)) => new.metadata.uid == old.metadata.uid,
            (Self::Known(new), Self::Unknown(old)) => ObjectKey::of(&**new) == old.key(),
            (Self::Unknown(new), Self::Unknown(old)) => new.key() == old.key(),
            (Self::Unknown(_), Self::Known(_)) => false,
        }
    }
}

/// Returns what is left to remember of a write: nothing if the cache shows it, or if it can have no effect any more.
async fn resolved(write: Write, claims: &Claims, cache: &SharedCache) -> Result<Option<Write>, HandlerError> {
    use shared_cache::Satisfaction::{Expired, Satisfied, Unsatisfied};
    let live = async |key: &ObjectKey| cache.api_reader().get::<Sandbox>(&key.namespace, &key.name).await;
    match write {
        Write::Known(sandbox) => match cache.is_satisfied(&*sandbox) {
            Satisfied => Ok(None),
            Unsatisfied { .. } => Ok(Some(Write::Known(sandbox))),
            Expired { .. } => {
                let same = |live: &Arc<Sandbox>| live.metadata.uid == sandbox.metadata.uid;
                Ok(live(&ObjectKey::of(&*sandbox)).await?.filter(same).map(Write::Known))
            }
        },
        Write::Unknown(lost) => Ok(match claims.fate(&lost).await {
            Ok(Fate::Made(claimed)) => Some(Write::Known(claimed)),
            Ok(Fate::Void) => None,
            Ok(Fate::Open) => Some(Write::Unknown(lost)),
            Err(error) => {
                // The others may be known, and the claim goes on with them.
                tracing::warn!(sandbox = %lost.key(), %error, "cannot see if a lost lock was written; trying again");
                Some(Write::Unknown(lost))
            }
        }),
    }
}

/// Reads from the API server what another process has claimed for a claim. Needed once after a change of the leader: the
/// watch of the new leader may lag behind the last writes of the old one.
///
/// # Errors
///
/// The error of the request, or that it was not answered within [`REQUEST_TIMEOUT`].
pub(super) async fn of_others(claim: &SandboxClaim, cache: &SharedCache) -> Result<Vec<Write>, HandlerError> {
    let api: Api<Sandbox> = Api::namespaced(cache.client().clone(), claim.namespace_or_empty());
    let labels = format!("{LABEL_CLAIM_NAME}={}", claim.name_or_empty());
    let parameters = ListParams::default().labels(&labels);
    let listed = tokio::time::timeout(REQUEST_TIMEOUT, api.list(&parameters)).await;
    let found = listed.map_err(|_| no_answer("list of the claimed sandboxes"))??;
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
            Write::Unknown(_) => "unknown",
        });
        assert_eq!(versions.collect::<Vec<_>>(), ["2", "3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn lc2_a_lost_write_is_remembered_once_until_its_sandbox_is_known() {
        let sandbox = |name: &str| {
            let mut sandbox = Sandbox::default();
            sandbox.metadata.name = Some(name.to_owned());
            sandbox.metadata.uid = Some(name.to_owned());
            Arc::new(sandbox)
        };
        let unseen = Unseen::default();
        for name in ["a", "b", "a"] {
            unseen.add("claim", Write::Unknown(LostLock::new(sandbox(name), name.to_owned())));
        }
        let names =
            || -> Vec<_> { unseen.lost("claim").into_iter().map(|lost| lost.lock().to_owned()).collect() };
        assert_eq!(names(), ["b", "a"]);
        unseen.add("claim", Write::Known(sandbox("b")));
        assert_eq!(names(), ["a"]);
    }
}
