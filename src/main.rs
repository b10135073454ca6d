//! The `sandbox-manager` binary: hands the command line to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox_manager::cli::run(std::env::args_os())
}
