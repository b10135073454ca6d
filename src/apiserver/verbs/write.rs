//! `create`, `update` and `patch`: read what is there, make what is to be there, and store it unless somebody else
//! was faster, in which case it all begins anew.

use std::sync::Arc;

use axum::body::Body;
use http::header::USER_AGENT;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use super::Part;
use super::admit::{self, Admission};
use super::decode::{self, FieldValidation};
use crate::apiserver::answer;
use crate::apiserver::error::ApiError;
use crate::apiserver::fields::{self, Manager};
use crate::apiserver::object;
use crate::apiserver::patch::{self, PatchKind};
use crate::apiserver::request::Verb;
use crate::apiserver::server::Call;
use crate::apiserver::store::{Change, Expect, Key, Refused, Stored};

/// How often a generated name is tried.
const NAME_ATTEMPTS: u32 = 8;

/// One write under way.
pub(super) struct Write<'a> {
    pub(super) call: &'a Call,
    pub(super) part: Part,
    pub(super) validation: FieldValidation,
    dry_run: bool,
    manager: String,
    pub(super) now: Timestamp,
}

/// What a write came to.
pub(super) struct Written {
    status: StatusCode,
    pub(super) object: Arc<Stored>,
    warnings: Vec<String>,
}

/// Stores a new object.
pub(super) fn create(call: &Call) -> Result<Response<Body>, ApiError> {
    let write = Write::of(call, Part::Main)?;
    let (object, duplicates) = decode::body(call)?;
    let written = write.create(object, duplicates)?;
    write.answer(written)
}

/// Stores a new object, its status included.
pub(crate) fn load(call: &Call, object: Value) -> Result<Arc<Stored>, ApiError> {
    Write::of(call, Part::Whole)?.create(object, Vec::new()).map(|written| written.object)
}

/// Replaces an object, or its status.
pub(super) fn replace(call: &Call, part: Part) -> Result<Response<Body>, ApiError> {
    let write = Write::of(call, part)?;
    let (object, duplicates) = decode::body(call)?;
    let written = write.update(|_| Ok((object.clone(), duplicates.clone())))?;
    write.answer(written)
}

/// Changes an object, or its status.
pub(super) fn patch(call: &Call, part: Part) -> Result<Response<Body>, ApiError> {
    let kind = PatchKind::from_content_type(decode::media_type(call), call.resource.is_custom())?;
    let write = Write::of(call, part)?;
    let PatchKind::Change(change) = kind else {
        let written = write.apply()?;
        return write.answer(written);
    };
    let duplicates = decode::duplicates(&call.body);
    let written = write.update(|live| {
        let patched = change.carry_out(&call.resource.schema, live, &call.body)?;
        decode::check_kind(call, &patched)?;
        Ok((patched, duplicates.clone()))
    })?;
    write.answer(written)
}

impl<'a> Write<'a> {
    pub(super) fn of(call: &'a Call, part: Part) -> Result<Self, ApiError> {
        Ok(Self {
            call,
            part,
            validation: FieldValidation::of(call)?,
            dry_run: call.params.dry_run()?,
            manager: manager_name(call)?,
            now: Timestamp::now(),
        })
    }

    fn answer(&self, written: Written) -> Result<Response<Body>, ApiError> {
        let presenter = self.call.presenter()?;
        let mut response = answer::json(written.status, presenter.object(&written.object));
        answer::warn(&mut response, &written.warnings);
        Ok(response)
    }

    pub(super) fn manager(&self) -> Manager<'_> {
        Manager { name: &self.manager, now: self.now }
    }

    fn create(&self, object: Value, duplicates: Vec<String>) -> Result<Written, ApiError> {
        let generates = object::name(&object).is_empty();
        for _ in 0..NAME_ATTEMPTS {
            let admission = admit::create(self, object.clone(), duplicates.clone())?;
            match self.store(Expect::Absent, admission, StatusCode::CREATED) {
                Err(Failure::Raced(_)) if generates => {}
                Err(Failure::Raced(key)) => {
                    return Err(ApiError::already_exists(&self.call.resource.about(&key.name)));
                }
                Err(Failure::Refused(error)) => return Err(error),
                Ok(written) => return Ok(written),
            }
        }
        let name = object::meta_text(&object, "generateName");
        Err(ApiError::already_exists(&self.call.resource.about(name)))
    }

    /// Makes a new version from the present one until it can be stored.
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
        let applied = patch::applied::read(&self.call.body)?;
        decode::check_kind(self.call, &applied)?;
        let force = self.call.params.flag("force");
        loop {
            let stored = self.call.server.store.get(&self.call.resource.storage, &self.call.key());
            let Some(stored) = stored else {
                if self.part == Part::Status {
                    return Err(self.call.not_found());
                }
                let object = admit::applied(self, None, applied.clone(), force)?;
                match self.store(Expect::Absent, object, StatusCode::CREATED) {
                    Err(Failure::Raced(_)) => continue,
                    Err(Failure::Refused(error)) => return Err(error),
                    Ok(written) => return Ok(written),
                }
            };
            let live = self.call.resource.view_value(&stored);
            let admission = admit::applied(self, Some(&live), applied.clone(), force)?;
            if let Some(written) = self.attempt(&stored, admission)? {
                return Ok(written);
            }
        }
    }

    /// Stores a new version over a present one; `None` if that was not the present one any more.
    fn attempt(&self, stored: &Arc<Stored>, admission: Admission) -> Result<Option<Written>, ApiError> {
        if admission.unchanged {
            let warnings = admission.warnings;
            return Ok(Some(Written { status: StatusCode::OK, object: Arc::clone(stored), warnings }));
        }
        match self.store(Expect::Revision(stored.revision), admission, StatusCode::OK) {
            Err(Failure::Raced(_)) => Ok(None),
            Err(Failure::Refused(error)) => Err(error),
            Ok(written) => Ok(Some(written)),
        }
    }

    fn store(&self, expect: Expect, admission: Admission, status: StatusCode) -> Result<Written, Failure> {
        let Admission { object, warnings, ends, .. } = admission;
        let key = Key::new(object::namespace(&object), object::name(&object));
        let resource = &self.call.resource;
        let server = &self.call.server;
        if self.dry_run {
            let exists = server.store.get(&resource.storage, &key).is_some();
            if exists && expect == Expect::Absent {
                return Err(Failure::Raced(key));
            }
            let object = Arc::new(Stored::unstored(key, &object));
            return Ok(Written { status, object, warnings });
        }
        let object = resource.to_stored(object);
        let change = if ends { Change::Remove(object) } else { Change::Put(object) };
        match server.store.write(&resource.storage, &key, expect, change) {
            Ok(object) => {
                server.after_write(&resource.storage, &object, ends);
                Ok(Written { status, object, warnings })
            }
            Err(Refused::Raced) => Err(Failure::Raced(key)),
            Err(Refused::NoNamespace) => Err(Failure::Refused(ApiError::no_namespace(&key.namespace))),
            Err(Refused::NamespaceTerminating) => Err(Failure::Refused(ApiError::namespace_terminating(
                &resource.about(&key.name),
                &key.namespace,
            ))),
        }
    }
}

/// Who writes: whom the request names, else the client's program.
fn manager_name(call: &Call) -> Result<String, ApiError> {
    let named = call.params.get("fieldManager").unwrap_or_default();
    let applies = call.verb == Verb::Patch
        && PatchKind::from_content_type(decode::media_type(call), true) == Ok(PatchKind::Apply);
    let errors = fields::check_field_manager(named, applies);
    if !errors.is_empty() {
        let kind = match call.verb {
            Verb::Create => "CreateOptions",
            Verb::Update => "UpdateOptions",
            _ => "PatchOptions",
        };
        return Err(ApiError::invalid("meta.k8s.io", kind, "", &errors));
    }
    if named.is_empty() {
        let agent = call.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        return Ok(fields::from_user_agent(agent.unwrap_or_default()));
    }
    Ok(named.to_owned())
}

/// Why something was not stored.
enum Failure {
    Raced(Key),
    Refused(ApiError),
}
