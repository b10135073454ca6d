//! [`Helm`]: the real `helm`, on the chart of this repository and with nothing of the user's own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kube::config::Kubeconfig;
use serde_json::{Value, json};

use super::rendered::merge;
use super::{documents, repository};

/// A program that `tests/chart/build.sh` builds.
pub(super) fn program(name: &str) -> PathBuf {
    let path = repository("target/chart/bin").join(name);
    assert!(path.exists(), "{} is not there, tests/chart/build.sh builds it", path.display());
    path
}

/// Runs a program with `input` on its standard input.
pub(super) fn run(command: &mut Command, input: &str) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // On a thread of its own: the program may fill its output before it has read all of its input. It need not
    // read any.
    let feed = std::thread::spawn(move || stdin.write_all(input.as_bytes()).is_ok());
    let output = child.wait_with_output().expect("its output");
    let _ = feed.join();
    output
}

/// What a program printed, or what it said when it failed.
pub(super) fn printed(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// `helm` with a home of its own.
pub(super) struct Helm {
    home: tempfile::TempDir,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Helm {
    /// For what needs no cluster; what is rendered goes into this namespace.
    pub(super) fn offline(namespace: &str) -> Self {
        Self::new(namespace, &Kubeconfig::default())
    }

    /// On a cluster.
    pub(super) fn new(namespace: &str, kubeconfig: &Kubeconfig) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let path = home.path().join("kubeconfig");
        let yaml = serde_yaml::to_string(kubeconfig).expect("a kubeconfig as YAML");
        std::fs::write(&path, yaml).expect("a file in it");
        Self { home, kubeconfig: path, namespace: namespace.to_owned() }
    }

    /// Runs a command with `values` on its standard input, where `--values -` finds them.
    pub(super) fn run(&self, arguments: &[&str], values: &Value) -> Result<String, String> {
        let mut command = Command::new(program("helm"));
        command
            .args(arguments)
            .args(["--namespace", &self.namespace])
            .arg("--kubeconfig")
            .arg(&self.kubeconfig);
        command.env_clear().env("HOME", self.home.path()).env("HELM_NAMESPACE", &self.namespace);
        printed(&run(&mut command, &values.to_string()))
    }

    /// The objects that a release of this name would consist of, or why the values are refused.
    pub(super) fn template(&self, release: &str, values: &Value) -> Result<Vec<Value>, String> {
        Ok(documents(&self.template_text(release, values)?))
    }

    /// The same as the text that helm prints.
    pub(super) fn template_text(&self, release: &str, values: &Value) -> Result<String, String> {
        self.run(&["template", release, &Self::chart(), "--values", "-"], &with_registry(values))
    }

    /// The chart of this repository.
    pub(super) fn chart() -> String {
        let path: &Path = &repository("charts/sandbox-manager");
        path.to_str().expect("a path that is text").to_owned()
    }
}

/// The registry of releases that name none.
pub(super) const REGISTRY: &str = "registry.example.com";

/// Values with a registry, which the chart insists on.
pub(super) fn with_registry(values: &Value) -> Value {
    let mut all = json!({ "image": { "registry": REGISTRY } });
    merge(&mut all, values);
    all
}
