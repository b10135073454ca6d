//! Names of objects: [`ObjectKey`] owns one, [`KeyRef`] borrows one from the object that it names.
//!
//! The store never keeps a second copy of an object's name; wherever a key is only looked up, it is a
//! [`KeyRef`]. An owned [`ObjectKey`] is made at the edges: handlers, errors, logs.

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
    /// A key of its parts; an empty namespace names a cluster-scoped object.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
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
    /// The key of an object, borrowed from it.
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
    /// A key of namespace and name.
    fn from((namespace, name): (&str, &str)) -> Self {
        Self::new(namespace, name)
    }
}

/// Lets a map of owned keys be searched by a borrowed one: both hash the same two texts.
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
