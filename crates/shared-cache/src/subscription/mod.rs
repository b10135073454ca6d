//! [`Subscription`]: a stream of the changes of one kind.

mod event;
pub mod predicates;
mod queue;
mod subscription;

pub use event::Event;
pub use subscription::{Subscription, SubscriptionEnd};
