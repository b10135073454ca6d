//! Evaluates expressions. The steps of an evaluation are counted and limited.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, ListExpr, MapExpr, SelectExpr, operators,
};
use kube_cel::cel::objects::{Key, Map, OptionalValue};
use kube_cel::cel::parser::Expression;

use super::check::TYPE_NAMES;
use super::functions;
use super::library::{self, Target};
use super::operate;
use super::outcome::{Failure, Outcome, error, no_overload, optional, type_value};
use super::types::Type;

/// One evaluation.
pub(super) struct Evaluation<'a> {
    /// The variables, the innermost last. That of a loop may have failed.
    scope: Vec<(&'a str, Outcome)>,
    comparisons: &'a HashMap<u64, Type>,
    steps_left: u64,
}

/// Evaluates an expression. Returns its value and the number of steps that were taken.
pub(super) fn evaluate<'a>(
    expression: &'a Expression,
    comparisons: &'a HashMap<u64, Type>,
    variables: impl IntoIterator<Item = (&'a str, Value)>,
    limit: u64,
) -> (Outcome, u64) {
    let scope = variables.into_iter().map(|(name, value)| (name, Ok(value))).collect();
    let mut evaluation = Evaluation { scope, comparisons, steps_left: limit };
    let outcome = evaluation.value(expression);
    (outcome, limit - evaluation.steps_left)
}

impl<'a> Evaluation<'a> {
    pub(super) fn spend(&mut self, steps: u64) -> Result<(), Failure> {
        let left = self.steps_left.checked_sub(steps);
        self.steps_left = left.unwrap_or_default();
        left.map(|_| ()).ok_or(Failure::TooLong)
    }

    fn value(&mut self, expression: &'a Expression) -> Outcome {
        self.spend(1)?;
        match &expression.expr {
            Expr::Literal(literal) => {
                Value::try_from(literal.to_val().as_ref()).map_err(|why| error(why.to_string()))
            }
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::List(list) => self.list(list),
            Expr::Map(map) => self.map(map),
            Expr::Call(call) => self.call(expression.id, call),
            Expr::Comprehension(all) => self.comprehension(all),
            Expr::Struct(_) | Expr::Unspecified => Err(no_overload()),
        }
    }

    fn variable(&mut self, name: &str) -> Outcome {
        if let Some((_, value)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            return value.clone();
        }
        let is_type = TYPE_NAMES.contains(&name);
        is_type.then(|| type_value(name)).ok_or_else(|| error(format!("no such attribute(s): {name}")))
    }

    fn select(&mut self, select: &'a SelectExpr) -> Outcome {
        let operand = self.value(&select.operand)?;
        let found = field(&operand, &select.field)?;
        match (select.test, optional(&operand)) {
            (true, _) => Ok(Value::Bool(found.is_some())),
            (false, Some(_)) => Ok(of_optional(found)),
            (false, None) => found.ok_or_else(|| error(format!("no such key: {}", select.field))),
        }
    }

    fn list(&mut self, list: &'a ListExpr) -> Outcome {
        let mut items = Vec::with_capacity(list.elements.len());
        for (position, element) in list.elements.iter().enumerate() {
            let value = self.value(element)?;
            match optional(&value) {
                Some(inner) if list.optional_indices.contains(&position) => {
                    items.extend(inner.value().cloned());
                }
                _ => items.push(value),
            }
        }
        Ok(Value::List(Arc::new(items)))
    }

    fn map(&mut self, map: &'a MapExpr) -> Outcome {
        let mut fields = HashMap::with_capacity(map.entries.len());
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { return Err(no_overload()) };
            let key = key(&self.value(&entry.key)?)?;
            let value = self.value(&entry.value)?;
            match optional(&value) {
                Some(inner) if entry.optional => {
                    fields.extend(inner.value().map(|inner| (key, inner.clone())));
                }
                _ => {
                    fields.insert(key, value);
                }
            }
        }
        Ok(Value::Map(Map { map: Arc::new(fields) }))
    }

    /// Evaluates a loop. An error in a round is the result of that round: a later round can replace it by `&&` or `||`.
    fn comprehension(&mut self, all: &'a ComprehensionExpr) -> Outcome {
        let items = match self.value(&all.iter_range)? {
            Value::List(items) => items,
            Value::Map(map) => {
                let mut keys: Vec<_> = map.map.keys().collect();
                keys.sort();
                Arc::new(keys.into_iter().map(Value::from).collect())
            }
            _ => return Err(no_overload()),
        };
        let begin = self.value(&all.accu_init);
        let accu = self.scope.len();
        self.scope.push((&all.accu_var, begin));
        for item in items.iter() {
            match self.value(&all.loop_cond) {
                Ok(Value::Bool(false)) => break,
                Err(Failure::TooLong) => return Err(Failure::TooLong),
                _ => {}
            }
            self.scope.push((&all.iter_var, Ok(item.clone())));
            let step = self.value(&all.loop_step);
            self.scope.truncate(accu + 1);
            self.scope[accu].1 = step;
        }
        let result = self.value(&all.result);
        self.scope.truncate(accu);
        result
    }

    fn call(&mut self, id: u64, call: &'a CallExpr) -> Outcome {
        match (call.func_name.as_str(), &call.target, &call.args[..]) {
            (operators::CONDITIONAL, None, [condition, yes, no]) => match self.value(condition)? {
                Value::Bool(true) => self.value(yes),
                Value::Bool(false) => self.value(no),
                _ => Err(no_overload()),
            },
            (operators::LOGICAL_AND, None, [left, right]) => self.logical(left, right, false),
            (operators::LOGICAL_OR, None, [left, right]) => self.logical(left, right, true),
            (operators::NOT_STRICTLY_FALSE, None, [operand]) => match self.value(operand) {
                Ok(Value::Bool(truth)) => Ok(Value::Bool(truth)),
                Err(Failure::TooLong) => Err(Failure::TooLong),
                _ => Ok(Value::Bool(true)),
            },
            (operators::LOGICAL_NOT, None, [operand]) => match self.value(operand)? {
                Value::Bool(truth) => Ok(Value::Bool(!truth)),
                _ => Err(no_overload()),
            },
            (operators::NEGATE, None, [operand]) => operate::negated(&self.value(operand)?),
            (function @ (operators::EQUALS | operators::NOT_EQUALS), None, [left, right]) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                let of = self.comparisons.get(&id).unwrap_or(&Type::Dyn);
                let is_equal = self.are_equal(&left, &right, of)?;
                Ok(Value::Bool(is_equal == (function == operators::EQUALS)))
            }
            (function, None, [left, right]) if operate::is_operator(function) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.operator(function, left, right)
            }
            _ => self.function(call),
        }
    }

    /// Evaluates `||` if `decisive` is true, otherwise `&&`. One decisive operand decides, even if the other one fails.
    fn logical(&mut self, left: &'a Expression, right: &'a Expression, decisive: bool) -> Outcome {
        let left = self.value(left);
        if left == Ok(Value::Bool(decisive)) || left == Err(Failure::TooLong) {
            return left;
        }
        let right = self.value(right);
        match (left, right) {
            (_, Err(Failure::TooLong)) => Err(Failure::TooLong),
            (_, Ok(Value::Bool(truth))) if truth == decisive => Ok(Value::Bool(decisive)),
            (Err(why), _) | (Ok(Value::Bool(_)), Err(why)) => Err(why),
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => Ok(Value::Bool(!decisive)),
            _ => Err(no_overload()),
        }
    }

    fn operator(&mut self, function: &str, left: Value, right: Value) -> Outcome {
        let is =
            |wanted: fn(Ordering) -> bool| operate::ordering(&left, &right).map(|is| Value::Bool(wanted(is)));
        match function {
            operators::LESS => is(Ordering::is_lt),
            operators::LESS_EQUALS => is(Ordering::is_le),
            operators::GREATER => is(Ordering::is_gt),
            operators::GREATER_EQUALS => is(Ordering::is_ge),
            operators::IN => self.contains(&right, &left).map(Value::Bool),
            operators::INDEX | operators::OPT_INDEX => index(&left, &right, function == operators::OPT_INDEX),
            operators::OPT_SELECT => match &right {
                Value::String(name) => Ok(of_optional(field(&left, name)?)),
                _ => Err(no_overload()),
            },
            _ => {
                self.spend(operate::weight(&left) + operate::weight(&right))?;
                operate::calculated(function, left, right)
            }
        }
    }

    fn contains(&mut self, all: &Value, item: &Value) -> Result<bool, Failure> {
        match all {
            Value::List(items) => {
                for other in items.iter() {
                    if self.are_equal(other, item, &Type::Dyn)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::Map(map) => Ok(key(item).is_ok_and(|key| map.get(&key).is_some())),
            _ => Err(no_overload()),
        }
    }

    /// Compares two values. Lists that are sets or maps by their type may differ in order.
    fn are_equal(&mut self, left: &Value, right: &Value, of: &Type) -> Result<bool, Failure> {
        self.spend(1 + operate::weight(left).min(operate::weight(right)))?;
        match (left, right) {
            (Value::List(left), Value::List(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                let (items, is_ordered) = match of {
                    Type::List(items, kind) => (items.as_ref(), *kind == crate::schema::ListType::Atomic),
                    _ => (&Type::Dyn, true),
                };
                for (position, item) in left.iter().enumerate() {
                    let others = if is_ordered { &right[position..=position] } else { &right[..] };
                    let mut is_there = false;
                    for other in others {
                        is_there = is_there || self.are_equal(item, other, items)?;
                    }
                    if !is_there {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Map(left), Value::Map(right)) => {
                if left.map.len() != right.map.len() {
                    return Ok(false);
                }
                for (key, value) in left.map.iter() {
                    let Some(other) = right.get(key) else { return Ok(false) };
                    if !self.are_equal(value, other, of_field(of, key))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => match (optional(left), optional(right)) {
                (Some(left), Some(right)) => match (left.value(), right.value()) {
                    (Some(left), Some(right)) => {
                        let inner = if let Type::Optional(inner) = of { inner } else { &Type::Dyn };
                        self.are_equal(left, right, inner)
                    }
                    (left, right) => Ok(left.is_none() && right.is_none()),
                },
                _ => Ok(left == right),
            },
        }
    }

    fn function(&mut self, call: &'a CallExpr) -> Outcome {
        let name = call.func_name.as_str();
        let namespace = match call.target.as_deref() {
            Some(Expression { expr: Expr::Ident(namespace), .. })
                if !self.scope.iter().any(|(known, _)| *known == namespace.as_str())
                    && functions::named(&format!("{namespace}.{name}")).next().is_some() =>
            {
                Some(namespace.as_str())
            }
            _ => None,
        };
        let target = match (&call.target, namespace) {
            (_, Some(namespace)) => Some(Target::Namespace(namespace)),
            (Some(target), None) => Some(Target::Value(self.value(target)?)),
            (None, None) => None,
        };
        let arguments: Result<Vec<_>, _> = call.args.iter().map(|argument| self.value(argument)).collect();
        let arguments = arguments?;
        let of_target = if let Some(Target::Value(value)) = &target { operate::weight(value) } else { 0 };
        self.spend(of_target + arguments.iter().map(operate::weight).sum::<u64>())?;
        self.spend(operate::growth(name, target.as_ref(), &arguments))?;
        let value = match operate::own_function(name, target.as_ref(), &arguments) {
            Some(own) => own?,
            None => library::call(name, target, arguments).map_err(error)?,
        };
        self.spend(operate::weight(&value))?;
        Ok(value)
    }
}

/// The type of a value in a map or an object.
fn of_field<'a>(of: &'a Type, key: &Key) -> &'a Type {
    match (of, key) {
        (Type::Map(_, values), _) => values,
        (Type::Object(fields), Key::String(name)) => fields.get(name).unwrap_or(&Type::Dyn),
        _ => &Type::Dyn,
    }
}

fn of_optional(value: Option<Value>) -> Value {
    Value::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}

fn key(value: &Value) -> Result<Key, Failure> {
    match value {
        Value::Int(number) => Ok(Key::Int(*number)),
        Value::UInt(number) => Ok(Key::Uint(*number)),
        Value::Bool(truth) => Ok(Key::Bool(*truth)),
        Value::String(text) => Ok(Key::String(Arc::clone(text))),
        _ => Err(error("unsupported key type")),
    }
}

/// Returns a field of a map, or of the map in an optional, or `None` if it is not there.
fn field(operand: &Value, name: &str) -> Result<Option<Value>, Failure> {
    match operand {
        Value::Map(map) => Ok(map.get(&Key::String(Arc::new(name.to_owned()))).cloned()),
        _ => match optional(operand) {
            Some(inner) => inner.value().map_or(Ok(None), |inner| field(inner, name)),
            None => Err(no_overload()),
        },
    }
}

fn index(operand: &Value, at: &Value, is_optional: bool) -> Outcome {
    if let Some(inner) = optional(operand) {
        return match inner.value() {
            Some(inner) => index(inner, at, true),
            None => Ok(of_optional(None)),
        };
    }
    let (found, missing) = match (operand, at) {
        (Value::List(items), Value::Int(_) | Value::UInt(_) | Value::Float(_)) => {
            let place = operate::whole(at).and_then(|at| usize::try_from(at).ok());
            (place.and_then(|at| items.get(at)), format!("index out of bounds: {}", operate::shown(at)))
        }
        (Value::Map(map), _) => (map.get(&key(at)?), format!("no such key: {}", operate::shown(at))),
        _ => return Err(no_overload()),
    };
    match (found, is_optional) {
        (found, true) => Ok(of_optional(found.cloned())),
        (Some(found), false) => Ok(found.clone()),
        (None, false) => Err(error(missing)),
    }
}
