//! [`Path`]: where in an object a walk is, formatted only once something is found there.

use std::fmt;

/// A chain of steps, each borrowed from the call that made it, so that walking costs no allocation.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    /// The object itself, or what all paths begin with.
    Root(&'a str),
    /// A field: `.name`.
    Field(&'a Path<'a>, &'a str),
    /// A key of a map that is told apart from fields: `[name]`.
    Key(&'a Path<'a>, &'a str),
    /// An item of a list: `[0]`.
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    pub(super) const OBJECT: Path<'static> = Path::Root("");

    pub(super) fn field<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path::Field(self, name)
    }

    pub(super) fn key<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path::Key(self, name)
    }

    pub(super) fn index(&self, index: usize) -> Path<'_> {
        Path::Index(self, index)
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Root(""))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(text) => f.write_str(text),
            Self::Field(parent, name) if parent.is_empty() => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Key(parent, name) => write!(f, "{parent}[{name}]"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}
