//! Decodes the body of a server-side apply: JSON, or YAML, which is converted to JSON.
//!
//! A few bytes of YAML can expand to a very large value, because an alias repeats a value that may have other aliases.
//! So the size is counted while the body is read, and reading ends at [`MAX_EXPANDED`].

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde_json::{Map, Number, Value};

use super::not_an_object;
use crate::error::ApiError;

/// Maximum size of a body with all aliases expanded: the bytes of its texts, and a few for each value.
const MAX_EXPANDED: usize = 3 * 1024 * 1024;

/// The size of a value without its text.
const VALUE_SIZE: usize = 4;

/// Maximum number of brackets that are open at once. The parser of YAML takes quadratic time for them.
const MAX_OPEN_BRACKETS: usize = 200;

/// The object to apply: the first document of the body. An empty document is an empty object.
pub(crate) fn read(body: &[u8]) -> Result<Value, ApiError> {
    if body.trim_ascii_start().starts_with(b"{")
        && let Ok(value @ Value::Object(_)) = serde_json::from_slice(body)
    {
        return Ok(value);
    }
    let decoding = |problem: String| ApiError::bad_request(format!("error decoding YAML: {problem}"));
    if open_brackets(body) > MAX_OPEN_BRACKETS {
        return Err(decoding("lists or objects are nested too deeply".to_owned()));
    }
    let left = Cell::new(MAX_EXPANDED);
    let first = serde_yaml::Deserializer::from_slice(body).next();
    match first.map_or(Ok(Value::Null), |document| Counted(&left).deserialize(document)) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(Value::Null) => Ok(Value::Object(Map::new())),
        Ok(other) => {
            let problem = not_an_object(&other);
            Err(decoding(format!("error unmarshaling JSON: while decoding JSON: {problem}")))
        }
        Err(error) => Err(decoding(format!("error converting YAML to JSON: yaml: {error}"))),
    }
}

/// The maximum number of brackets that are open at once, also in texts.
fn open_brackets(body: &[u8]) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in body {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Reads a value, and subtracts its size from the size that is left.
#[derive(Clone, Copy)]
struct Counted<'c>(&'c Cell<usize>);

impl Counted<'_> {
    fn count<E: Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(bytes + VALUE_SIZE);
        self.0.set(left.ok_or_else(|| E::custom("document contains excessive aliasing or is too large"))?);
        Ok(())
    }

    fn counted<E: Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        self.count(0)?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.counted(Value::Null)
    }

    /// An empty document.
    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.counted(Value::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        self.counted(truth)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.counted(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.counted(number)
    }

    fn visit_f64<E: Error>(self, float: f64) -> Result<Value, E> {
        let number = Number::from_f64(float);
        self.counted(number.ok_or_else(|| E::custom(format!("unsupported value: {float}")))?)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.count(text.len())?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        self.count(0)?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.count(0)?;
        let mut fields = Map::new();
        while let Some((key, value)) = map.next_entry_seed(self, self)? {
            let key = match key {
                Value::String(text) => text,
                Value::Array(_) | Value::Object(_) => {
                    return Err(A::Error::custom("a key is a list or a map"));
                }
                scalar => scalar.to_string(),
            };
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }

    /// A value with a tag, which is ignored.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (IgnoredAny, content) = tagged.variant()?;
        content.newtype_variant_seed(self)
    }
}
