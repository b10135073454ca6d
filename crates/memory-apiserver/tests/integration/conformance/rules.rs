//! Rules in CEL of custom kinds. They reject definitions and objects.
//!
//! Two files in `tests/data/kube-apiserver` hold the answers of a real API server: `rules.json` to definitions and
//! `ruled-objects.json` to objects. `UPDATE_RULES=1 tests/e2e.sh as_recorded` records them again.

use std::path::PathBuf;

use anyhow::ensure;
use regex::Regex;
use serde_json::{Value, json};

use super::answer::{Answer, text};
use super::collection::Collection;
use super::kinds::definition;
use super::server::Server;
use crate::support::{SOON, eventually};

on_every_server![
    definitions_are_judged_as_recorded,
    objects_are_judged_as_recorded,
    a_broken_rule_refuses_creation_and_update,
    an_immutable_field_keeps_its_value,
    durations_have_a_least_value,
    a_message_may_be_an_expression,
    a_rule_names_its_reason_and_its_field,
    a_rule_that_does_not_compile_refuses_its_definition,
    status_is_held_against_the_rules,
    scale_is_held_against_the_rules,
    every_kind_of_patch_is_held_against_the_rules,
    what_was_broken_before_the_rule_may_stay,
    a_rule_that_takes_too_long_is_ended,
];

/// Reads the cases of a file, and writes them with their answers if they are to be recorded.
struct Recorded {
    file: PathBuf,
    cases: Vec<Value>,
    differing: Vec<String>,
    is_recording: bool,
}

impl Recorded {
    fn read(file: &str) -> Self {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/kube-apiserver").join(file);
        let cases = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        // Only the tests on a real API server record. A test runs on the thread of its name.
        let is_real = std::thread::current().name().is_some_and(|name| name.contains("::real::"));
        let is_recording = is_real && std::env::var_os("UPDATE_RULES").is_some();
        Self { file, cases, differing: Vec::new(), is_recording }
    }

    /// Compares an answer with that of a case, or records it.
    fn compare(&mut self, number: usize, answer: &Answer) {
        let causes = causes(answer);
        if self.is_recording {
            let case = self.cases[number].as_object_mut().unwrap();
            case.remove("causes");
            if !causes.is_empty() {
                case.insert("causes".to_owned(), json!(causes));
            }
            return;
        }
        let expected = self.cases[number].get("causes").cloned().unwrap_or_else(|| json!([]));
        if json!(causes) != expected {
            let case = &self.cases[number];
            self.differing.push(format!("{case}\n  but {}", json!(causes)));
        }
    }

    fn finish(self) {
        if self.is_recording {
            let cases: Vec<_> = self.cases.iter().map(ToString::to_string).collect();
            std::fs::write(&self.file, format!("[\n{}\n]\n", cases.join(",\n"))).unwrap();
        }
        assert!(self.differing.is_empty(), "{} differ\n{}", self.differing.len(), self.differing.join("\n"));
    }
}

/// Reason, field and message of each cause, in order; none if the request succeeded.
fn causes(answer: &Answer) -> Vec<[String; 3]> {
    if answer.code < 300 {
        return Vec::new();
    }
    let status = answer.refused(422, "Invalid");
    // The real server makes a new name for the type of each schema.
    let type_name = Regex::new(r"selfType\d+(\.[\w@]+)*").expect("a pattern");
    let part = |cause: &Value, part: &str| type_name.replace_all(text(cause, part), "object").into_owned();
    let of = |cause: &Value| [part(cause, "/reason"), part(cause, "/field"), part(cause, "/message")];
    let mut causes: Vec<_> = status["details"]["causes"].as_array().into_iter().flatten().map(of).collect();
    causes.sort();
    causes
}

const GROUP: &str = "rules.conformance.test";

/// A definition with this schema, and with status and scale.
fn with_schema(kind: &str, schema: &Value) -> Value {
    definition(
        GROUP,
        kind,
        &json!({
            "schema": { "openAPIV3Schema": schema },
            "subresources": { "status": {}, "scale": {
                "specReplicasPath": ".spec.count", "statusReplicasPath": ".status.replicas",
            } },
        }),
    )
}

/// A kind whose `spec` has these fields and rules.
fn with_spec(kind: &str, properties: &Value, rules: &Value) -> Value {
    let spec = json!({ "type": "object", "properties": properties, "x-kubernetes-validations": rules });
    with_schema(kind, &json!({ "type": "object", "properties": { "spec": spec } }))
}

/// Objects of such a kind, in a namespace of the test's own.
async fn defined(server: &Server, definition: Value) -> Collection {
    let names = definition["spec"]["names"].clone();
    server.install(definition).await;
    let [plural, kind] = ["/plural", "/kind"].map(|path| text(&names, path));
    server.namespaced(&format!("{GROUP}/v1"), plural, kind).await
}

async fn definitions_are_judged_as_recorded(server: &Server) {
    let mut recorded = Recorded::read("rules.json");
    for number in 0..recorded.cases.len() {
        let schema = &recorded.cases[number]["schema"];
        let version = json!({ "schema": { "openAPIV3Schema": schema } });
        let definition = definition(GROUP, "Judged", &version);
        let answer = server.crds().create_with("?dryRun=All", definition).await;
        recorded.compare(number, &answer);
    }
    recorded.finish();
}

/// The first case is the schema of the objects. An object with `old` replaces one that has this `spec`.
async fn objects_are_judged_as_recorded(server: &Server) {
    let mut recorded = Recorded::read("ruled-objects.json");
    let things = defined(server, with_schema("Ruled", &recorded.cases[0]["schema"])).await;
    for number in 1..recorded.cases.len() {
        let (case, name) = (&recorded.cases[number], format!("r{number}"));
        let answer = match case.get("old") {
            None => {
                things.create_with("?dryRun=All", things.object(&name, json!({ "spec": case["spec"] }))).await
            }
            Some(old) => {
                let mut object = things.made(&name, json!({ "spec": old })).await;
                object["spec"] = case["spec"].clone();
                things.put(&format!("{name}?dryRun=All"), object).await
            }
        };
        recorded.compare(number, &answer);
    }
    recorded.finish();
}

async fn a_broken_rule_refuses_creation_and_update(server: &Server) {
    let properties = json!({ "least": { "type": "integer" }, "most": { "type": "integer" } });
    let rules = json!([{ "rule": "self.least <= self.most", "message": "least is at most most" }]);
    let things = defined(server, with_spec("Bounded", &properties, &rules)).await;
    let refused = things.create(things.object("a", json!({ "spec": { "least": 2, "most": 1 } }))).await;
    assert_eq!(refused.invalid(), ["spec: FieldValueInvalid"]);
    let status = refused.json();
    let message =
        "Bounded.rules.conformance.test \"a\" is invalid: spec: Invalid value: least is at most most";
    assert_eq!(text(&status, "/message"), message);
    things.get("a").await.refused(404, "NotFound");

    let mut made = things.made("a", json!({ "spec": { "least": 1, "most": 2 } })).await;
    made["spec"]["most"] = json!(0);
    assert_eq!(things.put("a", made.clone()).await.invalid(), ["spec: FieldValueInvalid"]);
    made["spec"]["most"] = json!(1);
    things.put("a", made).await.ok();
}

async fn an_immutable_field_keeps_its_value(server: &Server) {
    let rule = json!([{ "rule": "self == oldSelf", "message": "field is immutable" }]);
    let name = json!({ "type": "string", "x-kubernetes-validations": rule });
    let things = defined(server, with_spec("Fixed", &json!({ "name": name }), &json!([]))).await;
    things.made("a", json!({ "spec": { "name": "one" } })).await;
    let refused = things.merge("a", json!({ "spec": { "name": "two" } })).await;
    assert_eq!(
        causes(&refused),
        [["FieldValueInvalid", "spec.name", "Invalid value: \"two\": field is immutable"]]
    );
    things.merge("a", json!({ "metadata": { "labels": { "a": "b" } } })).await.ok();
    // Adding or removing the field is allowed: there is no value to compare with.
    things.merge("a", json!({ "spec": { "name": null } })).await.ok();
    things.merge("a", json!({ "spec": { "name": "two" } })).await.ok();
}

async fn durations_have_a_least_value(server: &Server) {
    let least = |text: &str| {
        let rule =
            json!([{ "rule": format!("duration(self) >= duration('{text}')"), "message": "is too short" }]);
        json!({ "type": "string", "x-kubernetes-validations": rule })
    };
    let properties = json!({ "claimTimeout": least("1s"), "readyTimeout": least("0s") });
    let things = defined(server, with_spec("Timed", &properties, &json!([]))).await;
    for (claim, ready, wrong) in [
        ("1s", "0s", &[][..]),
        ("1m30s", "10ms", &[]),
        ("999ms", "0s", &["spec.claimTimeout: FieldValueInvalid"]),
        ("0", "-1s", &["spec.claimTimeout: FieldValueInvalid", "spec.readyTimeout: FieldValueInvalid"]),
        ("a minute", "1s", &["spec.claimTimeout: FieldValueInvalid"]),
    ] {
        let object = things.object("a", json!({ "spec": { "claimTimeout": claim, "readyTimeout": ready } }));
        let answer = things.create_with("?dryRun=All", object).await;
        match wrong {
            [] => drop(answer.created()),
            wrong => assert_eq!(answer.invalid(), *wrong, "{claim} {ready}"),
        }
    }
}

async fn a_message_may_be_an_expression(server: &Server) {
    let rules = json!([
        { "rule": "self.count < 5", "messageExpression": "self.text + ' is not below 5'" },
        { "rule": "self.count < 6", "message": "the fallback", "messageExpression": "['one'][self.count]" },
    ]);
    let text = json!({ "type": "string", "maxLength": 10 });
    let properties = json!({ "count": { "type": "integer" }, "text": text });
    let things = defined(server, with_spec("Told", &properties, &rules)).await;
    let refused = things.create(things.object("a", json!({ "spec": { "count": 7, "text": "seven" } }))).await;
    assert_eq!(
        causes(&refused),
        [
            ["FieldValueInvalid", "spec", "Invalid value: seven is not below 5"],
            ["FieldValueInvalid", "spec", "Invalid value: the fallback"],
        ]
    );
}

async fn a_rule_names_its_reason_and_its_field(server: &Server) {
    let rule = |rule: &str, reason: &str, path: &str| json!({ "rule": rule, "message": "so it is", "reason": reason, "fieldPath": path });
    let rules = json!([
        rule("self.count != 1", "FieldValueForbidden", ".count"),
        rule("self.count != 1", "FieldValueRequired", ".inner.name"),
        rule("self.count != 1", "FieldValueDuplicate", ".labels['a']"),
        rule("self.count != 1", "FieldValueInvalid", ".count"),
    ]);
    let name = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
    let labels = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let properties = json!({ "count": { "type": "integer" }, "inner": name, "labels": labels });
    let things = defined(server, with_spec("Reasoned", &properties, &rules)).await;
    let refused = things.create(things.object("a", json!({ "spec": { "count": 1 } }))).await;
    assert_eq!(
        causes(&refused),
        [
            ["FieldValueDuplicate", "spec.labels[a]", "Duplicate value"],
            ["FieldValueForbidden", "spec.count", "Forbidden: so it is"],
            ["FieldValueInvalid", "spec.count", "Invalid value: so it is"],
            ["FieldValueRequired", "spec.inner.name", "Required value: so it is"],
        ]
    );
}

async fn a_rule_that_does_not_compile_refuses_its_definition(server: &Server) {
    let rules = json!([{ "rule": "self.count > 0" }, { "rule": "self.cuont > 0" }]);
    let definition = with_spec("Broken", &json!({ "count": { "type": "integer" } }), &rules);
    let refused = server.crds().create(definition.clone()).await;
    let field = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[1].rule";
    assert_eq!(refused.invalid(), [format!("{field}: FieldValueInvalid")]);
    assert!(text(&refused.json(), "/message").contains("undefined field 'cuont'"), "{refused:?}");
    server.crds().get(text(&definition, "/metadata/name")).await.refused(404, "NotFound");
}

/// A kind with a rule for the number in `spec`, one for `status`, and one for both.
fn stateful(kind: &str) -> Value {
    let rule = |rule: &str| json!([{ "rule": rule }]);
    let fields = |rules: Value| {
        let fields = json!({ "count": { "type": "integer" }, "replicas": { "type": "integer" } });
        json!({ "type": "object", "properties": fields, "x-kubernetes-validations": rules })
    };
    with_schema(
        kind,
        &json!({
            "type": "object",
            "properties": {
                "spec": fields(rule("self.count < 10")),
                "status": fields(rule("!has(oldSelf.replicas) || self.replicas >= oldSelf.replicas")),
            },
            "x-kubernetes-validations": rule("!has(self.status) || self.status.replicas <= self.spec.count"),
        }),
    )
}

async fn status_is_held_against_the_rules(server: &Server) {
    let things = defined(server, stateful("Stateful")).await;
    things.made("a", json!({ "spec": { "count": 5 } })).await;
    let set =
        async |replicas: i64| things.merge("a/status", json!({ "status": { "replicas": replicas } })).await;
    set(2).await.ok();
    assert_eq!(set(1).await.invalid(), ["status: FieldValueInvalid"]);
    assert_eq!(set(6).await.invalid(), ["<nil>: FieldValueInvalid"]);
    let mut object = things.get("a").await.ok();
    object["status"]["replicas"] = json!(1);
    assert_eq!(things.put("a/status", object).await.invalid(), ["status: FieldValueInvalid"]);
    set(5).await.ok();
}

async fn scale_is_held_against_the_rules(server: &Server) {
    let things = defined(server, stateful("Scaled")).await;
    things.made("a", json!({ "spec": { "count": 5 } })).await;
    let scale =
        async |replicas: i64| things.merge("a/scale", json!({ "spec": { "replicas": replicas } })).await;
    scale(9).await.ok();
    assert_eq!(scale(10).await.invalid(), ["spec: FieldValueInvalid"]);
    assert_eq!(things.get("a").await.ok()["spec"]["count"], 9);
}

async fn every_kind_of_patch_is_held_against_the_rules(server: &Server) {
    let things = defined(server, stateful("Patched")).await;
    things.made("a", json!({ "spec": { "count": 5 } })).await;
    let replace = json!([{ "op": "replace", "path": "/spec/count", "value": 11 }]);
    let answer = things.patch("a", super::collection::JSON_PATCH, &replace).await;
    assert_eq!(answer.invalid(), ["spec: FieldValueInvalid"]);
    for name in ["a", "new"] {
        let applied = things.object(name, json!({ "spec": { "count": 11 } }));
        let path = format!("{name}?fieldManager=test&force=true");
        let answer = things.patch(&path, super::collection::APPLY_PATCH, &applied).await;
        assert_eq!(answer.invalid(), ["spec: FieldValueInvalid"], "{name}");
    }
}

async fn what_was_broken_before_the_rule_may_stay(server: &Server) {
    let fields = json!({ "count": { "type": "integer" }, "text": { "type": "string" } });
    let kind = "Ratcheted";
    let things = defined(server, with_spec(kind, &fields, &json!([]))).await;
    things.made("a", json!({ "spec": { "count": 1, "text": "bad" } })).await;
    let name = format!("ratcheteds.{GROUP}");
    let ruled = json!([{ "rule": "self != 'bad'", "message": "is bad" }]);
    let place =
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/text/x-kubernetes-validations";
    let patch = json!([{ "op": "add", "path": place, "value": ruled }]);
    server.crds().patch(&name, super::collection::JSON_PATCH, &patch).await.ok();
    eventually("the rule is in force", SOON, async || {
        let object = things.object("b", json!({ "spec": { "text": "bad" } }));
        let answer = things.create_with("?dryRun=All", object).await;
        ensure!(answer.code == 422, "{answer:?}");
        Ok(())
    })
    .await;
    things.merge("a", json!({ "spec": { "count": 2 } })).await.ok();
    things.merge("a", json!({ "spec": { "text": "good" } })).await.ok();
    let refused = things.merge("a", json!({ "spec": { "text": "bad" } })).await;
    assert_eq!(refused.invalid(), ["spec.text: FieldValueInvalid"]);
}

async fn a_rule_that_takes_too_long_is_ended(server: &Server) {
    let list = json!({ "type": "array", "maxItems": 1000, "items": { "type": "integer" } });
    // The real server estimates the cost of this rule by `maxItems`, and accepts the definition.
    let rules = json!([{ "rule": "self.list.all(x, self.list.all(y, x + y != -1))" }]);
    let things = defined(server, with_spec("Slow", &json!({ "list": list }), &rules)).await;
    things.made("short", json!({ "spec": { "list": [1, 2, 3] } })).await;
    let long: Vec<_> = (0..1000).collect();
    let refused = things.create(things.object("long", json!({ "spec": { "list": long } }))).await;
    let causes = causes(&refused);
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert_eq!(causes[0][..2], ["FieldValueInvalid", "spec"]);
    assert!(causes[0][2].contains("no further validation rules will be run"), "{causes:?}");
}
