//! Names of objects: [`ObjectKey`] owns a name, [`KeyRef`] borrows a name from its object.
//!
//! The store never keeps a second copy of an object's name, so lookups use a [`KeyRef`]. An owned
//! [`ObjectKey`] is created only for handlers, errors and logs.

use std::fmt;

use hashbrown::Equivalent;
use kube::Resource;

/// Namespace and name of an object. The namespace is empty for cluster-scoped kinds.
///
/// Prints as `namespace/name`, or `name` alone for cluster-scoped objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ObjectKey {
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name, unique in the namespace among the objects of one kind.
    pub name: String,
}

impl ObjectKey {
    /// Creates a key from its parts. An empty namespace means a cluster-scoped object.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Returns the key of an object.
    #[must_use]
    pub fn of<K: Resource>(object: &K) -> Self {
        KeyRef::of(object).into()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KeyRef::from(self).fmt(f)
    }
}

/// A borrowed [`ObjectKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyRef<'a> {
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Name of the object.
    pub name: &'a str,
}

impl<'a> KeyRef<'a> {
    /// Returns the key of an object, borrowed from the object.
    #[must_use]
    pub fn of<K: Resource>(object: &'a K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.as_deref().unwrap_or_default(),
            name: meta.name.as_deref().unwrap_or_default(),
        }
    }
}

impl<'a> From<&'a ObjectKey> for KeyRef<'a> {
    fn from(key: &'a ObjectKey) -> Self {
        Self { namespace: &key.namespace, name: &key.name }
    }
}

impl From<KeyRef<'_>> for ObjectKey {
    fn from(key: KeyRef<'_>) -> Self {
        Self::new(key.namespace, key.name)
    }
}

impl From<(&str, &str)> for ObjectKey {
    /// Creates a key from namespace and name.
    fn from((namespace, name): (&str, &str)) -> Self {
        Self::new(namespace, name)
    }
}

/// Allows lookups of a borrowed key in a map of owned keys. Both keys hash the same two texts.
impl Equivalent<ObjectKey> for KeyRef<'_> {
    fn equivalent(&self, key: &ObjectKey) -> bool {
        self.namespace == key.namespace && self.name == key.name
    }
}

impl fmt::Display for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_prints_as_kubectl_names_it() {
        assert_eq!(ObjectKey::new("ns", "a").to_string(), "ns/a");
        assert_eq!(ObjectKey::new("", "a").to_string(), "a");
    }

    #[test]
    fn a_map_of_keys_is_searched_without_making_one() {
        let keys = hashbrown::HashMap::<_, ()>::from([(ObjectKey::new("ns", "a"), ())]);
        assert!(keys.contains_key(&KeyRef { namespace: "ns", name: "a" }));
        assert!(!keys.contains_key(&KeyRef { namespace: "n", name: "sa" }));
    }
}
