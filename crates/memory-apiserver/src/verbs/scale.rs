//! The `scale` subresource of a custom kind: the desired and the present number of replicas.

use axum::body::Body;
use http::Response;
use serde_json::{Value, json};

use super::decode;
use super::write_request::{Part, WriteRequest};
use crate::answer;
use crate::call::Call;
use crate::error::{ApiError, FieldError};
use crate::object::{self, metadata_mut};
use crate::patch::PatchKind;
use crate::request::Verb;
use crate::resource::ScalePaths;
use crate::schema::Schema;

const API_VERSION: &str = "autoscaling/v1";

/// Reads or writes the scale of an object.
pub(super) fn answer(call: &Call, verb: Verb) -> Result<Response<Body>, ApiError> {
    let Some(paths) = &call.resource.scale else { return Err(ApiError::no_such_resource()) };
    match verb {
        Verb::Get => Ok(answer::value(&scale(paths, &call.resource.view_value(&*call.find()?)))),
        Verb::Update => {
            let wanted = decode::json(&call.body)?;
            write(call, paths, None, |_| Ok(wanted.clone()))
        }
        Verb::Patch => {
            let kind = PatchKind::from_content_type(decode::media_type(call), true)?;
            let PatchKind::Change(change) = kind else {
                let wanted = decode::applied(call)?;
                return write(call, paths, Some(kind), |_| Ok(wanted.clone()));
            };
            write(call, paths, Some(kind), |live| change.carry_out(&Schema::default(), live, &call.body))
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// The scale of an object.
fn scale(paths: &ScalePaths, object: &Value) -> Value {
    let at = |path: &str| path.split('.').try_fold(object, |value, step| value.get(step)).cloned();
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": at(&paths.status_replicas).unwrap_or_else(|| json!(0))});
    if let Some(selector) = paths.selector.as_deref().and_then(at) {
        status["selector"] = selector;
    }
    json!({
        "kind": "Scale", "apiVersion": API_VERSION, "metadata": metadata,
        "spec": {"replicas": at(&paths.spec_replicas).unwrap_or_else(|| json!(0))}, "status": status,
    })
}

fn write(
    call: &Call,
    paths: &ScalePaths,
    patch: Option<PatchKind>,
    make: impl Fn(&Value) -> Result<Value, ApiError>,
) -> Result<Response<Body>, ApiError> {
    let write = WriteRequest::of(call, Part::Scale, patch)?;
    let written = write.update(|live| {
        let wanted = make(&scale(paths, live))?;
        let replicas = checked(&wanted)?;
        let mut object = live.clone();
        set(&mut object, &paths.spec_replicas, json!(replicas));
        let version = object::meta_text(&wanted, "resourceVersion");
        if !version.is_empty() {
            metadata_mut(&mut object).insert("resourceVersion".to_owned(), json!(version));
        }
        Ok((object, Vec::new()))
    })?;
    Ok(answer::value(&scale(paths, &call.resource.view_value(&written.object))))
}

fn checked(scale: &Value) -> Result<i64, ApiError> {
    let replicas = &scale["spec"]["replicas"];
    match replicas.as_i64() {
        Some(number @ 0..) => Ok(number),
        None if replicas.is_null() => Ok(0),
        Some(_) => {
            let error =
                FieldError::invalid("spec.replicas", replicas.clone(), "must be greater than or equal to 0");
            Err(ApiError::invalid("autoscaling", "Scale", object::name(scale), &[error]))
        }
        None => Err(ApiError::bad_request(format!("spec.replicas: {replicas} is no whole number"))),
    }
}

fn set(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for step in path.split('.') {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[step];
    }
    *at = value;
}
