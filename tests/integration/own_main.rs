//! Tests `sandbox_manager::main` with a program's own handlers. The function sets up the log and the signals
//! of its process, so these tests run it in a separate process: this test binary, which executes only
//! [`child`].

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use anyhow::Context as _;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::cli;
use sandbox_manager::{Action, Manager, Observed};

use crate::support::{SOON, eventually};

/// Set for the process that should call the function. The value selects the set-up.
const SETUP: &str = "TEST_OWN_MAIN_SETUP";

const ARGUMENTS: [&str; 5] =
    ["program", "dev", "--metrics-bind-address=0", "--health-probe-bind-address=0", "--log-level=error"];

/// Not a test by itself: returns at once without the variable.
#[test]
fn child() {
    let Ok(setup) = std::env::var(SETUP) else { return };
    let handle = |manager: &mut Manager| {
        println!("set-up");
        tokio::spawn(std::future::ready(()));
        manager.sandbox_controller().add_reconcile_handler(|observed: Observed<Sandbox>| async move {
            println!("handled {}", observed.key());
            Ok(Action::await_change())
        });
    };
    let hang = |manager: &mut Manager| {
        manager.sandbox_controller().add_reconcile_handler(|observed: Observed<Sandbox>| async move {
            println!("handled {}", observed.key());
            std::future::pending().await
        });
    };
    let (code, expected) = match &*setup {
        "handler" => (cli::run(ARGUMENTS, handle), 0),
        "hang" => (cli::run(ARGUMENTS, hang), 0),
        "error" => (cli::run(ARGUMENTS, |_| Err("no licence")), 2),
        "not reached" => (cli::run(ARGUMENTS.iter().chain(&["--log-format=xml"]), handle), 2),
        unknown => panic!("{unknown}"),
    };
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(expected)));
}

struct Running(Child);

impl Running {
    fn start(setup: &str) -> Self {
        let folder = std::env::temp_dir();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "own_main::child", "--nocapture"]).env_clear().env(SETUP, setup);
        command.env("TMPDIR", folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    async fn ended(&mut self) -> ExitStatus {
        eventually("the process has ended", SOON, async || self.0.try_wait()?.context("it runs")).await
    }

    /// Returns the output and the errors of the process after it has ended.
    fn output(&mut self) -> (String, String) {
        let (mut printed, mut errors) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (printed, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn y7_a_second_signal_ends_a_shutdown_that_waits_for_a_handler() {
    let mut running = Running::start("hang");
    let output = BufReader::new(running.0.stdout.take().unwrap());
    let read = tokio::task::spawn_blocking(move || {
        let mut lines = output.lines().map_while(Result::ok);
        let handled = lines.any(|line| line.starts_with("handled "));
        (handled, lines)
    });
    let (handled, lines) = tokio::time::timeout(2 * SOON, read).await.expect("in time").unwrap();
    assert!(handled, "no sandbox of the sample is handled");
    let rest = tokio::task::spawn_blocking(move || lines.for_each(drop));
    let pid = running.0.id().to_string();
    let send = |name: &str| Command::new("kill").args(["-s", name, &pid]).status();
    assert!(send("TERM").unwrap().success());
    // Within the first second it counts as one with the first.
    let status = eventually("a second signal ends the process", SOON, async || {
        if let Some(status) = running.0.try_wait()? {
            return Ok(status);
        }
        send("INT")?;
        anyhow::bail!("it runs")
    })
    .await;
    rest.await.unwrap();
    assert_eq!(status.code(), Some(130));
}

#[tokio::test]
async fn a_handler_of_ones_own_is_called_until_sigterm_which_ends_with_code_0() {
    let mut running = Running::start("handler");
    let output = BufReader::new(running.0.stdout.take().unwrap());
    let read = tokio::task::spawn_blocking(move || {
        let mut lines = output.lines().map_while(Result::ok);
        let handled = lines.find(|line| line.starts_with("handled default/code-interpreter"));
        (handled, lines)
    });
    let (handled, lines) = tokio::time::timeout(2 * SOON, read).await.expect("in time").unwrap();
    assert!(handled.is_some(), "no sandbox of the sample is handled");
    // The output is read to the end, so that the process never blocks on a full pipe.
    let rest = tokio::task::spawn_blocking(move || lines.for_each(drop));
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let status = running.ended().await;
    rest.await.unwrap();
    let mut errors = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(status.success(), "{errors}");
}

#[tokio::test]
async fn an_error_of_the_set_up_ends_the_start_with_code_2() {
    let mut running = Running::start("error");
    let status = running.ended().await;
    let (_, errors) = running.output();
    assert!(status.success(), "{errors}");
    assert!(errors.lines().any(|line| line == "error: cannot set up the manager: no licence"), "{errors}");
}

#[tokio::test]
async fn set_up_is_not_called_when_the_configuration_is_refused() {
    let mut running = Running::start("not reached");
    let status = running.ended().await;
    let (printed, errors) = running.output();
    assert!(status.success(), "{errors}");
    assert!(!printed.contains("set-up"), "{printed}");
    assert!(
        errors.contains("error: --log-format: invalid value \"xml\": expected one of json, text\n"),
        "{errors}"
    );
}
