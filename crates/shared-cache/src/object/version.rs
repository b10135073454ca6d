//! Resource versions and their order.
//!
//! The API server declares versions opaque. Since Kubernetes 1.35 the versions of every built-in and custom
//! resource are comparable as integers; client-go's `resourceversion.CompareResourceVersion` relies on the
//! same.

use std::cmp::Ordering;

use kube::Resource;

/// Returns the version of an object as a number; `None` if it has none or it is not numeric.
#[must_use]
pub fn version_of<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref().and_then(parse_version)
}

/// Returns a resource version as a number; `None` if it is not a number.
#[must_use]
pub fn parse_version(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// Compares an incoming version with the stored version of the same object. A version that is not a number
/// counts as equal or newer, because its order is unknown (behaviour E4).
pub(crate) fn compare_versions(incoming: &str, stored: &str) -> Ordering {
    if incoming == stored {
        return Ordering::Equal;
    }
    match (parse_version(incoming), parse_version(stored)) {
        (Some(incoming), Some(stored)) => incoming.cmp(&stored),
        _ => Ordering::Greater,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4_versions_compare_as_integers_and_else_only_by_equality() {
        assert_eq!(compare_versions("10", "9"), Ordering::Greater);
        assert_eq!(compare_versions("9", "10"), Ordering::Less);
        assert_eq!(compare_versions("10", "10"), Ordering::Equal);
        assert_eq!(compare_versions("a", "b"), Ordering::Greater);
        assert_eq!(compare_versions("b", "a"), Ordering::Greater);
        assert_eq!(compare_versions("a", "a"), Ordering::Equal);
    }
}
