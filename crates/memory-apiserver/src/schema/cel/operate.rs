//! Operators and functions on values that are known.

use std::cmp::Ordering;
use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::common::ast::operators;

use super::library::{self, Target};
use super::outcome::{Failure, Outcome, error, no_overload, optional, type_value};
use crate::schema::{formats, pattern};

/// The number of bytes that one step pays for.
const BYTES_PER_STEP: u64 = 10;

/// Returns true for an operator that always evaluates both of its operands.
pub(super) fn is_operator(function: &str) -> bool {
    use operators::{
        ADD, DIVIDE, GREATER, GREATER_EQUALS, IN, INDEX, LESS, LESS_EQUALS, MODULO, MULTIPLY, OPT_INDEX,
        OPT_SELECT, SUBSTRACT,
    };
    matches!(
        function,
        ADD | DIVIDE
            | GREATER
            | GREATER_EQUALS
            | IN
            | INDEX
            | LESS
            | LESS_EQUALS
            | MODULO
            | MULTIPLY
            | OPT_INDEX
            | OPT_SELECT
            | SUBSTRACT
    )
}

/// Returns the number of steps for reading a value.
pub(super) fn weight(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64 / BYTES_PER_STEP,
        Value::Bytes(bytes) => bytes.len() as u64 / BYTES_PER_STEP,
        Value::List(items) => items.iter().map(|item| 1 + weight(item)).sum(),
        Value::Map(map) => map.map.values().map(|value| 1 + weight(value)).sum(),
        _ => 0,
    }
}

/// Returns the number of steps for a result that may be much larger than the arguments.
pub(super) fn growth(name: &str, target: Option<&Target<'_>>, arguments: &[Value]) -> u64 {
    match (name, target, arguments) {
        ("range", Some(Target::Namespace("lists")), [Value::Int(count)]) => {
            u64::try_from(*count).unwrap_or_default()
        }
        (
            "replace",
            Some(Target::Value(Value::String(text))),
            [Value::String(from), Value::String(to), ..],
        ) => {
            let times = text.len() as u64 / (from.len() as u64).max(1) + 1;
            times.saturating_mul((to.len() as u64).saturating_sub(from.len() as u64)) / BYTES_PER_STEP
        }
        ("join", Some(Target::Value(Value::List(items))), [Value::String(between)]) => {
            (items.len() as u64).saturating_mul(between.len() as u64) / BYTES_PER_STEP
        }
        _ => 0,
    }
}

/// Evaluates a function that the library lacks or has differently. Returns `None` for all others.
pub(super) fn own_function(name: &str, target: Option<&Target<'_>>, arguments: &[Value]) -> Option<Outcome> {
    match (name, target, arguments) {
        ("size", Some(Target::Value(value)), []) | ("size", None, [value]) => Some(size(value)),
        ("type", None, [value]) => Some(Ok(type_value(type_name(value)))),
        ("dyn", None, [value])
        | ("duration", None, [value @ Value::Duration(_)])
        | ("timestamp", None, [value @ Value::Timestamp(_)]) => Some(Ok(value.clone())),
        ("bool", None, [value]) => Some(truth(value)),
        ("sum", Some(Target::Value(Value::List(items))), []) => Some(sum(items)),
        ("duration", None, [Value::String(text)]) => Some(duration(text)),
        ("matches", ..) => matches(target, arguments),
        _ => None,
    }
}

fn size(value: &Value) -> Outcome {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.map.len(),
        _ => return Err(no_overload()),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn sum(items: &[Value]) -> Outcome {
    let sum = items.iter().cloned().map(Ok).reduce(|sum, item| calculated(operators::ADD, sum?, item?));
    sum.unwrap_or(Ok(Value::Int(0)))
}

fn truth(value: &Value) -> Outcome {
    match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::String(text) => match text.as_str() {
            "true" | "TRUE" | "True" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "FALSE" | "False" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err(error("type conversion error from 'string' to 'bool'")),
        },
        _ => Err(no_overload()),
    }
}

/// Checks a duration first: the library accepts any text that begins with one. It does not know `+` and `µs`.
fn duration(text: &str) -> Outcome {
    if formats::is_go_duration(text).is_none() {
        return Err(error("type conversion error from 'string' to 'google.protobuf.Duration'"));
    }
    let plain = text.trim_start_matches('+').replace(['µ', 'μ'], "u");
    library::call("duration", None, vec![Value::from(plain)]).map_err(error)
}

/// Translates the pattern first: Go's dialect differs from that of the library.
fn matches(target: Option<&Target<'_>>, arguments: &[Value]) -> Option<Outcome> {
    let ((Some(Target::Value(Value::String(text))), [Value::String(pattern)])
    | (None, [Value::String(text), Value::String(pattern)])) = (target, arguments)
    else {
        return None;
    };
    let translated = match pattern::translate(pattern) {
        Ok(translated) => Value::from(translated),
        Err(why) => return Some(Err(error(format!("error parsing regexp: {why}")))),
    };
    let target = Some(Target::Value(Value::String(Arc::clone(text))));
    Some(library::call("matches", target, vec![translated]).map_err(error))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null_type",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::UInt(_) => "uint",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Duration(_) => "google.protobuf.Duration",
        Value::Timestamp(_) => "google.protobuf.Timestamp",
        Value::Opaque(_) if optional(value).is_some() => "optional_type",
        _ => "dyn",
    }
}

/// A number without a fraction.
pub(super) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::UInt(number) => i64::try_from(*number).ok(),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "such a number is a whole one, and no item is so far"
        )]
        Value::Float(number) if number.fract() == 0.0 => Some(*number as i64),
        _ => None,
    }
}

/// Formats a value for an error.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.as_str().to_owned(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        other => format!("{other:?}"),
    }
}

pub(super) fn negated(value: &Value) -> Outcome {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(|| error("integer overflow")),
        Value::Float(number) => Ok(Value::Float(-number)),
        Value::Duration(length) => Ok(Value::Duration(-*length)),
        _ => Err(no_overload()),
    }
}

pub(super) fn ordering(left: &Value, right: &Value) -> Result<Ordering, Failure> {
    let ordering = match (left, right) {
        (Value::Null | Value::List(_) | Value::Map(_) | Value::Opaque(_), _) => None,
        (Value::Bytes(left), Value::Bytes(right)) => Some(left.cmp(right)),
        (Value::Float(number), _) | (_, Value::Float(number)) if number.is_nan() => {
            return Err(error("NaN values cannot be ordered"));
        }
        _ => left.partial_cmp(right),
    };
    ordering.ok_or_else(no_overload)
}

/// Calculates a number, a time or a duration, or joins two lists or texts.
pub(super) fn calculated(function: &str, left: Value, right: Value) -> Outcome {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => of_integers(function, left, right),
        (Value::UInt(left), Value::UInt(right)) => of_unsigned(function, left, right),
        (Value::Float(left), Value::Float(right)) => match function {
            operators::ADD => Ok(Value::Float(left + right)),
            operators::SUBSTRACT => Ok(Value::Float(left - right)),
            operators::MULTIPLY => Ok(Value::Float(left * right)),
            operators::DIVIDE => Ok(Value::Float(left / right)),
            _ => Err(no_overload()),
        },
        (Value::Bytes(left), Value::Bytes(right)) if function == operators::ADD => {
            Ok(Value::from([left.as_slice(), right.as_slice()].concat()))
        }
        (left @ Value::String(_), right @ Value::String(_))
        | (left @ Value::List(_), right @ Value::List(_))
            if function == operators::ADD =>
        {
            (left + right).map_err(|_| no_overload())
        }
        (
            left @ (Value::Duration(_) | Value::Timestamp(_)),
            right @ (Value::Duration(_) | Value::Timestamp(_)),
        ) => {
            let result = match function {
                operators::ADD => left + right,
                operators::SUBSTRACT => left - right,
                _ => return Err(no_overload()),
            };
            result.map_err(|why| match why {
                kube_cel::cel::ExecutionError::Overflow(..) => error("integer overflow"),
                _ => no_overload(),
            })
        }
        _ => Err(no_overload()),
    }
}

fn of_integers(function: &str, left: i64, right: i64) -> Outcome {
    let operations =
        [i64::checked_add, i64::checked_sub, i64::checked_mul, i64::checked_div, i64::checked_rem];
    let result = checked(function, left, right, operations)?;
    result.map(Value::Int).ok_or_else(|| error("integer overflow"))
}

fn of_unsigned(function: &str, left: u64, right: u64) -> Outcome {
    let operations =
        [u64::checked_add, u64::checked_sub, u64::checked_mul, u64::checked_div, u64::checked_rem];
    let result = checked(function, left, right, operations)?;
    result.map(Value::UInt).ok_or_else(|| error("unsigned integer overflow"))
}

/// Calculates with whole numbers by the operation of the function: add, subtract, multiply, divide, remainder.
/// Returns `None` if the result does not fit into the type.
fn checked<N: Copy + Default + PartialEq>(
    function: &str,
    left: N,
    right: N,
    [add, subtract, multiply, divide, remainder]: [fn(N, N) -> Option<N>; 5],
) -> Result<Option<N>, Failure> {
    let zero = N::default();
    let operation = match function {
        operators::ADD => add,
        operators::SUBSTRACT => subtract,
        operators::MULTIPLY => multiply,
        operators::DIVIDE if right == zero => return Err(error("division by zero")),
        operators::DIVIDE => divide,
        operators::MODULO if right == zero => return Err(error("modulus by zero")),
        operators::MODULO => remainder,
        _ => return Err(no_overload()),
    };
    Ok(operation(left, right))
}
