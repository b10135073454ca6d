//! [`Subscription`]: a stream of the changes of one kind.

mod end;
mod event;
pub mod predicates;
mod queue;
mod subscription;

pub use end::SubscriptionEnd;
pub use event::Event;
pub use subscription::Subscription;
