//! What handlers are told of deletions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Patch, PatchParams};
use kube::client::Body;
use memory_apiserver::{FaultPlan, On, RequestFault, Times, Verb};
use serde_json::json;

use crate::controller::test_support::{Fixture, NAMESPACE, show};
use crate::controller::{Action, Observed};

fn is_deleted(observed: &Observed<ConfigMap>) -> bool {
    matches!(observed, Observed::Deleted { .. })
}

fn count_down(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

#[tokio::test(start_paused = true)]
async fn r2_x3_a_deletion_arrives_with_the_last_known_object_and_the_reason() {
    let mut f = Fixture::new(&["a"]).await;
    f.record("");
    f.run();
    assert_eq!(f.calls.next(1).await, ["a=0"]);
    f.apply("a", "1").await;
    assert_eq!(f.calls.next(1).await, ["a=1"]);
    f.delete::<ConfigMap>("a").await;
    assert_eq!(f.calls.next(1).await, ["-a=1 removed"]);
}

#[tokio::test(start_paused = true)]
async fn r2_a_deletion_comes_back_until_all_handlers_have_succeeded_with_it() {
    let mut f = Fixture::new(&["a"]).await;
    f.record("");
    let failures = AtomicUsize::new(2);
    f.handle(move |observed: Observed<ConfigMap>| {
        let fail = is_deleted(&observed) && count_down(&failures);
        async move { if fail { Err("not yet".into()) } else { Ok(Action::await_change()) } }
    });
    f.run();
    f.calls.next(1).await;
    f.delete::<ConfigMap>("a").await;
    f.settle().await;
    assert_eq!(f.calls.take(), ["-a=0 removed"; 3]);
}

#[tokio::test(start_paused = true)]
async fn x1_the_successor_is_shown_only_after_the_deletion_is_done() {
    let mut f = Fixture::new(&["a"]).await;
    f.record("");
    let done = Arc::new(AtomicBool::new(false));
    let is_done = Arc::clone(&done);
    f.handle(move |observed: Observed<ConfigMap>| {
        let wait = is_deleted(&observed) && !is_done.load(Ordering::SeqCst);
        async move { Ok(if wait { Action::requeue(Duration::from_secs(10)) } else { Action::await_change() }) }
    });
    f.run();
    f.calls.next(1).await;
    f.delete::<ConfigMap>("a").await;
    assert_eq!(f.calls.next(1).await, ["-a=0 removed"]);

    // Created, deleted and created anew: each event runs the handlers, which still wait for the first deletion.
    f.apply("a", "1").await;
    f.delete::<ConfigMap>("a").await;
    f.apply("a", "2").await;
    tokio::time::sleep(Duration::from_secs(35)).await;
    let calls = f.calls.take();
    assert!(calls.len() >= 4 && calls.iter().all(|call| call == "-a=0 removed"), "{calls:?}");

    done.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert_eq!(f.calls.take(), ["-a=0 removed", "a=2"]);
    f.delete::<ConfigMap>("a").await;
    assert_eq!(f.calls.next(1).await, ["-a=2 removed"]);
}

#[tokio::test(start_paused = true)]
async fn x1_a_deletion_that_is_done_is_not_shown_again_because_the_successor_fails() {
    let mut f = Fixture::new(&["a"]).await;
    f.record("");
    let failures = AtomicUsize::new(1);
    f.handle(move |observed: Observed<ConfigMap>| {
        let fail = show(&observed) == "a=1" && count_down(&failures);
        async move { if fail { Err("not yet".into()) } else { Ok(Action::await_change()) } }
    });
    f.run();
    f.calls.next(1).await;
    f.delete::<ConfigMap>("a").await;
    f.apply("a", "1").await;
    f.settle().await;
    assert_eq!(f.calls.take(), ["-a=0 removed", "a=1", "a=1"]);
}

/// A client of an API server that does not serve ConfigMaps while the flag is set.
fn without_config_maps(client: Client, unserved: Arc<AtomicBool>) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, unserved) = (client.clone(), unserved.load(Ordering::SeqCst));
        async move {
            let answer = match request.uri().path() {
                path if unserved && path.contains("configmaps") => (
                    404,
                    json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "not found"}),
                ),
                "/api/v1" if unserved => {
                    (200, json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": []}))
                }
                _ => return client.send(request).await,
            };
            let body = Body::from(answer.1.to_string().into_bytes());
            Ok(Response::builder().status(answer.0).body(body).unwrap())
        }
    });
    Client::new(service, NAMESPACE)
}

#[tokio::test(start_paused = true)]
async fn x3_each_object_is_told_once_as_gone_with_its_kind_and_is_shown_when_the_kind_is_back() {
    let unserved = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&unserved);
    let mut f = Fixture::with_client(&["a", "b"], |client| without_config_maps(client, flag));
    f.cache.start().await.unwrap();
    f.record("");
    f.run();
    f.calls.next(2).await;
    unserved.store(true, Ordering::SeqCst);
    f.server.cut();
    let mut calls = f.calls.next(2).await;
    calls.sort();
    assert_eq!(calls, ["-a=0 kind_removed", "-b=0 kind_removed"]);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(f.calls.all().is_empty());

    // The kind is back, it is listed page by page, and the second of the two pages takes long.
    unserved.store(false, Ordering::SeqCst);
    let unsupported = RequestFault::Answer { code: 400, retry_after: None };
    f.server.inject(&FaultPlan::request(
        On::request(Verb::Watch, "configmaps"),
        Times::First(1),
        unsupported,
    ));
    let delay = RequestFault::Delay(Duration::from_secs(5));
    f.server.inject(&FaultPlan::request(On::request(Verb::List, "configmaps"), Times::Nth(2), delay));
    while f.cache.kinds()[0].objects() == 0 {
        f.settle().await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!f.cache.reader::<ConfigMap>().has_synced() && f.calls.all().is_empty());
    let mut calls = f.calls.next(2).await;
    calls.sort();
    assert_eq!(calls, ["a=0", "b=0"], "though the cache was not synced when the first one came");
    assert_eq!(f.metric("controller_runtime_reconcile_errors_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn x3_a_removal_from_a_selection_is_shown_only_if_the_api_server_no_longer_has_the_object() {
    let mut f = Fixture::selective(&["a", "b", "c", "d"], "!hidden").await;
    f.record("");
    f.run();
    f.calls.next(4).await;
    let hide = async |name: &str| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"hidden": ""}}}));
        f.api::<ConfigMap>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    };
    hide("a").await;
    assert_eq!(f.calls.next(1).await, ["-a=0 left_scope"]);
    f.delete::<ConfigMap>("b").await;
    assert_eq!(f.calls.next(1).await, ["-b=0 removed"], "the watch sends the same event");

    // A handler learns nothing until the API server has answered.
    let unavailable = RequestFault::Answer { code: 503, retry_after: None };
    f.server.inject(&FaultPlan::request(On::request(Verb::List, "configmaps"), Times::First(2), unavailable));
    f.delete::<ConfigMap>("c").await;
    assert_eq!(f.calls.next(1).await, ["-c=0 removed"]);
    assert_eq!(f.results("error"), 2);

    // The watch misses that the object leaves the selection.
    f.server.inject(&FaultPlan::request(On::kind("configmaps"), Times::First(3), RequestFault::Drop));
    f.server.restart();
    hide("d").await;
    assert_eq!(f.calls.next(1).await, ["-d=0 left_scope"], "the object still exists");
}
