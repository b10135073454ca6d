//! Label selectors and field selectors on lists.

use serde_json::json;

use super::collection::Collection;
use super::server::Server;

on_every_server![
    labels_are_compared,
    labels_are_looked_up_in_sets,
    labels_are_there_or_not,
    all_requirements_must_hold,
    labels_are_compared_as_numbers,
    blanks_do_not_matter,
    selectors_that_are_none_are_bad_requests,
    names_are_selected_by_field,
    namespaces_are_selected_by_field,
    fields_that_the_kind_declares_are_selected,
    an_absent_field_is_an_empty_text,
    declared_fields_are_listed_from_any_version,
    other_fields_are_bad_requests,
    labels_and_fields_are_selected_together,
    an_empty_selector_selects_all,
];

/// Four objects with different labels.
async fn labelled(objects: &Collection) {
    for (name, labels) in [
        ("a", json!({ "mark": "1", "app": "x", "tier": "front" })),
        ("b", json!({ "mark": "20", "app": "y", "tier": "back" })),
        ("c", json!({ "mark": "3", "app": "x" })),
        ("d", json!({ "mark": "", "example.com/app": "x" })),
    ] {
        objects.made(name, json!({ "metadata": { "labels": labels } })).await;
    }
}

/// Expects the objects of these names for each selector. All of them have the label `mark`, which excludes other
/// objects of a namespace.
async fn assert_selected(server: &Server, cases: &[(&str, &str)]) {
    for objects in server.both().await {
        labelled(&objects).await;
        for (selector, expected) in cases {
            let selector: String = selector.chars().map(encoded).collect();
            let names = objects.names(&format!("?labelSelector=mark,{selector}")).await;
            assert_eq!(names.concat(), *expected, "{selector}");
        }
    }
}

/// A character, encoded for a query.
fn encoded(character: char) -> String {
    if character.is_ascii_alphanumeric() {
        character.to_string()
    } else {
        format!("%{:02X}", character as u32)
    }
}

async fn labels_are_compared(server: &Server) {
    let cases = [
        ("app=x", "ac"),
        ("app==x", "ac"),
        ("app=z", ""),
        ("app!=x", "bd"),
        ("app!=z", "abcd"),
        ("mark=", "d"),
        ("mark!=", "abc"),
        ("example.com/app=x", "d"),
    ];
    assert_selected(server, &cases).await;
}

async fn labels_are_looked_up_in_sets(server: &Server) {
    let cases = [
        ("app in (x)", "ac"),
        ("app in (x,y)", "abc"),
        ("app in (z)", ""),
        ("app notin (x)", "bd"),
        ("app notin (x,y)", "d"),
        ("tier in (,front)", "a"),
        ("mark in (,1)", "ad"),
    ];
    assert_selected(server, &cases).await;
}

async fn labels_are_there_or_not(server: &Server) {
    assert_selected(server, &[("tier", "ab"), ("!tier", "cd"), ("!example.com/app", "abc"), ("none", "")])
        .await;
}

async fn all_requirements_must_hold(server: &Server) {
    let cases =
        [("app=x,tier", "a"), ("app=x,!tier", "c"), ("app in (x,y),tier!=front", "bc"), ("app=x,app=y", "")];
    assert_selected(server, &cases).await;
}

async fn labels_are_compared_as_numbers(server: &Server) {
    assert_selected(server, &[("mark>2", "bc"), ("mark<20", "ac"), ("app>1", "")]).await;
}

async fn blanks_do_not_matter(server: &Server) {
    assert_selected(server, &[("app = x , tier", "a"), (" app  in  ( x , y ) ", "abc"), ("! tier", "cd")])
        .await;
}

async fn selectors_that_are_none_are_bad_requests(server: &Server) {
    for objects in server.both().await {
        for selector in [
            "app in x",
            "app in (x",
            "=x",
            "a b",
            "app=x y",
            "app=(",
            "app>x",
            ",,",
            "app=x,,",
            "a/b/c",
            "app=-x",
        ] {
            let encoded: String = selector.chars().map(encoded).collect();
            objects.list(&format!("?labelSelector={encoded}")).await.refused(400, "BadRequest");
        }
    }
}

async fn names_are_selected_by_field(server: &Server) {
    for objects in server.both().await {
        labelled(&objects).await;
        for (selector, expected) in [
            ("metadata.name=b", "b"),
            ("metadata.name%3D%3Db", "b"),
            ("metadata.name=none", ""),
            ("metadata.name!=b", "acd"),
            ("metadata.name!=b,metadata.name!=c", "ad"),
            ("metadata.name=b,metadata.name=c", ""),
        ] {
            let names = objects.names(&format!("?labelSelector=mark&fieldSelector={selector}")).await;
            assert_eq!(names.concat(), expected, "{selector}");
        }
    }
}

async fn namespaces_are_selected_by_field(server: &Server) {
    let (here, there) = (server.widgets().await, server.widgets().await);
    let namespace = here.path.split('/').nth(5).unwrap();
    here.made("a", json!({ "metadata": { "labels": { "mark": namespace } } })).await;
    there.made("b", json!({ "metadata": { "labels": { "mark": namespace } } })).await;
    let everywhere = server.everywhere("conformance.test/v1", "widgets", "Widget");
    for (operator, expected) in [("=", "a"), ("!=", "b")] {
        let query =
            format!("?labelSelector=mark={namespace}&fieldSelector=metadata.namespace{operator}{namespace}");
        assert_eq!(everywhere.names(&query).await, [expected]);
    }
}

async fn fields_that_the_kind_declares_are_selected(server: &Server) {
    let widgets = server.widgets().await;
    for (name, spec) in [
        ("a", json!({ "text": "one", "number": 1, "flag": true })),
        ("b", json!({ "text": "two", "number": 2, "flag": false })),
        ("c", json!({ "text": "one", "number": 10 })),
    ] {
        widgets.made(name, json!({ "spec": spec })).await;
    }
    for (selector, expected) in [
        ("spec.text=one", "ac"),
        ("spec.text!=one", "b"),
        ("spec.number=10", "c"),
        ("spec.flag=true", "a"),
        ("spec.flag=false", "b"),
        ("spec.text=one,spec.number=1", "a"),
        ("spec.text=one,metadata.name!=a", "c"),
    ] {
        assert_eq!(
            widgets.names(&format!("?fieldSelector={selector}")).await.concat(),
            expected,
            "{selector}"
        );
    }
}

async fn an_absent_field_is_an_empty_text(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "text": "one" } })).await;
    widgets.made("b", json!({})).await;
    assert_eq!(widgets.names("?fieldSelector=spec.text=").await, ["b"]);
    assert_eq!(widgets.names("?fieldSelector=spec.text!=").await, ["a"]);
}

async fn declared_fields_are_listed_from_any_version(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({ "spec": { "text": "one" } })).await;
    let before = super::answer::version(&created);
    widgets.merge("a", json!({ "spec": { "text": "two" } })).await.ok();
    let query = format!("?fieldSelector=spec.text=one&resourceVersion={before}&resourceVersionMatch=Exact");
    assert_eq!(widgets.names(&query).await, ["a"]);
    assert_eq!(widgets.names("?fieldSelector=spec.text=one").await, [""; 0]);
}

async fn other_fields_are_bad_requests(server: &Server) {
    for objects in server.both().await {
        for selector in ["metadata.labels=a", "spec.mode=On", "data.a=b", "nonsense", "metadata.name%3Ea"] {
            objects.list(&format!("?fieldSelector={selector}")).await.refused(400, "BadRequest");
        }
    }
}

async fn labels_and_fields_are_selected_together(server: &Server) {
    for objects in server.both().await {
        labelled(&objects).await;
        assert_eq!(objects.names("?labelSelector=app=x&fieldSelector=metadata.name!=a").await, ["c"]);
    }
}

async fn an_empty_selector_selects_all(server: &Server) {
    let widgets = server.widgets().await;
    labelled(&widgets).await;
    assert_eq!(widgets.names("?labelSelector=&fieldSelector=").await.concat(), "abcd");
}
