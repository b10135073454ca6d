//! [`Filter`]: selects the objects of a list, a watch or a deletion.

use super::error::ApiError;
use super::request::{Params, Target};
use super::resource::Resource;
use super::selector::FieldSelector;
use super::store::Stored;
use label_selector::LabelSelector;

/// A namespace and selectors. An object must match all of them.
pub(crate) struct Filter {
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    /// The name that the field selector requires, if it does.
    name: Option<String>,
}

impl Filter {
    /// The filter of the path and the query of a request.
    ///
    /// # Errors
    ///
    /// If a selector is malformed, or names a field that is not selectable.
    pub(crate) fn of(resource: &Resource, target: &Target, params: &Params) -> Result<Self, ApiError> {
        let text = params.get("labelSelector").unwrap_or_default();
        let labels = text.parse::<LabelSelector>();
        let labels = labels.map_err(|error| {
            ApiError::bad_request(format!("unable to parse requirement: {text:?}: {}", error.detail()))
        })?;
        let text = params.get("fieldSelector").unwrap_or_default();
        let fields = FieldSelector::parse(text, &resource.selectable_fields)?;
        let name = fields.exact("metadata.name").map(str::to_owned);
        Ok(Self { namespace: target.namespace.clone(), name, labels, fields })
    }

    /// Whether there is a selector.
    pub(crate) fn is_selective(&self) -> bool {
        !self.labels.requirements.is_empty() || !self.fields.is_empty()
    }

    pub(crate) fn passes(&self, stored: &Stored) -> bool {
        let namespace = &*stored.key.namespace;
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.labels.matches(&stored.labels)
            // Most field selectors name one object, so that the others need not be parsed.
            && self.name.as_deref().is_none_or(|wanted| wanted == &*stored.key.name)
            && (self.fields.is_empty() || self.fields.selects(&stored.value()))
    }
}
