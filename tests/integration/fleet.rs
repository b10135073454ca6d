//! Tests the main task of the whole process: it shows exactly the objects in scope while thousands change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxPhase, SandboxSet, StateKind};
use serde_json::{Value, json};

use crate::support::fixtures::{
    MetadataFixture, SandboxFixture, SandboxSetFixture, create, merge, sandbox, sandbox_set, set_status,
};
use crate::support::{ADMIN, Cluster, Kubectl, Labels, Process, SOON, Samples, eventually};

const SANDBOXES: usize = 2000;

/// Maximum number of concurrent requests.
const CONCURRENT: usize = 24;

/// Label selector that the process watches, besides one namespace.
const SELECTOR: &str = "team in (red, blue),!retired";

/// Applies the definitions that the binary prints, as in the README. Uses the client if there is no kubectl.
pub(crate) async fn install_printed_crds(cluster: &Cluster) {
    let binary = env!("CARGO_BIN_EXE_sandbox-manager");
    let printed = tokio::process::Command::new(binary).arg("crd").output().await.unwrap();
    let yaml = String::from_utf8(printed.stdout).unwrap();
    if let Some(kubectl) = Kubectl::find(cluster).await {
        kubectl.succeed(&["apply", "--server-side", "-f", "-"], &yaml).await;
    }
    // A second apply changes nothing, but waits until the kinds are served.
    let documents = serde_yaml::Deserializer::from_str(&yaml);
    let crds = documents.map(|document| serde::Deserialize::deserialize(document).unwrap());
    cluster.install_crds(crds).await;
}

/// The objects of one test by number: the initial state of each, and its changes.
struct Fleet {
    client: Client,
    inside: String,
    outside: String,
}

impl Fleet {
    fn name(number: usize) -> String {
        format!("sandbox-{number}")
    }

    fn namespace(&self, number: usize) -> &str {
        if number % 5 == 3 { &self.outside } else { &self.inside }
    }

    fn api(&self, number: usize) -> Api<Sandbox> {
        Api::namespaced(self.client.clone(), self.namespace(number))
    }

    /// Returns true if the object initially does not match the selector.
    fn begins_unselected(number: usize) -> bool {
        number % 5 == 4
    }

    fn leaves(number: usize) -> bool {
        number.is_multiple_of(6)
    }

    fn enters(number: usize) -> bool {
        Self::begins_unselected(number) && number % 6 == 1
    }

    fn is_deleted(number: usize) -> bool {
        number % 8 == 7
    }

    /// Returns true if the process must show the object at the end.
    fn ends_in_scope(&self, number: usize) -> bool {
        let selected = !Self::begins_unselected(number) || Self::enters(number);
        self.namespace(number) == self.inside
            && selected
            && !Self::leaves(number)
            && !Self::is_deleted(number)
    }

    fn at_first(number: usize) -> Sandbox {
        let team = if Self::begins_unselected(number) { "green" } else { "red" };
        let sandbox = sandbox(&Self::name(number)).label("team", team);
        match number % 7 {
            0 => sandbox.of_set("pool-a").ready(),
            1 => sandbox.of_set("pool-a").in_phase(SandboxPhase::Pending),
            2 => sandbox.claimed_by("alice").ready(),
            3 => sandbox.claimed_by("bob").in_phase(SandboxPhase::Paused),
            4 => sandbox.in_phase(SandboxPhase::Failed),
            5 => sandbox.of_set("pool-b"),
            _ => sandbox.claimed_by("carol").shut_down_at(Timestamp::UNIX_EPOCH),
        }
    }

    async fn create(&self, numbers: std::ops::Range<usize>) {
        let all = futures::stream::iter(numbers);
        let write = async |number| {
            create(&self.client, self.namespace(number), &Self::at_first(number)).await;
        };
        all.for_each_concurrent(CONCURRENT, write).await;
    }

    async fn change_and_delete(&self) {
        let all = futures::stream::iter(0..SANDBOXES);
        all.for_each_concurrent(CONCURRENT, async |number| self.change(number).await).await;
    }

    async fn change(&self, number: usize) {
        let (api, name) = (self.api(number), Self::name(number));
        let labels = |labels: Value| json!({ "metadata": { "labels": labels } });
        match number % 6 {
            0 if number.is_multiple_of(4) => {
                merge(&api, &name, labels(json!({ "retired": "yes" }))).await;
            }
            0 => {
                merge(&api, &name, labels(json!({ "team": "green" }))).await;
            }
            1 if Self::enters(number) => {
                merge(&api, &name, labels(json!({ "team": "blue" }))).await;
            }
            2 => {
                set_status(&api, &name, &json!({ "phase": "Failed" })).await;
            }
            3 => {
                let claim = json!({ "metadata": {
                    "labels": { "agents.kruise.io/sandbox-claimed": "true",
                                "agents.kruise.io/sandbox-id": format!("id-{number}") },
                    "annotations": { "agents.kruise.io/owner": "dave" }, "ownerReferences": null,
                } });
                merge(&api, &name, claim).await;
            }
            4 => {
                merge(&api, &name, json!({ "spec": { "paused": true } })).await;
            }
            _ => {}
        }
        if Self::is_deleted(number) {
            api.delete(&name, &DeleteParams::default()).await.unwrap();
        }
    }

    /// Returns the objects in scope that the API server lists. They must be those of the plan.
    async fn truth(&self) -> Vec<Sandbox> {
        let api: Api<Sandbox> = Api::namespaced(self.client.clone(), &self.inside);
        let listed = api.list(&ListParams::default().labels(SELECTOR)).await.unwrap().items;
        let names: BTreeSet<_> = listed.iter().map(|sandbox| sandbox.name_or_empty().to_owned()).collect();
        let planned = (0..SANDBOXES).filter(|&number| self.ends_in_scope(number)).map(Self::name);
        assert_eq!(names, planned.collect());
        listed
    }
}

/// Returns an object as `/debug/cache/sandboxes` shows it.
pub(crate) fn cache_entry(sandbox: &Sandbox) -> Value {
    let mut indexes = BTreeMap::new();
    let state = sandbox.state(Timestamp::now()).kind;
    let label = |key: &str| sandbox.metadata.labels.as_ref()?.get(key).cloned();
    let in_pool = state == StateKind::Available
        || state == StateKind::Creating && sandbox.metadata.owner_references.is_some();
    let pool = label("agents.kruise.io/sandbox-pool").filter(|_| in_pool);
    indexes.extend(pool.map(|pool| ("sandboxPool", vec![pool])));
    if label("agents.kruise.io/sandbox-claimed").as_deref() == Some("true") {
        let own = || format!("{}--{}", sandbox.namespace_or_empty(), sandbox.name_or_empty());
        indexes.insert("sandboxID", vec![label("agents.kruise.io/sandbox-id").unwrap_or_else(own)]);
    }
    indexes.extend(sandbox.owner().map(|owner| ("user", vec![owner.to_owned()])));
    json!({
        "namespace": sandbox.metadata.namespace,
        "name": sandbox.metadata.name,
        "uid": sandbox.metadata.uid,
        "resourceVersion": sandbox.metadata.resource_version,
        "indexes": indexes,
    })
}

/// Compares the objects in the cache of a process with the expected objects, in any order.
pub(crate) async fn ensure_cached(process: &Process, truth: &[Sandbox]) -> Result<()> {
    let by_key = |entry: &Value| format!("{}/{}", entry["namespace"], entry["name"]);
    let index = |entries: Vec<Value>| -> BTreeMap<_, _> {
        entries.into_iter().map(|entry| (by_key(&entry), entry)).collect()
    };
    let cached = process.cached("sandboxes").await?;
    let (count, cached) = (cached.len(), index(cached));
    ensure!(count == cached.len(), "{count} entries, but {} keys", cached.len());
    let expected = index(truth.iter().map(cache_entry).collect());
    for (key, entry) in &expected {
        ensure!(cached.get(key) == Some(entry), "{entry} is cached as {:?}", cached.get(key));
    }
    if let Some(more) = cached.keys().find(|key| !expected.contains_key(*key)) {
        bail!("{more} is cached, too");
    }
    Ok(())
}

/// Compares the gauge `sandboxes` with its expected values.
pub(crate) fn ensure_counted(samples: &Samples, truth: &[Sandbox]) -> Result<()> {
    let now = Timestamp::now();
    let mut expected: BTreeMap<Labels, u32> = BTreeMap::new();
    for sandbox in truth {
        let pool = sandbox.metadata.labels.as_ref().and_then(|all| all.get("agents.kruise.io/sandbox-pool"));
        let labels = [
            ("namespace", sandbox.namespace_or_empty()),
            ("pool", pool.map_or("", String::as_str)),
            ("state", sandbox.state(now).kind.as_str()),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        *expected.entry(labels.into()).or_default() += 1;
    }
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(labels, count)| (labels, f64::from(count))).collect();
    let shown: BTreeMap<_, _> = samples.all("sandboxes").iter().cloned().collect();
    ensure!(shown == expected, "sandboxes: {shown:?}, but there are {expected:?}");
    Ok(())
}

/// Compares the gauges of the sets: name, replicas, available and desired.
fn ensure_sets(samples: &Samples, namespace: &str, expected: &[(&str, [f64; 3])]) -> Result<()> {
    let families = ["sandboxset_replicas", "sandboxset_available_replicas", "sandboxset_desired_replicas"];
    for (number, family) in families.into_iter().enumerate() {
        let shown = samples.all(family);
        ensure!(shown.len() == expected.len(), "{family}: {shown:?}");
        for (name, values) in expected {
            let value = samples.value(family, &[("namespace", namespace), ("name", name)])?;
            ensure!((value - values[number]).abs() < 0.5, "{family} of {name} is {value}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn becomes_ready_and_shows_exactly_the_objects_in_scope_after_2000_changed() {
    let cluster = Cluster::shared().await;
    install_printed_crds(&cluster).await;
    let client = cluster.client().await;
    let (inside, outside) = (cluster.namespace("inside").await, cluster.namespace("outside").await);
    let fleet = Fleet { client: client.clone(), inside: inside.clone(), outside };
    let red = |set: SandboxSet| set.label("team", "red");
    create(&client, &inside, &red(sandbox_set("pool-a", 5)).having(4, 3)).await;
    create(&client, &inside, &red(sandbox_set("pool-b", 2))).await;
    create(&client, &inside, &sandbox_set("unselected", 9)).await;
    create(&client, &fleet.outside, &red(sandbox_set("elsewhere", 9))).await;

    // The list delivers half of the objects, the watch delivers the others.
    fleet.create(0..SANDBOXES / 2).await;
    let config = format!("sandboxNamespace: {inside}\nsandboxLabelSelector: \"{SELECTOR}\"\n");
    let mut process = Process::start(&cluster.kubeconfig(ADMIN).await, &config).await;
    fleet.create(SANDBOXES / 2..SANDBOXES).await;
    process.becomes_ready().await;
    fleet.change_and_delete().await;

    let truth = fleet.truth().await;
    let states: BTreeSet<_> =
        truth.iter().map(|sandbox| sandbox.state(Timestamp::now()).kind.as_str()).collect();
    assert!(states.len() >= 5, "{states:?}");
    eventually("the cache shows what the API server lists", SOON, async || {
        ensure_cached(&process, &truth).await
    })
    .await;
    eventually("the metrics show what the API server lists", SOON, async || {
        let samples = process.samples().await?;
        let objects = samples.value("sandbox_manager_cache_objects", &[("resource", "sandboxes")])?;
        ensure!(objects.to_string() == truth.len().to_string(), "{objects} objects");
        ensure_counted(&samples, &truth)?;
        ensure_sets(&samples, &inside, &[("pool-a", [4.0, 3.0, 5.0]), ("pool-b", [0.0, 0.0, 2.0])])
    })
    .await;

    let everything = ListParams::default();
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), &inside);
    sandboxes.delete_collection(&DeleteParams::default(), &everything).await.unwrap();
    let sets: Api<SandboxSet> = Api::namespaced(client, &inside);
    sets.delete("pool-b", &DeleteParams::default()).await.unwrap();
    eventually("the series go with the objects", SOON, async || {
        let samples = process.samples().await?;
        ensure_counted(&samples, &[])?;
        ensure_sets(&samples, &inside, &[("pool-a", [4.0, 3.0, 5.0])])
    })
    .await;

    ends_in_order(&mut process).await;
}

/// Sends SIGTERM and expects that the process is no longer ready and exits with code 0 within five seconds.
async fn ends_in_order(process: &mut Process) {
    process.signal("TERM").await;
    let deadline = Duration::from_secs(5);
    eventually("not ready after SIGTERM", deadline, async || {
        // No response is also accepted, because the listener may be closed.
        if let Ok(answer) = process.get("/readyz").await {
            ensure!(answer.status == 503, "{answer:?}");
        }
        Ok(())
    })
    .await;
    let ended = tokio::time::timeout(deadline, process.ended()).await.expect("its end within 5 s");
    assert_eq!(ended.code(), Some(0), "{}", process.log());
}
