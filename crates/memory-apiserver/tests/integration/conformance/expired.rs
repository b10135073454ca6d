//! Versions that the server has forgotten: error 410 for every kind of request, and how clients go on.

use serde_json::{Value, json};

use super::answer::{text, version};
use super::collection::{Collection, names};
use super::server::Server;

on_every_server![
    a_watch_from_a_forgotten_version_is_an_error_event,
    an_exact_list_of_a_forgotten_version_is_expired,
    an_expired_token_comes_with_one_to_go_on_with,
    what_need_not_be_exact_does_not_expire,
    a_watch_from_a_new_list_goes_on,
];

async fn a_watch_from_a_forgotten_version_is_an_error_event(server: &Server) {
    let server = server.forgetful().await;
    let widgets = server.widgets().await;
    server.forget().await;
    for headers in [&[][..], &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")]] {
        let path = format!("{}?watch=true&resourceVersion=1&timeoutSeconds=5", widgets.path);
        let mut watch = server.watch(&path, headers).await;
        assert_eq!(watch.code, 200);
        let status = watch.expect("ERROR", "").await;
        let form =
            json!([status["kind"], status["apiVersion"], status["status"], status["reason"], status["code"]]);
        assert_eq!(form, json!(["Status", "v1", "Failure", "Expired", 410]));
        assert!(text(&status, "/message").starts_with("too old resource version: 1 ("), "{status}");
        assert_eq!(watch.next().await, None, "it is the last event");
    }
}

/// Creates objects of both kinds with a label, sends a request for each, and lets the server forget those versions.
async fn forgotten(server: &Server, names: &[&str], query: &str) -> Vec<(Collection, Value)> {
    let mut all = Vec::new();
    for objects in server.both().await {
        for name in names {
            objects.made(name, json!({ "metadata": { "labels": { "l": "x" } } })).await;
        }
        let answer = objects.list(query).await.ok();
        all.push((objects, answer));
    }
    server.forget().await;
    all
}

async fn an_exact_list_of_a_forgotten_version_is_expired(server: &Server) {
    let server = server.forgetful().await;
    for (objects, list) in forgotten(&server, &["a"], "").await {
        let old = version(&list);
        for query in ["&resourceVersionMatch=Exact", "&resourceVersionMatch=Exact&limit=1", "&limit=1"] {
            objects.list(&format!("?resourceVersion={old}{query}")).await.refused(410, "Expired");
        }
    }
}

async fn an_expired_token_comes_with_one_to_go_on_with(server: &Server) {
    let server = server.forgetful().await;
    for (objects, page) in forgotten(&server, &["a", "b", "d"], "?limit=1&labelSelector=l").await {
        assert_eq!(names(&page), ["a"]);
        let new = version(&objects.made("c", json!({ "metadata": { "labels": { "l": "x" } } })).await);
        let token = text(&page, "/metadata/continue");
        let answer = objects.list(&format!("?limit=1&labelSelector=l&continue={token}")).await;
        let status = answer.expect(410);
        let form = json!([status["kind"], status["status"], status["reason"], status["code"]]);
        assert_eq!(form, json!(["Status", "Failure", "Expired", 410]));
        let token = text(&status, "/metadata/continue");
        assert!(!token.is_empty(), "{status}");
        let rest = objects.list(&format!("?limit=9&labelSelector=l&continue={token}")).await.ok();
        assert_eq!(names(&rest), ["b", "c", "d"], "what comes after the page, as it is now");
        assert!(version(&rest) >= new);
    }
}

async fn what_need_not_be_exact_does_not_expire(server: &Server) {
    let server = server.forgetful().await;
    for (objects, list) in forgotten(&server, &["a"], "").await {
        let old = version(&list);
        for query in ["", "&resourceVersionMatch=NotOlderThan"] {
            let list = objects.list(&format!("?resourceVersion={old}{query}")).await.ok();
            assert!(names(&list).contains(&"a".to_owned()));
        }
        let read = objects.get(&format!("a?resourceVersion={old}")).await.ok();
        objects.put("a", read).await.ok();
    }
}

async fn a_watch_from_a_new_list_goes_on(server: &Server) {
    let server = server.forgetful().await;
    for (objects, _) in forgotten(&server, &[], "").await {
        let from = version(&objects.list("").await.ok());
        let mut watch = objects.watch(&format!("&resourceVersion={from}")).await;
        objects.made("a", json!({})).await;
        watch.expect("ADDED", "a").await;
    }
}
