//! [`WriteRequest`]: a create, an update or a patch, with its options.

use jiff::Timestamp;

use super::options::WriteOptions;
use crate::call::Call;
use crate::error::ApiError;
use crate::fields::Manager;
use crate::form::Presenter;
use crate::patch::PatchKind;

/// The part of an object that a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object without its status.
    Main,
    /// Its status.
    Status,
    /// The number of replicas, in its `scale`.
    Scale,
    /// The part of its spec that `resize` changes.
    Resize,
    /// The object with its status, which no request can write at once.
    Whole,
}

/// One write.
pub(super) struct WriteRequest<'a> {
    pub(super) call: &'a Call,
    pub(super) part: Part,
    /// The kind of patch, if it is a patch.
    pub(super) patch: Option<PatchKind>,
    pub(super) options: WriteOptions,
    pub(super) presenter: Presenter,
    pub(super) now: Timestamp,
}

impl<'a> WriteRequest<'a> {
    /// # Errors
    ///
    /// If an option is invalid, or if the client accepts no form that the server supports.
    pub(super) fn of(call: &'a Call, part: Part, patch: Option<PatchKind>) -> Result<Self, ApiError> {
        let presenter = call.presenter()?;
        let options = WriteOptions::of(call, patch)?;
        Ok(Self { call, part, patch, options, presenter, now: call.state.clock.now() })
    }

    /// The owner of the fields that are written.
    pub(super) fn manager(&self) -> Manager<'_> {
        Manager { name: &self.options.manager, now: self.now }
    }
}
