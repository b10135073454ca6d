//! From the body of a write to an object of the right kind, and what is said of fields that nobody knows.

use http::header::CONTENT_TYPE;
use serde_json::Value;

use crate::apiserver::error::ApiError;
use crate::apiserver::patch;
use crate::apiserver::resource::Nature;
use crate::apiserver::schema;
use crate::apiserver::server::Call;

/// What becomes of fields that the kind does not have, or that are given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldValidation {
    /// They are dropped in silence.
    Ignore,
    /// They are dropped, and the client is told.
    Warn,
    /// They are refused.
    Strict,
}

impl FieldValidation {
    pub(super) fn of(call: &Call) -> Result<Self, ApiError> {
        match call.params.get("fieldValidation") {
            None | Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => Err(ApiError::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Warn\", \"Strict\""
            ))),
        }
    }

    /// What follows from fields that are unknown or given twice: warnings, or a refusal.
    pub(super) fn judge(self, problems: Vec<String>) -> Result<Vec<String>, ApiError> {
        match self {
            _ if problems.is_empty() => Ok(problems),
            Self::Ignore => Ok(Vec::new()),
            Self::Warn => Ok(problems),
            Self::Strict => {
                Err(ApiError::bad_request(format!("strict decoding error: {}", problems.join(", "))))
            }
        }
    }
}

/// The media type of a body, without its parameters.
pub(super) fn media_type(call: &Call) -> &str {
    let value = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// The object in the body of a create or an update, and the fields in it that are given twice.
pub(super) fn body(call: &Call) -> Result<(Value, Vec<String>), ApiError> {
    let (object, duplicates) = match media_type(call) {
        "" | "application/json" => (json(&call.body)?, duplicates(&call.body)),
        "application/yaml" => (patch::applied::read(&call.body)?, Vec::new()),
        other => return Err(unknown_format(other)),
    };
    check_kind(call, &object)?;
    Ok((object, duplicates))
}

/// The fields that a body gives twice, as clients are told of them.
pub(super) fn duplicates(body: &[u8]) -> Vec<String> {
    let fields = schema::duplicate_fields(body).unwrap_or_default();
    fields.into_iter().map(|field| format!("duplicate field {field:?}")).collect()
}

/// JSON that is an object.
pub(super) fn json(body: &[u8]) -> Result<Value, ApiError> {
    let refused =
        |what: String| ApiError::bad_request(format!("couldn't get version/kind; json parse error: {what}"));
    let value: Value = serde_json::from_slice(body).map_err(|error| refused(error.to_string()))?;
    if !value.is_object() {
        return Err(refused("not an object".to_owned()));
    }
    if patch::is_deeper_than(&value, patch::MAX_DEPTH) {
        return Err(ApiError::bad_request(format!("nested more than {} levels", patch::MAX_DEPTH)));
    }
    Ok(value)
}

/// Whether the object says to be what the path is about. Built-in kinds may leave it out.
pub(super) fn check_kind(call: &Call, object: &Value) -> Result<(), ApiError> {
    let (version, kind) = (call.resource.api_version(), &call.resource.names.kind);
    let said = |field: &str| object[field].as_str().unwrap_or_default();
    let optional = matches!(call.resource.nature, Nature::Builtin(_));
    if said("kind").is_empty() && !optional {
        return Err(ApiError::bad_request(format!("Object 'Kind' is missing in '{object}'")));
    }
    let fits = |said: &str, is: &str| said == is || (said.is_empty() && optional);
    if fits(said("apiVersion"), &version) && fits(said("kind"), kind) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "{} in version {:?} cannot be handled as a {kind}: does not match the expected API version ({version}) and \
         kind ({kind})",
        said("kind"),
        said("apiVersion"),
    )))
}

/// The `DeleteOptions` in a body.
pub(super) fn options(call: &Call) -> Result<Value, ApiError> {
    let body = match media_type(call) {
        "" | "application/json" => json(&call.body)?,
        "application/yaml" => patch::applied::read(&call.body)?,
        other => return Err(unknown_format(other)),
    };
    match body["kind"].as_str() {
        None | Some("DeleteOptions") => Ok(body),
        Some(other) => Err(ApiError::bad_request(format!("{other} is no DeleteOptions"))),
    }
}

fn unknown_format(media_type: &str) -> ApiError {
    ApiError::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: application/json, \
         application/yaml (not {media_type:?})"
    ))
}
