//! [`Kubeconform`]: `kubeconform` with JSON schemas made from what an API server itself says of its kinds.
//!
//! The schemas are strict: a field that the server does not know is refused.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};
use kube::Client;
use serde_json::{Map, Value, json};

use super::helm::{printed, program, run};
use crate::support::{SOON, eventually};

/// Schemas of all kinds of an API server, in a folder that goes with it.
pub(super) struct Kubeconform {
    folder: tempfile::TempDir,
}

impl Kubeconform {
    /// Asks a server for its OpenAPI document and makes a schema of every kind in it.
    pub(super) async fn of(client: &Client) -> Self {
        let definitions = definitions(client).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let strict: Map<_, _> =
            definitions.iter().map(|(name, schema)| (name.clone(), strict(schema.clone()))).collect();
        let all = json!({ "definitions": strict });
        fs::write(folder.path().join("definitions.json"), all.to_string()).expect("a file in it");
        for (name, definition) in &definitions {
            for gvk in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let text = |field: &str| gvk[field].as_str().unwrap_or_default().to_lowercase();
                // kubeconform takes `v1` for both the group and the version of the kinds that have no group.
                let group = Some(text("group")).filter(|group| !group.is_empty());
                let group = group.unwrap_or_else(|| text("version"));
                let file = format!("{group}_{}_{}.json", text("version"), text("kind"));
                let schema = json!({
                    "$schema": "http://json-schema.org/draft-07/schema#",
                    "$ref": format!("definitions.json#/definitions/{name}"),
                });
                fs::write(folder.path().join(file), schema.to_string()).expect("a file in it");
            }
        }
        Self { folder }
    }

    /// Checks objects; the error names those that do not fit, and says why.
    pub(super) fn check(&self, objects: &[Value]) -> Result<(), String> {
        // As JSON: what one library of YAML writes without quotes, another may not read as a text.
        let documents: Vec<_> = objects.iter().map(Value::to_string).collect();
        self.check_text(&documents.join("\n---\n"), objects.len())
    }

    /// Checks a YAML text of so many objects, as it is.
    pub(super) fn check_text(&self, yaml: &str, objects: usize) -> Result<(), String> {
        let location = "{{ .Group }}_{{ .ResourceAPIVersion }}_{{ .ResourceKind }}.json";
        let mut command = Command::new(program("kubeconform"));
        command.args(["-strict", "-summary", "-output", "text", "-schema-location"]);
        command.arg(format!("{}/{location}", self.folder.path().display())).arg("-").env_clear();
        let output = run(&mut command, yaml);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let summary = printed(&output).map_err(|error| format!("{said}{error}"))?;
        let expected = format!("Valid: {objects}, Invalid: 0, Errors: 0, Skipped: 0");
        if summary.contains(&expected) { Ok(()) } else { Err(format!("{summary}expected {expected}")) }
    }
}

/// The definitions of a server's OpenAPI document, once those of the chart's custom kinds are among them.
async fn definitions(client: &Client) -> Map<String, Value> {
    eventually("the OpenAPI document has all kinds", SOON, async || {
        let request = http::Request::get("/openapi/v2").body(Vec::new())?;
        let document: Value = serde_json::from_str(&client.request_text(request).await?)?;
        let definitions = document["definitions"].as_object().context("no definitions")?;
        for kind in ["SandboxSet", "ServiceMonitor", "PrometheusRule"] {
            let known = definitions.keys().any(|name| name.rsplit('.').next() == Some(kind));
            ensure!(known, "no {kind}");
        }
        Ok(definitions.clone())
    })
    .await
}

/// A definition of OpenAPI 2 as a JSON Schema that refuses unknown fields.
fn strict(mut schema: Value) -> Value {
    if schema["format"] == "int-or-string" {
        return json!({ "type": ["integer", "string"] });
    }
    // Kubernetes says that a quantity is a string; it takes numbers, too, and the chart uses none.
    if let Some(reference) = schema["$ref"].as_str() {
        return json!({ "$ref": reference });
    }
    let Some(fields) = schema.as_object_mut() else { return schema };
    let open = fields.contains_key("additionalProperties")
        || fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    if fields.contains_key("properties") && !open {
        fields.insert("additionalProperties".into(), json!(false));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            *inner = strict(inner.take());
        }
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        for (_, inner) in properties {
            *inner = strict(inner.take());
        }
    }
    schema
}
