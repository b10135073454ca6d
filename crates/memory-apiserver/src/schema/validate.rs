//! [`Validator`]: whether an object of a custom kind is as its schema wants it, told as kube-apiserver tells it.
//!
//! It holds objects that were pruned and got their defaults. Rules in CEL (`x-kubernetes-validations`) are evaluated
//! with the feature `cel`; without it, what only they refuse is accepted. Of metadata nothing is checked but what
//! the schema itself says of names.
//!
//! A valid object costs one walk of the compiled schema and one along the lists that are maps or sets; paths and
//! texts are made for errors only.

use std::fmt;
use std::sync::Arc;

use jsonschema::paths::{Location, LocationSegment};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::Value;

use super::super::error::{FieldError, Problem};
use super::messages::Report;
use super::path::Path;
use super::props::{additional, items, listed, properties};
use super::{ListType, Schema, embedded, lists, rules};

/// The compiled schema of one version of a custom kind.
#[derive(Debug)]
pub(crate) struct Validator {
    object: Rules,
    /// The rules of the field `status`, which a write of the subresource is held against alone.
    status: Option<Rules>,
    schema: Arc<Schema>,
    has_cel_rules: bool,
    #[cfg(feature = "cel")]
    cel: super::cel::Rules,
}

impl Validator {
    /// Compiles a schema whose form is `schema`, and which stands at `path` of the definition.
    pub(super) fn new(
        props: &JSONSchemaProps,
        schema: Arc<Schema>,
        path: &str,
    ) -> Result<Self, Vec<FieldError>> {
        let refused = |why: String| vec![FieldError::invalid(path, Value::from(""), why)];
        let status = properties(props).find(|(name, _)| *name == "status");
        Ok(Self {
            object: Rules::new(props).map_err(refused)?,
            status: status.map(|(_, status)| Rules::new(status)).transpose().map_err(refused)?,
            has_cel_rules: has_cel_rules(props),
            #[cfg(feature = "cel")]
            cel: super::cel::Rules::new(props, &schema, path)?,
            schema,
        })
    }

    /// What is wrong with a new object.
    pub(crate) fn validate(&self, new: &Value) -> Vec<FieldError> {
        let errors = self.object.errors(new, "", &|_| false);
        self.with_what_holds_beside(errors, new, None)
    }

    /// What is wrong with an object that was `old`. What is wrong and was so before, unchanged, is let pass.
    pub(crate) fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let errors = self.object.errors(new, "", &|place| is_unchanged(place, new, old, &self.schema));
        self.with_what_holds_beside(errors, new, Some(old))
    }

    /// The same for a write of the subresource `status`, of which no other field is looked at.
    pub(crate) fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let (Some(rules), Some(status)) = (&self.status, new.get("status")) {
            let schema = self.schema.field("status");
            errors = rules.errors(status, "status", &|place| {
                schema.is_some_and(|schema| is_unchanged(place, status, &old["status"], schema))
            });
        }
        self.with_what_holds_beside(errors, new, Some(old))
    }

    /// Adds what JSON Schema has no words for.
    fn with_what_holds_beside(
        &self,
        mut errors: Vec<FieldError>,
        new: &Value,
        old: Option<&Value>,
    ) -> Vec<FieldError> {
        embedded::check(new, &self.schema, &Path::OBJECT, &mut errors);
        let of_lists = |object| {
            let mut errors = Vec::new();
            lists::check(object, &self.schema, &Path::OBJECT, &mut errors);
            errors
        };
        let of_new = of_lists(new);
        if !of_new.is_empty() && old.is_none_or(|old| of_lists(old).is_empty()) {
            errors.extend(of_new);
        }
        if self.has_cel_rules && errors.iter().any(keeps_from_cel) {
            let why = "some validation rules were not checked because the object was invalid; correct the \
                       existing errors to complete validation";
            errors.push(FieldError::invalid("<nil>", Value::Null, why));
            return errors;
        }
        #[cfg(feature = "cel")]
        errors.extend(self.cel.validate(new, old));
        errors
    }
}

/// One schema, compiled.
pub(super) struct Rules {
    json: Value,
    compiled: jsonschema::Validator,
}

impl Rules {
    /// The error says why the schema can't be compiled.
    pub(super) fn new(schema: &JSONSchemaProps) -> Result<Self, String> {
        let (json, compiled) = rules::compile(schema)?;
        Ok(Self { json, compiled })
    }

    /// What is wrong with `value`, except at places that are excused. Paths begin with `prefix`.
    pub(super) fn errors(
        &self,
        value: &Value,
        prefix: &str,
        is_excused: &dyn Fn(&Location) -> bool,
    ) -> Vec<FieldError> {
        if self.compiled.is_valid(value) {
            return Vec::new();
        }
        let errors: Vec<_> = self.compiled.iter_errors(value).collect();
        Report { schema: &self.json, value, prefix, is_excused }.say(&errors, 0)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rules({})", self.json)
    }
}

/// Whether rules in CEL are not tried on an object that has this error.
fn keeps_from_cel(error: &FieldError) -> bool {
    use Problem::{NotSupported, Required, TooLong, TooMany, WrongType};
    matches!(error.problem, NotSupported(..) | Required(_) | TooLong(_) | TooMany(..) | WrongType(..))
}

fn has_cel_rules(schema: &JSONSchemaProps) -> bool {
    !listed(schema.x_kubernetes_validations.as_ref()).is_empty()
        || properties(schema).any(|(_, below)| has_cel_rules(below))
        || items(schema).is_some_and(has_cel_rules)
        || additional(schema).is_some_and(has_cel_rules)
        || listed(schema.all_of.as_ref()).iter().any(has_cel_rules)
}

/// Whether the value at `place`, or one that it is part of, is what it was. Items are the same if they have the
/// same keys; those of other lists are never the same.
fn is_unchanged(place: &Location, new: &Value, old: &Value, schema: &Schema) -> bool {
    let (mut new, mut old, mut schema) = (new, old, Some(schema));
    let mut segments = place.segments();
    while new != old {
        let below = match (segments.next(), new) {
            (None, _) => None,
            (Some(LocationSegment::Index(index)), Value::Array(items)) => {
                let keys = schema.and_then(|schema| match &schema.list_type {
                    ListType::Map(keys) => Some(keys),
                    ListType::Set | ListType::Atomic => None,
                });
                schema = schema.and_then(|schema| schema.items.as_deref());
                let item = items.get(index);
                item.zip(keys).and_then(|(item, keys)| Some((item, same_item(item, old, keys)?)))
            }
            (Some(name), _) => {
                let name = name.to_string();
                schema = schema.and_then(|schema| schema.field(&name)).map(AsRef::as_ref);
                new.get(&name).zip(old.get(&name))
            }
        };
        let Some(below) = below else { return false };
        (new, old) = below;
    }
    true
}

fn same_item<'a>(item: &Value, list: &'a Value, keys: &[String]) -> Option<&'a Value> {
    list.as_array()?.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
}
