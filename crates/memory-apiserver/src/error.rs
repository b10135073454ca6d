//! [`ApiError`]: an error as the `Status` that a client gets.
//!
//! Reasons, codes and texts are those of kube-apiserver: clients decide by code and reason, people read the text.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Value, json};

use super::go_format;

/// An error. It becomes the answer to a request, or an `ERROR` event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    /// HTTP status.
    pub(crate) code: u16,
    /// One word that clients decide by, such as `NotFound`; empty for some failures.
    pub(crate) reason: &'static str,
    /// The text for people.
    pub(crate) message: String,
    /// The object of the error. In a box, so that results with an error stay small.
    pub(crate) details: Box<Details>,
}

/// The object of an error. Empty fields are not written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Details {
    pub(crate) name: String,
    pub(crate) group: String,
    /// The plural if a resource was addressed, the kind if an object was invalid.
    pub(crate) kind: String,
    pub(crate) uid: String,
    pub(crate) causes: Vec<Cause>,
    /// Also sent as `Retry-After`.
    pub(crate) retry_after_seconds: Option<u32>,
    /// The token with which a list goes on whose own token has expired, then with newer objects. It is written into
    /// the metadata of the status.
    pub(crate) continue_token: Option<String>,
}

/// One of several causes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) field: String,
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Box::default() }
    }

    fn with_details(mut self, details: Details) -> Self {
        *self.details = details;
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// The text begins with [`About::qualified`].
    pub(crate) fn forbidden(about: &About<'_>, message: &str) -> Self {
        let subject = match about.name {
            "" => about.qualified(),
            name => format!("{} {name:?}", about.qualified()),
        };
        Self::new(403, "Forbidden", format!("{subject} is forbidden: {message}"))
            .with_details(about.details())
    }

    /// For a path that is not of a resource.
    pub(crate) fn forbidden_path(message: &str) -> Self {
        Self::new(403, "Forbidden", format!("forbidden: {message}"))
    }

    pub(crate) fn not_found(about: &About<'_>) -> Self {
        Self::new(404, "NotFound", format!("{} {:?} not found", about.qualified(), about.name))
            .with_details(about.details())
    }

    /// The namespace of a new object does not exist.
    pub(crate) fn no_namespace(namespace: &str) -> Self {
        Self::not_found(&About { plural: "namespaces", name: namespace, group: "" })
    }

    /// The namespace of a new object is being deleted.
    pub(crate) fn namespace_terminating(about: &About<'_>, namespace: &str) -> Self {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = Self::forbidden(about, &why);
        error.details.causes.push(Cause {
            reason: "NamespaceTerminating",
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
        error
    }

    /// The path has the form of a resource, but this server has no such resource.
    pub(crate) fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// A custom kind or its subresource does not support the verb.
    pub(crate) fn not_supported(about: &About<'_>, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", about.qualified());
        Self::new(405, "MethodNotAllowed", message).with_details(about.details())
    }

    pub(crate) fn not_acceptable(accepted: &str) -> Self {
        let message = format!("only the following media types are accepted: {accepted}");
        Self::new(406, "NotAcceptable", message)
    }

    pub(crate) fn already_exists(about: &About<'_>) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {:?} already exists", about.qualified(), about.name))
            .with_details(about.details())
    }

    pub(crate) fn conflict(about: &About<'_>, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {:?}: {why}", about.qualified(), about.name);
        Self::new(409, "Conflict", message).with_details(about.details())
    }

    /// Server-side apply would take fields from other managers. The causes of one manager come one after another.
    pub(crate) fn apply_conflict(causes: Vec<Cause>) -> Self {
        let conflicts = match &causes[..] {
            [only] => format!("1 conflict: {}: {}", only.message, only.field),
            several => {
                let lines = several.chunk_by(|left, right| left.message == right.message).flat_map(|same| {
                    let with = same[0].message.replacen("conflict", "conflicts", 1);
                    [format!("{with}:")]
                        .into_iter()
                        .chain(same.iter().map(|cause| format!("- {}", cause.field)))
                });
                format!("{} conflicts: {}", several.len(), lines.collect::<Vec<_>>().join("\n"))
            }
        };
        Self::new(409, "Conflict", format!("Apply failed with {conflicts}"))
            .with_details(Details { causes, ..Details::default() })
    }

    /// The error of a fault, with the reason and the text that belong to the status.
    pub(crate) fn of_code(code: u16, retry_after_seconds: Option<u32>) -> Self {
        let (reason, message) = match code {
            400 => ("BadRequest", "bad request"),
            401 => ("Unauthorized", "Unauthorized"),
            403 => ("Forbidden", "forbidden"),
            404 => ("NotFound", "the server could not find the requested resource"),
            409 => ("Conflict", "the server reported a conflict"),
            410 => ("Expired", "too old resource version"),
            429 => ("TooManyRequests", "too many requests, please try again later"),
            500 => ("InternalError", "Internal error occurred: as it was told to"),
            503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
            504 => ("Timeout", "the server did not answer in time"),
            _ => ("Unknown", "unknown"),
        };
        let details = Details { retry_after_seconds, ..Details::default() };
        Self::new(code, reason, message).with_details(details)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn request_too_large(limit: usize) -> Self {
        Self::too_large(&format!("limit is {limit}"))
    }

    /// An object that etcd does not store because of its size.
    pub(crate) fn object_too_large() -> Self {
        Self::unexpected("etcdserver: request is too large")
    }

    /// A request exceeds a limit.
    pub(crate) fn too_large(why: &str) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
    }

    pub(crate) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// An object breaks rules. `kind` is qualified by its group, if it has one.
    pub(crate) fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let text = match &texts[..] {
            [] => String::new(),
            [only] => format!(": {only}"),
            several => format!(": [{}]", several.join(", ")),
        };
        let details = Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes: errors.iter().map(FieldError::cause).collect(),
            ..Details::default()
        };
        Self::new(422, "Invalid", format!("{qualified} {name:?} is invalid{text}")).with_details(details)
    }

    /// A failure for which kube-apiserver has a text, but no reason.
    pub(crate) fn unexpected(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// A patch does not fit the object.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// The server has not reached the version yet.
    pub(crate) fn version_too_large(asked: u64, current: u64) -> Self {
        let cause = Cause {
            reason: "ResourceVersionTooLarge",
            message: "Too large resource version".to_owned(),
            field: String::new(),
        };
        let details = Details { causes: vec![cause], retry_after_seconds: Some(1), ..Details::default() };
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Self::new(504, "Timeout", message).with_details(details)
    }

    /// The `Status` object.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        let details = self.details.json();
        if details.as_object().is_some_and(|details| !details.is_empty()) {
            status["details"] = details;
        }
        if let Some(token) = &self.details.continue_token {
            status["metadata"]["continue"] = json!(token);
        }
        status
    }
}

impl Details {
    pub(crate) fn json(&self) -> Value {
        let mut json = json!({});
        let texts = [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)];
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            json[field] = json!(text);
        }
        if !self.causes.is_empty() {
            json["causes"] = self.causes.iter().map(Cause::json).collect();
        }
        if let Some(seconds) = self.retry_after_seconds {
            json["retryAfterSeconds"] = json!(seconds);
        }
        json
    }
}

impl Cause {
    fn json(&self) -> Value {
        let mut json = json!({"reason": self.reason, "message": self.message});
        if !self.field.is_empty() {
            json["field"] = json!(self.field);
        }
        json
    }
}

/// The object or the kind that an error is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About<'a> {
    pub(crate) group: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) name: &'a str,
}

impl About<'_> {
    /// `plural`, or `plural.group`.
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    fn details(&self) -> Details {
        Details {
            name: self.name.to_owned(),
            group: self.group.to_owned(),
            kind: self.plural.to_owned(),
            ..Details::default()
        }
    }
}

/// A problem with one field of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldError {
    /// As in `spec.runtimes[0].name`.
    pub(crate) field: String,
    pub(crate) problem: Problem,
}

/// The kinds of problems that Kubernetes distinguishes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Problem {
    Required(Cow<'static, str>),
    /// The value has the right type, but is not allowed here.
    Invalid(Value, String),
    /// The value has the wrong type.
    WrongType(Value, String),
    /// The value is none of the supported values.
    NotSupported(Value, Vec<String>),
    Duplicate(Value),
    /// The value is longer than this many bytes.
    TooLong(u64),
    /// The list has too many items: the number of items, and the number that is allowed.
    TooMany(u64, u64),
    Forbidden(Cow<'static, str>),
    NotFound(Value),
    /// What no other variant says: the reason, and the whole text.
    #[cfg_attr(not(feature = "cel"), expect(dead_code, reason = "only rules in CEL need it"))]
    Other(&'static str, String),
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self { field: field.into(), problem }
    }

    pub(crate) fn required(field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(field, Problem::Required(detail.into()))
    }

    pub(crate) fn invalid(field: impl Into<String>, value: Value, detail: impl Into<String>) -> Self {
        Self::new(field, Problem::Invalid(value, detail.into()))
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(field, Problem::Forbidden(detail.into()))
    }

    fn cause(&self) -> Cause {
        Cause { reason: self.problem.reason(), message: self.problem.to_string(), field: self.field.clone() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl Problem {
    fn reason(&self) -> &'static str {
        match self {
            Self::Required(_) => "FieldValueRequired",
            Self::Invalid(..) => "FieldValueInvalid",
            Self::WrongType(..) => "FieldValueTypeInvalid",
            Self::NotSupported(..) => "FieldValueNotSupported",
            Self::Duplicate(_) => "FieldValueDuplicate",
            Self::TooLong(_) => "FieldValueTooLong",
            Self::TooMany(..) => "FieldValueTooMany",
            Self::Forbidden(_) => "FieldValueForbidden",
            Self::NotFound(_) => "FieldValueNotFound",
            Self::Other(reason, _) => reason,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = |detail: &str| if detail.is_empty() { String::new() } else { format!(": {detail}") };
        match self {
            Self::Required(why) => write!(f, "Required value{}", detail(why)),
            Self::Invalid(value, why) | Self::WrongType(value, why) => {
                write!(f, "Invalid value: {}{}", go_format::value(value), detail(why))
            }
            Self::NotSupported(value, supported) => {
                let supported: Vec<_> = supported.iter().map(|value| go_format::quoted(value)).collect();
                let value = go_format::value(value);
                write!(f, "Unsupported value: {value}: supported values: {}", supported.join(", "))
            }
            Self::Duplicate(value) => write!(f, "Duplicate value: {}", go_format::value(value)),
            Self::TooLong(limit) => {
                let bytes = if *limit == 1 { "byte" } else { "bytes" };
                write!(f, "Too long: may not be more than {limit} {bytes}")
            }
            Self::TooMany(is, limit) => {
                let items = if *limit == 1 { "item" } else { "items" };
                write!(f, "Too many: {is}: must have at most {limit} {items}")
            }
            Self::Forbidden(why) => write!(f, "Forbidden{}", detail(why)),
            Self::NotFound(value) => write!(f, "Not found: {}", go_format::value(value)),
            Self::Other(_, text) => f.write_str(text),
        }
    }
}
