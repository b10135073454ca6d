//! Formats an error for people: with its causes, on one line, and without secrets.

use std::error::Error;

use kube::client::AuthError;

/// Returns an error with all its causes on one line. A cause that a message already quotes is not repeated.
///
/// The output of a credential helper is omitted, because it may be the credential.
pub fn error_text(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(helper) = cause.downcast_ref::<AuthError>().and_then(credential_helper) {
            return helper;
        }
        let cause_text = one_line(&cause.to_string());
        if text.is_empty() {
            text = cause_text;
        } else if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

fn credential_helper(error: &AuthError) -> Option<String> {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            Some(format!("the credential helper failed with {}", out.status))
        }
        AuthError::AuthExecParse(_) => {
            Some("the credential helper's answer is not an ExecCredential".to_owned())
        }
        _ => None,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::{ExitStatus, Output};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner\n  on two lines")]
    struct Inner;

    #[test]
    fn causes_follow_on_one_line() {
        assert_eq!(error_text(&Outer(Inner)), "outer: inner on two lines");
    }

    #[test]
    fn what_a_credential_helper_wrote_is_not_shown() {
        let out =
            Output { status: ExitStatus::default(), stdout: b"hunter2".into(), stderr: b"hunter2".into() };
        let auth = AuthError::AuthExecRun { cmd: "helper --token hunter2".into(), out: Box::new(out) };
        let error = kube::Error::Service(Box::new(kube::Error::Auth(auth)));
        assert_eq!(error_text(&error), "the credential helper failed with exit status: 0");
    }
}
