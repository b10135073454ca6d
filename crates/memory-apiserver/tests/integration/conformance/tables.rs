//! Other forms of the same objects, by the `Accept` header: `Table` as kubectl prints it, and `PartialObjectMetadata`.

use serde_json::{Value, json};

use super::answer::{text, version};
use super::collection::Collection;
use super::server::Server;

on_every_server![
    a_list_is_a_table,
    an_object_is_a_table_of_one_row,
    columns_of_a_custom_kind_are_those_of_its_definition,
    a_custom_kind_without_columns_has_name_and_age,
    columns_of_labels_and_times_are_filled,
    rows_have_as_much_of_the_object_as_asked_for,
    tables_have_pages,
    events_of_a_watch_are_tables,
    errors_are_no_tables,
    a_list_is_of_metadata_only,
    an_object_is_metadata_only,
    events_of_a_watch_are_metadata_only,
    bookmarks_take_the_form_of_the_events,
    other_forms_are_not_acceptable,
    the_first_acceptable_form_is_taken,
];

/// The `Accept` header of kubectl.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";

async fn get_as(objects: &Collection, rest: &str, form: &str) -> Value {
    let path = format!("{}{rest}", objects.path);
    objects.server.http(http::Method::GET, &path, &[("accept", form)], "").await.ok()
}

fn column_names(table: &Value) -> Vec<&str> {
    let columns = table["columnDefinitions"].as_array().unwrap_or_else(|| panic!("{table}"));
    columns.iter().map(|column| text(column, "/name")).collect()
}

fn assert_kind(object: &Value, kind: &str) {
    assert_eq!((text(object, "/kind"), text(object, "/apiVersion")), (kind, "meta.k8s.io/v1"));
}

async fn a_list_is_a_table(server: &Server) {
    let maps = server.config_maps().await;
    let created = maps
        .made("a", json!({ "data": { "x": "1", "y": "2" }, "metadata": { "labels": { "l": "x" } } }))
        .await;
    let table = get_as(&maps, "?labelSelector=l", TABLE).await;
    assert_kind(&table, "Table");
    assert!(version(&table) >= version(&created));
    assert_eq!(column_names(&table), ["Name", "Data", "Age"]);
    let name = &table["columnDefinitions"][0];
    assert_eq!(
        (text(name, "/type"), text(name, "/format"), &name["priority"]),
        ("string", "name", &json!(0))
    );
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["cells"].as_array().unwrap()[..2], [json!("a"), json!(2)]);
    assert!(rows[0]["cells"][2].as_str().unwrap().ends_with('s'), "an age of seconds: {}", rows[0]);
    assert_kind(&rows[0]["object"], "PartialObjectMetadata");
    assert_eq!(rows[0]["object"]["metadata"], created["metadata"]);

    let empty = get_as(&maps, "?labelSelector=none", TABLE).await;
    assert_eq!(empty["rows"], json!([]));
}

async fn an_object_is_a_table_of_one_row(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        let table = get_as(&objects, "/a", TABLE).await;
        assert_kind(&table, "Table");
        assert_eq!(table["rows"].as_array().unwrap().len(), 1);
        assert_eq!(table["rows"][0]["cells"][0], "a");
        assert_eq!(version(&table), version(&created));
    }
}

async fn columns_of_a_custom_kind_are_those_of_its_definition(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "text": "abc", "number": 7 } })).await;
    widgets.made("b", json!({})).await;
    let table = get_as(&widgets, "", TABLE).await;
    let columns: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().collect();
    let columns: Vec<_> =
        columns.iter().map(|c| (text(c, "/name"), text(c, "/type"), &c["priority"])).collect();
    let (zero, one) = (json!(0), json!(1));
    let expected = [
        ("Name", "string", &zero),
        ("Text", "string", &zero),
        ("Number", "integer", &one),
        ("Age", "date", &zero),
    ];
    assert_eq!(columns, expected);
    assert_eq!(table["columnDefinitions"][2]["description"], "N.");
    let cells: Vec<_> =
        (0..2).map(|row| table["rows"][row]["cells"].as_array().unwrap()[..3].to_vec()).collect();
    assert_eq!(cells, [[json!("a"), json!("abc"), json!(7)], [json!("b"), json!(null), json!(null)]]);
    assert!(table["rows"][0]["cells"][3].as_str().unwrap().ends_with('s'), "{table}");
}

async fn a_custom_kind_without_columns_has_name_and_age(server: &Server) {
    let group = "tables.conformance.test";
    server
        .install(super::kinds::definition(group, "Plain", &json!({ "schema": super::kinds::any_object() })))
        .await;
    let plains = server.namespaced(&format!("{group}/v1"), "plains", "Plain").await;
    plains.made("a", json!({})).await;
    let table = get_as(&plains, "", TABLE).await;
    assert_eq!(column_names(&table), ["Name", "Age"]);
    assert_eq!(table["rows"][0]["cells"][0], "a");
}

async fn columns_of_labels_and_times_are_filled(server: &Server) {
    let machines = server.machines().await;
    let time = "2030-01-01T00:00:00Z";
    let labels = json!({ "fleet.test/claimed": "true" });
    machines.made("a", json!({ "metadata": { "labels": labels }, "spec": { "shutdownTime": time } })).await;
    machines.merge("a/status", json!({ "status": { "phase": "Running", "message": "m" } })).await.ok();
    let table = get_as(&machines, "/a", TABLE).await;
    let columns = ["Name", "Status", "Age", "Claimed", "shutdown_time", "pause_time", "Message"];
    assert_eq!(column_names(&table), columns);
    let mut cells = table["rows"][0]["cells"].clone();
    cells[2].take();
    assert_eq!(cells, json!(["a", "Running", null, "true", time, null, "m"]));
}

async fn rows_have_as_much_of_the_object_as_asked_for(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({ "metadata": { "labels": { "l": "x" } } })).await;
        let none = get_as(&objects, "?labelSelector=l&includeObject=None", TABLE).await;
        assert!(none["rows"][0]["object"].is_null(), "{none}");
        let all = get_as(&objects, "?labelSelector=l&includeObject=Object", TABLE).await;
        assert_eq!(all["rows"][0]["object"], created);
        let metadata = get_as(&objects, "?labelSelector=l&includeObject=Metadata", TABLE).await;
        assert_kind(&metadata["rows"][0]["object"], "PartialObjectMetadata");
    }
}

async fn tables_have_pages(server: &Server) {
    let widgets = server.widgets().await;
    for name in ["a", "b", "c"] {
        widgets.made(name, json!({})).await;
    }
    let first = get_as(&widgets, "?limit=2", TABLE).await;
    assert_eq!(first["rows"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = text(&first, "/metadata/continue");
    let second = get_as(&widgets, &format!("?limit=2&continue={token}"), TABLE).await;
    assert_eq!(second["rows"][0]["cells"][0], "c");
    assert_eq!(text(&second, "/metadata/continue"), "");
}

async fn events_of_a_watch_are_tables(server: &Server) {
    for objects in server.both().await {
        let from = version(&objects.list("").await.ok());
        let path = format!("{}?watch=true&resourceVersion={from}", objects.path);
        let mut watch = server.watch(&path, &[("accept", TABLE)]).await;
        let created = objects.made("a", json!({})).await;
        objects.delete("a").await.ok();
        let added = watch.expect("ADDED", "").await;
        assert_kind(&added, "Table");
        assert_eq!(column_names(&added)[0], "Name");
        assert_eq!(added["rows"][0]["cells"][0], "a");
        assert_eq!(added["rows"][0]["object"]["metadata"], created["metadata"]);
        let deleted = watch.expect("DELETED", "").await;
        // The columns need not be sent again.
        assert_kind(&deleted, "Table");
        assert_eq!(deleted["rows"][0]["cells"][0], "a");
    }
}

async fn errors_are_no_tables(server: &Server) {
    let maps = server.config_maps().await;
    let headers = [("accept", TABLE)];
    let answer = maps.server.http(http::Method::GET, &maps.path_of("none"), &headers, "").await;
    answer.refused(404, "NotFound");
}

async fn a_list_is_of_metadata_only(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({ "metadata": { "labels": { "l": "x" } } })).await;
        let list = get_as(&objects, "?labelSelector=l", METADATA_LIST).await;
        assert_kind(&list, "PartialObjectMetadataList");
        assert!(version(&list) >= version(&created));
        let item = &list["items"][0];
        assert_kind(item, "PartialObjectMetadata");
        assert_eq!(item["metadata"], created["metadata"]);
        assert_eq!(item.as_object().unwrap().len(), 3, "{item}");
    }
}

async fn an_object_is_metadata_only(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({ "spec": { "text": "abc" } })).await;
    let object = get_as(&widgets, "/a", METADATA).await;
    assert_kind(&object, "PartialObjectMetadata");
    assert_eq!(object["metadata"], created["metadata"]);
    assert_eq!(object.get("spec"), None);
}

async fn events_of_a_watch_are_metadata_only(server: &Server) {
    for objects in server.both().await {
        let from = version(&objects.list("").await.ok());
        let path = format!("{}?watch=true&resourceVersion={from}", objects.path);
        let mut watch = server.watch(&path, &[("accept", METADATA)]).await;
        let created = objects.made("a", json!({})).await;
        objects.delete("a").await.ok();
        let added = watch.expect("ADDED", "a").await;
        assert_kind(&added, "PartialObjectMetadata");
        assert_eq!(added["metadata"], created["metadata"]);
        assert_eq!(added.as_object().unwrap().len(), 3, "{added}");
        let deleted = watch.expect("DELETED", "a").await;
        assert_kind(&deleted, "PartialObjectMetadata");
        assert!(version(&deleted) > version(&added));
    }
}

async fn bookmarks_take_the_form_of_the_events(server: &Server) {
    for objects in server.both().await {
        let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let path = format!("{}?watch=true&{initial}&labelSelector=none", objects.path);
        let bookmark = server.watch(&path, &[("accept", METADATA)]).await.expect("BOOKMARK", "").await;
        assert_kind(&bookmark, "PartialObjectMetadata");
        assert!(version(&bookmark) > 0);
        let bookmark = server.watch(&path, &[("accept", TABLE)]).await.expect("BOOKMARK", "").await;
        assert_kind(&bookmark, "Table");
        let object = &bookmark["rows"][0]["object"];
        assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    }
}

async fn other_forms_are_not_acceptable(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        for form in [
            "text/html",
            "application/json;as=Chart;v=v1;g=meta.k8s.io",
            "application/json;as=Table;v=v9;g=meta.k8s.io",
        ] {
            let answer = server.http(http::Method::GET, &objects.path_of("a"), &[("accept", form)], "").await;
            answer.refused(406, "NotAcceptable");
        }
    }
}

async fn the_first_acceptable_form_is_taken(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        for form in
            ["application/json;as=Chart;v=v1;g=meta.k8s.io, application/json", "text/html, */*", "*/*"]
        {
            assert_eq!(get_as(&objects, "/a", form).await, created, "{form}");
        }
    }
}
