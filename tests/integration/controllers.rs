//! Tests the manager as a library: what its handlers receive, and how it stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::api::DeleteParams;
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config, ResourceExt};
use parking_lot::Mutex;
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxSet, crds};
use sandbox_manager::controller_manager::ManagerError as RunError;
use sandbox_manager::controller_manager::{Action, HandlerError, Observed};
use sandbox_manager::manager::{Manager, ManagerError};
use sandbox_manager::options::{BindAddress, SandboxManagerOptions};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::fixtures::{MetadataFixture, SandboxFixture, create, merge, sandbox, sandbox_set};
use crate::support::{ADMIN, Cluster, Proxy, SOON, eventually, free_port, get, prepared};

/// Returns options of a manager of one namespace without listeners.
fn options(namespace: &str) -> SandboxManagerOptions {
    let mut options = SandboxManagerOptions { sandbox_namespace: namespace.into(), ..Default::default() };
    options.metrics.bind_address = BindAddress::Off;
    options.health.bind_address = BindAddress::Off;
    options
}

fn manager(client: Client, options: SandboxManagerOptions) -> Manager {
    Manager::builder(options).client(client).build().unwrap()
}

/// A running manager.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), ManagerError>>,
}

impl Running {
    fn start(manager: Manager) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(manager.run(stop.clone()));
        Self { stop, task }
    }

    async fn stop(self) -> Result<(), ManagerError> {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("its end").unwrap()
    }
}

/// The calls of handlers: the handler and the object.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    fn add(&self, call: String) {
        self.0.lock().push(call);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    /// Returns a handler that records its name, if the object exists, and the object's name and owner.
    fn handler<K: MetadataFixture + kube::Resource + 'static>(
        &self,
        handler: &'static str,
    ) -> impl Fn(Observed<K>) -> std::future::Ready<Result<Action, HandlerError>> + Send + Sync + use<K> {
        let calls = self.clone();
        move |observed| {
            let (mark, object) = match observed {
                Observed::Present(object) => ('+', Some(object)),
                Observed::Deleted { last_known, .. } => ('-', last_known),
            };
            let object = object.expect("the last known object");
            let owner = object.annotations().get("agents.kruise.io/owner").map_or("nobody", String::as_str);
            calls.add(format!("{handler} {mark}{} of {owner}", object.name_any()));
            std::future::ready(Ok(Action::await_change()))
        }
    }

    async fn eventually_has(&self, call: &str) {
        eventually(call, 2 * SOON, async || {
            ensure!(self.all().iter().any(|made| made == call), "{:?}", self.all());
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn r2_r6_every_object_is_handled_once_in_order_and_its_deletion_with_its_last_state() {
    let (_, client, namespace) = prepared("handlers").await;
    for number in 0..20 {
        create(&client, &namespace, &sandbox(&format!("existing-{number}")).owned_by("alice")).await;
    }
    create(&client, &namespace, &sandbox_set("set", 1)).await;
    let calls = Calls::default();
    let mut manager = manager(client.clone(), options(&namespace));
    manager
        .sandbox_controller()
        .add_reconcile_handler(calls.handler::<Sandbox>("first"))
        .add_reconcile_handler(calls.handler::<Sandbox>("second"));
    manager.sandbox_set_controller().add_reconcile_handler(calls.handler::<SandboxSet>("sets"));
    let running = Running::start(manager);

    for number in 0..20 {
        calls.eventually_has(&format!("second +existing-{number} of alice")).await;
    }
    calls.eventually_has("sets +set of nobody").await;
    let api: Api<Sandbox> = Api::namespaced(client.clone(), &namespace);
    let owned = json!({ "metadata": { "annotations": { "agents.kruise.io/owner": "bob" } } });
    merge(&api, "existing-0", owned).await;
    calls.eventually_has("second +existing-0 of bob").await;
    api.delete("existing-0", &DeleteParams::default()).await.unwrap();
    calls.eventually_has("second -existing-0 of bob").await;
    running.stop().await.unwrap();

    // Each object once, by both handlers in order.
    let calls = calls.all();
    for number in 1..20 {
        let name = format!("+existing-{number} of");
        let of_one: Vec<_> = calls.iter().filter(|call| call.contains(&name)).collect();
        assert_eq!(of_one, [&format!("first {name} alice"), &format!("second {name} alice")]);
    }
    let of_one: Vec<_> = calls.iter().filter(|call| call.contains("existing-0 ")).cloned().collect();
    let expected = ["+existing-0 of alice", "+existing-0 of bob", "-existing-0 of bob"];
    let expected: Vec<_> =
        expected.iter().flat_map(|call| [format!("first {call}"), format!("second {call}")]).collect();
    assert_eq!(of_one, expected);
}

#[tokio::test]
async fn r2_deletions_during_an_outage_reach_handlers_with_the_last_known_object() {
    let cluster = Cluster::start().await;
    cluster.install_crds(crds()).await;
    let client = cluster.client().await;
    for name in ["deleted", "replaced", "untouched"] {
        create(&client, "default", &sandbox(name).owned_by("alice")).await;
    }
    create(&client, "default", &sandbox_set("deleted", 1).owned_by("alice")).await;
    let proxy = Proxy::to(&cluster).await;
    let kubeconfig = proxy.lead(cluster.kubeconfig(ADMIN).await);
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let calls = Calls::default();
    let mut manager = manager(Client::try_from(config).unwrap(), options("default"));
    manager.sandbox_controller().add_reconcile_handler(calls.handler::<Sandbox>("sandbox"));
    manager.sandbox_set_controller().add_reconcile_handler(calls.handler::<SandboxSet>("set"));
    let running = Running::start(manager);
    for name in ["deleted", "replaced", "untouched"] {
        calls.eventually_has(&format!("sandbox +{name} of alice")).await;
    }
    calls.eventually_has("set +deleted of alice").await;

    proxy.cut();
    cluster.kill_api_server().await;
    cluster.start_api_server().await;
    let client = cluster.client().await;
    let api: Api<Sandbox> = Api::namespaced(client.clone(), "default");
    for name in ["deleted", "replaced"] {
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let sets: Api<SandboxSet> = Api::namespaced(client.clone(), "default");
    sets.delete("deleted", &DeleteParams::default()).await.unwrap();
    create(&client, "default", &sandbox("replaced").owned_by("bob")).await;
    proxy.restore();

    calls.eventually_has("sandbox -deleted of alice").await;
    calls.eventually_has("set -deleted of alice").await;
    calls.eventually_has("sandbox +replaced of bob").await;
    running.stop().await.unwrap();
    let calls = calls.all();
    let of_replaced: Vec<_> = calls.iter().filter(|call| call.contains("replaced")).collect();
    let expected = ["sandbox +replaced of alice", "sandbox -replaced of alice", "sandbox +replaced of bob"];
    assert_eq!(of_replaced, expected);
    assert!(!calls.iter().any(|call| call.contains("-untouched")), "{calls:?}");
}

/// The work of a handler that needs a permit of the test to continue. Counts the concurrent calls.
#[derive(Default)]
struct Work {
    /// Running handlers by object, and the maximum for one object.
    running: Mutex<BTreeMap<String, usize>>,
    most_of_one: AtomicUsize,
    most: AtomicUsize,
    done: AtomicUsize,
}

impl Work {
    async fn run(&self, name: String, permits: &Semaphore) -> Result<Action, HandlerError> {
        {
            let mut running = self.running.lock();
            let of_one = running.entry(name.clone()).or_default();
            *of_one += 1;
            self.most_of_one.fetch_max(*of_one, Ordering::Relaxed);
            self.most.fetch_max(running.values().sum(), Ordering::Relaxed);
        }
        permits.acquire().await?.forget();
        *self.running.lock().entry(name).or_default() -= 1;
        self.done.fetch_add(1, Ordering::Relaxed);
        Ok(Action::await_change())
    }

    fn running(&self) -> usize {
        self.running.lock().values().sum()
    }
}

#[tokio::test]
async fn r5_r6_keys_run_in_parallel_up_to_the_limit_and_an_event_meanwhile_brings_one_back() {
    let (_, client, namespace) = prepared("parallel").await;
    for number in 0..5 {
        create(&client, &namespace, &sandbox(&format!("s-{number}"))).await;
    }
    let (work, permits) = (Arc::new(Work::default()), Arc::new(Semaphore::new(0)));
    let mut options = options(&namespace);
    options.controllers.sandbox.max_concurrent_reconciles = 2;
    let mut manager = manager(client.clone(), options);
    let cache = manager.cache().clone();
    let handler = (Arc::clone(&work), Arc::clone(&permits));
    manager.sandbox_controller().add_reconcile_handler(move |observed: Observed<Sandbox>| {
        let (work, permits) = handler.clone();
        async move { work.run(observed.key().name.to_owned(), &permits).await }
    });
    let running = Running::start(manager);
    let runs = async |count: usize, done: usize| {
        eventually(&format!("{count} handlers run, {done} are done"), SOON, async || {
            let now = (work.running(), work.done.load(Ordering::Relaxed));
            ensure!(now == (count, done), "{now:?}");
            Ok(())
        })
        .await;
    };
    runs(2, 0).await;

    // Both running objects change several times meanwhile. Each must be requeued once.
    let api: Api<Sandbox> = Api::namespaced(client.clone(), &namespace);
    let names: Vec<_> = work.running.lock().keys().cloned().collect();
    for name in &names {
        for owner in ["alice", "bob", "carol"] {
            let owned = json!({ "metadata": { "annotations": { "agents.kruise.io/owner": owner } } });
            let written = merge(&api, name, owned).await;
            cache.await_version::<Sandbox>(&written.resource_version().unwrap(), SOON).await.unwrap();
        }
    }
    permits.add_permits(100);
    runs(0, 5 + names.len()).await;
    assert_eq!(work.most.load(Ordering::Relaxed), 2, "r5: never more than the limit");
    assert_eq!(work.most_of_one.load(Ordering::Relaxed), 1, "r5: never two of one key");
    running.stop().await.unwrap();
}

/// A manager whose only handler signals its start and ends when it gets a permit.
struct Busy {
    running: Running,
    work: Arc<Work>,
    permits: Arc<Semaphore>,
    /// Address of the health endpoint.
    health: String,
}

impl Busy {
    async fn start(prefix: &str, grace_period: Duration) -> Self {
        let (_, client, namespace) = prepared(prefix).await;
        create(&client, &namespace, &sandbox("a").ready()).await;
        let (work, permits) = (Arc::new(Work::default()), Arc::new(Semaphore::new(0)));
        let port = free_port();
        let mut options = options(&namespace);
        options.health.bind_address = BindAddress::listen("127.0.0.1", port);
        options.shutdown.grace_period = grace_period;
        let mut manager = manager(client, options);
        let handler = (Arc::clone(&work), Arc::clone(&permits));
        manager.sandbox_controller().add_reconcile_handler(move |observed: Observed<Sandbox>| {
            let (work, permits) = handler.clone();
            async move { work.run(observed.key().name.to_owned(), &permits).await }
        });
        let running = Running::start(manager);
        let health = format!("127.0.0.1:{port}");
        eventually("the handler runs and all is ready", SOON, async || {
            ensure!(work.running() == 1, "it does not run");
            ensure!(get(&health, "/readyz").await?.status == 200, "not ready");
            Ok(())
        })
        .await;
        Self { running, work, permits, health }
    }
}

#[tokio::test]
async fn shutdown_waits_for_a_running_handler_and_says_so_meanwhile() {
    let busy = Busy::start("graceful", 4 * SOON).await;
    busy.running.stop.cancel();
    eventually("it is alive, but not ready", SOON, async || {
        assert_eq!(get(&busy.health, "/livez").await.expect("it answers").status, 200);
        let answer = get(&busy.health, "/readyz").await?;
        ensure!(answer.status == 503, "{answer:?}");
        ensure!(answer.body.contains("[-]shutdown failed: the process is shutting down"), "{answer:?}");
        Ok(())
    })
    .await;
    assert!(!busy.running.task.is_finished(), "it did not wait");
    busy.permits.add_permits(1);
    busy.running.stop().await.unwrap();
    assert_eq!(busy.work.done.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn shutdown_drops_a_handler_that_outlasts_the_grace_period_and_says_so() {
    let grace_period = Duration::from_millis(200);
    let busy = Busy::start("impatient", grace_period).await;
    let ended = busy.running.stop().await.unwrap_err();
    assert!(
        matches!(ended, ManagerError::Run(RunError::GracePeriod(period)) if period == grace_period),
        "{ended}"
    );
    busy.permits.add_permits(1);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(busy.work.done.load(Ordering::Relaxed), 0, "it was dropped where it stood");
}

#[tokio::test]
async fn r3_r4_an_error_or_a_panic_comes_back_until_it_succeeds_and_harms_no_other_key() {
    let (_, client, namespace) = prepared("failing").await;
    for name in ["erring", "panicking", "well"] {
        create(&client, &namespace, &sandbox(name).owned_by("alice")).await;
    }
    let (calls, mended) = (Calls::default(), Arc::new(AtomicBool::new(false)));
    let attempts = Arc::new(AtomicUsize::new(0));
    let mut manager = manager(client.clone(), options(&namespace));
    let (is_mended, counted) = (Arc::clone(&mended), Arc::clone(&attempts));
    manager
        .sandbox_controller()
        .add_reconcile_handler(move |observed: Observed<Sandbox>| {
            let name = observed.key().name.to_owned();
            let fails = !is_mended.load(Ordering::Relaxed) && name != "well";
            if fails {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            async move {
                assert!(!fails || name != "panicking", "a panic that belongs to the test");
                if fails {
                    Err("an error that belongs to the test".into())
                } else {
                    Ok(Action::await_change())
                }
            }
        })
        .add_reconcile_handler(calls.handler::<Sandbox>("second"));
    let metrics = manager.metrics().clone();
    let running = Running::start(manager);
    calls.eventually_has("second +well of alice").await;
    eventually("both are tried again", SOON, async || {
        ensure!(attempts.load(Ordering::Relaxed) >= 6, "{attempts:?} attempts");
        Ok(())
    })
    .await;
    assert_eq!(calls.all(), ["second +well of alice"], "an error stops the chain");
    mended.store(true, Ordering::Relaxed);
    calls.eventually_has("second +erring of alice").await;
    calls.eventually_has("second +panicking of alice").await;
    let text = String::from_utf8(metrics.render().unwrap()).unwrap();
    let panics = text.lines().find_map(|line| {
        line.strip_prefix("controller_runtime_reconcile_panics_total{controller=\"sandbox\"} ")
    });
    let panics: f64 = panics.context("no such metric").unwrap().parse().unwrap();
    assert!(panics >= 1.0, "{panics} panics");
    running.stop().await.unwrap();
}
