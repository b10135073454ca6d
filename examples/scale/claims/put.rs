//! [`Puts`]: the bare PUT that a claim is compared with.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
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

    /// Reads a claimed sandbox, and returns how long a PUT with its resource version takes.
    pub(super) async fn put(&self, id: &str) -> anyhow::Result<Duration> {
        let name = id.strip_prefix(&format!("{}--", self.namespace)).context("an id of another form")?;
        for _ in 0..TRIES {
            let mut object = self.api.get(name).await?;
            let annotations = object.metadata.annotations.get_or_insert_default();
            annotations.insert(MARK.to_owned(), "true".to_owned());
            let started = Instant::now();
            match self.api.replace(name, &PostParams::default(), &object).await {
                Ok(_) => return Ok(started.elapsed()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error).context("a PUT"),
            }
        }
        bail!("sandbox {name} changes all the time")
    }
}
