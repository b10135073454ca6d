//! [`InformerOptions`]: limits the objects that an informer watches.

use std::time::Duration;

/// Limits the objects that an informer watches, by namespace and selector. Also sets the page size of lists and
/// the interval of the consistency checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InformerOptions {
    /// The namespaces to watch, each by its own list and watch. If empty, all namespaces, or a cluster-scoped
    /// kind.
    pub(crate) namespaces: Vec<String>,
    /// Kubernetes label selector; `None` selects everything.
    pub(crate) label_selector: Option<String>,
    /// Kubernetes field selector; `None` selects everything.
    pub(crate) field_selector: Option<String>,
    /// Number of objects in a page of a paged list; 0 means 500.
    pub(crate) page_size: u32,
    /// Time between two consistency checks; `None`: no checks.
    pub(crate) check_interval: Option<Duration>,
}

impl InformerOptions {
    /// Returns true if a selector can exclude objects that exist.
    pub(crate) fn has_selector(&self) -> bool {
        self.label_selector.is_some() || self.field_selector.is_some()
    }
}
