//! Create, read, replace: the answers, the fields that the server sets, and conflicts of versions.

use serde_json::{Value, json};

use super::answer::{text, version};
use super::collection::Collection;
use super::server::Server;

on_every_server![
    a_created_object_is_answered_with_what_the_server_adds,
    what_only_the_server_may_set_is_overwritten_on_create,
    a_generated_name_has_five_characters_more,
    a_name_is_preferred_to_a_generated_one,
    a_long_prefix_of_a_generated_name_is_cut,
    an_object_is_read_as_it_was_answered_when_written,
    a_replaced_object_has_only_what_was_sent,
    the_generation_counts_changes_of_all_but_metadata_and_status,
    built_in_kinds_without_a_spec_have_no_generation,
    replacing_keeps_what_only_the_server_may_set,
    replacing_by_the_same_writes_nothing,
    versions_rise_over_all_kinds,
    a_stale_version_is_a_conflict,
    a_built_in_object_may_be_replaced_without_a_version,
    a_custom_object_is_replaced_only_with_a_version,
    another_uid_is_a_conflict,
    a_deleted_and_recreated_object_is_another,
    kind_and_version_of_the_path_suffice_for_built_in_objects,
    objects_of_a_namespace_are_in_no_other,
    values_that_are_kept_come_back_as_they_were,
    changing_a_field_below_a_preserved_one_is_a_new_generation,
];

/// A small object of each of two kinds, one built in and one custom.
async fn both(server: &Server) -> [(Collection, Value, Value); 2] {
    let maps = server.config_maps().await;
    let widgets = server.widgets().await;
    [
        (maps, json!({ "data": { "a": "1" } }), json!({ "data": { "b": "2" } })),
        (widgets, json!({ "spec": { "text": "one" } }), json!({ "spec": { "flag": true } })),
    ]
}

async fn a_created_object_is_answered_with_what_the_server_adds(server: &Server) {
    for (objects, small, _) in both(server).await {
        let created = objects.made("a", small.clone()).await;
        assert_eq!(text(&created, "/metadata/name"), "a");
        assert!(objects.path.contains(&format!("/{}/", text(&created, "/metadata/namespace"))));
        let sent = objects.object("", json!({}));
        assert_eq!([&created["apiVersion"], &created["kind"]], [&sent["apiVersion"], &sent["kind"]]);
        assert!(uuid_form(text(&created, "/metadata/uid")), "{created}");
        assert!(version(&created) > 0);
        let time = text(&created, "/metadata/creationTimestamp");
        assert!(time.len() == "2026-01-01T00:00:00Z".len() && time.ends_with('Z'), "{time}");
        time.parse::<jiff::Timestamp>().unwrap();
        assert_eq!(created["metadata"].get("selfLink"), None);
        assert_eq!(created["metadata"].get("deletionTimestamp"), None);
    }
}

fn uuid_form(text: &str) -> bool {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

async fn what_only_the_server_may_set_is_overwritten_on_create(server: &Server) {
    for (objects, mut object, _) in both(server).await {
        let (old, uid) = ("2001-01-01T00:00:00Z", "00000000-0000-0000-0000-000000000000");
        object["metadata"] = json!({
            "uid": uid, "creationTimestamp": old, "deletionTimestamp": old, "deletionGracePeriodSeconds": 5,
        });
        let created = objects.made("a", object).await;
        assert_ne!(created["metadata"]["uid"], uid);
        assert_ne!(created["metadata"]["creationTimestamp"], old);
        assert_eq!(created["metadata"].get("deletionTimestamp"), None);
        assert_eq!(created["metadata"].get("deletionGracePeriodSeconds"), None);
    }
    let widget = server.widgets().await.made("a", json!({ "metadata": { "generation": 7 } })).await;
    assert_eq!(widget["metadata"]["generation"], 1);
}

async fn a_generated_name_has_five_characters_more(server: &Server) {
    for (objects, mut object, _) in both(server).await {
        object["metadata"] = json!({ "generateName": "made-" });
        let [first, second] =
            [objects.create(object.clone()).await.created(), objects.create(object).await.created()];
        let suffix = text(&first, "/metadata/name").strip_prefix("made-").unwrap();
        assert_eq!(suffix.len(), 5);
        assert!(suffix.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase()), "{suffix}");
        assert_eq!(first["metadata"]["generateName"], "made-");
        assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);
    }
}

async fn a_name_is_preferred_to_a_generated_one(server: &Server) {
    let created =
        server.config_maps().await.made("given", json!({ "metadata": { "generateName": "made-" } })).await;
    assert_eq!(created["metadata"]["name"], "given");
}

async fn a_long_prefix_of_a_generated_name_is_cut(server: &Server) {
    let object = json!({ "metadata": { "generateName": "x".repeat(70) } });
    let created = server.config_maps().await.create(object).await.created();
    let name = text(&created, "/metadata/name");
    assert!(name.len() == 63 && name.starts_with(&"x".repeat(58)), "{name}");
}

async fn an_object_is_read_as_it_was_answered_when_written(server: &Server) {
    for (objects, small, other) in both(server).await {
        let created = objects.made("a", small).await;
        assert_eq!(objects.get("a").await.ok(), created);
        let merged = objects.merge("a", other).await.ok();
        assert_eq!(objects.get("a").await.ok(), merged);
        let mut listed = objects.list("").await.ok()["items"][0].clone();
        for field in ["apiVersion", "kind"] {
            // Items of built-in kinds have neither kind nor version.
            listed[field] = merged[field].clone();
        }
        assert_eq!(listed, merged);
    }
}

async fn a_replaced_object_has_only_what_was_sent(server: &Server) {
    for (objects, mut small, mut other) in both(server).await {
        small["metadata"] = json!({ "labels": { "a": "1" }, "annotations": { "a": "1" } });
        let created = objects.made("a", small.clone()).await;
        other["metadata"] = json!({ "name": "a", "resourceVersion": created["metadata"]["resourceVersion"] });
        let replaced = objects.put("a", other.clone()).await.ok();
        assert!(version(&replaced) > version(&created));
        assert_eq!(replaced["metadata"].get("labels"), None);
        assert_eq!(replaced["metadata"].get("annotations"), None);
        assert_eq!(replaced.get("data"), other.get("data"));
        assert_eq!(replaced["spec"].get("text"), None);
        assert_eq!(objects.get("a").await.ok(), replaced);
    }
}

async fn the_generation_counts_changes_of_all_but_metadata_and_status(server: &Server) {
    let widgets = server.widgets().await;
    let generation = async |answer: super::answer::Answer| answer.ok()["metadata"]["generation"].clone();
    assert_eq!(widgets.made("a", json!({ "spec": {} })).await["metadata"]["generation"], 1);
    assert_eq!(generation(widgets.merge("a", json!({ "spec": { "flag": true } })).await).await, 2);
    assert_eq!(
        generation(widgets.merge("a", json!({ "metadata": { "labels": { "a": "b" } } })).await).await,
        2
    );
    assert_eq!(
        generation(widgets.merge("a/status", json!({ "status": { "phase": "Used" } })).await).await,
        2
    );
    assert_eq!(generation(widgets.merge("a", json!({ "metadata": { "generation": 9 } })).await).await, 2);
    assert_eq!(generation(widgets.merge("a", json!({ "spec": { "flag": null } })).await).await, 3);
}

async fn built_in_kinds_without_a_spec_have_no_generation(server: &Server) {
    let maps = server.config_maps().await;
    let created = maps.made("a", json!({ "data": { "a": "1" } })).await;
    let changed = maps.merge("a", json!({ "data": { "a": "2" } })).await.ok();
    for object in [created, changed] {
        assert_eq!(object["metadata"].get("generation"), None);
    }
}

async fn replacing_keeps_what_only_the_server_may_set(server: &Server) {
    for (objects, small, mut other) in both(server).await {
        let created = objects.made("a", small).await;
        other["metadata"] = json!({
            "name": "a", "resourceVersion": created["metadata"]["resourceVersion"],
            "creationTimestamp": "2001-01-01T00:00:00Z",
        });
        let replaced = objects.put("a", other).await.ok();
        for field in ["uid", "creationTimestamp", "namespace"] {
            assert_eq!(replaced["metadata"][field], created["metadata"][field], "{field}");
        }
    }
}

async fn replacing_by_the_same_writes_nothing(server: &Server) {
    for (objects, small, _) in both(server).await {
        let created = objects.made("a", small).await;
        assert_eq!(objects.put("a", created.clone()).await.ok(), created);
        assert_eq!(objects.merge("a", json!({})).await.ok(), created);
        assert_eq!(objects.get("a").await.ok(), created);
    }
}

async fn versions_rise_over_all_kinds(server: &Server) {
    let [(maps, map, map_change), (widgets, widget, _)] = both(server).await;
    let written = [
        maps.made("a", map).await,
        widgets.made("a", widget).await,
        maps.merge("a", map_change).await.ok(),
        widgets.merge("a/status", json!({ "status": { "phase": "Fresh" } })).await.ok(),
    ];
    assert!(written.is_sorted_by_key(version), "{written:?}");
    assert!(
        version(&maps.list("").await.ok()) >= version(&written[3]),
        "a list has the version of the whole"
    );
}

async fn a_stale_version_is_a_conflict(server: &Server) {
    for (objects, small, other) in both(server).await {
        let stale = objects.made("a", small).await;
        let newer = objects.merge("a", other).await.ok();
        let status = objects.put("a", stale).await.refused(409, "Conflict");
        assert_eq!(status["details"]["name"], "a");
        let kind = objects.path.rsplit('/').next().unwrap();
        assert_eq!(status["details"]["kind"], kind);
        assert!(text(&status, "/message").starts_with("Operation cannot be fulfilled on "), "{status}");
        assert!(text(&status, "/message").contains("the object has been modified"), "{status}");
        assert_eq!(objects.get("a").await.ok(), newer);
    }
}

async fn a_built_in_object_may_be_replaced_without_a_version(server: &Server) {
    let maps = server.config_maps().await;
    maps.made("a", json!({ "data": { "a": "1" } })).await;
    let replaced = maps.put("a", maps.object("a", json!({ "data": { "b": "2" } }))).await.ok();
    assert_eq!(replaced["data"], json!({ "b": "2" }));
}

async fn a_custom_object_is_replaced_only_with_a_version(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({})).await;
    let refused = widgets.put("a", widgets.object("a", json!({}))).await;
    assert_eq!(refused.invalid(), ["metadata.resourceVersion: FieldValueInvalid"]);
}

async fn another_uid_is_a_conflict(server: &Server) {
    for (objects, small, _) in both(server).await {
        let mut object = objects.made("a", small).await;
        object["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
        objects.put("a", object).await.refused(409, "Conflict");
    }
}

async fn a_deleted_and_recreated_object_is_another(server: &Server) {
    for (objects, small, _) in both(server).await {
        let first = objects.made("a", small.clone()).await;
        objects.delete("a").await.ok();
        let second = objects.made("a", small).await;
        assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
        objects.put("a", first).await.refused(409, "Conflict");
    }
}

async fn kind_and_version_of_the_path_suffice_for_built_in_objects(server: &Server) {
    let maps = server.config_maps().await;
    let bare = json!({ "metadata": { "name": "a" } });
    let created = maps.send(http::Method::POST, "", "application/json", &bare).await.created();
    assert_eq!((text(&created, "/apiVersion"), text(&created, "/kind")), ("v1", "ConfigMap"));
}

async fn objects_of_a_namespace_are_in_no_other(server: &Server) {
    let (here, there) = (server.config_maps().await, server.config_maps().await);
    here.made("a", json!({})).await;
    there.get("a").await.refused(404, "NotFound");
    assert!(!there.names("").await.contains(&"a".to_owned()));
    there.made("a", json!({})).await;
    there.delete("a").await.ok();
    here.get("a").await.ok();
}

async fn values_that_are_kept_come_back_as_they_were(server: &Server) {
    let widgets = server.widgets().await;
    let text = "ä\u{1F600}\u{1}\"\\\n</script>&";
    let odd = json!([1.5, 9_007_199_254_740_993_i64, -1, null, {}, [], "", text, { "a": null }]);
    let created = widgets.made("a", json!({ "spec": { "opaque": odd, "free": { "A.b/c ~1": [] } } })).await;
    assert_eq!(created["spec"]["opaque"], odd);
    assert_eq!(widgets.get("a").await.ok()["spec"]["free"], json!({ "A.b/c ~1": [] }));
}

async fn changing_a_field_below_a_preserved_one_is_a_new_generation(server: &Server) {
    let machines = server.machines().await;
    let created =
        machines.made("a", json!({ "spec": { "paused": false, "template": { "spec": { "x": 1 } } } })).await;
    assert_eq!(created["metadata"]["generation"], 1);
    let changed = machines.merge("a", json!({ "spec": { "template": { "spec": { "x": 2 } } } })).await.ok();
    assert_eq!(changed["metadata"]["generation"], 2);
    assert_eq!(changed["spec"], json!({ "paused": false, "template": { "spec": { "x": 2 } } }));
}
