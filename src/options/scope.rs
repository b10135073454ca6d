//! [`Scope::from_options`]: the scope that the options describe (behaviours C1 to C4).
//!
//! A program creates the scope once, before it starts the cache.

use std::str::FromStr as _;

use super::{LabelSelector, SandboxManagerOptions, SelectorError, text::is_namespace};
use crate::cache::Scope;

/// Options that describe no scope. The error names the field by its path in the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// The selector of the sandbox kinds is malformed.
    #[error("sandboxLabelSelector: {0}")]
    Selector(#[from] SelectorError),
    /// Kubernetes does not allow this name of a namespace.
    #[error(
        "{field}: invalid namespace {value:?}: expected a DNS-1123 label of at most 63 characters, or nothing"
    )]
    Namespace {
        /// `sandboxNamespace` or `systemNamespace`.
        field: &'static str,
        /// The value of the field.
        value: String,
    },
}

impl Scope {
    /// Creates the scope that these options describe.
    ///
    /// # Errors
    ///
    /// A malformed selector or namespace. Only options that a program has assigned directly can have one: an
    /// [`OptionsLoader`](crate::options::OptionsLoader) rejects both.
    pub fn from_options(options: &SandboxManagerOptions) -> Result<Self, ScopeError> {
        let selector = LabelSelector::from_str(&options.sandbox_label_selector)?;
        let selects_all = selector.requirements.is_empty();
        Ok(Self {
            sandbox_namespace: namespace("sandboxNamespace", &options.sandbox_namespace)?,
            label_selector: (!selects_all).then_some(selector),
            system_namespace: namespace("systemNamespace", &options.system_namespace)?,
            persistent_volumes: options.cache.persistent_volumes,
            lifecycle: options.lifecycle.enabled,
        })
    }
}

fn namespace(field: &'static str, value: &str) -> Result<Option<String>, ScopeError> {
    if value.is_empty() {
        return Ok(None);
    }
    if is_namespace(value) {
        Ok(Some(value.to_owned()))
    } else {
        Err(ScopeError::Namespace { field, value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(sandbox: &str, selector: &str, system: &str) -> Result<Scope, ScopeError> {
        Scope::from_options(&SandboxManagerOptions {
            sandbox_namespace: sandbox.to_owned(),
            sandbox_label_selector: selector.to_owned(),
            system_namespace: system.to_owned(),
            ..SandboxManagerOptions::default()
        })
    }

    #[test]
    fn c1_c3_empty_namespaces_set_no_limit_and_bad_ones_are_rejected() {
        assert_eq!(scope("", "", "").unwrap(), Scope::default());
        let limited = scope("team-a", "", "sys").unwrap();
        assert_eq!(limited.sandbox_namespace.as_deref(), Some("team-a"));
        assert_eq!(limited.system_namespace.as_deref(), Some("sys"));
        assert_eq!(
            scope("Team", "", "").unwrap_err().to_string(),
            r#"sandboxNamespace: invalid namespace "Team": expected a DNS-1123 label of at most 63 characters, or nothing"#
        );
    }

    #[test]
    fn c2_the_selector_is_parsed_and_bad_syntax_is_rejected_with_text_and_position() {
        let selector = scope("", " a == b , c in (y,x) ", "").unwrap().label_selector.unwrap();
        assert_eq!(selector.to_string(), "a=b,c in (x,y)");
        assert_eq!(
            scope("", "a in (x", "").unwrap_err().to_string(),
            "sandboxLabelSelector: invalid label selector \"a in (x\": at character 8: expected `,` or `)`, found the end"
        );
    }
}
