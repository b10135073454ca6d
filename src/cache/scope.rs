//! [`Scope`]: what the watches of a cache are limited to (behaviours C1 to C4).

use label_selector::LabelSelector;

/// What the watches of this process are limited to. The default watches the sandbox kinds everywhere and no Secrets or
/// ConfigMaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The one namespace of the sandbox kinds and of `PersistentVolumeClaim`s; `None`: every namespace.
    pub sandbox_namespace: Option<String>,
    /// Selector of the sandbox kinds and of `PersistentVolumeClaim`s; `None`: everything.
    pub label_selector: Option<LabelSelector>,
    /// The one namespace of Secrets and ConfigMaps; `None`: they are not watched.
    pub system_namespace: Option<String>,
}
