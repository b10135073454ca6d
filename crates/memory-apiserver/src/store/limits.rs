//! [`Limits`]: how much of the past a store keeps.

/// The bounds of the events that a store keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Events of one collection.
    pub(crate) events: usize,
    /// Bytes of objects in the events of one collection.
    pub(crate) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 50_000, bytes: 256 << 20 }
    }
}
