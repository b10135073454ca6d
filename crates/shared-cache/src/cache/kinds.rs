//! [`Kinds`]: the kinds of a cache by their Rust type.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use super::cached_kind::CachedKind;
use super::watched::Watched;
use crate::kind::CacheObject;

/// The kinds of a cache, in the order in which they were added.
#[derive(Default)]
pub(super) struct Kinds {
    by_type: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    all: Vec<Arc<dyn CachedKind>>,
}

impl Kinds {
    pub(super) fn add<K: CacheObject>(&mut self, watched: Arc<Watched<K>>) {
        self.all.push(Arc::clone(&watched) as Arc<dyn CachedKind>);
        self.by_type.insert(TypeId::of::<K>(), watched);
    }

    /// Returns the kind of a type; `None` if the cache does not watch it.
    pub(super) fn get<K: CacheObject>(&self) -> Option<Arc<Watched<K>>> {
        let watched = Arc::clone(self.by_type.get(&TypeId::of::<K>())?);
        watched.downcast().ok()
    }

    pub(super) fn all(&self) -> &[Arc<dyn CachedKind>] {
        &self.all
    }
}
