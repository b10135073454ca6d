//! Authentication and authorization: invalid tokens, users without a grant, and access reviews.

use http::Method;
use serde_json::{Value, json};

use super::answer::text;
use super::collection::{Collection, MERGE_PATCH};
use super::server::{Server, User};

on_every_server![
    a_wrong_token_is_unauthorized_everywhere,
    without_a_token_nothing_is_done,
    whoever_has_no_grant_is_told_what_they_may_not,
    every_verb_is_told_by_its_name,
    what_is_not_in_a_namespace_is_told_so,
    what_is_forbidden_is_not_looked_at,
    anyone_known_may_look_around,
    an_administrator_may_do_what_they_ask_for,
    a_user_without_grants_may_not,
    anyone_known_may_ask_about_themselves_and_nobody_else,
    an_empty_text_in_an_access_review_is_none,
    an_access_review_asks_for_something,
];

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// A user without any grant.
const NOBODY: &str = "nobody-of-conformance";

/// Asks whether this user may send a request.
async fn review(server: &Server, spec: Value) -> Value {
    let reviews = server.at(REVIEWS, "authorization.k8s.io/v1", "SelfSubjectAccessReview");
    let review = reviews.create(json!({ "spec": spec })).await.created();
    assert_eq!((text(&review, "/kind"), &review["spec"]), ("SelfSubjectAccessReview", &spec));
    review["status"]["allowed"].clone()
}

async fn a_wrong_token_is_unauthorized_everywhere(server: &Server) {
    let maps = server.config_maps().await;
    let stranger = server.asked_by(User::Token("no-such-token")).await;
    for path in ["/version", "/api", "/apis/apiextensions.k8s.io/v1", "/nothing", &maps.path] {
        let status = stranger.get(path).await.refused(401, "Unauthorized");
        assert_eq!(text(&status, "/message"), "Unauthorized");
    }
    let body = maps.object("a", json!({})).to_string();
    let headers = [("content-type", "application/json")];
    stranger.http(Method::POST, &maps.path, &headers, body).await.refused(401, "Unauthorized");
    maps.get("a").await.refused(404, "NotFound");
}

/// The configuration of kube-apiserver decides whether a request without a token is unauthorized or anonymous.
async fn without_a_token_nothing_is_done(server: &Server) {
    let maps = server.config_maps().await;
    let stranger = server.asked_by(User::Anonymous).await;
    let body = maps.object("a", json!({})).to_string();
    let headers = [("content-type", "application/json")];
    for answer in
        [stranger.get(&maps.path).await, stranger.http(Method::POST, &maps.path, &headers, body).await]
    {
        let reason = if answer.code == 401 { "Unauthorized" } else { "Forbidden" };
        assert!([401, 403].contains(&answer.code), "{answer:?}");
        answer.refused(answer.code, reason);
    }
    maps.get("a").await.refused(404, "NotFound");
}

/// The same objects for a user without a grant.
async fn as_nobody(server: &Server, objects: &Collection) -> Collection {
    let object = objects.object("", json!({}));
    let server = server.asked_by(User::Named(NOBODY)).await;
    server.at(&objects.path, text(&object, "/apiVersion"), text(&object, "/kind"))
}

async fn whoever_has_no_grant_is_told_what_they_may_not(server: &Server) {
    let [maps, widgets] = server.both().await;
    let namespace = maps.path.split('/').nth(4).unwrap().to_owned();
    let status = as_nobody(server, &maps).await.get("a").await.refused(403, "Forbidden");
    let expected = format!(
        "configmaps \"a\" is forbidden: User \"{NOBODY}\" cannot get resource \"configmaps\" in API group \"\" in the \
         namespace \"{namespace}\""
    );
    assert_eq!(text(&status, "/message"), expected);
    assert_eq!(status["details"], json!({ "name": "a", "kind": "configmaps" }));

    let namespace = widgets.path.split('/').nth(5).unwrap().to_owned();
    let status = as_nobody(server, &widgets).await.list("").await.refused(403, "Forbidden");
    let expected = format!(
        "widgets.conformance.test is forbidden: User \"{NOBODY}\" cannot list resource \"widgets\" in API group \
         \"conformance.test\" in the namespace \"{namespace}\""
    );
    assert_eq!(text(&status, "/message"), expected);
    assert_eq!(status["details"], json!({ "group": "conformance.test", "kind": "widgets" }));
}

async fn every_verb_is_told_by_its_name(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({})).await;
    let nobody = as_nobody(server, &widgets).await;
    for (method, rest, verb, resource) in [
        (Method::GET, "/a", "get", "widgets"),
        (Method::GET, "", "list", "widgets"),
        (Method::GET, "?watch=true", "watch", "widgets"),
        (Method::GET, "?watch=1&fieldSelector=metadata.name=a", "watch", "widgets"),
        (Method::POST, "", "create", "widgets"),
        (Method::PUT, "/a", "update", "widgets"),
        (Method::PATCH, "/a", "patch", "widgets"),
        (Method::DELETE, "/a", "delete", "widgets"),
        (Method::DELETE, "", "deletecollection", "widgets"),
        (Method::GET, "/a/status", "get", "widgets/status"),
        (Method::PUT, "/a/status", "update", "widgets/status"),
        (Method::PATCH, "/a/scale", "patch", "widgets/scale"),
    ] {
        let media_type = if method == Method::PATCH { MERGE_PATCH } else { "application/json" };
        let body = widgets.object("a", json!({}));
        let status = nobody.send(method, rest, media_type, &body).await.refused(403, "Forbidden");
        let expected = format!("User \"{NOBODY}\" cannot {verb} resource \"{resource}\" in API group");
        assert!(text(&status, "/message").contains(&expected), "{expected} is not in {status}");
    }
    assert_eq!(widgets.get("a").await.ok(), created);
}

async fn what_is_not_in_a_namespace_is_told_so(server: &Server) {
    server.widgets().await;
    for objects in [
        server.everywhere("v1", "nodes", "Node"),
        server.everywhere("conformance.test/v1", "widgets", "Widget"),
        server.crds(),
    ] {
        let status = as_nobody(server, &objects).await.list("").await.refused(403, "Forbidden");
        assert!(text(&status, "/message").ends_with(" at the cluster scope"), "{status}");
    }
}

async fn what_is_forbidden_is_not_looked_at(server: &Server) {
    let widgets = server.widgets().await;
    let nobody = as_nobody(server, &widgets).await;
    nobody.get("none").await.refused(403, "Forbidden");
    nobody.list("?labelSelector=(").await.refused(403, "Forbidden");
    nobody.create(json!({ "metadata": { "name": "A B" } })).await.refused(403, "Forbidden");
    let elsewhere = server.in_namespace("no-such-namespace", "v1", "configmaps", "ConfigMap");
    as_nobody(server, &elsewhere).await.create(json!({})).await.refused(403, "Forbidden");
}

async fn anyone_known_may_look_around(server: &Server) {
    let nobody = server.asked_by(User::Named(crate::support::LIMITED)).await;
    for path in ["/version", "/api", "/apis", "/api/v1", "/apis/apiextensions.k8s.io/v1", "/openapi/v3"] {
        nobody.get(path).await.ok();
    }
    assert_eq!(nobody.get("/readyz").await.code, 200);
}

async fn an_administrator_may_do_what_they_ask_for(server: &Server) {
    for spec in [
        json!({ "resourceAttributes": { "verb": "list", "resource": "secrets" } }),
        json!({ "resourceAttributes": {
            "verb": "watch", "group": "fleet.test", "version": "v1alpha1", "resource": "machines",
            "namespace": "default"
        } }),
        json!({ "nonResourceAttributes": { "verb": "get", "path": "/metrics" } }),
    ] {
        assert_eq!(review(server, spec).await, true);
    }
}

async fn a_user_without_grants_may_not(server: &Server) {
    for user in [NOBODY, crate::support::LIMITED] {
        let nobody = server.asked_by(User::Named(user)).await;
        for verb in ["get", "list", "watch", "create", "delete"] {
            let attributes = json!({ "verb": verb, "resource": "configmaps", "namespace": "default" });
            let spec = json!({ "resourceAttributes": attributes });
            assert_eq!(review(&nobody, spec).await, false, "{user} {verb}");
        }
    }
}

async fn anyone_known_may_ask_about_themselves_and_nobody_else(server: &Server) {
    let nobody = server.asked_by(User::Named(NOBODY)).await;
    for (verb, group, resource, expected) in [
        ("create", "authorization.k8s.io", "selfsubjectaccessreviews", true),
        ("create", "authorization.k8s.io", "selfsubjectrulesreviews", true),
        ("create", "authentication.k8s.io", "selfsubjectreviews", true),
        ("create", "authorization.k8s.io", "subjectaccessreviews", false),
        ("create", "authentication.k8s.io", "tokenreviews", false),
        ("create", "", "selfsubjectaccessreviews", false),
        ("list", "authorization.k8s.io", "selfsubjectaccessreviews", false),
    ] {
        let mut attributes = json!({ "verb": verb, "resource": resource });
        if !group.is_empty() {
            attributes["group"] = json!(group);
        }
        let allowed = review(&nobody, json!({ "resourceAttributes": attributes })).await;
        assert_eq!(allowed, expected, "{verb} {resource} of {group:?}");
    }
    let stranger = server.asked_by(User::Anonymous).await;
    let reviews = stranger.at(REVIEWS, "authorization.k8s.io/v1", "SelfSubjectAccessReview");
    let answer =
        reviews.create(json!({ "spec": { "nonResourceAttributes": { "path": "/", "verb": "get" } } })).await;
    assert!([401, 403].contains(&answer.code), "{answer:?}");
}

async fn an_empty_text_in_an_access_review_is_none(server: &Server) {
    let reviews = server.at(REVIEWS, "authorization.k8s.io/v1", "SelfSubjectAccessReview");
    let spec =
        json!({ "resourceAttributes": { "verb": "get", "group": "", "resource": "pods", "name": "" } });
    let review = reviews.create(json!({ "spec": spec })).await.created();
    assert_eq!(review["spec"], json!({ "resourceAttributes": { "verb": "get", "resource": "pods" } }));
}

async fn an_access_review_asks_for_something(server: &Server) {
    let reviews = server.at(REVIEWS, "authorization.k8s.io/v1", "SelfSubjectAccessReview");
    reviews.create(json!({ "spec": {} })).await.refused(422, "Invalid");
}
