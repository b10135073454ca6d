//! Secondary kinds: kinds whose changes lead to runs of other objects' keys.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ClusterResourceScope;
use shared_cache::{Batch, CacheObject, Delta, ObjectKey, Observer, SharedCache};

use super::error::KindUse;
use crate::queue::{Predicate, WorkQueue, accepts};

/// A kind whose changes are mapped to keys of `K`.
pub(super) trait Secondary<K>: Send {
    fn kind(&self) -> Cow<'static, str>;
    fn usage(&self) -> KindUse;
    fn is_cached(&self, cache: &SharedCache) -> bool;
    /// Maps changes from now on, until the returned value is dropped.
    fn attach(self: Box<Self>, cache: &SharedCache, queue: Arc<WorkQueue<K>>) -> Box<dyn Any + Send + Sync>;
}

/// Maps objects of kind `C` to keys by a function.
pub(super) struct Mapped<C, F> {
    map: F,
    predicate: Option<Predicate<C>>,
    usage: KindUse,
}

impl<C: CacheObject, F: Fn(&Arc<C>) -> Vec<ObjectKey> + Send + Sync + 'static> Mapped<C, F> {
    pub(super) fn new(map: F, predicate: Option<Predicate<C>>, usage: KindUse) -> Self {
        Self { map, predicate, usage }
    }
}

impl<K, C, F> Secondary<K> for Mapped<C, F>
where
    K: CacheObject,
    C: CacheObject,
    F: Fn(&Arc<C>) -> Vec<ObjectKey> + Send + Sync + 'static,
{
    fn kind(&self) -> Cow<'static, str> {
        C::kind(&())
    }

    fn usage(&self) -> KindUse {
        self.usage
    }

    fn is_cached(&self, cache: &SharedCache) -> bool {
        cache.has_kind::<C>()
    }

    fn attach(self: Box<Self>, cache: &SharedCache, queue: Arc<WorkQueue<K>>) -> Box<dyn Any + Send + Sync> {
        let trigger = Arc::new(Trigger { map: self.map, predicate: self.predicate, queue });
        // The objects that exist need no mapping: every object of `K` is reconciled once after the start.
        drop(cache.observe::<C>(&trigger));
        Box::new(trigger)
    }
}

/// Queues the keys that changed objects are mapped to.
struct Trigger<K, C, F> {
    map: F,
    predicate: Option<Predicate<C>>,
    queue: Arc<WorkQueue<K>>,
}

impl<K, C, F> Trigger<K, C, F>
where
    C: CacheObject,
    F: Fn(&Arc<C>) -> Vec<ObjectKey>,
{
    fn map(&self, object: &Arc<C>, keys: &mut Vec<ObjectKey>) {
        match catch_unwind(AssertUnwindSafe(|| (self.map)(object))) {
            Ok(mapped) => keys.extend(mapped.into_iter().filter(|key| !key.name.is_empty())),
            Err(_) => {
                tracing::error!(kind = %C::kind(&()), object = %ObjectKey::of(&**object), "a mapping to keys panicked");
            }
        }
    }
}

impl<K, C, F> Observer<C> for Trigger<K, C, F>
where
    K: CacheObject,
    C: CacheObject,
    F: Fn(&Arc<C>) -> Vec<ObjectKey> + Send + Sync,
{
    fn observe(&self, batch: &Batch<C>) {
        let mut keys = Vec::new();
        for delta in &batch.deltas {
            if self.predicate.is_some() && !accepts(self.predicate.as_ref(), &delta.clone().into()) {
                continue;
            }
            match delta {
                Delta::Applied { old, new } => {
                    if let Some(old) = old.as_ref().filter(|old| !Arc::ptr_eq(old, new)) {
                        self.map(old, &mut keys);
                    }
                    self.map(new, &mut keys);
                }
                Delta::Deleted { last_known, .. } => self.map(last_known, &mut keys),
                _ => {}
            }
        }
        keys.sort_unstable();
        keys.dedup();
        if !keys.is_empty() {
            self.queue.trigger(&keys);
        }
    }
}

/// The key of the object of kind `K` that controls an object.
pub(super) fn controller_owner<K: CacheObject, C: CacheObject>(object: &C) -> Vec<ObjectKey> {
    let cluster_scoped = TypeId::of::<K::Scope>() == TypeId::of::<ClusterResourceScope>();
    let namespace = if cluster_scoped { "" } else { object.meta().namespace.as_deref().unwrap_or_default() };
    let owners = object.meta().owner_references.iter().flatten();
    let owner = owners.filter(|owner| owner.controller == Some(true)).find(|owner| is_of_kind::<K>(owner));
    owner.map(|owner| ObjectKey::new(namespace, owner.name.as_str())).into_iter().collect()
}

/// True if a reference names an object of kind `K`, in whatever version of its group.
fn is_of_kind<K: CacheObject>(owner: &OwnerReference) -> bool {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    owner.kind == K::kind(&()) && group == K::group(&())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
    use kube::api::ObjectMeta;

    use super::*;

    fn pod(api_version: &str, kind: &str, controller: Option<bool>) -> Pod {
        let owner = OwnerReference {
            api_version: api_version.into(),
            kind: kind.into(),
            name: "owner".into(),
            controller,
            ..OwnerReference::default()
        };
        let other = OwnerReference { controller: None, ..owner.clone() };
        let metadata = ObjectMeta {
            namespace: Some("ns".into()),
            owner_references: Some(vec![other, owner]),
            ..ObjectMeta::default()
        };
        Pod { metadata, ..Pod::default() }
    }

    #[test]
    fn an_owned_object_is_mapped_to_the_controller_of_the_kind_in_any_version() {
        let keys = |pod: &Pod| controller_owner::<ReplicaSet, _>(pod);
        assert_eq!(keys(&pod("apps/v1", "ReplicaSet", Some(true))), [ObjectKey::new("ns", "owner")]);
        assert_eq!(keys(&pod("apps/v1beta2", "ReplicaSet", Some(true))), [ObjectKey::new("ns", "owner")]);
        assert_eq!(keys(&pod("extensions/v1", "ReplicaSet", Some(true))), []);
        assert_eq!(keys(&pod("apps/v1", "DaemonSet", Some(true))), []);
        assert_eq!(keys(&pod("apps/v1", "ReplicaSet", Some(false))), []);
        assert_eq!(keys(&pod("apps/v1", "ReplicaSet", None)), []);
    }

    #[test]
    fn an_owner_of_the_core_group_or_of_the_cluster_is_found() {
        let keys = controller_owner::<ConfigMap, _>(&pod("v1", "ConfigMap", Some(true)));
        assert_eq!(keys, [ObjectKey::new("ns", "owner")]);
        let keys = controller_owner::<Namespace, _>(&pod("v1", "Namespace", Some(true)));
        assert_eq!(keys, [ObjectKey::new("", "owner")]);
    }
}
