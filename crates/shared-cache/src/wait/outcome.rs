//! The states that a wait can see, and the results that it can have.

use std::borrow::Cow;
use std::error::Error;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::Equivalent;

use super::registry::{Registration, Registry, Verdict, Waiter};
use crate::kind::CacheObject;
use crate::object::{KeyRef, ObjectKey};

/// The object that a caller waits for. It is shared with the caller's wait instead of copied.
pub(super) enum Subject<K> {
    /// The object of the same name as this one.
    Named(Arc<K>),
    /// The object of this name, which may not exist yet.
    Key(Arc<ObjectKey>),
}

impl<K> Clone for Subject<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Named(object) => Self::Named(Arc::clone(object)),
            Self::Key(key) => Self::Key(Arc::clone(key)),
        }
    }
}

impl<K: CacheObject> Subject<K> {
    pub(super) fn key(&self) -> KeyRef<'_> {
        match self {
            Self::Named(object) => KeyRef::of(&**object),
            Self::Key(key) => KeyRef::from(&**key),
        }
    }
}

impl<K: CacheObject> Hash for Subject<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl<K: CacheObject> Equivalent<Subject<K>> for KeyRef<'_> {
    fn equivalent(&self, subject: &Subject<K>) -> bool {
        *self == subject.key()
    }
}

/// A state of an object that a caller waits for.
pub(super) enum Seen<K> {
    /// The object exists in this state.
    Present(Arc<K>),
    /// The object was deleted or left the scope of the cache.
    Deleted {
        /// Its last known state.
        last_known: Arc<K>,
        /// True if `last_known` is the final state, so that its version is that of the deletion.
        is_final_state: bool,
    },
    /// The cache does not know the state of the object, for this reason.
    Unknown(&'static str),
    /// The object does not exist at a version at which it would exist.
    Missing,
}

impl<K> Seen<K> {
    /// The object exists, but the cache does not have its newest version.
    pub(super) const UNDECODABLE: Self = Self::Unknown("the newest version of the object cannot be decoded");
    /// The object may exist, but nobody can read it.
    pub(super) const NOT_SERVED: Self = Self::Unknown("the API server does not serve the kind");
}

impl<K> Clone for Seen<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Present(object) => Self::Present(Arc::clone(object)),
            Self::Deleted { last_known, is_final_state } => {
                Self::Deleted { last_known: Arc::clone(last_known), is_final_state: *is_final_state }
            }
            Self::Unknown(reason) => Self::Unknown(reason),
            Self::Missing => Self::Missing,
        }
    }
}

/// The reason why a wait ends without its condition.
#[derive(Clone, Debug)]
pub(super) enum End {
    Gone,
    Stopped,
    Failed(Arc<dyn Error + Send + Sync>),
}

/// The reason why a wait continues.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Resource version of the state that did not satisfy the condition.
    pub(super) version: Option<String>,
    pub(super) reason: Cow<'static, str>,
}

/// The result of a wait; `None` if its condition holds without an object.
pub(super) type Ending<K> = Result<Option<Arc<K>>, End>;

/// The version of the seen state and its verdict; `None` if the state does not concern the wait.
pub(super) type Judgement<K> = Option<(Option<u64>, Verdict<Ending<K>, Pending>)>;

/// A wait of a caller.
pub(super) type ObjectWaiter<K> = Waiter<Subject<K>, Seen<K>, Ending<K>, Pending>;

/// The waits of a kind by their object.
pub(super) type WaitRegistry<K> = Registry<Subject<K>, Seen<K>, Ending<K>, Pending>;

/// A registration among the waiters of an object.
pub(super) type Place<K> = Registration<Subject<K>, Seen<K>, Ending<K>, Pending>;
