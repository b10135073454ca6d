//! [`Scope`]: limits the watches of a cache (behaviours C1 to C4).

use label_selector::LabelSelector;

/// Limits the watches of this process to what is needed. By default the sandbox kinds and
/// `PersistentVolumeClaim`s are watched in all namespaces, and no other kind is watched (behaviour Y5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The only namespace of the sandbox kinds and of `PersistentVolumeClaim`s. `None`: every namespace.
    pub sandbox_namespace: Option<String>,
    /// Selector of the sandbox kinds and of `PersistentVolumeClaim`s. `None`: all objects.
    pub label_selector: Option<LabelSelector>,
    /// The only namespace of Secrets and ConfigMaps. `None`: they are not watched. The cache keeps their metadata, and
    /// the data of [`KEY_STORE`](super::KEY_STORE) only.
    pub system_namespace: Option<String>,
    /// True if `PersistentVolume`s are watched. No lookup of this crate needs them, and the permission for them must be
    /// granted in the whole cluster.
    pub persistent_volumes: bool,
    /// True if the kinds of the lifecycle controllers are watched too: the pods of sandboxes.
    pub lifecycle: bool,
}
