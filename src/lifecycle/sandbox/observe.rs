//! Gathers what a decision depends on: from the cache, and by live reads where the cache cannot know.

use std::sync::Arc;

use controller_manager::HandlerError;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use shared_cache::{CacheObject, Reader, Satisfaction, SharedCache};

use super::created::CreatedPods;
use super::observed::{Observed, PodView, Template};
use super::pod;
use crate::api::v1alpha1::{Sandbox, SandboxTemplate};
use crate::lifecycle::backoff::Backoff;

/// The sources of what is observed.
pub(super) struct Observer {
    pub(super) cache: SharedCache,
    pods: Reader<Pod>,
    claims: Reader<PersistentVolumeClaim>,
    templates: Reader<SandboxTemplate>,
    pub(super) created: CreatedPods,
    pub(super) backoff: Backoff,
}

/// The view of an object with regard to own writes (LC2).
pub(super) enum Newest<K> {
    /// The cache is as new as the newest own write, or this was read from the API server.
    Known(Option<Arc<K>>),
    /// The cache lacks an own write.
    Behind,
}

impl Observer {
    pub(super) fn new(cache: SharedCache, backoff: Backoff) -> Self {
        Self {
            pods: cache.reader(),
            claims: cache.reader(),
            templates: cache.reader(),
            created: CreatedPods::default(),
            backoff,
            cache,
        }
    }

    /// Returns the newest state of an object that the cache shows.
    ///
    /// # Errors
    ///
    /// If the cache has been behind for so long that the API server must be asked, and that fails.
    pub(super) async fn newest<K>(&self, object: &Arc<K>) -> Result<Newest<K>, HandlerError>
    where
        K: CacheObject + serde::de::DeserializeOwned,
    {
        match self.cache.is_satisfied(&**object) {
            Satisfaction::Satisfied => Ok(Newest::Known(Some(Arc::clone(object)))),
            Satisfaction::Unsatisfied { .. } => Ok(Newest::Behind),
            Satisfaction::Expired { .. } => {
                let meta = object.meta();
                let name = meta.name.as_deref().unwrap_or_default();
                let namespace = meta.namespace.as_deref().unwrap_or_default();
                Ok(Newest::Known(self.cache.api_reader().get(namespace, name).await?))
            }
        }
    }

    /// Returns the pod with the name of the sandbox; `None` if the cache lacks an own write.
    ///
    /// # Errors
    ///
    /// If the cache cannot answer, or the API server must be asked and that fails.
    async fn pod(&self, sandbox: &Sandbox) -> Result<Option<PodView>, HandlerError> {
        let uid = sandbox.metadata.uid.as_deref().unwrap_or_default();
        let cached = self.pods.get(sandbox.namespace_or_empty(), sandbox.name_or_empty())?;
        if let Some(created) = self.created.get(uid) {
            if !self.cache.is_satisfied(&*created).is_satisfied() {
                // The answer of the API server is newer than the cache.
                return Ok(Some(PodView::Ours(created)));
            }
            self.created.seen(uid);
        }
        let Some(cached) = cached else { return Ok(Some(PodView::Absent)) };
        match self.newest(&cached).await? {
            Newest::Known(pod) => Ok(Some(PodView::of(pod, sandbox))),
            Newest::Behind => Ok(None),
        }
    }

    /// Asks the API server for the pod with the name of the sandbox.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub(super) async fn read_pod(&self, sandbox: &Sandbox) -> Result<PodView, HandlerError> {
        let reader = self.cache.api_reader();
        let pod = reader.get::<Pod>(sandbox.namespace_or_empty(), sandbox.name_or_empty()).await?;
        Ok(PodView::of(pod, sandbox))
    }

    /// Gathers what the decision about a sandbox depends on; `None` if the cache lacks an own write.
    ///
    /// # Errors
    ///
    /// If the cache cannot answer, or the API server must be asked and that fails.
    pub(super) async fn observe<'a>(
        &self,
        sandbox: &'a Sandbox,
    ) -> Result<Option<Observed<'a>>, HandlerError> {
        let Some(pod) = self.pod(sandbox).await? else { return Ok(None) };
        let template = self.template(sandbox).await?;
        let uid = sandbox.metadata.uid.as_deref().unwrap_or_default();
        let generation = sandbox.metadata.generation.unwrap_or_default();
        let mut observed = Observed {
            sandbox,
            pod,
            pod_is_live: false,
            template,
            ending_claim: None,
            held: self.backoff.remaining(uid, generation),
            update_refused: None,
            now: Timestamp::now(),
        };
        observed.ending_claim = self.ending_claim(&observed)?;
        Ok(Some(observed))
    }

    async fn template(&self, sandbox: &Sandbox) -> Result<Template, HandlerError> {
        let (None, Some(reference)) = (&sandbox.spec.template, &sandbox.spec.template_ref) else {
            return Ok(Template::Inline);
        };
        let (namespace, name) = (sandbox.namespace_or_empty(), &reference.name);
        let mut found = self.templates.get(namespace, name)?;
        // A template need not have the labels by which sandboxes are selected.
        if found.is_none() && self.cache.has_selector::<SandboxTemplate>() {
            found = self.cache.api_reader().get(namespace, name).await?;
        }
        Ok(found.map_or_else(|| Template::Missing(name.clone()), Template::Referred))
    }

    /// Returns the name of a volume claim that is needed and is being deleted.
    fn ending_claim(&self, observed: &Observed<'_>) -> Result<Option<String>, HandlerError> {
        let Ok(pod::Parts { claims: Some(claims), .. }) = observed.parts() else { return Ok(None) };
        for claim in pod::claims(observed.sandbox, Some(claims)) {
            let name = claim["metadata"]["name"].as_str().unwrap_or_default();
            let known = self.claims.get(observed.sandbox.namespace_or_empty(), name)?;
            if known.is_some_and(|known| known.metadata.deletion_timestamp.is_some()) {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }

    /// Returns true if the cache shows a volume claim of this name.
    ///
    /// # Errors
    ///
    /// If the cache cannot answer.
    pub(super) fn has_claim(&self, namespace: &str, name: &str) -> Result<bool, HandlerError> {
        Ok(self.claims.get(namespace, name)?.is_some())
    }

    /// Forgets a sandbox that is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.created.forget(uid);
        self.backoff.forget(uid);
    }
}
