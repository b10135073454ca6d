//! [`JsonText`]: a part of an object that is kept as JSON text and decoded on demand.
//!
//! A decoded list or map takes hundreds of bytes in each object, although few readers need it. The text of
//! such a part is shared by all objects with an equal text, and costs 8 bytes in each of them. The text also
//! keeps the fields that this version does not know.
//!
//! Invariant: the text can be decoded as `T`. Reading an object checks this once, because the error must name
//! the field of that object.
//!
//! Decoding needs the raw text, so it works with `serde_json` only (text, bytes or `serde_json::Value`).
//! YAML must be converted to `serde_json::Value` first. So must all content that serde buffers, such as
//! untagged enums and flattened structs.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::symbol::Symbol;

/// A value of type `T` in the form of its JSON text, shared by all objects of the process with an equal text.
///
/// Cloning increments a counter. Two values are equal if their JSON is equal, unknown fields included. The
/// comparison parses both texts unless they are the same text. Serializing writes the same JSON value: unknown fields are
/// kept, but not the blanks, and not the spelling of a number such as `1.50`. [`Self::as_json`] returns the text.
pub struct JsonText<T> {
    text: Symbol,
    kind: PhantomData<fn() -> T>,
}

impl<T> JsonText<T> {
    /// Returns the JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.text
    }

    /// Returns true if both values share one copy in memory. Values with an equal text always do.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.text.ptr_eq(&other.text)
    }
}

impl<T: DeserializeOwned> JsonText<T> {
    /// Decodes the text. Each call parses the text and allocates the value, so keep the result.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the text was checked when it was read")]
    pub fn decode(&self) -> T {
        serde_json::from_str(&self.text).expect("the text was checked when it was read")
    }
}

impl<T> Clone for JsonText<T> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), kind: PhantomData }
    }
}

impl<T> PartialEq for JsonText<T> {
    fn eq(&self, other: &Self) -> bool {
        same_json(&self.text, &other.text)
    }
}

/// Returns true if both texts are the same JSON value.
pub(super) fn same_json(one: &Symbol, other: &Symbol) -> bool {
    let json = |text: &Symbol| serde_json::from_str::<Value>(text).ok();
    one == other || json(one).is_some_and(|one| Some(one) == json(other))
}

impl<T> fmt::Debug for JsonText<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T: Serialize> From<T> for JsonText<T> {
    fn from(value: T) -> Self {
        // The types of the fields consist of structs, lists, texts, numbers and maps with text keys. JSON can
        // represent all of these.
        let text = serde_json::to_string(&value).expect("the fields of our kinds can be written as JSON");
        Self { text: text.into(), kind: PhantomData }
    }
}

impl<T> Serialize for JsonText<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_text(&self.text, serializer)
    }
}

/// Serializes the JSON value of a text.
///
/// The text is parsed first, because only the serializers of `serde_json` understand a `RawValue`.
pub(super) fn serialize_text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<Value>(text).map_err(S::Error::custom)?.serialize(serializer)
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for JsonText<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: Box<str> = Box::<RawValue>::deserialize(deserializer)?.into();
        serde_json::from_str::<T>(&text).map_err(|error| D::Error::custom(without_position(&error)))?;
        Ok(Self { text: text.into(), kind: PhantomData })
    }
}

/// Returns the message without line and column.
///
/// Line and column count from the start of the part, so they would be wrong for the whole object.
fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for JsonText<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Names = JsonText<Vec<String>>;

    #[test]
    fn text_bytes_and_value_decode_alike_and_share_one_copy() {
        let text: Names = serde_json::from_str(r#"["a","b"]"#).unwrap();
        let bytes: Names = serde_json::from_slice(br#"["a","b"]"#).unwrap();
        let value: Names = serde_json::from_value(serde_json::json!(["a", "b"])).unwrap();
        let built = Names::from(vec!["a".to_owned(), "b".to_owned()]);
        assert!(text.ptr_eq(&bytes) && text.ptr_eq(&value) && text.ptr_eq(&built));
        assert_eq!(text.decode(), ["a", "b"]);
        assert_eq!((text.as_json(), size_of::<Option<Names>>()), (r#"["a","b"]"#, 8));
        assert_eq!(serde_yaml::to_string(&text).unwrap(), "- a\n- b\n");
    }

    #[test]
    fn json_that_differs_in_blanks_is_equal_but_not_shared() {
        let (one, two): (Names, Names) =
            (serde_json::from_str(r#"["a"]"#).unwrap(), serde_json::from_str(r#"[ "a" ]"#).unwrap());
        assert_eq!(one, two);
        assert!(!one.ptr_eq(&two));
        assert_ne!(one, serde_json::from_str(r#"["b"]"#).unwrap());
    }

    #[test]
    fn a_text_of_another_type_is_an_error() {
        let error = serde_json::from_str::<Names>(r#"["a",5]"#).unwrap_err().to_string();
        assert!(error.starts_with("invalid type: integer `5`, expected a string"), "{error}");
    }
}
