//! Credential helpers: the program that a kubeconfig names under `exec`.
//!
//! The program is run here and not by kube. kube runs it three times for one client, renews only tokens that have an
//! expiry, and never renews certificates.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::config::{ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

/// A helper that takes longer is killed.
const LIMIT: Duration = Duration::from_mins(1);

/// Interval between two looks whether a helper that has closed its output has exited.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

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
    #[error("the credential helper did not exit within {} s and was killed", .0.as_secs())]
    TooSlow(Duration),
    #[error("the output of the credential helper cannot be read: {0}")]
    Output(io::Error),
    #[error("the credential helper failed with {0}")]
    Failed(ExitStatus),
    #[error("the credential helper's answer is not an ExecCredential")]
    Answer,
    #[error("the credential helper's answer has neither a token nor a certificate with its key")]
    Empty,
    #[error("the credential helper's answer has an expirationTimestamp that is not a valid time")]
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

/// Runs the helper and waits for it, at most a minute. Blocks. Returns the credentials and when they expire.
pub(super) fn run(exec: &ExecConfig) -> Result<(Credential, Option<Timestamp>), HelperError> {
    let name = exec.command.as_deref().ok_or(HelperError::NoCommand)?;
    let mode = exec.interactive_mode.as_ref().unwrap_or(&ExecInteractiveMode::IfAvailable);
    let interactive = *mode != ExecInteractiveMode::Never && io::stdin().is_terminal();
    if *mode == ExecInteractiveMode::Always && !interactive {
        return Err(HelperError::NoTerminal);
    }
    let mut command = command(name, exec, interactive)?;
    let child = command.spawn().map_err(|error| {
        let hint = exec.install_hint.as_ref().map_or_else(String::new, |hint| format!(": {}", hint.trim()));
        HelperError::Start { command: name.to_owned(), error, hint }
    })?;
    let (status, answer) = wait(child, interactive, LIMIT)?;
    if !status.success() {
        return Err(HelperError::Failed(status));
    }
    parse(&answer)
}

/// Returns the exit status and the output of a helper. If it fails or is too slow, the helper is killed and reaped.
fn wait(mut child: Child, interactive: bool, limit: Duration) -> Result<(ExitStatus, Vec<u8>), HelperError> {
    let result = output(&mut child, limit);
    if result.is_err() {
        kill(&mut child, interactive).map_err(HelperError::Output)?;
        child.wait().map_err(HelperError::Output)?;
    }
    result
}

/// A helper with a process group of its own is killed with the programs that it started: these may be what hangs.
fn kill(child: &mut Child, interactive: bool) -> io::Result<()> {
    if interactive {
        return child.kill();
    }
    Ok(kill_process_group(Pid::from_child(child), Signal::KILL)?)
}

fn output(child: &mut Child, limit: Duration) -> Result<(ExitStatus, Vec<u8>), HelperError> {
    let started = Instant::now();
    let (sender, answer) = mpsc::channel();
    if let Some(mut stdout) = child.stdout.take() {
        let read = move || {
            let mut answer = Vec::new();
            // Nobody receives the answer of a helper that was too slow.
            let _ = sender.send(stdout.read_to_end(&mut answer).map(|_| answer));
        };
        // A thread, since a process that outlives the helper may keep the output open.
        thread::Builder::new()
            .name("credential-helper".to_owned())
            .spawn(read)
            .map_err(HelperError::Output)?;
    }
    let answer = answer.recv_timeout(limit).map_err(|_| HelperError::TooSlow(limit))?;
    let answer = answer.map_err(HelperError::Output)?;
    loop {
        if let Some(status) = child.try_wait().map_err(HelperError::Output)? {
            return Ok((status, answer));
        }
        if started.elapsed() >= limit {
            return Err(HelperError::TooSlow(limit));
        }
        thread::sleep(POLL_INTERVAL);
    }
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
    command.stdout(Stdio::piped());
    command.stderr(Stdio::inherit());
    if !interactive {
        // Only the process group of the terminal may read from it.
        command.process_group(0);
    }
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
    use rustix::io::Errno;
    use rustix::process::test_kill_process;

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
    fn a_helper_that_hangs_is_killed_and_reaped() {
        for script in ["sleep 1000; exit 1", "exec >&-; sleep 1000; exit 1"] {
            let child = command("sh", &shell(script), false).unwrap().spawn().unwrap();
            let process = Pid::from_child(&child);
            let Err(error) = wait(child, false, Duration::ZERO) else { panic!("waited for {script}") };
            assert!(matches!(error, HelperError::TooSlow(_)), "{error}");
            assert_eq!(test_kill_process(process), Err(Errno::SRCH));
        }
    }

    #[test]
    fn a_helper_that_returns_nothing_usable_is_named() {
        for (script, text) in [
            ("echo '{}'", "is not an ExecCredential"),
            (r#"echo '{"status": {"clientKeyData": "k"}}'"#, "neither a token nor a certificate"),
            (
                r#"echo '{"status": {"token": "t", "expirationTimestamp": "soon"}}'"#,
                "that is not a valid time",
            ),
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
