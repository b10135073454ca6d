//! The OpenAPI document says what the server does: every path in it is served, and the answers have the form in it.

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::client::{Answer, Request};
use super::{POOL, Rig};

/// The document, as clients get it.
struct Document(Value);

impl Document {
    async fn of(rig: &Rig) -> Self {
        Self(Request::new("GET", "/openapi.json").send(rig.address).await.ok(200))
    }

    /// Every path with its methods in capital letters.
    fn operations(&self) -> Vec<(&str, String, &Value)> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let all = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path.as_str(), method.to_ascii_uppercase(), operation))
        });
        all.collect()
    }

    /// The schema of an answer of an operation, as a schema that stands alone. None if the answer has no body.
    fn schema(&self, method: &str, path: &str, status: u16) -> Option<Value> {
        let responses = &self.0["paths"][path][method.to_ascii_lowercase()]["responses"];
        let response = responses.get(status.to_string()).or_else(|| responses.get("default"));
        let response = response.unwrap_or_else(|| panic!("{method} {path}: {status} is not documented"));
        let mut schema = response.get("content")?["application/json"]["schema"].clone();
        schema["components"] = self.0["components"].clone();
        Some(without_nullable(schema))
    }

    /// Asserts that an answer is as the document says.
    #[track_caller]
    fn check(&self, method: &str, path: &str, answer: &Answer) {
        match self.schema(method, path, answer.status) {
            None => assert_eq!(answer.text, "", "{method} {path}"),
            Some(schema) => {
                let validator: Validator = jsonschema::validator_for(&schema).unwrap();
                let body = answer.json();
                let problems: Vec<_> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
                assert!(problems.is_empty(), "{method} {path}: {problems:?}: {body}");
            }
        }
    }
}

/// OpenAPI 3.0 has a word of its own for values that may be null.
fn without_nullable(schema: Value) -> Value {
    match schema {
        Value::Array(parts) => Value::Array(parts.into_iter().map(without_nullable).collect()),
        Value::Object(members) => {
            let is_nullable = members.get("nullable") == Some(&Value::Bool(true));
            let inner: Map<_, _> = members
                .into_iter()
                .filter(|(name, value)| name != "nullable" || !value.is_boolean())
                .map(|(name, value)| (name, without_nullable(value)))
                .collect();
            if is_nullable { json!({"anyOf": [inner, {"type": "null"}]}) } else { Value::Object(inner) }
        }
        other => other,
    }
}

#[tokio::test]
async fn every_path_of_the_document_is_served_and_asks_for_a_key_as_it_says() {
    let rig = Rig::start(|_| {}).await;
    let document = Document::of(&rig).await;
    let operations = document.operations();
    assert!(operations.len() > 20, "{}", operations.len());
    for (path, method, operation) in operations {
        let real = path.replace("{id}", "none").replace("{alias}", "none");
        let asks_for_key = operation.get("security").is_some();
        let stranger = Request::new(&method, &real).send(rig.address).await;
        assert_eq!(stranger.status == 401, asks_for_key, "{method} {path}: {stranger:?}");
        if asks_for_key {
            document.check(&method, path, &stranger);
        }
        let answer = rig.send(Request::new(&method, &real).body("{}")).await;
        assert!(![405, 501, 500].contains(&answer.status), "{method} {path}: {answer:?}");
        assert!(answer.status != 404 || !answer.text.contains("no such path"), "{method} {path}: {answer:?}");
        document.check(&method, path, &answer);
    }
}

#[tokio::test]
async fn every_answer_has_the_form_of_the_document() {
    let rig = Rig::with_pool(3).await;
    let document = Document::of(&rig).await;
    let body = json!({"templateID": POOL, "metadata": {"a": "b"}, "timeout": 60});
    let mut id = String::new();
    for path in ["/sandboxes", "/v2/sandboxes"] {
        let answer = rig.post(path, body.clone()).await;
        id = answer.ok(201)["sandboxID"].as_str().unwrap().to_owned();
        document.check("POST", path, &answer);
    }
    for path in [
        "/health",
        "/openapi.json",
        "/sandboxes",
        "/v2/sandboxes",
        "/sandboxes/{id}",
        "/sandboxes/{id}/metrics",
        "/sandboxes/{id}/logs",
        "/v2/sandboxes/{id}/logs",
        "/templates",
        "/teams",
        "/api-keys",
    ] {
        let answer = rig.get(&path.replace("{id}", &id)).await;
        answer.ok(200);
        document.check("GET", path, &answer);
    }
    for (path, real) in [
        ("/templates/{id}", format!("/templates/{POOL}")),
        ("/templates/aliases/{alias}", format!("/templates/aliases/{POOL}")),
    ] {
        let answer = rig.get(&real).await;
        answer.ok(200);
        document.check("GET", path, &answer);
    }
    for (path, body, status) in [
        ("/sandboxes/{id}/timeout", json!({"timeout": 120}), 204),
        ("/sandboxes/{id}/refreshes", json!({"duration": 300}), 204),
        ("/sandboxes/{id}/connect", json!({"timeout": 300}), 200),
        ("/sandboxes/{id}/pause", json!({}), 204),
        ("/sandboxes/{id}/pause", json!({}), 409),
        ("/v2/sandboxes/{id}/connect", json!({}), 201),
        ("/sandboxes/{id}/resume", json!({}), 409),
    ] {
        let answer = rig.post(&path.replace("{id}", &id), body).await;
        answer.ok(status);
        document.check("POST", path, &answer);
    }
    let answer = rig.post("/api-keys", json!({"name": "new"})).await;
    let key = answer.ok(201)["id"].as_str().unwrap().to_owned();
    document.check("POST", "/api-keys", &answer);
    for (path, id) in [("/api-keys/{id}", &key), ("/sandboxes/{id}", &id)] {
        let answer = rig.delete(&path.replace("{id}", id)).await;
        answer.ok(204);
        document.check("DELETE", path, &answer);
    }
}
