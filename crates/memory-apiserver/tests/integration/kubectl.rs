//! The installed kubectl, against either API server. Each command of a session must print the same.
//!
//! Two files hold the commands and, below each, the output of kubectl on a real API server:
//! `tests/data/kubectl-session.txt` works with objects of custom kinds, and `tests/data/kubectl-create-session.txt` has
//! the commands that send protobuf, or ask for kinds that are not served.
//! `UPDATE_KUBECTL_SESSION=1 tests/e2e.sh kubectl::` records both again. Names, versions and times, which differ from
//! run to run, are replaced.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use regex::Regex;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::kinds::{Machine, MachineSpec, definitions};
use crate::support::{Cluster, Kubectl, SOON};

fn session_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The commands of a session, each with the lines of its input, and its expected output.
fn commands(session: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    let mut until = None;
    for line in session.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            until = command.split_once("<<'").and_then(|(_, end)| Some(end.split_once('\'')?.0.to_owned()));
            commands.push((command.to_owned(), String::new()));
            continue;
        }
        let Some((command, expected)) = commands.last_mut() else { continue };
        match &until {
            Some(end) => {
                let _ = write!(command, "\n{line}");
                if line == end {
                    until = None;
                }
            }
            None => {
                let _ = writeln!(expected, "{line}");
            }
        }
    }
    commands
}

/// The output without the texts that differ from run to run.
fn normalized(printed: &str, namespace: &str) -> String {
    let uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    let mut text = printed.replace(namespace, "NAMESPACE");
    for (pattern, replacement) in [
        (uuid, "UID"),
        (r"20(2[6-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r#"(resourceVersion"?: ?)"\d+""#, "${1}\"VERSION\""),
        (r"(Resource Version: +)\d+", "${1}VERSION"),
        // Ages stand at the end of a line, or before a column.
        (r"(?m)(\s)(\d+[smhd]){1,2}(\s|$)", "${1}AGE${3}"),
        (r"(?m)<unknown>", "AGE"),
        // The width of a column depends on its cells.
        (r" {3,}", "  "),
        (r"/tmp/[\w.-]+", "FILE"),
        (r"(?m)[ \t]+$", ""),
    ] {
        text = Regex::new(pattern).expect("a pattern").replace_all(&text, replacement).into_owned();
    }
    text.trim_end().to_owned()
}

#[tokio::test]
async fn a_session_prints_the_same_on_every_api_server() {
    replay("kubectl-session.txt").await;
}

#[tokio::test]
async fn a_session_in_protobuf_prints_the_same_on_every_api_server() {
    replay("kubectl-create-session.txt").await;
}

/// Runs the commands of a file and compares their output, or records it.
async fn replay(file: &str) {
    let file = session_file(file);
    let cluster = Cluster::shared().await;
    cluster.install_crds(definitions()).await;
    let namespace = cluster.namespace("kubectl").await;
    let Some(kubectl) = Kubectl::find_in(&cluster, &namespace).await else { return };
    let session = std::fs::read_to_string(&file).unwrap();

    let mut printed = String::new();
    let mut differences = String::new();
    for (command, expected) in commands(&session) {
        let output = kubectl.shell(&command.replace("NAMESPACE", &namespace)).await;
        let output = normalized(&output, &namespace);
        let _ = writeln!(printed, "$ {command}\n{output}\n");
        let expected = expected.trim_end();
        if output != expected {
            let _ = writeln!(differences, "$ {command}\n--- expected\n{expected}\n--- printed\n{output}\n");
        }
    }
    if std::env::var_os("UPDATE_KUBECTL_SESSION").is_some() {
        assert!(crate::support::is_real(), "only what a real API server has kubectl print is to be expected");
        std::fs::write(file, format!("{}\n", printed.trim_end())).unwrap();
        return;
    }
    assert!(differences.is_empty(), "{differences}");
}

#[tokio::test]
async fn a_watch_shows_what_changes() {
    let cluster = Cluster::shared().await;
    cluster.install_crds(definitions()).await;
    let (client, namespace) = (cluster.client().await, cluster.namespace("kubectl-watch").await);
    let Some(kubectl) = Kubectl::find_in(&cluster, &namespace).await else { return };
    let api: Api<Machine> = Api::namespaced(client, &namespace);
    let create = async |name: &str| {
        let machine = Machine::new(name, MachineSpec::default());
        api.create(&PostParams::default(), &machine).await.unwrap()
    };
    let set_phase = async |phase: &str| {
        let patch = Patch::Merge(json!({ "status": { "phase": phase } }));
        api.patch_status("a", &PatchParams::default(), &patch).await.unwrap()
    };
    create("a").await;
    set_phase("Running").await;
    let arguments = ["get", "machines", "-w", "--no-headers", "--output-watch-events"];
    let mut child = kubectl.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("a line").unwrap().unwrap();
        line.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(next().await, ["ADDED", "a", "Running"]);
    set_phase("Paused").await;
    assert_eq!(next().await, ["MODIFIED", "a", "Paused"]);
    create("b").await;
    assert_eq!(next().await[..2], ["ADDED", "b"]);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(next().await, ["DELETED", "a", "Paused"]);
    child.kill().await.unwrap();
}
