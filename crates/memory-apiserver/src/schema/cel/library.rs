//! Calls functions of the crate `kube-cel`.
//!
//! Expressions are evaluated in `evaluate` and not by the crate `cel`: that crate copies values, has no limit of steps,
//! overflows the stack of a thread at 90 levels, and panics at literals of messages.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::{CallExpr, Expr};
use kube_cel::cel::parser::Expression;
use kube_cel::cel::{Context, ExecutionError, Value};

/// The functions, without variables.
static CONTEXT: LazyLock<Context<'static>> = LazyLock::new(|| Context::default().with_all());

/// The target of a call.
#[derive(Debug)]
pub(super) enum Target<'a> {
    Value(Value),
    /// The namespace of the function, such as `math`.
    Namespace(&'a str),
}

/// Calls a function. The error says why it failed.
pub(super) fn call(name: &str, target: Option<Target<'_>>, arguments: Vec<Value>) -> Result<Value, String> {
    let mut context = CONTEXT.new_inner_scope();
    let mut bind = |name: String, value| {
        context.add_variable_from_value(name.as_str(), value);
        Expression { id: 0, expr: Expr::Ident(name) }
    };
    let target = target.map(|target| match target {
        Target::Value(value) => bind("@target".to_owned(), value),
        Target::Namespace(name) => Expression { id: 0, expr: Expr::Ident(name.to_owned()) },
    });
    let arguments = arguments.into_iter().enumerate();
    let args = arguments.map(|(position, value)| bind(format!("@{position}"), value)).collect();
    let call = CallExpr { func_name: name.to_owned(), target: target.map(Box::new), args };
    let call = Expression { id: 0, expr: Expr::Call(call) };
    // Some functions panic on an overflow. It is safe to go on: they only see values that are made for this call.
    let result = catch_unwind(AssertUnwindSafe(|| Value::resolve(&call, &context)));
    result.unwrap_or_else(|_| Err(ExecutionError::function_error(name, "overflow"))).map_err(text)
}

fn text(error: ExecutionError) -> String {
    match error {
        ExecutionError::FunctionError { message, .. } => message,
        ExecutionError::NoSuchOverload
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::NotSupportedAsMethod { .. }
        | ExecutionError::InvalidArgumentCount { .. } => "no such overload".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::functions::FUNCTIONS;
    use super::*;

    /// They are evaluated without the library.
    const OWN: [&str; 5] = ["size", "type", "dyn", "bool", "sum"];

    #[test]
    fn every_function_that_rules_may_call_is_there() {
        for function in FUNCTIONS.iter().filter(|function| !OWN.contains(&function.name)) {
            let (namespace, name) = match function.name.split_once('.') {
                Some((namespace, name)) => (Some(Target::Namespace(namespace)), name),
                None => (None, function.name),
            };
            let result = call(name, namespace, Vec::new());
            let is_missing = matches!(&result, Err(why) if why.starts_with("Undeclared reference"));
            assert!(!is_missing, "{}: {result:?}", function.name);
        }
    }
}
