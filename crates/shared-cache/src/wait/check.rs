//! [`Check`]: the result of a condition.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

/// The result of a condition for one object.
#[derive(Debug)]
pub enum Check {
    /// The condition holds.
    Satisfied,
    /// The condition does not hold yet. The text names the missing part.
    NotYet(Cow<'static, str>),
    /// The condition will never hold.
    Failed(Box<dyn Error + Send + Sync>),
}

impl Check {
    /// Creates a result: the condition does not hold yet, for this reason.
    pub fn not_yet(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::NotYet(reason.into())
    }

    /// Creates a result: the condition will never hold, for this reason.
    pub fn failed(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(cause.into())
    }
}

/// The minimum version and generation of a state that counts (behaviour F11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Floor {
    /// The minimum resource version.
    pub version: u64,
    /// The minimum observed generation, for conditions that read the status.
    pub generation: i64,
}

/// A condition on one object.
pub(super) type Condition<K> = Arc<dyn Fn(&K, Floor) -> Check + Send + Sync>;
