//! The store ahead of the queue: the test tells the queue of the changes itself.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use prometheus::Registry;
use shared_cache::{Batch, DeletionReason, Delta, ObjectKey, Observer};

use crate::controller::handler::Handlers;
use crate::controller::metrics::ControllerMetricFamilies;
use crate::controller::reconciler::Reconciler;
use crate::controller::test_support::{Fixture, NAMESPACE, show};
use crate::controller::{Action, Observed};
use crate::queue::{QueueOptions, WorkQueue};

/// A reconciler on the cache, with a queue that the cache does not know.
fn reconciler(f: &Fixture) -> Arc<Reconciler<ConfigMap>> {
    let calls = f.calls.clone();
    let handler = move |observed: Observed<ConfigMap>| {
        calls.add(show(&observed));
        async { Ok(Action::await_change()) }
    };
    let families = ControllerMetricFamilies::register(&Registry::new()).unwrap();
    let handlers: Handlers<ConfigMap> = vec![Arc::new(handler)];
    Arc::new(Reconciler {
        live: None,
        name: "test".into(),
        reader: f.cache.reader(),
        handlers,
        timeout: None,
        queue: Arc::new(WorkQueue::new(&QueueOptions::default(), None, families.queues.of("test"))),
        metrics: families.of("test", 1),
    })
}

#[tokio::test(start_paused = true)]
async fn x1_a_successor_in_the_store_waits_until_the_queue_knows_the_deletion() {
    let f = Fixture::new(&["a"]).await;
    let reader = f.cache.reader::<ConfigMap>();
    let old = reader.get(NAMESPACE, "a").unwrap().unwrap();
    f.delete::<ConfigMap>("a").await;
    f.apply("a", "1").await;
    let (new, sequence) = reader.get_at(NAMESPACE, "a").unwrap();

    let reconciler = reconciler(&f);
    let queue = Arc::clone(&reconciler.queue);
    queue.trigger(&[ObjectKey::new(NAMESPACE, "a")]);
    let running = tokio::spawn(Arc::clone(&reconciler).run(queue.pop().unwrap()));
    f.settle().await;
    assert!(f.calls.all().is_empty() && !running.is_finished(), "the queue does not know what was read");

    let gone = Delta::Deleted { last_known: old, reason: DeletionReason::Removed };
    queue.observe(&Batch { sequence: sequence - 1, deltas: vec![gone] });
    f.settle().await;
    assert!(f.calls.all().is_empty());
    let born = Delta::Applied { old: None, new: new.unwrap() };
    queue.observe(&Batch { sequence, deltas: vec![born] });
    running.await.unwrap();
    assert_eq!(f.calls.take(), ["-a=0 removed"]);
    reconciler.run(queue.pop().unwrap()).await;
    assert_eq!(f.calls.take(), ["a=1"]);
    assert!(queue.pop().is_err());
}
