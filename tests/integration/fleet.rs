//! Tests the main task of the whole process: it shows exactly the objects in scope while thousands change.

use std::collections::{BTreeMap, BTreeSet};

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

/// The labels that name a sandbox's pool: its template's, else its set's.
const TEMPLATE: &str = "agents.kruise.io/sandbox-template";
const POOL: &str = "agents.kruise.io/sandbox-pool";

/// What the process is told to watch, besides one namespace.
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
        let sandbox = match number % 11 {
            0 => sandbox.of_set("pool-a").ready(),
            1 => sandbox.of_set("pool-a").in_phase(SandboxPhase::Pending),
            2 => sandbox.claimed_by("alice").ready(),
            3 => sandbox.claimed_by("bob").label(POOL, "pool-a").in_phase(SandboxPhase::Paused),
            4 => sandbox.in_phase(SandboxPhase::Failed),
            5 => sandbox.of_set("pool-b"),
            6 => sandbox.label(POOL, "pool-b").in_phase(SandboxPhase::Pending),
            7 => Self::of_another_kind(sandbox.of_set("pool-b")),
            8 | 9 => sandbox.of_set("pool-b").ready(),
            _ => sandbox.claimed_by("carol").shut_down_at(Timestamp::UNIX_EPOCH),
        };
        if number.is_multiple_of(4) { sandbox.label(TEMPLATE, "template") } else { sandbox }
    }

    /// Controlled by another kind of object than a set.
    fn of_another_kind(mut sandbox: Sandbox) -> Sandbox {
        for owner in sandbox.metadata.owner_references.iter_mut().flatten() {
            (owner.api_version, owner.kind) = ("example.com/v1".into(), "Fleet".into());
        }
        sandbox
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

/// The value of a label, unless it is empty.
fn label(sandbox: &Sandbox, key: &str) -> Option<String> {
    sandbox.metadata.labels.as_ref()?.get(key).filter(|value| !value.is_empty()).cloned()
}

/// The pool of a sandbox, for the index and for the gauge: the template's name goes before the set's.
fn pool(sandbox: &Sandbox) -> Option<String> {
    label(sandbox, TEMPLATE).or_else(|| label(sandbox, POOL))
}

fn is_controlled_by_a_set(sandbox: &Sandbox) -> bool {
    sandbox.metadata.owner_references.iter().flatten().any(|owner| {
        let kind = (owner.api_version.as_str(), owner.kind.as_str());
        owner.controller == Some(true) && kind == ("agents.kruise.io/v1alpha1", "SandboxSet")
    })
}

/// An object as `/debug/cache/sandboxes` shows it.
pub(crate) fn cache_entry(sandbox: &Sandbox) -> Value {
    let mut indexes = BTreeMap::new();
    let state = sandbox.state(Timestamp::now()).kind;
    let label = |key: &str| label(sandbox, key);
    let in_pool =
        state == StateKind::Available || state == StateKind::Creating && is_controlled_by_a_set(sandbox);
    let annotations = sandbox.metadata.annotations.as_ref();
    let locked = annotations.is_some_and(|all| all.contains_key("agents.kruise.io/lock"));
    let claimed = label("agents.kruise.io/sandbox-claimed").as_deref() == Some("true");
    let pool = pool(sandbox).filter(|_| in_pool && !locked && !claimed);
    indexes.extend(pool.map(|pool| ("sandboxPool", vec![pool])));
    if claimed {
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
        let pool = pool(sandbox).unwrap_or_default();
        let labels = [
            ("namespace", sandbox.namespace_or_empty()),
            ("pool", &pool),
            ("state", sandbox.state(now).kind.as_str()),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        *expected.entry(labels.into()).or_default() += 1;
    }
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(labels, count)| (labels, f64::from(count))).collect();
    let shown: BTreeMap<_, _> = samples.all("sandbox_manager_sandboxes").iter().cloned().collect();
    ensure!(shown == expected, "sandboxes: {shown:?}, but there are {expected:?}");
    Ok(())
}

/// Compares the gauges of the sets: name, replicas, available and desired.
fn ensure_sets(samples: &Samples, namespace: &str, expected: &[(&str, [f64; 3])]) -> Result<()> {
    let families =
        ["sandbox_manager_pool_replicas", "sandbox_manager_pool_available", "sandbox_manager_pool_desired"];
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
    assert_eq!(states, BTreeSet::from(["available", "creating", "dead", "paused", "running"]));
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

    assert_eq!(process.terminate().await.code(), Some(0), "{}", process.log());
    let log = process.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("\"message\":\"stopped\""), "everything was stopped before: {log}");
}
