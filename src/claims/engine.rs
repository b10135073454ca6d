//! [`Engine`]: what all steps of the engine share: the cache, the ready queues, the own writes, the running tasks.

use std::sync::Arc;

use shared_cache::{Batch, Observer, Reader, SharedCache};
use tokio_util::task::TaskTracker;

use super::joint_resume::JointResumes;
use super::keyed::Keyed;
use super::metrics::ClaimMetrics;
use super::per_second::PerSecond;
use super::ready_queue::ReadyQueue;
use super::recent::Recent;
use super::runtime;
use crate::api::v1alpha1::{PodTemplate, Sandbox, SandboxSet, SandboxTemplate, TemplateRef};
use crate::cache::SandboxCache;

/// The engine as one clone of the cache sees it.
pub(super) struct Engine {
    pub(super) cache: SandboxCache,
    pub(super) sandboxes: Reader<Sandbox>,
    pub(super) sets: Reader<SandboxSet>,
    pub(super) templates: Reader<SandboxTemplate>,
    pub(super) shared: Arc<Shared>,
}

/// The state of an engine.
pub(super) struct Shared {
    pub(super) watched: Arc<Watched>,
    pub(super) creations: PerSecond,
    pub(super) resumes: Arc<JointResumes>,
    pub(super) metrics: ClaimMetrics,
    pub(super) create_on_no_stock: bool,
    /// The claims, and the removals of failed ones. They outlive their callers.
    pub(super) tasks: TaskTracker,
    /// Limits the looks for sandboxes that no lookup finds.
    pub(super) looks: PerSecond,
}

/// What follows the watch of sandboxes. The cache does not keep it alive.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) ready: Arc<ReadyQueue>,
    pub(super) recent: Recent,
    pub(super) keyed: Keyed,
}

impl Observer<Sandbox> for Watched {
    fn observe(&self, batch: &Batch<Sandbox>) {
        self.ready.see(&batch.deltas);
        self.keyed.see(&batch.deltas);
        // After the keys: what is forgotten here is found there.
        self.recent.see(&batch.deltas);
    }
}

impl Watched {
    /// Creates the queues, which follow the sandboxes of a cache from now on.
    pub(super) fn attach(cache: &SharedCache) -> Arc<Self> {
        let watched = Arc::new(Self::default());
        watched.keyed.fill(|| {
            let mut existing = Vec::new();
            watched.ready.fill(|| {
                existing = cache.observe(&watched).map(|snapshot| snapshot.objects).unwrap_or_default();
                existing.clone()
            });
            existing
        });
        watched
    }
}

impl Engine {
    pub(super) fn new(cache: SandboxCache, shared: Arc<Shared>) -> Self {
        let (sandboxes, sets, templates) = (cache.reader(), cache.reader(), cache.reader());
        Self { cache, sandboxes, sets, templates, shared }
    }

    pub(super) fn ready(&self) -> &Arc<ReadyQueue> {
        &self.shared.watched.ready
    }

    /// Returns whether pods of this template, or of the template that is referred to, have the port of a runtime. None if
    /// no template is known.
    pub(super) fn has_runtime(
        &self,
        namespace: &str,
        template: Option<&PodTemplate>,
        reference: Option<&TemplateRef>,
    ) -> Option<bool> {
        if let Some(template) = template {
            return Some(runtime::has_runtime(template));
        }
        let referred = self.templates.get(namespace, &reference?.name).ok()??;
        referred.spec.template.as_ref().map(runtime::has_runtime)
    }

    /// Runs a future in a task that outlives its caller. Outside of a runtime nothing runs: the process ends.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.shared.tasks.spawn_on(task, &runtime);
        }
    }
}
