//! Tests waits for objects of a kind that the API server stops to serve (behaviour V2).

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::scripted_server::{Exchange, server};
use crate::test_support::{Widget, widget};
use crate::wait::{Check, WaitAction, WaitError};

/// Answers like an API server that serves the group without the kind.
fn refuse(exchange: Exchange) {
    if exchange.path == "/apis/test/v1" {
        exchange.json(&json!({"kind": "APIResourceList", "resources": []}));
    } else if exchange.path.ends_with("/widgets") {
        exchange.status(404, "NotFound", &[]);
    } else {
        // The scripted 404 would name the object, which an API server does only if it serves the kind.
        exchange.status(503, "ServiceUnavailable", &[]);
    }
}

#[tokio::test(start_paused = true)]
async fn v2_a_kind_that_is_not_served_any_more_deletes_no_object_for_a_wait() {
    let (client, mut server) = server();
    let cache = SharedCache::builder(client).cached_kind::<Widget>(Watch::all()).build().unwrap();
    let start = tokio::spawn({
        let cache = cache.clone();
        async move { cache.start().await }
    });
    let watch = server.list(&[serde_json::to_value(widget("a", "1", "5")).unwrap()], "7").await;
    start.await.unwrap().unwrap();
    let stored = cache.reader::<Widget>().get("ns", "a").unwrap().unwrap();
    let is_deleted = |widget: Option<&Widget>| widget.is_none();
    let by_name = cache.wait_for::<Widget>(("ns", "a"), is_deleted).timeout(Duration::from_mins(2));
    let by_name = tokio::spawn(by_name.into_future());
    let of_object = cache.wait_task(&stored, WaitAction::new("test"), |_, _| Check::not_yet("never done"));
    let of_object = tokio::spawn(async move { of_object.wait(Duration::from_mins(2)).await });
    drop(watch);
    let refusing = tokio::spawn(async move {
        loop {
            refuse(server.next().await);
        }
    });
    let errors = [by_name.await.unwrap().unwrap_err(), of_object.await.unwrap().unwrap_err()];
    assert!(!cache.reader::<Widget>().has_synced(), "the kind was cleared meanwhile");
    for error in errors {
        let WaitError::NotSatisfied { reason, .. } = &error else { panic!("{error}") };
        assert_eq!(reason, "the API server does not serve the kind");
    }
    refusing.abort();
}
