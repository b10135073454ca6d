//! [`Identity`]: identifies one version of an object. Read from the object's JSON text without decoding it.

use std::borrow::Cow;
use std::fmt;

use kube::Resource;
use serde::Deserialize;
use serde::de::{Deserializer as _, Error, IgnoredAny, MapAccess, Visitor};

use super::key::KeyRef;

/// Namespace, name, UID and resource version of an object. Objects with equal identities are equal,
/// unless the API server was restored from a backup and has used a version again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity<'a> {
    #[serde(borrow, default)]
    pub(crate) namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) uid: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) resource_version: Cow<'a, str>,
}

impl<'a> Identity<'a> {
    /// Reads the identity of an object from its JSON text. Returns `None` if the text has no metadata. The text
    /// after the metadata is not parsed. The metadata itself is parsed whole, and may be most of an object.
    pub(crate) fn peek(object: &'a str) -> Option<Self> {
        let mut found = None;
        // The visitor ends the parse by an error once it has found the metadata.
        let _ = serde_json::Deserializer::from_str(object).deserialize_map(Metadata(&mut found));
        found
    }

    pub(crate) fn into_owned(self) -> Identity<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Identity {
            namespace: owned(self.namespace),
            name: owned(self.name),
            uid: owned(self.uid),
            resource_version: owned(self.resource_version),
        }
    }

    /// Returns true if UID and version are those of an object of the same key.
    pub(crate) fn is_of<K: Resource>(&self, object: &K) -> bool {
        let meta = object.meta();
        meta.uid.as_deref() == Some(&*self.uid)
            && meta.resource_version.as_deref() == Some(&*self.resource_version)
    }

    pub(crate) fn key(&self) -> KeyRef<'_> {
        KeyRef { namespace: &self.namespace, name: &self.name }
    }
}

/// Stores the identity in the field `metadata` of an object.
struct Metadata<'a, 'out>(&'out mut Option<Identity<'a>>);

impl<'a> Visitor<'a> for Metadata<'a, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with metadata")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<Cow<'a, str>>()? {
            if field == "metadata" {
                *self.0 = Some(map.next_value()?);
                return Err(A::Error::custom("the rest is not needed"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_read_without_the_rest_of_the_object() {
        let json = r#"{"kind": "Widget", "metadata": {"labels": {"uid": "x"}, "managedFields": [{"name": "y"}],
            "name": "a\u0062", "namespace": "ns", "resourceVersion": "7", "uid": "u"}, "spec": not json"#;
        let found = Identity::peek(json).unwrap();
        assert_eq!((&*found.namespace, &*found.name), ("ns", "ab"));
        assert_eq!((&*found.uid, &*found.resource_version), ("u", "7"));
        assert_eq!(Identity::peek(r#"{"spec": {"metadata": {"name": "inner"}}}"#), None);
        assert_eq!(Identity::peek(r#"{"metadata": {"name": 5}}"#), None);
    }
}
