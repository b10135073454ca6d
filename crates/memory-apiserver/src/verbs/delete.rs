//! `delete` and `deletecollection`.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::options::{DeleteOptions, ListOptions, Propagation};
use super::pages::Page;
use crate::answer;
use crate::call::Call;
use crate::crds;
use crate::deletion::{grace, mark_deleted, may_go};
use crate::error::{ApiError, Details};
use crate::lifecycle;
use crate::object::{self, FOREGROUND, ORPHAN, finalizers, metadata_mut};
use crate::store::{Change, DEFINITIONS, Expect, Key, NAMESPACES, Stored};

/// The namespaces that cannot be deleted.
const IMMORTAL_NAMESPACES: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The result of a deletion.
enum Deleted {
    /// A finalizer or a grace period keeps the object for now.
    Marked(Arc<Stored>),
    /// The object is removed; this was its last state.
    Gone(Arc<Stored>),
}

/// Deletes one object.
pub(super) fn one(call: &Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    let options = DeleteOptions::of(call)?;
    match delete(call, &call.key(), &options)?.ok_or_else(|| call.not_found())? {
        Deleted::Marked(stored) => Ok(answer::json(StatusCode::OK, presenter.object(&stored))),
        Deleted::Gone(stored) if call.resource.builtin().is_some_and(|builtin| builtin.returns_deleted) => {
            Ok(answer::json(StatusCode::OK, presenter.object(&stored)))
        }
        Deleted::Gone(stored) => Ok(answer::value(&answer::success(&Details {
            name: stored.key.name.to_string(),
            group: call.resource.group.clone(),
            kind: call.resource.names.plural.clone(),
            uid: object::uid(&stored.value()).to_owned(),
            ..Details::default()
        }))),
    }
}

/// Deletes the objects that a list with the same options has, and answers with that list.
pub(super) fn collection(call: &Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    let options = DeleteOptions::of(call)?;
    let page = Page::of(call, &ListOptions::of(call)?)?;
    for stored in &page.objects {
        // Another client may have deleted it meanwhile.
        delete(call, &stored.key, &options)?;
    }
    Ok(page.answer(call, presenter))
}

fn delete(call: &Call, key: &Key, options: &DeleteOptions) -> Result<Option<Deleted>, ApiError> {
    let storage = &call.resource.storage;
    if &**storage == NAMESPACES && IMMORTAL_NAMESPACES.contains(&&*key.name) {
        return Err(ApiError::forbidden(
            &call.resource.about(&key.name),
            "this namespace may not be deleted",
        ));
    }
    while let Some(stored) = call.state.store.get(storage, key) {
        let mut object = stored.value();
        options.check(call, &object)?;
        let before = object.clone();
        let grace = prepare(call, &mut object, options);
        let gone = grace == 0 && may_go(storage, &object);
        if gone && options.dry_run {
            return Ok(Some(Deleted::Gone(stored)));
        }
        if !gone {
            mark_deleted(storage, &mut object, grace, call.state.clock.now());
        }
        if !gone && object == before {
            return Ok(Some(Deleted::Marked(stored)));
        }
        if options.dry_run {
            return Ok(Some(Deleted::Marked(Arc::new(Stored::unstored(key.clone(), &object)))));
        }
        let change = if gone { Change::Remove(object) } else { Change::Put(object) };
        if let Ok(written) = call.state.store.write(storage, key, Expect::Revision(stored.revision), change) {
            lifecycle::after_write(&call.state, storage, Some(&stored), &written, gone);
            return Ok(Some(if gone { Deleted::Gone(written) } else { Deleted::Marked(written) }));
        }
    }
    Ok(None)
}

/// Sets the finalizers of the propagation policy, and the status of kinds that show their deletion. Returns the grace
/// period in seconds.
fn prepare(call: &Call, object: &mut Value, options: &DeleteOptions) -> i64 {
    if let Some(propagation) = options.propagation {
        set_finalizer(object, FOREGROUND, propagation == Propagation::Foreground);
        set_finalizer(object, ORPHAN, propagation == Propagation::Orphan);
    }
    match &*call.resource.storage {
        DEFINITIONS if !object::is_deleting(object) => {
            set_finalizer(object, crds::CLEANUP_FINALIZER, true);
            crds::terminate(object, call.state.clock.now());
        }
        NAMESPACES => object["status"]["phase"] = json!("Terminating"),
        _ => {}
    }
    grace(&call.resource.storage, object, options.grace_seconds)
}

fn set_finalizer(object: &mut Value, finalizer: &str, there: bool) {
    if finalizers(object).contains(&finalizer) == there {
        return;
    }
    let list = metadata_mut(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        list.retain(|found| found != finalizer);
        list.extend(there.then(|| json!(finalizer)));
    }
}
