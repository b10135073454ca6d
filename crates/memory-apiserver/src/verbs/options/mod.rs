//! The options of a request, in its query or in the body of a deletion. They are checked before anything is done, and
//! the error has a cause for each invalid option.

mod delete;
mod list;
mod write;

pub(super) use delete::{DeleteOptions, Propagation};
pub(super) use list::{At, Continue, ListOptions, WatchOptions, version};
pub(super) use write::{FieldValidation, WriteOptions};

use serde_json::json;

use crate::error::{ApiError, FieldError, Problem};

/// Refuses options of a kind such as `ListOptions` if there are errors.
fn judge(kind: &str, errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("meta.k8s.io", kind, "", errors)) }
}

fn not_supported(field: &str, value: &str, supported: &[&str]) -> FieldError {
    let supported = supported.iter().map(|&value| value.to_owned()).collect();
    FieldError::new(field, Problem::NotSupported(json!(value), supported))
}

/// Whether nothing is stored. The only valid value is `All`.
fn dry_run<'a>(values: impl IntoIterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let values: Vec<_> = values.into_iter().collect();
    if values.iter().any(|value| *value != "All") {
        let problem = Problem::NotSupported(json!(values), vec!["All".to_owned()]);
        errors.push(FieldError::new("dryRun", problem));
    }
    !values.is_empty()
}
