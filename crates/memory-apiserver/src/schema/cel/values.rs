//! Converts JSON to the values that rules see.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_cel::cel::Value;
use kube_cel::cel::objects::{Key, Map};
use serde_json::Value as Json;

use super::library;
use super::types::Type;

/// Converts JSON that a schema of this type has accepted. Fields that the type does not have are left out.
pub(super) fn value(json: &Json, of: &Type) -> Value {
    match (json, of) {
        (Json::Null, _) => Value::Null,
        (Json::Bool(truth), _) => Value::Bool(*truth),
        (Json::Number(number), Type::Double) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        (Json::Number(number), _) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => float(number.as_f64().unwrap_or(f64::NAN), of),
        },
        (Json::String(string), _) => text(string, of),
        (Json::Array(items), Type::List(of, _)) => list(items.iter().map(|item| value(item, of))),
        (Json::Array(items), _) => list(items.iter().map(|item| value(item, &Type::Dyn))),
        (Json::Object(fields), Type::Object(declared)) => {
            let known = declared
                .0
                .iter()
                .filter_map(|(escaped, (name, of))| Some((escaped.clone(), value(fields.get(name)?, of))));
            map(known)
        }
        (Json::Object(fields), Type::Map(_, of)) => {
            map(fields.iter().map(|(name, json)| (name.clone(), value(json, of))))
        }
        (Json::Object(fields), _) => {
            map(fields.iter().map(|(name, json)| (name.clone(), value(json, &Type::Dyn))))
        }
    }
}

/// A whole number may be written as `2.0`, or be larger than an integer of CEL.
#[expect(clippy::cast_possible_truncation, reason = "numbers that are too large become the largest")]
fn float(number: f64, of: &Type) -> Value {
    if *of == Type::Int { Value::Int(number as i64) } else { Value::Float(number) }
}

fn text(text: &str, of: &Type) -> Value {
    let plain = || Value::from(text);
    let read = |function: &str, text: &str| library::call(function, None, vec![Value::from(text)]).ok();
    match of {
        Type::Bytes => STANDARD.decode(text).map_or_else(|_| plain(), Value::from),
        Type::Duration => read("duration", text).unwrap_or_else(plain),
        Type::Timestamp if text.len() == "2026-01-01".len() => {
            read("timestamp", &format!("{text}T00:00:00Z")).unwrap_or_else(plain)
        }
        Type::Timestamp => read("timestamp", text).unwrap_or_else(plain),
        _ => plain(),
    }
}

fn list(items: impl Iterator<Item = Value>) -> Value {
    Value::List(Arc::new(items.collect()))
}

fn map(fields: impl Iterator<Item = (String, Value)>) -> Value {
    let fields: HashMap<_, _> = fields.map(|(name, value)| (Key::String(Arc::new(name)), value)).collect();
    Value::Map(Map { map: Arc::new(fields) })
}
