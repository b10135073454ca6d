//! What handlers are made of, and what is checked before a controller runs.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::api::{ListParams, ObjectMeta};
use kube::runtime::events::{Event as NewEvent, EventType};
use kube::{Api, Resource, ResourceExt};
use memory_apiserver::ApiServer;
use prometheus::Registry;
use shared_cache::{SharedCache, Watch};
use tokio_util::sync::CancellationToken;

use crate::controller::test_support::{Fixture, NAMESPACE, show};
use crate::controller::{
    Action, Context, Controller, ControllerMetricFamilies, FinalizerEvent, HandlerError, Observed,
    ReconcileHandler, finalizer,
};

struct Publisher {
    context: Context,
}

impl ReconcileHandler<ConfigMap> for Publisher {
    async fn reconcile(&self, observed: Observed<ConfigMap>) -> Result<Action, HandlerError> {
        let Observed::Present(map) = &observed else { return Ok(Action::await_change()) };
        let cached = self.context.cache().reader::<ConfigMap>().len()?;
        let event = NewEvent {
            type_: EventType::Normal,
            reason: "Seen".into(),
            note: Some(format!("{} of {cached}", show(&observed))),
            action: "See".into(),
            secondary: None,
        };
        self.context.recorder().publish(&event, &map.object_ref(&())).await?;
        Ok(Action::await_change())
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_gets_a_context_with_cache_client_and_event_recorder() {
    let mut f = Fixture::new(&["a", "b"]).await;
    f.controller().add_reconcile_handler_with(|context| Publisher { context });
    f.record("");
    let context = f.controller().context();
    assert_eq!(context.controller(), "test");
    f.run();
    f.calls.next(2).await;
    let events: Api<Event> = Api::namespaced(context.client().clone(), NAMESPACE);
    let events = events.list(&ListParams::default()).await.unwrap();
    let mut notes: Vec<_> = events.items.into_iter().filter_map(|event| event.message).collect();
    notes.sort();
    assert_eq!(notes, ["a=0 of 2", "b=0 of 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_is_added_before_the_first_apply_and_cleaned_up_before_the_object_goes() {
    let mut f = Fixture::new(&[]).await;
    let (api, calls) = (f.api::<ConfigMap>(), f.calls.clone());
    f.handle(move |observed: Observed<ConfigMap>| {
        let (api, calls) = (api.clone(), calls.clone());
        async move {
            let Observed::Present(map) = observed else { return Ok(Action::await_change()) };
            finalizer(&api, "example.com/test", map, |event| async move {
                let (what, map) = match event {
                    FinalizerEvent::Apply(map) => ("apply", map),
                    FinalizerEvent::Cleanup(map) => ("clean up", map),
                };
                calls.add(format!("{what} {} {:?}", map.name_any(), map.finalizers()));
                match what {
                    "apply" => Ok(Action::requeue(Duration::from_secs(30))),
                    _ => Ok(Action::await_change()),
                }
            })
            .await
        }
    });
    f.record("");
    f.run();
    f.apply("a", "0").await;
    let applied = "apply a [\"example.com/test\"]";
    f.settle().await;
    // The first run has added the finalizer, which has led to the second one.
    assert_eq!(f.calls.take(), ["a=0", applied, "a=0"]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(f.calls.take(), [applied, "a=0"], "our delay comes through");
    f.delete::<ConfigMap>("a").await;
    f.settle().await;
    assert_eq!(f.calls.take(), ["clean up a [\"example.com/test\"]", "a=0", "-a=0 removed"]);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_finalized_handler_is_its_own() {
    let f = Fixture::new(&[]).await;
    let map = f.apply("a", "0").await;
    let metadata = ObjectMeta { finalizers: Some(vec!["example.com/test".into()]), ..map.metadata.clone() };
    let map = std::sync::Arc::new(ConfigMap { metadata, ..map });
    let failed = finalizer(&f.api(), "example.com/test", map, |_| async { Err("mine".into()) }).await;
    assert_eq!(failed.unwrap_err().to_string(), "mine");
}

#[tokio::test]
async fn a_kind_that_the_cache_does_not_have_is_named() {
    let cache =
        SharedCache::builder(ApiServer::new().client()).kind::<ConfigMap>(Watch::all()).build().unwrap();
    let metrics = ControllerMetricFamilies::register(&Registry::new()).unwrap();
    let problem = |controller: &Controller<ConfigMap>| controller.check().unwrap_err().to_string();

    let controller = Controller::<Pod>::new("pods", None, &cache, &metrics);
    let error = controller.run(CancellationToken::new()).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "controller \"pods\" reconciles kind Pod, which the cache does not have; add the kind to the cache"
    );
    let mut controller = Controller::<ConfigMap>::new("maps", None, &cache, &metrics);
    controller.check().unwrap();
    controller.owns::<Pod>();
    assert!(
        problem(&controller).starts_with("controller \"maps\" owns kind Pod,"),
        "{}",
        problem(&controller)
    );
    let mut controller = Controller::<ConfigMap>::new("maps", None, &cache, &metrics);
    controller.watches::<Pod>(|_| Vec::new());
    assert!(
        problem(&controller).starts_with("controller \"maps\" watches kind Pod,"),
        "{}",
        problem(&controller)
    );
}
