//! How much a server takes: the size of objects, collections that are deleted, warnings.

use http::Method;
use serde_json::{Value, json};

use super::answer::{Answer, text};
use super::collection::{Collection, names};
use super::server::Server;

on_every_server![
    an_object_of_more_than_etcd_takes_is_not_stored,
    an_object_that_would_grow_too_large_is_not_changed,
    a_body_of_more_than_three_mebibytes_is_not_read,
    a_collection_is_deleted_up_to_a_limit,
    a_limit_goes_on_with_the_token_of_a_deletion,
    a_deleted_collection_is_told_as_a_list,
    a_long_warning_is_cut_off,
    many_warnings_are_left_out,
    a_warning_is_given_once,
    strict_validation_names_at_most_a_hundred_fields_of_a_built_in_kind,
];

/// An object of about so many KiB.
fn sized(objects: &Collection, name: &str, kibibytes: usize) -> Value {
    objects.object(name, json!({ "spec": { "free": { "a": "x".repeat(kibibytes << 10) } } }))
}

fn assert_too_large(answer: &Answer) {
    let status = answer.expect(500);
    assert_eq!(text(&status, "/message"), "etcdserver: request is too large");
    assert_eq!((text(&status, "/kind"), text(&status, "/status")), ("Status", "Failure"));
}

async fn an_object_of_more_than_etcd_takes_is_not_stored(server: &Server) {
    let widgets = server.widgets().await;
    widgets.create(sized(&widgets, "fits", 1500)).await.created();
    assert_too_large(&widgets.create(sized(&widgets, "large", 1600)).await);
    widgets.get("large").await.refused(404, "NotFound");
    let pods = server.namespaced("v1", "pods", "Pod").await;
    let env = json!([{ "name": "A", "value": "x".repeat(1600 << 10) }]);
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i", "env": env }] } });
    assert_too_large(&pods.create(pods.object("large", pod)).await);
}

async fn an_object_that_would_grow_too_large_is_not_changed(server: &Server) {
    let widgets = server.widgets().await;
    let before = widgets.create(sized(&widgets, "a", 1000)).await.created();
    let more = json!({ "spec": { "free": { "b": "x".repeat(600 << 10) } } });
    assert_too_large(&widgets.merge("a", more.clone()).await);
    let mut object = before.clone();
    object["spec"]["free"]["b"] = more["spec"]["free"]["b"].clone();
    assert_too_large(&widgets.put("a", object).await);
    assert_eq!(widgets.get("a").await.ok()["metadata"], before["metadata"]);
}

async fn a_body_of_more_than_three_mebibytes_is_not_read(server: &Server) {
    for objects in server.both().await {
        let answer = objects.create(sized(&objects, "a", 3100)).await;
        let status = answer.refused(413, "RequestEntityTooLarge");
        assert_eq!(text(&status, "/message"), "Request entity too large: limit is 3145728");
    }
}

async fn five(objects: &Collection) {
    for name in ["a", "b", "c", "d", "e"] {
        objects.made(name, json!({})).await;
    }
}

async fn delete(objects: &Collection, query: &str) -> Value {
    objects.server.http(Method::DELETE, &format!("{}{query}", objects.path), &[], "").await.ok()
}

async fn a_collection_is_deleted_up_to_a_limit(server: &Server) {
    for objects in server.both().await {
        five(&objects).await;
        let deleted = delete(&objects, "?limit=2").await;
        assert_eq!(names(&deleted), ["a", "b"]);
        assert_eq!(deleted["metadata"]["remainingItemCount"], 3);
        assert_eq!(objects.names("").await, ["c", "d", "e"]);
    }
}

async fn a_limit_goes_on_with_the_token_of_a_deletion(server: &Server) {
    for objects in server.both().await {
        five(&objects).await;
        let deleted = delete(&objects, "?limit=2").await;
        let token = text(&deleted, "/metadata/continue");
        let deleted = delete(&objects, &format!("?limit=2&continue={token}")).await;
        assert_eq!(names(&deleted), ["c", "d"]);
        assert_eq!(objects.names("").await, ["e"]);
    }
}

async fn a_deleted_collection_is_told_as_a_list(server: &Server) {
    for objects in server.both().await {
        five(&objects).await;
        let before = objects.list("").await.ok();
        let mut deleted = delete(&objects, "").await;
        assert_eq!(text(&deleted, "/metadata/continue"), "");
        // Other tests raise the version meanwhile.
        deleted["metadata"] = before["metadata"].clone();
        assert_eq!(deleted, before);
        assert_eq!(objects.names("").await, [""; 0]);
    }
}

/// Creates an object with unknown fields of such a length; returns the warnings.
async fn warnings(objects: &Collection, count: usize, length: usize) -> Vec<String> {
    let mut object = objects.object("", json!({ "metadata": { "generateName": "a" } }));
    for number in 0..count {
        object[format!("f{number:04}{}", "x".repeat(length - 5))] = json!(1);
    }
    let answer = objects.create(object).await;
    answer.created();
    all_warnings(&answer)
}

fn all_warnings(answer: &Answer) -> Vec<String> {
    answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

async fn a_long_warning_is_cut_off(server: &Server) {
    for objects in server.both().await {
        let [warning] = &warnings(&objects, 1, 5000).await[..] else { panic!("one warning") };
        let begun = "unknown field \\\"f0000";
        let rest = "x".repeat(256 - "unknown field \"f0000".len());
        assert_eq!(*warning, format!("299 - \"{begun}{rest}\""));
        // So long as all of them together fit, they are whole.
        let [warning] = &warnings(&objects, 1, 4000).await[..] else { panic!("one warning") };
        assert!(warning.len() > 4000, "{}", warning.len());
    }
}

async fn many_warnings_are_left_out(server: &Server) {
    for objects in server.both().await {
        for (count, length, told) in [(40, 45, 40), (90, 45, 68), (90, 305, 16)] {
            let warnings = warnings(&objects, count, length).await;
            assert_eq!(warnings.len(), told, "{count} of {length}");
            assert!(warnings[told - 1].contains(&format!("f{:04}", told - 1)), "{}", warnings[told - 1]);
        }
    }
}

async fn a_warning_is_given_once(server: &Server) {
    let widgets = server.widgets().await;
    let body = r#"{"apiVersion": "conformance.test/v1", "kind": "Widget", "metadata": {"name": "a"}, "x": 1, "x": 2, "x": 3}"#;
    let answer =
        server.http(Method::POST, &widgets.path, &[("content-type", "application/json")], body).await;
    answer.created();
    assert_eq!(all_warnings(&answer), [r#"299 - "duplicate field \"x\"""#, r#"299 - "unknown field \"x\"""#]);
}

async fn strict_validation_names_at_most_a_hundred_fields_of_a_built_in_kind(server: &Server) {
    for (objects, named) in server.both().await.into_iter().zip([100, 150]) {
        let mut object = objects.object("a", json!({}));
        for number in 0..150 {
            object[format!("f{number:04}")] = json!(1);
        }
        let status = objects.create_with("?fieldValidation=Strict", object).await.refused(400, "BadRequest");
        assert_eq!(text(&status, "/message").matches("unknown field").count(), named);
    }
}
