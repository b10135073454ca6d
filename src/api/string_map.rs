//! [`StringMap`]: a small map of texts that allocates no spare memory.
//!
//! A `BTreeMap<String, String>` takes half a kilobyte for its first entry. The maps in a status have few
//! entries, are read often, and are never changed in place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::symbol::Symbol;

/// An immutable map from texts to texts, sorted by key. Equal keys of several maps share their memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StringMap(Box<[(Symbol, Box<str>)]>);

impl StringMap {
    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| known.as_str().cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// Iterates over keys and values, in the order of the keys.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), &**value))
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if the map has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<Symbol>, V: Into<Box<str>>> FromIterator<(K, V)> for StringMap {
    /// Collects entries into a map. The last value of a repeated key is kept.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries: Vec<(Symbol, Box<str>)> =
            entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        // A stable sort, so that the last of several equal keys stays last.
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self(entries.into_boxed_slice())
    }
}

impl From<BTreeMap<String, String>> for StringMap {
    fn from(map: BTreeMap<String, String>) -> Self {
        map.into_iter().collect()
    }
}

impl fmt::Debug for StringMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for StringMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for StringMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> serde::de::Visitor<'de> for Entries {
            type Value = StringMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<StringMap, A::Error> {
                let mut entries: Vec<(Symbol, Box<str>)> = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries.into_iter().collect())
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl schemars::JsonSchema for StringMap {
    fn schema_name() -> Cow<'static, str> {
        "StringMap".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        <BTreeMap<String, String>>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_string_map_equals_a_btree_map(entries in proptest::collection::vec(("[a-c]{0,2}", "[a-z]{0,3}"), 0..12)) {
            let expected: BTreeMap<String, String> = entries.iter().cloned().collect();
            let map: StringMap = entries.into_iter().collect();
            let shown: Vec<_> = map.iter().collect();
            prop_assert_eq!(shown, expected.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>());
            for key in ["", "a", "ab", "zz"] {
                prop_assert_eq!(map.get(key), expected.get(key).map(String::as_str));
            }
            let text = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&expected).unwrap());
            prop_assert_eq!(serde_json::from_str::<StringMap>(&text).unwrap(), map);
        }
    }
}
