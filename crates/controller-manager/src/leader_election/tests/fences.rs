//! Clients of leader-only handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use kube::client::Body;
use kube::{Api, Client};
use memory_apiserver::{ApiServer, FaultPlan, On, RequestFault, Times};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer, service_fn};

use super::support::{SECOND, TestClock};
use crate::client::rate_limit_for_tests;
use crate::fence::{Fence, FenceLayer, NotLeader, fenced_client};

fn map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

fn maps(client: &Client, fence: &Fence) -> Api<ConfigMap> {
    Api::namespaced(fenced_client(client, fence), "default")
}

#[track_caller]
fn is_refused<T: std::fmt::Debug>(result: kube::Result<T>) {
    let error = result.unwrap_err();
    let kube::Error::Service(cause) = &error else { panic!("{error:?}") };
    assert_eq!(cause.downcast_ref(), Some(&NotLeader { lease: "n/l".to_owned() }), "{error:?}");
}

fn fence(clock: &TestClock) -> Fence {
    Fence::new("n/l", clock.clock(Duration::ZERO))
}

#[tokio::test(start_paused = true)]
async fn writes_pass_only_while_the_fence_is_open_and_reads_always() {
    let server = ApiServer::new();
    let clock = TestClock::default();
    let fence = fence(&clock);
    let maps = maps(&server.client(), &fence);
    is_refused(maps.create(&PostParams::default(), &map("a")).await);
    fence.open_until(10 * SECOND);
    maps.create(&PostParams::default(), &map("b")).await.unwrap();
    sleep(9 * SECOND).await;
    fence.open_until(20 * SECOND);
    sleep(9 * SECOND).await;
    maps.create(&PostParams::default(), &map("c")).await.unwrap();
    clock.jump(2 * SECOND);
    is_refused(maps.create(&PostParams::default(), &map("d")).await);
    fence.close();
    fence.open_until(90 * SECOND);
    is_refused(maps.create(&PostParams::default(), &map("e")).await);
    let names = maps.list(&kube::api::ListParams::default()).await.unwrap();
    let names: Vec<_> = names.into_iter().filter_map(|map| map.metadata.name).collect();
    assert_eq!(names, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_on_its_way_is_dropped_when_the_fence_shuts() {
    let server = ApiServer::new();
    server.inject(&FaultPlan::request(On::kind("configmaps"), Times::Always, RequestFault::Silence));
    for close in [false, true] {
        let clock = TestClock::default();
        let fence = fence(&clock);
        fence.open_until(5 * SECOND);
        let maps = maps(&server.client(), &fence);
        let started = Instant::now();
        let closed = async {
            sleep(2 * SECOND).await;
            if close {
                fence.close();
            } else {
                fence.open_until(8 * SECOND);
            }
        };
        let (params, map) = (PostParams::default(), map("a"));
        let (result, ()) = tokio::join!(maps.create(&params, &map), closed);
        is_refused(result);
        assert_eq!(started.elapsed().as_secs(), if close { 2 } else { 8 });
    }
}

/// After a pause, the timer of the rate limit and the timer of the fence are due at once.
#[tokio::test(start_paused = true)]
async fn a_write_that_waited_for_the_rate_limit_during_a_pause_is_not_sent_after_it() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let server = service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, BoxError>(Response::new(Body::from(b"{\"metadata\":{}}".to_vec()))) }
    });
    let client = Client::new(rate_limit_for_tests(1, 1).layer(FenceLayer.layer(server)), "default");
    let clock = TestClock::default();
    let fence = fence(&clock);
    fence.open_until(10 * SECOND);
    let maps = maps(&client, &fence);
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    let second = tokio::spawn(async move { maps.create(&PostParams::default(), &map("b")).await });
    sleep(SECOND / 2).await;
    clock.jump(60 * SECOND);
    is_refused(second.await.unwrap());
    assert_eq!(sent.load(Ordering::SeqCst), 1);
}
