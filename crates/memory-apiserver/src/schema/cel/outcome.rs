//! [`Outcome`]: the value of an expression, or the reason why it has none.

use kube_cel::cel::Value;
use kube_cel::cel::objects::OptionalValue;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Failure {
    /// The text is that of kube-apiserver.
    Error(String),
    /// The limit of steps is reached.
    TooLong,
}

pub(super) type Outcome = Result<Value, Failure>;

/// An error of this text.
pub(super) fn error(text: impl Into<String>) -> Failure {
    Failure::Error(text.into())
}

pub(super) fn no_overload() -> Failure {
    error("no such overload")
}

/// A type as a value.
pub(super) fn type_value(name: &str) -> Value {
    Value::from(format!("type {name}"))
}

/// Returns the optional that a value is, if it is one.
pub(super) fn optional(value: &Value) -> Option<&OptionalValue> {
    if let Value::Opaque(opaque) = value { opaque.downcast_ref() } else { None }
}
