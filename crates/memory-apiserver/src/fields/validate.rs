//! Checks that an object has the types of its schema, with the texts of kube-apiserver.

use std::fmt::{self, Write as _};

use serde_json::Value;

use super::path::PathElement;
use super::shape::{Kind, Scalar, Shape};

/// The problems, at most one for each value, as a text for clients.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mistyped(Vec<String>);

impl fmt::Display for Mistyped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [only] => f.write_str(only),
            several => {
                f.write_str("errors:")?;
                several.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
        }
    }
}

/// Checks types, unknown fields, and the keys of items of lists. `duplicates`: whether items of a list may be equal,
/// as in a stored object, but not in an applied configuration.
pub(super) fn validate(shape: Shape<'_>, object: &Value, duplicates: bool) -> Result<(), Mistyped> {
    let mut check = Check { duplicates, path: Vec::new(), errors: Vec::new() };
    check.value(shape, object);
    if check.errors.is_empty() { Ok(()) } else { Err(Mistyped(check.errors)) }
}

struct Check<'a> {
    duplicates: bool,
    path: Vec<PathElement<'a>>,
    errors: Vec<String>,
}

impl<'a> Check<'a> {
    fn error(&mut self, problem: impl fmt::Display) {
        let path: String = self.path.iter().map(ToString::to_string).collect();
        self.errors.push(if path.is_empty() { problem.to_string() } else { format!("{path}: {problem}") });
    }

    fn value(&mut self, shape: Shape<'a>, value: &'a Value) {
        match (shape.kind_of(value), value) {
            (_, Value::Null) => {}
            (Kind::Map, Value::Object(fields)) => self.fields(shape, fields),
            (Kind::Map, other) => self.error(format_args!("expected map, got &{{{}}}", Go(other))),
            (Kind::List, Value::Array(items)) => self.items(shape, items),
            (Kind::List, other) => self.error(format_args!("expected list, got &{{{}}}", Go(other))),
            (Kind::Scalar, value) => self.scalar(shape.scalar(), value),
        }
    }

    fn scalar(&mut self, expected: Scalar, value: &Value) {
        match (expected, value) {
            (Scalar::Text | Scalar::Any, Value::String(_))
            | (Scalar::Number | Scalar::Any, Value::Number(_))
            | (Scalar::Boolean | Scalar::Any, Value::Bool(_)) => {}
            (Scalar::Text, other) => {
                self.error(format_args!(
                    "expected string, got &value.valueUnstructured{{Value:{}}}",
                    Go(other)
                ));
            }
            (Scalar::Number, other) => {
                self.error(format_args!("expected numeric (int or float), got {}", go_type(other)));
            }
            (Scalar::Boolean, other) => self.error(format_args!("expected boolean, got &{{{}}}", Go(other))),
            (Scalar::Any, other) => self.error(format_args!("expected any scalar, got &{{{}}}", Go(other))),
        }
    }

    /// Stops at an unknown field, as kube-apiserver does.
    fn fields(&mut self, shape: Shape<'a>, fields: &'a serde_json::Map<String, Value>) {
        for (name, value) in fields {
            let known = shape.field(name);
            self.path.push(PathElement::Field(name.into()));
            match known {
                Some(shape) => self.value(shape, value),
                None => self.error("field not declared in schema"),
            }
            self.path.pop();
            if known.is_none() {
                return;
            }
        }
    }

    fn items(&mut self, shape: Shape<'a>, items: &'a [Value]) {
        let atomic = shape.is_atomic(Kind::List);
        let mut seen = Vec::new();
        for (index, item) in (0..).zip(items) {
            let element = if atomic { Ok(PathElement::Index(index)) } else { shape.item_element(item) };
            let element = match element {
                Ok(element) => element,
                Err(problem) => return self.error(format_args!("element {index}: {problem}")),
            };
            if !atomic && !self.duplicates {
                match seen.binary_search(&element) {
                    Ok(_) => self.error(format_args!("duplicate entries for key {element}")),
                    Err(at) => seen.insert(at, element.clone()),
                }
            }
            self.path.push(element);
            self.value(shape.items(), item);
            self.path.pop();
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go prints it.
struct Go<'a>(&'a Value);

impl fmt::Display for Go<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("<nil>"),
            Value::String(text) => f.write_str(text),
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| Go(item).to_string()).collect();
                write!(f, "[{}]", items.join(" "))
            }
            Value::Object(fields) => {
                let mut text = String::new();
                for (name, value) in fields {
                    write!(text, "{}{name}:{}", if text.is_empty() { "" } else { " " }, Go(value))?;
                }
                write!(f, "map[{text}]")
            }
            plain => write!(f, "{plain}"),
        }
    }
}
