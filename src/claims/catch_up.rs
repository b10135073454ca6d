//! Looks at the API server for a sandbox that this process does not show: another replica may have claimed it a moment ago.

use std::time::Duration;

use shared_cache::LookupError;
use tokio::time::Instant;

use super::engine::Engine;
use super::error::ClaimError;
use super::target::Target;
use crate::api::v1alpha1::Sandbox;

/// An id that the caller does not see costs a request each time, of those that the API server grants this process.
pub(super) const LOOKS_PER_SECOND: u32 = 50;

/// How long a caller waits.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// Reads the sandbox of a target that no lookup finds, and lets later lookups see it. One of another owner is looked
    /// for as well: so the time that this takes does not say whether there is one.
    ///
    /// # Errors
    ///
    /// If it is unknown whether the sandbox exists.
    pub(super) async fn catch_up(&self, target: &Target) -> Result<(), ClaimError> {
        match self.visible(target) {
            Err(ClaimError::NotFound { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
        let Some((namespace, name)) = target.namespace_and_name() else { return Ok(()) };
        if let Err(LookupError::OutOfScope { .. }) = self.sandboxes.get(namespace, name) {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        if !self.shared.looks.wait(deadline).await {
            return Err(ClaimError::unavailable("too many sandboxes are asked for that are not known here"));
        }
        let live = tokio::time::timeout_at(deadline, self.live(namespace, name)).await;
        let late = || ClaimError::unavailable(format!("no answer within {} s", PATIENCE.as_secs()));
        if let Some(live) = live.map_err(|_| late())?.map_err(ClaimError::unavailable)?
            && let Some(labels) = live.metadata.labels.as_ref().filter(|_| live.is_claimed())
            && self.cache.selects_labels::<Sandbox>(labels)
        {
            self.made(&live);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kube::Api;
    use kube::api::DeleteParams;
    use memory_apiserver::ApiServer;
    use serde_json::json;
    use shared_cache::ObjectKey;

    use super::*;
    use crate::api::v1alpha1::crds;
    use crate::cache::SandboxCache;
    use crate::claims::Claims;
    use crate::claims::recent::Write;

    #[tokio::test]
    async fn a_state_that_is_read_late_is_not_shown_after_the_end_of_its_sandbox() {
        let server = ApiServer::builder().objects(crds()).start().unwrap();
        let claimed = json!({
            "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox",
            "metadata": {
                "name": "a", "namespace": "ns", "labels": {"agents.kruise.io/sandbox-claimed": "true"},
                "annotations": {"agents.kruise.io/owner": "key"},
            },
            "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}},
        });
        server.load(&claimed).unwrap();
        let cache = SandboxCache::builder(server.client()).build();
        cache.spawn().unwrap();
        cache.wait_for_cache_sync().await;
        let engine = Claims::builder(&cache).build().unwrap().engine;
        let target = Target::new("ns--a").owned_by("key");
        let old = engine.visible(&target).unwrap();
        let is_shown = |engine: &Engine| {
            engine.visible(&target).is_ok() || !engine.list("key", None).unwrap().is_empty()
        };
        assert!(is_shown(&engine));

        engine.record(Write::Deleted(old.clone()));
        engine.made(&old);
        assert!(!is_shown(&engine), "an own deletion is final");

        let api: Api<Sandbox> = Api::namespaced(server.client(), "ns");
        api.delete("a", &DeleteParams::default()).await.unwrap();
        let gone =
            engine.cache.wait_for::<Sandbox>(ObjectKey::of(&*old), |seen: Option<&Sandbox>| seen.is_none());
        gone.timeout(Duration::from_mins(1)).await.unwrap();
        engine.made(&old);
        assert!(!is_shown(&engine), "the watch has passed it");
    }

    #[test]
    fn an_id_names_a_namespace_and_a_name() {
        let of = |target: &Target| {
            target.namespace_and_name().map(|(namespace, name)| format!("{namespace}/{name}"))
        };
        let cases = [("team--pool-x", None, Some("team/pool-x")), ("a--b--c", None, Some("a/b--c"))];
        let within =
            [("a--b--c", Some("a--b"), Some("a--b/c")), ("a--b", Some("b"), None), ("x", Some("x"), None)];
        for (id, namespace, expected) in cases.into_iter().chain(within) {
            let target = Target::new(id);
            let target = namespace.map_or(target.clone(), |namespace| target.in_namespace(namespace));
            assert_eq!(of(&target).as_deref(), expected, "{id} in {namespace:?}");
        }
        assert_eq!(of(&Target::new("nope")), None);
    }
}
