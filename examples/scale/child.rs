//! [`ChildProcess`]: this program with another subcommand, as a process of its own. Its CPU time and memory are not
//! those of this process.

use std::io::Read;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::Context;

/// A running process. Dropping it ends the process: its standard input ends.
pub(crate) struct ChildProcess {
    child: Child,
}

impl ChildProcess {
    /// Starts this program with the arguments and streams of `configure`.
    pub(crate) fn start(configure: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        configure(command.stdin(Stdio::piped()));
        Ok(Self { child: command.spawn().context("starting a process")? })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns standard output, if it is a pipe that was not taken before.
    pub(crate) fn output(&mut self) -> anyhow::Result<ChildStdout> {
        self.child.stdout.take().context("no output")
    }

    /// Returns how the process has ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("a process did not end: {error}");
        }
    }
}

/// Returns when standard input has ended, as it does when the parent process is gone.
pub(crate) fn wait_for_end_of_input() -> std::io::Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new()).map(drop)
}
