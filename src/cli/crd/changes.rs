//! [`Changes`]: what applying a definition would change in a cluster.

/// What applying a definition would change in a cluster. Each text names one part, with the version that it is in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The parts that the installed definition has and ours does not have, and the values that only the installed one
    /// accepts. They must not get lost.
    pub(super) lost: Vec<String>,
    /// The parts that only our definition has.
    pub(super) added: Vec<String>,
    /// The parts that both have in different forms.
    pub(super) changed: Vec<String>,
}

impl Changes {
    /// Returns true if the installed definition is the same as ours.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
