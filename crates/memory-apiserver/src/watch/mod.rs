//! Watches: the objects that are there, if asked for, then every event that passes a filter, bookmarks, and the end.
//!
//! A watch has no buffer of its own. It reads the events of the store from its position on, so a slow client costs
//! nothing, and is told that its version has expired once the store has forgotten events that it did not read.

mod lines;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use lines::{expired, refusal};
pub(crate) use stream::{WatchRequest, lines};
