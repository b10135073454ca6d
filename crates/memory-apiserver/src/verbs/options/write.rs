//! [`WriteOptions`]: the query of a create, an update or a patch.

use http::header::USER_AGENT;

use super::{dry_run, judge, not_supported};
use crate::call::Call;
use crate::error::{ApiError, FieldError};
use crate::fields;
use crate::patch::PatchKind;
use crate::request::Verb;

/// The options of a write.
pub(crate) struct WriteOptions {
    pub(crate) validation: FieldValidation,
    /// Whether nothing is stored.
    pub(crate) dry_run: bool,
    /// Whether fields are taken from their owners.
    pub(crate) force: bool,
    /// The owner of the fields: the one that the request names, otherwise the program of the client.
    pub(crate) manager: String,
}

/// What happens to unknown fields, and to fields that are given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// They are removed.
    Ignore,
    /// They are removed, and the client gets a warning.
    Warn,
    /// The object is refused.
    Strict,
}

impl WriteOptions {
    /// # Errors
    ///
    /// If an option is invalid, alone or with a patch of this kind.
    pub(crate) fn of(call: &Call, patch: Option<PatchKind>) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let applies = patch == Some(PatchKind::Apply);
        let force = call.params.tristate("force");
        if patch.is_some() && !applies && force.is_some() {
            errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        let manager = call.params.get("fieldManager").unwrap_or_default();
        errors.extend(fields::check_field_manager(manager, applies));
        let dry_run = dry_run(call.params.all("dryRun"), &mut errors);
        let validation = FieldValidation::of(call, &mut errors);
        judge(kind_of(call.verb), &errors)?;
        let manager = if manager.is_empty() { client(call) } else { manager.to_owned() };
        Ok(Self { validation, dry_run, force: force.unwrap_or(false), manager })
    }
}

fn kind_of(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        _ => "PatchOptions",
    }
}

/// The name of the client's program, from its `User-Agent`.
fn client(call: &Call) -> String {
    let agent = call.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    fields::from_user_agent(agent.unwrap_or_default())
}

impl FieldValidation {
    fn of(call: &Call, errors: &mut Vec<FieldError>) -> Self {
        match call.params.get("fieldValidation") {
            None | Some("Warn") => Self::Warn,
            Some("Ignore") => Self::Ignore,
            Some("Strict") => Self::Strict,
            Some(other) => {
                errors.push(not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]));
                Self::Strict
            }
        }
    }
}
