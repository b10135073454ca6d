//! Compiles the rules of a schema to programs.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, ValidationRule};
use kube_cel::cel::parser::Expression;
use serde_json::json;

use super::check::{Checked, check};
use super::node::{Node, Program, Rule};
use super::parse::parse;
use super::types::Type;
use super::walk::Walk;
use super::{OLD_SELF, SELF};
use crate::error::{FieldError, Problem};
use crate::schema::path::Path;
use crate::schema::props::{additional, items, listed, properties};
use crate::schema::{ListType, Schema, field_path};

/// The place of a node.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path<'a>,
    /// The path of a list around the node whose items can't be found again after an update. Rules in such a list
    /// must not use `oldSelf`.
    pub(super) uncorrelatable: Option<&'a str>,
}

/// Compiles the rules of a node and of all nodes below it. Returns `None` if there are none. `of` is the type of the
/// node's values.
pub(super) fn compile(
    props: &JSONSchemaProps,
    schema: &Schema,
    of: Option<Type>,
    place: Place<'_>,
    errors: &mut Vec<FieldError>,
) -> Option<Node> {
    if !has_rules(props) {
        return None;
    }
    let Some(of) = of else {
        let path = place.path.field("x-kubernetes-validations").to_string();
        let why = "Internal error: internal error: failed to construct type information for x-kubernetes-validations \
                   rules: unable to convert structural schema to CEL declarations";
        errors.push(FieldError::new(path, Problem::Other("InternalError", why.to_owned())));
        return None;
    };
    let mut node = Node {
        rules: Vec::new(),
        properties: BTreeMap::new(),
        values: None,
        items: None,
        list_type: schema.list_type.clone(),
        kind: schema.kind.clone(),
        of,
    };
    let path = place.path.field("x-kubernetes-validations");
    for (index, source) in listed(props.x_kubernetes_validations.as_ref()).iter().enumerate() {
        let place = Place { path: &path.index(index), ..place };
        node.rules.extend(rule(source, props, &node.of, place, errors));
    }
    below(&mut node, props, schema, place, errors);
    if let Some(default) = props.default.as_ref().filter(|_| errors.is_empty()) {
        let path = place.path.field("default");
        errors.extend(Walk::of_default(&node, &path, &default.0));
    }
    Some(node)
}

pub(super) fn has_rules(props: &JSONSchemaProps) -> bool {
    !listed(props.x_kubernetes_validations.as_ref()).is_empty()
        || properties(props).any(|(_, below)| has_rules(below))
        || items(props).is_some_and(has_rules)
        || additional(props).is_some_and(has_rules)
}

fn below(
    node: &mut Node,
    props: &JSONSchemaProps,
    schema: &Schema,
    place: Place<'_>,
    errors: &mut Vec<FieldError>,
) {
    let at = place.path.field("properties");
    for (name, property) in properties(props) {
        let Some(form) = schema.properties.get(name) else { continue };
        let path = at.key(name);
        let found = compile(property, form, Type::of(form), Place { path: &path, ..place }, errors);
        node.properties.extend(found.map(|found| (name.to_owned(), found)));
    }
    if let (Some(values), Some(form)) = (additional(props), &schema.values) {
        let path = place.path.field("additionalProperties");
        let found = compile(values, form, Type::of(form), Place { path: &path, ..place }, errors);
        node.values = found.map(Box::new);
    }
    if let (Some(items), Some(form)) = (items(props), &schema.items) {
        let path = place.path.field("items");
        let list = place.path.to_string();
        let is_map = matches!(schema.list_type, ListType::Map(_));
        let uncorrelatable = place.uncorrelatable.or(Some(list.as_str()).filter(|_| !is_map));
        let found = compile(items, form, Type::of(form), Place { path: &path, uncorrelatable }, errors);
        node.items = found.map(Box::new);
    }
}

/// Compiles one rule that stands at a place.
fn rule(
    source: &ValidationRule,
    props: &JSONSchemaProps,
    of: &Type,
    place: Place<'_>,
    errors: &mut Vec<FieldError>,
) -> Option<Rule> {
    let optional = Type::optional(of.clone());
    let old = if source.optional_old_self == Some(true) { &optional } else { of };
    let mut refuse = |field: &str, problem: Problem| {
        errors.push(FieldError::new(place.path.field(field).to_string(), problem));
    };
    let refused =
        |why: String| Problem::Other("FieldValueInvalid", format!("Invalid value: {}: {why}", shown(source)));
    let compiled = compiled(&source.rule, of, old).map_err(|why| format!("compilation failed: {why}"));
    let compiled = compiled.and_then(|(expression, checked)| match checked.of {
        Type::Bool => Ok((expression, checked)),
        _ => Err("cel expression must evaluate to a bool".to_owned()),
    });
    let uses_old_self = compiled.as_ref().is_ok_and(|(_, checked)| checked.uses_old_self);
    if let Some(optional) = source.optional_old_self.filter(|_| !uses_old_self) {
        let why = "may not be set if oldSelf is not used in rule".to_owned();
        refuse("optionalOldSelf", Problem::Invalid(json!(optional), why));
    }
    let (expression, checked) = match compiled {
        Ok(compiled) => compiled,
        Err(why) => {
            refuse("rule", refused(why));
            return None;
        }
    };
    let message = match source.message_expression.as_deref().filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => match compiled_message(text, of, old) {
            Ok(message) => Some(message),
            Err(why) => {
                refuse("messageExpression", refused(why));
                None
            }
        },
    };
    if let Some(list) = place.uncorrelatable.filter(|_| uses_old_self) {
        let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
        refuse("rule", Problem::Invalid(json!(source.rule), why));
    }
    let field_path = source.field_path.as_deref().and_then(|path| field_path::normalized(path, props));
    Some(Rule {
        uses_old_self,
        program: Program { expression, comparisons: checked.comparisons },
        message,
        field_path: field_path.unwrap_or_default(),
        source: source.clone(),
    })
}

fn compiled(text: &str, of: &Type, old: &Type) -> Result<(Expression, Checked), String> {
    let expression = parse(text)?;
    let checked = check(&expression, text, &[(SELF, of), (OLD_SELF, old)])?;
    Ok((expression, checked))
}

fn compiled_message(text: &str, of: &Type, old: &Type) -> Result<Program, String> {
    let compiled =
        compiled(text, of, old).map_err(|why| format!("messageExpression compilation failed: {why}"));
    let (expression, checked) = compiled?;
    match checked.of {
        Type::String => Ok(Program { expression, comparisons: checked.comparisons }),
        _ => Err("messageExpression must evaluate to a string".to_owned()),
    }
}

/// Formats a rule as kube-apiserver does: the fields have its order, and `<`, `>` and `&` are escaped as by Go.
fn shown(source: &ValidationRule) -> String {
    let text = |text: &str| json!(text).to_string();
    let optional = |text: &Option<String>| json!(text.as_deref().unwrap_or_default()).to_string();
    let shown = format!(
        r#"{{"Rule":{},"Message":{},"MessageExpression":{},"Reason":{},"FieldPath":{},"OptionalOldSelf":{}}}"#,
        text(&source.rule),
        optional(&source.message),
        optional(&source.message_expression),
        json!(source.reason),
        optional(&source.field_path),
        json!(source.optional_old_self),
    );
    shown.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
