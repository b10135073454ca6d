//! Errors: their codes, reasons and details. All other tests of errors check the form of the `Status`, too.

use http::Method;
use serde_json::{Value, json};

use super::answer::{Answer, text};
use super::apply::apply;
use super::collection::{Collection, JSON_PATCH, MERGE_PATCH};
use super::server::Server;

on_every_server![
    unknown_paths_are_a_plain_404,
    unknown_resources_of_the_core_group_are_not_found,
    an_object_that_is_not_there_is_named,
    a_namespace_that_is_not_there_is_named,
    a_name_that_is_taken_is_named,
    bodies_that_are_no_json_are_bad_requests,
    objects_of_another_kind_are_refused,
    objects_of_another_version_are_bad_requests,
    custom_objects_say_their_kind,
    the_name_must_be_that_of_the_path,
    the_namespace_must_be_that_of_the_path,
    a_version_cannot_be_given_on_create,
    methods_that_a_path_has_not_are_not_allowed,
    subresources_are_neither_created_nor_deleted,
    answers_that_no_one_can_give_are_not_acceptable,
    bodies_of_unknown_types_are_unsupported,
    a_body_without_a_type_is_json,
    bodies_beyond_the_limit_are_too_large,
    large_objects_below_the_limit_are_stored,
    a_refused_write_leaves_no_trace,
];

async fn send_text(
    objects: &Collection,
    method: Method,
    rest: &str,
    content_type: &str,
    body: &str,
) -> Answer {
    let path = format!("{}{rest}", objects.path);
    objects.server.http(method, &path, &[("content-type", content_type)], body.to_owned()).await
}

async fn unknown_paths_are_a_plain_404(server: &Server) {
    let widgets = server.widgets().await;
    let elsewhere = widgets.path.replace("/widgets", "/wodgets");
    let other_version = widgets.path.replace("/v1/", "/v9/");
    for path in [
        "/nothing",
        "/nothing/at/all",
        "/apis/no.such.group",
        "/apis/no.such.group/v1",
        "/apis/no.such.group/v1/things",
        "/apis/conformance.test/v9",
        "/apis/conformance.test/v1/widgets/a",
        &elsewhere,
        &other_version,
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.code, answer.text().as_str()), (404, "404 page not found\n"), "{answer:?}");
        assert!(answer.header("content-type").starts_with("text/plain"), "{answer:?}");
    }
    let created = server.http(Method::POST, &elsewhere, &[("content-type", "application/json")], "{}").await;
    assert_eq!((created.code, created.text().as_str()), (404, "404 page not found\n"), "{created:?}");
}

async fn unknown_resources_of_the_core_group_are_not_found(server: &Server) {
    for path in ["/api/v1/nothings", "/api/v1/namespaces/default/nothings/a", "/api/v2"] {
        let status = server.get(path).await.refused(404, "NotFound");
        assert_eq!(text(&status, "/message"), "the server could not find the requested resource");
    }
}

async fn an_object_that_is_not_there_is_named(server: &Server) {
    let [maps, widgets] = server.both().await;
    let status = maps.get("a").await.refused(404, "NotFound");
    assert_eq!(text(&status, "/message"), r#"configmaps "a" not found"#);
    assert_eq!(status["details"], json!({ "name": "a", "kind": "configmaps" }));
    let status = widgets.get("a").await.refused(404, "NotFound");
    assert_eq!(text(&status, "/message"), r#"widgets.conformance.test "a" not found"#);
    assert_eq!(status["details"], json!({ "name": "a", "group": "conformance.test", "kind": "widgets" }));
    for objects in [maps, widgets] {
        let mut object = objects.object("a", json!({}));
        object["metadata"]["resourceVersion"] = json!("1");
        objects.put("a", object).await.refused(404, "NotFound");
        objects.delete("a").await.refused(404, "NotFound");
    }
}

async fn a_namespace_that_is_not_there_is_named(server: &Server) {
    server.widgets().await;
    for objects in [
        server.in_namespace("no-such-namespace", "v1", "configmaps", "ConfigMap"),
        server.in_namespace("no-such-namespace", "conformance.test/v1", "widgets", "Widget"),
    ] {
        for answer in
            [objects.create(objects.object("a", json!({}))).await, apply(&objects, "m", "a", json!({})).await]
        {
            let status = answer.refused(404, "NotFound");
            assert_eq!(text(&status, "/message"), r#"namespaces "no-such-namespace" not found"#);
            assert_eq!(status["details"], json!({ "name": "no-such-namespace", "kind": "namespaces" }));
        }
    }
}

async fn a_name_that_is_taken_is_named(server: &Server) {
    let [maps, widgets] = server.both().await;
    for (objects, of) in [(maps, "configmaps"), (widgets, "widgets.conformance.test")] {
        let created = objects.made("a", json!({})).await;
        let status = objects.create(objects.object("a", json!({}))).await.refused(409, "AlreadyExists");
        assert_eq!(text(&status, "/message"), format!("{of} \"a\" already exists"));
        assert_eq!(
            (&status["details"]["name"], &status["details"]["kind"]),
            (&json!("a"), &json!(of.split('.').next()))
        );
        assert_eq!(objects.get("a").await.ok(), created);
    }
}

async fn bodies_that_are_no_json_are_bad_requests(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        for body in ["", "{", "no json", "[]", "\"text\"", "1"] {
            send_text(&objects, Method::POST, "", "application/json", body).await.refused(400, "BadRequest");
            send_text(&objects, Method::PUT, "/a", "application/json", body).await.refused(400, "BadRequest");
        }
    }
}

async fn objects_of_another_kind_are_refused(server: &Server) {
    let [maps, widgets] = server.both().await;
    let other = |objects: &Collection| {
        let mut object = objects.object("a", json!({}));
        object["kind"] = json!("Other");
        object.to_string()
    };
    let answer = send_text(&maps, Method::POST, "", "application/json", &other(&maps)).await;
    answer.refused(400, "BadRequest");
    let answer = send_text(&widgets, Method::POST, "", "application/json", &other(&widgets)).await;
    assert_eq!(answer.invalid(), ["kind: FieldValueInvalid"]);
}

async fn objects_of_another_version_are_bad_requests(server: &Server) {
    for objects in server.both().await {
        for api_version in ["v9", "conformance.test/v9", "other.test/v1"] {
            let mut object = objects.object("a", json!({}));
            object["apiVersion"] = json!(api_version);
            let answer = send_text(&objects, Method::POST, "", "application/json", &object.to_string()).await;
            answer.refused(400, "BadRequest");
        }
    }
}

async fn custom_objects_say_their_kind(server: &Server) {
    let widgets = server.widgets().await;
    let object = json!({ "metadata": { "name": "a" } }).to_string();
    send_text(&widgets, Method::POST, "", "application/json", &object).await.refused(400, "BadRequest");
}

async fn the_name_must_be_that_of_the_path(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        for name in [json!("b"), Value::Null] {
            let mut object = created.clone();
            object["metadata"]["name"] = name;
            objects.put("a", object).await.refused(400, "BadRequest");
        }
        let status = objects.put("a", objects.object("b", json!({}))).await.refused(400, "BadRequest");
        let expected = "the name of the object (b) does not match the name on the URL (a)";
        assert_eq!(text(&status, "/message"), expected);
    }
}

async fn the_namespace_must_be_that_of_the_path(server: &Server) {
    for objects in server.both().await {
        let mut object = objects.made("a", json!({})).await;
        object["metadata"]["namespace"] = json!("other");
        objects.put("a", object).await.refused(400, "BadRequest");
        let object = objects.object("b", json!({ "metadata": { "namespace": "other" } }));
        let status = objects.create(object).await.refused(400, "BadRequest");
        let expected =
            "the namespace of the provided object does not match the namespace sent on the request";
        assert_eq!(text(&status, "/message"), expected);
    }
}

/// kube-apiserver answers 500 without a reason, which other servers need not imitate.
async fn a_version_cannot_be_given_on_create(server: &Server) {
    for objects in server.both().await {
        let object = objects.object("a", json!({ "metadata": { "resourceVersion": "1" } }));
        let answer = objects.create(object).await;
        assert!(answer.code >= 400, "{answer:?}");
        assert_eq!(answer.json()["message"], "resourceVersion should not be set on objects to be created");
        objects.get("a").await.refused(404, "NotFound");
    }
}

async fn methods_that_a_path_has_not_are_not_allowed(server: &Server) {
    let maps = server.config_maps().await;
    let headers = [("content-type", "application/json")];
    for (method, path) in [
        (Method::POST, maps.path_of("a")),
        (Method::PUT, maps.path.clone()),
        (Method::DELETE, "/api/v1/namespaces".to_owned()),
        (Method::GET, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned()),
        (Method::POST, "/version".to_owned()),
    ] {
        let answer = server.http(method, &path, &headers, "{}").await;
        let status = answer.refused(405, "MethodNotAllowed");
        assert_eq!(
            text(&status, "/message"),
            "the server does not allow this method on the requested resource"
        );
    }
    maps.patch("", MERGE_PATCH, &json!({})).await.refused(405, "MethodNotAllowed");
}

async fn subresources_are_neither_created_nor_deleted(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({})).await;
    for name in ["a/status", "a/scale"] {
        widgets.delete(name).await.refused(405, "MethodNotAllowed");
        let answer = send_text(&widgets, Method::POST, &format!("/{name}"), "application/json", "{}").await;
        answer.refused(405, "MethodNotAllowed");
    }
    widgets.get("a").await.ok();
}

async fn answers_that_no_one_can_give_are_not_acceptable(server: &Server) {
    for objects in server.both().await {
        let headers = [("accept", "text/plain"), ("content-type", "application/json")];
        server.http(Method::GET, &objects.path, &headers, "").await.refused(406, "NotAcceptable");
        let object = objects.object("a", json!({})).to_string();
        server.http(Method::POST, &objects.path, &headers, object).await.refused(406, "NotAcceptable");
        objects.get("a").await.refused(404, "NotFound");
    }
}

async fn bodies_of_unknown_types_are_unsupported(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        for content_type in ["text/plain", "application/xml", JSON_PATCH] {
            let body = objects.object("b", json!({})).to_string();
            let answer = send_text(&objects, Method::POST, "", content_type, &body).await;
            let status = answer.refused(415, "UnsupportedMediaType");
            assert!(text(&status, "/message").contains("application/json"), "{status}");
            let answer = send_text(&objects, Method::PUT, "/a", content_type, &created.to_string()).await;
            answer.refused(415, "UnsupportedMediaType");
        }
    }
}

async fn a_body_without_a_type_is_json(server: &Server) {
    for objects in server.both().await {
        let body = objects.object("a", json!({})).to_string();
        server.http(Method::POST, &objects.path, &[], body).await.created();
    }
}

async fn bodies_beyond_the_limit_are_too_large(server: &Server) {
    let limit = 3 * 1024 * 1024;
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        let body = objects.object("b", json!({})).to_string() + &" ".repeat(limit);
        for (method, rest, content_type) in [
            (Method::POST, "", "application/json"),
            (Method::PUT, "/a", "application/json"),
            (Method::PATCH, "/a", MERGE_PATCH),
        ] {
            let answer = send_text(&objects, method, rest, content_type, &body).await;
            let status = answer.refused(413, "RequestEntityTooLarge");
            assert_eq!(text(&status, "/message"), format!("Request entity too large: limit is {limit}"));
        }
        assert_eq!(objects.get("a").await.ok(), created);
    }
}

async fn large_objects_below_the_limit_are_stored(server: &Server) {
    let widgets = server.widgets().await;
    let large = "x".repeat(1_000_000);
    widgets.made("a", json!({ "spec": { "opaque": large } })).await;
    assert_eq!(widgets.get("a").await.ok()["spec"]["opaque"], large);
}

async fn a_refused_write_leaves_no_trace(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        let mut watch =
            objects.watch(&format!("&resourceVersion={}", text(&created, "/metadata/resourceVersion"))).await;
        objects.create(objects.object("a", json!({}))).await.refused(409, "AlreadyExists");
        objects.create(objects.object("B", json!({}))).await.refused(422, "Invalid");
        objects.merge("a", json!({ "metadata": { "resourceVersion": "1" } })).await.refused(409, "Conflict");
        objects.delete_with("a", json!({ "preconditions": { "uid": "u" } })).await.refused(409, "Conflict");
        objects.made("mark", json!({})).await;
        watch.expect("ADDED", "mark").await;
    }
}
