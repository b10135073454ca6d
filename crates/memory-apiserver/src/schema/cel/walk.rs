//! [`Walk`]: checks an object against the rules of its kind.

use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::objects::OptionalValue;
use serde_json::Value as Json;

use super::node::{Node, Rule};
use super::outcome::Failure;
use super::values::value;
use super::{BUDGET, CALL_LIMIT, OLD_SELF, SELF};
use crate::error::{FieldError, Problem};
use crate::schema::ListType;
use crate::schema::path::Path;

/// The longest message that a `messageExpression` can give, in bytes.
const MAX_MESSAGE: usize = 5 << 10;

/// A value that stood at the same place before, together with the new one.
type Pair<'a> = (&'a Json, &'a Json);

/// Excuses a broken rule if the value is unchanged and the rule does not use `oldSelf`.
#[derive(Clone, Copy, Default)]
struct Excuse<'a> {
    /// The value itself, if it was found in the old object.
    here: Option<Pair<'a>>,
    /// The nearest value above that was found.
    above: Option<Pair<'a>>,
}

impl<'a> Excuse<'a> {
    fn applies(self) -> bool {
        self.here.or(self.above).is_some_and(|(new, old)| new == old)
    }

    /// The excuse of a field.
    fn field(self, name: &str) -> Self {
        let Some((new, old)) = self.here else { return self };
        if self.above.is_none() && matches!(name, "apiVersion" | "kind") {
            return Self::default();
        }
        Self { here: new.get(name).zip(old.get(name)), above: self.here }
    }

    /// The excuse of an item.
    fn item(self, item: &'a Json, kind: &ListType) -> Self {
        let Some((_, old)) = self.here else { return self };
        let found = match kind {
            ListType::Atomic => None,
            ListType::Set => old.as_array().and_then(|items| items.iter().find(|old| *old == item)),
            ListType::Map(keys) => same_item(item, old, keys),
        };
        Self { here: found.map(|old| (item, old)), above: self.here }
    }
}

/// Ends a walk: the budget is spent.
struct Spent;

/// A walk along an object and its rules.
pub(super) struct Walk {
    budget: u64,
    errors: Vec<FieldError>,
}

impl Walk {
    /// Checks a value at `path`. Without an old value, rules that use `oldSelf` are skipped.
    pub(super) fn run(node: &Node, path: &Path<'_>, new: &Json, old: Option<&Json>) -> Vec<FieldError> {
        let mut walk = Self { budget: BUDGET, errors: Vec::new() };
        let excuse = Excuse { here: old.map(|old| (new, old)), above: None };
        let _ = walk.node(node, path, new, old, excuse);
        walk.errors
    }

    /// Checks a default. It counts as its own old value, but that does not excuse a broken rule.
    pub(super) fn of_default(node: &Node, path: &Path<'_>, default: &Json) -> Vec<FieldError> {
        let mut walk = Self { budget: BUDGET, errors: Vec::new() };
        let _ = walk.node(node, path, default, Some(default), Excuse::default());
        walk.errors
    }

    fn node(
        &mut self,
        node: &Node,
        path: &Path<'_>,
        new: &Json,
        old: Option<&Json>,
        excuse: Excuse<'_>,
    ) -> Result<(), Spent> {
        if new.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.is_null());
        if !node.rules.is_empty() {
            self.rules(node, path, new, old, excuse)?;
        }
        match new {
            Json::Array(items) => {
                let Some(below) = &node.items else { return Ok(()) };
                for (index, item) in items.iter().enumerate() {
                    let before = match &node.list_type {
                        ListType::Map(keys) => old.and_then(|old| same_item(item, old, keys)),
                        ListType::Set | ListType::Atomic => None,
                    };
                    self.node(below, &path.index(index), item, before, excuse.item(item, &node.list_type))?;
                }
            }
            Json::Object(fields) => {
                for (name, field) in fields {
                    let before = old.and_then(|old| old.get(name));
                    let excuse = excuse.field(name);
                    if let Some(below) = &node.values {
                        self.node(below, &path.key(name), field, before, excuse)?;
                    }
                    if let Some(below) = node.properties.get(name) {
                        self.node(below, &path.field(name), field, before, excuse)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rules(
        &mut self,
        node: &Node,
        path: &Path<'_>,
        new: &Json,
        old: Option<&Json>,
        excuse: Excuse<'_>,
    ) -> Result<(), Spent> {
        let this = value(new, &node.of);
        let before = old.filter(|_| node.rules.iter().any(|rule| rule.uses_old_self));
        let before = before.map(|old| value(old, &node.of));
        for rule in &node.rules {
            if rule.uses_old_self && before.is_none() && !rule.old_self_is_optional() {
                continue;
            }
            let broken = Broken { node, path, value: new, rule };
            let variables = || {
                let old = if rule.old_self_is_optional() {
                    let optional = before.clone().map_or_else(OptionalValue::none, OptionalValue::of);
                    Some(Value::Opaque(Arc::new(optional)))
                } else {
                    before.clone()
                };
                [(SELF, Some(this.clone())), (OLD_SELF, old)]
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, value?)))
            };
            let (outcome, steps) = rule.program.run(variables(), CALL_LIMIT.min(self.budget));
            self.budget -= steps;
            let why = match outcome {
                Ok(Value::Bool(true)) => continue,
                Ok(_) => None,
                Err(Failure::TooLong) => {
                    self.errors.push(broken.of_type(&broken.too_long(self.budget == 0)));
                    return Err(Spent);
                }
                Err(Failure::Error(why)) => Some(why),
            };
            if let Some(why) = why {
                self.errors.push(broken.of_type(&broken.failed(&why)));
                continue;
            }
            if !rule.uses_old_self && excuse.applies() {
                continue;
            }
            let message = match &rule.message {
                None => None,
                Some(message) => {
                    let (outcome, steps) = message.run(variables(), CALL_LIMIT.min(self.budget));
                    self.budget -= steps;
                    if outcome == Err(Failure::TooLong) {
                        self.errors.push(broken.of_type(&broken.message_too_long(self.budget == 0)));
                        return Err(Spent);
                    }
                    outcome.ok().and_then(|value| usable(&value))
                }
            };
            self.errors.push(broken.error(message));
        }
        Ok(())
    }
}

/// A message that an expression gave, if it can be shown.
fn usable(value: &Value) -> Option<String> {
    let Value::String(text) = value else { return None };
    let text = text.trim();
    let is_usable = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
    is_usable.then(|| text.to_owned())
}

/// A rule that a value breaks, or that can't be evaluated for it.
struct Broken<'a> {
    node: &'a Node,
    path: &'a Path<'a>,
    value: &'a Json,
    rule: &'a Rule,
}

impl Broken<'_> {
    fn place(&self) -> String {
        let path = self.path.to_string();
        if path.is_empty() { "<nil>".to_owned() } else { path }
    }

    /// An error that shows the type of the value.
    fn of_type(&self, why: &str) -> FieldError {
        FieldError::invalid(self.place(), Json::from(self.node.kind.as_str()), why)
    }

    fn name(&self) -> &str {
        match self.rule.source.message.as_deref().unwrap_or_default().trim() {
            "" => self.rule.source.rule.trim(),
            message => message,
        }
    }

    fn failed(&self, why: &str) -> String {
        let name = self.name();
        if why.starts_with("no such overload") {
            return format!(
                "'{why}': call arguments did not match a supported operator, function or macro signature for rule: \
                 {name}"
            );
        }
        format!("{why} evaluating rule: {name}")
    }

    fn too_long(&self, is_all_spent: bool) -> String {
        if is_all_spent {
            return "validation failed due to running out of cost budget, no further validation rules will be run"
                .to_owned();
        }
        format!(
            "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call \
             cost exceeds limit for rule: {}",
            self.name()
        )
    }

    fn message_too_long(&self, is_all_spent: bool) -> String {
        if is_all_spent {
            return "messageExpression evaluation failed due to running out of cost budget, no further validation \
                    rules will be run"
                .to_owned();
        }
        let expression = self.rule.source.message_expression.as_deref().unwrap_or_default();
        format!(
            "no further validation rules will be run due to call cost exceeds limit for messageExpression: {expression:?}"
        )
    }

    fn error(&self, message: Option<String>) -> FieldError {
        let path = match (self.path.to_string(), self.rule.field_path.as_str()) {
            (_, "") => self.place(),
            (path, field) if path.is_empty() => field.to_owned(),
            (path, field) => format!("{path}.{field}"),
        };
        let text = message.unwrap_or_else(|| match self.rule.source.message.as_deref().unwrap_or_default() {
            "" => format!("failed rule: {}", self.name()),
            message => message.trim().to_owned(),
        });
        let is_shown = !matches!(self.node.kind.as_str(), "object" | "array");
        let problem = match (self.rule.source.reason.as_deref(), is_shown) {
            (Some("FieldValueForbidden"), _) => Problem::Forbidden(text.into()),
            (Some("FieldValueRequired"), _) => Problem::Required(text.into()),
            (Some("FieldValueDuplicate"), true) => Problem::Duplicate(self.value.clone()),
            (_, true) => Problem::Invalid(self.value.clone(), text),
            // Objects and lists are too large to be shown.
            (Some("FieldValueDuplicate"), false) => {
                Problem::Other("FieldValueDuplicate", "Duplicate value".to_owned())
            }
            (_, false) => Problem::Other("FieldValueInvalid", format!("Invalid value: {text}")),
        };
        FieldError::new(path, problem)
    }
}

fn same_item<'a>(item: &Json, list: &'a Json, keys: &[String]) -> Option<&'a Json> {
    list.as_array()?.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
}
