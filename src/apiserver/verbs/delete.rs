//! `delete` and `deletecollection`.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::apiserver::answer;
use crate::apiserver::builtin::DEFINITIONS;
use crate::apiserver::crds;
use crate::apiserver::error::{ApiError, Details};
use crate::apiserver::filter::Filter;
use crate::apiserver::lifecycle::{FOREGROUND, ORPHAN, mark_deleted, may_go};
use crate::apiserver::object::{self, finalizers, metadata_mut};
use crate::apiserver::server::Call;
use crate::apiserver::store::{Change, Expect, Key, NAMESPACES, Stored};

/// How something is to be deleted.
struct Options {
    dry_run: bool,
    grace_seconds: Option<i64>,
    propagation: Propagation,
    uid: Option<String>,
    version: Option<String>,
}

/// What becomes of the objects that an object owns.
#[derive(Clone, Copy, PartialEq)]
enum Propagation {
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay.
    Orphan,
}

impl Options {
    fn of(call: &Call) -> Result<Self, ApiError> {
        let body = if call.body.is_empty() { json!({}) } else { super::decode::options(call)? };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let dry_run =
            body["dryRun"].as_array().is_some_and(|values| values.iter().any(|value| value == "All"));
        Ok(Self {
            dry_run: dry_run || call.params.dry_run()?,
            grace_seconds: body["gracePeriodSeconds"]
                .as_i64()
                .or(call.params.number("gracePeriodSeconds")?),
            propagation: Propagation::of(call, &body)?,
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
        })
    }

    fn check(&self, call: &Call, object: &Value) -> Result<(), ApiError> {
        for (field, wanted, is) in [
            ("UID", &self.uid, object::uid(object)),
            ("ResourceVersion", &self.version, object::meta_text(object, "resourceVersion")),
        ] {
            if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != is) {
                let why = format!(
                    "Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {is}"
                );
                return Err(ApiError::conflict(&call.resource.about(object::name(object)), &why));
            }
        }
        Ok(())
    }
}

impl Propagation {
    fn of(call: &Call, body: &Value) -> Result<Self, ApiError> {
        let policy = body["propagationPolicy"].as_str().or_else(|| call.params.get("propagationPolicy"));
        let orphan = body["orphanDependents"].as_bool().or_else(|| call.params.tristate("orphanDependents"));
        match (policy, orphan) {
            (Some("Background") | None, None) | (None, Some(false)) => Ok(Self::Background),
            (Some("Foreground"), None) => Ok(Self::Foreground),
            (Some("Orphan"), None) | (None, Some(true)) => Ok(Self::Orphan),
            (Some(_), Some(_)) => Err(refused("orphanDependents and deletionPropagation cannot be both set")),
            (Some(_), None) => {
                Err(refused("propagationPolicy: must be one of \"Background\", \"Foreground\", \"Orphan\""))
            }
        }
    }
}

fn refused(why: &str) -> ApiError {
    ApiError::bad_request(format!("DeleteOptions is invalid: {why}"))
}

/// What a deletion came to.
enum Deleted {
    /// Finalizers, or a grace period, keep it for now.
    Marked(Arc<Stored>),
    /// It is gone; this was its last state.
    Gone(Arc<Stored>),
}

/// Deletes one object.
pub(super) fn one(call: &Call) -> Result<Response<Body>, ApiError> {
    let options = Options::of(call)?;
    let presenter = call.presenter()?;
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

/// Deletes what a filter selects, and answers with what that was.
pub(super) fn collection(call: &Call) -> Result<Response<Body>, ApiError> {
    let options = Options::of(call)?;
    let presenter = call.presenter()?;
    let filter = Filter::of(&call.resource, &call.target, &call.params)?;
    let snapshot = call.server.store.list(&call.resource.storage, &call.range(None), None, 0);
    let snapshot = snapshot.map_err(|unknown| ApiError::internal(format!("{unknown:?}")))?;
    let selected: Vec<_> = snapshot.objects.into_iter().filter(|stored| filter.passes(stored)).collect();
    for stored in &selected {
        // Whoever is gone already need not be deleted.
        delete(call, &stored.key, &options)?;
    }
    let metadata = json!({"resourceVersion": call.server.store.revision().to_string()});
    Ok(answer::value(&presenter.whole_list(&selected, &metadata)))
}

fn delete(call: &Call, key: &Key, options: &Options) -> Result<Option<Deleted>, ApiError> {
    let storage = &call.resource.storage;
    while let Some(stored) = call.server.store.get(storage, key) {
        let mut object = stored.value();
        options.check(call, &object)?;
        let before = object.clone();
        prepare(call, &mut object, options);
        let grace = grace(call, &object, options);
        let gone = grace == 0 && may_go(storage, &object);
        if gone && options.dry_run {
            return Ok(Some(Deleted::Gone(stored)));
        }
        if !gone {
            mark_deleted(&mut object);
            lower_grace(&mut object, grace);
        }
        if options.dry_run || (!gone && object == before) {
            return Ok(Some(Deleted::Marked(stored)));
        }
        let change = if gone { Change::Remove(object) } else { Change::Put(object) };
        if let Ok(written) = call.server.store.write(storage, key, Expect::Revision(stored.revision), change)
        {
            call.server.after_write(storage, &written, gone);
            return Ok(Some(if gone { Deleted::Gone(written) } else { Deleted::Marked(written) }));
        }
    }
    Ok(None)
}

/// Adds the finalizers that stand for the way of deleting, and what a kind shows of it.
fn prepare(call: &Call, object: &mut Value, options: &Options) {
    match options.propagation {
        Propagation::Background => {}
        Propagation::Foreground => add_finalizer(object, FOREGROUND),
        Propagation::Orphan => add_finalizer(object, ORPHAN),
    }
    if &*call.resource.storage == DEFINITIONS && !object::is_deleting(object) {
        add_finalizer(object, crds::CLEANUP_FINALIZER);
        crds::terminate(object);
    }
    if &*call.resource.storage == NAMESPACES {
        object["status"]["phase"] = json!("Terminating");
    }
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    if finalizers(object).contains(&finalizer) || object::is_deleting(object) {
        return;
    }
    let list = metadata_mut(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        list.push(json!(finalizer));
    }
}

/// How long a deleted object stays: only a Pod that is on a node has to be ended there first.
fn grace(call: &Call, object: &Value, options: &Options) -> i64 {
    let on_a_node = !object["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    if &*call.resource.storage != "pods" || !on_a_node {
        return 0;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    options.grace_seconds.unwrap_or(own).max(0)
}

/// A grace period can be shortened later, never lengthened.
fn lower_grace(object: &mut Value, grace: i64) {
    let metadata = metadata_mut(object);
    let is = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
    if is == 0 || grace < is {
        metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    }
}
