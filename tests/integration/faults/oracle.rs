//! Checks what must hold under every fault: the cache finally shows the objects of the server, and the events
//! of each object are consistent.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use sandbox_manager::Cache;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::shared_cache::{DeletionReason, Event, Subscription};
use sandbox_manager::testing::TestCache;

/// The UID of an object and its version.
type Known = (String, u64);

/// Follows a subscription and checks each event against the last event of its object.
pub(crate) struct Oracle {
    subscription: Subscription<Sandbox>,
    known: BTreeMap<String, Known>,
    /// UIDs whose deletion was reported.
    gone: BTreeMap<String, u64>,
    told: Vec<String>,
}

fn known(object: &Sandbox) -> Result<Known> {
    let version = object.resource_version().context("a version")?.parse()?;
    Ok((object.uid().context("a UID")?, version))
}

impl Oracle {
    pub(crate) fn new(test: &TestCache) -> Self {
        Self::of(test.cache())
    }

    pub(crate) fn of(cache: &Cache) -> Self {
        let subscription = cache.subscribe().expect("sandboxes are in scope");
        Self { subscription, known: BTreeMap::new(), gone: BTreeMap::new(), told: Vec::new() }
    }

    /// Checks the received events, and fails on impossible events.
    pub(crate) fn check(&mut self) -> Result<()> {
        while let Some(event) = self.subscription.try_next() {
            let Some(name) = event.object().map(|object| object.name_any()) else { continue };
            self.follow(&name, &event).with_context(|| format!("{name}: {:?}", self.told))?;
        }
        Ok(())
    }

    fn follow(&mut self, name: &str, event: &Event<Sandbox>) -> Result<()> {
        let (uid, version) = known(event.object().context("a marker")?)?;
        let before = self.known.get(name).cloned();
        match event {
            Event::Applied { old, .. } => {
                self.told.push(format!("{name} {version}"));
                ensure!(!self.gone.contains_key(&uid), "{uid} was reported again at {version}");
                ensure!(old.as_deref().map(known).transpose()? == before, "old is not the last state");
                if let Some((known_uid, known_version)) = before {
                    ensure!(known_uid == uid, "replaced without a deletion");
                    ensure!(known_version <= version, "from {known_version} back to {version}");
                }
                self.known.insert(name.to_owned(), (uid, version));
            }
            Event::Deleted { reason, .. } => {
                self.told.push(format!("{name} gone {version}"));
                // The deletion of an object that was created and deleted unseen is also reported.
                ensure!(before.is_none_or(|(known_uid, _)| known_uid == uid), "another one was deleted");
                ensure!(!self.gone.contains_key(&uid), "{uid} was deleted before");
                self.known.remove(name);
                // An object whose kind was not served exists still, and comes again.
                if *reason != DeletionReason::KindRemoved {
                    self.gone.insert(uid, version);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks after the faults have ended: cache and events match the objects of the server.
    pub(crate) async fn converged(&mut self, test: &TestCache) -> Result<()> {
        test.wait_until_synced().await;
        let truth = shown_as_served(test).await?;
        self.is_right(&truth)
    }

    /// Checks that the events lead to these objects of the server.
    pub(crate) fn is_right(&mut self, truth: &BTreeMap<String, (String, u64)>) -> Result<()> {
        self.check()?;
        ensure!(self.known == *truth, "reported: {:?}, server: {truth:?}", self.known);
        Ok(())
    }

    /// Returns a short form of the events since the last call.
    pub(crate) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

/// Checks that the cache shows the objects of the server. Returns their UIDs and versions by name.
pub(crate) async fn shown_as_served(test: &TestCache) -> Result<BTreeMap<String, Known>> {
    let sandboxes: Api<Sandbox> = Api::all(test.client());
    let truth = sandboxes.list(&ListParams::default()).await?.items;
    let truth: BTreeMap<_, _> =
        truth.iter().map(|object| Ok((object.name_any(), known(object)?))).collect::<Result<_>>()?;
    let cached = test.cache().reader::<Sandbox>().list(None)?;
    let cached: BTreeMap<_, _> =
        cached.iter().map(|object| Ok((object.name_any(), known(object)?))).collect::<Result<_>>()?;
    ensure!(cached == truth, "the cache shows {cached:?}, the server has {truth:?}");
    Ok(truth)
}

/// Records the calls of handlers.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    pub(crate) fn add(&self, call: impl Into<String>) {
        self.0.lock().push(call.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}
