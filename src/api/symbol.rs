//! [`Symbol`]: a short text that is kept once for all objects that contain it.
//!
//! Thousands of objects contain the same condition reason, node name or label key. A `Symbol` costs 8 bytes
//! in each of these objects, and its text is kept once. The text is freed with its last `Symbol`. Symbols use
//! the table of `interned.rs`, and the invariants of that file hold here too.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::interned::{Entry, Table};

static SYMBOLS: Table = Table::new();

/// A text that shares its memory with all equal symbols of the process. Dereferences to `str`.
///
/// Cloning increments a counter. Comparing for equality compares pointers first. Creating a symbol looks up
/// its text under a lock, which is held for the lookup only.
#[derive(Clone)]
pub struct Symbol(Arc<Entry>);

impl Symbol {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.text()
    }

    /// Returns true if both symbols share one copy in memory. Equal symbols of the process always do.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Default for Symbol {
    /// Returns the symbol of the empty text.
    fn default() -> Self {
        "".into()
    }
}

impl From<&str> for Symbol {
    fn from(text: &str) -> Self {
        Self(SYMBOLS.intern(text))
    }
}

impl From<String> for Symbol {
    fn from(text: String) -> Self {
        Self(SYMBOLS.intern(text))
    }
}

impl From<Box<str>> for Symbol {
    fn from(text: Box<str>) -> Self {
        Self(SYMBOLS.intern(text))
    }
}

impl Deref for Symbol {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        self
    }
}

impl AsRef<str> for Symbol {
    fn as_ref(&self) -> &str {
        self
    }
}

impl PartialEq for Symbol {
    fn eq(&self, other: &Self) -> bool {
        // The table keeps one live entry per text. Comparing the texts guards against a fault of the table.
        Arc::ptr_eq(&self.0, &other.0) || self.as_str() == other.as_str()
    }
}

impl Eq for Symbol {}

impl PartialEq<str> for Symbol {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Symbol {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Symbol {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Symbol {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Symbol {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl Serialize for Symbol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Symbol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A visitor instead of a `String`, so that decoding a known text allocates nothing.
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Symbol;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Symbol, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl schemars::JsonSchema for Symbol {
    fn schema_name() -> Cow<'static, str> {
        "string".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_symbol_that_goes_with_its_last_user() {
        let text = "a text of no other test";
        let (first, second) = (Symbol::from(text), Symbol::from(text));
        assert!(Arc::ptr_eq(&first.0, &second.0));
        assert_eq!((&*first, first.len()), (text, text.len()));
        drop((first, second));
        assert!(!SYMBOLS.knows(text));
    }

    #[test]
    fn a_symbol_is_written_as_the_text_that_it_is() {
        let symbol: Symbol = serde_json::from_str(r#""a\"b""#).unwrap();
        assert_eq!(symbol, "a\"b");
        assert_eq!(serde_json::to_string(&symbol).unwrap(), r#""a\"b""#);
        assert_eq!(size_of::<Option<Symbol>>(), 8);
    }
}
