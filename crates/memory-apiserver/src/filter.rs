//! [`Filter`]: which objects of a collection a list, a watch or a deletion is about.

use super::error::ApiError;
use super::request::{Params, Target};
use super::resource::Resource;
use super::selector::FieldSelector;
use super::store::Stored;
use label_selector::LabelSelector;

/// A namespace and selectors; all must hold.
pub(crate) struct Filter {
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    /// The one name that the field selector asks for, if it does.
    name: Option<String>,
}

impl Filter {
    /// What the path and the query of a request select.
    ///
    /// # Errors
    ///
    /// For selectors that are none, or that name a field which this kind can't be selected by.
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

    /// Whether objects are selected by more than their namespace.
    pub(crate) fn is_selective(&self) -> bool {
        !self.labels.requirements.is_empty() || !self.fields.is_empty()
    }

    pub(crate) fn passes(&self, stored: &Stored) -> bool {
        let namespace = &*stored.key.namespace;
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.labels.matches(&stored.labels)
            // Most field selectors name one object; no other one needs to be decoded.
            && self.name.as_deref().is_none_or(|wanted| wanted == &*stored.key.name)
            && (self.fields.is_empty() || self.fields.selects(&stored.value()))
    }
}
