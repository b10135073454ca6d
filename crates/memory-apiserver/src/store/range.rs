//! [`Range`]: some of the keys of a collection.

use std::ops::Bound;

use super::stored::Key;

/// Some of the keys of a collection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range<'a> {
    /// Those of one namespace; `None`: of all.
    pub(crate) namespace: Option<&'a str>,
    /// Those after this one.
    pub(crate) after: Option<&'a Key>,
}

impl Range<'_> {
    /// The bounds of the keys. Those beyond the namespace are not [`Self::contains`].
    pub(super) fn bounds(&self) -> (Bound<Key>, Bound<Key>) {
        let start = match (self.after, self.namespace) {
            (Some(after), _) => Bound::Excluded(after.clone()),
            (None, Some(namespace)) => Bound::Included(Key::new(namespace, "")),
            (None, None) => Bound::Unbounded,
        };
        (start, Bound::Unbounded)
    }

    /// Whether a key within the bounds is of the namespace.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.namespace.is_none_or(|namespace| *key.namespace == *namespace)
    }
}
