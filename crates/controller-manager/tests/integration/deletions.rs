//! Deletions while names are used again and handlers fail at random, against a record of what was written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use controller_manager::shared_cache::{SharedCache, Watch};
use controller_manager::{
    Action, CancellationToken, HandlerError, Manager, ManagerOptions, Observed, QueueOptions,
    ReconcileHandler,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use memory_apiserver::ApiServer;
use parking_lot::Mutex;
use serde_json::json;

const NAMES: usize = 4;
const ROUNDS: usize = 400;

/// What the handler knows of one name.
#[derive(Default)]
struct Known {
    /// UID of the object that it was shown and whose deletion it has not finished.
    shown: Option<String>,
    /// UID of the deletion that it was told of and has not finished.
    owed: Option<String>,
    running: bool,
    version: String,
}

/// Checks at each call that a deletion comes between two objects of one name, and answers by a fixed pattern.
#[derive(Clone, Default)]
struct Checking {
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    faults: Arc<Mutex<Vec<String>>>,
    calls: Arc<AtomicUsize>,
    /// Set once every call is to succeed.
    all_succeed: Arc<AtomicBool>,
}

impl Checking {
    fn fault(&self, fault: String) {
        self.faults.lock().push(fault);
    }

    fn enter(&self, observed: &Observed<ConfigMap>) {
        let mut known = self.known.lock();
        let name = observed.key().name.to_owned();
        let known = known.entry(name.clone()).or_default();
        if std::mem::replace(&mut known.running, true) {
            self.fault(format!("r5: {name} runs twice at once"));
        }
        let uid = observed.object().and_then(|object| object.uid()).unwrap_or_default();
        match observed {
            Observed::Present(object) => {
                if let Some(owed) = &known.owed {
                    self.fault(format!("x1: {name} {uid} is shown while the deletion of {owed} is owed"));
                }
                if known.shown.as_ref().is_some_and(|shown| *shown != uid) {
                    self.fault(format!(
                        "x1: {name} {uid} is shown, and {:?} was never told as gone",
                        known.shown
                    ));
                }
                known.shown = Some(uid);
                known.version = object.resource_version().unwrap_or_default();
            }
            Observed::Deleted { .. } => {
                if known.shown.as_ref().is_some_and(|shown| *shown != uid) {
                    self.fault(format!("x1: {name} {uid} is told as gone before {:?}", known.shown));
                }
                if known.owed.as_ref().is_some_and(|owed| *owed != uid) {
                    self.fault(format!("x1: {name} {uid} is told as gone while {:?} is owed", known.owed));
                }
                known.owed = Some(uid);
            }
        }
    }

    fn leave(&self, observed: &Observed<ConfigMap>, done: bool) {
        let mut known = self.known.lock();
        let Some(known) = known.get_mut(observed.key().name) else { return };
        known.running = false;
        if done && matches!(observed, Observed::Deleted { .. }) {
            (known.shown, known.owed) = (None, None);
        }
    }
}

impl ReconcileHandler<ConfigMap> for Checking {
    async fn reconcile(&self, observed: Observed<ConfigMap>) -> Result<Action, HandlerError> {
        self.enter(&observed);
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        for _ in 0..call % 7 {
            tokio::task::yield_now().await;
        }
        let answer = if self.all_succeed.load(Ordering::SeqCst) { 0 } else { call % 5 };
        self.leave(&observed, answer < 2);
        match answer {
            0 | 1 => Ok(Action::await_change()),
            2 => Ok(Action::requeue(Duration::from_millis(1))),
            3 => Err("an error that belongs to the test".into()),
            _ => panic!("a panic that belongs to the test"),
        }
    }
}

/// Creates, changes and deletes objects in an order without a pattern that the handler could follow.
async fn write(api: &Api<ConfigMap>, round: usize) {
    let name = format!("map-{}", (round * 7 + round / 3) % NAMES);
    if round % 5 < 2 && api.get_opt(&name).await.unwrap().is_some() {
        let labels = json!({"metadata": {"labels": {"round": round.to_string()}}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(labels)).await.unwrap();
        return;
    }
    if api.get_opt(&name).await.unwrap().is_some() {
        api.delete(&name, &DeleteParams::default()).await.unwrap();
    }
    if !round.is_multiple_of(3) {
        let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
        api.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn x1_no_deletion_is_lost_and_no_successor_is_early() {
    let server = ApiServer::new();
    let cache = SharedCache::builder(server.client()).kind::<ConfigMap>(Watch::all()).build().unwrap();
    let mut manager = Manager::builder(cache.clone(), ManagerOptions::default()).build().unwrap();
    let checking = Checking::default();
    let backoff = Duration::from_millis(1);
    let options =
        QueueOptions { first_backoff: backoff, max_backoff: backoff, retries_per_second: 0, retry_burst: 0 };
    manager
        .controller::<ConfigMap>("checking")
        .max_concurrent_reconciles(3)
        .queue_options(options)
        .handler(checking.clone());
    let stop = CancellationToken::new();
    let running = tokio::spawn(manager.run(stop.clone()));
    cache.wait_for_cache_sync().await;
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    for round in 0..ROUNDS {
        write(&api, round).await;
    }
    checking.all_succeed.store(true, Ordering::SeqCst);

    let existing = api.list(&ListParams::default()).await.unwrap().items;
    let expected: BTreeMap<_, _> =
        existing.iter().map(|map| (map.name_any(), (map.uid(), map.resource_version()))).collect();
    let settled = || {
        let known = checking.known.lock();
        let known = known.iter().filter(|(_, known)| known.shown.is_some() || known.owed.is_some());
        let now =
            known.map(|(name, known)| (name.clone(), (known.shown.clone(), Some(known.version.clone()))));
        now.collect::<BTreeMap<_, _>>() == expected
    };
    let wait = async {
        while !settled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), wait).await;
    assert_eq!(*checking.faults.lock(), Vec::<String>::new());
    assert!(in_time.is_ok(), "what the handler knows is not what there is");
    stop.cancel();
    running.await.unwrap().unwrap();
}
