//! The manager on a scripted API server, under paused time.

use futures::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;

use super::*;
use crate::cache::test_support::{Feed, sandbox};
use crate::controller::{Action, Observed};
use crate::informer::{Subscription, scripted_server};

fn manager(client: kube::Client, metrics: &Metrics) -> Manager {
    let mut options = SandboxManagerOptions::default();
    options.metrics.bind_address = BindAddress::Off;
    options.health.bind_address = BindAddress::Off;
    Manager::builder(options).client(client).metrics(metrics.clone()).build().unwrap()
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render().unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn r1_a_controller_without_handlers_is_not_even_started() {
    let metrics = Metrics::new().unwrap();
    let (client, server) = scripted_server();
    let mut manager = manager(client, &metrics);
    manager
        .sandbox_set_controller()
        .add_reconcile_handler(|_: Observed<SandboxSet>| async { Ok(Action::await_change()) });
    let mut feed = Feed::adopt(manager.cache().clone(), server);
    let stop = CancellationToken::new();
    let running = tokio::spawn(manager.run(stop.clone()));
    feed.sync(&[sandbox("a").listed()]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = |controller| {
        text(&metrics)
            .contains(&format!("controller_runtime_max_concurrent_reconciles{{controller=\"{controller}\"}}"))
    };
    assert!(started("sandboxset"));
    assert!(!started("sandbox"));
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_any_handler_a_manager_runs_until_it_is_stopped() {
    let (client, server) = scripted_server();
    let manager = manager(client, &Metrics::new().unwrap());
    let mut feed = Feed::adopt(manager.cache().clone(), server);
    let stop = CancellationToken::new();
    let running = tokio::spawn(manager.run(stop.clone()));
    feed.sync(&[]).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(!running.is_finished());
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_a_running_manager_stops_the_watches_though_its_metrics_live_on() {
    let metrics = Metrics::new().unwrap();
    let (client, server) = scripted_server();
    let manager = manager(client, &metrics);
    let mut feed = Feed::adopt(manager.cache().clone(), server);
    let running = tokio::spawn(manager.run(CancellationToken::new()));
    feed.sync(&[]).await;
    running.abort();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(feed.cache.kinds().iter().all(|kind| kind.report().ready().is_err()));
    assert!(feed.server.try_next().is_none(), "nothing is asked for any more");
    drop(feed);
    assert!(!text(&metrics).contains("sandbox_manager_cache_objects"), "no metrics of a cache that is gone");
}

#[tokio::test(start_paused = true)]
async fn handlers_that_outlast_the_grace_period_are_dropped_before_the_watches_stop() {
    /// Part of a handler: notes, when it is dropped, whether the watch of sandboxes runs.
    struct NotesItsEnd {
        events: Subscription<Sandbox>,
        watch_ran: Arc<Mutex<Option<bool>>>,
    }
    impl Drop for NotesItsEnd {
        fn drop(&mut self) {
            // Its events, until there is none yet, or no more.
            let ended = loop {
                match self.events.next().now_or_never() {
                    Some(Some(_)) => {}
                    next => break next.is_some(),
                }
            };
            *self.watch_ran.lock() = Some(!ended);
        }
    }
    let watch_ran = Arc::new(Mutex::new(None));
    let noting = Arc::clone(&watch_ran);
    let (client, server) = scripted_server();
    let mut manager = manager(client, &Metrics::new().unwrap());
    let cache = manager.cache().clone();
    manager.sandbox_controller().add_reconcile_handler(move |_: Observed<Sandbox>| {
        let noted =
            NotesItsEnd { events: cache.subscribe().expect("in scope"), watch_ran: Arc::clone(&noting) };
        async move {
            let _noted = noted;
            std::future::pending().await
        }
    });
    let mut feed = Feed::adopt(manager.cache().clone(), server);
    let stop = CancellationToken::new();
    let running = tokio::spawn(manager.run(stop.clone()));
    feed.sync(&[sandbox("a").listed()]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.cancel();
    let start = tokio::time::Instant::now();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "handlers were still running after the grace period of 30 s");
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(*watch_ran.lock(), Some(true), "it was dropped, and the watch still ran then");
}
