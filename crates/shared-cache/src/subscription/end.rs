//! [`SubscriptionEnd`]: the reason why a subscription has ended.

use std::fmt;

/// The reason why a subscription has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionEnd {
    /// The cache was stopped.
    Stopped,
    /// The future that runs the informer was dropped without a stop.
    InformerDropped,
}

impl SubscriptionEnd {
    pub(super) fn of(stopped: bool) -> Self {
        if stopped { Self::Stopped } else { Self::InformerDropped }
    }
}

impl fmt::Display for SubscriptionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "the cache was stopped",
            Self::InformerDropped => "the informer was dropped",
        })
    }
}
