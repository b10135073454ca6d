//! Looks at the API server for a sandbox that this process does not show: another replica may have claimed it a moment ago.

use std::time::Duration;

use shared_cache::LookupError;

use super::engine::Engine;
use super::target::Target;
use crate::api::v1alpha1::Sandbox;

/// How many of these looks are under way at the same time. An id that nobody has costs a request each time.
pub(super) const MOST: usize = 16;

/// How long a caller waits. The answer is that of the cache then.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// Reads the sandbox of a target that no lookup finds, and lets later lookups see it. The time that this takes says
    /// nothing of who has the sandbox: one of another owner is looked for as well.
    pub(super) async fn catch_up(&self, target: &Target) {
        if self.visible(target).is_ok() {
            return;
        }
        let Some((namespace, name)) = target.namespace_and_name() else { return };
        if let Err(LookupError::OutOfScope { .. }) = self.sandboxes.get(namespace, name) {
            return;
        }
        let look = async {
            let _permit = self.shared.looks.acquire().await.ok()?;
            self.live(namespace, name).await.ok().flatten()
        };
        let Ok(Some(live)) = tokio::time::timeout(PATIENCE, look).await else { return };
        let labels = live.metadata.labels.clone().unwrap_or_default();
        if live.is_claimed() && self.cache.selects_labels::<Sandbox>(&labels) {
            self.made(&live);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
