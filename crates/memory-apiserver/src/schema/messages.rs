//! What is wrong with a value, in the words of kube-apiserver.
//!
//! The library says which keyword of which node failed where. Here that becomes a [`FieldError`], with the rules
//! that kube-apiserver has beside: of a `null` only type and allowed values are looked at, of a text only the first
//! of length and pattern that fails, of alternatives the one that fits best is explained.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{JsonType, ValidationError};
use serde_json::{Value, json};

use super::super::error::{FieldError, Problem};
use super::super::go_format::{float, quoted};
use super::branches;
use super::rules::{ENUM, PATTERN};

/// The values that are looked at, and the JSON Schema they were held against.
pub(super) struct Report<'a> {
    pub(super) schema: &'a Value,
    pub(super) value: &'a Value,
    /// What paths begin with; texts do without.
    pub(super) prefix: &'a str,
    /// Whether errors of the value at a place are passed over.
    pub(super) is_excused: &'a dyn Fn(&Location) -> bool,
}

/// The order of errors at one place. Those about parts of a text exclude each other.
fn rank(kind: &Kind) -> u8 {
    match kind {
        Kind::Type { .. } => 0,
        Kind::AnyOf { .. } => 1,
        Kind::OneOfNotValid { .. } | Kind::OneOfMultipleValid { .. } => 2,
        Kind::Not { .. } => 3,
        Kind::MaxLength { .. } => 4,
        Kind::MinLength { .. } => 5,
        Kind::Pattern { .. } => 6,
        Kind::Format { .. } => 7,
        Kind::Required { .. } => 9,
        _ => 8,
    }
}

impl Report<'_> {
    /// Says each error once. `above`: how much of the path of nodes was already dealt with, in segments.
    pub(super) fn say(&self, errors: &[ValidationError<'_>], above: usize) -> Vec<FieldError> {
        let mut errors: Vec<_> = errors
            .iter()
            .filter(|error| {
                let is_of_null =
                    matches!(error.kind(), Kind::Type { .. } | Kind::Enum { .. } | Kind::FalseSchema);
                (is_of_null || !error.instance().is_null()) && !(self.is_excused)(error.instance_path())
            })
            .collect();
        errors.sort_by(|a, b| {
            let by_path =
                a.instance_path().segments().map(order).cmp(b.instance_path().segments().map(order));
            by_path.then_with(|| rank(a.kind()).cmp(&rank(b.kind())))
        });
        let mut said = Vec::new();
        let mut text_node = None;
        let mut all_of = BTreeMap::new();
        for error in errors {
            if (4..=6).contains(&rank(error.kind())) {
                let node = (error.instance_path(), parent(error.schema_path()));
                if text_node.as_ref() == Some(&node) {
                    continue;
                }
                text_node = Some(node);
            }
            let errors = self.of(error);
            if !errors.is_empty() {
                branches::note_all_of(error, above, &mut all_of);
            }
            said.extend(errors);
        }
        said.extend(all_of.iter().map(|(node, failed)| self.all_of(node, failed)));
        said
    }

    fn of(&self, error: &ValidationError<'_>) -> Vec<FieldError> {
        let path = self.relative(error.instance_path());
        match error.kind() {
            Kind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                vec![FieldError::required(self.field(&join(&path, name)), "")]
            }
            // A map that may have no field at all.
            Kind::FalseSchema => {
                let map = self.value.pointer(error.instance_path().as_str()).and_then(Value::as_object);
                let of = |(name, _)| {
                    let text = format!("{path}.{name} in body is a forbidden property");
                    FieldError::invalid(self.field(&path), json!(name), text)
                };
                map.into_iter().flatten().map(of).collect()
            }
            Kind::AnyOf { context }
            | Kind::OneOfNotValid { context }
            | Kind::OneOfMultipleValid { context } => self.alternatives(error, &path, context),
            Kind::Not { .. } => vec![self.whole(&path, "must not validate the schema (not)")],
            _ => vec![FieldError::new(self.field(&path), self.problem(error, &path))],
        }
    }

    fn problem(&self, error: &ValidationError<'_>, path: &str) -> Problem {
        let value = || error.instance().clone().into_owned();
        let size = size(error.instance());
        let bad = |text: String| Problem::Invalid(value(), format!("{path} in body {text}"));
        let too_few = |text: String| Problem::Invalid(json!(size), format!("{path} in body {text}"));
        match error.kind() {
            Kind::Type { kind } => {
                let (expected, is) = self.types(kind, error);
                let text = format!("{path} in body must be of type {expected}: {}", quoted(is));
                Problem::WrongType(json!(is), text)
            }
            Kind::Format { format } => {
                let text = error.instance().as_str().unwrap_or_default();
                let text = format!("{path} in body must be of type {format}: {}", quoted(text));
                Problem::WrongType(value(), text)
            }
            Kind::Enum { .. } => Problem::NotSupported(value(), self.allowed(error)),
            Kind::MaxLength { limit } => Problem::TooLong(*limit),
            Kind::MaxItems { limit } | Kind::MaxProperties { limit } => Problem::TooMany(size as u64, *limit),
            Kind::MinLength { limit } => bad(format!("should be at least {limit} chars long")),
            Kind::MinItems { limit } => too_few(format!("should have at least {limit} items")),
            Kind::MinProperties { limit } => too_few(format!("should have at least {limit} properties")),
            Kind::Pattern { .. } => {
                let pattern = self.node(error)[PATTERN].as_str().unwrap_or_default();
                bad(format!("should match '{pattern}'"))
            }
            Kind::Minimum { limit } => bad(bound(error, "should be greater than or equal to", limit)),
            Kind::Maximum { limit } => bad(bound(error, "should be less than or equal to", limit)),
            Kind::ExclusiveMinimum { limit } => bad(bound(error, "should be greater than", limit)),
            Kind::ExclusiveMaximum { limit } => bad(bound(error, "should be less than", limit)),
            Kind::MultipleOf { multiple_of } => {
                bad(bound(error, "should be a multiple of", &json!(multiple_of)))
            }
            // No other keyword is ever asked for.
            _ => Problem::Invalid(value(), error.to_string()),
        }
    }

    /// None of some alternatives fits, or too many do.
    fn alternatives(
        &self,
        error: &ValidationError<'_>,
        path: &str,
        branches: &[Vec<ValidationError<'static>>],
    ) -> Vec<FieldError> {
        let at = error.schema_path();
        let above = at.segments().count() + 1;
        let said: Vec<_> = branches.iter().map(|errors| self.say(errors, above)).collect();
        let valid = said.iter().filter(|errors| errors.is_empty()).count();
        let text = match (error.kind(), valid) {
            (Kind::AnyOf { .. }, 0) => "must validate at least one schema (anyOf)".to_owned(),
            (Kind::AnyOf { .. }, _) | (_, 1) => return Vec::new(),
            (_, 0) => "must validate one and only one schema (oneOf). Found none valid".to_owned(),
            (_, valid) => {
                format!("must validate one and only one schema (oneOf). Found {valid} valid alternatives")
            }
        };
        let mut errors = vec![self.whole(path, &text)];
        if valid == 0 {
            let schemas = self.schema.pointer(at.as_str()).and_then(Value::as_array);
            let best = branches::best(schemas.map(Vec::as_slice).unwrap_or_default(), error.instance());
            errors.extend(said.into_iter().nth(best).unwrap_or_default());
        }
        errors
    }

    fn all_of(&self, (at, place): &(String, Vec<String>), failed: &BTreeSet<usize>) -> FieldError {
        let branches = self.schema.pointer(at).and_then(Value::as_array).map_or(0, Vec::len);
        let all = if failed.len() == branches { ". None validated" } else { "" };
        let place: Location = place.iter().map(|name| LocationSegment::from(name.as_str())).collect();
        self.whole(&self.relative(&place), &format!("must validate all the schemas (allOf){all}"))
    }

    /// An error that kube-apiserver gives no field.
    fn whole(&self, path: &str, text: &str) -> FieldError {
        FieldError::invalid(self.field(""), json!(""), format!("{} {text}", quoted(path)))
    }

    fn allowed(&self, error: &ValidationError<'_>) -> Vec<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.node(error)[ENUM].as_array().into_iter().flatten().map(text).collect()
    }

    /// The type that a value should be of, and the one it is of. Where there is a format, both are said in formats.
    fn types(&self, kind: &TypeKind, error: &ValidationError<'_>) -> (String, &'static str) {
        let value: &Value = error.instance();
        match self.node(error)["format"].as_str() {
            Some(format) if !value.is_null() => {
                let is = match value {
                    Value::Number(number) => {
                        if number.is_i64() {
                            "int64"
                        } else {
                            "float64"
                        }
                    }
                    _ => "",
                };
                (format.to_owned(), is)
            }
            _ => (types(kind), type_name(value)),
        }
    }

    /// The node of the schema that has the keyword that failed.
    fn node(&self, error: &ValidationError<'_>) -> &Value {
        self.schema.pointer(parent(error.schema_path())).unwrap_or(&Value::Null)
    }

    /// `a.b[0]`. Only the value tells whether a number is the index of an item or the name of a field.
    fn relative(&self, place: &Location) -> String {
        let mut path = String::new();
        let mut value = Some(self.value);
        for segment in place.segments() {
            let name = segment.to_string();
            let is_list = value.is_some_and(Value::is_array);
            path = if is_list { format!("{path}[{name}]") } else { join(&path, &name) };
            value = value.and_then(|value| match segment {
                LocationSegment::Index(index) if is_list => value.get(index),
                _ => value.get(&name),
            });
        }
        path
    }

    fn field(&self, path: &str) -> String {
        match (self.prefix, path) {
            ("", "") => "<nil>".to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, path) => join(prefix, path),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Items in the order of their numbers, fields in that of their names.
fn order(segment: LocationSegment<'_>) -> (usize, String) {
    match segment {
        LocationSegment::Index(index) => (index, String::new()),
        LocationSegment::Property(name) => (0, name.into_owned()),
    }
}

/// The path of the node that a keyword belongs to.
fn parent(keyword: &Location) -> &str {
    keyword.as_str().rsplit_once('/').map_or("", |(node, _)| node)
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => kind.as_str().to_owned(),
        TypeKind::Multiple(kinds) => {
            // A list is let pass where a text is meant.
            let is_meant = |kind: &JsonType| !matches!(kind, JsonType::Null | JsonType::Array);
            kinds.iter().filter(is_meant).map(JsonType::as_str).collect::<Vec<_>>().join(",")
        }
    }
}

/// The type of a value, with whole numbers apart.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

/// Whole numbers are compared with whole numbers.
fn bound(error: &ValidationError<'_>, relation: &str, limit: &Value) -> String {
    let limit = limit.as_f64().unwrap_or_default();
    let limit = if error.instance().is_i64() { format!("{:.0}", limit.trunc()) } else { float(limit) };
    format!("{relation} {limit}")
}
