//! Converts messages to JSON objects, field by field.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::wire::{Fields, Malformed, Wire};

/// The fields that a message can have.
pub(super) type Message = &'static [Field];

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    number: u64,
    name: &'static str,
    form: Form,
    occurs: Occurs,
}

/// The form of a value.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    Bytes,
    Whole,
    Truth,
    Time,
    IntOrString,
    /// JSON as it is.
    Json,
    Message(Message),
}

/// The number of times that a field occurs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Occurs {
    /// Once. Go always writes it. Its zero value, such as an empty text, means that the field is absent.
    Once,
    /// At most once. Its zero value is a value like others.
    Given,
    Many,
    /// Any number of times, each with a key.
    Map,
}

impl Field {
    const fn new(number: u64, name: &'static str, form: Form) -> Self {
        Self { number, name, form, occurs: Occurs::Once }
    }

    pub(super) const fn text(number: u64, name: &'static str) -> Self {
        Self::new(number, name, Form::Text)
    }

    pub(super) const fn bytes(number: u64, name: &'static str) -> Self {
        Self::new(number, name, Form::Bytes)
    }

    pub(super) const fn whole(number: u64, name: &'static str) -> Self {
        Self::new(number, name, Form::Whole)
    }

    pub(super) const fn truth(number: u64, name: &'static str) -> Self {
        Self::new(number, name, Form::Truth)
    }

    pub(super) const fn time(number: u64, name: &'static str) -> Self {
        Self::new(number, name, Form::Time)
    }

    pub(super) const fn int_or_string(number: u64, name: &'static str) -> Self {
        Self::new(number, name, Form::IntOrString)
    }

    pub(super) const fn json(number: u64, name: &'static str) -> Self {
        Self::new(number, name, Form::Json)
    }

    pub(super) const fn message(number: u64, name: &'static str, message: Message) -> Self {
        Self::new(number, name, Form::Message(message))
    }

    pub(super) const fn given(mut self) -> Self {
        self.occurs = Occurs::Given;
        self
    }

    pub(super) const fn many(mut self) -> Self {
        self.occurs = Occurs::Many;
        self
    }

    pub(super) const fn map(mut self) -> Self {
        self.occurs = Occurs::Map;
        self
    }
}

/// Reads a message as a JSON object. Fields that the message does not have are skipped.
pub(super) fn read(message: Message, bytes: &[u8]) -> Result<Map<String, Value>, Malformed> {
    let mut object = Map::new();
    for field in Fields::of(bytes) {
        let (number, wire) = field?;
        let Some(known) = message.iter().find(|known| known.number == number) else { continue };
        match known.occurs {
            Occurs::Once => {
                let value = value(known.form, wire)?;
                if !is_zero(&value) {
                    object.insert(known.name.to_owned(), value);
                }
            }
            Occurs::Given => {
                object.insert(known.name.to_owned(), value(known.form, wire)?);
            }
            Occurs::Many => {
                let value = value(known.form, wire)?;
                let items = object.entry(known.name).or_insert_with(|| json!([]));
                items.as_array_mut().into_iter().for_each(|items| items.push(value.clone()));
            }
            Occurs::Map => {
                let (key, value) = entry(known.form, wire)?;
                let entries = object.entry(known.name).or_insert_with(|| json!({}));
                entries[key] = value;
            }
        }
    }
    Ok(object)
}

/// Reads the key and the value of one entry of a map. An absent one is empty.
fn entry(form: Form, wire: Wire<'_>) -> Result<(String, Value), Malformed> {
    let (mut key, mut found) = (String::new(), value(form, Wire::Bytes(&[]))?);
    for field in Fields::of(bytes(wire)?) {
        match field? {
            (1, wire) => key = text(wire)?,
            (2, wire) => found = value(form, wire)?,
            _ => {}
        }
    }
    Ok((key, found))
}

fn value(form: Form, wire: Wire<'_>) -> Result<Value, Malformed> {
    Ok(match form {
        Form::Text => Value::String(text(wire)?),
        Form::Bytes => Value::String(STANDARD.encode(bytes(wire)?)),
        Form::Whole => json!(whole(wire)?),
        Form::Truth => json!(number(wire)? != 0),
        Form::Time => time(bytes(wire)?)?,
        Form::IntOrString => int_or_string(bytes(wire)?)?,
        Form::Json => raw_json(bytes(wire)?)?,
        Form::Message(message) => Value::Object(read(message, bytes(wire)?)?),
    })
}

/// Returns true for the value of a field that is not set.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Array(_) => false,
    }
}

fn bytes(wire: Wire<'_>) -> Result<&[u8], Malformed> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        Wire::Number(_) | Wire::Fixed => Err(Malformed("proto: wrong wireType".to_owned())),
    }
}

fn number(wire: Wire<'_>) -> Result<u64, Malformed> {
    match wire {
        Wire::Number(number) => Ok(number),
        Wire::Bytes(_) | Wire::Fixed => Err(Malformed("proto: wrong wireType".to_owned())),
    }
}

/// Negative numbers are written in 64 bits, also those of 32 bits.
fn whole(wire: Wire<'_>) -> Result<i64, Malformed> {
    number(wire).map(u64::cast_signed)
}

pub(super) fn text(wire: Wire<'_>) -> Result<String, Malformed> {
    let text = String::from_utf8(bytes(wire)?.to_vec());
    text.map_err(|_| Malformed("proto: a text is no UTF-8".to_owned()))
}

/// Reads a time. The zero time of Go becomes `null`.
fn time(message: &[u8]) -> Result<Value, Malformed> {
    let (mut seconds, mut nanoseconds) = (0, 0);
    for field in Fields::of(message) {
        match field? {
            (1, wire) => seconds = whole(wire)?,
            (2, wire) => nanoseconds = whole(wire)?,
            _ => {}
        }
    }
    if seconds == 0 && nanoseconds == 0 {
        return Ok(Value::Null);
    }
    let out_of_range = |_| Malformed("proto: a time is out of range".to_owned());
    Timestamp::from_second(seconds).map(|time| json!(time.to_string())).map_err(out_of_range)
}

/// Reads a number or a text. Field 1 tells which of them counts.
fn int_or_string(message: &[u8]) -> Result<Value, Malformed> {
    let (mut is_text, mut int, mut string) = (false, 0, String::new());
    for field in Fields::of(message) {
        match field? {
            (1, wire) => is_text = number(wire)? == 1,
            (2, wire) => int = whole(wire)?,
            (3, wire) => string = text(wire)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(string) } else { json!(int) })
}

/// Reads a message that has JSON in its first field.
fn raw_json(message: &[u8]) -> Result<Value, Malformed> {
    let mut raw: &[u8] = &[];
    for field in Fields::of(message) {
        if let (1, wire) = field? {
            raw = bytes(wire)?;
        }
    }
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(raw).map_err(|error| Malformed(format!("proto: no JSON: {error}")))
}
