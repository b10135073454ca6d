//! The definitions (CRDs) of all kinds of this version, generated from the types.
//!
//! Called by the command `sandbox-manager crd`; `config/crd/bases` holds the same text, which a test keeps equal. Another
//! test compares the fields with `tests/data/crd-fields.txt`, the list of fields that installations agree on.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::{VERSION, checkpoint, sandbox, sandboxset, sandboxtemplate};
use crate::api::schema::Shape;

/// Each kind with the name of its file in `config/crd/bases`.
const SHAPES: [(&str, Shape); 4] = [
    ("agents.kruise.io_sandboxes.yaml", sandbox::SHAPE),
    ("agents.kruise.io_sandboxsets.yaml", sandboxset::SHAPE),
    ("agents.kruise.io_sandboxtemplates.yaml", sandboxtemplate::SHAPE),
    ("agents.kruise.io_checkpoints.yaml", checkpoint::SHAPE),
];

/// The definitions of all kinds of this version, ready to be applied.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    SHAPES
        .iter()
        .map(|(_, shape)| shape.definition(VERSION))
        .collect()
}

/// The definitions as YAML, each with the name of its file in `config/crd/bases`.
#[must_use]
pub fn crd_files() -> Vec<(&'static str, String)> {
    SHAPES
        .iter()
        .map(|(file, shape)| (*file, yaml(&shape.definition(VERSION))))
        .collect()
}

/// The definitions as one YAML stream, as `kubectl apply -f -` reads it.
#[must_use]
pub fn crds_yaml() -> String {
    crds().iter().map(yaml).collect()
}

/// One YAML document, introduced by `---`.
fn yaml(definition: &CustomResourceDefinition) -> String {
    let document = serde_yaml::to_string(definition).expect("a definition holds nothing that YAML has not");
    format!("---\n{document}")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Map, Value};

    use super::*;

    fn repository() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn the_files_in_config_are_those_generated() {
        let directory = repository().join("config/crd/bases");
        for (name, generated) in crd_files() {
            let path = directory.join(name);
            if std::env::var_os("UPDATE_CRDS").is_some() {
                std::fs::write(&path, &generated).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == generated,
                "{name} is out of date; run `cargo run -- crd --output-dir config/crd/bases`"
            );
        }
        assert_eq!(
            std::fs::read_dir(&directory).unwrap().count(),
            SHAPES.len(),
            "a file of no kind"
        );
    }

    #[test]
    fn the_stream_holds_each_definition_once() {
        use serde::Deserialize;
        let stream = crds_yaml();
        let documents = serde_yaml::Deserializer::from_str(&stream);
        let read: Vec<_> = documents
            .map(|document| CustomResourceDefinition::deserialize(document).unwrap())
            .collect();
        assert_eq!(read, crds());
    }

    #[test]
    fn names_columns_subresources_and_fields_are_those_agreed_on() {
        let expected = std::fs::read_to_string(repository().join("tests/data/crd-fields.txt")).unwrap();
        let expected: Vec<&str> = expected.lines().filter(|line| !line.starts_with('#')).collect();
        let mut actual = Vec::new();
        for definition in crds() {
            describe(&serde_json::to_value(definition).unwrap(), &mut actual);
        }
        for (expected, actual) in expected.iter().zip(&actual) {
            assert_eq!(expected, actual);
        }
        assert_eq!(expected.len(), actual.len());
    }

    #[test]
    fn every_field_is_described() {
        fn check(path: &str, schema: &Value) {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                assert!(
                    property["description"].is_string() || name == "metadata",
                    "{path}"
                );
                check(&path, property);
            }
            if schema["items"].is_object() {
                check(&format!("{path}[]"), &schema["items"]);
            }
        }
        for definition in crds() {
            let definition = serde_json::to_value(definition).unwrap();
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
            // spec and status of a kind are introduced by the description of their type.
            check(kind, schema);
        }
    }

    /// Writes one line for each fact of a definition, in the form of `tests/data/crd-fields.txt`.
    fn describe(definition: &Value, lines: &mut Vec<String>) {
        let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines.push(format!(
            "kind {} {} {} {} {}",
            text(&names["kind"]),
            text(&names["plural"]),
            text(&names["singular"]),
            names["shortNames"],
            text(&spec["scope"])
        ));
        assert_eq!(spec["versions"].as_array().unwrap().len(), 1);
        let version = &spec["versions"][0];
        lines.push(format!(
            "version {} served={} storage={}",
            text(&version["name"]),
            version["served"],
            version["storage"]
        ));
        for (name, subresource) in version["subresources"].as_object().into_iter().flatten() {
            lines.push(format!("subresource {name} {subresource}"));
        }
        for column in version["additionalPrinterColumns"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let [name, kind, path] = ["name", "type", "jsonPath"].map(|key| text(&column[key]));
            lines.push(format!("column {name} {kind} {path}"));
        }
        let mut schema = version["schema"]["openAPIV3Schema"].clone();
        let properties = schema["properties"].as_object_mut().unwrap();
        // Every kind has these two; the list does not name them.
        assert!(properties.remove("apiVersion").is_some() && properties.remove("kind").is_some());
        children("", &schema, lines);
    }

    /// Writes the line of one field and those below it.
    fn field(path: &str, schema: &Value, lines: &mut Vec<String>) {
        let schema = schema.as_object().unwrap();
        let kind = schema.get("type").map_or("any", |kind| kind.as_str().unwrap());
        let mut line = format!("{path}  {kind}");
        let attributes = attributes(schema);
        if !attributes.is_empty() {
            line.push_str("  ");
            line.push_str(&attributes.join(" "));
        }
        lines.push(line);
        children(path.trim_end_matches('!'), &Value::Object(schema.clone()), lines);
    }

    fn children(path: &str, schema: &Value, lines: &mut Vec<String>) {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let dot = if path.is_empty() { "" } else { "." };
            let mark = if required.contains(&Value::from(name.as_str())) {
                "!"
            } else {
                ""
            };
            field(&format!("{path}{dot}{name}{mark}"), property, lines);
        }
        if schema["items"].is_object() {
            field(&format!("{path}[]"), &schema["items"], lines);
        }
        if schema["additionalProperties"].is_object() {
            field(&format!("{path}{{}}"), &schema["additionalProperties"], lines);
        }
    }

    /// Everything else that the schema says of a field, so that nothing unexpected goes unseen.
    fn attributes(schema: &Map<String, Value>) -> Vec<String> {
        const STRUCTURE: [&str; 6] = [
            "type",
            "description",
            "properties",
            "required",
            "items",
            "additionalProperties",
        ];
        let mut rest = schema.clone();
        rest.retain(|keyword, _| !STRUCTURE.contains(&keyword.as_str()));
        let order = [
            "format",
            "enum",
            "default",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-list-type",
            "x-kubernetes-map-type",
            "x-kubernetes-preserve-unknown-fields",
            "x-kubernetes-int-or-string",
            "minimum",
            "minLength",
            "maxLength",
            "pattern",
        ];
        let mut attributes = Vec::new();
        for keyword in order {
            if let Some(value) = rest.remove(keyword) {
                attributes.push(format!(
                    "{}={}",
                    keyword.trim_start_matches("x-kubernetes-"),
                    plain(&value)
                ));
            }
        }
        attributes.extend(
            rest.iter()
                .map(|(keyword, value)| format!("unexpected {keyword}={value}")),
        );
        attributes
    }

    /// A value as the list writes it.
    fn plain(value: &Value) -> String {
        match value {
            Value::Bool(true) => "True".to_owned(),
            Value::String(text) => text.clone(),
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                number.as_f64().unwrap().to_string()
            }
            Value::Array(items) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|item| format!("'{}'", item.as_str().unwrap()))
                    .collect();
                format!("[{}]", items.join(", "))
            }
            other => other.to_string(),
        }
    }
}
