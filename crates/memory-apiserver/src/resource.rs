//! [`Resource`]: one kind as it is served in one version, and [`Registry`], all that is served now.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::error::About;
use super::schema::{Schema, Validator};
use super::selector::SelectableFields;
use super::table::Printer;

/// One kind in one version. Immutable; a changed CRD makes new ones.
pub(crate) struct Resource {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) names: Names,
    pub(crate) namespaced: bool,
    /// Where its objects are kept. Versions of a kind share it, and so do the two groups of Events.
    pub(crate) storage: Arc<str>,
    pub(crate) schema: Arc<Schema>,
    pub(crate) printer: Printer,
    /// What the status is to writes.
    pub(crate) status: bool,
    pub(crate) scale: Option<ScalePaths>,
    /// What field selectors may name. They look at objects as they are stored.
    pub(crate) selectable_fields: SelectableFields,
    pub(crate) nature: Nature,
}

/// What a kind is called.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_field_names, reason = "`short_names` is what Kubernetes calls the field")]
pub(crate) struct Names {
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
}

/// Where the `scale` subresource finds its numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: String,
    pub(crate) status_replicas: String,
    pub(crate) selector: Option<String>,
}

/// What objects of a custom kind look like where they are stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredForm {
    pub(crate) version: String,
    pub(crate) schema: Arc<Schema>,
}

/// What is known of a custom kind beyond what every kind has.
pub(crate) struct Custom {
    /// The version of it that objects are stored in.
    pub(crate) stored: StoredForm,
    pub(crate) origin: super::crds::Origin,
    /// Its schema as the definition has it, for those who ask for documents.
    pub(crate) form: Value,
    /// Checks what the schema demands of values.
    pub(crate) validator: Validator,
}

/// Where a kind comes from, and the rules that follow from it.
pub(crate) enum Nature {
    /// Defined by a CRD.
    Custom(Box<Custom>),
    /// Part of every API server.
    Builtin(&'static super::builtin::Builtin),
}

impl Resource {
    /// As in `fleet.test/v1alpha1`, or `v1`.
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    pub(crate) fn is_custom(&self) -> bool {
        matches!(self.nature, Nature::Custom(_))
    }

    /// For error texts about an object of this kind; about the kind itself if `name` is empty.
    pub(crate) fn about<'a>(&'a self, name: &'a str) -> About<'a> {
        About { group: &self.group, plural: &self.names.plural, name }
    }

    /// Whether an object's `generation` counts changes of it.
    pub(crate) fn has_generation(&self) -> bool {
        match &self.nature {
            Nature::Custom(_) => true,
            Nature::Builtin(builtin) => builtin.has_generation,
        }
    }
}

/// As in `fleet.test/v1alpha1`; the core group has no slash.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Everything that is served, by group, version and plural. Immutable; replaced as a whole.
#[derive(Default)]
pub(crate) struct Registry {
    resources: BTreeMap<(String, String, String), Arc<Resource>>,
}

impl Registry {
    pub(crate) fn new(resources: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let key = |resource: &Resource| {
            (resource.group.clone(), resource.version.clone(), resource.names.plural.clone())
        };
        Self { resources: resources.into_iter().map(|resource| (key(&resource), resource)).collect() }
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        // Only a lookup of owned strings is possible here; requests are few beside what they cost.
        self.resources.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// Whether a group is one of the server's own, rather than of definitions.
    pub(crate) fn is_own(&self, group: &str) -> bool {
        group.is_empty() || self.all().any(|resource| resource.group == group && !resource.is_custom())
    }

    /// The resources of one version of a group.
    pub(crate) fn of<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.all().filter(move |resource| resource.group == group && resource.version == version)
    }

    /// The versions of each named group, the preferred one first.
    pub(crate) fn groups(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for resource in self.all().filter(|resource| !resource.group.is_empty()) {
            let versions = groups.entry(&resource.group).or_default();
            if !versions.contains(&&*resource.version) {
                versions.push(&resource.version);
            }
        }
        for versions in groups.values_mut() {
            versions.sort_by(|a, b| version_priority(b).cmp(&version_priority(a)).then(a.cmp(b)));
        }
        groups
    }
}

/// The order in which Kubernetes prefers versions: stable before beta before alpha, higher numbers first, then
/// whatever is no version by its rule.
pub(crate) fn version_priority(version: &str) -> (u8, u32, u32) {
    let parsed = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let (stage, minor) = match &rest[digits..] {
            "" => (3, "0"),
            tail => tail
                .strip_prefix("beta")
                .map(|minor| (2, minor))
                .or_else(|| tail.strip_prefix("alpha").map(|minor| (1, minor)))?,
        };
        Some((stage, major, minor.parse().ok()?))
    };
    parsed().unwrap_or((0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_preferred_as_kubernetes_does() {
        let mut versions = ["v1alpha1", "foo", "v2", "v10", "v1beta2", "v1beta10", "v1"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta10", "v1beta2", "v1alpha1", "foo"]);
    }
}
