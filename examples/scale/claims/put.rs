//! [`Puts`]: the bare PUT that a claim is compared with.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use sandbox_manager::api::v1alpha1::Sandbox;

use crate::pool::Pool;

/// How often a PUT is tried whose object a controller has changed since it was read.
const TRIES: usize = 20;

/// The annotation that a PUT writes.
const MARK: &str = "scale.example.com/put";

/// Writes sandboxes as any client does, without a manager.
pub(super) struct Puts {
    api: Api<DynamicObject>,
    namespace: String,
}

impl Puts {
    pub(super) fn new(pool: &Pool) -> Self {
        let api =
            Api::namespaced_with(pool.client.clone(), &pool.namespace, &ApiResource::erase::<Sandbox>(&()));
        Self { api, namespace: pool.namespace.clone() }
    }

    /// Reads these sandboxes, and then writes each once, by this many tasks at the same time: what the claims of a crowd
    /// cost at the least. Returns the time of each PUT, and of all.
    pub(super) async fn crowd(
        &self,
        ids: Vec<String>,
        tasks: usize,
    ) -> anyhow::Result<(Vec<Duration>, Duration)> {
        let mut objects = Vec::new();
        for id in &ids {
            objects.push(self.read(id).await?);
        }
        let started = Instant::now();
        let puts = stream::iter(objects).map(|object| self.write(object)).buffer_unordered(tasks);
        let times: Vec<Option<Duration>> = puts.try_collect().await?;
        // One that a controller has changed meanwhile is left out: nothing changes a claimed sandbox that is ready.
        Ok((times.into_iter().flatten().collect(), started.elapsed()))
    }

    /// Reads a claimed sandbox, and returns how long a PUT with its resource version takes.
    pub(super) async fn put(&self, id: &str) -> anyhow::Result<Duration> {
        for _ in 0..TRIES {
            if let Some(took) = self.write(self.read(id).await?).await? {
                return Ok(took);
            }
        }
        bail!("sandbox {id} changes all the time")
    }

    /// Reads a sandbox, and marks it.
    async fn read(&self, id: &str) -> anyhow::Result<DynamicObject> {
        let name = id.strip_prefix(&format!("{}--", self.namespace)).context("an id of another form")?;
        let mut object = self.api.get(name).await?;
        object
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(MARK.to_owned(), Timestamp::now().to_string());
        Ok(object)
    }

    /// Returns none if the sandbox was changed since it was read.
    async fn write(&self, object: DynamicObject) -> anyhow::Result<Option<Duration>> {
        let name = object.metadata.name.as_deref().context("a sandbox without a name")?;
        let started = Instant::now();
        match self.api.replace(name, &PostParams::default(), &object).await {
            Ok(_) => Ok(Some(started.elapsed())),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error).context("a PUT"),
        }
    }
}
