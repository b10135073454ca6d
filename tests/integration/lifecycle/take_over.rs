//! Taking over a fleet of OpenKruise Agents, and giving it back (docs/migration.md).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource, ResourceExt};
use memory_apiserver::{ApiServer, Kubelet, SeenRequest, Verb};
use prometheus::TextEncoder;
use sandbox_manager::api::v1alpha1::{
    Sandbox, SandboxClaim, SandboxClaimPhase, SandboxPhase, SandboxSet, SandboxTemplate, StateKind, crds,
};
use sandbox_manager::cache::{ListSandboxesInPoolOptions, ListSandboxesOptions};
use sandbox_manager::lifecycle::{self, CLAIM_CONTROLLER, SANDBOX_CONTROLLER, SANDBOX_SET_CONTROLLER};
use sandbox_manager::manager::{Manager, ManagerError};
use sandbox_manager::options::{BindAddress, SandboxManagerOptions};
use sandbox_manager::{Cache, Provider as _, claims};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::upstream_fleet::UpstreamFleet;
use crate::support::{SOON, Samples, eventually, prepared};

const NAMESPACE: &str = "default";

/// A manager that is stopped as a deployment is: in order.
struct Process {
    cache: Cache,
    metrics: prometheus::Registry,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ManagerError>>,
}

impl Process {
    /// Starts a manager for one namespace, and returns when its cache is synced.
    async fn start(client: Client, namespace: &str, has_lifecycle: bool) -> Self {
        let mut options = SandboxManagerOptions { sandbox_namespace: namespace.into(), ..Default::default() };
        options.metrics.bind_address = BindAddress::Off;
        options.health.bind_address = BindAddress::Off;
        options.lifecycle.enabled = has_lifecycle;
        let (controllers, lifecycle) = (options.controllers.clone(), options.lifecycle.clone());
        let mut manager = Manager::builder(options).client(client).build().unwrap();
        if lifecycle.enabled {
            let claims = claims::add(&mut manager).unwrap();
            lifecycle::add(&mut manager, &controllers, &lifecycle, &claims).unwrap();
        }
        let (cache, metrics) = (manager.cache().clone(), manager.metrics().registry().clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn(manager.run(stop.clone()));
        cache.wait_for_cache_sync().await;
        Self { cache, metrics, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Waits until the controllers have looked at every object of the fleet, none with an error.
    async fn until_reconciled(&self, fleet: &UpstreamFleet) {
        for (controller, kind) in [
            (SANDBOX_CONTROLLER, "Sandbox"),
            (SANDBOX_SET_CONTROLLER, "SandboxSet"),
            (CLAIM_CONTROLLER, "SandboxClaim"),
        ] {
            let count = u32::try_from(fleet.of_kind(kind).count()).unwrap();
            eventually(&format!("{count} of {kind} are reconciled"), SOON, async || {
                let done = self.reconciles(controller, |result| result != "error");
                ensure!(done >= f64::from(count), "{done}");
                Ok(())
            })
            .await;
            assert!(self.reconciles(controller, |result| result == "error") < 0.5, "{controller}");
        }
    }

    fn reconciles(&self, controller: &str, has_result: impl Fn(&str) -> bool) -> f64 {
        let text = TextEncoder::new().encode_to_string(&self.metrics.gather()).unwrap();
        let samples = Samples::parse(&text).unwrap();
        let series = samples.all("controller_runtime_reconcile_total").iter();
        let ours =
            series.filter(|(labels, _)| labels["controller"] == controller && has_result(&labels["result"]));
        ours.map(|(_, value)| value).sum()
    }

    /// The cache shows the free members of each set, and everything else in its state.
    fn assert_counts(&self, fleet: &UpstreamFleet, namespace: &str) {
        for number in 0..fleet.sets() {
            let pool = UpstreamFleet::pool_name(number);
            let options = ListSandboxesInPoolOptions { namespace: Some(namespace), pool: &pool };
            let free = self.cache.list_sandboxes_in_pool(options).unwrap();
            assert_eq!(free.len(), fleet.count("available"), "{pool}");
            assert!(free.iter().all(|sandbox| sandbox.state(Timestamp::now()).kind == StateKind::Available));
        }
        let options = ListSandboxesOptions { namespace: Some(namespace), ..Default::default() };
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for sandbox in self.cache.list_sandboxes(options).unwrap() {
            *states.entry(sandbox.state(Timestamp::now()).kind.as_str()).or_default() += 1;
        }
        let running = ["claimed", "claimed by SandboxClaim", "resumed"].map(|what| fleet.count(what));
        let per_set = [fleet.count("available"), fleet.count("paused"), running.into_iter().sum()];
        let [available, paused, running] = per_set.map(|count| count * fleet.sets());
        assert_eq!(states, [("available", available), ("paused", paused), ("running", running)].into());
    }
}

/// Everything in a namespace that the fleet consists of, as JSON.
async fn snapshot(client: &Client, namespace: &str) -> BTreeMap<String, Value> {
    let kinds = [
        ApiResource::erase::<SandboxSet>(&()),
        ApiResource::erase::<SandboxTemplate>(&()),
        ApiResource::erase::<SandboxClaim>(&()),
        ApiResource::erase::<Sandbox>(&()),
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(&()),
        ApiResource::erase::<k8s_openapi::api::core::v1::Event>(&()),
    ];
    let mut all = BTreeMap::new();
    for kind in kinds {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
        for object in api.list(&ListParams::default()).await.unwrap() {
            all.insert(
                format!("{} {}", kind.plural, object.name_any()),
                serde_json::to_value(object).unwrap(),
            );
        }
    }
    all
}

/// Panics with the first difference.
#[track_caller]
fn assert_untouched(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) {
    for (name, object) in before {
        assert_eq!(after.get(name), Some(object), "{name}");
    }
    let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert!(new.is_empty(), "{new:?}");
}

/// The requests of the managers that do not only watch: writes, and live reads.
fn requests(server: &ApiServer) -> Vec<SeenRequest> {
    let all = server.requests().into_iter();
    all.filter(|request| !matches!(request.verb, Verb::List | Verb::Watch)).collect()
}

fn filled(fleet: &UpstreamFleet, kubelet: Option<&Kubelet>) -> ApiServer {
    let builder = ApiServer::builder().objects(crds()).strict_owners();
    let builder = match kubelet {
        Some(kubelet) => builder.kubelet(kubelet),
        None => builder,
    };
    let server = builder.start().unwrap();
    for object in &fleet.objects {
        server.force(&UpstreamFleet::resource(object), object.clone());
    }
    server
}

#[tokio::test(start_paused = true)]
async fn ls7_a_fleet_is_taken_over_and_given_back_without_a_write() {
    let fleet = UpstreamFleet::new(NAMESPACE, 20, 50);
    assert_eq!(fleet.of_kind("Sandbox").count(), 1000);
    let server = filled(&fleet, None);
    let before = snapshot(&server.client_without_faults(), NAMESPACE).await;
    assert_eq!(before.len() + 1, fleet.objects.len(), "all but the key store");

    let process = Process::start(server.client(), NAMESPACE, true).await;
    process.until_reconciled(&fleet).await;
    tokio::time::sleep(Duration::from_mins(20)).await;
    process.assert_counts(&fleet, NAMESPACE);
    assert_eq!(requests(&server), [], "no write, no event and no live read");
    process.stop().await;
    assert_untouched(&before, &snapshot(&server.client_without_faults(), NAMESPACE).await);

    let process = Process::start(server.client(), NAMESPACE, false).await;
    tokio::time::sleep(Duration::from_mins(20)).await;
    process.assert_counts(&fleet, NAMESPACE);
    process.stop().await;
    assert_eq!(requests(&server), []);
    assert_untouched(&before, &snapshot(&server.client_without_faults(), NAMESPACE).await);
}

/// Creates an empty set, waits for its status, and deletes it. The controller writes a status some time after it has seen
/// the set first, so those of older sets would be written by then.
async fn until_status_of_another_set(client: &Client, namespace: &str) {
    let sets: Api<SandboxSet> = Api::namespaced(client.clone(), namespace);
    let spec =
        json!({ "replicas": 0, "template": { "spec": { "containers": [{ "name": "a", "image": "i" }] } } });
    let set = serde_json::from_value(json!({ "metadata": { "name": "last" }, "spec": spec })).unwrap();
    sets.create(&PostParams::default(), &set).await.unwrap();
    eventually("the status of the last set", SOON, async || {
        ensure!(sets.get("last").await?.status.is_some(), "none");
        Ok(())
    })
    .await;
    sets.delete("last", &DeleteParams::default()).await.unwrap();
}

/// On any API server.
#[tokio::test]
async fn ls7_a_fleet_that_was_created_over_the_api_is_taken_over_and_given_back_without_a_write() {
    let (_, client, namespace) = prepared("take-over").await;
    let fleet = UpstreamFleet::new(&namespace, 5, 10);
    fleet.create(&client, &namespace).await;
    let before = snapshot(&client, &namespace).await;
    for lifecycle in [true, false, true] {
        let process = Process::start(client.clone(), &namespace, lifecycle).await;
        if lifecycle {
            process.until_reconciled(&fleet).await;
            until_status_of_another_set(&client, &namespace).await;
        }
        process.assert_counts(&fleet, &namespace);
        process.stop().await;
        assert_untouched(&before, &snapshot(&client, &namespace).await);
    }
}

/// A fleet that was taken over, with a kubelet.
struct Adopted {
    client: Client,
    process: Process,
    pods: BTreeMap<String, (String, String)>,
}

impl Adopted {
    async fn start() -> Self {
        let fleet = UpstreamFleet::new(NAMESPACE, 5, 10);
        let kubelet = Kubelet::ready_after(Duration::from_millis(50)).nodes(["kwok-0", "kwok-1"]);
        let server = filled(&fleet, Some(&kubelet));
        let client = server.client_without_faults();
        let process = Process::start(server.client(), NAMESPACE, true).await;
        process.until_reconciled(&fleet).await;
        // The kubelet of the test writes its own view of the pods once.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut adopted = Self { client, process, pods: BTreeMap::new() };
        adopted.pods = adopted.pods().await;
        adopted
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// UID and version of each pod by its name.
    async fn pods(&self) -> BTreeMap<String, (String, String)> {
        let pods = self.api::<Pod>().list(&ListParams::default()).await.unwrap();
        let pods = pods
            .into_iter()
            .map(|pod| (pod.name_any(), (pod.uid().unwrap(), pod.resource_version().unwrap())));
        pods.collect()
    }

    /// Panics if a pod was changed that is not one of these.
    async fn assert_pods_untouched_but(&self, names: &[&str]) {
        let now = self.pods().await;
        for (name, pod) in self.pods.iter().filter(|(name, _)| !names.contains(&name.as_str())) {
            assert_eq!(now.get(name), Some(pod), "{name}");
        }
    }

    async fn merge<K>(&self, name: &str, change: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    /// Waits until a set has so many members, all available and current, and returns their names.
    async fn members(&self, set: &str, count: i32) -> BTreeSet<String> {
        eventually(&format!("{count} members of {set}"), SOON, async || {
            let set = self.api::<SandboxSet>().get(set).await?;
            let status = set.status.clone().unwrap();
            let numbers =
                [Some(status.replicas), Some(status.available_replicas), status.updated_available_replicas];
            ensure!(
                numbers == [Some(count); 3] && status.observed_generation == set.metadata.generation,
                "{status:?}"
            );
            ensure!(status.update_revision.as_deref() == Some("5844467cf5"), "{status:?}");
            let selector = ListParams::default().labels(status.selector.as_deref().unwrap());
            let members = self.api::<Sandbox>().list(&selector).await?;
            let names: BTreeSet<_> = members.iter().map(ResourceExt::name_any).collect();
            ensure!(names.len() == usize::try_from(count).unwrap(), "{names:?}");
            Ok(names)
        })
        .await
    }

    async fn sandbox_is(&self, name: &str, phase: &SandboxPhase, condition: &str) -> Sandbox {
        eventually(&format!("{name} is {phase:?}"), SOON, async || {
            let sandbox = self.api::<Sandbox>().get(name).await?;
            ensure!(sandbox.phase() == Some(phase) && sandbox.condition_is_true(condition), "{sandbox:?}");
            Ok(sandbox)
        })
        .await
    }

    /// Returns the name of a sandbox of the first set in this phase that a user has claimed over E2B.
    async fn of_user(&self, phase: &SandboxPhase) -> String {
        let selector = ListParams::default()
            .labels("agents.kruise.io/sandbox-pool=pool-00,agents.kruise.io/sandbox-claimed=true");
        let all = self.api::<Sandbox>().list(&selector).await.unwrap();
        let is_it = |sandbox: &&Sandbox| {
            sandbox.phase() == Some(phase) && !sandbox.labels().contains_key("agents.kruise.io/claim-name")
        };
        all.iter().find(is_it).unwrap().name_any()
    }
}

#[tokio::test(start_paused = true)]
async fn ls7_adopted_sets_are_scaled_without_a_replacement() {
    let adopted = Adopted::start().await;
    let mut gone = Vec::new();
    for set in [UpstreamFleet::set_name(0), UpstreamFleet::set_name(4)] {
        let before = adopted.members(&set, 5).await;
        adopted.merge::<SandboxSet>(&set, json!({ "spec": { "replicas": 7 } })).await;
        let more = adopted.members(&set, 7).await;
        assert!(before.is_subset(&more));
        adopted.merge::<SandboxSet>(&set, json!({ "spec": { "replicas": 3 } })).await;
        let fewer = adopted.members(&set, 3).await;
        assert!(fewer.is_subset(&before), "the youngest go first");
        gone.extend(before.difference(&fewer).cloned());
    }
    let gone: Vec<_> = gone.iter().map(String::as_str).collect();
    adopted.assert_pods_untouched_but(&gone).await;
    adopted.process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ls7_an_adopted_member_is_claimed_with_its_pod() {
    let adopted = Adopted::start().await;
    let before = adopted.members("pool-01", 5).await;
    let claim = json!({ "metadata": { "name": "c" }, "spec": { "templateName": "pool-01", "createOnNoStock": false } });
    let claim: SandboxClaim = serde_json::from_value(claim).unwrap();
    let claims = adopted.api::<SandboxClaim>();
    claims.create(&PostParams::default(), &claim).await.unwrap();
    eventually("the end of the claim", SOON, async || {
        let claim = claims.get("c").await?;
        ensure!(claim.phase() == Some(&SandboxClaimPhase::Completed), "{:?}", claim.status);
        Ok(())
    })
    .await;
    let after = adopted.members("pool-01", 5).await;
    let taken: Vec<_> = before.difference(&after).map(String::as_str).collect();
    assert_eq!(taken.len(), 1);
    let sandbox = adopted.sandbox_is(taken[0], &SandboxPhase::Running, "Ready").await;
    assert_eq!(sandbox.labels()["agents.kruise.io/claim-name"], "c");
    assert_eq!(adopted.pods().await[taken[0]].0, adopted.pods[taken[0]].0, "the same pod");
    adopted.assert_pods_untouched_but(&taken).await;
    adopted.process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ls7_adopted_sandboxes_are_paused_and_resumed() {
    let adopted = Adopted::start().await;
    let (running, paused) =
        (adopted.of_user(&SandboxPhase::Running).await, adopted.of_user(&SandboxPhase::Paused).await);
    adopted.merge::<Sandbox>(&running, json!({ "spec": { "paused": true } })).await;
    adopted.merge::<Sandbox>(&paused, json!({ "spec": { "paused": false } })).await;
    adopted.sandbox_is(&running, &SandboxPhase::Paused, "SandboxPaused").await;
    adopted.sandbox_is(&paused, &SandboxPhase::Running, "Ready").await;
    let pods = adopted.pods().await;
    assert!(!pods.contains_key(&running) && pods.contains_key(&paused));
    adopted.merge::<Sandbox>(&running, json!({ "spec": { "paused": false } })).await;
    adopted.sandbox_is(&running, &SandboxPhase::Running, "Ready").await;
    assert_ne!(adopted.pods().await[&running].0, adopted.pods[&running].0);
    adopted.assert_pods_untouched_but(&[&running]).await;
    for number in 0..5 {
        adopted.members(&UpstreamFleet::set_name(number), 5).await;
    }
    adopted.process.stop().await;
}
