//! `create`, `update` and `patch`: read the live object, make the new one, and store it. If another write came first,
//! all of this is repeated.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;

use super::admit::{self, Admission};
use super::decode;
use super::write_request::{Part, WriteRequest};
use crate::access;
use crate::answer;
use crate::call::Call;
use crate::error::ApiError;
use crate::lifecycle;
use crate::object;
use crate::patch::PatchKind;
use crate::request::Verb;
use crate::store::{Change, Expect, Key, Refused, Stored};

/// Attempts to find a generated name that is free.
const NAME_ATTEMPTS: u32 = 8;

/// Maximum bytes of an object as JSON: the largest request of etcd.
const MAX_OBJECT: usize = 1536 << 10;

/// The result of a write.
pub(super) struct Written {
    status: StatusCode,
    pub(super) object: Arc<Stored>,
    warnings: Vec<String>,
}

/// Stores a new object.
pub(super) fn create(call: &Call) -> Result<Response<Body>, ApiError> {
    let write = WriteRequest::of(call, Part::Main, None)?;
    let (object, duplicates) = decode::body(call)?;
    let written = write.create(&object, &duplicates)?;
    Ok(write.answer(&written))
}

/// Stores a new object with its status.
pub(crate) fn load(call: &Call, object: &Value) -> Result<Arc<Stored>, ApiError> {
    WriteRequest::of(call, Part::Whole, None)?.create(object, &[]).map(|written| written.object)
}

/// Replaces an object, or its status.
pub(super) fn replace(call: &Call, part: Part) -> Result<Response<Body>, ApiError> {
    let write = WriteRequest::of(call, part, None)?;
    let (object, duplicates) = decode::body(call)?;
    let written = if part == Part::Main && call.resource.is_created_on_update() {
        write.put(&object, &duplicates)?
    } else {
        write.update(|_| Ok((object.clone(), duplicates.clone())))?
    };
    Ok(write.answer(&written))
}

/// Changes an object, or its status.
pub(super) fn patch(call: &Call, part: Part) -> Result<Response<Body>, ApiError> {
    let kind = PatchKind::from_content_type(decode::media_type(call), call.resource.is_custom())?;
    let write = WriteRequest::of(call, part, Some(kind))?;
    let PatchKind::Change(change) = kind else {
        let written = write.apply()?;
        return Ok(write.answer(&written));
    };
    let duplicates = decode::duplicates(&call.body);
    let written = write.update(|live| {
        let patched = change.carry_out(&call.resource.schema, live, &call.body)?;
        decode::check_kind(call, &patched, write.patch)?;
        Ok((patched, duplicates.clone()))
    })?;
    Ok(write.answer(&written))
}

impl WriteRequest<'_> {
    fn answer(&self, written: &Written) -> Response<Body> {
        let mut response = answer::json(written.status, self.presenter.object(&written.object));
        answer::warn(&mut response, &written.warnings);
        response
    }

    fn create(&self, object: &Value, duplicates: &[String]) -> Result<Written, ApiError> {
        self.check_place()?;
        let generates = object::name(object).is_empty();
        for _ in 0..NAME_ATTEMPTS {
            let admission = admit::create(self, object.clone(), duplicates.to_vec())?;
            match self.store(None, admission) {
                Err(Failure::Raced(_)) if generates => {}
                Err(Failure::Raced(key)) => return Err(self.taken(&key)),
                Err(Failure::Refused(error)) => return Err(error),
                Ok(written) => return Ok(written),
            }
        }
        let name = object::meta_text(object, "generateName");
        Err(ApiError::already_exists(&self.call.resource.about(name)))
    }

    /// Replaces an object, or creates it if it does not exist.
    fn put(&self, object: &Value, duplicates: &[String]) -> Result<Written, ApiError> {
        let call = self.call;
        loop {
            if call.find().is_ok() {
                match self.update(|_| Ok((object.clone(), duplicates.to_vec()))) {
                    // The object was deleted meanwhile.
                    Err(error) if error.code == 404 && call.find().is_err() => {}
                    other => return other,
                }
            }
            self.check_place()?;
            let admission = admit::create(self, object.clone(), duplicates.to_vec())?;
            access::permit(&call.state.store, &call.user, Verb::Create, &call.target)?;
            match self.store(None, admission) {
                Err(Failure::Raced(_)) => {}
                Err(Failure::Refused(error)) => return Err(error),
                Ok(written) => return Ok(written),
            }
        }
    }

    /// Checks that new objects are possible in this namespace, before the object itself is checked.
    fn check_place(&self) -> Result<(), ApiError> {
        let namespace = self.call.target.namespace.as_deref().unwrap_or_default();
        let key = Key::new(namespace, "");
        match self.call.state.store.check(&self.call.resource.storage, &key, self.call.absent()) {
            Ok(()) | Err(Refused::Raced) => Ok(()),
            Err(why) => match self.refused(&self.call.key(), &why) {
                Failure::Raced(_) => Ok(()),
                Failure::Refused(error) => Err(error),
            },
        }
    }

    /// The error for a new object whose key is taken.
    fn taken(&self, key: &Key) -> ApiError {
        let resource = &self.call.resource;
        let mut error = ApiError::already_exists(&resource.about(&key.name));
        if self.call.state.store.get(&resource.storage, key).is_some_and(|stored| stored.deleting) {
            error.message = format!("object is being deleted: {}", error.message);
        }
        error
    }

    /// Makes a new version of the live object, until it can be stored.
    pub(super) fn update(
        &self,
        make: impl Fn(&Value) -> Result<(Value, Vec<String>), ApiError>,
    ) -> Result<Written, ApiError> {
        loop {
            let stored = self.call.find()?;
            let live = self.call.resource.view_value(&stored);
            let (object, duplicates) = make(&live)?;
            let admission = admit::update(self, &live, object, duplicates)?;
            if let Some(written) = self.attempt(&stored, admission)? {
                return Ok(written);
            }
        }
    }

    fn apply(&self) -> Result<Written, ApiError> {
        let applied = decode::applied(self.call)?;
        decode::check_kind(self.call, &applied, self.patch)?;
        loop {
            let stored = self.call.state.store.get(&self.call.resource.storage, &self.call.key());
            let Some(stored) = stored else {
                if self.part != Part::Main {
                    return Err(self.call.not_found());
                }
                self.check_place()?;
                let object = admit::applied(self, None, applied.clone())?;
                match self.store(None, object) {
                    Err(Failure::Raced(_)) => continue,
                    Err(Failure::Refused(error)) => return Err(error),
                    Ok(written) => return Ok(written),
                }
            };
            let live = self.call.resource.view_value(&stored);
            let admission = admit::applied(self, Some(&live), applied.clone())?;
            if let Some(written) = self.attempt(&stored, admission)? {
                return Ok(written);
            }
        }
    }

    /// Stores a new version of `stored`. Returns `None` if another write came first.
    fn attempt(&self, stored: &Arc<Stored>, admission: Admission) -> Result<Option<Written>, ApiError> {
        if admission.unchanged {
            let warnings = admission.warnings;
            return Ok(Some(Written { status: StatusCode::OK, object: Arc::clone(stored), warnings }));
        }
        match self.store(Some(stored), admission) {
            Err(Failure::Raced(_)) => Ok(None),
            Err(Failure::Refused(error)) => Err(error),
            Ok(written) => Ok(Some(written)),
        }
    }

    /// Stores an object in the place of `old`, or as a new object.
    fn store(&self, old: Option<&Stored>, admission: Admission) -> Result<Written, Failure> {
        let (expect, status) = match old {
            Some(old) => (Expect::Revision(old.revision), StatusCode::OK),
            None => (self.call.absent(), StatusCode::CREATED),
        };
        let Admission { object, warnings, ends, .. } = admission;
        let key = Key::new(object::namespace(&object), object::name(&object));
        let resource = &self.call.resource;
        let state = &self.call.state;
        if self.options.dry_run {
            state.store.check(&resource.storage, &key, expect).map_err(|why| self.refused(&key, &why))?;
            let object = Arc::new(Stored::unstored(key, &object));
            return Ok(Written { status, object, warnings });
        }
        let object = fitting(resource.to_stored(object)).map_err(Failure::Refused)?;
        let change = if ends { Change::Remove(object) } else { Change::Put(object) };
        let stored = state.store.write(&resource.storage, &key, expect, change);
        let object = stored.map_err(|why| self.refused(&key, &why))?;
        lifecycle::after_write(state, &resource.storage, old, &object, ends);
        // An object that is loaded may have an owner that a test made up.
        if self.part != Part::Whole && !ends {
            lifecycle::check_owners(state, &resource.storage, old, &object);
        }
        Ok(Written { status, object, warnings })
    }

    fn refused(&self, key: &Key, why: &Refused) -> Failure {
        let about = self.call.resource.about(&key.name);
        Failure::Refused(match why {
            Refused::Raced => return Failure::Raced(key.clone()),
            Refused::NoNamespace => ApiError::no_namespace(&key.namespace),
            Refused::NamespaceTerminating => ApiError::namespace_terminating(&about, &key.namespace),
            Refused::NoDefinition => ApiError::no_such_resource(),
            Refused::DefinitionTerminating => ApiError::forbidden(
                &about,
                "create not allowed while custom resource definition is terminating",
            ),
        })
    }
}

/// Refuses an object that is too large for etcd. If it fits without its `managedFields`, removes these instead.
fn fitting(mut object: Value) -> Result<Value, ApiError> {
    let is_too_large = |object: &Value| object::json_size(object) > MAX_OBJECT;
    if is_too_large(&object) {
        object::metadata_mut(&mut object).remove("managedFields");
        if is_too_large(&object) {
            return Err(ApiError::object_too_large());
        }
    }
    Ok(object)
}

/// Why an object was not stored.
enum Failure {
    Raced(Key),
    Refused(ApiError),
}
