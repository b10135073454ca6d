//! The watchers, waits and helpers of the `kube` crate on a server.

use std::pin::pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, VersionMatch, WatchParams};
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::events::{Event as NewEvent, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{Event as Finalizer, finalizer};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{controller::Action, wait};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::timeout;

use super::server::Server;
use crate::kinds::{Machine, MachineSpec};
use crate::support::SOON;

on_every_server![
    a_watcher_lists_and_watches,
    a_watcher_may_have_metadata_only,
    a_condition_is_awaited,
    a_deletion_is_awaited,
    a_finalizer_is_added_and_removed,
    a_recorder_publishes_an_event_and_its_repetition,
    errors_are_told_apart,
    lists_of_types_have_a_version,
];

/// Two machines in a namespace of the test's own. Waits until the server's cache has them, because a client that asks
/// for any version may otherwise get an older state.
async fn machines(server: &Server) -> Api<Machine> {
    let namespace = server.machines().await.path.split('/').nth(5).unwrap().to_owned();
    let api: Api<Machine> = Api::namespaced(server.client(), &namespace);
    for name in ["a", "b"] {
        let created =
            api.create(&PostParams::default(), &Machine::new(name, MachineSpec::default())).await.unwrap();
        let seen = ListParams::default().at(&created.resource_version().unwrap());
        api.list(&seen.matching(VersionMatch::NotOlderThan)).await.unwrap();
    }
    api
}

/// The next events of a stream as kind and name.
async fn next<K: ResourceExt>(
    events: &mut (impl Stream<Item = watcher::Result<Event<K>>> + Unpin),
    count: usize,
) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let event = timeout(SOON, events.next()).await.unwrap_or_else(|_| panic!("only {seen:?}"));
        seen.push(match event.unwrap().unwrap() {
            Event::Init => "init".to_owned(),
            Event::InitApply(object) => format!("has {}", object.name_any()),
            Event::InitDone => "initial".to_owned(),
            Event::Apply(object) => format!("apply {}", object.name_any()),
            Event::Delete(object) => format!("delete {}", object.name_any()),
        });
    }
    seen
}

async fn a_watcher_lists_and_watches(server: &Server) {
    let paged = || watcher::Config::default().page_size(1);
    for config in [paged(), paged().any_semantic(), watcher::Config::default().streaming_lists()] {
        let api = machines(server).await;
        let mut events = pin!(watcher::watcher(api.clone(), config));
        assert_eq!(next(&mut events, 4).await, ["init", "has a", "has b", "initial"]);
        api.create(&PostParams::default(), &Machine::new("c", MachineSpec::default())).await.unwrap();
        api.delete("a", &DeleteParams::default()).await.unwrap();
        assert_eq!(next(&mut events, 2).await, ["apply c", "delete a"]);
    }
}

async fn a_watcher_may_have_metadata_only(server: &Server) {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let api = machines(server).await;
        let namespace = api.get("a").await.unwrap().namespace().unwrap();
        let metadata: Api<PartialObjectMeta<Machine>> = Api::namespaced(server.client(), &namespace);
        let mut events = pin!(watcher::watcher(metadata, config));
        assert_eq!(next(&mut events, 4).await, ["init", "has a", "has b", "initial"]);
        api.delete("b", &DeleteParams::default()).await.unwrap();
        assert_eq!(next(&mut events, 1).await, ["delete b"]);
    }
}

async fn a_condition_is_awaited(server: &Server) {
    let api = machines(server).await;
    let paused = |machine: Option<&Machine>| machine.is_some_and(|machine| machine.spec.paused == Some(true));
    let awaited = wait::await_condition(api.clone(), "a", paused);
    let change = async {
        let mut machine = api.get("a").await.unwrap();
        machine.spec.paused = Some(true);
        api.replace("a", &PostParams::default(), &machine).await.unwrap()
    };
    let (awaited, changed) = timeout(SOON, futures::future::join(awaited, change)).await.unwrap();
    assert_eq!(awaited.unwrap().unwrap().metadata, changed.metadata);
}

async fn a_deletion_is_awaited(server: &Server) {
    let api = machines(server).await;
    let uid = api.get("a").await.unwrap().uid().unwrap();
    let deleted = api.delete("a", &DeleteParams::foreground()).await.unwrap();
    assert!(deleted.is_left(), "a deletion in the foreground answers with the object");
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    // The garbage collector may be faster.
    if let Err(error) = api.patch("a", &PatchParams::default(), &patch).await {
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 404), "{error}");
    }
    let gone = wait::await_condition(api, "a", wait::conditions::is_deleted(&uid));
    timeout(SOON, gone).await.unwrap().unwrap();
}

async fn a_finalizer_is_added_and_removed(server: &Server) {
    let api = machines(server).await;
    let step = async || {
        let object = Arc::new(api.get("a").await.unwrap());
        finalizer(&api, "example.com/f", object, async |event| match event {
            Finalizer::Apply(_) => Ok::<_, std::convert::Infallible>(Action::await_change()),
            Finalizer::Cleanup(_) => Ok(Action::await_change()),
        })
        .await
    };
    step().await.unwrap();
    assert_eq!(api.get("a").await.unwrap().finalizers(), ["example.com/f"]);
    step().await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(api.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    step().await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

async fn a_recorder_publishes_an_event_and_its_repetition(server: &Server) {
    let api = machines(server).await;
    let machine = api.get("a").await.unwrap();
    let about = ObjectReference { uid: machine.uid(), ..kube::Resource::object_ref(&machine, &()) };
    let recorder = Recorder::new(server.client(), Reporter::from("conformance"));
    let event = NewEvent {
        type_: EventType::Normal,
        reason: "Started".into(),
        note: Some("it runs".into()),
        action: "Start".into(),
        secondary: None,
    };
    recorder.publish(&event, &about).await.unwrap();
    recorder.publish(&event, &about).await.unwrap();
    let namespace = machine.namespace().unwrap();
    let events = server.in_namespace(&namespace, "v1", "events", "Event");
    let list = events.list("?fieldSelector=involvedObject.kind=Machine,involvedObject.name=a").await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    let seen = &list["items"][0];
    assert_eq!((&seen["message"], &seen["reportingComponent"]), (&json!("it runs"), &json!("conformance")));
    assert_eq!(seen["series"]["count"], 2);
}

async fn errors_are_told_apart(server: &Server) {
    let api = machines(server).await;
    let code = |error: kube::Error| match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    };
    assert_eq!(code(api.get("none").await.unwrap_err()), 404);
    assert!(api.get_opt("none").await.unwrap().is_none());
    let taken = Machine::new("a", MachineSpec::default());
    assert_eq!(code(api.create(&PostParams::default(), &taken).await.unwrap_err()), 409);
    let stale = api.get("a").await.unwrap();
    let mut newer = stale.clone();
    newer.spec.paused = Some(true);
    api.replace("a", &PostParams::default(), &newer).await.unwrap();
    assert_eq!(code(api.replace("a", &PostParams::default(), &stale).await.unwrap_err()), 409);
    let unserved = ApiResource {
        kind: "Nothing".into(),
        plural: "nothings".into(),
        ..ApiResource::erase::<Machine>(&())
    };
    let nothing: Api<DynamicObject> = Api::all_with(server.client(), &unserved);
    assert_eq!(code(nothing.list(&ListParams::default()).await.unwrap_err()), 404);
}

async fn lists_of_types_have_a_version(server: &Server) {
    let maps = server.config_maps().await;
    let namespace = maps.path.split('/').nth(4).unwrap();
    let api: Api<ConfigMap> = Api::namespaced(server.client(), namespace);
    let list = api.list(&ListParams::default()).await.unwrap();
    assert!(list.metadata.resource_version.is_some_and(|version| !version.is_empty()));
    let events = api.watch(&WatchParams::default().timeout(1), "0").await.unwrap();
    events.try_collect::<Vec<_>>().await.unwrap();
}
