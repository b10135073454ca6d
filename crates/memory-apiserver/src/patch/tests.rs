//! Content types, JSON patches, merge patches, and bodies of server-side apply. Results are those of kube-apiserver.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::values::REFUSED;
use super::{Change, MAX_DEPTH, PatchKind, applied};
use crate::error::ApiError;
use crate::schema::Schema;

fn carried_out(change: Change, live: &Value, body: &str) -> Result<Value, ApiError> {
    change.carry_out(&Schema::default(), live, body.as_bytes())
}

fn refusal(result: Result<Value, ApiError>) -> (u16, &'static str, String) {
    let error = result.expect_err("it is refused");
    (error.code, error.reason, error.message)
}

fn patched(live: &Value, operations: &Value) -> Result<Value, ApiError> {
    carried_out(Change::Json, live, &operations.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
fn thing(spec: Value) -> Value {
    json!({"kind": "Thing", "spec": spec})
}

/// Lists that are nested this deeply.
fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

#[test]
fn the_content_type_says_what_the_body_is() {
    for (content_type, kind) in [
        ("application/json-patch+json", PatchKind::Change(Change::Json)),
        ("application/merge-patch+json; charset=utf-8", PatchKind::Change(Change::Merge)),
        ("application/strategic-merge-patch+json", PatchKind::Change(Change::Strategic)),
        ("application/apply-patch+yaml;x", PatchKind::Apply),
    ] {
        assert_eq!(PatchKind::from_content_type(content_type, false), Ok(kind));
    }
    for content_type in
        ["", "application/json", "Application/Merge-Patch+JSON", "application/apply-patch+cbor"]
    {
        let error = PatchKind::from_content_type(content_type, false).unwrap_err();
        let message = "415: Unsupported Media Type";
        assert_eq!((error.code, error.reason, &*error.message), (415, "UnsupportedMediaType", message));
    }
}

#[test]
fn custom_kinds_have_no_strategic_merges() {
    let error = PatchKind::from_content_type("application/strategic-merge-patch+json", true).unwrap_err();
    assert_eq!(error.code, 415);
    assert_eq!(
        error.message,
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    );
}

#[test]
fn operations_are_carried_out_in_order() {
    let live = thing(json!({"a": 1, "l": ["x", "y"], "m/~": {}}));
    let operations = json!([
        {"op": "test", "path": "/spec/a", "value": 1},
        {"op": "add", "path": "/spec/b", "value": {"c": null}},
        {"op": "add", "path": "/spec/l/1", "value": "n"},
        {"op": "add", "path": "/spec/l/-", "value": "z"},
        {"op": "replace", "path": "/spec/l/0", "value": "w"},
        {"op": "remove", "path": "/spec/a"},
        {"op": "copy", "from": "/spec/l", "path": "/spec/b/l"},
        {"op": "move", "from": "/spec/l/3", "path": "/spec/m~1~0/z"},
    ]);
    let spec = json!({
        "b": {"c": null, "l": ["w", "n", "y", "z"]}, "l": ["w", "n", "y"], "m/~": {"z": "z"},
    });
    assert_eq!(patched(&live, &operations).unwrap(), thing(spec));
}

#[test]
fn operations_are_read_as_leniently_as_by_the_real_server() {
    let live = || thing(json!({"l": [1, 2, 3], "n": null}));
    let cases = [
        (
            json!({"op": "replace", "path": "/spec/new", "value": 1}),
            json!({"l": [1, 2, 3], "n": null, "new": 1}),
        ),
        (json!({"op": "add", "path": "/spec/n"}), json!({"l": [1, 2, 3], "n": null})),
        (json!({"op": "test", "path": "/spec/none", "value": null}), json!({"l": [1, 2, 3], "n": null})),
        (json!({"op": "test", "path": "/spec/n"}), json!({"l": [1, 2, 3], "n": null})),
        (
            json!({"op": "copy", "from": "/spec/none", "path": "/spec/c"}),
            json!({"l": [1, 2, 3], "n": null, "c": null}),
        ),
        (json!({"op": "replace", "path": "/spec/l/-1", "value": 9}), json!({"l": [1, 2, 9], "n": null})),
        (json!({"op": "add", "path": "/spec/l/-1", "value": 9}), json!({"l": [1, 2, 3, 9], "n": null})),
        (json!({"op": "add", "path": "/spec/l/-4", "value": 9}), json!({"l": [9, 1, 2, 3], "n": null})),
        (json!({"op": "remove", "path": "/spec/l/00"}), json!({"l": [2, 3], "n": null})),
        (json!({"op": "remove", "path": "/spec/l/+1"}), json!({"l": [1, 3], "n": null})),
        (json!({"op": "add", "path": "junk/spec/l", "value": []}), json!({"l": [], "n": null})),
        (json!({"op": "remove", "path": "/spec/l", "bogus": 1}), json!({"n": null})),
    ];
    for (operation, spec) in cases {
        assert_eq!(patched(&live(), &json!([operation])).unwrap(), thing(spec), "{operation}");
    }
    assert_eq!(carried_out(Change::Json, &live(), "null").unwrap(), live());
}

#[test]
fn operations_that_do_not_fit_the_object_are_unprocessable() {
    let live = thing(json!({"a": "1", "l": [1]}));
    let operations = [
        json!({"op": "test", "path": "/spec/a", "value": "2"}),
        json!({"op": "test", "path": "/spec/a", "value": null}),
        json!({"op": "test", "path": "/spec/l/0", "value": 1.0}),
        json!({"op": "test", "path": "", "value": {}}),
        json!({"op": "test", "path": "/none/a", "value": null}),
        json!({"op": "remove", "path": "/spec/none"}),
        json!({"op": "remove", "path": ""}),
        json!({"op": "remove", "path": "/spec/l/-"}),
        json!({"op": "remove", "path": "/spec/l/1"}),
        json!({"op": "replace", "path": "/none/a", "value": 1}),
        json!({"op": "replace", "path": "/spec/l/1", "value": 1}),
        json!({"op": "replace", "path": "", "value": "text"}),
        json!({"op": "add", "path": "/spec/a/b", "value": 1}),
        json!({"op": "add", "path": "/spec/l/2", "value": 1}),
        json!({"op": "add", "path": "/spec/l/-3", "value": 1}),
        json!({"op": "add", "path": "/spec/l/x", "value": 1}),
        json!({"op": "add", "path": "", "value": {}}),
        json!({"op": "add", "path": "spec", "value": {}}),
        json!({"op": "add", "value": {}}),
        json!({"op": "copy", "from": "/none/a", "path": "/spec/b"}),
        json!({"op": "copy", "from": "/spec/l/1", "path": "/spec/b"}),
        json!({"op": "copy", "path": "/spec/b"}),
        json!({"op": "move", "from": "/spec/none", "path": "/spec/b"}),
        json!({"op": "move", "from": "/spec", "path": "/spec/b"}),
        json!({"op": "frob", "path": "/spec/b"}),
        json!({"path": "/spec/b"}),
        json!(null),
    ];
    for operation in operations {
        let refused = refusal(patched(&live, &json!([operation])));
        assert_eq!(refused, (422, "Invalid", REFUSED.to_owned()), "{operation}");
    }
}

#[test]
fn what_is_no_json_patch_is_a_bad_request() {
    let live = thing(json!({}));
    let cases = [
        ("{}", "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        ("[1]", "json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"),
        (r#"[{"op":1}]"#, "json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string"),
        (
            r#"[{"path":[]}]"#,
            "json: cannot unmarshal array into Go struct field jsonPatchOp.path of type string",
        ),
        ("[", "EOF while parsing a list at line 1 column 1"),
    ];
    for (body, problem) in cases {
        let refused = refusal(carried_out(Change::Json, &live, body));
        assert_eq!(refused, (400, "BadRequest", format!("error decoding patch: {problem}")));
    }
}

#[test]
fn a_json_patch_has_at_most_ten_thousand_operations() {
    let live = thing(json!({"a": 1}));
    let operations = |count| Value::Array(vec![json!({"op": "test", "path": "/spec/a", "value": 1}); count]);
    assert_eq!(patched(&live, &operations(10_000)).unwrap(), live);
    let message =
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
    let refused = refusal(patched(&live, &operations(10_001)));
    assert_eq!(refused, (413, "RequestEntityTooLarge", message.to_owned()));
}

#[test]
fn copies_cannot_blow_up_the_object() {
    let live = thing(json!({"text": "x".repeat(1000)}));
    let doublings: Vec<_> =
        (0..40).map(|n| json!({"op": "copy", "from": "/spec", "path": format!("/spec/{n}")})).collect();
    let refused = refusal(patched(&live, &Value::Array(doublings)));
    assert_eq!(refused, (422, "Invalid", REFUSED.to_owned()));
}

#[test]
fn an_object_is_not_nested_too_deeply_whichever_way_it_is_patched() {
    let live = thing(json!({"a": {}}));
    let mut deepening = String::from("[");
    for depth in 1..MAX_DEPTH {
        let path = "/a".repeat(depth);
        write!(deepening, r#"{{"op":"copy","from":"/spec","path":"/spec{path}"}},"#).unwrap();
    }
    deepening += r#"{"op":"test","path":"/kind","value":"Thing"}]"#;
    let at_most = nested(MAX_DEPTH - 2);
    let too_deep = nested(MAX_DEPTH - 1);
    for change in [Change::Merge, Change::Strategic] {
        assert!(carried_out(change, &live, &format!(r#"{{"spec":{{"a":{at_most}}}}}"#)).is_ok());
        let refused = refusal(carried_out(change, &live, &format!(r#"{{"spec":{{"a":{too_deep}}}}}"#)));
        assert_eq!((refused.0, refused.1), (422, "Invalid"));
    }
    let add = |value: &str| format!(r#"[{{"op":"add","path":"/spec/a","value":{value}}}]"#);
    assert!(carried_out(Change::Json, &live, &add(&at_most)).is_ok());
    for body in [add(&too_deep), deepening] {
        let refused = refusal(carried_out(Change::Json, &live, &body));
        assert_eq!(refused.0, 422, "{refused:?}");
    }
    for change in [Change::Json, Change::Merge, Change::Strategic] {
        assert_eq!(refusal(carried_out(change, &live, &nested(100_000))).0, 400);
    }
}

#[test]
fn the_result_must_be_an_object_of_a_kind() {
    let live = thing(json!({}));
    let cases = [
        (
            Change::Json,
            r#"[{"op":"replace","path":"","value":{}}]"#,
            "\"{}\": Object 'Kind' is missing in '{}'",
        ),
        (Change::Merge, r#"{"kind":null,"spec":null}"#, "\"{}\": Object 'Kind' is missing in '{}'"),
        (
            Change::Json,
            r#"[{"op":"replace","path":"","value":[]}]"#,
            "\"[]\": couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of \
             type struct",
        ),
    ];
    for (change, body, problem) in cases {
        let refused = refusal(carried_out(change, &live, body));
        assert_eq!(refused, (422, "Invalid", format!(" \"\" is invalid: patch: Invalid value: {problem}")));
    }
}

#[test]
fn merge_patches_set_fields_and_remove_those_that_are_null() {
    let live = thing(json!({"a": {"b": 1, "c": 2}, "l": [1, {"x": null}], "t": "text"}));
    let body =
        r#"{"spec":{"a":{"b":null,"d":3},"l":[{"y":null,"z":[{"u":null}]},null],"t":{"v":null,"w":4}}}"#;
    let spec = json!({"a": {"c": 2, "d": 3}, "l": [{"z": [{}]}, null], "t": {"w": 4}});
    assert_eq!(carried_out(Change::Merge, &live, body).unwrap(), thing(spec));
}

#[test]
fn what_is_no_merge_patch_is_a_bad_request() {
    let go = "error decoding patch: json: cannot unmarshal";
    let cases = [
        ("null", "Invalid JSON Patch".to_owned()),
        ("[]", format!("{go} array into Go value of type map[string]interface {{}}")),
        ("1", format!("{go} number into Go value of type map[string]interface {{}}")),
        ("{} x", "error decoding patch: trailing characters at line 1 column 4".to_owned()),
    ];
    for (body, message) in cases {
        let refused = refusal(carried_out(Change::Merge, &thing(json!({})), body));
        assert_eq!(refused, (400, "BadRequest", message));
    }
}

#[test]
fn what_is_applied_may_be_json_or_yaml() {
    let cases = [
        (r#" {"a": "\ud83d\ude00", "b": [1, 2.5, null]} "#, json!({"a": "😀", "b": [1, 2.5, null]})),
        (
            "a: b\n1: [x, true]\ntrue: {}\n2.5: ~",
            json!({"a": "b", "1": ["x", true], "true": {}, "2.5": null}),
        ),
        ("{a: 1,}", json!({"a": 1})),
        ("a: !tagged 1\nb: !!str 2", json!({"a": 1, "b": "2"})),
        ("a: &x {b: 1}\nc: [*x, *x]", json!({"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]})),
        ("---\na: 1\n---\nb: 2", json!({"a": 1})),
        ("", json!({})),
        (" # nothing", json!({})),
    ];
    for (body, expected) in cases {
        assert_eq!(applied::read(body.as_bytes()).unwrap(), expected, "{body:?}");
    }
}

#[test]
fn what_cannot_be_applied_is_a_bad_request() {
    let cases = [
        ("[]", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value"),
        ("1", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal number into Go value"),
        ("a: [", "error converting YAML to JSON: yaml: "),
        ("a: .inf", "error converting YAML to JSON: yaml: a: unsupported value: inf"),
        ("[a]: 1", "error converting YAML to JSON: yaml: "),
        ("a: *none", "error converting YAML to JSON: yaml: unknown anchor"),
        ("a: &a [*a]", "error converting YAML to JSON: yaml: recursion limit exceeded"),
    ];
    for (body, problem) in cases {
        let (code, reason, message) = refusal(applied::read(body.as_bytes()));
        assert_eq!((code, reason), (400, "BadRequest"));
        assert!(message.starts_with(&format!("error decoding YAML: {problem}")), "{message}");
    }
    assert_eq!(refusal(applied::read(b"a: \xff")).0, 400);
}

#[test]
fn yaml_cannot_stand_for_more_than_the_limit() {
    let mut nested_aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 8].join(", ");
        writeln!(nested_aliases, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    let long_text = format!("a: &a {}\nb: [{}]", "x".repeat(1_000_000), vec!["*a"; 1000].join(","));
    let self_reference = format!("a: &a [{}]", vec!["*a"; 1000].join(","));
    for body in [nested_aliases, long_text, self_reference] {
        assert_eq!(refusal(applied::read(body.as_bytes())).0, 400);
    }
}

#[test]
fn yaml_that_is_slow_to_read_is_refused_at_once() {
    for bracket in ["[", "{", "[{", "a: [", "\"["] {
        let body = bracket.repeat(1_000_000);
        assert_eq!(refusal(applied::read(body.as_bytes())).0, 400, "{bracket}");
    }
    for nested in ["- ", "? "] {
        let body = nested.repeat(100_000);
        assert_eq!(refusal(applied::read(body.as_bytes())).0, 400, "{nested}");
    }
}
