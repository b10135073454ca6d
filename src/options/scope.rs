//! What each kind's watch is limited to (behaviours C1–C4).
//!
//! A [`Scope`] is made once from the options, before anything is started, and read by the cache when it makes its
//! informers. It is a value: nothing in it changes.

use std::str::FromStr as _;

use super::{LabelSelector, SandboxManagerOptions, SelectorError};

/// What the watches of this process are limited to. The default watches the sandbox kinds everywhere and no
/// Secrets or `ConfigMap`s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The one namespace of the sandbox kinds; `None`: every namespace.
    pub sandbox_namespace: Option<String>,
    /// Selector of the sandbox kinds, as the API server reads it; `None`: everything.
    pub label_selector: Option<String>,
    /// The one namespace of Secrets and `ConfigMap`s; `None`: they are not watched.
    pub system_namespace: Option<String>,
}

/// The limits of one kind's watch. The default has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchScope {
    /// The one namespace that is watched; `None`: all of the cluster.
    pub namespace: Option<String>,
    /// `labelSelector` of the list and the watch; `None`: everything.
    pub label_selector: Option<String>,
}

/// Options that describe no scope. Names the field as the options file does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// The selector of the sandbox kinds is malformed.
    #[error("sandboxLabelSelector: {0}")]
    Selector(#[from] SelectorError),
    /// A namespace that Kubernetes would not allow.
    #[error(
        "{field}: invalid namespace {value:?}: expected a DNS-1123 label of at most 63 characters, or nothing"
    )]
    Namespace {
        /// `sandboxNamespace` or `systemNamespace`.
        field: &'static str,
        /// The text as given.
        value: String,
    },
}

impl Scope {
    /// The scope that these options describe.
    ///
    /// # Errors
    ///
    /// A malformed selector or namespace, which only options that a program filled in by hand can hold.
    pub fn from_options(options: &SandboxManagerOptions) -> Result<Self, ScopeError> {
        let selector = LabelSelector::from_str(&options.sandbox_label_selector)?;
        let selects_all = selector.requirements.is_empty();
        Ok(Self {
            sandbox_namespace: namespace("sandboxNamespace", &options.sandbox_namespace)?,
            label_selector: (!selects_all).then(|| selector.to_string()),
            system_namespace: namespace("systemNamespace", &options.system_namespace)?,
        })
    }

    /// Limits of Sandbox, SandboxSet, Checkpoint, SandboxTemplate and PersistentVolumeClaim.
    #[must_use]
    pub fn sandboxes(&self) -> WatchScope {
        WatchScope { namespace: self.sandbox_namespace.clone(), label_selector: self.label_selector.clone() }
    }

    /// Limits of Secret and `ConfigMap`; `None`: do not watch them.
    #[must_use]
    pub fn system(&self) -> Option<WatchScope> {
        let namespace = self.system_namespace.clone()?;
        Some(WatchScope { namespace: Some(namespace), label_selector: None })
    }

    /// Limits of PersistentVolume, which has no namespace and is never filtered.
    #[must_use]
    #[allow(clippy::unused_self, reason = "asked like the other two, whatever it may come to depend on")]
    pub fn cluster(&self) -> WatchScope {
        WatchScope::default()
    }
}

fn namespace(field: &'static str, value: &str) -> Result<Option<String>, ScopeError> {
    if value.is_empty() {
        return Ok(None);
    }
    if is_dns_label(value) {
        Ok(Some(value.to_owned()))
    } else {
        Err(ScopeError::Namespace { field, value: value.to_owned() })
    }
}

/// Lower-case letters, digits and `-`, beginning and ending with a letter or digit, at most 63 (DNS-1123 label).
pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 63
        && text.as_bytes().first().is_some_and(inner)
        && text.as_bytes().last().is_some_and(inner)
        && text.as_bytes().iter().all(|byte| inner(byte) || *byte == b'-')
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

    fn limits(namespace: Option<&str>, selector: Option<&str>) -> WatchScope {
        WatchScope { namespace: namespace.map(str::to_owned), label_selector: selector.map(str::to_owned) }
    }

    #[test]
    fn c1_empty_sandbox_namespace_watches_everywhere_and_a_set_one_exactly_that() {
        assert_eq!(scope("", "", "").unwrap().sandboxes(), limits(None, None));
        assert_eq!(scope("team-a", "", "").unwrap().sandboxes(), limits(Some("team-a"), None));
        assert_eq!(
            scope("Team", "", "").unwrap_err().to_string(),
            r#"sandboxNamespace: invalid namespace "Team": expected a DNS-1123 label of at most 63 characters, or nothing"#
        );
    }

    #[test]
    fn c2_selector_limits_the_sandbox_kinds() {
        let scope = scope("", " a == b , c in (y,x) ", "system").unwrap();
        assert_eq!(scope.sandboxes(), limits(None, Some("a=b,c in (x,y)")));
        assert_eq!(scope.system(), Some(limits(Some("system"), None)));
        assert_eq!(scope.cluster(), WatchScope::default());
    }

    #[test]
    fn c2_bad_selector_in_options_is_refused_with_text_and_position() {
        let error = scope("", "a in (x", "").unwrap_err();
        assert_eq!(
            error.to_string(),
            "sandboxLabelSelector: invalid label selector \"a in (x\": at character 8: expected `,` or `)`, found the end"
        );
    }

    #[test]
    fn c3_system_namespace_is_exact_and_empty_means_unwatched() {
        assert_eq!(scope("", "", "").unwrap().system(), None);
        assert_eq!(scope("a", "b=c", "sys").unwrap().system(), Some(limits(Some("sys"), None)));
    }

    #[test]
    fn c4_all_combinations_compose_and_volumes_are_never_filtered() {
        for sandbox in ["", "team-a"] {
            for selector in ["", "a=b"] {
                for system in ["", "sys"] {
                    let scope = scope(sandbox, selector, system).unwrap();
                    let some = |text: &'static str| Some(text).filter(|text| !text.is_empty());
                    assert_eq!(scope.sandboxes(), limits(some(sandbox), some(selector)));
                    assert_eq!(scope.system(), some(system).map(|system| limits(Some(system), None)));
                    assert_eq!(scope.cluster(), WatchScope::default());
                }
            }
        }
    }
}
