//! [`named_kinds`]: the names under which health checks and debug pages list the kinds of a cache.

use std::sync::Arc;

use shared_cache::{CachedKind, SharedCache};

/// The kinds of a cache, each with its plural; with the group too where two kinds have the same plural.
pub(crate) fn named_kinds(cache: &SharedCache) -> impl Iterator<Item = (String, &Arc<dyn CachedKind>)> {
    let kinds = cache.kinds();
    kinds.iter().map(|kind| {
        let plural = kind.plural();
        let is_unique = kinds.iter().filter(|other| other.plural() == plural).count() == 1;
        let name = if is_unique || kind.group().is_empty() {
            plural.into_owned()
        } else {
            format!("{plural}.{}", kind.group())
        };
        (name, kind)
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Event};
    use k8s_openapi::api::events::v1::Event as NewEvent;
    use memory_apiserver::ApiServer;
    use shared_cache::Watch;

    use super::*;

    // A client needs a runtime.
    #[tokio::test]
    async fn kinds_with_the_same_plural_are_told_apart_by_their_group() {
        let cache = SharedCache::builder(ApiServer::new().client())
            .kind::<ConfigMap>(Watch::all())
            .kind::<Event>(Watch::all())
            .kind::<NewEvent>(Watch::all())
            .build()
            .unwrap();
        let names: Vec<_> = named_kinds(&cache).map(|(name, _)| name).collect();
        assert_eq!(names, ["configmaps", "events", "events.events.k8s.io"]);
    }
}
