//! Indexes of a kind: their typed names and the functions that extract values from an object.

use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use smallvec::SmallVec;

/// Number of the built-in index by namespace. The kind's own indexes follow from 1.
pub(crate) const NAMESPACE_INDEX: u8 = 0;

/// The name of an index of the kind `K`.
///
/// A constant of this type makes the use of another kind's index a compile error:
///
/// ```
/// use k8s_openapi::api::core::v1::Pod;
/// use shared_cache::Index;
///
/// const NODE_NAME: Index<Pod> = Index::new("nodeName");
/// ```
///
/// A `&'static str` converts into an `Index` of any kind. If the kind has no index of that name, the lookup
/// returns [`LookupError::UnknownIndex`](crate::LookupError::UnknownIndex).
pub struct Index<K> {
    name: &'static str,
    kind: PhantomData<fn(&K)>,
}

impl<K> Index<K> {
    /// Creates a name. It must be unique among the indexes of a kind.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, kind: PhantomData }
    }

    /// Returns the name as text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Index<K> {}

impl<K> fmt::Debug for Index<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Index").field(&self.name).finish()
    }
}

impl<K> From<&'static str> for Index<K> {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

/// Extracts the values under which one index stores an object.
pub struct IndexFunc<K> {
    /// Name of the index.
    pub index: Index<K>,
    /// Adds the values of the object to `keys`. Must be fast and must not block.
    pub extract: fn(object: &K, keys: &mut IndexKeys<'_>),
}

/// Collects the values of one object in one index.
///
/// An empty value is ignored, and so is a value that was added before.
pub struct IndexKeys<'a> {
    values: &'a mut IndexValues,
    index: u8,
    now: Timestamp,
}

impl<'a> IndexKeys<'a> {
    pub(crate) fn new(values: &'a mut IndexValues, index: u8, now: Timestamp) -> Self {
        Self { values, index, now }
    }

    /// Adds one value.
    pub fn add(&mut self, value: &str) {
        self.values.push(self.index, value);
    }

    /// Returns the wall time, for values that change with time alone. A kind whose index uses the time must
    /// report such changes by [`CachedResource::next_transition`](crate::CachedResource::next_transition).
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

impl<'v> Extend<&'v str> for IndexKeys<'_> {
    fn extend<I: IntoIterator<Item = &'v str>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.add(value));
    }
}

/// The instant at which the index values of an object change without an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) at: Timestamp,
    /// True if the index values are those after the instant.
    pub(crate) is_passed: bool,
}

impl Transition {
    /// Returns the transition of an object that is indexed at `now`.
    pub(crate) fn new(at: Timestamp, now: Timestamp) -> Self {
        Self { at, is_passed: at < now }
    }
}

/// Bytes of text for which most objects have room in one allocation: namespace, id and user.
const USUAL_TEXT: usize = 96;

/// The index values of one object, computed before any lock is taken.
pub(crate) struct IndexValues {
    text: String,
    ends: SmallVec<[(u8, u32); 3]>,
    transition: Option<Transition>,
}

impl IndexValues {
    pub(crate) fn new(transition: Option<Transition>) -> Self {
        Self { text: String::with_capacity(USUAL_TEXT), ends: SmallVec::new(), transition }
    }

    /// Returns the instant at which the values change, and the side of it for which they were computed.
    pub(crate) fn transition(&self) -> Option<Transition> {
        self.transition
    }

    pub(crate) fn push(&mut self, index: u8, value: &str) {
        if !value.is_empty() && !self.iter().any(|(i, v)| i == index && v == value) {
            self.text.push_str(value);
            let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
            self.ends.push((index, end));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&(index, end)| {
            let value = &self.text[start..end as usize];
            start = end as usize;
            (index, value)
        })
    }
}
