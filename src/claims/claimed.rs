//! [`Claimed`] and [`Connected`]: the results of the engine.

use std::ops::Deref;
use std::sync::Arc;

use crate::api::v1alpha1::{ANNOTATION_RUNTIME_ACCESS_TOKEN, Sandbox, annotation};

named_enum! {
    /// How a claim got its sandbox. The value of the metric label `lock_type`.
    pub enum LockType {
        /// An available member of the pool was locked.
        Update => "update",
        /// The pool had no available member, so a sandbox was created.
        Create => "create",
    }
}

/// A claimed sandbox. It dereferences to [`Sandbox`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claimed {
    /// The sandbox as the last write or wait of the claim saw it.
    pub sandbox: Arc<Sandbox>,
    /// How the claim got it.
    pub lock_type: LockType,
    /// The id of the lock, which is in the annotation [`ANNOTATION_LOCK`](crate::api::v1alpha1::ANNOTATION_LOCK).
    pub lock: String,
    /// Number of candidates that others were faster to change.
    pub retries: u32,
}

impl Claimed {
    /// Returns the access token of the runtime in the sandbox, if the claim has initialised it. Never log this token.
    #[must_use]
    pub fn access_token(&self) -> Option<&str> {
        annotation(&self.sandbox.metadata, ANNOTATION_RUNTIME_ACCESS_TOKEN)
    }
}

impl Deref for Claimed {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

/// The result of [`Claims::connect`](super::Claims::connect).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connected {
    /// The running sandbox.
    pub sandbox: Arc<Sandbox>,
    /// True if the sandbox was paused, and runs again because of this call or one beside it.
    pub resumed: bool,
}
