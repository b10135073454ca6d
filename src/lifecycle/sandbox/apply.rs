//! Executes the steps of a decision.

use std::sync::Arc;
use std::time::Duration;

use controller_manager::{Context, HandlerError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use shared_cache::PatchError;

use super::decision::{Action, Decision, PodChange};
use super::observe::Observer;
use super::observed::{Observed, PodView};
use super::requests::{self, RequestError};
use super::timers::{self, Timer};
use super::volume::Obstacle;
use super::{pod, refusal};
use crate::api::v1alpha1::{
    CREATED_BY_SANDBOX, FINALIZER_SANDBOX, LABEL_CREATED_BY, Sandbox, SandboxPhase, SandboxStatus,
};
use crate::lifecycle::events::{Events, Reason};
use crate::lifecycle::metrics::LifecycleMetrics;
use crate::lifecycle::requests::UNSEEN_WRITE;

/// Sends what a decision asks for.
pub(super) struct Applier {
    pub(super) context: Context,
    pub(super) observer: Observer,
    pub(super) events: Events,
    pub(super) metrics: LifecycleMetrics,
}

/// How an execution has ended.
pub(super) enum Applied {
    /// All steps have succeeded.
    Done,
    /// What is observed has changed.
    DecideAgain,
    /// The view was out of date, or others must act first. The steps that were left out are decided anew after this time.
    Later(Duration),
}

/// What follows a step.
enum Next {
    Step,
    End(Applied),
}

/// An execution under way.
struct Execution<'e, 'o> {
    applier: &'e Applier,
    /// The newest answer of the API server.
    sandbox: Arc<Sandbox>,
    observed: &'e mut Observed<'o>,
    pods: Api<Pod>,
}

impl Applier {
    /// Executes a decision.
    ///
    /// # Errors
    ///
    /// If the API server does not answer, or refuses a step. The steps before are done, and the decision is made anew
    /// from the new state.
    pub(super) async fn apply(
        &self,
        sandbox: &Arc<Sandbox>,
        observed: &mut Observed<'_>,
        decision: Decision,
    ) -> Result<Applied, HandlerError> {
        let pods = Api::namespaced(self.context.client().clone(), sandbox.namespace_or_empty());
        let mut execution = Execution { applier: self, sandbox: Arc::clone(sandbox), observed, pods };
        for action in &decision.actions {
            if let Next::End(end) = execution.step(action, &decision.status).await? {
                return Ok(end);
            }
        }
        for (reason, note) in &decision.events {
            self.events.publish(&**sandbox, *reason, note);
        }
        self.count(sandbox, &decision);
        Ok(Applied::Done)
    }

    fn count(&self, sandbox: &Sandbox, decision: &Decision) {
        let was_pending = matches!(sandbox.phase(), None | Some(SandboxPhase::Pending));
        let created = sandbox.metadata.creation_timestamp.as_ref().map(|time| time.0);
        if let Some(created) = created.filter(|_| was_pending)
            && decision.status.phase == Some(SandboxPhase::Running)
        {
            self.metrics
                .start_seconds
                .observe(Timestamp::now().duration_since(created).as_secs_f64().max(0.0));
        }
    }
}

impl Execution<'_, '_> {
    async fn step(&mut self, action: &Action, status: &SandboxStatus) -> Result<Next, HandlerError> {
        match action {
            Action::ShutDown => self.shut_down().await,
            Action::Pause => self.pause().await,
            Action::ReadPod => {
                let pod = self.applier.observer.read_pod(&self.sandbox).await?;
                self.found(pod).await
            }
            Action::CreatePod { revision } => self.create(revision, status).await,
            Action::DeletePod { uid, grace } => self.delete_pod(uid, *grace).await,
            Action::SetFinalizer(wanted) => self.set_finalizer(*wanted).await,
            Action::PatchPod { uid, change } => {
                let patched =
                    requests::patch_pod(&self.pods, self.sandbox.name_or_empty(), uid, change).await;
                self.updated(patched, action)
            }
            Action::ResizePod { uid, resources } => {
                let name = self.sandbox.name_or_empty();
                let resized = requests::resize_pod(&self.pods, name, uid, resources).await;
                self.updated(resized, action)
            }
            Action::WriteStatus => self.write_status(status).await,
        }
    }

    /// Asks the API server for the sandbox. Another one of the same name does not count.
    async fn read_live(&self) -> Result<Option<Arc<Sandbox>>, HandlerError> {
        let reader = self.applier.observer.cache.api_reader();
        let (namespace, name) = (self.sandbox.namespace_or_empty(), self.sandbox.name_or_empty());
        let live = reader.get::<Sandbox>(namespace, name).await?;
        Ok(live.filter(|live| live.metadata.uid == self.sandbox.metadata.uid))
    }

    /// LS5: reads the sandbox first, so that an extension which the cache does not show yet wins.
    async fn read_due(&self, timer: Timer) -> Result<Option<Arc<Sandbox>>, HandlerError> {
        let live = self.read_live().await?;
        Ok(live.filter(|live| timers::fired(live, Timestamp::now()) == Some(timer)))
    }

    async fn shut_down(&self) -> Result<Next, HandlerError> {
        let Some(live) = self.read_due(Timer::Shutdown).await? else { return Ok(later()) };
        let sandboxes: Api<Sandbox> =
            Api::namespaced(self.applier.context.client().clone(), live.namespace_or_empty());
        let preconditions = Preconditions {
            uid: live.metadata.uid.clone(),
            resource_version: live.metadata.resource_version.clone(),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match requests::delete(&sandboxes, live.name_or_empty(), &params).await {
            Ok(deleted) => {
                self.applier.metrics.timers_fired.with_label_values(&["shutdownTime"]).inc();
                if let Some(deleted) = deleted {
                    self.applier.observer.cache.expect(&deleted);
                }
                Ok(Next::Step)
            }
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(later()),
            Err(error) => Err(error.into()),
        }
    }

    async fn pause(&self) -> Result<Next, HandlerError> {
        let Some(live) = self.read_due(Timer::Pause).await? else { return Ok(later()) };
        let cache = &self.applier.observer.cache;
        let patched = cache.patch(&live, |sandbox| sandbox.spec.paused = Some(true)).if_unchanged().await;
        if is_outdated(&patched) {
            return Ok(later());
        }
        patched?;
        self.applier.metrics.timers_fired.with_label_values(&["pauseTime"]).inc();
        Ok(Next::Step)
    }

    /// Creates the volume claims and the pod. LC2: if the answer is not known, the API server is asked for the pod.
    async fn create(&mut self, revision: &str, status: &SandboxStatus) -> Result<Next, HandlerError> {
        if !self.may_create().await? {
            return Ok(later());
        }
        let Ok(parts) = self.observed.parts() else { return Ok(Next::End(Applied::DecideAgain)) };
        let claims = pod::claims(&self.sandbox, parts.claims);
        let pod = pod::build(&self.sandbox, parts, revision);
        for claim in claims {
            match self.create_claim(&claim).await {
                Ok(()) => {}
                Err(error) if error.is_taken_name() => {
                    if let Some(end) = self.check_claim(&claim).await? {
                        return Ok(Next::End(end));
                    }
                }
                Err(error) => return self.not_created(error, status).await,
            }
        }
        match requests::create::<Pod>(self.applier.context.client(), &pod).await {
            Ok(created) => {
                self.applier.metrics.pods_created.inc();
                self.created(Arc::new(created));
                Ok(Next::Step)
            }
            Err(error) if error.refusal().is_some() => self.not_created(error, status).await,
            // Somebody has the name, or the request may have been processed.
            Err(error) => match self.applier.observer.read_pod(&self.sandbox).await {
                Ok(PodView::Absent) | Err(_) => Err(error.into()),
                Ok(found) => self.found(found).await,
            },
        }
    }

    /// Returns true if the sandbox may get a pod.
    ///
    /// The first pod of a new sandbox needs no question. Before any other pod the API server is asked if the cache may show
    /// the sandbox as an earlier leader has not left it. It is also asked if this process has created a pod before: if the
    /// cache does not show yet that the sandbox is gone, its pod is collected, and each new pod would be, too.
    async fn may_create(&self) -> Result<bool, HandlerError> {
        let has_had_pod = self.applier.observer.known.has_had_pod(self.uid());
        match self.sandbox.phase() {
            None if !has_had_pod => Ok(true),
            _ if has_had_pod => self.is_unchanged().await,
            _ => self.is_current().await,
        }
    }

    /// Returns true if the cache shows what the last leader has left, see
    /// [`KnownSandboxes::is_current`](super::known::KnownSandboxes::is_current). Asks the API server if that is not known.
    async fn is_current(&self) -> Result<bool, HandlerError> {
        Ok(self.applier.observer.known.is_current(self.uid()) || self.is_unchanged().await?)
    }

    /// Asks the API server whether the sandbox is still the one that the decision was made for.
    async fn is_unchanged(&self) -> Result<bool, HandlerError> {
        let live = self.read_live().await?;
        let version = &self.sandbox.metadata.resource_version;
        let is_unchanged = live.is_some_and(|live| live.metadata.resource_version == *version);
        if is_unchanged {
            self.applier.observer.known.set_current(self.uid());
        }
        Ok(is_unchanged)
    }

    fn uid(&self) -> &str {
        self.sandbox.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Creates a volume claim, unless the cache shows it. It is kept over a pause and never updated (LS3).
    async fn create_claim(&self, claim: &serde_json::Value) -> Result<(), RequestError> {
        let name = claim["metadata"]["name"].as_str().unwrap_or_default();
        // A cache that cannot answer costs a request.
        if self.applier.observer.has_claim(&self.sandbox, name).unwrap_or_default() {
            return Ok(());
        }
        let created = requests::create::<PersistentVolumeClaim>(self.applier.context.client(), claim).await?;
        self.applier.observer.cache.expect(&created);
        Ok(())
    }

    /// Asks the API server whose the volume claim is that has the name. Returns how the execution ends if the sandbox
    /// cannot use the claim.
    async fn check_claim(&mut self, claim: &serde_json::Value) -> Result<Option<Applied>, HandlerError> {
        let name = claim["metadata"]["name"].as_str().unwrap_or_default();
        let reader = self.applier.observer.cache.api_reader();
        let live = reader.get::<PersistentVolumeClaim>(self.sandbox.namespace_or_empty(), name).await?;
        // It may be gone meanwhile.
        let Some(live) = live else { return Ok(Some(Applied::Later(UNSEEN_WRITE))) };
        self.observed.obstacle = Obstacle::of(&live, &self.sandbox);
        Ok(self.observed.obstacle.is_some().then_some(Applied::DecideAgain))
    }

    /// LC7: shows a refusal in a condition and an event, and leaves the sandbox alone for a while.
    async fn not_created(
        &mut self,
        error: RequestError,
        status: &SandboxStatus,
    ) -> Result<Next, HandlerError> {
        let Some(answer) = error.refusal() else { return Err(error.into()) };
        let message = error.to_string();
        let metrics = &self.applier.metrics.pod_create_failures;
        metrics.with_label_values(&[refusal::label(answer)]).inc();
        let generation = self.sandbox.metadata.generation.unwrap_or_default();
        let delay = self.applier.observer.backoff.failed(self.uid(), generation);
        let status = refusal::status(self.observed, status, &message);
        self.applier.events.publish(&*self.sandbox, Reason::PodCreateFailed, &message);
        match self.write_status(&status).await? {
            Next::Step => Ok(Next::End(Applied::Later(delay))),
            end @ Next::End(_) => Ok(end),
        }
    }

    /// Takes over a pod that the API server has returned, and decides again.
    async fn found(&mut self, pod: PodView) -> Result<Next, HandlerError> {
        if let PodView::Ours(pod) = &pod {
            let labels = pod.metadata.labels.as_ref();
            let label = labels.and_then(|labels| labels.get(LABEL_CREATED_BY)).map(String::as_str);
            let mut pod = Arc::clone(pod);
            // The cache does not show a pod without the label.
            if label != Some(CREATED_BY_SANDBOX) {
                let labels = [(LABEL_CREATED_BY.to_owned(), CREATED_BY_SANDBOX.to_owned())].into();
                let change = PodChange { labels, ..PodChange::default() };
                let uid = super::outcome::uid_of(&pod);
                let name = self.sandbox.name_or_empty();
                pod = Arc::new(requests::patch_pod(&self.pods, name, &uid, &change).await?);
            }
            self.created(Arc::clone(&pod));
            self.observed.pod = PodView::Ours(pod);
        } else {
            self.observed.pod = pod;
        }
        self.observed.pod_is_live = true;
        Ok(Next::End(Applied::DecideAgain))
    }

    /// Remembers an answer until the cache shows it.
    fn created(&self, pod: Arc<Pod>) {
        self.applier.observer.backoff.forget(self.uid());
        self.applier.observer.cache.expect(&*pod);
        self.applier.observer.known.add_pod(self.uid(), pod);
    }

    /// Deletes the pod. An earlier leader may have resumed the sandbox meanwhile, and this may be the new pod. A sandbox
    /// that is being deleted loses every pod.
    async fn delete_pod(&self, uid: &str, grace: Option<u32>) -> Result<Next, HandlerError> {
        if self.sandbox.metadata.deletion_timestamp.is_none() && !self.is_current().await? {
            return Ok(later());
        }
        match requests::delete_pod(&self.pods, self.sandbox.name_or_empty(), uid, grace).await {
            Ok(Some(ending)) => {
                self.applier.observer.cache.expect(&ending);
                Ok(Next::Step)
            }
            // The event of its deletion leads to the next decision.
            Ok(None) => Ok(Next::Step),
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(Next::Step),
            Err(error) => {
                self.report_refusal(&error);
                Err(error.into())
            }
        }
    }

    /// The pod was changed, or the API server does not allow it.
    fn updated(&mut self, answer: Result<Pod, RequestError>, action: &Action) -> Result<Next, HandlerError> {
        match answer {
            Ok(pod) => {
                self.applier.observer.backoff.forget(self.uid());
                self.applier.observer.cache.expect(&pod);
                Ok(Next::Step)
            }
            // The pod is gone, or was replaced.
            Err(error) if error.is_about_another_object() => Ok(later()),
            Err(error) if error.code() == Some(404) && !error.rules_out_change() => Ok(later()),
            Err(error) if error.refusal().is_some() => Ok(self.not_updated(&error, action)),
            Err(error) => Err(error.into()),
        }
    }

    /// LC7: the next decision shows the refusal. A missing permission or an exhausted quota may end, and no new pod has
    /// other labels and annotations: so only a ruled out change of the spec may lead to a new pod.
    fn not_updated(&mut self, error: &RequestError, action: &Action) -> Next {
        if self.sandbox.metadata.resource_version != self.observed.sandbox.metadata.resource_version {
            // What the next decision writes depends on the status that was written before this step.
            return later();
        }
        if action.changes_pod_spec() && error.rules_out_change() {
            self.observed.update_refused = Some(error.to_string());
        } else {
            self.report_refusal(error);
            let generation = self.sandbox.metadata.generation.unwrap_or_default();
            self.observed.held = Some(self.applier.observer.backoff.failed(self.uid(), generation));
            self.observed.update_held = Some(error.to_string());
        }
        Next::End(Applied::DecideAgain)
    }

    fn report_refusal(&self, error: &RequestError) {
        if error.refusal().is_some() {
            self.applier.events.publish(&*self.sandbox, Reason::PodUpdateFailed, &error.to_string());
        }
    }

    async fn set_finalizer(&mut self, wanted: bool) -> Result<Next, HandlerError> {
        let cache = &self.applier.observer.cache;
        let patched = cache.patch(&self.sandbox, |sandbox| {
            let finalizers = sandbox.metadata.finalizers.get_or_insert_default();
            finalizers.retain(|known| known != FINALIZER_SANDBOX);
            if wanted {
                finalizers.push(FINALIZER_SANDBOX.to_owned());
            }
        });
        let patched = patched.if_unchanged().await;
        if is_outdated(&patched) {
            return Ok(later());
        }
        self.written(patched?);
        Ok(Next::Step)
    }

    /// Takes over the answer of a write. The old version was its precondition.
    fn written(&mut self, answer: Arc<Sandbox>) {
        // Nothing was sent if there was nothing to change.
        if answer.metadata.resource_version != self.sandbox.metadata.resource_version {
            self.applier.observer.known.set_current(self.uid());
        }
        self.sandbox = answer;
    }

    async fn write_status(&mut self, status: &SandboxStatus) -> Result<Next, HandlerError> {
        let cache = &self.applier.observer.cache;
        let patch = cache.patch(&self.sandbox, |sandbox| sandbox.status = Some(status.clone()));
        let patched = patch.status().if_unchanged().await;
        if is_outdated(&patched) {
            return Ok(later());
        }
        self.written(patched?);
        Ok(Next::Step)
    }
}

/// Decides again when the cache is newer.
fn later() -> Next {
    Next::End(Applied::Later(UNSEEN_WRITE))
}

/// Returns true if the object has changed since it was read, or is gone. The cache will show that.
fn is_outdated<T>(patched: &Result<T, PatchError>) -> bool {
    patched.as_ref().is_err_and(PatchError::is_outdated)
}
