//! [`Pool`]: the set that `fill` and `claims` measure, and its sandboxes on the API server.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use sandbox_manager::api::v1alpha1::{LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_POOL, Sandbox, SandboxSet};
use serde_json::{Value, json};

use crate::ClusterArguments;
use crate::memory_server::MemoryServer;

/// Timeout of each step.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(30);

/// What the pool is scaled down to.
pub(crate) const FEW: usize = 10;

/// Time between two looks at the API server.
const INTERVAL: Duration = Duration::from_millis(25);

/// Where a pool is measured, and how the result is printed.
#[derive(Args)]
pub(crate) struct PoolArguments {
    /// Start an API server in memory, as a process of its own, instead of using the kubeconfig.
    #[arg(long, conflicts_with_all = ["kubeconfig", "context"])]
    in_memory: bool,
    /// Namespace of the pool, and of the API key of `claims`.
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Print one JSON object instead of one line per key.
    #[arg(long)]
    pub(crate) json: bool,
}

impl PoolArguments {
    /// Returns how to reach the API server, and the one in memory if it is asked for, with its kubeconfig in `folder`.
    pub(crate) fn cluster(
        &self,
        given: &ClusterArguments,
        folder: &Path,
    ) -> anyhow::Result<(ClusterArguments, Option<MemoryServer>)> {
        if !self.in_memory {
            return Ok((given.clone(), None));
        }
        let kubeconfig = folder.join("kubeconfig");
        let server = MemoryServer::start(&kubeconfig)?;
        Ok((ClusterArguments { kubeconfig: Some(kubeconfig), context: None }, Some(server)))
    }

    /// The pool with this name.
    pub(crate) fn of(&self, client: Client, name: &'static str) -> Pool {
        Pool { client, namespace: self.namespace.clone(), name }
    }
}

/// A set, and its sandboxes.
#[derive(Clone)]
pub(crate) struct Pool {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) name: &'static str,
}

impl Pool {
    pub(crate) fn sandboxes(&self) -> Api<Sandbox> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn sets(&self) -> Api<SandboxSet> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Fails if the set exists: its sandboxes would be somebody else's.
    pub(crate) async fn ensure_absent(&self) -> anyhow::Result<()> {
        let existing = self.sets().get_opt(self.name).await.context("are the CRDs installed?")?;
        ensure!(existing.is_none(), "the set {} exists; delete it first", self.name);
        Ok(())
    }

    pub(crate) async fn create(&self, count: usize) -> anyhow::Result<()> {
        let object = json!({ "metadata": { "name": self.name }, "spec": { "replicas": count, "template": template() } });
        self.sets().create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }

    pub(crate) async fn scale(&self, count: usize) -> anyhow::Result<()> {
        let replicas = Patch::Merge(json!({ "spec": { "replicas": count } }));
        self.sets().patch(self.name, &PatchParams::default(), &replicas).await?;
        Ok(())
    }

    /// Waits until the API server has exactly this number of members that nobody has claimed, all available.
    pub(crate) async fn wait_for(&self, count: usize) -> anyhow::Result<()> {
        let end = Instant::now() + TIMEOUT;
        while !self.says(count).await? || self.unclaimed().await? != count {
            ensure!(Instant::now() < end, "the pool has not reached {count} members");
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// Returns true if the status of the set has exactly this number of available members, and no others.
    async fn says(&self, count: usize) -> anyhow::Result<bool> {
        let set = self.sets().get(self.name).await?;
        Ok(is_full(&set, i32::try_from(count)?))
    }

    async fn unclaimed(&self) -> anyhow::Result<usize> {
        let unclaimed = format!("{LABEL_SANDBOX_POOL}={},{LABEL_SANDBOX_CLAIMED}!=true", self.name);
        Ok(self.sandboxes().list_metadata(&ListParams::default().labels(&unclaimed)).await?.items.len())
    }

    /// Deletes the sandboxes of a selection, and waits until they are gone.
    pub(crate) async fn remove(&self, selection: &ListParams) -> anyhow::Result<()> {
        let api = self.sandboxes();
        let end = Instant::now() + TIMEOUT;
        api.delete_collection(&DeleteParams::default(), selection).await?;
        while !api.list_metadata(&selection.clone().limit(1)).await?.items.is_empty() {
            ensure!(Instant::now() < end, "the sandboxes are still there");
            tokio::time::sleep(4 * INTERVAL).await;
        }
        Ok(())
    }

    /// Removes the set, its members, and what was claimed from it.
    pub(crate) async fn clean_up(&self) -> anyhow::Result<()> {
        match self.sets().delete(self.name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
        self.remove(&ListParams::default().labels(&format!("{LABEL_SANDBOX_POOL}={}", self.name))).await
    }
}

/// Returns true if the status of a set has exactly this number of available members, and no others.
pub(crate) fn is_full(set: &SandboxSet, count: i32) -> bool {
    let status = set.status.as_ref();
    status.is_some_and(|status| status.available_replicas == count && status.replicas == count)
}

/// The template of the pods. Pods tolerate everything, so that the fake nodes of kwok take them.
pub(crate) fn template() -> Value {
    json!({
        "metadata": { "labels": { "app": "fill" } },
        "spec": {
            "containers": [{ "name": "sandbox", "image": "registry.example.com/agents/code-interpreter:2.11.0" }],
            "tolerations": [{ "operator": "Exists" }],
            "terminationGracePeriodSeconds": 0,
        },
    })
}
