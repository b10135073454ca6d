//! What a write does, what it expects, and why it is refused.

use serde_json::Value;

/// What must be there for a write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expect {
    /// No object.
    Absent,
    /// No object, of a kind whose definition is there and stays.
    AbsentAndDefined,
    /// The object as it was at this revision.
    Revision(u64),
}

/// What a write does.
pub(crate) enum Change {
    /// Stores the object.
    Put(Value),
    /// Removes the object. Watchers are told this as its last state.
    Remove(Value),
}

/// Why a write was not made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refused {
    /// Another write came first: there is another revision, none, or one where none was expected.
    Raced,
    /// There is no such namespace.
    NoNamespace,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The kind is not defined any more.
    NoDefinition,
    /// The definition of the kind is being deleted.
    DefinitionTerminating,
}
