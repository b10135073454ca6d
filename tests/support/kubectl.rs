//! [`Kubectl`]: the real `kubectl`, where there is one.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use kube::config::Kubeconfig;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{ADMIN, Cluster};

/// Allows tests to leave out what needs a program that is not installed.
const WITHOUT: &str = "TEST_WITHOUT_PROGRAMS";

/// Whether a program that a test needs is on the PATH. If it is not, the test fails, unless the environment variable
/// `TEST_WITHOUT_PROGRAMS` is set: then it prints what is left out and goes on without it.
///
/// # Panics
///
/// When the program is not there and may not be left out.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return true;
    }
    assert!(
        std::env::var_os(WITHOUT).is_some(),
        "{program} is not on the PATH: install it, or set {WITHOUT}=1 to leave out what needs it"
    );
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not by a macro, whose output the test harness would hide.
    let told = writeln!(std::io::stderr(), "NOT TESTED without {program}: a part of {test}");
    told.expect("standard error is open");
    false
}

/// `kubectl` with an administrator's kubeconfig and nothing of the user's own.
pub(crate) struct Kubectl {
    kubeconfig: PathBuf,
    home: tempfile::TempDir,
}

impl Kubectl {
    /// `None` only where tests may do without it; see [`is_installed`].
    ///
    /// # Panics
    ///
    /// When `kubectl` is not installed, and tests may not do without it.
    pub(crate) async fn find(cluster: &Cluster) -> Option<Self> {
        Self::find_in(cluster, "default").await
    }

    /// As [`Self::find`], for one that takes this namespace where none is named.
    pub(crate) async fn find_in(cluster: &Cluster, namespace: &str) -> Option<Self> {
        Self::configured(cluster.kubeconfig(ADMIN).await, namespace)
    }

    /// As [`Self::find_in`], with a kubeconfig of one's own.
    pub(crate) fn configured(mut config: Kubeconfig, namespace: &str) -> Option<Self> {
        let home = tempfile::tempdir().expect("a temporary folder");
        // A file of its own: tests that share a control plane write and read at once.
        let kubeconfig = home.path().join("kubeconfig");
        for context in config.contexts.iter_mut().filter_map(|named| named.context.as_mut()) {
            context.namespace = Some(namespace.to_owned());
        }
        let yaml = serde_yaml::to_string(&config).expect("a kubeconfig as YAML");
        std::fs::write(&kubeconfig, yaml).expect("a file in it");
        is_installed("kubectl").then_some(Self { kubeconfig, home })
    }

    /// A command to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.alone("kubectl");
        command.args(arguments);
        command
    }

    /// A program that uses this kubeconfig and this home.
    fn alone(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.home.path())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .kill_on_drop(true);
        command
    }

    /// Runs a command line of a shell and returns all that it printed, on both outputs, whether it failed or not.
    pub(crate) async fn shell(&self, line: &str) -> String {
        let mut command = self.alone("sh");
        command.arg("-c").arg(format!("exec 2>&1\n{line}")).stdin(Stdio::null());
        let output = command.output().await.expect("a shell");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs it with `input` on standard input.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("piped");
        let feed = async move { stdin.write_all(input.as_bytes()).await };
        let (_, output) = tokio::join!(feed, child.wait_with_output());
        output.expect("the output of kubectl")
    }

    /// Runs it and returns what it printed.
    ///
    /// # Panics
    ///
    /// When it fails, with what it said.
    pub(crate) async fn succeed(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        let (said, printed) =
            (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "kubectl {arguments:?}: {}\n{said}{printed}", output.status);
        printed.into_owned()
    }
}
