//! [`DOCUMENT`]: the API as an OpenAPI 3 document, made of the table of endpoints and of the types on the wire.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::errors::ErrorBody;
use super::route::{ENDPOINTS, Endpoint, Operation};
use super::types::{
    Alias, Connect, CreatedKey, ListedKey, ListedSandbox, Logs, NewKey, NewSandbox, NewTimeout, Pause,
    Refresh, SandboxAnswer, SandboxDetail, Team, Template,
};
use crate::version::VERSION;

/// The document. It is the same for every server of this version.
pub(super) static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// What an operation takes and gives.
struct Shape {
    summary: &'static str,
    /// Names and texts of the parameters of the query.
    query: &'static [(&'static str, &'static str)],
    body: Option<Value>,
    /// Statuses and bodies of the answers that are no errors.
    answers: Vec<(u16, Option<Value>)>,
}

const LIST_QUERY: &[(&str, &str)] = &[
    ("metadata", "key=value pairs joined by &, each key and value escaped, and the whole escaped again"),
    ("state", "running, paused, or both with a comma"),
    ("limit", "1 to 100"),
    ("nextToken", "the header x-next-token of the page before"),
    ("order", "asc or desc, by the start"),
    ("startedAfter", "RFC 3339 with an offset, inclusive"),
    ("template", "a template ID"),
];

fn document() -> Value {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let error = schema::<ErrorBody>(&mut generator);
    let mut paths = Map::new();
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.operation != Operation::Unsupported) {
        let path = paths.entry(format!("/{}", endpoint.path)).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation(endpoint, &error, &mut generator);
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "sandbox-manager",
            "description": "The part of the E2B API that sandbox-manager serves.",
            "version": VERSION,
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
    })
}

fn operation(endpoint: &Endpoint, error: &Value, generator: &mut SchemaGenerator) -> Value {
    let Shape { summary, query, body, answers } = shape(endpoint.operation, generator);
    let in_path = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let text = json!({"type": "string"});
    let parameters: Vec<_> = in_path
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": text}))
        .chain(query.iter().map(|(name, description)| {
            json!({"name": name, "in": "query", "description": description, "schema": text})
        }))
        .collect();
    let content = |schema: Value| json!({"application/json": {"schema": schema}});
    let mut responses = Map::new();
    for (status, body) in answers {
        let mut response = json!({"description": "done"});
        if let Some(body) = body {
            response["content"] = content(body);
        }
        responses.insert(status.to_string(), response);
    }
    if !endpoint.operation.is_public() {
        responses
            .insert("default".to_owned(), json!({"description": "error", "content": content(error.clone())}));
    }
    let name = endpoint.operation.as_str();
    // Both dialects have the same operation; its id must be unique.
    let id = match endpoint.path.strip_prefix("v2/") {
        Some(_) if !name.ends_with("V2") => format!("{name}V2"),
        _ => name.to_owned(),
    };
    let mut described =
        json!({"operationId": id, "summary": summary, "parameters": parameters, "responses": responses});
    if !endpoint.operation.is_public() {
        described["security"] = json!([{"ApiKey": []}]);
    }
    if let Some(body) = body {
        described["requestBody"] = json!({"content": content(body)});
    }
    described
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn list<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    json!({"type": "array", "items": schema::<T>(generator)})
}

fn shape(operation: Operation, generator: &mut SchemaGenerator) -> Shape {
    use Operation as Op;
    let g = generator;
    let plain =
        |summary, status, answer| Shape { summary, query: &[], body: None, answers: vec![(status, answer)] };
    let with_body =
        |summary, body, status, answer| Shape { body: Some(body), ..plain(summary, status, answer) };
    match operation {
        Op::Health => plain("Says that the server answers", 200, Some(json!({"type": "object"}))),
        Op::OpenApi => plain("Returns this document", 200, Some(json!({"type": "object"}))),
        Op::CreateSandbox => {
            let (body, answer) = (schema::<NewSandbox>(g), schema::<SandboxAnswer>(g));
            with_body("Creates a sandbox from a template", body, 201, Some(answer))
        }
        Op::ListSandboxes | Op::ListRunningSandboxes => {
            Shape { query: LIST_QUERY, ..plain("Lists sandboxes", 200, Some(list::<ListedSandbox>(g))) }
        }
        Op::GetSandbox => plain("Returns a sandbox", 200, Some(schema::<SandboxDetail>(g))),
        Op::KillSandbox => plain("Deletes a sandbox", 204, None),
        Op::SetTimeout => with_body("Changes when a sandbox ends", schema::<NewTimeout>(g), 204, None),
        Op::RefreshSandbox => with_body("Lets a sandbox end later", schema::<Refresh>(g), 204, None),
        Op::PauseSandbox => with_body("Pauses a sandbox", schema::<Pause>(g), 204, None),
        Op::ConnectSandbox => {
            let (body, answer) = (schema::<Connect>(g), schema::<SandboxAnswer>(g));
            Shape {
                summary: "Lets a sandbox run for some time, and resumes it if it is paused (201)",
                query: &[],
                body: Some(body),
                answers: vec![(200, Some(answer.clone())), (201, Some(answer))],
            }
        }
        Op::ResumeSandbox => {
            let (body, answer) = (schema::<Connect>(g), schema::<SandboxAnswer>(g));
            with_body("Resumes a paused sandbox", body, 201, Some(answer))
        }
        Op::SandboxMetrics => {
            plain("Returns no metrics", 200, Some(json!({"type": "array", "items": {"type": "object"}})))
        }
        Op::SandboxLogs | Op::SandboxLogsV2 => plain("Returns no logs", 200, Some(schema::<Logs>(g))),
        Op::ListTemplates => plain("Lists templates", 200, Some(list::<Template>(g))),
        Op::GetAlias => plain("Returns the template of an alias", 200, Some(schema::<Alias>(g))),
        Op::GetTemplate => plain("Returns a template", 200, Some(schema::<Template>(g))),
        Op::ListTeams => plain("Returns the team of the key", 200, Some(list::<Team>(g))),
        Op::ListKeys => plain("Lists the keys of the team", 200, Some(list::<ListedKey>(g))),
        Op::CreateKey => {
            let (body, answer) = (schema::<NewKey>(g), schema::<CreatedKey>(g));
            with_body("Creates a key", body, 201, Some(answer))
        }
        Op::DeleteKey => plain("Removes a key", 204, None),
        Op::Unsupported => plain("", 501, None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_has_every_endpoint_and_every_reference_leads_somewhere() {
        let document = document();
        let served = ENDPOINTS.iter().filter(|endpoint| endpoint.operation != Operation::Unsupported);
        let mut ids = BTreeSet::new();
        for endpoint in served {
            let operation = &document["paths"][format!("/{}", endpoint.path)]
                [endpoint.method.as_str().to_ascii_lowercase()];
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(ids.insert(id.clone()), "{id} twice");
            assert_ne!(operation["summary"], "", "{id}");
        }
        let text = document.to_string();
        let references: BTreeSet<_> =
            text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(references.len() > 10, "{references:?}");
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_names_on_the_wire_are_those_of_the_sdks() {
        let document = document();
        let properties = &document["components"]["schemas"]["NewSandbox"]["properties"];
        for name in ["templateID", "envVars", "allow_internet_access", "autoPauseMemory", "volumeMounts"] {
            assert!(properties[name].is_object(), "{name}: {properties}");
        }
    }
}
