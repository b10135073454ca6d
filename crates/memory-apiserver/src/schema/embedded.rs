//! Resources inside of a resource: that they say what they are.

use serde_json::{Map, Value};

use super::super::error::FieldError;
use super::path::Path;
use super::{Schema, walk};

/// Adds an error for each resource inside that has no version or kind that could be one. The object itself is not
/// looked at: without both it would not have come here.
pub(super) fn check(value: &Value, schema: &Schema, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    walk::objects(value, schema, path, &mut |fields, schema, path| {
        let is_root = matches!(path, Path::Root(_));
        if schema.embedded_resource && !is_root {
            check_resource(fields, path, errors);
        }
    });
}

fn check_resource(fields: &Map<String, Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        let at = path.field(name);
        match fields.get(name) {
            None => errors.push(FieldError::required(at.to_string(), "")),
            Some(value) => {
                let why = match value.as_str() {
                    None => Some("must be a string".to_owned()),
                    Some("") => Some("must not be empty".to_owned()),
                    Some(version) if name == "apiVersion" => bad_version(version),
                    Some(kind) => bad_kind(kind),
                };
                errors.extend(why.map(|why| FieldError::invalid(at.to_string(), value.clone(), why)));
            }
        }
    }
}

fn bad_version(version: &str) -> Option<String> {
    (version.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {version}"))
}

fn bad_kind(kind: &str) -> Option<String> {
    let kind = kind.as_bytes();
    let is_name = kind.len() <= 63
        && kind.first().is_some_and(u8::is_ascii_alphabetic)
        && kind.last().is_some_and(u8::is_ascii_alphanumeric)
        && kind.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let why = "may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case \
               alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric \
               character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
               '[a-z]([-a-z0-9]*[a-z0-9])?')";
    (!is_name).then(|| why.to_owned())
}
