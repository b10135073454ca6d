//! Credential helpers: the program that a kubeconfig names under `exec`.
//!
//! The program is run here and not by kube. kube runs it three times for one client, renews only tokens that have an
//! expiry, and never renews certificates.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::process::{Command, ExitStatus, Stdio};

use k8s_openapi::jiff::Timestamp;
use kube::config::{ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use serde::{Deserialize, Serialize};

/// The credentials that a helper returned.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) token: Option<String>,
    /// Certificate and key in PEM.
    pub(super) identity: Option<(String, String)>,
}

/// Why a helper returned no credentials. The texts quote nothing that the helper wrote, since that contains tokens.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperError {
    #[error("the kubeconfig names no command of the credential helper")]
    NoCommand,
    #[error("the credential helper asks for a terminal (interactiveMode: Always), and there is none")]
    NoTerminal,
    #[error("the credential helper {command:?} cannot be started: {error}{hint}")]
    Start { command: String, error: io::Error, hint: String },
    #[error("the credential helper failed with {0}")]
    Failed(ExitStatus),
    #[error("the credential helper's answer is no ExecCredential")]
    Answer,
    #[error("the credential helper's answer has neither a token nor a certificate with its key")]
    Empty,
    #[error("the credential helper's answer has an expirationTimestamp that is no time")]
    Expiry,
}

/// What the helper is told in the variable `KUBERNETES_EXEC_INFO`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'a str>,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    interactive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a ExecAuthCluster>,
}

#[derive(Deserialize)]
struct Answer {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Runs the helper and waits for it. Blocks. Returns the credentials and when they expire.
pub(super) fn run(exec: &ExecConfig) -> Result<(Credential, Option<Timestamp>), HelperError> {
    let name = exec.command.as_deref().ok_or(HelperError::NoCommand)?;
    let mode = exec.interactive_mode.as_ref().unwrap_or(&ExecInteractiveMode::IfAvailable);
    let interactive = *mode != ExecInteractiveMode::Never && io::stdin().is_terminal();
    if *mode == ExecInteractiveMode::Always && !interactive {
        return Err(HelperError::NoTerminal);
    }
    let mut command = command(name, exec, interactive)?;
    let output = command.output().map_err(|error| {
        let hint = exec.install_hint.as_ref().map_or_else(String::new, |hint| format!(": {}", hint.trim()));
        HelperError::Start { command: name.to_owned(), error, hint }
    })?;
    if !output.status.success() {
        return Err(HelperError::Failed(output.status));
    }
    parse(&output.stdout)
}

fn command(name: &str, exec: &ExecConfig, interactive: bool) -> Result<Command, HelperError> {
    let request = Request {
        kind: "ExecCredential",
        api_version: exec.api_version.as_deref(),
        spec: Spec { interactive, cluster: exec.cluster.as_ref().filter(|_| exec.provide_cluster_info) },
    };
    let request = serde_json::to_string(&request).map_err(|_| HelperError::Answer)?;
    let mut command = Command::new(name);
    command.args(exec.args.iter().flatten());
    command.envs(exec.env.iter().flatten().filter_map(variable));
    command.env("KUBERNETES_EXEC_INFO", request);
    command.stdin(if interactive { Stdio::inherit() } else { Stdio::null() });
    command.stderr(Stdio::inherit());
    Ok(command)
}

fn variable(entry: &HashMap<String, String>) -> Option<(&String, &String)> {
    entry.get("name").zip(entry.get("value"))
}

fn parse(answer: &[u8]) -> Result<(Credential, Option<Timestamp>), HelperError> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| HelperError::Answer)?;
    let status = answer.status.ok_or(HelperError::Answer)?;
    let expires = status.expiration_timestamp.filter(|time| !time.is_empty());
    let expires = expires.map(|time| time.parse()).transpose().map_err(|_| HelperError::Expiry)?;
    let credential = Credential {
        token: status.token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
        identity: status.client_certificate_data.zip(status.client_key_data),
    };
    if credential.token.is_none() && credential.identity.is_none() {
        return Err(HelperError::Empty);
    }
    Ok((credential, expires))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ExecConfig {
        ExecConfig {
            api_version: Some("client.authentication.k8s.io/v1".to_owned()),
            command: Some("sh".to_owned()),
            args: Some(vec!["-c".to_owned(), script.to_owned()]),
            env: Some(vec![HashMap::from([
                ("name".to_owned(), "TOKEN".to_owned()),
                ("value".to_owned(), "t-1".to_owned()),
            ])]),
            interactive_mode: Some(ExecInteractiveMode::Never),
            ..ExecConfig::default()
        }
    }

    #[test]
    fn y2_a_helper_gets_its_variables_and_the_request() {
        let script = r#"case "$KUBERNETES_EXEC_INFO" in
            *'"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}'*)
                echo "{\"status\": {\"token\": \"$TOKEN\", \"expirationTimestamp\": \"2030-01-01T00:00:00Z\"}}";;
            *) exit 9;;
        esac"#;
        let (credential, expires) = run(&shell(script)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(credential.token.as_deref(), Some("t-1"));
        assert_eq!(expires, Some("2030-01-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn a_helper_that_returns_nothing_usable_is_named() {
        for (script, text) in [
            ("echo '{}'", "is no ExecCredential"),
            (r#"echo '{"status": {"clientKeyData": "k"}}'"#, "neither a token nor a certificate"),
            (r#"echo '{"status": {"token": "t", "expirationTimestamp": "soon"}}'"#, "that is no time"),
            ("exit 4", "failed with exit status: 4"),
        ] {
            let Err(error) = run(&shell(script)) else { panic!("accepted {script}") };
            assert!(error.to_string().contains(text), "{error}");
        }
        let missing = ExecConfig {
            command: Some("/none/helper".to_owned()),
            install_hint: Some("install it".to_owned()),
            ..shell("")
        };
        let Err(error) = run(&missing) else { panic!("ran a missing helper") };
        let text = error.to_string();
        assert!(text.starts_with("the credential helper \"/none/helper\" cannot be started: "), "{text}");
        assert!(text.ends_with(": install it"), "{text}");
    }
}
