//! Tests a kind that is not served for a while, and an API server that only says so (rules V1 and V2).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client};
use memory_apiserver::{FaultPlan, On, RequestFault, Times, Verb, WatchFault};
use sandbox_manager::api::v1alpha1::{Sandbox, crds};
use sandbox_manager::cache::LookupError;
use sandbox_manager::controller_manager::{Action, Observed};
use sandbox_manager::manager::Manager;
use sandbox_manager::options::{BindAddress, SandboxManagerOptions};
use sandbox_manager::testing::TestCache;
use sandbox_manager::testing::fixtures::TestObject;
use sandbox_manager::{Cache, ReconcileHandler};
use tokio_util::sync::CancellationToken;

use super::oracle::{Calls, Oracle};
use super::{SANDBOXES, delete, on_next_event, touch};
use crate::support::fixtures::{create, sandbox};
use crate::support::{Cluster, SOON, eventually};

const CRD: &str = "sandboxes.agents.kruise.io";

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Time until a kind that is not served must be cleared.
const CLEARED: Duration = Duration::from_mins(2);

/// Sets `served` of the CRD of sandboxes, as an operator does who edits it.
async fn serve(client: &Client, served: bool) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut crd = definitions.get(CRD).await.unwrap();
    crd.spec.versions[0].served = served;
    definitions.replace(CRD, &PostParams::default(), &crd).await.unwrap();
}

/// Returns a handler that records each call: the name, and the reason if the object is gone.
fn recording(calls: &Calls) -> impl ReconcileHandler<Sandbox> + use<> {
    let calls = calls.clone();
    move |observed: Observed<Sandbox>| {
        let name = observed.key().name.to_owned();
        calls.add(match observed {
            Observed::Present(_) => name,
            Observed::Deleted { reason, .. } => format!("{name} {reason}"),
        });
        std::future::ready(Ok(Action::await_change()))
    }
}

async fn cleared(cache: &Cache) {
    eventually("the kind is cleared", CLEARED, async || {
        let lookup = cache.reader::<Sandbox>().len();
        ensure!(matches!(lookup, Err(LookupError::NotSynced { .. })), "{lookup:?}");
        Ok(())
    })
    .await;
}

/// Waits until the handler has received these calls, in any order.
async fn has_received(calls: &Calls, expected: &[String]) {
    let counts = |calls: &[String]| {
        let mut counts = BTreeMap::new();
        for call in calls {
            *counts.entry(call.clone()).or_insert(0) += 1;
        }
        counts
    };
    eventually("the handler is called", SOON, async || -> Result<()> {
        let (calls, expected) = (counts(&calls.all()), counts(expected));
        ensure!(calls == expected, "{calls:?}");
        Ok(())
    })
    .await;
}

/// Returns the calls for objects that are cleared and come again, none of which has changed.
fn shown_cleared_and_shown() -> Vec<String> {
    let of_one = |name: &str| [name.to_owned(), format!("{name} kind_removed"), name.to_owned()];
    NAMES.into_iter().flat_map(of_one).collect()
}

#[tokio::test(start_paused = true)]
async fn v1_objects_of_a_kind_that_is_not_served_for_a_while_are_all_back() {
    let calls = Calls::default();
    let builder = TestCache::builder().objects(NAMES.map(Sandbox::test));
    let test = builder.sandbox_handler(recording(&calls)).build().await.unwrap();
    let mut oracle = Oracle::new(&test);
    oracle.converged(&test).await.unwrap();
    serve(&test.client(), false).await;
    cleared(test.cache()).await;
    serve(&test.client(), true).await;
    test.cache().wait_for_cache_sync().await;
    oracle.converged(&test).await.unwrap();
    has_received(&calls, &shown_cleared_and_shown()).await;
}

#[tokio::test]
#[ignore = "takes a minute, and a real API server: tests/e2e.sh"]
async fn v1_a_real_kind_that_is_not_served_for_a_while_is_back_with_all_objects() {
    let cluster = Cluster::start().await;
    cluster.install_crds(crds()).await;
    let client = cluster.client().await;
    for name in NAMES {
        create(&client, "default", &sandbox(name)).await;
    }
    let mut options = SandboxManagerOptions::default();
    options.metrics.bind_address = BindAddress::Off;
    options.health.bind_address = BindAddress::Off;
    let mut manager = Manager::builder(options).client(cluster.client().await).build().unwrap();
    let calls = Calls::default();
    manager.sandbox_controller().add_reconcile_handler(recording(&calls));
    let (cache, stop) = (manager.cache().clone(), CancellationToken::new());
    let running = tokio::spawn(manager.run(stop.clone()));
    cache.wait_for_cache_sync().await;
    has_received(&calls, &NAMES.map(str::to_owned)).await;

    serve(&client, false).await;
    cleared(&cache).await;
    serve(&client, true).await;
    eventually("every object is back", 2 * SOON, async || {
        let objects = cache.reader::<Sandbox>().len()?;
        ensure!(objects == NAMES.len(), "{objects} objects");
        Ok(())
    })
    .await;
    has_received(&calls, &shown_cleared_and_shown()).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn v2_404s_of_one_api_server_clear_nothing_and_tell_nobody() {
    let calls = Calls::default();
    let builder = TestCache::builder().objects(NAMES.map(Sandbox::test));
    let test = builder.sandbox_handler(recording(&calls)).build().await.unwrap();
    let mut oracle = Oracle::new(&test);
    oracle.converged(&test).await.unwrap();
    // Discovery, which another API server answers, says that the kind is served.
    let not_found = |verb| {
        let then = RequestFault::Answer { code: 404, retry_after: None };
        FaultPlan::request(On::request(verb, SANDBOXES), Times::Always, then)
    };
    let plan = on_next_event(WatchFault::End).and(not_found(Verb::Watch)).and(not_found(Verb::List));
    test.server().inject(&plan);
    touch(&test, "a").await;
    delete(&test, "b").await;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(test.cache().reader::<Sandbox>().len().unwrap(), NAMES.len(), "the old view");
    }
    assert_eq!(calls.all().len(), NAMES.len(), "{:?}", calls.all());
    test.server().clear_faults();
    oracle.converged(&test).await.unwrap();
    let told = calls.all();
    assert!(!told.iter().any(|call| call.contains("kind_removed")), "{told:?}");
    assert_eq!(told.iter().filter(|call| call.starts_with("b ")).count(), 1, "b was deleted: {told:?}");
}
