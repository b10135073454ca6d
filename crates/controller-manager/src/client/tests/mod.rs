//! The client layer as a whole.

mod transport;
mod unsent;
