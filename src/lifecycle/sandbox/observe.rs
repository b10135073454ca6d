//! Gathers what a decision depends on: from the cache, and by live reads where the cache cannot know.

use std::sync::Arc;
use std::time::Duration;

use controller_manager::HandlerError;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use shared_cache::{CacheObject, EXPIRES_AFTER, Reader, Satisfaction, SharedCache};

use super::creating::LOOK_AGAIN;
use super::known::KnownSandboxes;
use super::made::Adopted;
use super::observed::{Observed, PodView, Template};
use super::volume::Obstacle;
use super::{adopted, pod};
use crate::api::v1alpha1::{Sandbox, SandboxTemplate};
use crate::lifecycle::backoff::Backoff;
use crate::lifecycle::requests::UNSEEN_WRITE;

/// The sources of what is observed.
pub(super) struct Observer {
    pub(super) cache: SharedCache,
    pods: Reader<Pod>,
    claims: Reader<PersistentVolumeClaim>,
    templates: Reader<SandboxTemplate>,
    pub(super) known: KnownSandboxes,
    pub(super) backoff: Backoff,
}

/// The pod with the name of a sandbox, and how it is known.
struct SeenPod {
    view: PodView,
    /// See [`Observed::pod_is_live`].
    is_live: bool,
    /// See [`Observed::look_again`].
    look_again: Option<Duration>,
}

impl From<PodView> for SeenPod {
    fn from(view: PodView) -> Self {
        Self { view, is_live: false, look_again: None }
    }
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
            known: KnownSandboxes::default(),
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
    async fn pod(&self, sandbox: &Sandbox) -> Result<Option<SeenPod>, HandlerError> {
        let uid = sandbox.metadata.uid.as_deref().unwrap_or_default();
        let cached = self.pods.get(sandbox.namespace_or_empty(), sandbox.name_or_empty())?;
        if let Some(created) = self.known.unseen_pod(uid) {
            match self.cache.is_satisfied(&*created) {
                Satisfaction::Satisfied => self.known.pod_seen(uid),
                // The answer of the API server is newer than the cache.
                Satisfaction::Unsatisfied { age } => {
                    let look_again = EXPIRES_AFTER.saturating_sub(age) + UNSEEN_WRITE;
                    let view = PodView::Ours(created);
                    return Ok(Some(SeenPod { view, is_live: false, look_again: Some(look_again) }));
                }
                Satisfaction::Expired { .. } => return Ok(Some(self.unseen_pod(sandbox).await?)),
            }
        }
        let Some(cached) = cached else { return Ok(Some(PodView::Absent.into())) };
        match self.newest(&cached).await? {
            Newest::Known(pod) => Ok(Some(PodView::of(pod, sandbox).into())),
            Newest::Behind => Ok(None),
        }
    }

    /// Asks the API server for a pod that this process has created and the cache has not shown for long. The answer to
    /// the creation is too old to go by: meanwhile the pod has become ready, or is gone.
    async fn unseen_pod(&self, sandbox: &Sandbox) -> Result<SeenPod, HandlerError> {
        let uid = sandbox.metadata.uid.as_deref().unwrap_or_default();
        let view = self.read_pod(sandbox).await?;
        match &view {
            PodView::Ours(pod) => self.known.add_pod(uid, Arc::clone(pod)),
            PodView::Absent | PodView::Foreign(_) => self.known.pod_seen(uid),
        }
        Ok(SeenPod { view, is_live: true, look_again: Some(LOOK_AGAIN) })
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
        let Some(SeenPod { view: pod, is_live: pod_is_live, look_again }) = self.pod(sandbox).await? else {
            return Ok(None);
        };
        let template = self.template(sandbox).await?;
        let uid = sandbox.metadata.uid.as_deref().unwrap_or_default();
        let generation = sandbox.metadata.generation.unwrap_or_default();
        let mut observed = Observed {
            sandbox,
            adopted: self.adopted(uid, &pod),
            pod,
            pod_is_live,
            look_again,
            template,
            obstacle: None,
            held: self.backoff.remaining(uid, generation),
            update_refused: None,
            update_held: None,
            now: Timestamp::now(),
        };
        observed.obstacle = self.obstacle(&observed)?;
        Ok(Some(observed))
    }

    /// Returns what is remembered of this pod.
    fn adopted(&self, sandbox_uid: &str, pod: &PodView) -> Option<Arc<Adopted>> {
        let PodView::Ours(pod) = pod else { return None };
        self.known.adopted(sandbox_uid).filter(|adopted| adopted.pod_uid == pod.metadata.uid)
    }

    /// Remembers a sandbox for which there was nothing to do.
    pub(super) fn at_rest(&self, observed: &Observed<'_>) {
        if let Some(adopted) = adopted::adopt(observed) {
            self.known.adopt(observed.sandbox.metadata.uid.as_deref().unwrap_or_default(), adopted);
        }
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

    /// Returns why a volume claim that is needed cannot be used, as far as the cache shows it.
    fn obstacle(&self, observed: &Observed<'_>) -> Result<Option<Obstacle>, HandlerError> {
        let Ok(pod::Parts { claims: Some(claims), .. }) = observed.parts() else { return Ok(None) };
        for claim in pod::claims(observed.sandbox, Some(claims)) {
            let name = claim["metadata"]["name"].as_str().unwrap_or_default();
            let known = self.claims.get(observed.sandbox.namespace_or_empty(), name)?;
            if let Some(obstacle) = known.and_then(|known| Obstacle::of(&known, observed.sandbox)) {
                return Ok(Some(obstacle));
            }
        }
        Ok(None)
    }

    /// Returns true if the cache shows a volume claim of this name that the sandbox can use.
    ///
    /// # Errors
    ///
    /// If the cache cannot answer.
    pub(super) fn has_claim(&self, sandbox: &Sandbox, name: &str) -> Result<bool, HandlerError> {
        let known = self.claims.get(sandbox.namespace_or_empty(), name)?;
        Ok(known.is_some_and(|known| Obstacle::of(&known, sandbox).is_none()))
    }

    /// Forgets a sandbox that is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.known.forget(uid);
        self.backoff.forget(uid);
    }
}
