//! [`Rig`]: an API server with a kubelet, a manager with the lifecycle controllers, and an observer of every change of
//! the sandboxes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt};
use memory_apiserver::{ApiServer, Kubelet, Verb};
use parking_lot::Mutex;
use sandbox_manager::api::v1alpha1::{
    ANNOTATION_LOCK, LABEL_SANDBOX_CLAIMED, LABEL_TRUE, OWNER_SCALE_DOWN, Sandbox, SandboxPhase, SandboxSet,
    SandboxTemplate, StateKind, crds,
};
use sandbox_manager::controller_manager::shared_cache::jiff::Timestamp;
use sandbox_manager::manager::{Manager, ManagerError};
use sandbox_manager::options::{BindAddress, SandboxManagerOptions};
use sandbox_manager::{claims, lifecycle};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{SOON, eventually};

pub(super) const NAMESPACE: &str = "default";
pub(crate) const POOL: &str = "pool";

/// An API server, and a manager on it.
pub(super) struct Rig {
    pub(super) server: ApiServer,
    pub(super) kubelet: Kubelet,
    pub(super) observer: Observer,
    /// Sets that are reconciled at the same time.
    workers: u16,
    manager: Option<Running>,
}

/// A running manager.
struct Running {
    /// Keeps the manager running until the end of the test.
    _stop: CancellationToken,
    task: JoinHandle<Result<(), ManagerError>>,
}

impl Rig {
    /// Starts the server and a manager. Pods are ready after 50 ms.
    pub(super) async fn start() -> Self {
        Self::with_objects(&[]).await
    }

    /// As [`Self::start`], with objects that exist before the manager, exactly as they are here: with their UIDs and
    /// generations.
    pub(super) async fn with_objects(objects: &[Value]) -> Self {
        let mut rig = Self::without_manager(objects);
        rig.start_manager().await;
        rig
    }

    /// As [`Self::start`], with a manager that reconciles one set at a time.
    pub(super) async fn with_one_worker() -> Self {
        let mut rig = Self::without_manager(&[]);
        rig.workers = 1;
        rig.start_manager().await;
        rig
    }

    /// As [`Self::with_objects`], before the manager is started.
    pub(super) fn without_manager(objects: &[Value]) -> Self {
        let kubelet = Kubelet::ready_after(Duration::from_millis(50));
        let builder = ApiServer::builder().kubelet(&kubelet).strict_owners();
        let server = builder.objects(crds()).start().expect("a server");
        for object in objects {
            let plural = match object["kind"].as_str() {
                Some("Sandbox") => "sandboxes.agents.kruise.io",
                Some("SandboxSet") => "sandboxsets.agents.kruise.io",
                Some("SandboxTemplate") => "sandboxtemplates.agents.kruise.io",
                Some("Pod") => "pods",
                kind => panic!("{kind:?}"),
            };
            server.force(plural, object.clone());
        }
        let observer = Observer::start(Api::namespaced(server.client_without_faults(), NAMESPACE));
        let workers = SandboxManagerOptions::default().controllers.sandbox_set.max_concurrent_reconciles;
        Self { server, kubelet, observer, workers, manager: None }
    }

    /// Starts the manager, and returns when its cache is synced.
    pub(super) async fn start_manager(&mut self) {
        let mut options = SandboxManagerOptions { sandbox_namespace: NAMESPACE.into(), ..Default::default() };
        options.metrics.bind_address = BindAddress::Off;
        options.health.bind_address = BindAddress::Off;
        options.controllers.sandbox_set.max_concurrent_reconciles = self.workers;
        let (controllers, lifecycle) = (options.controllers.clone(), options.lifecycle.clone());
        let builder = Manager::builder(options).client(self.server.client()).lifecycle(true);
        let mut manager = builder.build().expect("a manager");
        let claims = claims::add(&mut manager).expect("the claim engine");
        lifecycle::add(&mut manager, &controllers, &lifecycle, &claims).expect("the lifecycle controllers");
        let (cache, stop) = (manager.cache().clone(), CancellationToken::new());
        let task = tokio::spawn(manager.run(stop.clone()));
        self.manager = Some(Running { _stop: stop, task });
        cache.wait_for_cache_sync().await;
    }

    /// Ends the manager as `kill -9` does: nothing that it has begun goes on.
    pub(super) async fn kill_manager(&mut self) {
        let Running { task, .. } = self.manager.take().expect("it runs");
        task.abort();
        assert!(task.await.expect_err("it was killed").is_cancelled());
    }

    pub(super) fn client(&self) -> Client {
        self.server.client_without_faults()
    }

    pub(super) fn sets(&self) -> Api<SandboxSet> {
        Api::namespaced(self.client(), NAMESPACE)
    }

    pub(super) fn sandboxes(&self) -> Api<Sandbox> {
        Api::namespaced(self.client(), NAMESPACE)
    }

    pub(super) fn templates(&self) -> Api<SandboxTemplate> {
        Api::namespaced(self.client(), NAMESPACE)
    }

    /// Creates the SandboxTemplate `gold`, or changes it to this image.
    pub(super) async fn gold(&self, image: &str) {
        let object = json!({
            "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxTemplate",
            "metadata": { "name": "gold" }, "spec": { "template": spec(0, image)["template"] },
        });
        let params = PatchParams::apply("tests").force();
        self.templates().patch("gold", &params, &Patch::Apply(object)).await.expect("writing the template");
    }

    /// Creates the pool.
    pub(super) async fn create(&self, spec: Value) -> SandboxSet {
        self.create_named(POOL, spec).await
    }

    pub(super) async fn create_named(&self, name: &str, spec: Value) -> SandboxSet {
        let object = json!({ "metadata": { "name": name }, "spec": spec });
        let set = serde_json::from_value(object).expect("a set");
        self.sets().create(&PostParams::default(), &set).await.expect("creating the set")
    }

    /// Merges a change into the spec of the pool.
    pub(super) async fn change(&self, spec: Value) {
        let change = Patch::Merge(json!({ "spec": spec }));
        self.sets().patch(POOL, &PatchParams::default(), &change).await.expect("changing the set");
    }

    /// Sets the replicas as `kubectl scale` does.
    pub(super) async fn scale(&self, replicas: i32) {
        let change = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        self.sets().patch_scale(POOL, &PatchParams::default(), &change).await.expect("scaling the set");
    }

    /// Waits until the pool has exactly so many members, all available and current, and says so in its status.
    pub(super) async fn full(&self, replicas: usize) -> SandboxSet {
        self.full_within(replicas, SOON).await
    }

    pub(super) async fn full_within(&self, replicas: usize, deadline: Duration) -> SandboxSet {
        let number = i32::try_from(replicas).expect("a small number");
        eventually(&format!("{replicas} members"), deadline, async || {
            let set = self.sets().get(POOL).await?;
            let status = set.status.clone().context("no status")?;
            let numbers = [status.replicas, status.available_replicas];
            ensure!(numbers == [number; 2], "{numbers:?}");
            let updated = [status.updated_replicas, status.updated_available_replicas];
            ensure!(updated == [Some(number); 2], "{updated:?}");
            ensure!(status.observed_generation == set.metadata.generation, "an old status");
            let members = self.members().await;
            ensure!(members.len() == replicas, "{} members", members.len());
            Ok(set)
        })
        .await
    }

    /// Waits until the condition Progressing of the pool has this reason, and returns the set.
    pub(super) async fn progressing(&self, reason: &str) -> SandboxSet {
        eventually(&format!("the reason {reason}"), SOON, async || {
            let set = self.sets().get(POOL).await?;
            let condition = set.condition("Progressing");
            ensure!(condition.is_some_and(|condition| condition.reason == reason), "{:?}", set.status);
            Ok(set)
        })
        .await
    }

    /// Returns the members that exist and are not being deleted.
    pub(super) async fn members(&self) -> Vec<Sandbox> {
        let all = self.sandboxes().list(&ListParams::default()).await.expect("listing sandboxes").items;
        all.into_iter()
            .filter(|sandbox| sandbox.is_controlled_by_sandbox_set() && !sandbox.is_deleting())
            .collect()
    }

    /// Claims a free member as OpenKruise Agents does, by a PUT. Returns its name, or `None` if none is free.
    pub(super) async fn claim(&self) -> Option<String> {
        let free = |sandbox: &Sandbox| {
            sandbox.state(Timestamp::now()).kind == StateKind::Available
                && !sandbox.annotations().contains_key(ANNOTATION_LOCK)
        };
        for mut sandbox in self.members().await.into_iter().filter(free) {
            sandbox.metadata.owner_references = None;
            sandbox.labels_mut().insert(LABEL_SANDBOX_CLAIMED.into(), LABEL_TRUE.into());
            sandbox.annotations_mut().insert(ANNOTATION_LOCK.into(), "a claim".into());
            sandbox.annotations_mut().insert("agents.kruise.io/owner".into(), "user".into());
            let name = sandbox.name_any();
            match self.sandboxes().replace(&name, &PostParams::default(), &sandbox).await {
                Ok(_) => return Some(name),
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {}
                Err(error) => panic!("claiming {name}: {error}"),
            }
        }
        None
    }

    /// The requests of the manager that write, without those of events.
    pub(super) fn writes(&self) -> BTreeMap<String, usize> {
        let mut writes = BTreeMap::new();
        for request in self.server.requests() {
            let is_write = matches!(request.verb, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete);
            if is_write && request.resource != "events" {
                let part = request.subresource.map(|part| format!("/{part}")).unwrap_or_default();
                *writes.entry(format!("{:?} {}{part}", request.verb, request.resource)).or_default() += 1;
            }
        }
        writes
    }

    /// Waits until no event of a sandbox or set comes any more.
    pub(super) async fn rest(&self) {
        let mut before = self.server.revision();
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let now = self.server.revision();
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// Watches the sandboxes of a namespace and notes what must never happen.
pub(crate) struct Observer {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    members: BTreeMap<String, Sandbox>,
    /// What a list has shown so far, until it is complete and replaces `members`.
    listed: BTreeMap<String, Sandbox>,
    most: usize,
    least_available: usize,
    claimed_deletions: Vec<String>,
}

impl Seen {
    fn count(&mut self) {
        let counted = |sandbox: &&Sandbox| {
            let is_locked = sandbox.owner() == Some(OWNER_SCALE_DOWN);
            let has_ended = matches!(sandbox.phase(), Some(SandboxPhase::Failed | SandboxPhase::Succeeded));
            sandbox.is_controlled_by_sandbox_set() && !sandbox.is_deleting() && !is_locked && !has_ended
        };
        let members: Vec<_> = self.members.values().filter(counted).collect();
        self.most = self.most.max(members.len());
        let available = members.iter().filter(|sandbox| sandbox.is_ready()).count();
        self.least_available = self.least_available.min(available);
    }
}

impl Observer {
    pub(crate) fn start(sandboxes: Api<Sandbox>) -> Self {
        let seen = Arc::new(Mutex::new(Seen { least_available: usize::MAX, ..Seen::default() }));
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            // After an error the watch goes on where it was.
            let events = watcher(sandboxes, watcher::Config::default()).default_backoff();
            let mut events = Box::pin(events.filter_map(|event| std::future::ready(event.ok())));
            while let Some(event) = events.next().await {
                let mut seen = noted.lock();
                match event {
                    watcher::Event::Apply(sandbox) => {
                        seen.members.insert(sandbox.name_any(), sandbox);
                    }
                    watcher::Event::Delete(sandbox) => {
                        seen.members.remove(&sandbox.name_any());
                        if sandbox.is_claimed() {
                            seen.claimed_deletions.push(sandbox.name_any());
                        }
                    }
                    watcher::Event::Init => seen.listed.clear(),
                    watcher::Event::InitApply(sandbox) => {
                        seen.listed.insert(sandbox.name_any(), sandbox);
                    }
                    watcher::Event::InitDone => seen.members = std::mem::take(&mut seen.listed),
                }
                seen.count();
            }
        });
        Self { seen, task }
    }

    /// Returns true if the observer has seen these sandboxes as they are here, and sees no others.
    pub(crate) fn has_seen(&self, sandboxes: &[Sandbox]) -> bool {
        let seen = self.seen.lock();
        let is_seen = |sandbox: &Sandbox| {
            let known = seen.members.get(&sandbox.name_any());
            known.is_some_and(|known| known.metadata.resource_version == sandbox.metadata.resource_version)
        };
        seen.members.len() == sandboxes.len() && sandboxes.iter().all(is_seen)
    }

    /// Returns the largest number of members that existed at one time since the last call.
    pub(crate) fn take_most(&self) -> usize {
        let mut seen = self.seen.lock();
        let most = std::mem::take(&mut seen.most);
        seen.count();
        most
    }

    /// Returns the smallest number of available members since the last call.
    pub(crate) fn take_least_available(&self) -> usize {
        let mut seen = self.seen.lock();
        let least = std::mem::replace(&mut seen.least_available, usize::MAX);
        seen.count();
        least
    }

    /// Panics if a claimed sandbox was deleted.
    pub(crate) fn assert_no_claimed_was_deleted(&self) {
        assert_eq!(
            self.seen.lock().claimed_deletions,
            Vec::<String>::new(),
            "claimed sandboxes were deleted"
        );
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The spec of a set whose template has this image.
pub(crate) fn spec(replicas: i32, image: &str) -> Value {
    json!({
        "replicas": replicas,
        "template": {
            "metadata": { "labels": { "app": "x" } },
            "spec": { "containers": [{ "name": "a", "image": image }] },
        },
    })
}

/// The spec of a set that refers to the SandboxTemplate `gold`.
pub(super) fn of_gold(replicas: i32) -> Value {
    json!({ "replicas": replicas, "templateRef": { "name": "gold" } })
}
