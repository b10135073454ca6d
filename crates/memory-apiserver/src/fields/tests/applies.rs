//! Server-side apply.

use serde_json::{Value, json};

use super::super::{apply, keep_times_of_no_op};
use super::support::*;
use crate::error::ApiError;

/// Applies to an endpoint's object without force.
fn applied(second: i64, name: &str, live: Option<&Value>, spec: Value) -> Result<Value, ApiError> {
    apply(&main(), &at(second, name), live, &widget(spec), false)
}

fn forced(second: i64, name: &str, live: &Value, spec: Value) -> Value {
    apply(&main(), &at(second, name), Some(live), &widget(spec), true).unwrap()
}

#[test]
fn an_apply_creates_what_is_not_there_and_owns_what_it_says() {
    let object = applied(
        1,
        "one",
        None,
        json!({"replicas": 1, "labels": {"a": "1"}, "set": ["x"], "ports": [{"port": 80}], "free": {"a": {}}, "list": []}),
    );
    let object = object.unwrap();
    assert_eq!(object["spec"]["ports"], json!([{"port": 80}]));
    assert_eq!(
        entries(&object),
        [json!({
            "manager": "one", "operation": "Apply", "apiVersion": "example.com/v1", "time": time(1),
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {
                "f:replicas": {}, "f:labels": {"f:a": {}}, "f:set": {r#"v:"x""#: {}}, "f:list": {},
                "f:free": {"f:a": {}},
                "f:ports": {r#"k:{"port":80,"protocol":"TCP"}"#: {".": {}, "f:port": {}}},
            }},
        })]
    );
}

#[test]
fn to_apply_again_changes_nothing_and_leaves_the_time() {
    let live = applied(1, "one", None, json!({"replicas": 1, "ports": [{"port": 80}]})).unwrap();
    assert_eq!(applied(2, "one", Some(&live), live["spec"].clone()).unwrap(), live);
}

#[test]
fn the_same_value_is_owned_by_all_who_apply_it_and_who_joins_so_has_no_time() {
    let live = created("creator", json!({"replicas": 1}));
    let object = applied(2, "one", Some(&live), json!({"replicas": 1})).unwrap();
    assert_eq!(managers(&object), ["one Apply", "creator Update"]);
    assert_eq!(*owned(&object, "one"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(entry(&object, "one").get("time"), None);
    assert_eq!(*owned(&object, "creator"), json!({"f:spec": {".": {}, "f:replicas": {}}}));
    assert_eq!(object["spec"], live["spec"]);
}

#[test]
fn another_value_than_that_of_another_manager_is_a_conflict() {
    let live = created("creator", json!({"replicas": 1, "labels": {"l": "1"}}));
    let error = applied(2, "one", Some(&live), json!({"replicas": 2})).unwrap_err();
    assert_eq!(
        error.status(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Conflict", "code": 409,
            "message": "Apply failed with 1 conflict: conflict with \"creator\" using example.com/v1: .spec.replicas",
            "details": {"causes": [{
                "reason": "FieldManagerConflict", "message": "conflict with \"creator\" using example.com/v1",
                "field": ".spec.replicas",
            }]},
        })
    );
    let error = applied(2, "one", Some(&live), json!({"replicas": 2, "labels": {"l": "2"}})).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"creator\" using example.com/v1:\n- .spec.replicas\n\
         - .spec.labels.l"
    );
}

#[test]
fn a_conflict_names_subresource_and_who_applied() {
    let live = created("creator", json!({"ports": [{"port": 80, "name": "a"}]}));
    let live = patched(&status(), &at(1, "ctl"), &live, json!({"status": {"phase": "p"}}));
    let live = applied(2, "one", Some(&live), json!({"text": "t"})).unwrap();
    let mut object = widget(json!({"text": "u", "ports": [{"port": 80, "name": "b"}]}));
    let error = apply(&main(), &at(3, "two"), Some(&live), &object, false).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"creator\" using example.com/v1:\n\
         - .spec.ports[port=80,protocol=\"TCP\"].name\nconflicts with \"one\":\n- .spec.text"
    );
    object["spec"] = json!({});
    object["status"] = json!({"phase": "q"});
    let error = apply(&status(), &at(3, "two"), Some(&live), &object, false).unwrap_err();
    assert_eq!(
        error.details.causes[0].message,
        "conflict with \"ctl\" with subresource \"status\" using example.com/v1"
    );
}

#[test]
fn force_takes_the_field_from_its_owner() {
    let live = created("creator", json!({"replicas": 1, "text": "t"}));
    let object = forced(2, "one", &live, json!({"replicas": 2}));
    assert_eq!(object["spec"], json!({"replicas": 2, "text": "t"}));
    assert_eq!(*owned(&object, "creator"), json!({"f:spec": {".": {}, "f:text": {}}}));
    assert_eq!(entry(&object, "one")["time"], time(2));
}

#[test]
fn what_is_left_out_goes_if_nobody_else_owns_it() {
    let live = applied(
        1,
        "one",
        None,
        json!({"replicas": 1, "text": "t", "labels": {"a": "1", "b": "2"}, "set": ["x", "y"],
               "ports": [{"port": 80, "name": "n"}, {"port": 9}]}),
    );
    let live = applied(1, "two", Some(&live.unwrap()), json!({"text": "t", "labels": {"b": "2"}})).unwrap();
    let object = applied(2, "one", Some(&live), json!({"set": ["y"], "ports": [{"port": 80}]})).unwrap();
    assert_eq!(
        object["spec"],
        json!({"text": "t", "labels": {"b": "2"}, "set": ["y"], "ports": [{"port": 80}]})
    );
    assert_eq!(*owned(&object, "two"), json!({"f:spec": {"f:text": {}, "f:labels": {"f:b": {}}}}));
    let object = applied(3, "one", Some(&object), json!({})).unwrap();
    assert_eq!(object["spec"], json!({"text": "t", "labels": {"b": "2"}}));
}

#[test]
fn an_item_that_is_left_out_goes_with_what_others_have_updated_in_it() {
    let live = applied(1, "one", None, json!({"ports": [{"port": 80}, {"port": 9}]})).unwrap();
    let ports = json!([{"port": 80, "protocol": "TCP", "name": "n"}, {"port": 9}]);
    let live = patched(&main(), &at(2, "up"), &live, json!({"spec": {"ports": ports}}));
    let object = applied(3, "one", Some(&live), json!({"ports": [{"port": 9}]})).unwrap();
    assert_eq!(object["spec"], json!({"ports": [{"port": 9}]}));
    assert_eq!(managers(&object), ["one Apply"]);
}

#[test]
fn what_is_left_empty_though_somebody_has_a_part_in_it_becomes_null() {
    let live = applied(1, "one", None, json!({"labels": {"a": "1"}, "ports": [{"port": 80}]})).unwrap();
    let ports = json!([{"port": 80, "protocol": "TCP", "name": "n"}]);
    let live = patched(&main(), &at(2, "up"), &live, json!({"spec": {"ports": ports}}));
    let object = applied(3, "one", Some(&live), json!({"labels": {}})).unwrap();
    assert_eq!(object["spec"], json!({"labels": null, "ports": null}));
}

#[test]
fn items_are_merged_by_key_in_the_order_in_which_they_are_applied() {
    let env = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Value>();
    let names = |object: &Value| -> String {
        object["spec"]["env"].as_array().unwrap().iter().filter_map(|item| item["name"].as_str()).collect()
    };
    let merged = |live: &[&str], over: &[&str]| {
        let live = created("m", json!({"env": env(live)}));
        names(&forced(2, "one", &live, json!({"env": env(over)})))
    };
    assert_eq!(merged(&["a", "b", "c"], &["c", "a"]), "bca");
    assert_eq!(merged(&["a", "b", "c"], &["x", "b"]), "axbc");
    assert_eq!(merged(&["a", "b", "c", "d"], &["b", "n", "d"]), "abcnd");
    assert_eq!(merged(&["a"], &["b", "c"]), "abc");
    assert_eq!(merged(&["a", "a", "b"], &["a", "x"]), "axb");
    let live = created("m", json!({"env": [{"name": "a", "value": "1"}], "set": ["p", "q"]}));
    let object = applied(2, "one", Some(&live), json!({"env": env(&["b", "a"]), "set": ["q", "r"]})).unwrap();
    assert_eq!(
        object["spec"],
        json!({"env": [{"name": "b"}, {"name": "a", "value": "1"}], "set": ["p", "q", "r"]})
    );
}

#[test]
fn what_is_owned_as_a_whole_is_replaced_as_a_whole() {
    let live = created(
        "m",
        json!({"atomic": {"a": "1", "b": "2"}, "list": ["x"], "free": {"l": [{"a": 1}], "s": 1}}),
    );
    let spec = json!({"atomic": {"a": "3"}, "list": ["y"], "free": {"l": [{"b": 2}], "s": {"t": 1}}});
    let conflicts: Vec<_> = applied(2, "one", Some(&live), spec.clone()).unwrap_err().details.causes;
    let fields: Vec<_> = conflicts.iter().map(|cause| cause.field.as_str()).collect();
    assert_eq!(fields, [".spec.atomic", ".spec.list", ".spec.free.l", ".spec.free.s"]);
    assert_eq!(forced(2, "one", &live, spec.clone())["spec"], spec);
}

#[test]
fn what_there_was_before_the_first_apply_gets_an_owner() {
    let live = created("creator", json!({"replicas": 1, "text": "t"}));
    let live = patched(&main(), &at(2, "m"), &live, json!({"metadata": {"managedFields": [{}]}}));
    let object = applied(3, "one", Some(&live), json!({"flag": true})).unwrap();
    assert_eq!(managers(&object), ["one Apply", "before-first-apply Update"]);
    assert_eq!(
        *owned(&object, "before-first-apply"),
        json!({"f:spec": {".": {}, "f:replicas": {}, "f:text": {}}})
    );
    let error = applied(3, "one", Some(&live), json!({"replicas": 2})).unwrap_err();
    assert_eq!(error.details.causes[0].message, "conflict with \"before-first-apply\" using example.com/v1");
}

#[test]
fn an_apply_of_another_kind_or_with_owners_of_its_own_is_refused() {
    let refusal = |change: Value| {
        let mut object = widget(json!({}));
        json_patch::merge(&mut object, &change);
        let error = apply(&main(), &at(1, "one"), None, &object, false).unwrap_err();
        assert_eq!((error.code, error.reason), (400, "BadRequest"));
        error.message
    };
    assert_eq!(refusal(json!({"kind": "Foo"})), "invalid object type: example.com/v1, Kind=Foo");
    assert_eq!(refusal(json!({"apiVersion": "v2"})), "invalid object type: /v2, Kind=Widget");
    assert_eq!(refusal(json!({"apiVersion": null})), "invalid object type: /, Kind=Widget");
    assert_eq!(refusal(json!({"metadata": {"managedFields": []}})), "metadata.managedFields must be nil");
    let mut object = widget(json!({}));
    object["metadata"]["managedFields"] = Value::Null;
    object.as_object_mut().unwrap().remove("spec");
    let object = apply(&main(), &at(1, "one"), None, &object, false).unwrap();
    assert_eq!(object["metadata"], json!({"name": "a"}), "null counts as absent, and nothing is owned");
}

#[test]
fn an_apply_that_is_not_of_the_types_of_the_schema_fails_as_in_the_real_server() {
    let failure = |spec: Value| {
        let error = applied(1, "one", None, spec).unwrap_err();
        let status = error.status();
        assert_eq!((error.code, status.get("reason")), (500, None));
        let start = "failed to create typed patch object (/a; example.com/v1, Kind=Widget): ";
        error.message.strip_prefix(start).unwrap_or(&error.message).to_owned()
    };
    assert_eq!(failure(json!({"nope": 1})), ".spec.nope: field not declared in schema");
    assert_eq!(
        failure(json!({"text": 1})),
        ".spec.text: expected string, got &value.valueUnstructured{Value:1}"
    );
    assert_eq!(
        failure(json!({"replicas": "1"})),
        ".spec.replicas: expected numeric (int or float), got string"
    );
    assert_eq!(failure(json!({"flag": "x"})), ".spec.flag: expected boolean, got &{x}");
    assert_eq!(failure(json!({"list": "q"})), ".spec.list: expected list, got &{q}");
    assert_eq!(failure(json!("q")), ".spec: expected map, got &{q}");
    assert_eq!(
        failure(json!({"labels": [1, {"a": "b"}]})),
        ".spec.labels: expected map, got &{[1 map[a:b]]}"
    );
    assert_eq!(failure(json!({"set": ["a", "a"]})), ".spec.set: duplicate entries for key [=\"a\"]");
    assert_eq!(
        failure(json!({"ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]})),
        ".spec.ports: duplicate entries for key [port=80,protocol=\"TCP\"]"
    );
    assert_eq!(
        failure(json!({"env": [{"value": "v"}]})),
        ".spec.env: element 0: associative list with keys has an element that omits all key fields [\"name\"] \
         (and doesn't have default values for any key fields)"
    );
    assert_eq!(
        failure(json!({"flag": 1, "list": ["a", 2]})),
        "errors:\n  .spec.flag: expected boolean, got &{1}\n  .spec.list[1]: expected string, \
         got &value.valueUnstructured{Value:2}"
    );
    assert_eq!(
        failure(json!({"embedded": {"any": 1, "metadata": {"any": 1}}})),
        ".spec.embedded.metadata.any: field not declared in schema"
    );
    assert!(
        applied(1, "one", None, json!({"text": null, "quantity": "1", "free": {"any": [1, "a"]}})).is_ok()
    );
}

#[test]
fn kubectl_takes_over_what_its_client_side_apply_had_set() {
    const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let mut live = widget(json!({"text": "1", "replicas": 1}));
    live["metadata"]["annotations"] = json!({ANNOTATION: live.to_string()});
    super::super::track_update(&main(), &at(1, "kubectl-client-side-apply"), None, &mut live);
    let spec = json!({"text": "2", "replicas": 1});
    assert!(applied(2, "other", Some(&live), spec.clone()).is_err());
    let object = applied(2, "kubectl", Some(&live), spec.clone()).unwrap();
    assert_eq!(object["metadata"]["annotations"][ANNOTATION], format!("{}\n", widget(spec)));
    assert_eq!(managers(&object), ["kubectl Apply", "kubectl-client-side-apply Update"]);
    let changed = patched(&main(), &at(3, "third"), &object, json!({"spec": {"replicas": 5}}));
    let error = applied(4, "kubectl", Some(&changed), json!({"text": "3", "replicas": 2})).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"third\" using example.com/v1: .spec.replicas"
    );
}

#[test]
fn new_times_are_undone_if_they_are_all_that_is_new() {
    let live = applied(1, "one", None, json!({"text": "t"})).unwrap();
    let mut object = live.clone();
    object["metadata"]["managedFields"][0]["time"] = json!(time(2));
    let mut changed = object.clone();
    keep_times_of_no_op(&live, &mut object);
    assert_eq!(object, live);
    changed["spec"]["text"] = json!("u");
    let before = changed.clone();
    keep_times_of_no_op(&live, &mut changed);
    assert_eq!(changed, before);
}
