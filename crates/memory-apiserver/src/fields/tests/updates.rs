//! Writes that are no apply.

use serde_json::{Value, json};

use super::super::{Endpoint, FieldSet, Origin, check_form, check_limits, track_scale, track_update};
use super::support::*;

#[test]
fn who_creates_owns_what_it_sets() {
    let object = created(
        "creator",
        json!({
            "replicas": 1, "set": ["x"], "list": ["y"], "labels": {"l": "1"}, "atomic": {"a": "b"}, "text": null,
            "ports": [{"port": 80, "protocol": "TCP"}], "free": {"a": {"b": [1]}}, "quantity": 5,
        }),
    );
    assert_eq!(
        entries(&object),
        [json!({
            "manager": "creator", "operation": "Update", "apiVersion": "example.com/v1", "time": time(1),
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {
                ".": {}, "f:replicas": {}, "f:list": {}, "f:atomic": {}, "f:text": {}, "f:quantity": {},
                "f:set": {".": {}, r#"v:"x""#: {}},
                "f:labels": {".": {}, "f:l": {}},
                "f:ports": {".": {}, r#"k:{"port":80,"protocol":"TCP"}"#: {".": {}, "f:port": {}, "f:protocol": {}}},
                "f:free": {".": {}, "f:a": {".": {}, "f:b": {}}},
            }},
        })]
    );
}

#[test]
fn metadata_is_owned_by_its_own_rules() {
    let mut object = widget(json!({}));
    object["metadata"] = json!({
        "name": "a", "generateName": "a-", "namespace": "ns", "labels": {"x": "y"}, "finalizers": ["a.b/c"],
        "resourceVersion": "1", "creationTimestamp": null, "generation": 1, "uid": "u",
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "u1"}],
    });
    track_update(&main(), &at(1, ""), None, &mut object);
    assert_eq!(
        *owned(&object, "unknown"),
        json!({"f:spec": {}, "f:metadata": {
            "f:generateName": {},
            "f:labels": {".": {}, "f:x": {}},
            "f:finalizers": {".": {}, r#"v:"a.b/c""#: {}},
            "f:ownerReferences": {".": {}, r#"k:{"uid":"u1"}"#: {}},
        }})
    );
}

#[test]
fn an_embedded_resource_has_metadata_too() {
    let embedded =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"finalizers": ["x"]}, "other": [1]});
    let object = created("m", json!({"embedded": embedded}));
    assert_eq!(
        owned(&object, "m")["f:spec"]["f:embedded"],
        json!({".": {}, "f:apiVersion": {}, "f:kind": {}, "f:other": {},
               "f:metadata": {".": {}, "f:finalizers": {".": {}, r#"v:"x""#: {}}}})
    );
}

#[test]
fn who_changes_a_field_takes_it_from_all_others() {
    let live = created("creator", json!({"replicas": 1, "ports": [{"port": 80, "name": "a"}], "text": "t"}));
    let ports = json!([{"port": 80, "name": "b"}, {"port": 9, "protocol": "UDP"}]);
    let object = patched(&main(), &at(2, "other"), &live, json!({"spec": {"replicas": 2, "ports": ports}}));
    assert_eq!(managers(&object), ["creator Update", "other Update"]);
    assert_eq!(
        *owned(&object, "creator"),
        json!({"f:spec": {
            ".": {}, "f:text": {},
            "f:ports": {".": {}, r#"k:{"port":80,"protocol":"TCP"}"#: {".": {}, "f:port": {}}},
        }})
    );
    assert_eq!(
        *owned(&object, "other"),
        json!({"f:spec": {"f:replicas": {}, "f:ports": {
            r#"k:{"port":80,"protocol":"TCP"}"#: {"f:name": {}},
            r#"k:{"port":9,"protocol":"UDP"}"#: {".": {}, "f:port": {}, "f:protocol": {}},
        }}})
    );
    assert_eq!([&entry(&object, "creator")["time"], &entry(&object, "other")["time"]], [&time(1), &time(2)]);
}

#[test]
fn who_only_removes_gains_nothing_and_no_time_changes() {
    let live = created("creator", json!({"replicas": 1, "text": "t"}));
    let object = patched(&main(), &at(2, "other"), &live, json!({"spec": {"text": null}}));
    assert_eq!(managers(&object), ["creator Update"]);
    assert_eq!(*owned(&object, "creator"), json!({"f:spec": {".": {}, "f:replicas": {}}}));
    let object = patched(&main(), &at(2, "creator"), &live, json!({"spec": {"text": null}}));
    assert_eq!(entry(&object, "creator")["time"], time(1));
    let gone = patched(&main(), &at(2, "other"), &live, json!({"spec": null}));
    assert_eq!(gone["metadata"].get("managedFields"), None);
}

#[test]
fn a_write_that_changes_nothing_changes_no_owner() {
    let live = created("creator", json!({"replicas": 1, "ports": [{"port": 80}]}));
    assert_eq!(patched(&main(), &at(2, "other"), &live, json!({"spec": {"replicas": 1}})), live);
}

#[test]
fn a_status_has_an_entry_of_its_own_and_what_else_is_written_there_counts_unless_it_is_reset() {
    let live = created("ctl", json!({"replicas": 1}));
    let patch = json!({
        "status": {"phase": "p"}, "spec": {"replicas": 9},
        "metadata": {"labels": {"q": "1"}, "managedFields": [{}]},
    });
    let object = patched(&status(), &at(2, "ctl"), &live, patch);
    assert_eq!(managers(&object), ["ctl Update", "ctl Update status"]);
    assert_eq!(
        entries(&object)[1]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {".": {}, "f:q": {}}}, "f:status": {".": {}, "f:phase": {}}})
    );
    assert_eq!(*owned(&object, "ctl"), *owned(&live, "ctl"));
    let object = patched(&main(), &at(2, "other"), &live, json!({"status": {"phase": "p"}}));
    assert_eq!(managers(&object), ["ctl Update"]);
}

#[test]
fn one_empty_entry_removes_all_owners_until_the_first_apply() {
    let live = created("creator", json!({"replicas": 1}));
    let reset = patched(&main(), &at(2, "other"), &live, json!({"metadata": {"managedFields": [{}]}}));
    assert_eq!(reset["metadata"], json!({"name": "a", "uid": "1"}));
    let object = patched(&main(), &at(3, "other"), &reset, json!({"spec": {"replicas": 2}}));
    assert_eq!(entries(&object), [] as [Value; 0]);
}

#[test]
fn an_empty_list_removes_the_owners_of_built_in_kinds_only() {
    let live = created("creator", json!({"replicas": 1}));
    let patch = json!({"metadata": {"managedFields": []}, "spec": {"text": "t"}});
    let object = patched(&main(), &at(2, "other"), &live, patch.clone());
    assert_eq!(managers(&object), ["creator Update", "other Update"]);
    let blank = json!({"metadata": {}});
    let built_in = Endpoint { origin: Origin::BuiltIn(&blank), ..main() };
    assert_eq!(entries(&patched(&built_in, &at(2, "other"), &live, patch)), [] as [Value; 0]);
}

#[test]
fn a_client_may_edit_the_owners_but_what_means_nothing_is_disregarded() {
    let live = created("creator", json!({"replicas": 1}));
    let with = |managed: Value| {
        let patch = json!({"metadata": {"managedFields": managed}, "spec": {"text": "t"}});
        managers(&patched(&main(), &at(2, "other"), &live, patch))
    };
    let entry = |change: Value| {
        let mut entry = json!({
            "manager": "m", "operation": "Update", "apiVersion": "example.com/v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {}},
        });
        json_patch::merge(&mut entry, &change);
        json!([entry])
    };
    assert_eq!(with(entry(json!({}))), ["m Update", "other Update"]);
    assert_eq!(with(entry(json!({"fieldsV1": null}))), ["other Update"]);
    let disregarded = [
        json!({"operation": "Create"}),
        json!({"fieldsType": null}),
        json!({"fieldsType": "FieldsV2"}),
        json!({"apiVersion": null}),
        json!({"fieldsV1": {"spec": {}}}),
        json!({"fieldsV1": {"f:spec": 5}}),
        json!({"fieldsV1": "x"}),
    ];
    for change in disregarded {
        assert_eq!(with(entry(change.clone())), ["creator Update", "other Update"], "{change}");
    }
    assert_eq!(with(Value::Null), ["creator Update", "other Update"]);
}

#[test]
fn edited_owners_are_written_in_their_usual_form() {
    let live = created("creator", json!({"replicas": 1}));
    let edited = |name: &str, time: Value, fields: Value| {
        json!({"manager": name, "operation": "Update", "apiVersion": "example.com/v1", "time": time,
               "fieldsType": "FieldsV1", "fieldsV1": fields})
    };
    let strange = json!({"f:spec": {"z:q": {}, "f:a": null, r#"k:{"b":1,"a":2}"#: {".": {}}, "i:3": {}}});
    let managed = json!([
        edited("m", json!("2020-01-01T02:00:00.5+02:00"), json!({"f:spec": {"f:a": {}}})),
        edited("m", json!("2020-01-01T02:00:00.5+02:00"), strange),
        edited("n", Value::Null, json!({"f:spec": {"f:a": {}}})),
    ]);
    let object = patched(&main(), &at(2, "other"), &live, json!({"metadata": {"managedFields": managed}}));
    assert_eq!(
        managers(&object),
        ["n Update", "m Update"],
        "the oldest first, those without a time before them"
    );
    assert_eq!(entry(&object, "m")["time"], "2020-01-01T00:00:00Z");
    assert_eq!(entry(&object, "n").get("time"), None);
    assert_eq!(*owned(&object, "m"), json!({"f:spec": {"f:a": {}, r#"k:{"a":2,"b":1}"#: {}, "i:3": {}}}));
}

#[test]
fn the_oldest_updates_are_folded_into_one_beyond_ten() {
    let mut object = created("m00", json!({"free": {"a0": 1}}));
    for number in 1..=11 {
        let (name, field) = (format!("m{number:02}"), format!("a{number}"));
        let second = 1 + number / 3;
        object = patched(&main(), &at(second, &name), &object, json!({"spec": {"free": {field: 1}}}));
    }
    let mut names: Vec<_> = (3..=11).map(|number| format!("m{number:02} Update")).collect();
    names.insert(0, "ancient-changes Update".to_owned());
    assert_eq!(managers(&object), names);
    assert_eq!(
        *owned(&object, "ancient-changes"),
        json!({"f:spec": {".": {}, "f:free": {".": {}, "f:a0": {}, "f:a1": {}, "f:a2": {}}}})
    );
    assert_eq!(entry(&object, "ancient-changes")["time"], time(1));
}

#[test]
fn who_creates_an_object_of_a_built_in_kind_does_not_own_what_its_type_always_has() {
    let schema = schema(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"containers": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {
                "name": {"type": "string"}, "resources": {"type": "object", "properties": {"requests": {}}},
            }},
        }}},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
    }}));
    let blank = json!({"metadata": {}, "spec": {"containers": null}, "status": {}});
    let reset = FieldSet::of(["status"]);
    let pods = Endpoint {
        schema: &schema,
        api_version: "v1",
        kind: "Pod",
        subresource: "",
        reset: &reset,
        origin: Origin::BuiltIn(&blank),
    };
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {},
        "spec": {"containers": [{"name": "c", "resources": {}}]},
    });
    track_update(&pods, &at(1, "m"), None, &mut pod);
    assert_eq!(
        *owned(&pod, "m"),
        json!({"f:spec": {"f:containers": {r#"k:{"name":"c"}"#: {".": {}, "f:name": {}, "f:resources": {}}}}})
    );
}

#[test]
fn the_scale_is_owned_separately_and_without_a_time() {
    let scale = Endpoint { subresource: "scale", ..main() };
    let scaled = |name, live: &Value, replicas: i64| {
        let mut object = live.clone();
        object["spec"]["replicas"] = json!(replicas);
        track_scale(&scale, &at(2, name), "spec.replicas", live, &mut object);
        object
    };
    let live = created("creator", json!({"replicas": 1, "text": "t"}));
    let object = scaled("hpa", &live, 2);
    assert_eq!(managers(&object), ["hpa Update scale", "creator Update"]);
    assert_eq!(entry(&object, "hpa").get("time"), None);
    assert_eq!(*owned(&object, "hpa"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(*owned(&object, "creator"), json!({"f:spec": {".": {}, "f:text": {}}}));
    assert_eq!(managers(&scaled("other", &object, 3)), ["other Update scale", "creator Update"]);
    assert_eq!(managers(&scaled("other", &object, 2)), ["hpa Update scale", "creator Update"]);
    let unowned = created("creator", json!({"text": "t"}));
    assert_eq!(managers(&scaled("hpa", &unowned, 2)), ["creator Update"]);
}

#[test]
fn what_a_new_schema_owns_as_a_whole_is_owned_by_all_who_owned_a_part() {
    let form = |atomic: &str, list: &str| {
        let map = json!({"type": "object", "x-kubernetes-map-type": atomic, "additionalProperties": {}});
        let set = json!({"type": "array", "x-kubernetes-list-type": list, "items": {"type": "string"}});
        schema(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "map": map, "set": set, "text": {"type": "string"},
        }}}}))
    };
    let (before, after) = (form("granular", "set"), form("atomic", "atomic"));
    let was = Endpoint { schema: &before, ..main() };
    let mut live = widget(json!({"map": {"a": "1"}, "set": ["p"]}));
    track_update(&was, &at(1, "one"), None, &mut live);
    let live = patched(&was, &at(2, "two"), &live, json!({"spec": {"map": {"b": "2"}}}));
    let is = Endpoint { schema: &after, ..main() };
    let object = patched(&is, &at(3, "three"), &live, json!({"spec": {"text": "t"}}));
    assert_eq!(*owned(&object, "one"), json!({"f:spec": {".": {}, "f:map": {}, "f:set": {}}}));
    assert_eq!(*owned(&object, "two"), json!({"f:spec": {"f:map": {}}}));
    let object = patched(&is, &at(3, "three"), &object, json!({"spec": {"map": {"b": "3"}}}));
    assert_eq!(managers(&object), ["one Update", "three Update"]);
}

#[test]
fn items_that_are_not_told_apart_are_owned_together() {
    let one = json!({"name": "E", "value": "1"});
    let two = json!({"name": "E", "value": "2"});
    let key = r#"k:{"name":"E"}"#;
    let twice = created("creator", json!({"env": [one, two]}));
    assert_eq!(owned(&twice, "creator")["f:spec"]["f:env"], json!({".": {}, key: {}}));
    let changed = patched(&main(), &at(2, "other"), &twice, json!({"spec": {"env": [two, one]}}));
    assert_eq!(owned(&changed, "other")["f:spec"]["f:env"], json!({key: {}}));
    let single = patched(&main(), &at(2, "other"), &twice, json!({"spec": {"env": [two]}}));
    assert_eq!(
        owned(&single, "other")["f:spec"]["f:env"],
        json!({key: {".": {}, "f:name": {}, "f:value": {}}})
    );
    let again = patched(&main(), &at(3, "third"), &single, json!({"spec": {"env": [two, two]}}));
    assert_eq!(owned(&again, "third")["f:spec"]["f:env"], json!({key: {}}));
    assert_eq!(managers(&again), ["creator Update", "third Update"]);
}

#[test]
fn an_object_whose_items_have_no_keys_is_left_without_owners() {
    let live = created("creator", json!({"replicas": 1}));
    let object = patched(&main(), &at(2, "other"), &live, json!({"spec": {"env": [{"value": "v"}]}}));
    assert_eq!(entries(&object), [] as [Value; 0]);
}

#[test]
fn a_list_of_owners_that_is_none_is_refused_in_the_words_of_the_real_server() {
    let problem = |managed: Value| check_form(&json!({"metadata": {"managedFields": managed}})).err();
    assert_eq!(problem(json!([{}, null, {"time": "2020-01-01T00:00:00Z", "operation": "Nonsense"}])), None);
    assert_eq!(check_form(&json!({"metadata": {}})), Ok(()));
    let go = |value, field, kind| {
        Some(format!("json: cannot unmarshal {value} into Go struct field {field} of type {kind}"))
    };
    assert_eq!(problem(json!("x")), go("string", "ObjectMeta.managedFields", "[]v1.ManagedFieldsEntry"));
    assert_eq!(problem(json!(["x"])), go("string", "ObjectMeta.managedFields", "v1.ManagedFieldsEntry"));
    assert_eq!(
        problem(json!([{"manager": 5}])),
        go("number", "ManagedFieldsEntry.managedFields.manager", "string")
    );
    assert!(problem(json!([{"time": "x"}])).unwrap().starts_with(r#"parsing time "x""#));
}

#[test]
fn names_in_the_list_of_owners_are_bounded() {
    let entry = json!({"manager": "m".repeat(129), "subresource": "s".repeat(257)});
    let errors = check_limits(&json!({"metadata": {"managedFields": [{}, entry]}}));
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "metadata.managedFields[1].manager: Too long: may not be more than 128 bytes",
            "metadata.managedFields[1].subresource: Too long: may not be more than 256 bytes",
        ]
    );
}
