//! [`Call`]: one request for a resource, read and permitted.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::access::User;
use super::error::ApiError;
use super::faults::Interference;
use super::form::{Form, Presenter};
use super::request::{Params, Target, Verb};
use super::resource::Resource;
use super::state::ServerState;
use super::store::{Expect, Key, Range, Stored};

/// One request for a resource.
pub(crate) struct Call {
    pub(crate) state: Arc<ServerState>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) verb: Verb,
    pub(crate) target: Target,
    pub(crate) params: Params,
    pub(crate) headers: HeaderMap,
    pub(crate) user: User,
    pub(crate) body: Bytes,
    /// The faults that strike it.
    pub(crate) interference: Interference,
}

impl Call {
    /// The key of the object that the path names.
    pub(crate) fn key(&self) -> Key {
        let namespace = self.target.namespace.as_deref().unwrap_or_default();
        Key::new(namespace, self.target.name.as_deref().unwrap_or_default())
    }

    /// The object that the path names.
    pub(crate) fn find(&self) -> Result<Arc<Stored>, ApiError> {
        let found = self.state.store.get(&self.resource.storage, &self.key());
        found.ok_or_else(|| self.not_found())
    }

    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource.about(self.target.name.as_deref().unwrap_or_default()))
    }

    /// Writes objects in the form that the client accepts.
    pub(crate) fn presenter(&self) -> Result<Presenter, ApiError> {
        let form = Form::negotiate(&self.headers, &self.params)?;
        Ok(Presenter::new(Arc::clone(&self.resource), form, self.state.clock.clone()))
    }

    /// The condition for storing a new object.
    pub(crate) fn absent(&self) -> Expect {
        if self.resource.is_custom() { Expect::AbsentAndDefined } else { Expect::Absent }
    }

    /// The keys that the path covers.
    pub(crate) fn range<'a>(&'a self, after: Option<&'a Key>) -> Range<'a> {
        Range { namespace: self.target.namespace.as_deref(), after }
    }
}
