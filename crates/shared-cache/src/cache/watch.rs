//! [`Watch`]: selects which objects of a kind are cached.

use std::time::Duration;

use label_selector::LabelSelector;

use crate::informer::InformerOptions;

/// Time between two consistency checks of a kind (behaviour V4).
const CHECK_INTERVAL: Duration = Duration::from_mins(10);

/// Selects which objects of a kind are cached: namespaces, a label selector and a field selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Watch {
    namespaces: Vec<String>,
    labels: Option<String>,
    fields: Option<String>,
    optional: bool,
    page_size: Option<u32>,
}

impl Watch {
    /// Watches all namespaces, or a cluster-scoped kind.
    pub fn all() -> Self {
        Self::default()
    }

    /// Watches one namespace.
    pub fn namespaced(namespace: impl Into<String>) -> Self {
        Self::namespaces([namespace])
    }

    /// Watches several namespaces, each by its own list and watch. A namespace that is given twice counts
    /// once. Without any namespace this is [`Watch::all`].
    pub fn namespaces(namespaces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut list: Vec<String> = Vec::new();
        for namespace in namespaces.into_iter().map(Into::into) {
            if !list.contains(&namespace) {
                list.push(namespace);
            }
        }
        Self { namespaces: list, ..Self::default() }
    }

    /// Caches only the objects that match this label selector. An object that no longer matches leaves the
    /// cache.
    pub fn labels(mut self, selector: &LabelSelector) -> Self {
        let text = selector.to_string();
        self.labels = (!text.is_empty()).then_some(text);
        self
    }

    /// Caches only the objects that match this field selector, such as `status.phase!=Succeeded`. The API
    /// server rejects a field that it does not support as a selector for the kind.
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into()).filter(|text| !text.is_empty());
        self
    }

    /// Sets the number of objects in a page of this kind, for kinds with large objects. The default is that of the
    /// cache. The pages are used only if the API server has no streaming lists.
    pub fn page_size(mut self, page_size: u32) -> Self {
        self.page_size = Some(page_size);
        self
    }

    /// Does not wait for the kind. If the kind is missing or forbidden, the cache reports that, but neither
    /// [`SharedCache::start`](crate::SharedCache::start) nor readiness waits for the kind.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    pub(super) fn is_optional(&self) -> bool {
        self.optional
    }

    pub(super) fn has_namespaces(&self) -> bool {
        !self.namespaces.is_empty()
    }

    pub(super) fn into_options(self, page_size: u32) -> InformerOptions {
        InformerOptions {
            namespaces: self.namespaces,
            label_selector: self.labels,
            field_selector: self.fields,
            page_size: self.page_size.unwrap_or(page_size),
            check_interval: Some(CHECK_INTERVAL),
        }
    }
}
