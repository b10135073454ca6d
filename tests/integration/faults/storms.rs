//! Tests storms of events: what cannot keep up costs one entry a key, and holds up nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::ensure;
use kube::ResourceExt;
use parking_lot::Mutex;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::controller_manager::{Action, Observed};
use sandbox_manager::shared_cache::Event;
use sandbox_manager::testing::TestCache;
use sandbox_manager::testing::fixtures::TestObject;
use tokio::sync::Semaphore;

use super::touch;
use crate::support::{SOON, eventually};

const KEYS: usize = 500;

/// Number of changes of each key.
const CHANGES: usize = 4;

#[tokio::test(start_paused = true)]
async fn a_storm_costs_a_subscriber_and_a_blocked_handler_one_entry_a_key() {
    let gate = Arc::new(Semaphore::new(0));
    let seen: Arc<Mutex<BTreeMap<String, Vec<u64>>>> = Arc::default();
    let (permits, calls) = (Arc::clone(&gate), Arc::clone(&seen));
    let handler = move |observed: Observed<Sandbox>| {
        let (permits, calls) = (Arc::clone(&permits), Arc::clone(&calls));
        async move {
            let object = observed.object().expect("nothing is deleted");
            let version = object.resource_version().unwrap_or_default().parse().unwrap_or_default();
            calls.lock().entry(object.name_any()).or_default().push(version);
            let _open = permits.acquire().await;
            Ok(Action::await_change())
        }
    };
    let names: Vec<_> = (0..KEYS).map(|i| format!("s{i}")).collect();
    let objects = names.iter().map(|name| Sandbox::test(name));
    let test = TestCache::builder().objects(objects).sandbox_handler(handler).build().await.unwrap();
    let mut subscription = test.cache().subscribe::<Sandbox>().unwrap();
    while subscription.try_next().is_some() {}
    for _ in 0..CHANGES {
        for name in &names {
            touch(&test, name).await;
        }
    }
    // Neither the handler nor the subscriber has done anything, and the watch has gone on.
    test.wait_until_synced().await;
    let newest: BTreeMap<_, u64> = test
        .cache()
        .reader::<Sandbox>()
        .list(None)
        .unwrap()
        .iter()
        .map(|object| (object.name_any(), object.resource_version().unwrap().parse().unwrap()))
        .collect();
    assert_eq!(newest.len(), KEYS);

    let mut told: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    while let Some(event) = subscription.try_next() {
        if let Event::Applied { new, .. } = event {
            told.entry(new.name_any()).or_default().push(new.resource_version().unwrap().parse().unwrap());
        }
    }
    assert_eq!(told.len(), KEYS);
    for (name, versions) in &told {
        assert_eq!(versions, &[newest[name]], "{name}: one entry, with the newest version");
    }

    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    eventually("the handler has seen every newest version", SOON, async || {
        let seen = seen.lock();
        let behind = newest
            .iter()
            .find(|(name, version)| seen.get(*name).and_then(|all| all.last()) != Some(*version));
        ensure!(behind.is_none(), "{behind:?}");
        Ok(())
    })
    .await;
    for (name, versions) in &*seen.lock() {
        assert!(versions.len() <= 2, "{name}: {versions:?}: changes were merged");
        assert!(versions.is_sorted(), "{name}: {versions:?}: in order");
    }
}
