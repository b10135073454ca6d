//! [`Fence`]: until when this process may write as the leader; and clients that ask it before each write.

mod clock;
mod fence;
mod fenced_client;

pub use fence::NotLeader;

pub(crate) use clock::Clock;
pub(crate) use fence::Fence;
pub(crate) use fenced_client::{FenceLayer, fenced_client};
