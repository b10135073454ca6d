//! Decodes the body of a write, and refuses a body that is not an object of the right kind.

use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::{ApiError, FieldError};
use crate::patch::{self, Change, PatchKind};
use crate::protobuf::{self, PROTOBUF, Refused};
use crate::resource::Resource;
use crate::schema;

/// The media type of a body, without its parameters.
pub(super) fn media_type(call: &Call) -> &str {
    let value = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// The object in the body of a create or an update, and warnings of fields that are given twice.
pub(super) fn body(call: &Call) -> Result<(Value, Vec<String>), ApiError> {
    let object = document(call)?;
    let is_json = !matches!(media_type(call), "application/yaml" | PROTOBUF);
    let duplicates = if is_json { duplicates(&call.body) } else { Vec::new() };
    check_kind(call, &object, None)?;
    Ok((object, duplicates))
}

/// The object in a body, of any kind.
pub(super) fn document(call: &Call) -> Result<Value, ApiError> {
    match media_type(call) {
        "" | "application/json" => json(&call.body),
        "application/yaml" => shallow(patch::applied::read(&call.body)?),
        PROTOBUF => in_protobuf(call),
        other => Err(unknown_format(other)),
    }
}

/// Reads the object in a body in protobuf.
fn in_protobuf(call: &Call) -> Result<Value, ApiError> {
    protobuf::decode(&call.body).map_err(|refused| match refused {
        Refused::UnknownKind { .. } => unknown_format(PROTOBUF),
        Refused::Malformed(why) => undecoded(&call.resource, &why),
    })
}

/// The fields that a body gives twice, as clients are told of them.
pub(super) fn duplicates(body: &[u8]) -> Vec<String> {
    let fields = schema::duplicate_fields(body).unwrap_or_default();
    fields.into_iter().map(|field| format!("duplicate field {field:?}")).collect()
}

/// The object in a body of JSON.
pub(super) fn json(body: &[u8]) -> Result<Value, ApiError> {
    let refused =
        |what: String| ApiError::bad_request(format!("couldn't get version/kind; json parse error: {what}"));
    let value: Value = serde_json::from_slice(body).map_err(|error| refused(error.to_string()))?;
    if value.is_object() { shallow(value) } else { Err(refused("not an object".to_owned())) }
}

/// The object of a server-side apply.
pub(super) fn applied(call: &Call) -> Result<Value, ApiError> {
    shallow(patch::applied::read(&call.body)?)
}

fn shallow(object: Value) -> Result<Value, ApiError> {
    if patch::is_deeper_than(&object, patch::MAX_DEPTH) {
        return Err(ApiError::bad_request(format!("nested more than {} levels", patch::MAX_DEPTH)));
    }
    Ok(object)
}

/// Checks that kind and version are those of the path. Objects of built-in kinds may leave them out.
pub(super) fn check_kind(call: &Call, object: &Value, patch: Option<PatchKind>) -> Result<(), ApiError> {
    let resource = &call.resource;
    let (version, kind) = (resource.api_version(), &resource.names.kind);
    let said = |field: &str| object[field].as_str().unwrap_or_default();
    if !resource.is_custom() {
        let fits = |said: &str, is: &str| said == is || said.is_empty();
        if fits(said("apiVersion"), &version) && fits(said("kind"), kind) {
            return Ok(());
        }
        let why = format!("no kind {:?} is registered for version {:?}", said("kind"), said("apiVersion"));
        return Err(unreadable(call, object, patch, &why));
    }
    let (is, wants, field) = if said("kind") != kind.as_str() {
        (said("kind"), kind, "kind")
    } else if said("apiVersion") != version {
        (said("apiVersion"), &version, "apiVersion")
    } else {
        return Ok(());
    };
    if field == "kind" && is.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): Object 'Kind' is missing in '{object}'"
        )));
    }
    if patch.is_none() && said("apiVersion") != version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({version})",
            said("apiVersion"),
        )));
    }
    let error = FieldError::invalid(field, json!(is), format!("must be {wants}"));
    Err(ApiError::invalid(&resource.group, said("kind"), crate::object::name(object), &[error]))
}

/// The error for an object that cannot be decoded or has unknown fields. For a patch, it shows the patched object.
pub(super) fn unreadable(call: &Call, object: &Value, patch: Option<PatchKind>, why: &str) -> ApiError {
    let shown = match patch {
        Some(PatchKind::Change(Change::Strategic)) => String::from_utf8_lossy(&call.body).into_owned(),
        Some(PatchKind::Change(_)) => object.to_string(),
        None | Some(PatchKind::Apply) => return undecoded(&call.resource, why),
    };
    ApiError::invalid("", "", "", &[FieldError::invalid("patch", json!(shown), why)])
}

fn undecoded(resource: &Resource, why: &str) -> ApiError {
    let (kind, version) = (&resource.names.kind, &resource.version);
    ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}

fn unknown_format(media_type: &str) -> ApiError {
    ApiError::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: application/json, \
         application/yaml (not {media_type:?})"
    ))
}
