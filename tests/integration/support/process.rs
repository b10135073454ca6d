//! [`Process`]: the `sandbox-manager` binary as a user runs it, with a configuration file and a kubeconfig.
//!
//! Ports are free ones that the process chooses and tells in its log. Dropping it kills it.

use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use kube::config::Kubeconfig;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::samples::Samples;
use super::{SOON, eventually};

/// What every configuration begins with.
const HEAD: &str = "\
apiVersion: config.agents.kruise.io/v1alpha1
kind: SandboxManagerOptions
";

/// Free ports on loopback, and everything that can be asked.
const LISTENERS: &str = "\
metrics: { bindAddress: \"127.0.0.1:0\" }
health: { bindAddress: \"127.0.0.1:0\" }
debug: { enabled: true }
";

/// Variables that name the files of [`Process::start_test`].
pub(crate) const CONFIG: &str = "TEST_CONFIG";
pub(crate) const KUBECONFIG: &str = "TEST_KUBECONFIG";

/// The running binary.
pub(crate) struct Process {
    child: Child,
    /// The lines of its standard error so far.
    log: Arc<Mutex<Vec<String>>>,
    health: String,
    metrics: String,
    /// Holds its files.
    _folder: tempfile::TempDir,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Process {
    /// Starts it and waits until it listens. `config` is YAML, added to the sections that every test needs. A section
    /// of `config` replaces the section of that name.
    ///
    /// # Panics
    ///
    /// When it ends instead, with what it said.
    pub(crate) async fn start(kubeconfig: &Kubeconfig, config: &str) -> Self {
        let given = |line: &&str| config.lines().any(|own| own.split(':').next() == line.split(':').next());
        let sections: Vec<_> = LISTENERS.lines().filter(|line| !given(line)).chain([config]).collect();
        let (child, folder) = spawn(kubeconfig, &format!("{HEAD}{}", sections.join("\n")));
        Self::listening(child, folder).await
    }

    /// Starts it with these arguments and variables, and no others, and waits until it listens. `folder` holds
    /// what they refer to.
    ///
    /// # Panics
    ///
    /// When it ends instead, with what it said.
    pub(crate) async fn start_with(
        arguments: &[String],
        variables: &[(String, String)],
        folder: tempfile::TempDir,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-manager"));
        command.args(arguments).env_clear().envs(variables.iter().cloned());
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        Self::listening(child, folder).await
    }

    /// Starts a test of this binary that is a program: it calls `sandbox_manager::cli` with the files that the variables
    /// [`CONFIG`] and [`KUBECONFIG`] name. Waits until it listens.
    ///
    /// # Panics
    ///
    /// When it ends instead, with what it said.
    pub(crate) async fn start_test(test: &str, kubeconfig: &Kubeconfig, config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [config, kubeconfig] = write_files(&folder, kubeconfig, &format!("{HEAD}{LISTENERS}{config}"));
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        command.args(["--exact", test, "--nocapture"]).env_clear().env("HOME", folder.path());
        command.env(CONFIG, config).env(KUBECONFIG, kubeconfig).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::piped()).spawn().expect("this program runs");
        Self::listening(child, folder).await
    }

    async fn listening(mut child: Child, folder: tempfile::TempDir) -> Self {
        let log = collect(&mut child);
        let [metrics, health] = eventually("the process listens", SOON, async || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("it ended with {status}: {}", log.lock().join("\n"));
            }
            let address =
                |field| listening(&log.lock(), field).with_context(|| format!("no {field} in the log"));
            Ok([address("metrics")?, address("health")?])
        })
        .await;
        Self { child, log, health, metrics, _folder: folder }
    }

    /// Runs it to its end, with nothing added to `config` but its kind; for a start that is refused. Returns the
    /// status and the standard error.
    pub(crate) async fn refused(kubeconfig: &Kubeconfig, config: &str) -> (ExitStatus, String) {
        let (mut child, _folder) = spawn(kubeconfig, &format!("{HEAD}{config}"));
        let errors = child.stderr.take().expect("piped");
        // Joined: the process can have ended before the thread has read its last line.
        let text = thread::spawn(move || std::io::read_to_string(errors));
        let status = ended(&mut child).await;
        (status, text.join().expect("the thread reads").expect("text"))
    }

    /// Asks the health listener.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        get(&self.health, path).await
    }

    /// The address of the metrics listener.
    pub(crate) fn metrics_address(&self) -> &str {
        &self.metrics
    }

    /// The address of another listener, if it listens.
    pub(crate) fn listener(&self, name: &str) -> Option<String> {
        listening(&self.log.lock(), name)
    }

    /// What `/metrics` shows.
    pub(crate) async fn samples(&self) -> Result<Samples> {
        let answer = get(&self.metrics, "/metrics").await?;
        ensure!(answer.status == 200, "{answer:?}");
        Samples::parse(&answer.body)
    }

    /// The objects that `/debug/cache/{plural}` shows.
    pub(crate) async fn cached(&self, plural: &str) -> Result<Vec<Value>> {
        let answer = self.get(&format!("/debug/cache/{plural}")).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let dump: Value = serde_json::from_str(&answer.body)?;
        dump["items"].as_array().cloned().ok_or_else(|| anyhow!("no items: {dump}"))
    }

    /// Waits until `/readyz` says yes.
    pub(crate) async fn becomes_ready(&self) {
        eventually("the process is ready", 2 * SOON, async || {
            let answer = self.get("/readyz?verbose").await?;
            ensure!(answer.status == 200, "{}", answer.body);
            Ok(())
        })
        .await;
    }

    /// Waits until `/readyz?verbose` says no, with a line that contains all of `parts`, and returns it. All the
    /// while the process must say that it is alive.
    pub(crate) async fn becomes_unready(&self, parts: &[&str]) -> String {
        eventually(&format!("not ready, with {parts:?}"), 2 * SOON, async || {
            let alive = self.get("/livez").await.expect("it answers");
            assert_eq!((alive.status, alive.body.as_str()), (200, "ok"));
            let answer = self.get("/readyz?verbose").await?;
            let line = answer.body.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            ensure!(answer.status == 503, "{}", answer.body);
            Ok(line.with_context(|| answer.body.clone())?.to_owned())
        })
        .await
    }

    /// Asserts that it has not ended.
    pub(crate) fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("a child of ours");
        assert!(ended.is_none(), "it ended with {ended:?}: {}", self.log());
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let mut kill = tokio::process::Command::new("kill");
        let status = kill.args(["-s", name, &pid]).status().await;
        assert!(status.expect("kill runs").success(), "kill -s {name} {pid}");
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        ended(&mut self.child).await
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        self.log.lock().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            tell(&self.log.lock());
        }
    }
}

/// Writes the whole log of a process to a file, and its end to the output of the test that fails. A long one would hide
/// why the test fails.
fn tell(log: &[String]) {
    const LAST: usize = 8;
    let end = log[log.len().saturating_sub(LAST)..].join("\n");
    let file =
        tempfile::Builder::new().prefix("process-").suffix(".log").tempfile_in(env!("CARGO_TARGET_TMPDIR"));
    let kept = file.and_then(|mut file| {
        file.write_all(log.join("\n").as_bytes())?;
        Ok(file.keep()?.1)
    });
    let place = kept.map_or_else(|error| error.to_string(), |path| path.display().to_string());
    eprintln!("the process logged {} lines ({place}), at last:\n{end}", log.len());
}

/// Spawns the binary in an environment of its own.
fn spawn(kubeconfig: &Kubeconfig, config: &str) -> (Child, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [config, kubeconfig] = write_files(&folder, kubeconfig, config);
    let child = Command::new(env!("CARGO_BIN_EXE_sandbox-manager"))
        .arg("--config")
        .arg(config)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .env_clear()
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    (child, folder)
}

/// Writes the configuration and the kubeconfig. Returns their paths.
fn write_files(folder: &tempfile::TempDir, kubeconfig: &Kubeconfig, config: &str) -> [PathBuf; 2] {
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file in it");
        path
    };
    let kubeconfig = serde_yaml::to_string(kubeconfig).expect("a kubeconfig as YAML");
    [write("config.yaml", config), write("kubeconfig", &kubeconfig)]
}

/// Reads standard error to its end on a thread of its own, so that the process never waits for us.
fn collect(child: &mut Child) -> Arc<Mutex<Vec<String>>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (lines, collected) = (child.stderr.take().expect("piped"), Arc::clone(&log));
    thread::spawn(move || {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            collected.lock().push(line);
        }
    });
    log
}

/// The address that a listener has told in the log.
fn listening(log: &[String], field: &str) -> Option<String> {
    let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = lines.filter(|line| line["message"] == "listening" && line["listener"] == field);
    Some(ours.next()?["address"].as_str()?.to_owned())
}

async fn ended(child: &mut Child) -> ExitStatus {
    eventually("the process has ended", SOON, async || child.try_wait()?.context("it runs")).await
}

/// One request and the answer to it. HTTP/1.0, so that the answer ends where the connection does.
pub(crate) async fn get(address: &str, path: &str) -> Result<Answer> {
    let mut connection = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    connection.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer: {text:?}"))?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer { status, body: body.to_owned() })
}
