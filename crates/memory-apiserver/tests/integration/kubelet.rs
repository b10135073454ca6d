//! The fake kubelet, as a controller sees its Pods. Time is paused, so every delay is exact.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Namespace, Node, Pod, PodStatus};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt as _};
use memory_apiserver::{ApiServer, BuildError, Kubelet, PodOutcome, Pods, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

const DELAY: Duration = Duration::from_secs(3);
const CLOCK: &str = "2030-01-01T00:00:00Z";

fn pod(name: &str, more: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i:1"}], "terminationGracePeriodSeconds": 20},
    });
    for (part, fields) in more.as_object().cloned().unwrap_or_default() {
        for (field, value) in fields.as_object().cloned().unwrap_or_default() {
            pod[&part][field] = value;
        }
    }
    serde_json::from_value(pod).unwrap()
}

/// A server with a kubelet, and its Pods.
struct Cluster {
    server: ApiServer,
    kubelet: Kubelet,
    pods: Api<Pod>,
}

impl Cluster {
    fn new() -> Self {
        Self::of(Kubelet::ready_after(DELAY))
    }

    fn of(kubelet: Kubelet) -> Self {
        let now: Timestamp = CLOCK.parse().unwrap();
        let server = ApiServer::builder().kubelet(&kubelet).clock(move || now).start().unwrap();
        let pods = Api::default_namespaced(server.client());
        Self { server, kubelet, pods }
    }

    async fn create(&self, name: &str, more: Value) -> Pod {
        self.pods.create(&PostParams::default(), &pod(name, &more)).await.unwrap()
    }

    /// Waits until the Pod passes a check, and returns it.
    async fn until(&self, name: &str, check: impl Fn(&Pod) -> bool) -> Pod {
        let passes = |pod: Option<&Pod>| pod.is_some_and(&check);
        let found =
            tokio::time::timeout(Duration::from_mins(10), await_condition(self.pods.clone(), name, passes));
        match found.await {
            Ok(found) => found.unwrap().unwrap(),
            Err(late) => panic!("{late}: {:?}", self.pods.get(name).await),
        }
    }

    async fn ready(&self, name: &str) -> Pod {
        self.until(name, |pod| is(pod, "Ready", "True")).await
    }

    async fn gone(&self, name: &str) {
        let is_gone = |pod: Option<&Pod>| pod.is_none();
        await_condition(self.pods.clone(), name, is_gone).await.unwrap();
    }

    async fn merge(&self, name: &str, patch: Value) {
        self.pods.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

fn status(pod: &Pod) -> &PodStatus {
    pod.status.as_ref().unwrap()
}

fn phase(pod: &Pod) -> &str {
    status(pod).phase.as_deref().unwrap_or_default()
}

fn container(pod: &Pod) -> &ContainerStatus {
    &status(pod).container_statuses.as_ref().unwrap()[0]
}

fn waits_for(pod: &Pod) -> &str {
    let statuses = status(pod).container_statuses.iter().flatten();
    let mut reasons =
        statuses.filter_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    reasons.next().unwrap_or_default()
}

fn is(pod: &Pod, kind: &str, value: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions).flatten();
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == value)
}

fn reason<'a>(pod: &'a Pod, kind: &str) -> &'a str {
    let found = status(pod).conditions.iter().flatten().find(|condition| condition.type_ == kind);
    found.and_then(|condition| condition.reason.as_deref()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_and_becomes_ready_after_the_delay() {
    let cluster = Cluster::new();
    let begun = Instant::now();
    let init =
        json!([{"name": "init", "image": "i"}, {"name": "side", "image": "i", "restartPolicy": "Always"}]);
    cluster.create("a", json!({"spec": {"initContainers": init}})).await;
    let bound = cluster.until("a", |pod| is(pod, "PodScheduled", "True")).await;
    assert_eq!(
        (bound.spec.as_ref().unwrap().node_name.as_deref(), phase(&bound)),
        (Some("node-1"), "Pending")
    );
    assert_eq!(begun.elapsed(), Duration::ZERO);

    let pod = cluster.ready("a").await;
    assert_eq!(begun.elapsed().as_secs(), DELAY.as_secs());
    assert_eq!(phase(&pod), "Running");
    for condition in ["PodScheduled", "Initialized", "ContainersReady", "Ready", "PodReadyToStartContainers"]
    {
        assert!(is(&pod, condition, "True"), "{condition}");
    }
    let container = container(&pod);
    assert_eq!((container.ready, container.started, container.restart_count), (true, Some(true), 0));
    let running = container.state.as_ref().unwrap().running.as_ref().unwrap();
    assert_eq!(running.started_at.as_ref().unwrap().0.to_string(), CLOCK, "the clock of the server");
    let init = status(&pod).init_container_statuses.as_ref().unwrap();
    assert_eq!(
        init[0].state.as_ref().unwrap().terminated.as_ref().unwrap().reason.as_deref(),
        Some("Completed")
    );
    assert!(init[1].state.as_ref().unwrap().running.is_some() && init.iter().all(|status| status.ready));
    assert_eq!(status(&pod).qos_class.as_deref(), Some("BestEffort"), "the status of the API server is kept");
    assert!(status(&pod).host_ip.is_some() && status(&pod).start_time.is_some());
}

#[tokio::test(start_paused = true)]
async fn all_pods_may_have_the_address_of_one_program() {
    let cluster = Cluster::of(Kubelet::ready_after(DELAY).pod_address("192.0.2.7".parse().unwrap()));
    for name in ["a", "b"] {
        cluster.create(name, json!({})).await;
        assert_eq!(status(&cluster.ready(name).await).pod_ip.as_deref(), Some("192.0.2.7"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_pods_get_nodes_addresses_and_two_writes_each() {
    let cluster = Cluster::of(Kubelet::ready_after(DELAY).nodes(["a", "b", "c"]));
    let before = cluster.server.revision();
    for number in 0..1000 {
        let object = serde_json::to_value(pod(&format!("p-{number}"), &json!({}))).unwrap();
        cluster.server.load(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": object["metadata"], "spec": object["spec"]})).unwrap();
    }
    let begun = Instant::now();
    cluster.ready("p-999").await;
    assert_eq!(begun.elapsed().as_secs(), DELAY.as_secs());
    let pods = cluster.pods.list(&ListParams::default()).await.unwrap().items;
    assert!(pods.iter().all(|pod| is(pod, "Ready", "True")), "all at the same time");
    let addresses: BTreeSet<_> = pods.iter().map(|pod| status(pod).pod_ip.as_deref().unwrap()).collect();
    assert_eq!(addresses.len(), 1000);
    for node in ["a", "b", "c"] {
        let on_it = pods.iter().filter(|pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(node));
        assert!((333..=334).contains(&on_it.count()), "{node}");
    }
    assert_eq!(cluster.server.revision() - before, 3000);
    let nodes = Api::<Node>::all(cluster.server.client()).list(&ListParams::default()).await.unwrap();
    assert_eq!(nodes.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_ends_its_containers_and_then_goes() {
    for (ending, grace, lasts) in [(0, None, 0), (7, None, 7), (90, None, 20), (90, Some(5), 5)] {
        let cluster = Cluster::of(Kubelet::ready_after(DELAY).ending_after(Duration::from_secs(ending)));
        cluster.create("a", json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
        cluster.ready("a").await;
        let begun = Instant::now();
        let options = DeleteParams { grace_period_seconds: grace, ..DeleteParams::default() };
        let marked = cluster.pods.delete("a", &options).await.unwrap().left().unwrap();
        assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(grace.unwrap_or(20).into()));
        assert!(is(&marked, "Ready", "True"));
        let ended = cluster.until("a", |pod| pod.metadata.deletion_grace_period_seconds == Some(0)).await;
        assert_eq!(begun.elapsed().as_secs(), lasts);
        assert!(container(&ended).state.as_ref().unwrap().terminated.is_some() && !container(&ended).ready);
        assert_eq!((phase(&ended), reason(&ended, "Ready")), ("Succeeded", "PodCompleted"));
        cluster.merge("a", json!({"metadata": {"finalizers": null}})).await;
        cluster.gone("a").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_never_ready_ends_too() {
    let cluster = Cluster::new();
    cluster.create("a", json!({})).await;
    cluster.until("a", |pod| is(pod, "PodScheduled", "True")).await;
    cluster.pods.delete("a", &DeleteParams::default()).await.unwrap();
    cluster.gone("a").await;
}

#[tokio::test(start_paused = true)]
async fn a_rule_gives_its_pods_an_outcome() {
    let cluster = Cluster::new();
    let outcomes = [
        ("unready", PodOutcome::Unready),
        ("starting", PodOutcome::Starting),
        ("image", PodOutcome::waiting("ImagePullBackOff", "no such image")),
        ("crash", PodOutcome::CrashLoop),
        ("failed", PodOutcome::failed("out of luck")),
        ("succeeded", PodOutcome::Succeeded),
        ("homeless", PodOutcome::unschedulable("no place")),
        ("late", PodOutcome::ReadyAfter(2 * DELAY)),
    ];
    for (name, outcome) in outcomes {
        cluster.kubelet.rule(Pods::labelled("is", name), outcome);
        cluster.create(name, json!({"metadata": {"labels": {"is": name}}})).await;
    }
    let begun = Instant::now();
    let late = cluster.ready("late").await;
    assert_eq!((begun.elapsed().as_secs(), phase(&late)), (2 * DELAY.as_secs(), "Running"));
    let get = async |name| cluster.pods.get(name).await.unwrap();

    let unready = get("unready").await;
    assert_eq!((phase(&unready), reason(&unready, "Ready")), ("Running", "ContainersNotReady"));
    let starting = get("starting").await;
    assert_eq!((phase(&starting), waits_for(&starting)), ("Pending", "ContainerCreating"));
    assert_eq!(status(&starting).pod_ip, None);
    let image = get("image").await;
    assert_eq!((phase(&image), waits_for(&image)), ("Pending", "ImagePullBackOff"));
    let crash = get("crash").await;
    assert_eq!((phase(&crash), waits_for(&crash)), ("Running", "CrashLoopBackOff"));
    assert_eq!(container(&crash).restart_count, 1);
    let last = container(&crash).last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(last.exit_code, 1);
    let failed = get("failed").await;
    assert_eq!((phase(&failed), status(&failed).message.as_deref()), ("Failed", Some("out of luck")));
    assert_eq!(phase(&get("succeeded").await), "Succeeded");
    let homeless = get("homeless").await;
    assert_eq!((phase(&homeless), reason(&homeless, "PodScheduled")), ("Pending", "Unschedulable"));
    assert_eq!(homeless.spec.as_ref().unwrap().node_name, None);

    cluster.kubelet.clear_rules();
    for name in ["unready", "starting", "image", "crash", "homeless"] {
        let pod = cluster.ready(name).await;
        assert_eq!((phase(&pod), waits_for(&pod)), ("Running", ""), "{name}");
    }
    assert_eq!(phase(&get("failed").await), "Failed", "a Pod that has ended stays so");
}

#[tokio::test(start_paused = true)]
async fn a_rule_changes_pods_that_run_and_the_latest_rule_holds() {
    let cluster = Cluster::new();
    cluster.create("a", json!({})).await;
    cluster.create("b", json!({})).await;
    cluster.ready("a").await;
    cluster.kubelet.rule(Pods::named("default", "a"), PodOutcome::waiting("ErrImagePull", ""));
    let waiting = cluster.until("a", |pod| waits_for(pod) == "ErrImagePull").await;
    assert_eq!((phase(&waiting), is(&waiting, "Ready", "False")), ("Running", true));
    cluster.kubelet.rule(Pods::matching(|pod| pod["metadata"]["name"] == "a"), PodOutcome::failed("lost"));
    cluster.until("a", |pod| phase(pod) == "Failed").await;
    assert!(is(&cluster.pods.get("b").await.unwrap(), "Ready", "True"), "no rule is for it");
}

#[tokio::test(start_paused = true)]
async fn containers_restart_on_demand_and_with_a_new_image() {
    let cluster = Cluster::new();
    cluster.create("a", json!({})).await;
    cluster.ready("a").await;
    let begun = Instant::now();
    cluster.kubelet.restart(Pods::all());
    let restarted = cluster.until("a", |pod| container(pod).restart_count == 1).await;
    assert_eq!((phase(&restarted), is(&restarted, "Ready", "False")), ("Running", true));
    assert!(container(&restarted).last_state.as_ref().unwrap().terminated.is_some());
    let ready = cluster.ready("a").await;
    assert_eq!((begun.elapsed().as_secs(), container(&ready).restart_count), (DELAY.as_secs(), 1));
    assert_ne!(container(&restarted).container_id, None);

    cluster.merge("a", json!({"metadata": {"labels": {"a": "b"}}})).await;
    cluster
        .pods
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::Strategic(json!({"spec": {"containers": [{"name": "c", "image": "i:2"}]}})),
        )
        .await
        .unwrap();
    let renewed = cluster.until("a", |pod| container(pod).restart_count == 2).await;
    assert_eq!(container(&renewed).image, "i:2");
    cluster.ready("a").await;
    cluster.create("later", json!({})).await;
    assert_eq!(container(&cluster.ready("later").await).restart_count, 0, "a restart is for Pods that run");
}

#[tokio::test(start_paused = true)]
async fn readiness_gates_and_scheduling_gates_hold_a_pod() {
    let cluster = Cluster::new();
    cluster.create("gated", json!({"spec": {"schedulingGates": [{"name": "x/z"}]}})).await;
    cluster.create("a", json!({"spec": {"readinessGates": [{"conditionType": "x/y"}]}})).await;
    let gated = cluster.until("a", |pod| is(pod, "ContainersReady", "True")).await;
    assert_eq!(reason(&gated, "Ready"), "ReadinessGatesNotReady");
    assert_eq!(reason(&cluster.pods.get("gated").await.unwrap(), "PodScheduled"), "SchedulingGated");
    let conditions = json!({"status": {"conditions": [{"type": "x/y", "status": "True"}]}});
    cluster.pods.patch_status("a", &PatchParams::default(), &Patch::Strategic(conditions)).await.unwrap();
    assert!(is(&cluster.ready("a").await, "x/y", "True"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_keeps_its_pods_and_gets_no_new_ones() {
    let cluster = Cluster::of(Kubelet::ready_after(DELAY).nodes(["n"]));
    cluster.create("a", json!({})).await;
    let ready = cluster.ready("a").await;
    cluster.kubelet.stop_node("n");
    let lost = cluster.until("a", |pod| is(pod, "Ready", "False")).await;
    assert_eq!((phase(&lost), container(&lost).ready), ("Running", true), "nobody knows better");
    let node = Api::<Node>::all(cluster.server.client()).get("n").await.unwrap();
    let conditions = node.status.as_ref().unwrap().conditions.as_ref().unwrap();
    assert_eq!(conditions[0].status, "Unknown");
    assert!(node.spec.unwrap().taints.is_some());
    cluster.pods.delete("a", &DeleteParams::default()).await.unwrap();
    cluster.create("b", json!({})).await;
    cluster.until("b", |pod| reason(pod, "PodScheduled") == "Unschedulable").await;
    assert_eq!(cluster.pods.get("a").await.unwrap().uid(), ready.uid());

    cluster.kubelet.start_node("n");
    cluster.gone("a").await;
    cluster.ready("b").await;
    let node = Api::<Node>::all(cluster.server.client()).get("n").await.unwrap();
    assert!(node.spec.unwrap().taints.is_none());
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_collected_end_within_their_grace_period() {
    let cluster = Cluster::of(Kubelet::ready_after(DELAY).ending_after(Duration::from_secs(4)));
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.server.client());
    let mut owner = ConfigMap::default();
    owner.metadata.name = Some("owner".to_owned());
    let owner = maps.create(&PostParams::default(), &owner).await.unwrap();
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid()}]);
    cluster.create("a", json!({"metadata": {"ownerReferences": reference}})).await;
    cluster.ready("a").await;
    let begun = Instant::now();
    maps.delete("owner", &DeleteParams::default()).await.unwrap();
    assert!(cluster.pods.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    cluster.gone("a").await;
    assert_eq!(begun.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_waits_for_its_pods_to_end() {
    let kubelet = Kubelet::ready_after(DELAY).ending_after(Duration::from_secs(4));
    let server = ApiServer::builder()
        .kubelet(&kubelet)
        .objects([json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n"},
                         "spec": {"containers": [{"name": "c", "image": "i"}]}})])
        .start()
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(server.client(), "n");
    await_condition(pods, "a", |pod: Option<&Pod>| pod.is_some_and(|pod| is(pod, "Ready", "True")))
        .await
        .unwrap();
    let namespaces: Api<Namespace> = Api::all(server.client());
    let begun = Instant::now();
    namespaces.delete("n", &DeleteParams::default()).await.unwrap();
    assert!(namespaces.get("n").await.unwrap().metadata.deletion_timestamp.is_some());
    await_condition(namespaces, "n", |namespace: Option<&Namespace>| namespace.is_none()).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn no_pod_is_forgotten_when_events_are_lost() {
    let kubelet = Kubelet::ready_after(DELAY);
    let server = ApiServer::builder().kubelet(&kubelet).history(2).start().unwrap();
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let is_ready = async |name: &str| is(&pods.get(name).await.unwrap(), "Ready", "True");
    let names: Vec<_> = (0..8).map(|number| format!("p-{number}")).collect();
    for name in &names {
        pods.create(&PostParams::default(), &pod(name, &json!({}))).await.unwrap();
    }
    // A watch would expire as the kubelet's reading does, so this waits in the paused time.
    tokio::time::sleep(2 * DELAY).await;
    for name in &names {
        assert!(is_ready(name).await, "{name}");
    }
    // A restored backup: versions are used again, and the events of the new Pod have old ones.
    server.compact();
    let revision = server.revision();
    pods.create(&PostParams::default(), &pod("lost", &json!({}))).await.unwrap();
    server.rewind(revision).unwrap();
    pods.create(&PostParams::default(), &pod("found", &json!({}))).await.unwrap();
    tokio::time::sleep(2 * DELAY).await;
    assert!(is_ready("found").await);
}

/// The kubelet knows the first Pod in a later version than its successor of the same name has.
#[tokio::test(start_paused = true)]
async fn a_pod_is_started_although_one_of_its_name_was_later_before_the_server_was_set_back() {
    let server = ApiServer::builder().kubelet(&Kubelet::ready_after(DELAY)).start().unwrap();
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let is_ready = async |name: &str| is(&pods.get(name).await.unwrap(), "Ready", "True");
    let revision = server.revision();
    pods.create(&PostParams::default(), &pod("again", &json!({}))).await.unwrap();
    tokio::time::sleep(2 * DELAY).await;
    assert!(is_ready("again").await);
    server.rewind(revision).unwrap();
    tokio::time::sleep(DELAY).await;
    pods.create(&PostParams::default(), &pod("again", &json!({}))).await.unwrap();
    tokio::time::sleep(2 * DELAY).await;
    assert!(is_ready("again").await);
}

#[tokio::test(start_paused = true)]
async fn the_kubelet_ends_with_its_server() {
    let held = Arc::new(());
    let clock = Arc::clone(&held);
    let cluster = ApiServer::builder()
        .kubelet(&Kubelet::ready_after(DELAY))
        .clock(move || {
            let _ = &clock;
            CLOCK.parse().unwrap()
        })
        .start()
        .unwrap();
    tokio::time::sleep(DELAY).await;
    assert!(Arc::strong_count(&held) > 1);
    drop(cluster);
    assert_eq!(Arc::strong_count(&held), 1, "the task keeps no server alive");
}

#[test]
fn a_kubelet_needs_a_runtime() {
    let started = ApiServer::builder().kubelet(&Kubelet::ready_after(DELAY)).start();
    assert!(matches!(started, Err(BuildError::NoRuntime)));
}
