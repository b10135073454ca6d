//! What each fault does to requests and watches.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use memory_apiserver::{ApiServer, Fault, FaultPlan, On, RequestFault, Times, Verb, WatchFault};
use tokio::time::Instant;

const CONFIG_MAPS: &str = "configmaps";

fn config_map(name: &str) -> ConfigMap {
    let mut config_map = ConfigMap::default();
    config_map.metadata.name = Some(name.to_owned());
    config_map
}

fn server(plan: FaultPlan) -> ApiServer {
    ApiServer::builder().faults(plan).start().unwrap()
}

fn config_maps(client: kube::Client) -> Api<ConfigMap> {
    Api::default_namespaced(client)
}

fn on_create(then: RequestFault) -> FaultPlan {
    FaultPlan::request(On::request(Verb::Create, CONFIG_MAPS), Times::First(1), then)
}

async fn create(server: &ApiServer, name: &str) -> kube::Result<ConfigMap> {
    config_maps(server.client()).create(&PostParams::default(), &config_map(name)).await
}

async fn names(server: &ApiServer) -> Vec<String> {
    let own = config_maps(server.client_without_faults());
    let list = own.list(&ListParams::default()).await.unwrap();
    list.items.into_iter().filter_map(|item| item.metadata.name).collect()
}

fn code<T>(result: kube::Result<T>) -> Option<u16> {
    match result {
        Err(kube::Error::Api(status)) => Some(status.code),
        Err(_) => None,
        Ok(_) => panic!("no error"),
    }
}

/// A watch from now on, as type and name of each event.
async fn watch(server: &ApiServer) -> impl Stream<Item = Result<String, kube::Error>> {
    let version = server.revision().to_string();
    let config_maps = config_maps(server.client());
    let stream =
        config_maps.watch(&WatchParams::default().timeout(290).disable_bookmarks(), &version).await.unwrap();
    Box::pin(stream.map(|event| {
        event.map(|event| match event {
            WatchEvent::Added(object) => format!("added {}", object.metadata.name.unwrap()),
            other => format!("{other:?}"),
        })
    }))
}

#[tokio::test]
async fn a_dropped_request_is_not_carried_out() {
    let server = server(on_create(RequestFault::Drop));
    assert_eq!(code(create(&server, "a").await), None, "no answer, so no status");
    assert_eq!(names(&server).await, [""; 0]);
    create(&server, "a").await.unwrap();
}

#[tokio::test]
async fn a_request_whose_answer_is_dropped_is_carried_out() {
    let server = server(on_create(RequestFault::DropAnswer));
    assert_eq!(code(create(&server, "a").await), None);
    assert_eq!(names(&server).await, ["a"]);
    assert_eq!(code(create(&server, "a").await), Some(409));
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_cut_after_its_time() {
    let then = RequestFault::CutAfter(Duration::from_secs(7));
    let server = server(FaultPlan::request(On::request(Verb::Watch, CONFIG_MAPS), Times::First(1), then));
    let begun = Instant::now();
    let mut cut = watch(&server).await;
    create(&server, "a").await.unwrap();
    assert_eq!(cut.next().await.unwrap().unwrap(), "added a");
    assert!(cut.next().await.is_none());
    assert_eq!(begun.elapsed().as_secs(), 7);
    // The next one lasts as long as it asks for.
    assert_eq!(watch(&server).await.count().await, 0);
    assert_eq!(begun.elapsed().as_secs(), 297);
}

#[tokio::test(start_paused = true)]
async fn events_that_are_held_come_later_and_in_order() {
    let on = On::kind(CONFIG_MAPS).named("b");
    let server = server(FaultPlan::event(on, Times::Nth(1), WatchFault::Hold(Duration::from_secs(5))));
    let mut watch = watch(&server).await;
    let begun = Instant::now();
    let mut seen = Vec::new();
    for name in ["a", "b", "c"] {
        create(&server, name).await.unwrap();
    }
    for _ in 0..3 {
        let event = watch.next().await.unwrap().unwrap();
        seen.push((event, begun.elapsed().as_secs()));
    }
    let expected = [("added a", 0), ("added b", 5), ("added c", 5)];
    assert_eq!(seen, expected.map(|(event, seconds)| (event.to_owned(), seconds)));
}

#[tokio::test]
async fn a_watch_that_reads_too_slowly_is_told_that_its_version_has_expired() {
    let server = ApiServer::builder().history(3).start().unwrap();
    let mut slow = watch(&server).await;
    for name in ["a", "b", "c", "d"] {
        create(&server, name).await.unwrap();
    }
    let told = slow.next().await.unwrap().unwrap();
    assert!(told.starts_with("Error") && told.contains("410"), "{told}");
    assert!(slow.next().await.is_none());
}

#[tokio::test]
async fn a_forbidden_kind_is_refused_as_if_no_role_allowed_it() {
    let server = server(FaultPlan::request(On::kind(CONFIG_MAPS), Times::First(2), RequestFault::Forbid));
    let refused = config_maps(server.client()).list(&ListParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("User \"admin\" cannot list resource \"configmaps\""), "{refused}");
    let secrets: Api<Secret> = Api::default_namespaced(server.client());
    secrets.list(&ListParams::default()).await.unwrap();
    assert_eq!(code(create(&server, "a").await), Some(403));
    create(&server, "a").await.unwrap();
}

#[tokio::test]
async fn revoked_tokens_are_invalid_and_new_ones_are_valid() {
    let server = server(on_create(RequestFault::RevokeTokens));
    let (first, other) = (config_maps(server.client()), config_maps(server.client_as("jane")));
    let create = PostParams::default();
    assert_eq!(code(first.create(&create, &config_map("a")).await), Some(401));
    assert_eq!(code(first.list(&ListParams::default()).await), Some(401));
    assert_eq!(code(other.list(&ListParams::default()).await), Some(403), "other users are not concerned");
    assert_eq!(names(&server).await, [""; 0]);
    config_maps(server.client()).create(&create, &config_map("a")).await.unwrap();

    server.revoke_tokens("jane");
    assert_eq!(code(other.list(&ListParams::default()).await), Some(401));
    assert_eq!(code(config_maps(server.client_as("jane")).list(&ListParams::default()).await), Some(403));
}

#[tokio::test]
async fn a_server_that_is_set_back_knows_nothing_of_later_writes() {
    let plan = FaultPlan::request(
        On::request(Verb::Get, CONFIG_MAPS),
        Times::Always,
        RequestFault::Rewind { behind: 2 },
    );
    let server = server(plan);
    let first = server.revision();
    for name in ["a", "b", "c"] {
        create(&server, name).await.unwrap();
    }
    let mut watch = watch(&server).await;
    let config_maps = config_maps(server.client());
    assert_eq!(code(config_maps.get("a").await), None, "its connection breaks, too");
    assert!(watch.next().await.unwrap().is_err());
    assert_eq!(names(&server).await, ["a"]);
    assert_eq!(server.revision(), first + 1);
    // What was before is forgotten: the server stays as it is.
    assert_eq!(code(config_maps.get("a").await), None);
    assert_eq!((names(&server).await, server.revision()), (vec!["a".to_owned()], first + 1));
    let later = create(&server, "d").await.unwrap();
    assert_eq!(later.metadata.resource_version, Some((first + 2).to_string()));
}

#[tokio::test]
async fn a_server_is_not_set_back_to_before_the_plan_was_injected() {
    let then = RequestFault::Rewind { behind: 1000 };
    let plan = FaultPlan::request(On::request(Verb::Get, CONFIG_MAPS), Times::Always, then);
    let server = ApiServer::builder().objects([config_map("early")]).faults(plan).start().unwrap();
    create(&server, "a").await.unwrap();
    assert_eq!(code(config_maps(server.client()).get("a").await), None);
    assert_eq!(names(&server).await, ["early"]);
    create(&server, "a").await.unwrap();
}

#[test]
fn the_same_seed_makes_the_same_plan_and_some_seeds_make_any_fault() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..500 {
        let plan = FaultPlan::random(seed, CONFIG_MAPS);
        assert_eq!(plan, FaultPlan::random(seed, CONFIG_MAPS));
        assert!((1..=6).contains(&plan.faults.len()));
        for fault in &plan.faults {
            let then = match fault {
                Fault::Request { then, .. } => format!("{then:?}"),
                Fault::Event { then, .. } => format!("{then:?}"),
            };
            seen.insert(then.split([' ', '(']).next().unwrap().to_owned());
        }
    }
    for fault in ["Answer", "Drop", "DropAnswer", "Silence", "Forbid", "Rewind", "OldList", "Hold", "Expire"]
    {
        assert!(seen.contains(fault), "{fault} is not in {seen:?}");
    }
}
