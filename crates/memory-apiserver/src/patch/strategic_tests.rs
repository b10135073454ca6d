//! Strategic merges of maps, lists and directives. Results are those of kube-apiserver.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Change;
use crate::error::ApiError;
use crate::schema::Schema;

/// The schema of the objects of these tests and of the property tests: lists of every kind.
pub(super) fn schema() -> Schema {
    let text = || leaf("string");
    let sub = |items: Schema| object([("a", text()), ("b", text()), ("items", list(items))]);
    let plain_owner = || object([("uid", text()), ("name", text()), ("tags", set())]);
    let owner = || object([("uid", text()), ("name", text()), ("tags", set()), ("sub", sub(plain_owner()))]);
    object([
        ("kind", text()),
        ("labels", Schema { kind: "object".to_owned(), values: Some(Arc::new(text())), ..Schema::default() }),
        ("finalizers", set()),
        ("owners", Schema { merge_key: Some("uid".to_owned()), ..list(owner()) }),
        ("plain", list(text())),
        ("plainOwners", list(owner())),
        ("sub", sub(plain_owner())),
    ])
}

fn leaf(kind: &str) -> Schema {
    Schema { kind: kind.to_owned(), ..Schema::default() }
}

fn list(items: Schema) -> Schema {
    Schema { items: Some(Arc::new(items)), ..leaf("array") }
}

fn set() -> Schema {
    Schema { merge_set: true, ..list(leaf("string")) }
}

fn object<const N: usize>(fields: [(&str, Schema); N]) -> Schema {
    let properties: BTreeMap<_, _> =
        fields.into_iter().map(|(name, field)| (name.to_owned(), Arc::new(field))).collect();
    Schema { properties, ..leaf("object") }
}

fn merged(live: &Value, patch: &Value) -> Result<Value, ApiError> {
    Change::Strategic.carry_out(&schema(), live, patch.to_string().as_bytes())
}

#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
fn check(live: Value, patch: Value, expected: Value) {
    assert_eq!(merged(&live, &patch).unwrap(), expected, "{live} patched with {patch}");
}

#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
fn refusal(live: Value, patch: Value) -> (u16, &'static str, String) {
    let error = merged(&live, &patch).expect_err("it is refused");
    (error.code, error.reason, error.message)
}

#[test]
fn maps_are_merged_and_null_removes() {
    check(
        json!({"labels": {"a": "1", "b": "2"}, "sub": {"a": "x"}}),
        json!({"labels": {"b": null, "c": "3", "d": null}, "sub": null}),
        json!({"labels": {"a": "1", "c": "3"}}),
    );
    check(
        json!({}),
        json!({"sub": {"a": null, "items": [{"uid": null, "name": "n"}]}}),
        json!({"sub": {"items": [{"name": "n"}]}}),
    );
    check(json!({"labels": {"a": "1"}}), Value::Null, json!({"labels": {"a": "1"}}));
}

#[test]
fn scalars_of_a_set_are_united_with_those_of_the_patch_first() {
    let live = json!({"finalizers": ["a", "b"]});
    check(live.clone(), json!({"finalizers": ["c"]}), json!({"finalizers": ["c", "a", "b"]}));
    check(live.clone(), json!({"finalizers": ["b", "c", "b"]}), json!({"finalizers": ["a", "b", "c"]}));
    check(live.clone(), json!({"finalizers": []}), live);
}

#[test]
fn lists_that_the_schema_does_not_merge_are_replaced() {
    check(
        json!({"plain": ["a", "b"], "plainOwners": [{"uid": "1"}]}),
        json!({"plain": ["c"], "plainOwners": [{"uid": "2", "name": null}]}),
        json!({"plain": ["c"], "plainOwners": [{"uid": "2"}]}),
    );
}

#[test]
fn items_with_the_same_key_are_merged() {
    check(
        json!({"owners": [{"uid": "1", "name": "a", "tags": ["x"]}, {"uid": "2", "name": "b"}]}),
        json!({"owners": [{"uid": "2", "name": "c", "tags": ["y"]}, {"uid": "3", "sub": {"a": null}}]}),
        json!({"owners": [
            {"uid": "1", "name": "a", "tags": ["x"]},
            {"uid": "2", "name": "c", "tags": ["y"]},
            {"uid": "3", "sub": {}},
        ]}),
    );
    check(
        json!({"owners": [{"uid": "1", "tags": ["x"]}]}),
        json!({"owners": [{"uid": "1", "tags": ["y"], "name": null}]}),
        json!({"owners": [{"uid": "1", "tags": ["y", "x"]}]}),
    );
}

#[test]
fn items_are_deleted_and_lists_replaced_by_directive() {
    let live = json!({"owners": [{"uid": "1"}, {"uid": "2"}, {"uid": "3"}]});
    check(
        live.clone(),
        json!({"owners": [{"uid": "2", "$patch": "delete"}]}),
        json!({"owners": [{"uid": "1"}, {"uid": "3"}]}),
    );
    check(
        live.clone(),
        json!({"owners": [{"$patch": "replace"}, {"uid": "9", "name": "n"}]}),
        json!({"owners": [{"uid": "9", "name": "n"}]}),
    );
    check(live, json!({"owners": [{"$patch": "replace"}]}), json!({"owners": []}));
}

#[test]
fn maps_are_deleted_and_replaced_by_directive() {
    let live = json!({"kind": "K", "sub": {"a": "1", "b": "2"}});
    check(live.clone(), json!({"sub": {"$patch": "delete"}}), json!({"kind": "K", "sub": {}}));
    check(
        live.clone(),
        json!({"sub": {"$patch": "replace", "b": "3", "a": null}}),
        json!({"kind": "K", "sub": {"b": "3"}}),
    );
    // A map with any directive has no effect if there is no live value.
    check(json!({"kind": "K"}), json!({"sub": {"$patch": "bogus", "a": "1"}}), json!({"kind": "K"}));
    check(live, json!({"$patch": "delete"}), json!({"kind": "K"}));
}

#[test]
fn kind_and_version_stay() {
    let live = json!({"kind": "K", "apiVersion": "v1", "labels": {"a": "1"}});
    let expected = json!({"kind": "K", "apiVersion": "v1", "labels": {"a": "2"}});
    check(live.clone(), json!({"kind": "Other", "apiVersion": null, "labels": {"a": "2"}}), expected);
    check(live, json!({"$patch": "replace", "kind": "Other"}), json!({"kind": "K", "apiVersion": "v1"}));
}

#[test]
fn retained_keys_are_all_that_is_left() {
    let live = json!({"sub": {"a": "1", "b": "2"}});
    check(live.clone(), json!({"sub": {"$retainKeys": ["a"]}}), json!({"sub": {"a": "1"}}));
    check(
        live.clone(),
        json!({"sub": {"$retainKeys": ["b"], "b": "3", "a": null}}),
        json!({"sub": {"b": "3"}}),
    );
    for patch in [json!({"$retainKeys": ["b"], "a": "3"}), json!({"$retainKeys": "b"})] {
        let refused = refusal(live.clone(), json!({"sub": patch}));
        assert_eq!(refused, (400, "BadRequest", "invalid patch format of retainKeys".to_owned()));
    }
}

#[test]
fn scalars_are_deleted_from_lists() {
    let live = json!({"finalizers": ["a", "b", "c"], "plain": ["x", "y"]});
    check(
        live.clone(),
        json!({"$deleteFromPrimitiveList/finalizers": ["b", "z"], "$deleteFromPrimitiveList/plain": ["x"]}),
        json!({"finalizers": ["a", "c"], "plain": ["y"]}),
    );
    check(live.clone(), json!({"$deleteFromPrimitiveList/none": ["b"]}), live.clone());
    check(live.clone(), json!({"$deleteFromPrimitiveList/finalizers": "a"}), live.clone());
    for key in ["$deleteFromPrimitiveList", "$deleteFromPrimitiveListX/finalizers"] {
        let refused = refusal(live.clone(), json!({key: ["a"]}));
        assert_eq!(refused, (400, "BadRequest", "invalid patch format of primitive list".to_owned()));
    }
}

#[test]
fn lists_get_the_order_that_is_demanded() {
    check(
        json!({"finalizers": ["a", "b", "c", "d"]}),
        json!({"$setElementOrder/finalizers": ["d", "x", "a"], "finalizers": ["x"]}),
        json!({"finalizers": ["b", "c", "d", "x", "a"]}),
    );
    check(
        json!({"owners": [{"uid": "1"}, {"uid": "2"}, {"uid": "3"}]}),
        json!({
            "$setElementOrder/owners": [{"uid": "3"}, {"uid": "4"}, {"uid": "1"}],
            "owners": [{"uid": "4", "name": "n"}, {"uid": "2", "$patch": "delete"}],
        }),
        json!({"owners": [{"uid": "3"}, {"uid": "4", "name": "n"}, {"uid": "1"}]}),
    );
    check(json!({}), json!({"$setElementOrder/owners": [{"uid": "1"}]}), json!({}));
}

#[test]
fn an_order_that_contradicts_the_patch_is_refused() {
    let live = || json!({"owners": [{"uid": "1"}], "finalizers": ["a"]});
    let (code, reason, message) =
        refusal(live(), json!({"$setElementOrder/finalizers": ["b", "c"], "finalizers": ["x", "b"]}));
    assert_eq!((code, reason), (500, ""));
    assert_eq!(
        message,
        "The order in patch list:\n[\"x\",\"b\"]\n doesn't match $setElementOrder list:\n[\"b\",\"c\"]\n"
    );

    let cases = [
        (json!({"$setElementOrder/finalizers": "x"}), "expected a list, but received a string"),
        (json!({"$setElementOrder/bogus": ["x"]}), "unable to find api field for the json field \"bogus\""),
        (
            json!({"$setElementOrder/owners": [{"name": "x"}]}),
            r#"map: {"name":"x"} does not contain declared merge key: uid"#,
        ),
        (json!({"$setElementOrder/owners": [1]}), "value for key 0 is not a map"),
    ];
    for (patch, message) in cases {
        assert_eq!(refusal(live(), patch), (500, "", message.to_owned()));
    }
    let refused = refusal(live(), json!({"$setElementOrder": ["x"]}));
    assert_eq!(refused, (400, "BadRequest", "invalid patch format of setElementOrder list".to_owned()));
}

#[test]
fn lists_that_cannot_be_merged_are_refused() {
    let live = || json!({"owners": [{"uid": "1"}], "finalizers": ["a"], "sub": {"a": "1"}});
    let cases = [
        (json!({"finalizers": ["x", 1]}), r#"list element types are not identical: [["a"],["x",1]]"#),
        (json!({"finalizers": [{"a": 1}]}), r#"list element types are not identical: [["a"],[{"a":1}]]"#),
        (json!({"finalizers": [null]}), r#"list element types are not identical: [["a"],[null]]"#),
        (json!({"owners": [{"name": "b"}]}), r#"map: {"name":"b"} does not contain declared merge key: uid"#),
        (
            json!({"owners": [{"$patch": "delete"}]}),
            r#"map: {"$patch":"delete"} does not contain declared merge key: uid"#,
        ),
        (
            json!({"owners": [{"uid": "1", "$patch": "merge"}]}),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"owners": [{"uid": "1", "$patch": "bogus"}]}),
            r#"unknown patch type: "bogus" in map: {"$patch":"bogus","uid":"1"}"#,
        ),
        (json!({"sub": {"$patch": "bogus"}}), r#"unknown patch type: "bogus" in map: {"$patch":"bogus"}"#),
    ];
    for (patch, message) in cases {
        assert_eq!(refusal(live(), patch), (500, "", message.to_owned()));
    }
    let nested = refusal(json!({"finalizers": []}), json!({"finalizers": [["a"]]}));
    assert_eq!((nested.0, nested.1), (422, "Invalid"));
}

#[test]
fn a_patch_must_be_an_object() {
    let refused = refusal(json!({}), json!([]));
    let message = "json: cannot unmarshal array into Go value of type map[string]interface {}";
    assert_eq!(refused, (400, "BadRequest", message.to_owned()));
}
