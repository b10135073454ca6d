//! The file of options as a JSON schema, for editors and for the Helm chart's `values.schema.json`.
//!
//! Derived from [`SandboxManagerOptions`] by schemars. What the schema accepts, the process accepts, with the
//! exceptions that [`text`](super::text) names. The schema is stricter in one point: texts must be strings (`"0"`).

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{
    SandboxManagerOptions,
    document::{API_VERSION, KIND},
};

/// The schema as derived, with the keywords beginning with `x-` that [`SETTINGS`](super::SETTINGS) reads.
pub(super) fn derived() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<SandboxManagerOptions>().to_value();
    each_schema(&mut schema, &mut |schema| {
        join_words(schema);
        // Doc comments are wrapped; their line breaks mean nothing.
        if let Some(description) = schema["description"].as_str() {
            schema["description"] = json!(description.replace('\n', " "));
        }
    });
    schema
}

/// Calls `visit` for a schema and every schema of a field in it.
fn each_schema(schema: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    visit(schema);
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    fields.into_iter().flat_map(|fields| fields.values_mut()).for_each(|field| each_schema(field, visit));
}

/// An enumeration with documented words becomes a plain `enum`: validators name its words in their errors.
fn join_words(schema: &mut Value) {
    let Some(choices) = schema.get("oneOf").and_then(Value::as_array) else { return };
    schema["enum"] = choices.iter().map(|choice| choice["const"].clone()).collect();
    schema["type"] = json!("string");
    remove(schema, |name| name == "oneOf");
}

fn remove(schema: &mut Value, unwanted: impl Fn(&str) -> bool) {
    if let Some(keywords) = schema.as_object_mut() {
        keywords.retain(|name, _| !unwanted(name));
    }
}

impl SandboxManagerOptions {
    /// Returns the JSON schema (draft 7 and later) of the file, without `$schema`.
    #[must_use]
    pub fn json_schema() -> Value {
        let mut root = derived();
        // Defaults of a section would repeat those of its fields, and a file can leave out every field.
        let unwanted =
            |name: &str| name.starts_with("x-") || ["format", "required", "title", "default"].contains(&name);
        each_schema(&mut root, &mut |schema| remove(schema, unwanted));
        for (field, only) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            root["properties"][field] = json!({ "const": only });
        }
        set_defaults(&mut root, &Self::default().to_json());
        root
    }

    /// Returns these options as the JSON of a file that has all of them, without `apiVersion` and `kind`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        to_value(self)
    }
}

fn to_value(options: &SandboxManagerOptions) -> Value {
    serde_json::to_value(options).expect("the options hold only sections, texts, numbers and booleans")
}

fn set_defaults(schema: &mut Value, value: &Value) {
    match value.as_object() {
        Some(fields) => {
            fields.iter().for_each(|(name, value)| set_defaults(&mut schema["properties"][name], value));
        }
        None => schema["default"] = value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::SETTINGS, *};

    #[test]
    fn every_setting_is_in_the_schema_with_its_description_and_default() {
        let schema = SandboxManagerOptions::json_schema();
        for setting in &*SETTINGS {
            let leaf = setting.path.split('.').fold(&schema, |place, name| &place["properties"][name]);
            assert_eq!(leaf["description"], setting.help, "{}", setting.path);
            let default = leaf["default"].as_str().map_or_else(|| leaf["default"].to_string(), str::to_owned);
            assert_eq!(default, setting.get(&SandboxManagerOptions::default()), "{}", setting.path);
        }
    }

    #[test]
    fn the_schema_has_keywords_of_json_schema_only_and_accepts_no_unknown_field() {
        let mut sections = 0;
        each_schema(&mut SandboxManagerOptions::json_schema(), &mut |schema| {
            for keyword in schema.as_object().unwrap().keys() {
                let known = [
                    "type",
                    "description",
                    "default",
                    "properties",
                    "additionalProperties",
                    "pattern",
                    "allOf",
                    "enum",
                    "const",
                    "minimum",
                    "maximum",
                ];
                assert!(known.contains(&keyword.as_str()), "{keyword}: {schema}");
            }
            if schema["type"] == "object" {
                sections += 1;
                assert_eq!(schema["additionalProperties"], false, "{schema}");
            }
        });
        assert_eq!(sections, 17);
    }

    #[test]
    fn options_as_json_are_the_file_without_its_header() {
        let mut options = SandboxManagerOptions::default();
        options.debug.enabled = true;
        let mut file: Value = serde_yaml::from_str(&options.to_yaml()).unwrap();
        for field in ["apiVersion", "kind"] {
            file.as_object_mut().unwrap().remove(field).unwrap();
        }
        assert_eq!(options.to_json(), file);
    }
}
