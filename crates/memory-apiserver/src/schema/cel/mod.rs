//! Rules in CEL of custom kinds (`x-kubernetes-validations`).
//!
//! A definition is rejected if one of its rules does not compile. The rules are evaluated on each write. The crate `cel`
//! parses expressions, and the crate `kube-cel` has the functions. Types, evaluation and limits are implemented here,
//! because neither crate has them as kube-apiserver has.
//!
//! Differences to kube-apiserver: the cost of a rule is limited when it is evaluated, but it is not estimated when the
//! definition is created. Loops with two variables, `sortBy`, `optMap` and `optFlatMap` do not compile. An unchanged
//! value that breaks a rule gives no warning. The checker accepts some calls that fail later, see `check`.

mod check;
mod compile;
mod evaluate;
mod functions;
mod library;
mod node;
mod operate;
mod outcome;
mod parse;
mod rules;
mod source;
#[cfg(test)]
mod tests;
mod types;
mod values;
mod walk;

pub(super) use rules::Rules;

/// The variable for the value that has the rule.
const SELF: &str = "self";
/// The variable for the value before an update.
const OLD_SELF: &str = "oldSelf";
/// The steps that one evaluation may take.
const CALL_LIMIT: u64 = 1_000_000;
/// The steps that all rules of one object may take together.
const BUDGET: u64 = 10_000_000;
