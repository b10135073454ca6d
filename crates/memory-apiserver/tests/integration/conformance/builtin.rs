//! Built-in kinds: the whole life of an object of each, and special rules of some kinds.

use serde_json::{Value, json};

use super::answer::{text, version};
use super::collection::Collection;
use super::server::Server;

on_every_server![
    every_kind_lives_through_the_same_life,
    every_kind_generates_names,
    every_kind_is_held_by_finalizers,
    every_kind_refuses_unknown_fields_when_strict,
    every_kind_refuses_wrong_types,
    a_new_namespace_is_active,
    objects_of_a_dying_namespace_can_go_but_none_can_come,
    some_namespaces_are_always_there,
    secrets_are_written_as_text_and_kept_as_bytes,
    secrets_keep_their_type,
    bytes_of_config_maps_are_kept,
    keys_have_rules,
    leases_have_times_with_microseconds,
    leases_are_contended_by_version,
    a_pod_begins_pending,
    a_pod_is_validated,
    a_pod_keeps_most_of_its_spec,
    the_resources_of_a_pod_are_changed_by_its_subresource_resize,
    a_service_is_completed,
    claims_and_volumes_keep_what_they_ask_for,
    claims_and_volumes_have_a_status,
    nodes_have_a_status,
];

/// A minimal object of every kind, in a namespace of the test's own or in none.
async fn every_kind(server: &Server) -> Vec<(Collection, Value)> {
    let namespace = server.namespace().await;
    let inside = |api_version: &str, plural: &str, kind: &str| {
        server.in_namespace(&namespace, api_version, plural, kind)
    };
    let about = json!({ "kind": "Pod", "name": "p", "namespace": namespace });
    let resources = json!({ "requests": { "storage": "1Gi" } });
    let modes = json!(["ReadWriteOnce"]);
    vec![
        (inside("v1", "configmaps", "ConfigMap"), json!({ "data": { "a": "b" } })),
        (inside("v1", "secrets", "Secret"), json!({ "data": { "a": "Yg==" } })),
        (inside("v1", "serviceaccounts", "ServiceAccount"), json!({})),
        (inside("v1", "events", "Event"), json!({ "involvedObject": about })),
        (inside("coordination.k8s.io/v1", "leases", "Lease"), json!({ "spec": { "holderIdentity": "me" } })),
        (inside("v1", "pods", "Pod"), json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } })),
        (
            inside("v1", "services", "Service"),
            json!({ "spec": { "clusterIP": "None", "selector": { "a": "b" } } }),
        ),
        (
            inside("v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
            json!({ "spec": { "accessModes": modes, "resources": resources } }),
        ),
        (
            server.everywhere("v1", "persistentvolumes", "PersistentVolume"),
            json!({ "spec": {
                "accessModes": modes, "capacity": { "storage": "1Gi" }, "hostPath": { "path": "/x" },
            } }),
        ),
        (server.everywhere("v1", "nodes", "Node"), json!({})),
    ]
}

/// Deletes an object that a finalizer may protect.
async fn remove(objects: &Collection, name: &str) {
    objects.merge(name, json!({ "metadata": { "finalizers": null } })).await.ok();
    objects.delete(name).await.ok();
    objects.get(name).await.refused(404, "NotFound");
}

async fn every_kind_lives_through_the_same_life(server: &Server) {
    for (objects, object) in every_kind(server).await {
        // All tests share the names outside of namespaces.
        let name = &format!("life-{}", server.namespace().await);
        let mut watch = objects
            .watch(&format!("&fieldSelector=metadata.name={name}&resourceVersion={}", now(&objects).await))
            .await;
        let created = objects.made(name, object.clone()).await;
        for (field, value) in object.as_object().unwrap() {
            assert_contains(&created[field], value);
        }
        assert_eq!(objects.get(name).await.ok(), created);
        let list = objects.list(&format!("?fieldSelector=metadata.name={name}")).await.ok();
        assert_eq!(list["items"][0]["metadata"], created["metadata"]);
        let put = objects.put(name, created.clone()).await.ok();
        assert_eq!(put["spec"], created["spec"], "what was read can be written");
        let labelled = objects.merge(name, json!({ "metadata": { "labels": { "l": "x" } } })).await.ok();
        assert!(version(&labelled) > version(&created));
        let applied =
            super::apply::apply(&objects, "m", name, json!({ "metadata": { "labels": { "m": "y" } } }))
                .await
                .ok();
        assert_eq!(applied["metadata"]["labels"], json!({ "l": "x", "m": "y" }));
        remove(&objects, name).await;
        assert_eq!(watch.expect("ADDED", name).await, created);
        let mut changes = Vec::new();
        loop {
            match watch.next().await.expect("an event") {
                (event, object) if event == "MODIFIED" => changes.push(object),
                (event, _) => break assert_eq!(event, "DELETED"),
            }
        }
        assert!(changes.contains(&labelled) && changes.contains(&applied), "{changes:?}");
    }
}

async fn now(objects: &Collection) -> u64 {
    version(&objects.list("?limit=1").await.ok())
}

/// Asserts that a value has all parts of another. It may also have defaults.
#[track_caller]
fn assert_contains(value: &Value, part: &Value) {
    match part {
        Value::Object(fields) => fields.iter().for_each(|(field, part)| assert_contains(&value[field], part)),
        Value::Array(items) => {
            assert_eq!(value.as_array().map(Vec::len), Some(items.len()), "{value}");
            items.iter().enumerate().for_each(|(index, part)| assert_contains(&value[index], part));
        }
        scalar => assert_eq!(value, scalar),
    }
}

async fn every_kind_generates_names(server: &Server) {
    for (objects, mut object) in every_kind(server).await {
        object["metadata"]["generateName"] = json!("conformance-");
        let created = objects.create(object).await.created();
        let name = text(&created, "/metadata/name");
        assert_eq!(name.len(), "conformance-".len() + 5, "{name}");
        remove(&objects, name).await;
    }
}

async fn every_kind_is_held_by_finalizers(server: &Server) {
    for (objects, mut object) in every_kind(server).await {
        let name = &format!("held-{}", server.namespace().await);
        object["metadata"]["finalizers"] = json!(["example.com/hold"]);
        objects.made(name, object).await;
        let marked = objects.delete(name).await.ok();
        assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
        objects.merge(name, json!({ "metadata": { "finalizers": null } })).await.ok();
        objects.get(name).await.refused(404, "NotFound");
    }
}

async fn every_kind_refuses_unknown_fields_when_strict(server: &Server) {
    for (objects, mut object) in every_kind(server).await {
        object["unknown"] = json!(1);
        let answer = objects.create_with("?fieldValidation=Strict", objects.object("strict", object)).await;
        let status = answer.refused(400, "BadRequest");
        assert!(text(&status, "/message").contains(r#"unknown field "unknown""#), "{status}");
    }
}

async fn every_kind_refuses_wrong_types(server: &Server) {
    for (objects, object) in every_kind(server).await {
        for field in object.as_object().unwrap().keys() {
            let mut wrong = object.clone();
            wrong[field] = json!("text");
            objects.create(objects.object("wrong", wrong)).await.refused(400, "BadRequest");
        }
    }
}

async fn a_new_namespace_is_active(server: &Server) {
    let name = server.namespace().await;
    let namespaces = server.everywhere("v1", "namespaces", "Namespace");
    let namespace = namespaces.get(&name).await.ok();
    assert_eq!(namespace["status"]["phase"], "Active");
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], name);
    assert_eq!(namespaces.names(&format!("?labelSelector=kubernetes.io/metadata.name={name}")).await, [name]);
}

async fn objects_of_a_dying_namespace_can_go_but_none_can_come(server: &Server) {
    let name = server.namespace().await;
    let namespaces = server.everywhere("v1", "namespaces", "Namespace");
    server.widgets().await;
    let all = [
        server.in_namespace(&name, "v1", "configmaps", "ConfigMap"),
        server.in_namespace(&name, "conformance.test/v1", "widgets", "Widget"),
    ];
    for objects in &all {
        objects.made("held", json!({ "metadata": { "finalizers": ["example.com/hold"] } })).await;
    }
    let dying = namespaces.delete(&name).await.ok();
    assert_eq!((text(&dying, "/kind"), text(&dying, "/status/phase")), ("Namespace", "Terminating"));
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(namespaces.get(&name).await.ok()["status"]["phase"], "Terminating");
    for objects in &all {
        let status = objects.create(objects.object("new", json!({}))).await.refused(403, "Forbidden");
        let message =
            format!("unable to create new content in namespace {name} because it is being terminated");
        assert!(text(&status, "/message").ends_with(&message), "{status}");
        assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating");
        assert_eq!(status["details"]["causes"][0]["field"], "metadata.namespace");
        objects.merge("held", json!({ "metadata": { "labels": { "l": "x" } } })).await.ok();
    }
}

async fn some_namespaces_are_always_there(server: &Server) {
    let namespaces = server.everywhere("v1", "namespaces", "Namespace");
    for name in ["default", "kube-system"] {
        namespaces.get(name).await.ok();
        namespaces.delete(name).await.refused(403, "Forbidden");
    }
}

async fn secrets_are_written_as_text_and_kept_as_bytes(server: &Server) {
    let secrets = server.namespaced("v1", "secrets", "Secret").await;
    let secret = json!({ "stringData": { "a": "text", "b": "x" }, "data": { "b": "Yg==", "c": "AAE=" } });
    let created = secrets.made("s", secret).await;
    assert_eq!(created["data"], json!({ "a": "dGV4dA==", "b": "eA==", "c": "AAE=" }));
    assert_eq!((created.get("stringData"), text(&created, "/type")), (None, "Opaque"));
    let merged = secrets.merge("s", json!({ "stringData": { "d": "new" } })).await.ok();
    assert_eq!(merged["data"]["d"], "bmV3");
    assert_eq!(merged["data"].as_object().unwrap().len(), 4);
    let bad = secrets.object("bad", json!({ "data": { "a": "no base64!" } }));
    secrets.create(bad).await.refused(400, "BadRequest");
}

async fn secrets_keep_their_type(server: &Server) {
    let secrets = server.namespaced("v1", "secrets", "Secret").await;
    secrets.made("s", json!({ "type": "example.com/kind" })).await;
    assert_eq!(secrets.merge("s", json!({ "type": "other" })).await.invalid(), ["type: FieldValueInvalid"]);
}

async fn bytes_of_config_maps_are_kept(server: &Server) {
    let maps = server.config_maps().await;
    let created = maps.made("a", json!({ "data": { "text": "" }, "binaryData": { "bytes": "AAE=" } })).await;
    assert_eq!(
        (&created["data"], &created["binaryData"]),
        (&json!({ "text": "" }), &json!({ "bytes": "AAE=" }))
    );
    let bad = maps.object("b", json!({ "binaryData": { "bytes": "?" } }));
    maps.create(bad).await.refused(400, "BadRequest");
}

async fn keys_have_rules(server: &Server) {
    let maps = server.config_maps().await;
    let refused = maps.create(maps.object("a", json!({ "data": { "a key": "x" } }))).await;
    assert_eq!(refused.invalid(), ["data[a key]: FieldValueInvalid"]);
    maps.made("a", json!({ "data": { "A_key.with-all": "x" } })).await;
    let secrets = server.namespaced("v1", "secrets", "Secret").await;
    let refused = secrets.create(secrets.object("a", json!({ "stringData": { "a/key": "x" } }))).await;
    assert_eq!(refused.invalid(), ["data[a/key]: FieldValueInvalid"]);
}

async fn leases_have_times_with_microseconds(server: &Server) {
    let leases = server.namespaced("coordination.k8s.io/v1", "leases", "Lease").await;
    let spec = json!({
        "holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 0,
        "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.123456Z",
    });
    assert_eq!(leases.made("l", json!({ "spec": spec })).await["spec"], spec);
    let elsewhere = json!({ "spec": { "renewTime": "2026-01-01T02:00:00.000100+02:00" } });
    let merged = leases.merge("l", elsewhere).await.ok();
    assert_eq!(merged["spec"]["renewTime"], "2026-01-01T00:00:00.000100Z");
    let bad = leases.object("bad", json!({ "spec": { "renewTime": "now" } }));
    leases.create(bad).await.refused(400, "BadRequest");
    let bad = leases.object("bad", json!({ "spec": { "leaseDurationSeconds": 0 } }));
    assert_eq!(leases.create(bad).await.invalid(), ["spec.leaseDurationSeconds: FieldValueInvalid"]);
}

async fn leases_are_contended_by_version(server: &Server) {
    let leases = server.namespaced("coordination.k8s.io/v1", "leases", "Lease").await;
    let seen = leases.made("l", json!({ "spec": { "holderIdentity": "" } })).await;
    let claim = |by: &str| {
        let mut claim = seen.clone();
        claim["spec"]["holderIdentity"] = json!(by);
        claim
    };
    leases.put("l", claim("one")).await.ok();
    leases.put("l", claim("two")).await.refused(409, "Conflict");
    assert_eq!(leases.get("l").await.ok()["spec"]["holderIdentity"], "one");
}

async fn a_pod_begins_pending(server: &Server) {
    let pods = server.namespaced("v1", "pods", "Pod").await;
    let pod = pods.made("p", json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } })).await;
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(pod["spec"]["restartPolicy"], "Always");
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 30);
}

async fn a_pod_is_validated(server: &Server) {
    let pods = server.namespaced("v1", "pods", "Pod").await;
    let refused = async |spec: Value| pods.create(pods.object("p", json!({ "spec": spec }))).await.invalid();
    assert_eq!(refused(json!({})).await, ["spec.containers: FieldValueRequired"]);
    assert_eq!(
        refused(json!({ "containers": [{ "name": "c" }] })).await,
        ["spec.containers[0].image: FieldValueRequired"]
    );
    let nameless = json!({ "containers": [{ "image": "i" }] });
    assert_eq!(refused(nameless).await, ["spec.containers[0].name: FieldValueRequired"]);
}

async fn a_pod_keeps_most_of_its_spec(server: &Server) {
    let pods = server.namespaced("v1", "pods", "Pod").await;
    pods.made("p", json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } })).await;
    let refused = pods.merge("p", json!({ "spec": { "nodeName": "n" } })).await;
    assert_eq!(refused.invalid(), ["spec: FieldValueForbidden"]);
    let patch = json!({ "spec": { "containers": [{ "name": "c", "image": "j" }] } });
    let changed = pods.patch("p", super::collection::STRATEGIC_PATCH, &patch).await.ok();
    assert_eq!(changed["spec"]["containers"][0]["image"], "j");
}

async fn the_resources_of_a_pod_are_changed_by_its_subresource_resize(server: &Server) {
    let pods = server.namespaced("v1", "pods", "Pod").await;
    let resources = json!({ "requests": { "cpu": "1" }, "limits": { "cpu": "2" } });
    let container = |resources: Value| json!([{ "name": "c", "image": "i", "resources": resources }]);
    let created = pods.made("p", json!({ "spec": { "containers": container(resources.clone()) } })).await;
    let strategic = super::collection::STRATEGIC_PATCH;
    let patch = |resources: Value| {
        let container = json!([{ "name": "c", "image": "ignored", "resources": resources }]);
        json!({ "metadata": { "labels": { "ignored": "x" } }, "spec": { "nodeName": "n", "containers": container } })
    };
    let more = json!({ "requests": { "cpu": "1500m" } });
    let main = json!({ "spec": { "containers": [{ "name": "c", "resources": more }] } });
    assert_eq!(pods.patch("p", strategic, &main).await.invalid(), ["spec: FieldValueForbidden"]);

    let resized = pods.patch("p/resize", strategic, &patch(more)).await.ok();
    let mut expected = created["spec"].clone();
    expected["containers"][0]["resources"]["requests"]["cpu"] = json!("1500m");
    assert_eq!((&resized["spec"], &resized["status"]["phase"]), (&expected, &created["status"]["phase"]));
    assert_eq!(resized["metadata"].get("labels"), None);
    assert!(version(&resized) > version(&created));
    assert_eq!(pods.get("p/resize").await.ok(), pods.get("p").await.ok());

    let mut put = resized.clone();
    put["spec"]["containers"][0]["resources"] = resources;
    assert_eq!(pods.put("p/resize", put).await.ok()["spec"], created["spec"]);

    let refused = pods.patch("p/resize", strategic, &patch(json!({ "limits": { "cpu": null } }))).await;
    assert_eq!(refused.invalid(), ["spec.containers[0].resources.limits: FieldValueForbidden"]);
    let other = json!({ "metadata": { "uid": "of-another" } });
    let refused = pods.patch("p/resize", strategic, &other).await;
    assert!([409, 422].contains(&refused.code), "{refused:?}");
    pods.patch("q/resize", strategic, &patch(json!({}))).await.refused(404, "NotFound");
    let services = server.namespaced("v1", "services", "Service").await;
    services.patch("p/resize", strategic, &json!({})).await.refused(404, "NotFound");
}

async fn a_service_is_completed(server: &Server) {
    let services = server.namespaced("v1", "services", "Service").await;
    let service =
        services.made("s", json!({ "spec": { "clusterIP": "None", "ports": [{ "port": 80 }] } })).await;
    assert_eq!(service["spec"]["ports"], json!([{ "port": 80, "protocol": "TCP", "targetPort": 80 }]));
    assert_eq!(
        (text(&service, "/spec/type"), text(&service, "/spec/sessionAffinity")),
        ("ClusterIP", "None")
    );
    let two = json!({ "spec": { "clusterIP": "None", "ports": [{ "port": 80 }, { "port": 81 }] } });
    let causes = services.create(services.object("t", two)).await.invalid();
    assert_eq!(causes, ["spec.ports[0].name: FieldValueRequired", "spec.ports[1].name: FieldValueRequired"]);
}

async fn claims_and_volumes_keep_what_they_ask_for(server: &Server) {
    let claims = server.namespaced("v1", "persistentvolumeclaims", "PersistentVolumeClaim").await;
    let spec = json!({
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "storageClassName": "fast", "volumeName": "v",
        "resources": { "requests": { "storage": "1536Mi" } }, "selector": { "matchLabels": { "a": "b" } },
    });
    let created = claims.made("c", json!({ "spec": spec })).await;
    assert_contains(&created["spec"], &spec);
    assert_eq!(created["spec"]["volumeMode"], "Filesystem");
    let refused = claims.create(claims.object("d", json!({ "spec": {} }))).await;
    let causes = ["spec.accessModes: FieldValueRequired", "spec.resources[storage]: FieldValueRequired"];
    assert_eq!(refused.invalid(), causes);
}

async fn claims_and_volumes_have_a_status(server: &Server) {
    let kinds = every_kind(server).await;
    let of =
        |kind: &str| kinds.iter().find(|(objects, _)| objects.object("", json!({}))["kind"] == kind).unwrap();
    for (kind, phase) in [("PersistentVolumeClaim", "Bound"), ("PersistentVolume", "Available")] {
        let (objects, object) = of(kind);
        let name = &format!("status-{}", server.namespace().await);
        let created = objects.made(name, object.clone()).await;
        assert_eq!(created["status"]["phase"], "Pending");
        let written =
            objects.merge(&format!("{name}/status"), json!({ "status": { "phase": phase } })).await.ok();
        assert_eq!(written["status"]["phase"], phase);
        assert_eq!(written["spec"], created["spec"]);
        remove(objects, name).await;
    }
}

async fn nodes_have_a_status(server: &Server) {
    let nodes = server.everywhere("v1", "nodes", "Node");
    let name = &server.namespace().await;
    nodes.made(name, json!({ "metadata": { "labels": { "l": "x" } } })).await;
    let ready = json!({ "type": "Ready", "status": "True", "reason": "R" });
    let status = json!({ "status": { "conditions": [ready], "capacity": { "cpu": "4" } } });
    let written = nodes.merge(&format!("{name}/status"), status).await.ok();
    assert_contains(&written["status"]["conditions"][0], &ready);
    assert_eq!(written["status"]["capacity"], json!({ "cpu": "4" }));
    let changed = nodes.merge(name, json!({ "spec": { "unschedulable": true } })).await.ok();
    assert_eq!((&changed["spec"]["unschedulable"], &changed["status"]), (&json!(true), &written["status"]));
    nodes.delete(name).await.ok();
}
