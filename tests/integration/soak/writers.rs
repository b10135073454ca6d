//! Changes the objects of a soak, and keeps a journal of what exists.
//!
//! The journal is the audit of the soak: it follows from the answers to the writes, not from any watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Error, ResourceExt};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sandbox_manager::api::v1alpha1::Sandbox;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::fixtures::{SandboxFixture, sandbox};

/// Number of writers. Each has its own names, so that it knows the outcome of its writes.
pub(super) const WRITERS: usize = 4;

/// Longest pause of a writer between two writes.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How long a writer tries to learn the outcome of a failed write.
const PATIENCE: Duration = Duration::from_mins(3);

/// The UID of the object of each name. `None`: deleted.
pub(super) type Journal = Arc<Mutex<BTreeMap<String, Option<String>>>>;

/// Counts the writes.
#[derive(Debug, Default)]
pub(super) struct Writes {
    pub(super) done: u64,
    pub(super) failed: u64,
}

pub(super) fn name(number: usize) -> String {
    format!("sandbox-{number:05}")
}

/// Creates the first objects.
pub(super) async fn create_all(client: &Client, objects: usize) -> Journal {
    let api: Api<Sandbox> = Api::default_namespaced(client.clone());
    let journal = Journal::default();
    let create = async |number: usize| {
        let created = api.create(&PostParams::default(), &at_first(number)).await.expect("a new sandbox");
        journal.lock().insert(name(number), created.uid());
    };
    futures::StreamExt::for_each_concurrent(futures::stream::iter(0..objects), 2 * WRITERS, create).await;
    journal
}

fn at_first(number: usize) -> Sandbox {
    sandbox(&name(number)).of_set(&format!("pool-{}", number % 10))
}

/// Writes until stopped. `number` is that of the writer.
pub(super) async fn write(
    client: Client,
    number: usize,
    objects: usize,
    seed: u64,
    journal: Journal,
    stop: CancellationToken,
) -> Result<Writes> {
    let chance = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
    let mut writer =
        Writer { api: Api::default_namespaced(client), journal, chance, writes: Writes::default() };
    while !stop.is_cancelled() {
        let object = writer.chance.random_range(0..objects / WRITERS) * WRITERS + number;
        writer.step(object).await?;
        tokio::time::sleep(writer.chance.random_range(Duration::ZERO..LONGEST_PAUSE)).await;
    }
    Ok(writer.writes)
}

struct Writer {
    api: Api<Sandbox>,
    journal: Journal,
    chance: StdRng,
    writes: Writes,
}

impl Writer {
    /// Creates a missing object, or changes or deletes an existing one.
    async fn step(&mut self, number: usize) -> Result<()> {
        let name = name(number);
        let exists = self.journal.lock().get(&name).is_some_and(Option::is_some);
        let written = if exists { self.change(&name).await } else { self.create(number).await.map(Some) };
        let uid = if let Ok(uid) = written {
            self.writes.done += 1;
            uid
        } else {
            // A failed write may have changed the object nevertheless.
            self.writes.failed += 1;
            self.outcome(&name).await?
        };
        self.journal.lock().insert(name, uid);
        Ok(())
    }

    async fn create(&self, number: usize) -> Result<String, Error> {
        let created = self.api.create(&PostParams::default(), &at_first(number)).await?;
        Ok(created.uid().unwrap_or_default())
    }

    /// Returns the UID of the object afterwards.
    async fn change(&mut self, name: &str) -> Result<Option<String>, Error> {
        let object = match self.chance.random_range(0..10) {
            0 => {
                self.api.delete(name, &DeleteParams::default()).await?;
                return Ok(None);
            }
            1..6 => {
                let status = json!({"status": status(self.chance.random_bool(0.5))});
                self.api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?
            }
            6 | 7 => {
                let label = json!({"metadata": {"labels": {"n": self.chance.random::<u16>().to_string()}}});
                self.api.patch(name, &PatchParams::default(), &Patch::Merge(label)).await?
            }
            _ => {
                let user = format!("user-{}", self.chance.random_range(0..20));
                self.api.patch(name, &PatchParams::default(), &Patch::Merge(claim(&user))).await?
            }
        };
        Ok(object.uid())
    }

    /// Reads what a failed write has left. Waits for an answer about the object, not about its kind.
    async fn outcome(&self, name: &str) -> Result<Option<String>> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let error = match self.api.get(name).await {
                Ok(object) => return Ok(object.uid()),
                Err(Error::Api(status)) if status.code == 404 && status.message.contains(name) => {
                    return Ok(None);
                }
                Err(error) => error,
            };
            if tokio::time::Instant::now() > end {
                bail!("what has become of {name}? {error}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn status(is_ready: bool) -> Value {
    json!({
        "phase": "Running", "observedGeneration": 1, "podInfo": {"podIP": "10.0.0.1"},
        "conditions": [{
            "type": "Ready", "status": if is_ready { "True" } else { "False" }, "reason": "PodReady", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    })
}

fn claim(user: &str) -> Value {
    json!({"metadata": {
        "labels": {"agents.kruise.io/sandbox-claimed": "true"},
        "annotations": {"agents.kruise.io/owner": user}, "ownerReferences": null,
    }})
}

/// Returns the UID and version of each object of the server. Fails if the journal names other objects.
pub(super) async fn truth(client: &Client, journal: &Journal) -> Result<BTreeMap<String, (String, u64)>> {
    let api: Api<Sandbox> = Api::default_namespaced(client.clone());
    let mut truth = BTreeMap::new();
    for object in api.list(&ListParams::default()).await?.items {
        let version = object.resource_version().context("a version")?.parse()?;
        truth.insert(object.name_any(), (object.uid().context("a UID")?, version));
    }
    let journal = journal.lock();
    let expected: BTreeMap<_, _> =
        journal.iter().filter_map(|(name, uid)| Some((name, uid.as_ref()?))).collect();
    let listed: BTreeMap<_, _> = truth.iter().map(|(name, (uid, _))| (name, uid)).collect();
    ensure!(expected == listed, "the server has other objects than the writers left");
    Ok(truth)
}
