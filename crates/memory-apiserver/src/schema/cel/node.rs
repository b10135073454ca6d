//! [`Node`]: the compiled rules of a schema.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use kube_cel::cel::Value;
use kube_cel::cel::parser::Expression;

use super::evaluate::evaluate;
use super::outcome::Outcome;
use super::types::Type;
use crate::schema::ListType;

/// A node of a schema that has rules, or has some below it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) of: Type,
    pub(super) rules: Vec<Rule>,
    pub(super) properties: BTreeMap<String, Node>,
    pub(super) values: Option<Box<Node>>,
    pub(super) items: Option<Box<Node>>,
    pub(super) list_type: ListType,
    /// The type that the schema names. Some errors show it.
    pub(super) kind: String,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) source: ValidationRule,
    pub(super) program: Program,
    pub(super) message: Option<Program>,
    /// The field that an error is about, below the value that has the rule.
    pub(super) field_path: String,
    pub(super) uses_old_self: bool,
}

impl Rule {
    pub(super) fn old_self_is_optional(&self) -> bool {
        self.source.optional_old_self == Some(true)
    }
}

/// An expression that was checked.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) expression: Expression,
    pub(super) comparisons: HashMap<u64, Type>,
}

impl Program {
    pub(super) fn run<'a>(
        &'a self,
        variables: impl IntoIterator<Item = (&'a str, Value)>,
        limit: u64,
    ) -> (Outcome, u64) {
        evaluate(&self.expression, &self.comparisons, variables, limit)
    }
}
