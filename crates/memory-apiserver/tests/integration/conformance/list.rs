//! Lists: their form and order, pages, and versions.

use serde_json::{Value, json};

use super::answer::{text, version};
use super::collection::{Collection, names};
use super::server::Server;

on_every_server![
    lists_have_their_form,
    an_empty_list_has_a_version_and_no_items,
    a_namespace_that_is_not_there_has_no_objects,
    lists_are_in_order_of_their_names,
    objects_of_all_namespaces_are_listed_together,
    pages_are_continued_to_the_end,
    all_pages_are_of_one_version,
    the_count_of_what_remains_is_not_told_with_selectors,
    pages_are_filled_with_what_is_selected,
    a_full_last_page_is_not_continued,
    limits_that_are_none_are_ignored_or_refused,
    tokens_that_are_none_are_refused,
    a_token_goes_with_no_version,
    an_exact_version_is_listed_as_it_was,
    an_exact_version_has_pages,
    a_version_with_a_limit_is_an_exact_one,
    a_list_is_not_older_than_asked,
    any_version_may_be_listed,
    a_match_needs_a_version_that_it_fits,
    versions_that_are_no_numbers_are_bad_requests,
    versions_that_are_not_reached_yet_time_out,
    single_objects_are_read_at_versions_too,
    initial_events_are_for_watches,
    a_list_sees_what_was_written_before,
];

/// Creates objects of these names, and returns the version of each.
async fn fill(objects: &Collection, names: &[&str]) -> Vec<u64> {
    let mut versions = Vec::new();
    for name in names {
        let labels = json!({ "metadata": { "labels": { "odd": (versions.len() % 2).to_string() } } });
        versions.push(version(&objects.made(name, labels).await));
    }
    versions
}

/// The pages of a list, from its first page on.
async fn pages(objects: &Collection, limit: usize, query: &str) -> Vec<Value> {
    let mut pages = vec![objects.list(&format!("?limit={limit}{query}")).await.ok()];
    loop {
        let token = text(&pages[pages.len() - 1], "/metadata/continue").to_owned();
        if token.is_empty() {
            return pages;
        }
        assert!(pages.len() < 20, "pages without end: {:?}", all_names(&pages));
        // Each page repeats the selectors. The token has the version.
        let selector = if query.contains("Selector") { query } else { "" };
        pages.push(objects.list(&format!("?limit={limit}{selector}&continue={token}")).await.ok());
    }
}

fn all_names(pages: &[Value]) -> Vec<Vec<String>> {
    pages.iter().map(names).collect()
}

async fn lists_have_their_form(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("zz", json!({ "metadata": { "labels": { "a": "b" } } })).await;
        let list = objects.list("?labelSelector=a").await.ok();
        assert_eq!(list["apiVersion"], created["apiVersion"]);
        assert_eq!(list["kind"], format!("{}List", text(&created, "/kind")));
        assert!(version(&list) >= version(&created));
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        assert_eq!(list["items"][0]["metadata"], created["metadata"]);
        // Items of custom kinds have kind and version; those of built-in kinds need not.
        let kind = list["items"][0].get("kind");
        assert!(kind == created.get("kind") || (kind.is_none() && created["kind"] == "ConfigMap"));
    }
}

async fn an_empty_list_has_a_version_and_no_items(server: &Server) {
    let widgets = server.widgets().await;
    let list = widgets.list("").await.ok();
    assert_eq!((&list["items"], text(&list, "/metadata/continue")), (&json!([]), ""));
    assert!(version(&list) > 0);
    assert_eq!(list["metadata"].get("remainingItemCount"), None);
}

async fn a_namespace_that_is_not_there_has_no_objects(server: &Server) {
    server.widgets().await;
    for objects in [
        server.in_namespace("no-such-namespace", "v1", "configmaps", "ConfigMap"),
        server.in_namespace("no-such-namespace", "conformance.test/v1", "widgets", "Widget"),
    ] {
        assert_eq!(objects.names("").await, [""; 0]);
    }
}

async fn lists_are_in_order_of_their_names(server: &Server) {
    for objects in server.both().await {
        fill(&objects, &["b", "a.b", "a", "a-b", "c", "ab", "1"]).await;
        assert_eq!(objects.names("?labelSelector=odd").await, ["1", "a", "a-b", "a.b", "ab", "b", "c"]);
    }
}

async fn objects_of_all_namespaces_are_listed_together(server: &Server) {
    let (first, second) = (server.widgets().await, server.widgets().await);
    let mark = first.path.split('/').nth(5).unwrap();
    for objects in [&first, &second] {
        for name in ["b", "a"] {
            objects.made(name, json!({ "metadata": { "labels": { "mark": mark } } })).await;
        }
    }
    let everywhere = server.everywhere("conformance.test/v1", "widgets", "Widget");
    let list = everywhere.list(&format!("?labelSelector=mark={mark}")).await.ok();
    let seen: Vec<_> = list["items"].as_array().unwrap().iter().collect();
    let seen: Vec<_> =
        seen.iter().map(|i| (text(i, "/metadata/namespace"), text(i, "/metadata/name"))).collect();
    let mut expected = seen.clone();
    expected.sort_unstable();
    assert_eq!(seen.len(), 4);
    assert_eq!(seen, expected, "namespaces in order, and names within");
}

async fn pages_are_continued_to_the_end(server: &Server) {
    for objects in server.both().await {
        server.http(http::Method::DELETE, &objects.path, &[], "").await.ok();
        fill(&objects, &["a", "b", "c", "d", "e"]).await;
        let pages = pages(&objects, 2, "").await;
        assert_eq!(all_names(&pages), [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
        let remaining: Vec<_> = pages.iter().map(|page| page["metadata"].get("remainingItemCount")).collect();
        assert_eq!(remaining, [Some(&json!(3)), Some(&json!(1)), None]);
    }
}

async fn all_pages_are_of_one_version(server: &Server) {
    for objects in server.both().await {
        server.http(http::Method::DELETE, &objects.path, &[], "").await.ok();
        fill(&objects, &["a", "c", "d", "e"]).await;
        let first = objects.list("?limit=1").await.ok();
        objects.made("b", json!({})).await;
        objects.merge("c", json!({ "metadata": { "labels": { "new": "yes" } } })).await.ok();
        objects.delete("d").await.ok();
        let token = text(&first, "/metadata/continue");
        let rest = objects.list(&format!("?limit=9&continue={token}")).await.ok();
        assert_eq!(names(&rest), ["c", "d", "e"]);
        assert_eq!(rest["items"][0]["metadata"]["labels"].get("new"), None);
        assert_eq!(version(&rest), version(&first));
        assert_eq!(objects.names("").await, ["a", "b", "c", "e"]);
    }
}

async fn the_count_of_what_remains_is_not_told_with_selectors(server: &Server) {
    for objects in server.both().await {
        fill(&objects, &["a", "b", "c", "d"]).await;
        for query in ["&labelSelector=odd", "&fieldSelector=metadata.name!=z"] {
            let page = objects.list(&format!("?limit=1{query}")).await.ok();
            assert!(!text(&page, "/metadata/continue").is_empty(), "{page}");
            assert_eq!(page["metadata"].get("remainingItemCount"), None);
        }
    }
}

async fn pages_are_filled_with_what_is_selected(server: &Server) {
    for objects in server.both().await {
        fill(&objects, &["a", "b", "c", "d", "e", "f", "g"]).await;
        let pages = pages(&objects, 2, "&labelSelector=odd=1").await;
        assert_eq!(all_names(&pages), [vec!["b", "d"], vec!["f"]]);
    }
}

async fn a_full_last_page_is_not_continued(server: &Server) {
    let widgets = server.widgets().await;
    fill(&widgets, &["a", "b", "c", "d"]).await;
    assert_eq!(all_names(&pages(&widgets, 2, "").await), [["a", "b"], ["c", "d"]]);
    assert_eq!(all_names(&pages(&widgets, 4, "").await).len(), 1);
}

async fn limits_that_are_none_are_ignored_or_refused(server: &Server) {
    let widgets = server.widgets().await;
    fill(&widgets, &["a", "b"]).await;
    assert_eq!(widgets.names("?limit=0").await, ["a", "b"]);
    widgets.list("?limit=x").await.refused(400, "BadRequest");
}

async fn tokens_that_are_none_are_refused(server: &Server) {
    for objects in server.both().await {
        objects.list("?limit=1&continue=nonsense").await.refused(400, "BadRequest");
    }
}

async fn a_token_goes_with_no_version(server: &Server) {
    for objects in server.both().await {
        let versions = fill(&objects, &["a", "b"]).await;
        let page = objects.list("?limit=1").await.ok();
        let query = format!(
            "?limit=1&continue={}&resourceVersion={}",
            text(&page, "/metadata/continue"),
            versions[0]
        );
        objects.list(&query).await.refused(400, "BadRequest");
    }
}

/// Creates three objects, then deletes the first and changes the second. Returns the version before that.
async fn changed_since(objects: &Collection) -> u64 {
    let before = fill(objects, &["a", "b", "c"]).await[2];
    objects.delete("a").await.ok();
    objects.merge("b", json!({ "metadata": { "labels": { "odd": "changed" } } })).await.ok();
    objects.made("d", json!({ "metadata": { "labels": { "odd": "0" } } })).await;
    before
}

async fn an_exact_version_is_listed_as_it_was(server: &Server) {
    for objects in server.both().await {
        let before = changed_since(&objects).await;
        let exact = format!("?labelSelector=odd&resourceVersion={before}&resourceVersionMatch=Exact");
        let list = objects.list(&exact).await.ok();
        assert_eq!(names(&list), ["a", "b", "c"]);
        assert_eq!(list["items"][1]["metadata"]["labels"]["odd"], "1");
        assert_eq!(version(&list), before);
    }
}

async fn an_exact_version_has_pages(server: &Server) {
    let widgets = server.widgets().await;
    let before = changed_since(&widgets).await;
    let pages = pages(&widgets, 2, &format!("&resourceVersion={before}&resourceVersionMatch=Exact")).await;
    assert_eq!(all_names(&pages), [vec!["a", "b"], vec!["c"]]);
    assert!(pages.iter().all(|page| version(page) == before));
    assert_eq!(pages[0]["metadata"]["remainingItemCount"], 1);
}

async fn a_version_with_a_limit_is_an_exact_one(server: &Server) {
    let widgets = server.widgets().await;
    let before = changed_since(&widgets).await;
    let pages = pages(&widgets, 2, &format!("&resourceVersion={before}")).await;
    assert_eq!(all_names(&pages), [vec!["a", "b"], vec!["c"]]);
}

async fn a_list_is_not_older_than_asked(server: &Server) {
    for objects in server.both().await {
        let at = *fill(&objects, &["a", "b"]).await.last().unwrap();
        for query in ["", "&resourceVersionMatch=NotOlderThan", "&resourceVersionMatch=NotOlderThan&limit=9"]
        {
            let list = objects.list(&format!("?labelSelector=odd&resourceVersion={at}{query}")).await.ok();
            assert_eq!(names(&list), ["a", "b"], "{query}");
            assert!(version(&list) >= at);
        }
    }
}

/// A server may answer from its cache, and then without pages, so only objects that must be there are checked.
async fn any_version_may_be_listed(server: &Server) {
    for objects in server.both().await {
        let at = *fill(&objects, &["a", "b"]).await.last().unwrap();
        // The cache of the server is new enough now.
        objects.list(&format!("?resourceVersion={at}")).await.ok();
        for query in ["", "&resourceVersionMatch=NotOlderThan"] {
            let list = objects.list(&format!("?labelSelector=odd&resourceVersion=0{query}")).await.ok();
            assert_eq!(names(&list), ["a", "b"]);
            assert!(version(&list) >= at);
        }
        let paged = pages(&objects, 1, "&labelSelector=odd&resourceVersion=0").await;
        assert_eq!(all_names(&paged).concat(), ["a", "b"]);
    }
}

async fn a_match_needs_a_version_that_it_fits(server: &Server) {
    for objects in server.both().await {
        for (query, cause) in [
            ("resourceVersionMatch=Exact", "FieldValueForbidden"),
            ("resourceVersionMatch=NotOlderThan", "FieldValueForbidden"),
            ("resourceVersion=0&resourceVersionMatch=Exact", "FieldValueForbidden"),
            ("resourceVersion=5&resourceVersionMatch=Sometimes", "FieldValueNotSupported"),
        ] {
            let refused = objects.list(&format!("?{query}")).await;
            assert_eq!(refused.invalid(), [format!("resourceVersionMatch: {cause}")], "{query}");
        }
    }
}

async fn versions_that_are_no_numbers_are_bad_requests(server: &Server) {
    for objects in server.both().await {
        objects.list("?resourceVersion=new").await.refused(400, "BadRequest");
    }
}

async fn versions_that_are_not_reached_yet_time_out(server: &Server) {
    let widgets = server.widgets().await;
    let future = version(&widgets.made("a", json!({})).await) + 1_000_000;
    for query in [
        String::new(),
        "&resourceVersionMatch=NotOlderThan".to_owned(),
        "&resourceVersionMatch=Exact".to_owned(),
    ] {
        let answer = widgets.list(&format!("?resourceVersion={future}{query}")).await;
        let status = answer.refused(504, "Timeout");
        assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(status["details"]["retryAfterSeconds"], 1);
        assert_eq!(answer.header("retry-after"), "1");
    }
}

async fn single_objects_are_read_at_versions_too(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({})).await;
    let at = version(&created);
    assert_eq!(widgets.get(&format!("a?resourceVersion={at}")).await.ok(), created);
    widgets.get("a?resourceVersion=0").await.ok();
    let status = widgets.get(&format!("a?resourceVersion={}", at + 1_000_000)).await.refused(504, "Timeout");
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

async fn initial_events_are_for_watches(server: &Server) {
    let widgets = server.widgets().await;
    assert_eq!(
        widgets.list("?sendInitialEvents=true").await.invalid(),
        ["sendInitialEvents: FieldValueForbidden"]
    );
}

async fn a_list_sees_what_was_written_before(server: &Server) {
    for objects in server.both().await {
        for round in 0..5 {
            let name = format!("w{round}");
            let written = objects.made(&name, json!({})).await;
            let list = objects.list("").await.ok();
            assert!(names(&list).contains(&name));
            assert!(version(&list) >= version(&written));
            objects.delete(&name).await.ok();
            assert!(!objects.names("").await.contains(&name));
        }
    }
}
