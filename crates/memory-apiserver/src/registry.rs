//! [`Registry`]: the resources that are served at one time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::resource::Resource;

/// The resources that are served, by group, version and plural. Immutable; a change makes a new one.
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
        // The key needs owned strings. That costs little beside the request itself.
        self.resources.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// Whether it has this very resource, and not only a resource of the same name.
    pub(crate) fn contains(&self, resource: &Arc<Resource>) -> bool {
        let found = self.find(&resource.group, &resource.version, &resource.names.plural);
        found.is_some_and(|found| Arc::ptr_eq(found, resource))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// Whether a group has a kind that no definition defines.
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

    /// The versions of each named group, the preferred version first.
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

/// The order in which Kubernetes prefers versions: stable before beta before alpha, higher numbers first, other
/// texts last.
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
