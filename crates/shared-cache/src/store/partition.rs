//! [`Partition`]: one list and watch of a kind.

/// Number of one list and watch of a kind: the position of its namespace in the options.
pub(crate) type Partition = u16;
