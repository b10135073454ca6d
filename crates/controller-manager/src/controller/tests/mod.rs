//! Behaviours of a controller on a cache that an API server in memory feeds, under paused time.

mod concurrency;
mod deletions;
mod errors;
mod order;
mod registration;
mod triggers;
