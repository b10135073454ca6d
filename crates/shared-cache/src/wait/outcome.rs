//! The states that a wait can see, and the results that it can have.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

use super::registry::{Registration, Registry, Verdict};
use crate::object::ObjectKey;

/// A state of an object that a caller waits for.
pub(super) enum Seen<K> {
    /// The object exists in this state.
    Present(Arc<K>),
    /// The object was deleted.
    Deleted {
        /// Its last known state.
        last_known: Arc<K>,
        /// True if `last_known` is the final state, so that its version is that of the deletion.
        is_final_state: bool,
    },
    /// The object exists, but its newest version cannot be decoded.
    Undecodable,
    /// The object does not exist at a version at which it would exist.
    Missing,
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

/// The waits of a kind by the key of their object.
pub(super) type WaitRegistry<K> = Registry<ObjectKey, Seen<K>, Ending<K>, Pending>;

/// A registration among the waiters of a key.
pub(super) type Place<K> = Registration<ObjectKey, Seen<K>, Ending<K>, Pending>;
