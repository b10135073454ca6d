//! [`PodTemplate`]: the template of a pod, kept as JSON text in two shared parts.
//!
//! A decoded template takes much more memory than its text. A claim writes labels of the user and the sandbox into the metadata of the
//! template, so the templates of a fleet in use all differ. Their specs stay equal within a pool. Each
//! template is therefore kept as two texts: the spec, and everything else. Sandboxes with an equal text share
//! one copy of that text, and the last of them frees the copy.
//!
//! Invariant: both texts together are the template that was read, unknown fields included. Only the order of
//! the fields `metadata` and `spec` may differ.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use shared_cache::{DecodeError, decode_text};

use super::Symbol;
use crate::api::json_text::{same_json, serialize_text};

/// The template of a pod.
///
/// Cloning increments two counters. Two templates are equal if their JSON is equal, unknown fields included.
/// The comparison parses texts only where they differ. Serializing writes the same JSON value: unknown fields are kept,
/// but not the blanks, and not the spelling of a number such as `1.50`.
#[derive(Clone)]
pub struct PodTemplate {
    /// The template without its spec, usually `{"metadata":{...}}`.
    head: Symbol,
    spec: Option<Symbol>,
}

impl PodTemplate {
    /// Decodes the template. Each call parses the texts and allocates the whole template, so keep the result.
    ///
    /// # Errors
    ///
    /// If a field has another type than in `PodTemplateSpec`. The error names the field. Such a template does
    /// not prevent its object from being read.
    pub fn decode(&self) -> Result<PodTemplateSpec, DecodeError> {
        decode_text(&self.to_json())
    }

    /// Returns the JSON text of the whole template. Allocates a text of that size.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Some(spec) = &self.spec else { return self.head.to_string() };
        let fields = self.head.strip_suffix('}').unwrap_or_default();
        let comma = if fields == "{" { "" } else { "," };
        format!("{fields}{comma}\"spec\":{spec}}}")
    }

    /// Returns the JSON text of the field `spec`. Templates with an equal spec share this text.
    #[must_use]
    pub fn spec_json(&self) -> Option<&str> {
        self.spec.as_deref()
    }

    /// Returns true if both templates share the copy of their spec in memory. Equal texts always do.
    #[must_use]
    pub fn shares_spec(&self, other: &Self) -> bool {
        match (&self.spec, &other.spec) {
            (Some(one), Some(other)) => one.ptr_eq(other),
            _ => false,
        }
    }

    /// Returns true if both templates share all their memory. Templates with equal texts always do.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.head.ptr_eq(&other.head)
            && (self.spec.is_none() && other.spec.is_none() || self.shares_spec(other))
    }
}

impl PartialEq for PodTemplate {
    fn eq(&self, other: &Self) -> bool {
        let same_spec = match (&self.spec, &other.spec) {
            (Some(one), Some(other)) => same_json(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_spec && same_json(&self.head, &other.head)
    }
}

impl fmt::Debug for PodTemplate {
    /// Writes the size only, because a template may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PodTemplate({} bytes of JSON)", self.to_json().len())
    }
}

impl From<&PodTemplateSpec> for PodTemplate {
    fn from(template: &PodTemplateSpec) -> Self {
        // Kubernetes types consist of structs, lists, texts, numbers and maps with text keys. JSON can
        // represent all of these.
        let text = serde_json::to_string(template).expect("Kubernetes types can be written as JSON");
        serde_json::from_str(&text).expect("a PodTemplateSpec is written as a JSON object")
    }
}

impl Serialize for PodTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_text(&self.to_json(), serializer)
    }
}

impl<'de> Deserialize<'de> for PodTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = PodTemplate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pod template")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PodTemplate, A::Error> {
                let (mut head, mut spec) = (String::from("{"), None);
                while let Some(key) = map.next_key::<Key>()? {
                    match key {
                        Key::Spec => spec = Some(Symbol::from(map.next_value::<ObjectText>()?.0)),
                        Key::Metadata => push(&mut head, "\"metadata\"", &map.next_value::<ObjectText>()?.0),
                        Key::Other(key) => push(&mut head, &key, map.next_value::<Box<RawValue>>()?.get()),
                    }
                }
                head.push('}');
                Ok(PodTemplate { head: head.into(), spec })
            }
        }
        deserializer.deserialize_map(Parts)
    }
}

/// Adds a field to the text of an object that is not closed yet. `key` is a JSON string.
fn push(object: &mut String, key: &str, value: &str) {
    if object.len() > 1 {
        object.push(',');
    }
    object.reserve(key.len() + value.len() + 2);
    object.push_str(key);
    object.push(':');
    object.push_str(value);
}

/// The name of a field of a template.
enum Key {
    Metadata,
    Spec,
    /// Any other name, as a JSON string.
    Other(String),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Key, E> {
                Ok(match name {
                    "metadata" => Key::Metadata,
                    "spec" => Key::Spec,
                    other => Key::Other(serde_json::to_string(other).map_err(E::custom)?),
                })
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// The text of a JSON object or of `null`. No other value can be metadata or spec.
struct ObjectText(Box<str>);

impl<'de> Deserialize<'de> for ObjectText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: Box<str> = Box::<RawValue>::deserialize(deserializer)?.into();
        if text.starts_with('{') || *text == *"null" {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("invalid type: expected an object"))
        }
    }
}

impl schemars::JsonSchema for PodTemplate {
    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    /// Returns a schema that accepts and keeps any JSON. The schema of a pod would be far larger than the
    /// rest of the CRD.
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        crate::api::schema::any_json(generator)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TEMPLATE: &str =
        r#"{"metadata":{"labels":{"app":"template"}},"spec":{"containers":[{"name":"c","novel":1.50}]}}"#;

    fn template(text: &str) -> PodTemplate {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn text_bytes_and_value_decode_alike() {
        let text = template(TEMPLATE);
        let bytes: PodTemplate = serde_json::from_slice(TEMPLATE.as_bytes()).unwrap();
        let value: PodTemplate = serde_json::from_value(serde_json::from_str(TEMPLATE).unwrap()).unwrap();
        assert!(text.ptr_eq(&bytes));
        assert_eq!(text, value);
        assert_eq!(text.to_json(), TEMPLATE);
        assert_eq!(text.decode().unwrap().spec.unwrap().containers[0].name, "c");
        assert_eq!(format!("{text:?}"), format!("PodTemplate({} bytes of JSON)", TEMPLATE.len()));
        assert_eq!(size_of::<Option<PodTemplate>>(), 16);
    }

    #[test]
    fn templates_that_differ_in_metadata_only_share_their_spec() {
        let other = TEMPLATE.replace("template", "claimed");
        let (one, two) = (template(TEMPLATE), template(&other));
        assert!(one.shares_spec(&two) && !one.ptr_eq(&two));
        assert_ne!(one, two);
        assert_eq!((two.to_json(), two.spec_json()), (other, one.spec_json()));
    }

    #[test]
    fn every_field_in_any_order_is_written_back() {
        for text in [
            TEMPLATE,
            "{}",
            r#"{"spec":{}}"#,
            r#"{"metadata":null,"spec":null}"#,
            r#"{"spec":{"a":[]},"novel":{"x":"}"},"metadata":{"b":"\""},"\"odd\"":1}"#,
        ] {
            let original: Value = serde_json::from_str(text).unwrap();
            let template = template(text);
            assert_eq!(serde_json::to_value(&template).unwrap(), original);
            assert_eq!(serde_json::from_str::<Value>(&template.to_json()).unwrap(), original);
            let yaml = serde_yaml::to_string(&template).unwrap();
            assert_eq!(serde_yaml::from_str::<Value>(&yaml).unwrap(), original);
        }
    }

    #[test]
    fn json_that_differs_in_order_and_blanks_is_equal_but_not_shared() {
        let one = template(r#"{"metadata":{"name":"x","namespace":"y"}}"#);
        let two = template(r#"{"metadata": {"namespace":"y","name":"x"}}"#);
        assert_eq!(one, two);
        assert!(!one.ptr_eq(&two));
        assert_ne!(one, template(r#"{"metadata":{"name":"x","new":1}}"#));
        assert_ne!(one, template(r#"{"metadata":{"name":"x","namespace":"y"},"spec":{}}"#));
    }

    #[test]
    fn a_template_built_in_memory_is_shared_with_its_json() {
        let built = PodTemplate::from(&PodTemplateSpec::default());
        assert!(built.ptr_eq(&template(&built.to_json())));
    }

    #[test]
    fn e6_a_decode_error_names_the_path_of_the_field() {
        let odd = template(r#"{"spec":{"containers":[{"name":"c"},{"name":"d","image":5}]}}"#);
        let error = odd.decode().unwrap_err().to_string();
        assert!(error.starts_with("spec.containers[1].image: invalid type: integer"), "{error}");
        for text in ["5", "[]", r#"{"spec":5}"#, r#"{"metadata":[]}"#] {
            assert!(serde_json::from_str::<PodTemplate>(text).is_err(), "{text}");
        }
        assert_eq!(
            serde_json::to_value(odd).unwrap()["spec"]["containers"][1],
            json!({"name": "d", "image": 5})
        );
    }
}
