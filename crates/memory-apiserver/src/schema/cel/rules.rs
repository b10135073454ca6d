//! [`Rules`]: the rules of a kind.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::Value as Json;

use super::compile::{Place, compile, has_rules};
use super::node::Node;
use super::types::Type;
use super::walk::Walk;
use crate::error::FieldError;
use crate::schema::Schema;
use crate::schema::path::Path;

/// The rules of one version of a custom kind.
#[derive(Debug)]
pub(crate) struct Rules(Option<Node>);

impl Rules {
    /// Compiles the rules of a schema whose form is `schema`. Errors begin with `path`.
    pub(crate) fn new(props: &JSONSchemaProps, schema: &Schema, path: &str) -> Result<Self, Vec<FieldError>> {
        if !has_rules(props) {
            return Ok(Self(None));
        }
        let mut errors = Vec::new();
        let place = Place { path: &Path::Root(path), uncorrelatable: None };
        let root = compile(props, schema, Type::of(schema), place, &mut errors);
        if errors.is_empty() { Ok(Self(root)) } else { Err(errors) }
    }

    /// Returns an error for each rule that an object breaks. `old` is the object before an update.
    pub(crate) fn validate(&self, new: &Json, old: Option<&Json>) -> Vec<FieldError> {
        self.0.as_ref().map(|root| Walk::run(root, &Path::OBJECT, new, old)).unwrap_or_default()
    }
}
