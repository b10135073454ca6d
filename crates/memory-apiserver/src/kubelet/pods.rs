//! [`Pods`]: the Pods that a rule or a restart is for.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::object;

/// A selection of Pods. Cheap to clone.
///
/// ```
/// use memory_apiserver::Pods;
///
/// Pods::named("default", "a");
/// Pods::labelled("app", "web");
/// Pods::matching(|pod| pod["spec"]["containers"][0]["image"] == "broken");
/// ```
#[derive(Clone)]
pub struct Pods {
    text: String,
    selects: Arc<dyn Fn(&Value) -> bool + Send + Sync>,
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pods").field(&self.text).finish()
    }
}

impl Pods {
    /// Every Pod.
    #[must_use]
    pub fn all() -> Self {
        Self::new("all".to_owned(), |_| true)
    }

    /// The Pod of this namespace and name.
    #[must_use]
    pub fn named(namespace: &str, name: &str) -> Self {
        let (wanted, of) = (name.to_owned(), namespace.to_owned());
        Self::new(format!("{namespace}/{name}"), move |pod| {
            object::name(pod) == wanted && object::namespace(pod) == of
        })
    }

    /// Pods with this label.
    #[must_use]
    pub fn labelled(key: &str, value: &str) -> Self {
        let (label, wanted) = (key.to_owned(), value.to_owned());
        Self::new(format!("{key}={value}"), move |pod| pod["metadata"]["labels"][&label] == wanted.as_str())
    }

    /// Pods for which the function returns true. It gets the whole Pod as JSON.
    #[must_use]
    pub fn matching(selects: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        Self::new("matching a function".to_owned(), selects)
    }

    fn new(text: String, selects: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        Self { text, selects: Arc::new(selects) }
    }

    pub(super) fn selects(&self, pod: &Value) -> bool {
        (self.selects)(pod)
    }
}
