//! Checks the types of an expression, so that a definition with a wrong rule is rejected.
//!
//! This is a part of the type checker of CEL. It checks names, fields, operators and the operands of functions. It does
//! not check the arguments of functions and the items of list literals. A type that is not known is [`Type::Dyn`],
//! which fits everywhere.

use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators,
};
use kube_cel::cel::parser::Expression;

use super::functions;
use super::parse::{is_of_macro, symbol};
use super::source::Source;
use super::types::Type;
use crate::schema::{formats, pattern};

/// The names of types, which are values.
pub(super) const TYPE_NAMES: [&str; 10] =
    ["bool", "bytes", "double", "dyn", "int", "list", "map", "null_type", "string", "uint"];

/// The facts that the evaluation of a valid expression needs.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) of: Type,
    /// Whether the variable `oldSelf` is read.
    pub(super) uses_old_self: bool,
    /// The type of the operands, by the number of the comparison. Only comparisons that ignore the order of a list
    /// are here.
    pub(super) comparisons: HashMap<u64, Type>,
}

/// Checks an expression with these variables. The error lists what is wrong, in the form of kube-apiserver.
pub(super) fn check(
    expression: &Expression,
    text: &str,
    variables: &[(&str, &Type)],
) -> Result<Checked, String> {
    let scope = variables.iter().map(|(name, of)| ((*name).to_owned(), (*of).clone())).collect();
    let mut check = Check {
        source: Source::new(text),
        scope,
        errors: Vec::new(),
        uses_old_self: false,
        comparisons: HashMap::new(),
        variables: variables.len(),
        place: None,
    };
    let of = check.expression(expression);
    if check.errors.is_empty() {
        return Ok(Checked { of, uses_old_self: check.uses_old_self, comparisons: check.comparisons });
    }
    check.errors.sort_by_key(|(place, _)| *place);
    let errors = check.errors.iter().map(|(place, message)| check.source.error_at(*place, message));
    Err(errors.collect::<Vec<_>>().join("\n"))
}

struct Check<'a> {
    source: Source<'a>,
    /// The variables, the innermost last.
    scope: Vec<(String, Type)>,
    /// The number of variables of the rule. The other variables are of loops.
    variables: usize,
    errors: Vec<(Option<usize>, String)>,
    /// The place of the expression that was visited last.
    place: Option<usize>,
    uses_old_self: bool,
    comparisons: HashMap<u64, Type>,
}

impl Check<'_> {
    fn error(&mut self, place: Option<usize>, message: String) -> Type {
        self.errors.push((place, message));
        Type::Dyn
    }

    fn expression(&mut self, expression: &Expression) -> Type {
        match &expression.expr {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(expression.id, call),
            Expr::List(list) => {
                let items = list.elements.iter().enumerate().map(|(position, item)| {
                    let of = self.expression(item);
                    match of {
                        Type::Optional(inner) if list.optional_indices.contains(&position) => {
                            inner.as_ref().clone()
                        }
                        of => of,
                    }
                });
                let items: Vec<_> = items.collect();
                Type::list(joined_or_dyn(items))
            }
            Expr::Map(map) => {
                self.place = self.source.next("{");
                let (mut keys, mut values) = (Vec::new(), Vec::new());
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        keys.push(self.expression(&entry.key));
                        values.push(match self.expression(&entry.value) {
                            Type::Optional(inner) if entry.optional => inner.as_ref().clone(),
                            of => of,
                        });
                    }
                }
                Type::Map(Arc::new(joined_or_dyn(keys)), Arc::new(joined_or_dyn(values)))
            }
            Expr::Comprehension(all) => self.comprehension(all),
            Expr::Struct(fields) => {
                let name = &fields.type_name;
                let place = self.source.next("{");
                self.error(place, format!("undeclared reference to '{name}' (in container '')"))
            }
            Expr::Unspecified => self.error(None, "unspecified expression".to_owned()),
        }
    }

    fn variable(&mut self, name: &str) -> Type {
        let place = self.source.next(name);
        self.place = place;
        let found = self.scope.iter().rposition(|(known, _)| known == name);
        if let Some(found) = found {
            self.uses_old_self |= found < self.variables && name == super::OLD_SELF;
            return self.scope[found].1.clone();
        }
        if TYPE_NAMES.contains(&name) {
            return Type::Kind;
        }
        self.error(place, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn select(&mut self, select: &SelectExpr) -> Type {
        let operand = self.expression(&select.operand);
        let mut place = self.source.next(&format!(".{}", select.field));
        if select.test {
            place = self.source.next("has(");
        }
        let of = self.field(&operand, &select.field, place);
        self.place = place;
        if select.test { Type::Bool } else { of }
    }

    fn field(&mut self, operand: &Type, name: &str, place: Option<usize>) -> Type {
        match operand {
            Type::Dyn => Type::Dyn,
            Type::Map(_, values) => values.as_ref().clone(),
            Type::Object(fields) => match fields.get(name) {
                Some(field) => field.clone(),
                None => self.error(place, format!("undefined field '{name}'")),
            },
            Type::Optional(some) => match self.field(some, name, place) {
                Type::Optional(of) => Type::Optional(of),
                of => Type::optional(of),
            },
            other => self.error(place, format!("type '{other}' does not support field selection")),
        }
    }

    fn comprehension(&mut self, all: &ComprehensionExpr) -> Type {
        let items = match self.expression(&all.iter_range) {
            Type::List(items, _) => items.as_ref().clone(),
            Type::Map(keys, _) => keys.as_ref().clone(),
            Type::Dyn => Type::Dyn,
            other => {
                let why = "cannot be range of a comprehension (must be list, map, or dynamic)";
                self.error(self.place, format!("expression of type '{other}' {why}"))
            }
        };
        let begin = self.expression(&all.accu_init);
        // `map` and `filter` begin with an empty list, of which no type is known yet.
        let begin = if begin == Type::list(Type::Dyn) { Type::Dyn } else { begin };
        self.scope.push((all.accu_var.clone(), begin.clone()));
        self.scope.push((all.iter_var.clone(), items));
        let step = self.expression(&all.loop_step);
        self.scope.pop();
        let of = if begin == Type::Dyn { step } else { begin };
        if let Some(result) = self.scope.last_mut() {
            result.1 = of;
        }
        let of = self.expression(&all.result);
        self.scope.pop();
        of
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Type {
        let (of, place) = self.placed_call(id, call);
        self.place = place;
        of
    }

    /// Returns the type of a call and its place.
    fn placed_call(&mut self, id: u64, call: &CallExpr) -> (Type, Option<usize>) {
        match (call.func_name.as_str(), &call.target, &call.args[..]) {
            (operators::CONDITIONAL, None, [condition, yes, no]) => {
                let of_condition = self.expression(condition);
                let place = self.operator(call);
                let (yes, no) = (self.expression(yes), self.expression(no));
                let of = match (matches!(of_condition, Type::Bool | Type::Dyn), yes.joined(&no)) {
                    (true, Some(of)) => of,
                    _ => self.no_overload(place, "_?_:_", false, &[of_condition, yes, no]),
                };
                (of, place)
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, None, [left, right]) => {
                self.truth(left);
                let place = self.operator(call);
                self.truth(right);
                (Type::Bool, place)
            }
            (function, None, [operand]) if is_of_one_operand(function) => {
                let place = self.operator(call);
                let of = self.expression(operand);
                let fits = match function {
                    operators::NEGATE => matches!(of, Type::Int | Type::Double | Type::Duration),
                    _ => of == Type::Bool,
                };
                let fits = fits || of == Type::Dyn;
                (if fits { of } else { self.no_overload(place, function, false, &[of]) }, place)
            }
            (operators::OPT_SELECT, None, [operand, field]) => {
                let operand = self.expression(operand);
                let Expr::Literal(LiteralValue::String(name)) = &field.expr else { return (Type::Dyn, None) };
                let place = self.source.next(&format!(".{}", name.inner()));
                let of = match self.field(&operand, name.inner(), place) {
                    Type::Optional(of) => Type::Optional(of),
                    of => Type::optional(of),
                };
                (of, place)
            }
            (function, None, [left, right]) if symbol(function).is_some() => {
                let left = self.expression(left);
                let place = self.operator(call);
                let right = self.expression(right);
                (self.binary(id, function, place, left, right), place)
            }
            _ => self.function(call),
        }
    }

    /// Checks an operand that must be true or false.
    fn truth(&mut self, operand: &Expression) {
        let of = self.expression(operand);
        if !matches!(of, Type::Bool | Type::Dyn) {
            self.error(self.place, format!("expected type 'bool' but found '{of}'"));
        }
    }

    /// The place of an operator, unless a macro put it there.
    fn operator(&mut self, call: &CallExpr) -> Option<usize> {
        let symbol = symbol(&call.func_name).filter(|_| !is_of_macro(&call.args))?;
        self.source.next(symbol)
    }

    fn no_overload(&mut self, place: Option<usize>, name: &str, is_method: bool, operands: &[Type]) -> Type {
        let names: Vec<_> = operands.iter().map(ToString::to_string).collect();
        let applied = match names.split_first() {
            Some((target, arguments)) if is_method => format!("{target}.({})", arguments.join(", ")),
            _ => format!("({})", names.join(", ")),
        };
        self.error(place, format!("found no matching overload for '{name}' applied to '{applied}'"))
    }

    fn binary(&mut self, id: u64, function: &str, place: Option<usize>, left: Type, right: Type) -> Type {
        match of_binary(function, &left, &right) {
            Some(of) => {
                let is_comparison = matches!(function, operators::EQUALS | operators::NOT_EQUALS);
                if is_comparison && left.has_unordered_lists() {
                    self.comparisons.insert(id, left);
                }
                of
            }
            None => self.no_overload(place, function, false, &[left, right]),
        }
    }

    fn function(&mut self, call: &CallExpr) -> (Type, Option<usize>) {
        let namespaced = self.namespaced(call);
        let name = namespaced.as_deref().unwrap_or(&call.func_name);
        let target = call.target.as_ref().filter(|_| namespaced.is_none());
        let of_target = target.map(|target| self.expression(target));
        let place = self.source.next(&format!("{}(", call.func_name));
        let of_arguments: Vec<_> = call.args.iter().map(|argument| self.expression(argument)).collect();
        if functions::named(name).next().is_none() {
            let why = format!("undeclared reference to '{name}' (in container '')");
            return (self.error(place, why), place);
        }
        let is_method = of_target.is_some();
        let operands: Vec<Type> = of_target.into_iter().chain(of_arguments).collect();
        let (operand, more) = (operands.first(), operands.len().saturating_sub(1));
        let found = functions::named(name).find(|function| function.accepts(is_method, operand, more));
        let literal = call.args.last().and_then(|argument| match &argument.expr {
            Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
            _ => None,
        });
        let of = match found.map(|function| function.result(operand)) {
            Some(of) if name == "orValue" && operands[1].joined(&of).is_none() => None,
            of => of,
        };
        let of = match of {
            None => self.no_overload(place, name, is_method, &operands),
            Some(_) if literal.is_some_and(|text| !is_valid_argument(name, text)) => {
                self.error(place.map(|place| place + 1), format!("invalid {name} argument"))
            }
            Some(of) => of,
        };
        (of, place)
    }

    /// The whole name of a function in a namespace: `math.abs`.
    pub(super) fn namespaced(&self, call: &CallExpr) -> Option<String> {
        let Expr::Ident(namespace) = &call.target.as_ref()?.expr else { return None };
        let is_variable = self.scope.iter().any(|(name, _)| name == namespace);
        let name = format!("{namespace}.{}", call.func_name);
        (!is_variable && functions::named(&name).next().is_some()).then_some(name)
    }
}

fn is_of_one_operand(function: &str) -> bool {
    matches!(function, operators::LOGICAL_NOT | operators::NEGATE | operators::NOT_STRICTLY_FALSE)
}

/// Returns true if a function can read a text that is written in the rule.
fn is_valid_argument(function: &str, text: &str) -> bool {
    match function {
        "duration" => formats::is_go_duration(text).is_some(),
        "matches" => pattern::translate(text).is_ok(),
        _ => true,
    }
}

fn of_literal(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}

fn joined_or_dyn(all: Vec<Type>) -> Type {
    let joined = all.into_iter().map(Some).reduce(|joined, next| joined?.joined(&next?));
    joined.flatten().unwrap_or(Type::Dyn)
}

/// Returns the type of an operation on two values, or `None` if there is no such operation.
fn of_binary(function: &str, left: &Type, right: &Type) -> Option<Type> {
    let has_dyn = *left == Type::Dyn || *right == Type::Dyn;
    match function {
        operators::EQUALS | operators::NOT_EQUALS => left.joined(right).map(|_| Type::Bool),
        operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS => {
            let are_numbers = left.is_number() && right.is_number();
            let is_ordered =
                matches!(left, Type::Bool | Type::String | Type::Bytes | Type::Duration | Type::Timestamp);
            (has_dyn || are_numbers || (is_ordered && left == right)).then_some(Type::Bool)
        }
        operators::IN => match right {
            Type::List(of, _) | Type::Map(of, _) => left.joined(of).map(|_| Type::Bool),
            Type::Dyn => Some(Type::Bool),
            _ => None,
        },
        operators::INDEX | operators::OPT_INDEX => {
            let of = of_index(left, right)?;
            let is_optional = function == operators::OPT_INDEX || matches!(left, Type::Optional(_));
            Some(if is_optional { Type::optional(of) } else { of })
        }
        _ if has_dyn => Some(Type::Dyn),
        operators::ADD => match (left, right) {
            (Type::String | Type::Bytes | Type::Duration, _) if left == right => Some(left.clone()),
            (Type::Timestamp, Type::Duration) | (Type::Duration, Type::Timestamp) => Some(Type::Timestamp),
            (Type::List(..), Type::List(..)) => left.joined(right),
            _ => (left.is_number() && left == right).then(|| left.clone()),
        },
        operators::SUBSTRACT => match (left, right) {
            (Type::Timestamp, Type::Timestamp) | (Type::Duration, Type::Duration) => Some(Type::Duration),
            (Type::Timestamp, Type::Duration) => Some(Type::Timestamp),
            _ => (left.is_number() && left == right).then(|| left.clone()),
        },
        operators::MODULO => (matches!(left, Type::Int | Type::Uint) && left == right).then(|| left.clone()),
        _ => (left.is_number() && left == right).then(|| left.clone()),
    }
}

fn of_index(left: &Type, right: &Type) -> Option<Type> {
    match left {
        Type::List(items, _) => {
            matches!(right, Type::Int | Type::Uint | Type::Dyn).then(|| items.as_ref().clone())
        }
        Type::Map(keys, values) => keys.joined(right).map(|_| values.as_ref().clone()),
        Type::Optional(some) => of_index(some, right),
        Type::Dyn => Some(Type::Dyn),
        _ => None,
    }
}
