//! JSON patches and merge patches, on a custom kind and on a built-in one.

use futures::future::join_all;
use serde_json::{Value, json};

use super::answer::{Answer, text, version};
use super::collection::{APPLY_PATCH, Collection, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH};
use super::server::Server;

on_every_server![
    json_patches_are_carried_out_in_order,
    json_patches_reach_into_lists,
    json_patches_name_keys_with_slashes_and_tildes,
    a_failed_test_refuses_the_whole_json_patch,
    json_patches_that_do_not_fit_are_refused,
    a_json_patch_can_insist_on_a_version,
    bodies_that_are_no_patches_are_bad_requests,
    merge_patches_add_replace_and_remove,
    merge_patches_replace_lists,
    nulls_in_a_merge_patch_are_not_kept,
    a_merge_patch_with_a_stale_version_is_a_conflict,
    merge_patches_without_a_version_never_conflict,
    patches_of_nothing_are_not_found,
    patches_do_not_move_an_object,
    patches_do_not_change_what_only_the_server_may_set,
    patched_objects_are_validated,
    patches_of_built_in_kinds_keep_their_types,
    patches_that_change_nothing_write_nothing,
    unknown_patch_types_are_unsupported,
    custom_kinds_have_no_strategic_merge,
];

async fn json_patch(objects: &Collection, name: &str, patch: Value) -> Answer {
    objects.patch(name, JSON_PATCH, &patch).await
}

async fn json_patches_are_carried_out_in_order(server: &Server) {
    let maps = server.config_maps().await;
    let created = maps.made("a", json!({ "data": { "kept": "k", "old": "o" } })).await;
    let patch = json!([
        { "op": "test", "path": "/data/old", "value": "o" },
        { "op": "add", "path": "/data/new", "value": "n" },
        { "op": "copy", "from": "/data/new", "path": "/data/copy" },
        { "op": "replace", "path": "/data/new", "value": "later" },
        { "op": "move", "from": "/data/old", "path": "/data/moved" },
        { "op": "remove", "path": "/data/kept" },
    ]);
    let patched = json_patch(&maps, "a", patch).await.ok();
    assert_eq!(patched["data"], json!({ "new": "later", "copy": "n", "moved": "o" }));
    assert!(version(&patched) > version(&created));
    assert_eq!(maps.get("a").await.ok(), patched);
}

async fn json_patches_reach_into_lists(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "ordered": ["a", "b", "c"] } })).await;
    let patch = json!([
        { "op": "add", "path": "/spec/ordered/-", "value": "last" },
        { "op": "add", "path": "/spec/ordered/0", "value": "first" },
        { "op": "remove", "path": "/spec/ordered/2" },
        { "op": "replace", "path": "/spec/ordered/1", "value": "A" },
    ]);
    let patched = json_patch(&widgets, "a", patch).await.ok();
    assert_eq!(patched["spec"]["ordered"], json!(["first", "A", "c", "last"]));
}

async fn json_patches_name_keys_with_slashes_and_tildes(server: &Server) {
    let maps = server.config_maps().await;
    maps.made("a", json!({ "metadata": { "annotations": { "example.com/x": "old" } } })).await;
    let patch = json!([{ "op": "replace", "path": "/metadata/annotations/example.com~1x", "value": "new" }]);
    let patched = json_patch(&maps, "a", patch).await.ok();
    assert_eq!(patched["metadata"]["annotations"], json!({ "example.com/x": "new" }));

    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "free": { "t~1/": 1 } } })).await;
    let patch = json!([{ "op": "remove", "path": "/spec/free/t~01~1" }]);
    assert_eq!(json_patch(&widgets, "a", patch).await.ok()["spec"]["free"], json!({}));
}

async fn a_failed_test_refuses_the_whole_json_patch(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({ "metadata": { "labels": { "a": "b" } } })).await;
        let patch = json!([
            { "op": "add", "path": "/metadata/labels/c", "value": "d" },
            { "op": "test", "path": "/metadata/labels/a", "value": "other" },
        ]);
        json_patch(&objects, "a", patch).await.refused(422, "Invalid");
        assert_eq!(objects.get("a").await.ok(), created);
    }
}

async fn json_patches_that_do_not_fit_are_refused(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "ordered": ["a"] } })).await;
    let misfits = [
        json!([{ "op": "remove", "path": "/spec/text" }]),
        json!([{ "op": "add", "path": "/spec/lazy/depth", "value": 1 }]),
        json!([{ "op": "add", "path": "/spec/ordered/7", "value": "b" }]),
        json!([{ "op": "move", "from": "/spec/text", "path": "/spec/maybe" }]),
        json!([{ "op": "test", "path": "/spec/text", "value": "x" }]),
        json!([{ "op": "unheard-of", "path": "/spec/text", "value": "x" }]),
    ];
    for patch in misfits {
        json_patch(&widgets, "a", patch).await.refused(422, "Invalid");
    }
}

async fn a_json_patch_can_insist_on_a_version(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({ "metadata": { "labels": { "a": "1" } } })).await;
        let claim = json!([
            { "op": "test", "path": "/metadata/resourceVersion", "value": created["metadata"]["resourceVersion"] },
            { "op": "replace", "path": "/metadata/labels/a", "value": "2" },
        ]);
        assert_eq!(json_patch(&objects, "a", claim.clone()).await.ok()["metadata"]["labels"]["a"], "2");
        json_patch(&objects, "a", claim).await.refused(422, "Invalid");
    }
}

async fn bodies_that_are_no_patches_are_bad_requests(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        for (media_type, body) in [
            (JSON_PATCH, "["),
            (JSON_PATCH, "{}"),
            (MERGE_PATCH, "{"),
            (MERGE_PATCH, "[]"),
            (MERGE_PATCH, "\"text\""),
        ] {
            let path = objects.path_of("a");
            let headers = [("content-type", media_type)];
            let answer = objects.server.http(http::Method::PATCH, &path, &headers, body).await;
            answer.refused(400, "BadRequest");
        }
    }
}

async fn merge_patches_add_replace_and_remove(server: &Server) {
    let maps = server.config_maps().await;
    maps.made("a", json!({ "data": { "kept": "k", "changed": "1", "gone": "g" } })).await;
    let patched = maps.merge("a", json!({ "data": { "changed": "2", "gone": null, "new": "n" } })).await.ok();
    assert_eq!(patched["data"], json!({ "kept": "k", "changed": "2", "new": "n" }));
    let patched = maps.merge("a", json!({ "data": null })).await.ok();
    assert_eq!(patched.get("data"), None);

    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "text": "a", "lazy": { "depth": 1 } } })).await;
    let patch = json!({ "spec": { "text": null, "lazy": { "depth": 2 }, "need": { "this": "x" } } });
    let patched = widgets.merge("a", patch).await.ok();
    assert_eq!(patched["spec"].get("text"), None);
    assert_eq!(patched["spec"]["lazy"], json!({ "depth": 2 }));
    assert_eq!(patched["spec"]["need"], json!({ "this": "x" }), "what was not there is made");
}

async fn merge_patches_replace_lists(server: &Server) {
    let widgets = server.widgets().await;
    let parts = json!([{ "name": "a", "size": 1 }, { "name": "b" }]);
    widgets.made("a", json!({ "spec": { "tags": ["a", "b"], "parts": parts } })).await;
    let patch = json!({ "spec": { "tags": ["c"], "parts": [{ "name": "a", "color": "red" }] } });
    let patched = widgets.merge("a", patch).await.ok();
    assert_eq!(patched["spec"]["tags"], json!(["c"]));
    assert_eq!(patched["spec"]["parts"], json!([{ "name": "a", "color": "red" }]));
}

async fn nulls_in_a_merge_patch_are_not_kept(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "free": { "x": 1 } } })).await;
    let patched =
        widgets.merge("a", json!({ "spec": { "free": { "x": { "y": null, "z": 2 }, "no": null } } })).await;
    assert_eq!(patched.ok()["spec"]["free"], json!({ "x": { "z": 2 } }));
}

async fn a_merge_patch_with_a_stale_version_is_a_conflict(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        let patch = |label: &str| {
            let version = &created["metadata"]["resourceVersion"];
            json!({ "metadata": { "resourceVersion": version, "labels": { "a": label } } })
        };
        objects.merge("a", patch("1")).await.ok();
        objects.merge("a", patch("2")).await.refused(409, "Conflict");
        assert_eq!(objects.get("a").await.ok()["metadata"]["labels"], json!({ "a": "1" }));
    }
}

async fn merge_patches_without_a_version_never_conflict(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        let label = |n: u32| (format!("l{n}"), n.to_string());
        let patches = (0..10).map(|n| {
            let (key, value) = label(n);
            objects.merge("a", json!({ "metadata": { "labels": { key: value } } }))
        });
        for answer in join_all(patches).await {
            answer.ok();
        }
        let all: serde_json::Map<_, _> = (0..10).map(label).map(|(key, value)| (key, json!(value))).collect();
        assert_eq!(objects.get("a").await.ok()["metadata"]["labels"], json!(all));
    }
}

async fn patches_of_nothing_are_not_found(server: &Server) {
    for objects in server.both().await {
        objects
            .merge("nothing", json!({ "metadata": { "labels": { "a": "b" } } }))
            .await
            .refused(404, "NotFound");
        json_patch(&objects, "nothing", json!([])).await.refused(404, "NotFound");
    }
}

async fn patches_do_not_move_an_object(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        objects.merge("a", json!({ "metadata": { "name": "b" } })).await.refused(400, "BadRequest");
        objects.merge("a", json!({ "metadata": { "namespace": "b" } })).await.refused(400, "BadRequest");
    }
}

async fn patches_do_not_change_what_only_the_server_may_set(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        let refused = objects.merge("a", json!({ "metadata": { "uid": "u" } })).await;
        assert!([409, 422].contains(&refused.code), "{refused:?}");
        let patch =
            json!({ "metadata": { "creationTimestamp": null, "selfLink": "x", "labels": { "a": "b" } } });
        let patched = objects.merge("a", patch).await.ok();
        for field in ["uid", "creationTimestamp"] {
            assert_eq!(patched["metadata"][field], created["metadata"][field], "{field}");
        }
        let dead = json!({ "metadata": { "deletionTimestamp": "2030-01-01T00:00:00Z" } });
        assert_eq!(
            objects.merge("a", dead).await.invalid(),
            ["metadata.deletionTimestamp: FieldValueInvalid"]
        );
    }
}

async fn patched_objects_are_validated(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({ "spec": { "number": 1 } })).await;
    let refused = widgets.merge("a", json!({ "spec": { "number": 11 } })).await;
    assert_eq!(refused.invalid(), ["spec.number: FieldValueInvalid"]);
    let patch = json!([{ "op": "replace", "path": "/spec/number", "value": "1" }]);
    assert_eq!(json_patch(&widgets, "a", patch).await.invalid(), ["spec.number: FieldValueTypeInvalid"]);
    assert_eq!(widgets.get("a").await.ok(), created);
}

async fn patches_of_built_in_kinds_keep_their_types(server: &Server) {
    let maps = server.config_maps().await;
    let created = maps.made("a", json!({ "data": { "a": "1" } })).await;
    for patch in
        [json!({ "data": { "a": 1 } }), json!({ "data": [] }), json!({ "metadata": { "labels": 3 } })]
    {
        maps.merge("a", patch).await.refused(422, "Invalid");
    }
    assert_eq!(maps.get("a").await.ok(), created);
}

async fn patches_that_change_nothing_write_nothing(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({ "metadata": { "labels": { "a": "b" } } })).await;
        let same = json!({ "metadata": { "labels": { "a": "b", "absent": null } } });
        assert_eq!(objects.merge("a", same).await.ok(), created);
        assert_eq!(json_patch(&objects, "a", json!([])).await.ok(), created);
        let same = json!([{ "op": "replace", "path": "/metadata/labels/a", "value": "b" }]);
        assert_eq!(json_patch(&objects, "a", same).await.ok(), created);
    }
}

async fn unknown_patch_types_are_unsupported(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        for media_type in ["application/json", "text/plain", "application/unheard-of"] {
            objects.patch("a", media_type, &json!({})).await.refused(415, "UnsupportedMediaType");
        }
    }
}

async fn custom_kinds_have_no_strategic_merge(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({})).await;
    let status = widgets.patch("a", STRATEGIC_PATCH, &json!({})).await.refused(415, "UnsupportedMediaType");
    for supported in [JSON_PATCH, MERGE_PATCH, APPLY_PATCH] {
        assert!(text(&status, "/message").contains(supported), "{status}");
    }
}
