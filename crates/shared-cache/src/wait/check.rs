//! [`Check`]: what a condition says of an object.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

/// What a condition says of an object.
#[derive(Debug)]
pub enum Check {
    /// The condition holds.
    Satisfied,
    /// The condition does not hold yet; the text says what is missing.
    NotYet(Cow<'static, str>),
    /// The condition will never hold.
    Failed(Box<dyn Error + Send + Sync>),
}

impl Check {
    /// The condition does not hold yet, for this reason.
    pub fn not_yet(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::NotYet(reason.into())
    }

    /// The condition will never hold, for this reason.
    pub fn failed(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(cause.into())
    }
}

/// What a state of an object must have reached to count (behaviour F11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Floor {
    /// Its resource version.
    pub version: u64,
    /// The generation that its status must have caught up with, for conditions that read it.
    pub generation: i64,
}

/// A condition on one object.
pub(super) type Condition<K> = Arc<dyn Fn(&K, Floor) -> Check + Send + Sync>;
