//! The process that runs the control plane: `tests/controlplane/run.sh`, spoken to line by line.
//!
//! The script ends, and takes all programs and their data with it, when its standard input ends. This side of
//! that pipe lives in [`Supervisor`] and nowhere else, so dropping it or dying, however violently, is enough.
//! All calls block; nothing here belongs to a tokio runtime, so that tests with runtimes of their own can share it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::repository_file;

/// Longer than any deadline of the script itself, which answers every command.
const ANSWER: Duration = Duration::from_mins(4);

/// The running script.
pub(super) struct Supervisor {
    process: Child,
    /// Taken, and so closed, on drop.
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Supervisor {
    /// Starts a control plane whose data is in `data_dir` (new or empty; removed at the end). With `nodes` it also runs
    /// controllers, a scheduler and so many nodes. `flags` are for kube-apiserver.
    pub(super) fn spawn(
        data_dir: &Path,
        etcd_port: u16,
        apiserver_port: u16,
        nodes: u16,
        flags: &[String],
    ) -> Result<Self> {
        let script = repository_file("tests/controlplane/run.sh");
        let mut command = Command::new(&script);
        if nodes > 0 {
            command.args(["--nodes", &nodes.to_string()]);
        }
        let mut process = command
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--etcd-port", &etcd_port.to_string()])
            .args(["--apiserver-port", &apiserver_port.to_string()])
            .arg("--")
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} did not start", script.display()))?;
        let commands = process.stdin.take();
        let output = process.stdout.take().context("no standard output")?;
        let (sender, answers) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines();
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { process, commands, answers })
    }

    /// Gives a command and waits until it is carried out.
    pub(super) fn command(&mut self, command: &str) -> Result<()> {
        let commands = self.commands.as_mut().context("the control plane was dropped")?;
        writeln!(commands, "{command}").with_context(|| format!("{command}: run.sh has ended"))?;
        let answer = self.answer().context(command.to_owned())?;
        ensure!(answer.starts_with("ok "), "{command}: {answer}");
        Ok(())
    }

    /// After a start: waits until `/readyz` of the API server says that it is ready, and the first time until the nodes
    /// are.
    pub(super) fn wait_ready(&mut self) -> Result<()> {
        let answer = self.answer()?;
        ensure!(answer.starts_with("ready "), "{answer}; standard error has the logs");
        Ok(())
    }

    fn answer(&mut self) -> Result<String> {
        match self.answers.recv_timeout(ANSWER) {
            Ok(answer) => Ok(answer),
            Err(error) => bail!("no answer from run.sh ({error}); standard error says more"),
        }
    }
}

impl Drop for Supervisor {
    /// Returns once all programs are gone and the data is removed.
    fn drop(&mut self) {
        drop(self.commands.take());
        let deadline = Instant::now() + ANSWER;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!("run.sh did not end by itself; killing it");
                let _ = self.process.kill();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
