//! [`Pool`]: a namespace of a cluster with nodes, in which a manager keeps a pool; and an observer of its sandboxes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxSet, crds};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::pool_rig::{Observer, POOL};
use crate::support::{ADMIN, Cluster, Process, eventually};

/// How long to wait for a pool, or for the garbage collector, which looks for new kinds every 30 s. Only a test that
/// fails reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_mins(4);

/// A namespace, and who watches it.
pub(crate) struct Pool {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) observer: Observer,
}

impl Pool {
    /// On a cluster that other tests use, too.
    pub(crate) async fn shared() -> Self {
        Self::on(Cluster::shared_with_nodes().await).await
    }

    pub(crate) async fn on(cluster: Cluster) -> Self {
        cluster.install_crds(crds()).await;
        let (client, namespace) = (cluster.client().await, cluster.namespace("lifecycle").await);
        let observer = Observer::start(Api::namespaced(client.clone(), &namespace));
        Self { cluster, client, namespace, observer }
    }

    /// The configuration of a manager of this namespace with the lifecycle controllers.
    pub(crate) fn config(&self, more: &str) -> String {
        format!("sandboxNamespace: {}\nlifecycle: {{ enabled: true }}\n{more}\n", self.namespace)
    }

    /// Starts a manager, and returns when its cache is synced.
    pub(crate) async fn start_manager(&self, more: &str) -> Process {
        let process = Process::start(&self.cluster.kubeconfig(ADMIN).await, &self.config(more)).await;
        process.becomes_ready().await;
        process
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates an object from its JSON.
    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let object = serde_json::from_value(object).expect("an object");
        self.api().create(&PostParams::default(), &object).await.expect("creating an object")
    }

    /// Creates the set.
    pub(crate) async fn create_set(&self, spec: Value) -> SandboxSet {
        self.create(json!({ "metadata": { "name": POOL }, "spec": spec })).await
    }

    /// Sets the replicas as `kubectl scale` does.
    pub(crate) async fn scale(&self, replicas: i32) {
        let change = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let sets = self.api::<SandboxSet>();
        sets.patch_scale(POOL, &PatchParams::default(), &change).await.expect("scaling the set");
    }

    /// Merges a change into an object.
    pub(crate) async fn merge<K>(&self, name: &str, change: Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let change = Patch::Merge(change);
        self.api::<K>().patch(name, &PatchParams::default(), &change).await.expect("changing an object");
    }

    pub(crate) async fn delete<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        self.api::<K>().delete(name, &DeleteParams::background()).await.expect("deleting an object");
    }

    pub(crate) async fn list<K>(&self) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        Ok(self.api::<K>().list(&ListParams::default()).await?.items)
    }

    /// Waits until an object passes a check, and returns it.
    pub(crate) async fn until<K>(&self, name: &str, check: impl Fn(&K) -> bool) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>();
        eventually(name, DEADLINE, async || {
            let object = api.get(name).await?;
            ensure!(check(&object), "{object:?}");
            Ok(object)
        })
        .await
    }

    /// Waits until the pool has exactly so many members, and the namespace exactly one ready pod for each.
    pub(crate) async fn is_full(&self, replicas: usize) {
        self.holds(replicas, 0).await;
    }

    /// Waits until the set says that it has so many members, all ready and of its template; and until the namespace has
    /// exactly these sandboxes, so many claimed ones, and one ready pod for each, which the observer has seen.
    pub(crate) async fn holds(&self, replicas: usize, claimed: usize) {
        let what = format!("{replicas} members and {claimed} claimed sandboxes");
        eventually(&what, DEADLINE, async || {
            self.ensure_status(replicas).await?;
            self.ensure_objects(replicas, claimed).await
        })
        .await;
    }

    async fn ensure_status(&self, replicas: usize) -> Result<()> {
        let number = i32::try_from(replicas)?;
        let set = self.api::<SandboxSet>().get(POOL).await?;
        let status = set.status.context("no status")?;
        ensure!(status.observed_generation == set.metadata.generation, "an old status");
        let numbers = [status.replicas, status.available_replicas];
        let updated = [status.updated_replicas, status.updated_available_replicas];
        ensure!(numbers == [number; 2] && updated == [Some(number); 2], "{numbers:?} {updated:?}");
        Ok(())
    }

    async fn ensure_objects(&self, replicas: usize, claimed: usize) -> Result<()> {
        let sandboxes = self.list::<Sandbox>().await?;
        let ready = sandboxes.iter().filter(|sandbox| sandbox.is_ready() && !sandbox.is_deleting());
        let (theirs, members): (Vec<_>, Vec<_>) = ready.partition(|sandbox| sandbox.is_claimed());
        let counts = [members.len(), theirs.len(), sandboxes.len()];
        ensure!(counts == [replicas, claimed, replicas + claimed], "{counts:?}: members, claimed, all");
        ensure!(members.iter().all(|sandbox| sandbox.is_controlled_by_sandbox_set()), "an orphan");

        let pods = self.list::<Pod>().await?;
        let expected: BTreeMap<_, _> = sandboxes.iter().map(|of| (of.name_any(), of.uid())).collect();
        let found: BTreeMap<_, _> = pods.iter().map(|pod| (pod.name_any(), controller(pod))).collect();
        ensure!(expected == found, "{} pods: {found:?}", pods.len());
        ensure!(pods.iter().all(is_ready), "a pod is not ready");
        ensure!(self.observer.has_seen(&sandboxes), "the observer is behind");
        Ok(())
    }

    /// The names of all sandboxes.
    pub(crate) async fn names(&self) -> BTreeSet<String> {
        let sandboxes = self.list::<Sandbox>().await.expect("listing sandboxes");
        sandboxes.iter().map(kube::ResourceExt::name_any).collect()
    }

    /// Waits until the namespace has neither sandboxes nor pods nor volume claims.
    pub(crate) async fn is_empty(&self) {
        eventually("nothing is left", DEADLINE, async || {
            let sandboxes = self.list::<Sandbox>().await?;
            let pods = self.list::<Pod>().await?;
            let claims = self.list::<PersistentVolumeClaim>().await?;
            let counts = [sandboxes.len(), pods.len(), claims.len()];
            ensure!(counts == [0; 3], "{counts:?}: sandboxes, pods, volume claims");
            Ok(())
        })
        .await;
    }
}

/// The UID of the object that controls a pod.
fn controller(pod: &Pod) -> Option<String> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).next()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The volume claim templates of a set or of a sandbox.
pub(crate) fn volume_claim_templates() -> Value {
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    json!([{ "metadata": { "name": "data" }, "spec": spec }])
}
